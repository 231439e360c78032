"""GANCS: MR reconstruction by a residual network with data consistency and a least-squares discriminator."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss

from ganatomy.game import Batch, Player, Progress, Stage, Turn, adam
from ganatomy.losses.adversarial import least_squares_discriminator, least_squares_generator
from ganatomy.nets.aids import own_statistics
from ganatomy.nets.residual import Residual
from ganatomy.physics.fourier import as_channels, as_complex, magnitude
from ganatomy.physics.sampling import Undersampling
from ganatomy.tasks.mr_reconstruction.scan import Scan
from ganatomy.tasks.mr_reconstruction.task import ReconstructionConfig, Reconstructor

SMALL = 1e-3
"""Factor of the initial variance within residual blocks, which start close to the identity."""


def normalised(channels: int) -> nn.BatchNorm2d:
    """Build a batch normalisation without gain, as the released code has them, with its epsilon."""
    layer = nn.BatchNorm2d(channels, eps=1e-3)
    layer.register_parameter("weight", None)
    return layer


@torch.no_grad()
def init_glorot(layer: nn.Conv2d | nn.ConvTranspose2d, factor: float) -> None:
    """Draw weights of variance factor / (√(inputs · outputs) · kernel area), cut at two SDs; the bias is zero."""
    first, second, *kernel = layer.weight.shape
    spread = (factor / (sqrt(first * second) * torch.Size(kernel).numel())) ** 0.5
    nn.init.trunc_normal_(layer.weight, 0.0, spread, -2 * spread, 2 * spread)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class GANCS(Reconstructor):
    """Reconstruction by a generator whose output is projected onto the images that fit the measured samples.

    Mardani et al., Deep Generative Adversarial Networks for Compressed Sensing Automates MRI, 2017, arXiv 1706.00051;
    IEEE Trans. Med. Imaging 38(1):167-179, 2019. It differs from the authors' release:

    - When the network is applied, every slice is normalised by its own statistics, so that its result does not depend
      on the slices beside it; the release takes the statistics of the batch of slices.
    - The weight of the game begins at zero; that of the release is negative in the first rounds after the warm-up.
    """

    stated_augmentation = None
    revision = 2

    class Config(ReconstructionConfig):
        """The numbers of the released code."""

        warm_up_rounds: int = 2_000  # updates in which the generator has its pixel loss alone
        game_rounds: int = 50_000  # updates of each player after that (our choice)
        batch_size: int = 16  # slices
        learning_rate: float = 1e-5  # Adam, both players
        beta1: float = 0.5  # Adam, both players
        halvings: int = 5  # number of halvings of the learning rate during the game; every 10 000 updates in the code
        adversarial_weight: float = 0.25  # weight of the game; 1 minus it is that of the pixel loss; 0 for that alone
        l1_share: float = 1.0  # fraction of the mean absolute error in the pixel loss; the rest is squared error
        copies: int = 1  # number of repetitions of generator and projection, with the same weights
        stages_of_blocks: int = 4  # stages of the generator
        blocks: int = 2  # residual blocks per stage
        width: int = 128  # channels of the generator
        discriminator_width: int = 8  # channels of the discriminator's first layer
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)
        size: tuple[int, int] = (256, 128)  # rows and columns of image and k-space
        phase: float = 1.0  # SD in rad of a simulated smooth phase, as the paper's images are complex (our choice)
        scan: Undersampling = Undersampling(  # simulated undersampling; five-fold acceleration by lines
            pattern="power", fraction=0.2, decay=2.0
        )
        phantom: str = "abdomen-mr"  # embedded phantom used without --data; the paper's scans show abdomens
        structure: str = "vessels"  # structure of the phantom that a segmenter looks for in reconstructions

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "scan": Undersampling(pattern="power", fraction=0.3),
                "warm_up_rounds": 1_600,
                "game_rounds": 800,
                # At inference norms use the statistics of each sample alone, as with one sample they do in training.
                "batch_size": 1,
                "learning_rate": 2e-3,
                "halvings": 2,
                "adversarial_weight": 0.02,
                "stages_of_blocks": 2,
                "width": 16,
                "ema_halflife": 200.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.generator = ResidualReconstructor(c.width, c.stages_of_blocks, c.blocks)
        self.discriminator = MagnitudeDiscriminator(c.discriminator_width) if c.adversarial_weight else None

    def inference_mode(self) -> Self:
        self.eval()
        own_statistics(self.generator)
        return self

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, (c.beta1, 0.999))

        def rate(progress: Progress) -> float:
            return 0.5 ** int(progress.fraction * (c.halvings + 1))

        def players(schedule: Callable[[Progress], float] | None = None) -> list[Player]:
            generator = Player("generator", (self.generator,), moves, schedule, ema_halflife=c.ema_halflife)
            if not self.discriminator:
                return [generator]
            return [Player("discriminator", (self.discriminator,), moves, schedule, adversary=True), generator]

        stream = self.stream(c.batch_size)
        warm_up = Stage(
            "warm-up", self.warm_up_turns, players(), c.warm_up_rounds, stream, validated=not self.adversarial
        )
        return [warm_up, Stage("game", self.turns, players(rate), c.game_rounds, stream)]

    def warm_up_turns(self, batches: Iterator[Batch]) -> Iterator[Any]:
        """Yield the turns of warm-up: the discriminator is trained, the generator has its pixel loss alone."""
        yield from self._moves(next(batches), 0.0)

    def turns(self, batches: Iterator[Batch]) -> Iterator[Any]:
        # The weight grows slowly; that of the released code would be negative in the first rounds.
        weight = self.config.adversarial_weight * max(0.0, 1 - 4 / sqrt(self.progress.stage_round + 6))
        yield from self._moves(next(batches), weight)

    def _moves(self, batch: Batch, weight: float) -> Iterator[Any]:
        c, true = self.config, batch["target"]
        fake = self.restore(batch["input"])
        pixel = c.l1_share * l1_loss(fake, true) + (1 - c.l1_share) * mse_loss(fake, true)
        losses = {"pixel": (1 - weight) * pixel}
        if not self.discriminator:
            yield Turn("generator", losses)
            return
        real_scores, fake_scores = self.discriminator(true), self.discriminator(fake.detach())
        if weight:
            losses["adversarial"] = weight * least_squares_generator(self.discriminator(fake))
        yield (
            Turn(
                "discriminator",
                adversarial=2 * least_squares_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            ),
            Turn("generator", losses),
        )

    def restore(self, input: Tensor) -> Tensor:
        return magnitude(self.complex_image(input))

    def complex_image(self, input: Tensor) -> Tensor:
        scan = Scan.of(input)
        image = scan.image
        for _ in range(self.config.copies):
            image = scan.keep(as_complex(self.generator(as_channels(image))))
        return image


class ResidualReconstructor(nn.Sequential):
    """Residual network on real and imaginary part, (N, 2, H, W), without pooling.

    Args:
        width: channels of the hidden layers.
        stages: number of stages, each of residual blocks and a convolution.
        blocks: residual blocks per stage.
    """

    def __init__(self, width: int, stages: int, blocks: int):
        begin, end = nn.Conv2d(2, width, 1), nn.Conv2d(width, 2, 1)
        init_glorot(begin, 1.0)
        init_glorot(end, 1.0)
        layers: list[nn.Module] = [begin]
        for _ in range(stages):
            layers += [self._block(width) for _ in range(blocks)]
            transposed = nn.ConvTranspose2d(width, width, 3, padding=1)
            init_glorot(transposed, 1.0)
            layers += [normalised(width), nn.ReLU(), transposed]
        for kernel in (3, 1):
            convolution = nn.Conv2d(width, width, kernel, padding=kernel // 2)
            init_glorot(convolution, 2.0)
            layers += [convolution, nn.ReLU()]
        super().__init__(*layers, end)

    @staticmethod
    def _block(width: int) -> Residual:
        """Build a pre-activation residual block."""
        layers: list[nn.Module] = []
        for _ in range(2):
            convolution = nn.Conv2d(width, width, 3, padding=1)
            init_glorot(convolution, SMALL)
            layers += [normalised(width), nn.ReLU(), convolution]
        return Residual(nn.Sequential(*layers))


class MagnitudeDiscriminator(nn.Module):
    """Discriminator of magnitudes (N, 1, H, W) in [0, 1] whose raw score (N, 1) is the mean of those of patches.

    Args:
        width: channels of the first layer, doubled by each of the next three.
    """

    def __init__(self, width: int):
        super().__init__()
        widths = [width * 2**level for level in range(4)]
        shapes: list[tuple[int, int, Literal[1, 3], Literal[1, 2]]] = [
            (before, after, 3, 2) for before, after in zip([1, *widths], widths, strict=False)
        ]
        shapes += [(widths[-1], widths[-1], 3, 1), (widths[-1], widths[-1], 1, 1)]
        layers: list[nn.Module] = []
        for before, after, kernel, stride in shapes:
            convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2)
            layers += [convolution, normalised(after), nn.ReLU()]
        self.patches = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 1))
        for layer in self.patches:
            if isinstance(layer, nn.Conv2d):
                init_glorot(layer, 2.0)

    def forward(self, image: Tensor) -> Tensor:
        """Score magnitudes (N, 1, H, W), (N, 1)."""
        scores: Tensor = self.patches(2 * image - 1)
        return scores.flatten(1).mean(1, keepdim=True)
