"""DAGAN: a U-Net removes aliasing, taught by pixels, spectra, features and a discriminator."""

from collections.abc import Iterator, Mapping, Sequence
from math import pi
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from ganatomy.game import Batch, Player, Progress, Stage, Tiling, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.dcgan import init_dcgan
from ganatomy.nets.dealiasing import DealiasingDiscriminator, DealiasingUNet, init_dealiasing
from ganatomy.nets.features import FeatureSource, VGG19Features
from ganatomy.physics.fourier import fft, ifft, magnitude
from ganatomy.tasks.mr_reconstruction.scan import Scan
from ganatomy.tasks.mr_reconstruction.task import ReconstructionConfig, Reconstructor


class DAGAN(Reconstructor):
    """De-aliasing of the magnitude of a zero-filled scan, with a frequency loss beside the adversary.

    Yang et al., DAGAN: Deep De-Aliasing Generative Adversarial Networks for Fast Compressed Sensing MRI Reconstruction,
    IEEE Trans. Med. Imaging 37(6):1310-1321, 2018. doi:10.1109/TMI.2017.2785879.
    """

    class Config(ReconstructionConfig):
        """The numbers of the released code, whose losses differ from the paper's formulas."""

        game_rounds: int = (
            20_000  # updates of each player; the code stops early, the best weights are kept (our choice)
        )
        batch_size: int = 25  # slices
        learning_rate: float = 1e-4  # Adam, both players
        beta1: float = 0.5  # Adam, both players
        halvings: int = 6  # of the learning rate, evenly spread; the code halves it every 5 epochs
        pixel_weight: float = 15.0  # ‖difference‖/‖true image‖ of a slice, images in [-1, 1]
        frequency_weight: float = 0.1  # squared difference of spectral magnitudes, FFT not normalised, images in [0, 1]
        perceptual_weight: float = 0.0025  # squared difference of features of images from 0 to 255
        perceptual_layer: str = "conv4_4"  # layer of VGG-19; the code takes VGG-16 after its fourth block
        perceptual_size: int | None = 244  # rows and columns of the images whose features are taken; none: their own
        perceptual_range: float = 57.6  # our features times this are as large as those of 0 to 255 (our estimate)
        adversarial_weight: float = 1.0  # of the game; 0 leaves the same network with the other losses
        refine: bool = True  # whether the network's output is a correction of its input
        augment: bool = True  # whether training images are flipped, moved, bent and brightened before they are scanned
        features: FeatureSource = "auto"  # weights of VGG-19; auto falls back to the substitute and says so
        features_file: Path | None = None  # local file with torchvision's VGG-19 weights
        features_width: float = 1.0  # channel multiplier of the substitute features
        levels: int = 8  # stride-2 steps of the U-Net; sizes are multiples of 2**levels
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
            players.insert(0, Player("discriminator", (self.discriminator,), moves, rate))
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
        """True magnitudes, and what a scan of them shows; augmented first, as aliasing depends on the anatomy."""
        true = batch["target"]
        if not self.config.augment:
            return true, batch["input"]
        true = self.augmented(true)
        return true, self.rescanned(torch.polar(true, batch["phase"]), Scan.of(batch["input"]).encoding)

    def augmented(self, image: Tensor) -> Tensor:
        """Mirrored, turned by 10°, shifted by 10 %, zoomed by 10 %, bent, and brightened at most, (N, 1, H, W)."""
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
        """Smooth random displacements (N, 2, H, W), in halves of the image: for 256 pixels, noise from -1 to 1 blurred
        with 25.5 and multiplied by 765 pixels.
        """
        extents = image.shape[2:]
        noise = 2 * self.noise.uniform(len(image), 2, *extents) - 1
        cycles = [torch.arange(extent, device=image.device) - extent // 2 for extent in extents]
        squared = cycles[0][:, None] ** 2 + cycles[1] ** 2
        blurred = ifft(fft(noise) * torch.exp(-2 * (pi * 25.5 / 256) ** 2 * squared)).real
        # White noise of fewer pixels is blurred away less.
        bend: Tensor = 2 * 765 / 256 * (image[0, 0].numel() / 256**2) ** 0.5 * blurred
        return bend

    def restore(self, input: Tensor) -> Tensor:
        seen = 2 * magnitude(input[:, :2]) - 1
        made = self.generator(seen).tanh()
        return ((made + seen).clamp(-1, 1) if self.config.refine else made) / 2 + 0.5  # type: ignore[no-any-return]


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean over images (N, ...) of ‖x̂ - x‖₂ / ‖x‖₂."""
    norms = [torch.linalg.vector_norm(image.flatten(1), dim=1) for image in (output - target, target)]
    error: Tensor = (norms[0] / norms[1]).mean()
    return error


def spectral_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the magnitudes of two spectra that are not normalised, of images (N, 1, H, W)."""
    difference = magnitude(fft(output)) - magnitude(fft(target))
    return output[0, 0].numel() * difference.square().mean()
