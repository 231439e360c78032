"""SAGAN: pix2pix for low-dose CT with a sharpness loss, computed by a second network."""

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, conv2d, l1_loss, mse_loss, pad

from ganatomy.game import Batch, Corners, MethodConfig, Player, Stage, Stream, Tiling, Turn, adam
from ganatomy.losses.adversarial import least_squares_discriminator, least_squares_generator
from ganatomy.nets.aids import own_statistics
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.unet import ConvUNet, Pix2PixUNet
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoiser


def lbp_sharpness(image: Tensor, threshold: float = 0.016, window: int = 21) -> Tensor:
    """Return the fraction of sharp local binary patterns around every pixel, 0 to 1, in the shape of the input.

    Yi & Eramian, LBP-based segmentation of defocus blur, IEEE TIP 25(4):1626-1638, 2016: rotation-invariant uniform
    patterns of eight neighbours at radius one; in focus, the codes 6 to 9 prevail.

    Args:
        image: (N, 1, H, W) in [0, 1].
        threshold: least difference by which a neighbour counts as brighter.
        window: side of the neighbourhood, pixels, odd.
    """
    bits = torch.stack([(neighbour - image) > threshold for neighbour in _circle(image)])
    changes = (bits != bits.roll(1, dims=0)).sum(dim=0)
    codes = torch.where(changes <= 2, bits.sum(dim=0), 9)
    half = window // 2
    return avg_pool2d(pad((codes >= 6).to(image), (half,) * 4, mode="replicate"), window, stride=1)


def _circle(image: Tensor) -> Iterator[Tensor]:
    """Yield the images of values at eight points on the unit circle around every pixel, in order."""
    padded = pad(image, (1, 1, 1, 1), mode="replicate")
    near, far = 1 - 1 / sqrt(2), 1 / sqrt(2)
    corner = torch.tensor([[near * near, near * far], [near * far, far * far]], dtype=image.dtype, device=image.device)
    height, width = image.shape[-2:]
    for row, column in ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)):
        if row and column:
            weights = torch.zeros(1, 1, 3, 3, dtype=image.dtype, device=image.device)
            quadrant = corner.flip([axis for axis, step in enumerate((row, column)) if step < 0])
            rows, columns = (slice(1, 3) if step > 0 else slice(0, 2) for step in (row, column))
            weights[0, 0, rows, columns] = quadrant
            yield conv2d(padded, weights)
        else:
            yield padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width]


def sharpness_network(width: int) -> ConvUNet:
    """Build a U-Net for logits of sharpness, whose initial output is the few percent of a CT that are sharp."""
    network = ConvUNet(1, 1, width)
    nn.init.normal_(network.head.weight, std=0.01)
    nn.init.constant_(network.head.bias, -3.0)  # type: ignore[arg-type]
    return network


class Residual(Pix2PixUNet):
    """U-Net of pix2pix with a residual connection from input to output."""

    def forward(self, image: Tensor) -> Tensor:
        return image + super().forward(image)


class SAGAN(CTDenoiser):
    """Sharpness-aware low-dose CT denoising with a conditional GAN.

    Yi & Babyn, Sharpness-Aware Low-Dose CT Denoising Using Conditional Generative Adversarial Network,
    J. Digital Imaging 31(5):655-669, 2018. doi:10.1007/s10278-018-0056-0, arXiv 1708.06453.
    """

    stated_augmentation = "parts are cut at the corners and the centre of a slice, and mirrored"
    revision = 2

    class Config(MethodConfig):
        """The released code's geometry and scaling; loss weights and the sharpness network's recipe are our choices."""

        sharpness_rounds: int = 12_000  # updates of the sharpness network, before the game (our choice)
        game_rounds: int = 239_000  # updates of the game, one crop a batch (our choice)
        batch_size: int = 1  # crops
        patch: int = 256  # side of the crops, pixels
        positions: Literal["random", "corners"] = "corners"  # places of crops; corners: four corners and the centre
        learning_rate: float = 2e-4  # Adam, both players of the game, as in pix2pix
        beta1: float = 0.5  # Adam, as in pix2pix
        sharpness_learning_rate: float = 1e-4  # Adam, sharpness network (our choice)
        adversarial_weight: float = 1.0  # weight of the least-squares game; 0 trains the same network without it
        pixel_weight: float = 100.0  # weight of the mean absolute difference, as in pix2pix
        sharpness_weight: float = 2.0  # weight of the root-mean-square difference of sharpness maps (our choice)
        sharpness_threshold: float = Field(0.016, ge=0)  # threshold of the binary patterns, for images in [0, 1]
        sharpness_window: int = Field(21, ge=1)  # side in pixels of the window in which sharp patterns are counted
        sharpness_width: int = 32  # channels of the sharpness network (our choice)
        blur: float = 3.0  # largest SD in pixels of Gaussian blur in the sharpness network's training (our choice)
        noise: float = 0.05  # largest SD of noise in the sharpness network's training, on [0, 1] (our choice)
        levels: int = 8  # stride-2 steps of the U-Net; sizes are multiples of 2**levels
        width: int = 64  # channels of the U-Net's first level
        discriminator_width: int = 64  # channels of the PatchGAN's first layer
        norm: Literal["instance", "batch"] = "instance"  # norm of the U-Net; the released model has batches of one
        discriminator_norm: Literal["instance", "batch", "none"] = (
            "instance"  # norm of the PatchGAN; normalisation hides the noise level
        )
        dropout: float = 0.5  # dropout rate in the U-Net's inner decoder, off at inference
        window: tuple[float, float] = (-160.0, 240.0)  # HU mapped to [-1, 1]: abdomen
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)
        scan: LowDoseScan = LowDoseScan(  # simulation of the low-dose scan; 10 000 photons per unattenuated ray
            dose_fraction=0.1, photons=1e5, electronic_noise=0.0, geometry="fan", views=1200, water=0.017
        )

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "sharpness_rounds": 150,
                "game_rounds": 600,
                "batch_size": 4,
                "patch": 96,
                "positions": "random",
                "learning_rate": 5e-4,
                "sharpness_learning_rate": 1e-3,
                "sharpness_width": 8,
                "levels": 5,
                "width": 16,
                "discriminator_width": 32,
                "discriminator_norm": "none",
                "scan": {"dose_fraction": 0.1, "electronic_noise": 0.0, "views": 360},
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0, "sharpness_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.generator = Residual(1, 1, c.width, c.levels, c.norm, c.dropout, scaled=True)
        init_pix2pix(self.generator, c.width)
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = PatchGAN(2, c.discriminator_width, norm=c.discriminator_norm, scaled=True)
            init_pix2pix(self.discriminator, c.discriminator_width)
        self.sharpness_network = sharpness_network(c.sharpness_width) if c.sharpness_weight else None

    def inference_mode(self) -> Self:
        self.eval()
        own_statistics(self.generator)
        return self

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.levels)

    @property
    def network_range(self) -> tuple[float, float]:
        return (-1.0, 1.0)

    @property
    def adversarial(self) -> bool:
        """Whether the generator is trained with a discriminator."""
        return self.discriminator is not None

    def stages(self) -> Sequence[Stage]:
        c = self.config
        game = adam(c.learning_rate, (c.beta1, 0.999))
        stream = Stream(
            "samples",
            None,
            c.batch_size,
            (1, c.patch, c.patch),
            flips=(1, 2),
            place=Corners() if c.positions == "corners" else None,
        )
        players = [Player("generator", (self.generator,), game, ema_halflife=c.ema_halflife)]
        if self.discriminator:
            players.append(Player("discriminator", (self.discriminator,), game, adversary=True))
        stages = [Stage("denoise", self.turns, players, c.game_rounds, stream)]
        if self.sharpness_network:
            player = Player("sharpness", (self.sharpness_network,), adam(c.sharpness_learning_rate))
            stages.insert(
                0,
                Stage("sharpness", self.sharpness_turns, [player], c.sharpness_rounds, stream, validated=False),
            )
        return stages

    def sharpness(self, image: Tensor) -> Tensor:
        """Return the sharpness network's map, 0 to 1, of images in [-1, 1]."""
        return torch.sigmoid(self._sharpness_logits(image))

    def _sharpness_logits(self, image: Tensor) -> Tensor:
        assert self.sharpness_network is not None
        # The pattern measure is invariant to brightness and relative to the threshold, and so is the network's input.
        detail = image - avg_pool2d(pad(image, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
        return self.sharpness_network(detail / (2 * self.config.sharpness_threshold))  # type: ignore[no-any-return]

    def sharpness_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the sharpness network's turn: regression of the pattern measure of sharp, blurred and noisy crops."""
        sharp = self.inside(next(batches)["target"])
        shown = torch.cat([sharp, self._spoil(sharp)]).clamp(-1, 1)
        wanted = lbp_sharpness((shown + 1) / 2, self.config.sharpness_threshold, self.config.sharpness_window)
        yield Turn("sharpness", error=binary_cross_entropy_with_logits(self._sharpness_logits(shown), wanted))

    def _spoil(self, image: Tensor) -> Tensor:
        """Return a blurred and noisy copy, with amounts drawn for each sample."""
        samples, _, *size = image.shape
        sigma = (self.config.blur * self.noise.uniform(samples, 1)).clamp_min(1e-3)
        reach = max(1, round(3 * self.config.blur))
        offsets = torch.arange(-reach, reach + 1, device=image.device)
        taps = torch.exp(-0.5 * (offsets / sigma).square())
        taps = (taps / taps.sum(dim=1, keepdim=True)).to(image)
        blurred = pad(image.transpose(0, 1), (reach,) * 4, mode="replicate")
        blurred = conv2d(blurred, taps[:, None, None, :], groups=samples)
        blurred = conv2d(blurred, taps[:, None, :, None], groups=samples).transpose(0, 1)
        strength = 2 * self.config.noise * self.noise.uniform(samples, 1, 1, 1)
        return blurred + strength.to(image) * self.noise.normal(samples, 1, *size).to(image)

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        low, target = self.inside(batch["input"]), self.inside(batch["target"])
        fake = self.generate(low)
        if self.discriminator:
            real_scores = self.discriminator(torch.cat([low, target], dim=1))
            fake_scores = self.discriminator(torch.cat([low, fake.detach()], dim=1))
            yield Turn(
                "discriminator",
                adversarial=least_squares_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        losses = {"pixel": c.pixel_weight * l1_loss(fake, target)}
        if self.discriminator:
            scores = self.discriminator(torch.cat([low, fake], dim=1))
            losses["adversarial"] = c.adversarial_weight * least_squares_generator(scores)
        if self.sharpness_network:
            with torch.no_grad():
                wanted = self.sharpness(target)
            losses["sharpness"] = c.sharpness_weight * (mse_loss(self.sharpness(fake), wanted) + 1e-12).sqrt()
        yield Turn("generator", losses)
