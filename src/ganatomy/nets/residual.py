"""Residual generators, critics and autoencoders."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ganatomy.nets.aids import Activation, Norm, activation_layer, base_size, centre_crop, normalisation
from ganatomy.nets.layers import AVERAGE_POOL, CONVOLUTION, TRANSPOSED, ChannelShuffle


class Residual(nn.Module):
    """Residual connection: x + branch(x), or shortcut(x) + branch(x)."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut or nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, C, ...) to the shape of the branch's output."""
        return self.shortcut(image) + self.branch(image)  # type: ignore[no-any-return]


class ResNetGenerator(nn.Sequential):
    """Residual generator of CycleGAN. Zhu et al., arXiv 1703.10593.

    (N, inputs, ...) to (N, outputs, ...) of the same extents, which are multiples of 2**strided and 8 at least.

    Args:
        inputs: input channels.
        outputs: output channels.
        width: channels at full size.
        blocks: residual blocks; 9, or 6 for images of 128 pixels.
        strided: halvings before the blocks, doublings behind them.
        norm: normalisation of the hidden layers.
        dropout: dropout rate inside the residual blocks.
        output: activation of the image.
        dims: spatial axes, 1 to 3.
        biased: whether convolutions have a bias before a normalisation, too; the last one always has.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 64,
        blocks: int = 9,
        strided: int = 2,
        norm: Norm = "instance",
        dropout: float = 0.0,
        output: Activation = "tanh",
        dims: int = 2,
        biased: bool = True,
    ):
        convolution, transposed = CONVOLUTION[dims], TRANSPOSED[dims]
        widths = [width * 2**level for level in range(strided + 1)]

        def hidden(channels: int) -> list[nn.Module]:
            return [normalisation(norm, channels, dims), nn.ReLU()]

        def block(channels: int) -> nn.Module:
            return Residual(
                nn.Sequential(
                    convolution(channels, channels, 3, padding=1, padding_mode="reflect", bias=biased),
                    *hidden(channels),
                    nn.Dropout(dropout),
                    convolution(channels, channels, 3, padding=1, padding_mode="reflect", bias=biased),
                    normalisation(norm, channels, dims),
                )
            )

        layers = [convolution(inputs, width, 7, padding=3, padding_mode="reflect", bias=biased), *hidden(width)]
        for before, after in pairwise(widths):
            layers += [convolution(before, after, 3, 2, 1, bias=biased), *hidden(after)]
        layers += [block(widths[-1]) for _ in range(blocks)]
        for before, after in pairwise(reversed(widths)):
            layers += [transposed(before, after, 3, 2, 1, 1, bias=biased), *hidden(after)]
        last = convolution(width, outputs, 7, padding=3, padding_mode="reflect")
        super().__init__(*layers, last, activation_layer(output))


class SRResNet(nn.Module):
    """Super-resolution generator of SRGAN. Ledig et al., arXiv 1609.04802.

    (N, inputs, ...) to (N, outputs, ...) of ``factor`` times the extents, linear output. Every PReLU has one slope;
    convolutions have a bias where no normalisation follows.

    Args:
        inputs: input channels.
        outputs: output channels.
        width: channels of the blocks.
        blocks: residual blocks.
        factor: enlargement, a power of two.
        norm: normalisation inside the blocks.
        dims: spatial axes, 1 to 3.

    Raises:
        ValueError: The factor is no power of two.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 64,
        blocks: int = 16,
        factor: int = 4,
        norm: Norm = "batch",
        dims: int = 2,
    ):
        super().__init__()
        if factor < 1 or factor & (factor - 1):
            raise ValueError(f"enlargement {factor} is no power of two")
        convolution, bias = CONVOLUTION[dims], norm == "none"

        def hidden() -> list[nn.Module]:
            return [convolution(width, width, 3, padding=1, bias=bias), normalisation(norm, width, dims)]

        self.begin = nn.Sequential(convolution(inputs, width, 9, padding=4), nn.PReLU())
        body = [Residual(nn.Sequential(*hidden(), nn.PReLU(), *hidden())) for _ in range(blocks)]
        self.body = Residual(nn.Sequential(*body, *hidden()))
        doublings: list[nn.Module] = []
        for _ in range(factor.bit_length() - 1):
            doublings += [convolution(width, 2**dims * width, 3, padding=1), ChannelShuffle((2,) * dims), nn.PReLU()]
        self.enlarge = nn.Sequential(*doublings)
        self.end = convolution(width, outputs, 9, padding=4)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, ...) to (N, outputs, ...) of ``factor`` times the extents."""
        return self.end(self.enlarge(self.body(self.begin(image))))  # type: ignore[no-any-return]


class SRDiscriminator(nn.Sequential):
    """Discriminator of SRGAN: eight 3x3 convolutions, every other strided, and two dense layers; raw logits.

    Ledig et al., arXiv 1609.04802. (N, inputs, *size) to (N, 1).

    Args:
        inputs: image channels.
        size: extents of the image along its axes, one to three.
        width: channels of the first layer; grows to eight times that.
        dense: units of the dense layer.
        norm: normalisation after all convolutions but the first.
        slope: slope of the leaky ReLUs below zero.
    """

    def __init__(
        self,
        inputs: int,
        size: Sequence[int],
        width: int = 64,
        dense: int = 1024,
        norm: Norm = "batch",
        slope: float = 0.2,
    ):
        dims = len(size)
        convolution = CONVOLUTION[dims]
        layers: list[nn.Module] = [convolution(inputs, width, 3, padding=1), nn.LeakyReLU(slope)]
        before = width
        for index in range(1, 8):
            after = width * 2 ** (index // 2)
            layers += [
                convolution(before, after, 3, 1 + index % 2, 1, bias=norm == "none"),
                normalisation(norm, after, dims),
                nn.LeakyReLU(slope),
            ]
            before = after
        positions = torch.Size(base_size(size, 4)).numel()
        super().__init__(
            *layers, nn.Flatten(), nn.Linear(before * positions, dense), nn.LeakyReLU(slope), nn.Linear(dense, 1)
        )


def preactivation_block(
    before: int, after: int, resample: Literal["up", "down"], norm: Norm, dims: int = 2
) -> Residual:
    """Build a pre-activation residual block that halves or doubles the size. Gulrajani et al., arXiv 1704.00028.

    The branch is norm, ReLU and convolution, twice. ``up`` enlarges by nearest neighbour before the first convolution
    and before the shortcut's 1x1 convolution; ``down`` averages two pixels along every axis behind the second
    convolution and before that of the shortcut.
    """
    up, convolution = resample == "up", CONVOLUTION[dims]
    enlarge, shrink = nn.Upsample(scale_factor=2), AVERAGE_POOL[dims](2)
    between = after if up else before
    first = convolution(before, between, 3, padding=1, bias=False)
    second = convolution(between, after, 3, padding=1)
    for layer in (first, second):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    branch = [
        *[normalisation(norm, before, dims), nn.ReLU(), *([enlarge] if up else []), first],
        *[normalisation(norm, between, dims), nn.ReLU(), second, *([] if up else [shrink])],
    ]
    return Residual(nn.Sequential(*branch), nn.Sequential(enlarge if up else shrink, convolution(before, after, 1)))


class PreactivationGenerator(nn.Module):
    """Residual generator of WGAN-GP at 64 pixels. Gulrajani et al., arXiv 1704.00028.

    The dense layer makes maps of the smallest size that doubles up to ``size`` or beyond; the excess is cropped off.

    Args:
        latent: size of the latent vector.
        outputs: image channels.
        size: extents of the image along its axes, one to three.
        channels: channels of the dense layer and behind every doubling.
        norm: normalisation inside the blocks.
        output: activation of the image.
    """

    def __init__(
        self,
        latent: int = 128,
        outputs: int = 3,
        size: Sequence[int] = (64, 64),
        channels: Sequence[int] = (512, 512, 256, 128, 64),
        norm: Norm = "batch",
        output: Activation = "tanh",
    ):
        super().__init__()
        dims = len(size)
        self.size = tuple(size)
        self.base = (channels[0], *base_size(size, len(channels) - 1))
        self.project = nn.Linear(latent, torch.Size(self.base).numel())
        self.layers = nn.Sequential(
            *[preactivation_block(before, after, "up", norm, dims) for before, after in pairwise(channels)],
            normalisation(norm, channels[-1], dims),
            nn.ReLU(),
            CONVOLUTION[dims](channels[-1], outputs, 3, padding=1),
            activation_layer(output),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Generate images (N, outputs, *size) from latent vectors (N, latent)."""
        return centre_crop(self.layers(self.project(latent).unflatten(1, self.base)), self.size)


class PreactivationCritic(nn.Sequential):
    """Residual critic of WGAN-GP at 64 pixels, with layer norm. Gulrajani et al., arXiv 1704.00028.

    (N, inputs, *size) to (N, outputs).

    Args:
        inputs: image channels.
        size: extents of the image along its axes, one to three.
        channels: channels of the first convolution and behind every halving.
        norm: normalisation inside the blocks.
        outputs: number of outputs per image; those beyond the score may be class logits.
    """

    def __init__(
        self,
        inputs: int = 3,
        size: Sequence[int] = (64, 64),
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        norm: Norm = "layer",
        outputs: int = 1,
    ):
        dims, halvings = len(size), len(channels) - 1
        positions = torch.Size([length // 2**halvings for length in size]).numel()
        super().__init__(
            CONVOLUTION[dims](inputs, channels[0], 3, padding=1),
            *[preactivation_block(before, after, "down", norm, dims) for before, after in pairwise(channels)],
            nn.Flatten(),
            nn.Linear(channels[-1] * positions, outputs),
        )


def down_block(width: int, norm: Norm, dims: int = 2) -> Residual:
    """Build a residual block from ``width`` channels to twice as many at half the size, both paths normalised.

    Chen & Konukoglu, arXiv 1806.04972.
    """

    def layer(before: int, after: int, stride: int) -> list[nn.Module]:
        convolution = CONVOLUTION[dims](before, after, 3, stride, 1, bias=norm == "none")
        return [convolution, normalisation(norm, after, dims), nn.LeakyReLU(0.2)]

    return Residual(
        nn.Sequential(*layer(width, width, 2), *layer(width, 2 * width, 1)),
        nn.Sequential(*layer(width, 2 * width, 2)),
    )


def up_block(width: int, norm: Norm, dims: int = 2) -> Residual:
    """Build a residual block from ``width`` channels to half as many at twice the size, both paths normalised.

    Chen & Konukoglu, arXiv 1806.04972.
    """

    def layer(after: int, stride: int) -> list[nn.Module]:
        convolution = TRANSPOSED[dims](width, after, 3, stride, 1, stride - 1, bias=norm == "none")
        return [convolution, normalisation(norm, after, dims), nn.LeakyReLU(0.2)]

    return Residual(
        nn.Sequential(*layer(width, 2), *layer(width // 2, 1)),
        nn.Sequential(*layer(width // 2, 2)),
    )


class ResidualEncoder(nn.Sequential):
    """Residual encoder of the constrained adversarial autoencoder. Chen & Konukoglu, arXiv 1806.04972.

    (N, inputs, *size) to (N, latent), linear.

    Args:
        inputs: image channels.
        size: extents of the image along its axes, one to three.
        latent: size of the code.
        width: channels at full size; doubles with every block.
        blocks: halvings.
        norm: normalisation of all convolutions.
    """

    def __init__(
        self,
        inputs: int,
        size: Sequence[int],
        latent: int = 128,
        width: int = 16,
        blocks: int = 4,
        norm: Norm = "batch",
    ):
        dims, positions = len(size), torch.Size(base_size(size, blocks)).numel()
        super().__init__(
            CONVOLUTION[dims](inputs, width, 3, padding=1, bias=norm == "none"),
            normalisation(norm, width, dims),
            nn.LeakyReLU(0.2),
            *[down_block(width * 2**level, norm, dims) for level in range(blocks)],
            nn.Flatten(),
            nn.Linear(width * 2**blocks * positions, latent),
        )


class ResidualDecoder(nn.Module):
    """Residual decoder from code to image, linear; mirrors `ResidualEncoder`. Chen & Konukoglu, arXiv 1806.04972.

    Args:
        latent: size of the code.
        outputs: image channels.
        size: extents of the image along its axes, one to three; pixels beyond are cropped off.
        width: channels into the last block; those of the dense layer are 2**blocks times as many.
        blocks: doublings.
        norm: normalisation of the blocks.
    """

    def __init__(
        self,
        latent: int,
        outputs: int,
        size: Sequence[int],
        width: int = 16,
        blocks: int = 4,
        norm: Norm = "batch",
    ):
        super().__init__()
        dims, widest = len(size), width * 2**blocks
        self.size = tuple(size)
        self.base = (widest, *base_size(size, blocks))
        self.project = nn.Linear(latent, torch.Size(self.base).numel())
        self.layers = nn.Sequential(
            nn.LeakyReLU(0.2),
            CONVOLUTION[dims](widest, widest // 2, 3, padding=1),
            nn.LeakyReLU(0.2),
            *[up_block(width * 2**level, norm, dims) for level in reversed(range(blocks))],
            CONVOLUTION[dims](width // 2, outputs, 3, padding=1),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Decode (N, latent) to images (N, outputs, *size)."""
        return centre_crop(self.layers(self.project(latent).unflatten(1, self.base)), self.size)
