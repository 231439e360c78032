"""DAGAN: MR de-aliasing by a U-Net with pixel, frequency, perceptual and adversarial losses."""

from collections.abc import Iterator, Mapping, Sequence
from math import pi
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from ganatomy.game import Batch, Player, Progress, Stage, Tiling, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.dcgan import init_dcgan
from ganatomy.nets.dealiasing import DealiasingDiscriminator, DealiasingUNet, init_dealiasing
from ganatomy.nets.features import FeatureSource, VGG19Features
from ganatomy.physics.fourier import fft, ifft, magnitude
from ganatomy.tasks.mr_reconstruction.scan import Scan
from ganatomy.tasks.mr_reconstruction.task import AUGMENTED, ReconstructionConfig, Reconstructor


class DAGAN(Reconstructor):
    """De-aliasing of zero-filled magnitude images, with a frequency loss beside the adversarial one.

    Yang et al., DAGAN: Deep De-Aliasing Generative Adversarial Networks for Fast Compressed Sensing MRI Reconstruction,
    IEEE Trans. Med. Imaging 37(6):1310-1321, 2018. doi:10.1109/TMI.2017.2785879.
    """

    stated_augmentation = (
        "mirrored, turned by up to 10°, shifted and enlarged by up to 10 %, deformed, and brightened by up to 5 %"
    )

    class Config(ReconstructionConfig):
        """The numbers of the released code, whose losses differ from the paper's formulas."""

        game_rounds: int = (
            20_000  # updates of each player; the code stops early, the best weights are kept (our choice)
        )
        batch_size: int = 25  # slices
        learning_rate: float = 1e-4  # Adam, both players
        beta1: float = 0.5  # Adam, both players
        halvings: int = 6  # number of halvings of the learning rate, evenly spread; every 5 epochs in the code
        pixel_weight: float = 15.0  # weight of ‖difference‖/‖true image‖ of a slice, images in [-1, 1]
        frequency_weight: float = 0.1  # weight of the squared difference of spectral magnitudes, unnormalised FFT
        perceptual_weight: float = 0.0025  # weight of the squared difference of features of images from 0 to 255
        perceptual_layer: str = "conv4_4"  # layer of VGG-19; the code takes VGG-16 after its fourth block
        perceptual_size: int | None = Field(244, ge=32, le=4096)  # side of images for VGG; None: not resized
        perceptual_range: float = Field(57.6, gt=0)  # factor of features to those of 0 to 255 (our estimate)
        adversarial_weight: float = 1.0  # weight of the game; 0 trains the same network with the other losses
        refine: bool = True  # whether the network's output is added to its input
        augmented: bool = Field(True, validation_alias=AUGMENTED)  # move, bend and brighten images before the scan
        features: FeatureSource = "auto"  # weights of VGG-19; auto falls back to the substitute and says so
        features_file: Path | None = None  # local file with torchvision's VGG-19 weights
        features_width: float = 1.0  # channel multiplier of the substitute features
        levels: int = Field(8, ge=1)  # stride-2 steps of the U-Net; sizes are multiples of 2**levels
        width: int = 64  # channels of the U-Net's first level
        discriminator_width: int = 64  # channels of the discriminator's first layer
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "game_rounds": 500,
                "batch_size": 8,
                "learning_rate": 1e-3,
                "halvings": 2,
                "perceptual_layer": "conv2_2",
                "perceptual_size": None,
                "features": "substitute",
                "features_width": 0.25,
                "levels": 5,
                "width": 16,
                "discriminator_width": 8,
                "ema_halflife": 200.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config
    phased = False

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.generator = DealiasingUNet(c.width, c.levels)
        init_dealiasing(self.generator, c.width)
        self.discriminator = self.features = None
        if c.adversarial_weight:
            self.discriminator = DealiasingDiscriminator(c.size, c.discriminator_width)
            init_dcgan(self.discriminator, 0.02 * (64 / c.discriminator_width) ** 0.5)
        if c.perceptual_weight:
            self.features = VGG19Features(c.perceptual_layer, c.features, c.features_file, width=c.features_width)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.levels)

    def provenance(self) -> dict[str, str]:
        return {"features": self.features.name} if self.features else {}

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, (c.beta1, 0.999))

        def rate(progress: Progress) -> float:
            return 0.5 ** int(progress.fraction * (c.halvings + 1))

        players = [Player("generator", (self.generator,), moves, rate, ema_halflife=c.ema_halflife)]
        if self.discriminator:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, rate, adversary=True))
        return [Stage("game", self.turns, players, c.game_rounds, self.stream(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        true, input = self.scanned(next(batches))
        fake = self.restore(input)
        if self.discriminator:
            real_scores, fake_scores = self.discriminator(2 * true - 1), self.discriminator(2 * fake.detach() - 1)
            yield Turn(
                "discriminator",
                adversarial=nonsaturating_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        losses = {"pixel": c.pixel_weight * relative_error(2 * fake - 1, 2 * true - 1)}
        if c.frequency_weight:
            losses["frequency"] = c.frequency_weight * spectral_error(fake, true)
        if self.features:
            size = c.perceptual_size and (c.perceptual_size, c.perceptual_size)
            seen = [interpolate(image, size, mode="bilinear") if size else image for image in (fake, true)]
            losses["perceptual"] = c.perceptual_weight * c.perceptual_range**2 * self.features.distance(*seen)
        if self.discriminator:
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(self.discriminator(2 * fake - 1))
        yield Turn("generator", losses)

    def scanned(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return true magnitudes and their scans; images are augmented before, as aliasing depends on the anatomy."""
        true = batch["target"]
        if not self.config.augmented:
            return true, batch["input"]
        true = self.augmented(true)
        return true, self.rescanned(torch.polar(true, batch["phase"]), Scan.of(batch["input"]).encoding)

    def augmented(self, image: Tensor) -> Tensor:
        """Augment images (N, 1, H, W): mirror, rotate to 10°, shift and zoom to 10 %, deform, change brightness."""
        draws = self.noise.uniform(len(image), 6)
        turn, down, across, zoom, gamma = (2 * draws[:, :5] - 1).T
        mirror = torch.where(draws[:, 5] < 0.5, -1.0, 1.0)
        angle, scale = turn * pi / 18, 1 + 0.1 * zoom
        cosine, sine = angle.cos() * scale, angle.sin() * scale
        rows = [
            torch.stack(row, 1) for row in ((mirror * cosine, -sine, 0.2 * across), (mirror * sine, cosine, 0.2 * down))
        ]
        grid = affine_grid(torch.stack(rows, 1), list(image.shape), align_corners=False)
        bent = grid + self._bend(image).movedim(1, -1)
        moved: Tensor = grid_sample(image, bent, align_corners=False).clamp_min(0)
        brightened: Tensor = moved.pow(1 + 0.05 * gamma.view(-1, 1, 1, 1))
        return brightened

    def _bend(self, image: Tensor) -> Tensor:
        """Draw smooth random displacements (N, 2, H, W) in units of half the image.

        For 256 pixels they are uniform noise from -1 to 1, blurred with an SD of 25.5 and multiplied by 765 pixels.
        """
        extents = image.shape[2:]
        noise = 2 * self.noise.uniform(len(image), 2, *extents) - 1
        cycles = [torch.arange(extent, device=image.device) - extent // 2 for extent in extents]
        squared = cycles[0][:, None] ** 2 + cycles[1] ** 2
        blurred = ifft(fft(noise) * torch.exp(-2 * (pi * 25.5 / 256) ** 2 * squared)).real
        # The blur averages over fewer pixels in smaller images, which the factor compensates for.
        bend: Tensor = 2 * 765 / 256 * (image[0, 0].numel() / 256**2) ** 0.5 * blurred
        return bend

    def restore(self, input: Tensor) -> Tensor:
        seen = 2 * magnitude(input[:, :2]) - 1
        made = self.generator(seen).tanh()
        return ((made + seen).clamp(-1, 1) if self.config.refine else made) / 2 + 0.5  # type: ignore[no-any-return]


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean over images (N, ...) of ‖x̂ - x‖₂ / ‖x‖₂."""
    norms = [torch.linalg.vector_norm(image.flatten(1), dim=1) for image in (output - target, target)]
    error: Tensor = (norms[0] / norms[1]).mean()
    return error


def spectral_error(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of magnitudes of unnormalised spectra of images (N, 1, H, W)."""
    difference = magnitude(fft(output)) - magnitude(fft(target))
    return output[0, 0].numel() * difference.square().mean()
