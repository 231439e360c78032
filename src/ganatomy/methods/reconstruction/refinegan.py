"""RefineGAN: MR reconstruction by two chained generators with cyclic losses in image and k-space, and a critic."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, l1_loss

from ganatomy.game import Batch, Player, Progress, Stage, Tiling, Turn, adam
from ganatomy.losses.adversarial import wasserstein_critic, wasserstein_generator
from ganatomy.losses.matching import total_variation
from ganatomy.nets.residual import Residual
from ganatomy.physics.fourier import as_channels, as_complex, fft
from ganatomy.physics.sampling import Undersampling
from ganatomy.tasks.mr_reconstruction.scan import Scan
from ganatomy.tasks.mr_reconstruction.task import AUGMENTED, ReconstructionConfig, Reconstructor, complete


class RefineGAN(Reconstructor):
    """Reconstruction by a chain of generators, each followed by data consistency.

    Quan, Nguyen-Duc & Jeong, Compressed Sensing MRI Reconstruction using a Generative Adversarial Network with a Cyclic
    Loss, IEEE Trans. Med. Imaging 37(6):1488-1497, 2018, doi:10.1109/TMI.2018.2820120. arXiv 1709.00753.

    It differs from the authors' release:

    - The errors are weighed by half the acceleration, as in the port to PyTorch whose figures are public; in the
      release, that factor is a half for every mask (preset code).
    - The total variation is that of rows and columns; in the release it is that of channels and rows.
    """

    stated_augmentation = (
        "turned by multiples of 90°, mirrored, and up to 11 pixels cut off before images get their size again"
    )
    revision = 2

    class Config(ReconstructionConfig):
        """The numbers of the released code, whose loss is the Wasserstein instead of the logarithmic one."""

        game_rounds: int = 50_000  # updates of each player; 500 epochs of 100
        batch_size: int = 1  # slices per batch, two of which are drawn in every round
        learning_rates: tuple[float, ...] = (1e-4, 3e-4, 2e-5, 1e-5, 2e-6, 1e-6)  # Adam, interpolated over training
        beta1: float = 0.5  # Adam, both players
        epsilon: float = 1e-3  # Adam, both players
        clip: float = Field(0.01, gt=0)  # largest absolute weight of the critic
        image_weight: float = 10.0  # weight, times rate, of the absolute error after data consistency
        direct_weight: float = 1000.0  # weight, times rate, of the absolute error before data consistency
        kspace_weight: float = 1.0  # weight, times rate², of the error of measured samples before data consistency
        rate: float | None = None  # factor of these weights; None: half the acceleration (the port); 0.5 in the code
        smoothness_weight: float = 1e-4  # weight of the total variation, summed over the pixels
        shrinkage: float = Field(1e-5, ge=0)  # weight of the sum of the absolute weights, both players
        adversarial_weight: float = 1.0  # weight of the game, summed over eight pairs; 0 trains without it
        augmented: bool = Field(True, validation_alias=AUGMENTED)  # rotate, flip and enlarge images before the scan
        enlarge: int = Field(11, ge=0)  # largest number of pixels cropped before an augmented image is resized
        width: int = 64  # channels of the generators' first level
        levels: int = 4  # stride-2 steps of the generators; sizes are multiples of 2**levels
        chain: int = 2  # number of generators in the chain
        critic_width: int = 64  # channels of the critic's first layers
        ema_halflife: float | None = None  # images; average of the generators used at inference (our option)
        scan: Undersampling = Undersampling(pattern="radial")  # simulated undersampling; spokes, 30 %

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "code": {"rate": 0.5},
            "small": {
                "size": (64, 64),
                "game_rounds": 250,
                "batch_size": 2,
                "learning_rates": (1e-3, 1e-3, 1e-4),
                "enlarge": 3,
                "width": 12,
                "levels": 3,
                "critic_width": 8,
                "ema_halflife": 100.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.generators = nn.ModuleList(RefineGenerator(c.width, c.levels) for _ in range(c.chain))
        self.critic = RefineCritic(c.critic_width) if c.adversarial_weight else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.trunc_normal_(module.weight, 0.0, 0.02, -0.04, 0.04)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.levels)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rates[0], (c.beta1, 0.999), c.epsilon)
        ends = np.linspace(0, 1, len(c.learning_rates))

        def rate(progress: Progress) -> float:
            return float(np.interp(progress.fraction, ends, c.learning_rates)) / c.learning_rates[0]

        players = [Player("generators", (self.generators,), moves, rate, ema_halflife=c.ema_halflife)]
        if self.critic:
            players.insert(0, Player("critic", (self.critic,), moves, rate, adversary=True))
        return [Stage("game", self.turns, players, c.game_rounds, self.stream(c.batch_size))]

    @property
    def pairs(self) -> int:
        """Number of pairs of a real and a generated image: two real ones, and two of every generator in the chain."""
        return 4 * self.config.chain

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        # Every sample, and what is made of it, passes through the networks alone and has its own batch statistics.
        samples = [self.scanned(next(batches)) for _ in range(2)]
        chains = [self.refined(input) for _, input in samples]
        true, input = (torch.cat(parts) for parts in zip(*samples, strict=True))
        direct, kept = (
            [torch.cat(images) for images in zip(*parts, strict=True)] for parts in zip(*chains, strict=True)
        )
        fakes = [image for _, made in chains for image in made]
        if self.critic:
            real_scores = torch.cat([self.critic(_seen(image)) for image, _ in samples])
            fake_scores = torch.cat([self.critic(_seen(image.detach())) for image in fakes])
            yield Turn(
                "critic",
                adversarial=self.pairs * wasserstein_critic(real_scores, fake_scores),
                shrinkage=c.shrinkage * _absolute(self.critic),
                scores={"real": real_scores, "fake": fake_scores},
            )
            _clip(self.critic, c.clip)
        losses = self.cycles(direct, kept, true, input)
        if self.critic:
            fake = torch.cat([self.critic(_seen(image)) for image in fakes])
            losses["adversarial"] = self.pairs * c.adversarial_weight * wasserstein_generator(fake)
        yield Turn("generators", losses)

    def cycles(
        self, direct: Sequence[Tensor], kept: Sequence[Tensor], true: Tensor, input: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses of image and k-space, summed over the chain and the two samples.

        Args:
            direct: output of every generator, complex (2N, 1, H, W).
            kept: outputs after data consistency.
            true: image of the complete scan, of the same shape.
            input: scans, as `Scan.packed`.
        """
        c, scan = self.config, Scan.of(input)
        measured, pixels = fft(scan.image), true[0].numel()
        rate = c.rate if c.rate is not None else 0.5 / float(scan.mask.float().mean())

        def distance(ours: Sequence[Tensor], theirs: Tensor) -> Tensor:
            return 2 * torch.stack([l1_loss(_seen(one), _seen(theirs)) for one in ours]).sum()

        variation = torch.stack([total_variation(_seen(one)) for one in kept]).sum()
        spectra = [fft(scan.encoding.normal(one)) for one in direct]
        return {
            "image": c.image_weight * rate * distance(kept, true),
            "direct": c.direct_weight * rate * distance(direct, true),
            "k-space": c.kspace_weight * rate**2 * pixels**0.5 * distance(spectra, measured),
            "smoothness": c.smoothness_weight * 4 * pixels * variation,
            "shrinkage": c.shrinkage * _absolute(self.generators),
        }

    def refined(self, input: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the output of every generator in the chain before and after data consistency, complex (N, 1, H, W)."""
        scan = Scan.of(input)
        direct, kept = [], [scan.image]
        for generator in self.generators:
            direct.append(kept[-1] + as_complex(generator(_seen(kept[-1]))) / 2)
            kept.append(scan.keep(direct[-1]))
        return direct, kept[1:]

    def scanned(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return true complex images and their scans; images are augmented before, as aliasing depends on anatomy."""
        true = complete(batch)
        if not self.config.augmented:
            return true, batch["input"]
        draws = self.noise.uniform(len(true), 6)
        true = torch.stack([self.augmented(image, draw) for image, draw in zip(true, draws, strict=True)])
        return true, self.rescanned(true, Scan.of(batch["input"]).encoding)

    def augmented(self, image: Tensor, draw: Tensor) -> Tensor:
        """Augment one complex image (1, H, W): rotate by 90° steps if it is square, flip and enlarge slightly."""
        rows, columns = image.shape[1:]
        turns = int(4 * draw[0]) if rows == columns else 0
        image = torch.rot90(image, turns, (1, 2))
        image = image.flip([axis for axis in (1, 2) if draw[axis] < 0.5])
        less = int(draw[3] * (self.config.enlarge + 1))
        top, left = (int(part * (less + 1)) for part in draw[4:])
        part = image[None, :, top : rows - less + top, left : columns - less + left]
        return as_complex(interpolate(as_channels(part), (rows, columns), mode="bilinear"))[0]

    def restore(self, input: Tensor) -> Tensor:
        return self.complex_image(input).abs()

    def complex_image(self, input: Tensor) -> Tensor:
        return self.refined(input)[1][-1]


def _seen(image: Tensor) -> Tensor:
    """Convert complex (N, 1, H, W) to the networks' input (N, 2, H, W), values from 0 to 1 to the range [-1, 1]."""
    return 2 * as_channels(image) - 1


def _absolute(network: nn.Module) -> Tensor:
    """Return the sum of the absolute weights of all convolutions."""
    kernels = [p for p in network.parameters() if p.dim() > 1]
    return torch.stack([kernel.abs().sum() for kernel in kernels]).sum()


@torch.no_grad()
def _clip(network: nn.Module, limit: float) -> None:
    for parameter in network.parameters():
        parameter.clamp_(-limit, limit)


def _convolution(before: int, after: int, stride: int = 1, up: bool = False) -> list[nn.Module]:
    """Build a 3x3 convolution with norm and leaky ReLU; with ``up`` it is transposed and enlarges by the stride."""
    layer = (
        nn.ConvTranspose2d(before, after, 3, stride, 1, stride - 1, bias=False)
        if up
        else nn.Conv2d(before, after, 3, stride, 1, bias=False)
    )
    return [layer, nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]


def _residual(width: int) -> Residual:
    half = width // 2
    last = nn.Conv2d(half, width, 3, padding=1, bias=False)
    return Residual(nn.Sequential(*_convolution(width, width), *_convolution(width, half), last))


def _encoder(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(before, after, 2), _residual(after), *_convolution(after, after))


def _decoder(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(before, after, up=True), _residual(after), *_convolution(after, after, 2, up=True)
    )


class RefineGenerator(nn.Module):
    """Residual encoder-decoder with additive skips; (N, 2, H, W) to the same shape in [-1, 1].

    Args:
        width: channels of the first level, doubled by each of the next.
        levels: stride-2 steps.
    """

    def __init__(self, width: int = 64, levels: int = 4):
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(
            _encoder(before, after) for before, after in zip([2, *widths[:-1]], widths, strict=True)
        )
        narrower = [width, *widths[:-1]]
        self.up = nn.ModuleList(
            _decoder(before, after) for before, after in zip(reversed(widths), reversed(narrower), strict=True)
        )
        self.head = nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, 2, H, W) to the same shape."""
        skips: list[Tensor] = []
        for down in self.down:
            image = down(image)
            skips.append(image)
        skips.pop()
        for up in self.up:
            image = up(image)
            if skips:
                image = image + skips.pop()
        return self.head(image).tanh()  # type: ignore[no-any-return]


class RefineCritic(nn.Sequential):
    """Critic of a convolution and four encoder blocks; (N, 2, H, W) to a map of raw scores, a 32nd of its size.

    Args:
        width: channels of the first two layers, doubled by each of the next.
    """

    def __init__(self, width: int = 64):
        widths = [width, *(width * 2**level for level in range(4))]
        blocks = [_encoder(before, after) for before, after in pairwise(widths)]
        super().__init__(
            nn.Conv2d(2, width, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            *blocks,
            nn.ZeroPad2d((1, 2, 1, 2)),
            nn.Conv2d(widths[-1], 1, 4),
        )
