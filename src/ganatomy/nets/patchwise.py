"""Networks that segment the centre of a patch, and discriminators that are shown it together with the image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class TwoBranch(nn.Module):
    """Discriminator that takes maps of classes and the image in branches of their own, and joins their features.

    Args:
        maps: network of the maps.
        image: network of the image, whose features have the extents of those of the maps.
        joined: network of both features, concatenated as channels with those of the image first.
    """

    def __init__(self, maps: nn.Module, image: nn.Module, joined: nn.Module):
        super().__init__()
        self.maps, self.image, self.joined = maps, image, joined

    def forward(self, maps: Tensor, image: Tensor) -> Tensor:
        """Return logits of maps (N, classes, H, W) that belong to images (N, channels, H', W')."""
        return self.joined(torch.cat([self.image(image), self.maps(maps)], dim=1))  # type: ignore[no-any-return]


class DilatedSegmentor(nn.Sequential):
    """Segmentor of convolutions of side 3 without padding, dilated or not, each followed by a ReLU.

    Moeskops et al., arXiv 1707.03195. (N, channels, H, W) to logits (N, classes, H - 2 m, W - 2 m) of the centre, where
    the margin m is the sum of the dilations.

    Args:
        channels: input channels.
        classes: output channels.
        dilations: pixels between the taps of every convolution.
        width: channels of these convolutions.
        hidden: channels of a layer of kernels of one pixel with batch norm before the last one; 0 for no such layer.
        dropout: share of the values that are dropped before the last layer.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        dilations: Sequence[int],
        width: int = 32,
        hidden: int = 0,
        dropout: float = 0.5,
    ):
        layers: list[nn.Module] = []
        before = channels
        for dilation in dilations:
            layers += [nn.Conv2d(before, width, 3, dilation=dilation), nn.ReLU()]
            before = width
        if hidden:
            layers += [nn.Conv2d(before, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU()]
        super().__init__(*layers, nn.Dropout(dropout), nn.Conv2d(hidden or before, classes, 1))
        self.margin = sum(dilations)
        init_kaiming(self)


class DilatedDiscriminator(TwoBranch):
    """Discriminator of maps of 25 x 25 pixels and of the image there, with logits of *manual* and of *generated*.

    Moeskops et al., arXiv 1707.03195. Maps (N, classes, 25, 25) and images (N, channels, 25, 25) to (N, 2, 1, 1).

    Args:
        channels: channels of the image.
        classes: channels of the maps.
        width: channels of all convolutions but for the hidden layer before the last one.
        hidden: channels of that layer, which has batch norm.
        dropout: share of its values that are dropped.
    """

    def __init__(self, channels: int, classes: int, width: int = 32, hidden: int = 256, dropout: float = 0.5):
        maps, image = (nn.Sequential(*_plain([inputs, width, width])) for inputs in (classes, channels))
        joined = [
            *_plain([2 * width, width, width, width]),
            nn.MaxPool2d(3),
            *_plain([width, width, width]),
            *(nn.Conv2d(width, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Dropout(dropout)),
            nn.Conv2d(hidden, 2, 1),
        ]
        super().__init__(maps, image, nn.Sequential(*joined))
        init_kaiming(self)


def _plain(widths: Sequence[int]) -> list[nn.Module]:
    """Return convolutions of side 3 without padding, each with a ReLU."""
    return [layer for pair in pairwise(widths) for layer in (nn.Conv2d(*pair, 3), nn.ReLU())]


def init_kaiming(network: nn.Module) -> None:
    """Draw weights of convolutions from N(0, 2 / fan-in), as for ReLUs; biases are zero. In place.

    He et al., arXiv 1502.01852.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class CentreSegmentor(nn.Sequential):
    """Segmentor of nine convolutions without padding but for the last ones of one pixel, with batch norm and ReLUs.

    Li et al., BrainLes 2017. (N, channels, H, W) to logits (N, classes, H - 16, W - 16) of the centre.

    Args:
        channels: input channels.
        classes: output channels.
        width: channels of the first four convolutions; the next four have twice as many, the hidden layer of kernels
            of one pixel four times as many.
        dropout: share of the feature maps that are dropped before either of the convolutions of one pixel.
    """

    margin = 8

    def __init__(self, channels: int, classes: int, width: int = 64, dropout: float = 0.25):
        layers: list[nn.Module] = []
        for before, after in pairwise([channels, *[width] * 4, *[2 * width] * 4]):
            layers += _normalised(before, after, 3)
        hidden = _normalised(2 * width, 4 * width, 1)
        super().__init__(
            *layers, nn.Dropout2d(dropout), *hidden, nn.Dropout2d(dropout), nn.Conv2d(4 * width, classes, 1)
        )


def _normalised(before: int, after: int, kernel: int) -> list[nn.Module]:
    """Return a convolution without padding, batch norm and a ReLU, initialised as in the public re-implementation."""
    convolution, norm = nn.Conv2d(before, after, kernel), nn.BatchNorm2d(after)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(norm.weight, 1.0, 0.02)
    return [convolution, norm, nn.ReLU()]


class CentreDiscriminator(TwoBranch):
    """Discriminator of the maps of 15 x 15 pixels in the centre of images of 31 x 31.

    Li et al., BrainLes 2017. Maps (N, classes, 15, 15) and images (N, channels, 31, 31) to logits (N, 1, 1, 1). A
    strided convolution makes the features of the image as large as those of the maps.

    Args:
        channels: channels of the image.
        classes: channels of the maps.
        width: channels of the first convolutions of the image; all others grow with it.
    """

    def __init__(self, channels: int, classes: int, width: int = 16):
        image = [*_leaky([channels, width, width, width], 1), *_leaky([width, 4 * width], 0, 2)]
        maps = _leaky([classes, 4 * width, 4 * width], 1)
        joined = [
            *_leaky([8 * width, 8 * width, 16 * width], 0, 2),
            *(nn.Conv2d(16 * width, 32 * width, 3, padding=1), nn.ReLU(), nn.Conv2d(32 * width, 1, 3)),
        ]
        super().__init__(nn.Sequential(*maps), nn.Sequential(*image), nn.Sequential(*joined))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _leaky(widths: Sequence[int], padding: int, stride: int = 1) -> list[nn.Module]:
    """Return convolutions of side 3, each with a leaky ReLU of slope 0.01."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, stride, padding), nn.LeakyReLU(0.01)]
    return layers
