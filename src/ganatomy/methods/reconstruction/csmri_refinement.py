"""Perceptual refinement: MR reconstruction by a cascade, refined by a U-Net with adversarial and perceptual losses."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss, mse_loss, pad

from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import ImagePool
from ganatomy.nets.dcgan import init_dcgan
from ganatomy.nets.features import FeatureSource, VGG19Features
from ganatomy.nets.unet import UNet
from ganatomy.physics.coils import Encoding
from ganatomy.physics.fourier import as_channels, as_complex, magnitude
from ganatomy.physics.sampling import Undersampling
from ganatomy.tasks.mr_reconstruction.scan import Scan
from ganatomy.tasks.mr_reconstruction.task import ReconstructionConfig, Reconstructor, complete


class CSMRIRefinement(Reconstructor):
    """Data-consistent reconstruction for squared error, and a gated correction for perceptual and adversarial losses.

    Seitzer et al., Adversarial and Perceptual Refinement for Compressed Sensing MRI Reconstruction, MICCAI 2018.
    arXiv 1806.11216. The correction is not made consistent with the measurement again. The discriminator's activations
    are compared before its dropout; in the authors' release dropout works in place, so that some of them are compared
    with zeros.
    """

    stated_augmentation = "none in the released configuration"

    class Config(ReconstructionConfig):
        """The numbers of the released code."""

        reconstruction_rounds: int = 93_600  # updates of the cascade; 1500 epochs of 1248 slices
        refinement_rounds: int = 49_920  # updates of each player of the game after that; 200 epochs
        batch_size: int = 20  # slices, for the cascade
        refinement_batch_size: int = 5  # slices, for the game
        learning_rate: float = 2e-4  # Adam, all players
        beta1: float = 0.5  # Adam, players of the game
        blocks: int = 3  # blocks of the cascade, each followed by data consistency
        block_width: int = 32  # channels of a block
        widths: tuple[int, ...] = (32, 64, 128)  # channels of the U-Net's levels
        discriminator_widths: tuple[int, ...] = (
            64,
            128,
            256,
            512,
            1024,
        )  # channels of the discriminator's stride-2 layers
        dropped: int = Field(3, ge=0)  # number of last hidden layers of the discriminator with dropout of feature maps
        dropout: float = 0.5  # dropout rate of these feature maps
        pool: int = 80  # generated images in the discriminator's history buffer; 0 for none
        real_target: float = 0.9  # target probability of real images
        adversarial_weight: float = 0.5  # weight of the game; 0 trains the cascade alone
        matching_weight: float = 1.0  # weight of the difference of discriminator activations; 0.5 in the paper
        perceptual_weight: float = 10.0  # weight of the squared difference of features
        penalty_weight: float = 2.0  # weight of the mean absolute correction before the gate
        perceptual_layer: str = "conv5_4"  # layer of VGG-19 for the perceptual loss, after its ReLU
        features: FeatureSource = "auto"  # weights of VGG-19; auto falls back to the substitute and says so
        features_file: Path | None = None  # local file with torchvision's VGG-19 weights
        features_width: float = 1.0  # channel multiplier of the substitute features
        ema_halflife: float | None = None  # images; average of the last network used at inference (our option)
        size: tuple[int, int] = (512, 512)  # rows and columns of image and k-space
        scan: Undersampling = Undersampling(  # eight-fold acceleration, with new masks in every training batch
            pattern="varden", fraction=1 / 8, centre=8, redrawn=True
        )

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "scan": Undersampling(pattern="varden", fraction=0.25, centre=8, redrawn=True),
                "reconstruction_rounds": 600,
                "refinement_rounds": 300,
                "batch_size": 8,
                "refinement_batch_size": 4,
                "learning_rate": 2e-3,
                "widths": (12, 24, 32),
                "discriminator_widths": (8, 16, 32),
                "dropped": 1,
                "penalty_weight": 0.01,
                "perceptual_layer": "conv3_2",
                "features": "substitute",
                "features_width": 0.25,
                "ema_halflife": 200.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.recnet = RecNet(c.blocks, c.block_width)
        self.refiner = self.discriminator = self.features = None
        if c.adversarial_weight:
            self.refiner = Refiner(c.widths)
            self.discriminator = FeatureDiscriminator(c.discriminator_widths, c.dropped, c.dropout)
            self.features = VGG19Features(c.perceptual_layer, c.features, c.features_file, width=c.features_width)
            self.pool = ImagePool((1, *c.size), c.pool)

    def provenance(self) -> dict[str, str]:
        return {"features": self.features.name} if self.features else {}

    def stages(self) -> Sequence[Stage]:
        c = self.config
        average = None if self.adversarial else c.ema_halflife
        reconstruction = Stage(
            "reconstruction",
            self.reconstruction_turns,
            [Player("recnet", (self.recnet,), adam(c.learning_rate), ema_halflife=average)],
            c.reconstruction_rounds,
            self.stream(c.batch_size),
            validated=not self.adversarial,
        )
        if not (self.refiner and self.discriminator):
            return [reconstruction]
        moves = adam(c.learning_rate, (c.beta1, 0.999))
        players = [
            Player("discriminator", (self.discriminator,), moves, adversary=True),
            Player("refiner", (self.refiner,), moves, ema_halflife=c.ema_halflife),
        ]
        stream = self.stream(c.refinement_batch_size)
        return [reconstruction, Stage("refinement", self.refinement_turns, players, c.refinement_rounds, stream)]

    def reconstruction_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the cascade's turn: squared error of real and imaginary part."""
        batch = next(batches)
        image = self.recnet(self.scanned(batch))
        yield Turn("recnet", error=mse_loss(as_channels(image), as_channels(complete(batch))))

    def refinement_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turns of discriminator and refiner; the cascade is fixed, magnitudes are scored."""
        assert self.refiner and self.discriminator
        c = self.config
        batch = next(batches)
        true = batch["target"]
        with torch.no_grad():
            image = self.recnet(self.scanned(batch))
        refined, correction = self.refiner(image)
        fake = magnitude(refined)
        shown = self.pool(fake, self.noise.uniform(len(fake), 2))
        real_scores, fake_scores = self.discriminator(true)[-1], self.discriminator(shown)[-1]
        yield Turn(
            "discriminator",
            adversarial=nonsaturating_discriminator(real_scores, fake_scores, c.real_target),
            scores={"real": real_scores, "fake": fake_scores},
        )
        yield Turn("refiner", self.appearance(fake, true), penalty=c.penalty_weight * correction.abs().mean())

    def appearance(self, fake: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Return the adversarial, feature-matching and perceptual losses of refined magnitudes (N, 1, H, W)."""
        assert self.discriminator and self.features
        c = self.config
        with torch.no_grad():
            wanted = self.discriminator(true)
        found = self.discriminator(fake)
        distances = [l1_loss(ours, theirs) for ours, theirs in zip(found, wanted, strict=True)]
        return {
            "adversarial": c.adversarial_weight * nonsaturating_generator(found[-1]),
            "matching": c.matching_weight * torch.stack(distances).mean(),
            "perceptual": c.perceptual_weight * self.features.distance(fake, true),
        }

    def scanned(self, batch: Batch) -> Tensor:
        """Return the scans of a batch, undersampled with new masks where masks are redrawn."""
        c = self.config
        input: Tensor = batch["input"]
        if not c.scan.redrawn:
            return input
        draws = (self.noise.uniform(len(input), 1) * 2**24).long().tolist()
        masks = torch.stack([c.scan.mask(c.size, *draw) for draw in draws])[:, None]
        coils = Scan.of(input).encoding.sensitivities
        return self.rescanned(complete(batch), Encoding(masks.to(input.device), coils))

    def restore(self, input: Tensor) -> Tensor:
        return magnitude(self._image(input)).clamp(0, 1)

    def complex_image(self, input: Tensor) -> Tensor:
        image = self._image(input)
        return image / image.abs().clamp_min(1)

    def _image(self, input: Tensor) -> Tensor:
        image: Tensor = self.recnet(input)
        if self.refiner:
            image, _ = self.refiner(image)
        return image


class RecNet(nn.Module):
    """Reconstruction cascade: blocks of three convolutions, each followed by data consistency.

    Args:
        blocks: number of blocks, each with weights of its own.
        width: channels of the hidden convolutions.
    """

    def __init__(self, blocks: int = 3, width: int = 32):
        super().__init__()
        self.blocks = nn.ModuleList(self._block(width) for _ in range(blocks))

    @staticmethod
    def _block(width: int) -> nn.Sequential:
        first, *others = (nn.Conv2d(before, after, 3, padding=1) for before, after in pairwise((2, width, width, 2)))
        nn.init.xavier_normal_(first.weight)
        for convolution in others:
            nn.init.kaiming_normal_(convolution.weight)
        for convolution in (first, *others):
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        return nn.Sequential(first, nn.LeakyReLU(), others[0], nn.LeakyReLU(), others[1])

    def forward(self, input: Tensor) -> Tensor:
        """Map scans, as `Scan.packed`, to complex data-consistent images (N, 1, H, W)."""
        scan = Scan.of(input)
        image = scan.image
        for block in self.blocks:
            image = scan.keep(as_complex(block(as_channels(image))))
        return image


class Refiner(nn.Module):
    """U-Net whose correction is added to the real part, scaled by a learned gate that starts at zero.

    Args:
        widths: channels of the U-Net's levels.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128)):
        super().__init__()
        self.unet = UNet(2, 1, widths, widths[-2::-1], kernel=4, slope=0.1, padding="reflect", convolved=True)
        for module in self.unet.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight, nn.init.calculate_gain("relu"))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.gate, self.step = nn.Parameter(torch.zeros(())), 2 ** (len(widths) - 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return refined complex images (N, 1, H, W), and the real corrections before the gate, of the same shape.

        The correction is in units in which the real part of the image ranges from -1 to 1.
        """
        rows, columns = image.shape[2:]
        # Padding to a multiple is safe here, because data consistency has been applied before.
        whole = pad(as_channels(image), (0, -columns % self.step, 0, -rows % self.step), mode="reflect")
        correction = self.unet(whole)[..., :rows, :columns]
        axes = (1, 2, 3)
        unit: Tensor = (image.real.amax(axes, keepdim=True) - image.real.amin(axes, keepdim=True)) / 2
        return torch.complex(image.real + unit * self.gate * correction, image.imag), correction


class FeatureDiscriminator(nn.Module):
    """Patch discriminator that returns the activations of all its layers.

    Args:
        widths: channels of the stride-2 layers; a layer without a stride follows, as wide as the last of them.
        dropped: number of last hidden layers whose feature maps have dropout.
        dropout: dropout rate of these feature maps.
    """

    def __init__(
        self, widths: Sequence[int] = (64, 128, 256, 512, 1024), dropped: int = 3, dropout: float = 0.5
    ) -> None:
        super().__init__()
        first_dropped = len(widths) + 1 - dropped
        self.hidden = nn.ModuleList()
        for index, (before, after) in enumerate(pairwise([1, *widths, widths[-1]])):
            layers: list[nn.Module] = [nn.Dropout2d(dropout)] if index > first_dropped else []
            stride, padding = (2, 1) if index < len(widths) else (1, "same")
            layers.append(nn.Conv2d(before, after, 4, stride, padding, bias=not index, padding_mode="reflect"))
            layers += [nn.BatchNorm2d(after)] if index else []
            self.hidden.append(nn.Sequential(*layers, nn.LeakyReLU(0.2)))
        self.head = nn.Sequential(*([nn.Dropout2d(dropout)] if dropped else []), nn.Conv2d(widths[-1], 1, 4))
        init_dcgan(self, 0.02 * (64 / widths[0]) ** 0.5)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the maps of every hidden layer and, last, the map of raw scores, of magnitudes (N, 1, H, W)."""
        maps: list[Tensor] = []
        for layer in self.hidden:
            image = layer(image)
            maps.append(image)
        return [*maps, self.head(image)]
