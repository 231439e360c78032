"""U-Nets used by several methods."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ganatomy.nets.aids import Norm, normalisation
from ganatomy.nets.layers import CONVOLUTION, LINEAR, MAX_POOL, TRANSPOSED


class Pix2PixUNet(nn.Module):
    """U-Net-256 of pix2pix: strided convolutions down to one pixel, skips at every level, no output activation.

    Isola et al., arXiv 1611.07004. Input and output (N, C, ...); every extent is a multiple of 2**levels.

    Args:
        inputs: input channels.
        outputs: output channels.
        width: channels of the first level; grows to eight times that.
        levels: stride-2 steps; 8 for 256 pixels.
        norm: ``batch`` or ``instance``; only the last convolution has a bias.
        biased: whether it has one.
        late: whether the dropouts are one level further out, and the skip comes first where it is joined.
        scaled: whether instance norms have a learnable gain and bias, as batch norms have.
        dropout: dropout rate in the three innermost of the full-width decoder levels.
        dims: spatial axes, 1 to 3.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 64,
        levels: int = 8,
        norm: Norm = "batch",
        dropout: float = 0.5,
        dims: int = 2,
        scaled: bool = False,
        biased: bool = True,
        late: bool = False,
    ):
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(levels)]
        innermost, self.late = levels - 1, late
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(widths):
            plain = level in (0, innermost)
            activation = [] if level == 0 else [nn.LeakyReLU(0.2)]
            before = inputs if level == 0 else widths[level - 1]
            convolution = CONVOLUTION[dims](before, channels, 4, 2, 1, bias=False)
            self.down.append(
                nn.Sequential(
                    *activation, convolution, *([] if plain else [normalisation(norm, channels, dims, scaled)])
                )
            )
        for level in reversed(range(levels)):
            before = widths[level] * (1 if level == innermost else 2)
            after = outputs if level == 0 else widths[level - 1]
            layers: list[nn.Module] = [nn.ReLU(), TRANSPOSED[dims](before, after, 4, 2, 1, bias=biased and level == 0)]
            if level > 0:
                layers.append(normalisation(norm, after, dims, scaled))
                inner = level + late
                if innermost - 3 < inner <= innermost and widths[level - 1] == widths[-1] and dropout:
                    layers.append(nn.Dropout(dropout))
            self.up.append(nn.Sequential(*layers))

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, ...) to (N, outputs, ...) of the same extents."""
        skips = []
        for down in self.down:
            image = down(image)
            skips.append(image)
        image = self.up[0](skips.pop())
        for up in list(self.up)[1:]:
            joined = [image, skips.pop()]
            image = up(torch.cat(joined[::-1] if self.late else joined, dim=1))
        return image


class UNet(nn.Module):
    """U-Net with two convolutions per level, max pooling, skips by concatenation and linear output.

    After Ronneberger et al., arXiv 1505.04597, with padding. (N, inputs, ...) to (N, outputs, ...); every extent is a
    multiple of ``2**(len(encoder) - 1)``.

    Args:
        inputs: input channels.
        outputs: output channels.
        encoder: channels of every encoder level; the last one is the bottleneck.
        decoder: channels of every decoder level, one entry less than the encoder.
        kernel: side of the convolutions; an even one is padded by one more at the end of every axis.
        norm: normalisation after every convolution.
        biased: whether convolutions have a bias before a normalisation, too; those without one always have.
        slope: slope of the leaky ReLUs below zero; 0 makes them ReLUs.
        padding: padding mode of the convolutions.
        upsampling: interpolation between decoder levels; ``linear`` keeps the corners where they are.
        convolved: whether a convolution follows each upsampling, before the skip is concatenated.
        halving: whether the first convolution of a decoder level leaves half of the channels that are concatenated,
            instead of the level's.
        dims: spatial axes, 1 to 3.

    Raises:
        ValueError: The decoder does not have one level less than the encoder.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        encoder: Sequence[int],
        decoder: Sequence[int],
        *,
        kernel: int = 3,
        norm: Norm = "batch",
        biased: bool = False,
        slope: float = 0.2,
        padding: Literal["zeros", "reflect"] = "zeros",
        upsampling: Literal["nearest", "linear"] = "nearest",
        convolved: bool = False,
        halving: bool = False,
        dims: int = 2,
    ):
        super().__init__()
        if len(decoder) != len(encoder) - 1:
            raise ValueError(f"{len(encoder)} levels down need {len(encoder) - 1} up, not {len(decoder)}")

        def convolutions(*widths: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for before, after in pairwise(widths):
                bias = biased or norm == "none"
                layers.append(CONVOLUTION[dims](before, after, kernel, 1, "same", bias=bias, padding_mode=padding))
                layers += [normalisation(norm, after, dims)] if norm != "none" else []
                layers.append(nn.LeakyReLU(slope))
            return nn.Sequential(*layers)

        self.down = nn.ModuleList(convolutions(before, after, after) for before, after in pairwise([inputs, *encoder]))
        self.up, self.enlarged = nn.ModuleList(), nn.ModuleList()
        for (before, after), skip in zip(pairwise([encoder[-1], *decoder]), reversed(encoder[:-1]), strict=True):
            joining = after if convolved else before
            self.enlarged.append(convolutions(before, joining) if convolved else nn.Identity())
            joined = joining + skip
            self.up.append(convolutions(joined, joined // 2 if halving else after, after))
        self.head = CONVOLUTION[dims]((*encoder, *decoder)[-1], outputs, 1)
        self.pool = MAX_POOL[dims](2)
        linear = upsampling == "linear"
        self.larger = nn.Upsample(None, 2.0, LINEAR[dims] if linear else "nearest", align_corners=linear or None)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, ...) to (N, outputs, ...) of the same extents."""
        skips: list[Tensor] = []
        for down in self.down:
            image = down(self.pool(image) if skips else image)
            skips.append(image)
        skips.pop()
        for enlarged, up in zip(self.enlarged, self.up, strict=True):
            image = enlarged(self.larger(image))
            image = up(torch.cat([image, skips.pop()], dim=1))
        return self.head(image)  # type: ignore[no-any-return]


class ConvUNet(UNet):
    """Plain U-Net without normalisation: kernels of side 3, ReLUs, and a width that doubles with every level.

    Args:
        inputs: input channels.
        outputs: output channels.
        width: channels of the first level.
        levels: number of levels; image extents must be multiples of ``2**(levels - 1)``.
        dims: spatial axes, 1 to 3.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 32, levels: int = 4, dims: int = 2):
        widths = [width * 2**level for level in range(levels)]
        super().__init__(inputs, outputs, widths, widths[-2::-1], norm="none", slope=0.0, dims=dims)
