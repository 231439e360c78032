"""U-Net of strided convolutions, as the published systems that paint fundus photographs over maps of vessels use it.

Costa et al., arXiv 1701.08974 and IEEE TMI 37(3), 2018; Guibas et al., arXiv 1709.01872.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ganatomy.nets.aids import OwnBatchNorm2d
from ganatomy.nets.layers import init_glorot

Statistics = Literal["image", "batch", "running"]
"""Statistics by which a `keras_norm` normalises."""
KERAS_EPS = 1e-3
"""Number that Keras adds to a variance."""
SLOPE = 0.2
"""Slope of the leaky ReLUs below zero."""


class ImageNorm(nn.InstanceNorm2d):
    """Normalisation by the statistics of each image, with gain and bias, in training and at inference.

    It equals batch normalisation of a batch of one. Of a single value per channel only the bias is left, for which
    torch raises an error.

    Args:
        channels: number of channels.
        eps: number added to the variance.
    """

    def __init__(self, channels: int, eps: float = KERAS_EPS):
        super().__init__(channels, eps, affine=True)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, H, W); the shape stays."""
        if input.shape[2:].numel() > 1:
            return super().forward(input)
        return torch.zeros_like(input) + self.bias[:, None, None]


def keras_norm(statistics: Statistics, channels: int, momentum: float = 0.01) -> nn.Module:
    """Build batch normalisation with gain, bias and the epsilon of Keras.

    Args:
        statistics: ``image`` normalises each image by itself, always; ``batch`` normalises by the batch, and at
            inference each image by itself; ``running`` uses the running averages of batches at inference.
        channels: number of channels.
        momentum: weight of a new batch in the running averages.
    """
    match statistics:
        case "image":
            return ImageNorm(channels)
        case "batch":
            return OwnBatchNorm2d(channels, KERAS_EPS)
        case "running":
            return nn.BatchNorm2d(channels, KERAS_EPS, momentum)


def widths_of(width: int, levels: int) -> list[int]:
    """Return the channels of a number of levels, which double up to eight times ``width``."""
    return [width * min(2**level, 8) for level in range(levels)]


class StridedUNet(nn.Module):
    """U-Net of strided convolutions, each with a bias, a norm and a leaky ReLU, and skips by concatenation.

    Images (N, inputs, H, W) to (N, outputs, H, W), without an activation at the end; H and W are multiples of
    ``2**len(encoder)``. A channel of the decoder precedes those of the encoder where both are joined.

    Args:
        inputs: input channels.
        outputs: output channels.
        encoder: channels of the convolutions, each of which halves the extents.
        decoder: channels of the transposed convolutions but the last one: as many as in the encoder with ``point``,
            else one less.
        kernels: side of the convolutions, 3 or 4, and of the transposed ones, 2 or 4.
        point: whether a convolution of side 2 without padding follows the encoder, which makes one pixel of two.
        activated: whether skips are taken after the activation of the encoder, and dropout is applied after that of the
            decoder. Otherwise skips and the decoder's maps are activated together, after they are joined.
        statistics: statistics of the norms.
        momentum: weight of a new batch in their running averages.
        dropout: dropout rate in the first three levels of the decoder.
        normalised_end: whether a norm follows the last transposed convolution.

    Raises:
        ValueError: The decoder has another number of levels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        encoder: Sequence[int],
        decoder: Sequence[int],
        *,
        kernels: tuple[Literal[3, 4], Literal[2, 4]] = (3, 2),
        point: bool = True,
        activated: bool = False,
        statistics: Statistics = "image",
        momentum: float = 0.01,
        dropout: float = 0.5,
        normalised_end: bool = False,
    ):
        super().__init__()
        if len(decoder) != len(encoder) - (not point):
            raise ValueError(f"{len(encoder)} levels down need {len(encoder) - (not point)} up, not {len(decoder)}")
        down, up = kernels
        padding = (up - 2) // 2
        self.activated = activated

        def normed(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
            return nn.Sequential(layer, keras_norm(statistics, layer.out_channels, momentum))

        steps = pairwise([inputs, *encoder])
        self.down = nn.ModuleList(normed(nn.Conv2d(before, after, down, 2, 1)) for before, after in steps)
        if point:
            self.down.append(normed(nn.Conv2d(encoder[-1], encoder[-1], 2)))
        skips = list(reversed(encoder)) if point else list(reversed(encoder[:-1]))
        before, self.up = encoder[-1], nn.ModuleList()
        for level, (after, skip) in enumerate(zip(decoder, skips, strict=True)):
            first = nn.ConvTranspose2d(before, after, 2) if point and not level else None
            layers = normed(first or nn.ConvTranspose2d(before, after, up, 2, padding))
            if activated:
                layers.append(nn.LeakyReLU(SLOPE))
            if level < 3 and dropout:
                layers.append(nn.Dropout(dropout))
            self.up.append(layers)
            before = after + skip
        last = nn.ConvTranspose2d(before, outputs, up, 2, padding)
        self.end: nn.Module = normed(last) if normalised_end else last
        init_glorot(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, inputs, H, W) to (N, outputs, H, W)."""
        skips: list[Tensor] = []
        for down in self.down:
            normal = down(image)
            image = leaky_relu(normal, SLOPE)
            skips.append(image if self.activated else normal)
        skips.pop()
        for up in self.up:
            image = torch.cat([up(image), skips.pop()], dim=1)
            image = image if self.activated else leaky_relu(image, SLOPE)
        return self.end(image)  # type: ignore[no-any-return]


class StridedDiscriminator(nn.Sequential):
    """Discriminator of convolutions of side 3 and stride 2 with leaky ReLUs and no norm, which scores patches.

    (N, channels, H, W) to logits (N, 1, h, w), whose extents are halved by every convolution. Three widths give scores
    of 31 pixels, four those of 63.

    Args:
        channels: input channels, condition and image together.
        widths: channels of the convolutions but the last one, which has the logit.
    """

    def __init__(self, channels: int, widths: Sequence[int] = (32, 64, 128, 256)):
        layers: list[nn.Module] = []
        for before, after in pairwise([channels, *widths]):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(SLOPE)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 3, 2, 1))
        init_glorot(self)
