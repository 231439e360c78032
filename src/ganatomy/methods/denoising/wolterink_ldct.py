"""Wolterink et al.: low-dose CT denoising by a 3D network that predicts the noise, and a discriminator of slices."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ganatomy.game import Batch, MethodConfig, Player, Stage, Stream, Tiling, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.layers import BATCH_NORM, CONVOLUTION
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoiser

Variant = Literal["g-voxel", "g-voxel-adv", "g-adv"]


class Generator(nn.Module):
    """Generator of seven 3x3x3 convolutions without padding, whose output, a noise image, is subtracted from the input.

    (N, 1, D, H, W) to (N, 1, D - 14, H - 14, W - 14).
    """

    def __init__(self, widths: Sequence[int] = (32, 32, 32, 64, 64, 64), slope: float = 0.01):
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for index, after in enumerate(widths):
            layers.append(nn.Conv3d(before, after, 3, bias=index == 0))
            layers += [nn.BatchNorm3d(after)] if index else []
            layers.append(nn.LeakyReLU(slope))
            before = after
        last = nn.Conv3d(before, 1, 3)
        # The initial noise is zero, because without a voxel loss training diverges unless it starts at the identity.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.noise = nn.Sequential(*layers, last)
        self.margin = len(widths) + 1

    def forward(self, image: Tensor) -> Tensor:
        """Denoise the centre of a low-dose image, (N, 1, D, H, W) without a margin of 7 voxels per side."""
        m = self.margin
        noise: Tensor = self.noise(image)
        return image[..., m:-m, m:-m, m:-m] - noise


class Discriminator(nn.Module):
    """Discriminator of three groups of three convolutions, the third of each strided; one logit per slice or block.

    ``dims=2`` scores every axial slice of (N, 1, D, H, W) alone; ``dims=3`` scores the block, without striding along
    the thick slices.
    """

    def __init__(self, patch: int, widths: Sequence[int] = (32, 64, 128), dims: int = 2, slope: float = 0.01):
        super().__init__()
        convolution: Any = CONVOLUTION[dims]
        stride = (1, 2, 2)[-dims:]
        layers: list[nn.Module] = []
        before, side = 1, patch
        for width in widths:
            for index in range(3):
                layers += [
                    convolution(before, width, 3, stride if index == 2 else 1, 1, bias=False),
                    BATCH_NORM[dims](width),
                    nn.LeakyReLU(slope),
                ]
                before = width
            side = -(-side // 2)
        if dims == 3:
            layers.append(nn.AdaptiveAvgPool3d((1, side, side)))
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side * side, 1))
        self.dims = dims

    def forward(self, image: Tensor) -> Tensor:
        """Score (N, 1, D, H, W) by logits, one per slice (2D) or sample (3D)."""
        return self.layers(image.transpose(1, 2).flatten(0, 1) if self.dims == 2 else image)  # type: ignore[no-any-return]


class WolterinkLDCT(CTDenoiser):
    """Noise reduction in low-dose cardiac CT, with a voxel loss, an adversarial loss, or both.

    Wolterink, Leiner, Viergever, Isgum, Generative Adversarial Networks for Noise Reduction in Low-Dose CT,
    IEEE TMI 36(12):2536-2545, 2017. doi:10.1109/TMI.2017.2708987.
    """

    dims = 3

    stated_augmentation = None

    class Config(MethodConfig):
        """The paper's dose and losses; widths, weights and optimiser are our choices where it does not state them."""

        variant: Variant = "g-voxel-adv"  # losses: voxel alone, both, or adversarial alone
        game_rounds: int = 50_000  # generator updates (our choice)
        batch_size: int = 16  # sub-volumes (our choice)
        patch: int = 27  # side of the target, voxels (our choice)
        patch_slices: int = 1  # slices of the target (our choice)
        learning_rate: float = 1e-4  # Adam (our choice)
        beta1: float = 0.5  # Adam; 0.9 without a discriminator (our choice)
        voxel_weight: float = 1.0  # weight of the squared error
        adversarial_weight: float = 1e-3  # weight of the adversarial loss beside the voxel loss (our choice)
        widths: tuple[int, ...] = (
            32,
            32,
            32,
            64,
            64,
            64,
        )  # channels of the generator's hidden layers (our choice)
        discriminator_widths: tuple[int, ...] = (32, 64, 128)  # channels of the discriminator's groups (our choice)
        discriminator_dims: Literal[2, 3] = 2  # whether axial slices (2) or blocks (3) are scored (our choice)
        window: tuple[float, float] = (
            -1000.0,
            2000.0,
        )  # HU mapped to [-1, 2]; 1000 HU are one unit (our choice)
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)
        scan: LowDoseScan = LowDoseScan(dose_fraction=0.2)  # simulation of the low-dose scan; 10 of 50 mAs

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "game_rounds": 400,
                "batch_size": 8,
                "patch": 24,
                "patch_slices": 2,
                "learning_rate": 1e-3,
                "widths": (8, 8, 8, 16, 16, 16),
                "discriminator_widths": (8, 16, 32),
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"variant": "g-voxel"}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        self.generator = Generator(config.widths)
        self.discriminator = (
            Discriminator(config.patch, config.discriminator_widths, config.discriminator_dims)
            if "adv" in config.variant
            else None
        )

    @property
    def tiling(self) -> Tiling:
        return Tiling(margin=(self.generator.margin,) * 3)

    @property
    def network_range(self) -> tuple[float, float]:
        return (-1.0, 2.0)

    @property
    def adversarial(self) -> bool:
        """Whether the generator is trained with a discriminator."""
        return self.discriminator is not None

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, (c.beta1 if self.discriminator else 0.9, 0.999))
        players = [Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife)]
        if self.discriminator:
            players.append(Player("discriminator", (self.discriminator,), moves, adversary=True))
        stream = Stream(
            "samples", None, c.batch_size, (c.patch_slices, c.patch, c.patch), self.tiling.margin, flips=(1, 2)
        )
        return [Stage("denoise", self.turns, players, c.game_rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch = next(batches)
        target, fake = self.inside(batch["target"]), self.generate(batch["input"])
        if self.discriminator:
            real_scores, fake_scores = self.scores(target, fake.detach())
            yield Turn(
                "discriminator",
                adversarial=nonsaturating_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        losses = {}
        if "voxel" in self.config.variant:
            losses["voxel"] = self.config.voxel_weight * nn.functional.mse_loss(fake, target)
        if self.discriminator:
            weight = self.config.adversarial_weight if losses else 1.0
            losses["adversarial"] = weight * nonsaturating_generator(self.scores(target, fake)[1])
        yield Turn("generator", losses)

    def scores(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Score routine-dose and generated sub-volumes in one batch and return the logits of each.

        In batches of their own, batch norm would scale noise of any level alike.
        """
        real_scores, fake_scores = self.discriminator(torch.cat([real, fake])).chunk(2)  # type: ignore[misc]
        return real_scores, fake_scores
