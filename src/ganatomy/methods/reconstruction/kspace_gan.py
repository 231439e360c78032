"""k-space GAN: a U-Net predicts missing k-space samples, and a discriminator scores the image."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss, smooth_l1_loss, softplus

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Progress, Stage, Tiling, Turn, adam, over_processes
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import centre_crop
from ganatomy.nets.dcgan import init_dcgan
from ganatomy.nets.unet import UNet
from ganatomy.physics.fourier import TINY, as_channels, as_complex, fft, ifft, magnitude
from ganatomy.physics.sampling import Undersampling
from ganatomy.tasks.mr_reconstruction.scan import Scan
from ganatomy.tasks.mr_reconstruction.task import ReconstructionConfig, Reconstructor, complete


class KSpaceGAN(Reconstructor):
    """Completion of undersampled k-space, in which the measured samples are kept.

    Shitrit & Riklin-Raviv, Accelerated Magnetic Resonance Imaging by Adversarial Neural Network, DLMIA 2017, LNCS
    10553:30-38. Networks, losses and the order of updates are those released with its sequel (Shaul et al., Medical
    Image Analysis, 2020, doi:10.1016/j.media.2020.101747), whose second network, which works on the image, is the
    preset w-net. It differs from that release:

    - Every slice is completed alone; the release adds both neighbours, measured with other masks.
    - The network is given k-space divided by a percentile, and its first prediction is zero; in the release it is given
      raw k-space, whose size depends on the image's, and predicts from the first weights.
    - The rate is halved at fixed rounds, so that a run is a function of its options; the release lowers it on plateaus.
    - Missing samples are zero when the network is applied, so that results repeat; in the release they stay noise.
    """

    stated_augmentation = None
    revision = 2

    class Config(ReconstructionConfig):
        """The numbers of the sequel's release, which need not be the paper's."""

        game_rounds: int = 50_000  # updates of the generators; 50 epochs in the release (our choice)
        batch_size: int = 32  # slices
        learning_rate: float = 1e-3  # Adam, generators
        discriminator_learning_rate: float = 2e-3  # Adam, discriminator
        beta1: float = 0.5  # Adam, both players
        halvings: int = 4  # number of halvings of the generators' rate; the release lowers it on plateaus (our choice)
        squared_weight: float = 1000.0  # weight of the mean squared error of the magnitude
        smooth_weight: float = 1000.0  # weight of the smooth L1 loss of the magnitude
        kspace_weight: float = 5.0  # weight of the squared error of k-space, a sum over the batch
        adversarial_weight: float = 0.1  # weight of the game; 0 trains with the other losses alone
        patience: float = Field(1.5, gt=0)  # the discriminator pauses where the generators' loss is this times its own
        uncertainty: float = Field(0.01, ge=0)  # half width of uniform noise in place of missing samples in training
        percentile_of_kspace: float = Field(
            99.0, gt=0, le=100
        )  # percentile of k-space scaled to 1 for the network (our choice)
        encoder: tuple[int, ...] = (32, 64, 128, 256, 256)  # channels of the U-Nets' encoder levels
        decoder: tuple[int, ...] = (128, 64, 32, 32)  # channels of the U-Nets' decoder levels
        image_network: bool = False  # whether a second U-Net corrects the image, as in the release
        discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of the discriminator's levels
        seen: tuple[int, int] = (128, 128)  # rows and columns of the centre that the discriminator scores
        ema_halflife: float | None = None  # images; average of the generators used at inference (our option)
        scan: Undersampling = Undersampling(fraction=0.52)  # simulated undersampling; Gaussian lines, 52 %

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "w-net": {"image_network": True},
            "small": {
                "size": (64, 64),
                "game_rounds": 600,
                "batch_size": 8,
                "halvings": 2,
                "encoder": (16, 32, 48, 64),
                "decoder": (48, 32, 16),
                "discriminator_widths": (8, 16, 32, 64),
                "seen": (32, 32),
                "ema_halflife": 200.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if len(c.decoder) != len(c.encoder) - 1:
            raise UserError(f"--encoder and --decoder: {len(c.encoder)} levels down need {len(c.encoder) - 1} up")
        if len(c.discriminator_widths) < 2:
            raise UserError("--discriminator-widths: give two numbers or more")
        self.completer = self._unet(2)
        # The initial prediction is zero, so that training starts from the zero-filled image.
        nn.init.zeros_(self.completer.head.weight)
        nn.init.zeros_(self.completer.head.bias)  # type: ignore[arg-type]
        self.corrector = self._unet(1) if c.image_network else None
        self.discriminator = CentreDiscriminator(c.discriminator_widths, c.seen) if c.adversarial_weight else None

    def _unet(self, channels: int) -> UNet:
        c = self.config
        return UNet(channels, channels, c.encoder, c.decoder, upsampling="linear", halving=True, biased=True)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=int(2 ** (len(self.config.encoder) - 1)))

    def stages(self) -> Sequence[Stage]:
        c = self.config
        betas = (c.beta1, 0.999)

        def rate(progress: Progress) -> float:
            return 0.5 ** int(progress.fraction * (c.halvings + 1))

        networks: tuple[nn.Module, ...] = (self.completer, *([self.corrector] if self.corrector else []))
        players = [Player("generator", networks, adam(c.learning_rate, betas), rate, ema_halflife=c.ema_halflife)]
        if self.discriminator:
            players.insert(
                0,
                Player(
                    "discriminator", (self.discriminator,), adam(c.discriminator_learning_rate, betas), adversary=True
                ),
            )
        return [Stage("game", self.turns, players, c.game_rounds, self.stream(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[tuple[Turn, ...]]:
        c = self.config
        batch = next(batches)
        true, input = batch["target"], batch["input"]
        drawn = as_complex(2 * self.noise.uniform(len(input), 2, *input.shape[2:]) - 1)
        image = self.completed(input, c.uncertainty * drawn)
        fake = self.visible(image)
        losses = {
            "squared": c.squared_weight * mse_loss(fake, true),
            "smooth": c.smooth_weight * smooth_l1_loss(fake, true),
            "k-space": c.kspace_weight * self.incompleteness(image, batch),
        }
        move = []
        if self.discriminator:
            real_scores, fake_scores = self.discriminator(true), self.discriminator(fake)
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(fake_scores)
            if self.discriminator_moves(real_scores, fake_scores):
                adversarial = 0.5 * nonsaturating_discriminator(real_scores, fake_scores)
                scores = {"real": real_scores, "fake": fake_scores}
                move.append(Turn("discriminator", adversarial=adversarial, scores=scores))
        yield (*move, Turn("generator", losses))

    def discriminator_moves(self, real: Tensor, fake: Tensor) -> bool:
        """Return whether the discriminator is updated, given its scores; it pauses if the generators are far behind."""
        deceiving, recognising = over_processes(torch.stack([softplus(-fake).mean(), softplus(-real).mean()]).detach())
        return bool(deceiving < self.config.patience * recognising)

    def incompleteness(self, image: Tensor, batch: Batch) -> Tensor:
        """Return the squared error of k-space over the number of missing samples and the largest sample of the batch.

        K-space is that of a Fourier transform that sums over pixels, and the error is a sum over the images of a batch.

        Args:
            image: completed complex images (N, 1, H, W), in [0, 1].
            batch: batch from which they were completed.
        """
        missing = (~Scan.of(batch["input"]).mask).sum((1, 2, 3)).clamp_min(1)
        true = fft(complete(batch))
        error = torch.view_as_real(fft(image) - true).square().sum((1, 2, 3, 4))
        # Not the sum over these images, since several processes share a batch.
        summed = self.config.batch_size * (error / missing).mean()
        scaled: Tensor = image[0].numel() ** 0.5 * summed / true.abs().max()
        return scaled

    def unit(self, scan: Scan) -> Tensor:
        """Return the scale of k-space for the network, (N, 1, 1, 1): a percentile of the measured magnitudes."""
        measured = torch.where(scan.mask, fft(scan.image).abs(), torch.nan).flatten(1)
        level: Tensor = measured.nanquantile(self.config.percentile_of_kspace / 100, dim=1)
        return level.clamp_min(TINY).view(-1, 1, 1, 1)

    def completed(self, input: Tensor, noise: Tensor | float = 0.0) -> Tensor:
        """Complete the missing samples of k-space and return complex images (N, 1, H, W).

        With several coils, the k-space of the combined image is completed.

        Args:
            input: scans, as `Scan.packed`.
            noise: complex (N, 1, H, W), scaled, in place of samples that were not measured.
        """
        scan = Scan.of(input)
        unit = self.unit(scan)
        kspace = fft(scan.image) / unit + ~scan.mask * noise
        missing = as_complex(self.completer(as_channels(kspace)))
        return scan.keep(scan.image + ifft(unit * missing))

    def visible(self, image: Tensor) -> Tensor:
        """Return the magnitude (N, 1, H, W) of a completed image, corrected by the image network if there is one."""
        seen = magnitude(image)
        return (self.corrector(seen) + seen).tanh().clamp(0, 1) if self.corrector else seen

    def restore(self, input: Tensor) -> Tensor:
        # Without noise, so that a scan always gives the same image.
        return self.visible(self.completed(input))

    def complex_image(self, input: Tensor) -> Tensor:
        image = self.completed(input)
        return torch.polar(self.visible(image), image.angle()) if self.corrector else image


class CentreDiscriminator(nn.Module):
    """Patch discriminator of the image's centre.

    Args:
        widths: channels of the levels; all but the last have two convolutions, the second of which halves the size.
        seen: rows and columns of the centre that is scored.
    """

    def __init__(self, widths: Sequence[int], seen: tuple[int, int]):
        super().__init__()
        self.seen = seen
        first, *_, last = widths
        layers: list[nn.Module] = []
        for before, after in pairwise([1, *widths[:-1]]):
            for inputs, stride in ((before, 1), (after, 2)):
                layers += self._convolution(inputs, after, stride, normed=after != first)
        layers += self._convolution(widths[-2], last, 1, normed=True)
        self.patches = nn.Sequential(*layers, nn.Conv2d(last, 1, 3, padding=1))
        init_dcgan(self, 0.02 * (64 / first) ** 0.5)

    @staticmethod
    def _convolution(before: int, after: int, stride: int, normed: bool) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(after)] if normed else []
        return [nn.Conv2d(before, after, 3, stride, 1, bias=not normed), *norm, nn.LeakyReLU(0.2)]

    def forward(self, image: Tensor) -> Tensor:
        """Return a map of raw scores of magnitudes (N, 1, H, W), an eighth of the centre's size."""
        return self.patches(centre_crop(image, self.seen))  # type: ignore[no-any-return]
