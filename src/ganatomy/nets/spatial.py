"""Networks conditioned on a map of numbers for every pixel, which they see again at every resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganatomy.nets.layers import SameConvolution

SLOPE = 0.2
"""Slope below zero of the leaky ReLUs of the discriminator."""
DOUBLINGS = 4
"""Number of times that the generator doubles rows and columns."""


def init_spatial(network: nn.Module, bias: float = 0.001) -> None:
    """Draw all weights from N(0, 0.02²), in place; biases have one small value."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.constant_(module.bias, bias)


def halvings(size: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Return rows and columns of a size that is halved some times and rounded up, from the coarsest to the finest."""
    rows, columns = size
    found = [(rows, columns)]
    for _ in range(count):
        rows, columns = -(-rows // 2), -(-columns // 2)
        found.insert(0, (rows, columns))
    return found


def from_corner(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (N, C, H, W) linearly with their first pixels on top of each other, as TensorFlow 1 did.

    Where sizes have a whole ratio, pixels are left out. `torch.nn.functional.interpolate` keeps the centres of pixels
    instead.
    """
    for axis, length in zip((2, 3), size, strict=True):
        extent = maps.shape[axis]
        places = torch.arange(length, device=maps.device) * (extent / length)
        low = places.long()
        high = (low + 1).clamp_max(extent - 1)
        share = (places - low).to(maps.dtype)
        shape = [1, 1, 1, 1]
        shape[axis] = length
        share = share.view(shape)
        maps = maps.index_select(axis, low) * (1 - share) + maps.index_select(axis, high) * share
    return maps


class SpatialGenerator(nn.Module):
    """Generator of images from noise and a map, which is appended to the features at several resolutions.

    Hu et al., arXiv 1707.05392, with the layers of its release for NiftyNet: noise goes through a dense layer; four
    transposed convolutions of stride 2, each followed by another convolution, double the resolution; widths are about
    halved each time. All convolutions but the last lack a bias, and batch norms a gain and a bias unless ``affine``.

    Args:
        size: rows and columns of the images, whose halves are rounded up.
        latent: length of a noise vector.
        conditions: channels of the map.
        width: channels of the coarsest features.
        shortcuts: resolutions at which the map is appended, from the coarsest; the finest of five sees none.
        affine: whether batch norms have a learnable gain and bias.
        momentum: share of a batch in the running statistics of batch norms.
    """

    def __init__(
        self,
        size: Sequence[int],
        latent: int,
        conditions: int = 3,
        width: int = 512,
        shortcuts: int = 4,
        affine: bool = False,
        momentum: float = 0.001,
    ):
        super().__init__()
        self.sizes, self.width, self.shortcuts = halvings(size, DOUBLINGS), width, shortcuts
        rows, columns = self.sizes[0]
        self.dense = nn.Linear(latent, width * rows * columns)

        def norm(channels: int) -> nn.Module:
            return nn.Sequential(nn.BatchNorm2d(channels, 1e-3, momentum, affine), nn.ReLU())

        channels = width + conditions * (shortcuts > 0)
        self.up, self.up_norms = nn.ModuleList(), nn.ModuleList()
        self.mix = nn.ModuleList([nn.Conv2d(channels, channels, 3, 1, 1, bias=False)])
        self.mix_norms = nn.ModuleList([norm(channels)])
        for level in range(1, DOUBLINGS + 1):
            after = round(channels / 2)
            self.up.append(nn.ConvTranspose2d(channels, after, 3, 2, bias=False))
            self.up_norms.append(norm(after))
            channels = after + conditions * (level < shortcuts)
            self.mix.append(nn.Conv2d(channels, channels, 3, 1, 1, bias=False))
            self.mix_norms.append(norm(channels))
        self.last = nn.Conv2d(channels, 1, 3, 1, 1)

    def forward(self, latent: Tensor, maps: Tensor) -> Tensor:
        """Map noise (N, latent) and maps (N, conditions, H, W) to images (N, 1, H, W) in [-1, 1]."""
        features = functional.relu(self.dense(latent)).view(-1, self.width, *self.sizes[0])
        for level, size in enumerate(self.sizes):
            if level:
                features = self.up_norms[level - 1](_doubled(self.up[level - 1](features), size))
            if level < self.shortcuts:
                features = torch.cat([features, from_corner(maps, size)], dim=1)
            features = self.mix_norms[level](self.mix[level](features))
        return torch.tanh(self.last(features))


def _doubled(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop the output of a transposed convolution of stride 2 to a size: what is too much, first at the far edge."""
    top, left = ((extent - wanted) // 2 for extent, wanted in zip(features.shape[2:], size, strict=True))
    return features[:, :, top : top + size[0], left : left + size[1]]


class SpatialDiscriminator(nn.Module):
    """Discriminator of images and their maps, with a residual block at every resolution and one score per image.

    Hu et al., arXiv 1707.05392, with the layers of its release for NiftyNet.

    Args:
        size: rows and columns of the images.
        channels: channels of image and map together.
        width: channels at the finest resolution; each of the others has twice as many as the one before.
        downs: number of convolutions of stride 2.
        affine: whether batch norms have a learnable gain and bias.
        momentum: share of a batch in the running statistics of batch norms.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int = 4,
        width: int = 32,
        downs: int = 5,
        affine: bool = False,
        momentum: float = 0.001,
    ):
        super().__init__()

        def norm(count: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(count, 1e-3, momentum, affine)

        self.first = nn.Sequential(nn.Conv2d(channels, width, 5, 1, 2), nn.LeakyReLU(SLOPE))
        self.enter, self.blocks = nn.ModuleList(), nn.ModuleList()
        for level in range(downs + 1):
            count = width * 2**level
            if level:
                down = SameConvolution(count // 2, count, 3, 2, bias=False)
                self.enter.append(nn.Sequential(down, norm(count), nn.LeakyReLU(SLOPE)))
            self.blocks.append(
                nn.Sequential(
                    nn.Conv2d(count, count, 3, 1, 1, bias=False),
                    norm(count),
                    nn.LeakyReLU(SLOPE),
                    nn.Conv2d(count, count, 3, 1, 1, bias=False),
                    norm(count),
                )
            )
        rows, columns = halvings(size, downs)[0]
        self.dense = nn.Linear(width * 2**downs * rows * columns, 1)

    def features(self, image: Tensor, maps: Tensor) -> list[Tensor]:
        """Return the features of images (N, C, H, W) with maps (N, conditions, H, W) at every resolution."""
        found = []
        features = self.first(torch.cat([image, maps], dim=1))
        for level, block in enumerate(self.blocks):
            if level:
                features = self.enter[level - 1](features)
            features = functional.leaky_relu(block(features) + features, SLOPE)
            found.append(features)
        return found

    def forward(self, image: Tensor, maps: Tensor) -> Tensor:
        """Map images (N, C, H, W) and maps (N, conditions, H, W) to scores (N, 1)."""
        score: Tensor = self.dense(self.features(image, maps)[-1].flatten(1))
        return score
