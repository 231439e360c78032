"""Segmentation network with large separable kernels on a residual trunk. Peng et al., arXiv 1703.02719."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganatomy.nets.resnet import BLOCKS, WIDTH, ResNetTrunk

TAPS = {
    True: ("layer4", "layer3", "layer2", "pooled", "stem"),
    False: ("layer4", "layer3", "layer2", "layer1", "pooled"),
}
"""Feature maps that are tapped, from coarse to fine, with separable and with dense kernels, as in SSNet's release."""


class GlobalConvolution(nn.Module):
    """Sum of two large kernels, each of a column and a row in either order; or one dense kernel.

    Args:
        inputs: input channels.
        outputs: output channels, also between column and row.
        kernel: odd side of the kernels.
        separable: whether kernels are made of columns and rows.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 7, separable: bool = True):
        super().__init__()
        column, row = ((kernel, 1), (kernel // 2, 0)), ((1, kernel), (0, kernel // 2))

        def path(first: tuple[tuple[int, int], ...], second: tuple[tuple[int, int], ...]) -> nn.Module:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, first[0], padding=first[1]),
                nn.Conv2d(outputs, outputs, second[0], padding=second[1]),
            )

        dense = [nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)]
        self.paths = nn.ModuleList([path(column, row), path(row, column)] if separable else dense)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        return torch.stack([path(features) for path in self.paths]).sum(0)


class BoundaryRefinement(nn.Module):
    """Residual block that sharpens score maps, with a batch norm before each of its two convolutions.

    Args:
        channels: channels of the maps.
        shared: whether both convolutions have one batch norm, as in SSNet's release. Its running averages then mix the
            statistics of two places, so it is of use with batch statistics only.
    """

    def __init__(self, channels: int, shared: bool = True):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(1 if shared else 2))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, maps: Tensor) -> Tensor:
        """Refine maps (N, channels, H, W); the shape stays."""
        refined = maps
        for place, convolution in enumerate(self.convolutions):
            refined = convolution(torch.relu(self.norms[place % len(self.norms)](refined)))
        return maps + refined


class GlobalConvolutionNetwork(nn.Module):
    """Global convolutions of five feature maps of a trunk, refined and added from coarse to fine.

    (N, inputs, H, W) to logits (N, classes, H, W) of any extents.

    Args:
        inputs: channels of the images.
        classes: number of classes, with the background.
        kernel: odd side of the global convolutions.
        separable: whether their kernels are made of columns and rows; decides which feature maps are tapped, too.
        shared: whether each `BoundaryRefinement` has a single batch norm.
        width: channels of the trunk's first convolution.
        blocks: blocks of the trunk's four layers.
    """

    def __init__(
        self,
        inputs: int = 3,
        classes: int = 2,
        *,
        kernel: int = 7,
        separable: bool = True,
        shared: bool = True,
        width: int = WIDTH,
        blocks: Sequence[int] = BLOCKS,
    ):
        super().__init__()
        self.trunk, self.taps = ResNetTrunk(inputs, width, blocks), TAPS[separable]
        self.heads = nn.ModuleList(
            nn.Sequential(
                GlobalConvolution(self.trunk.channels[tap], classes, kernel, separable),
                BoundaryRefinement(classes, shared),
            )
            for tap in self.taps
        )
        self.refinements = nn.ModuleList(BoundaryRefinement(classes, shared) for _ in self.taps)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to logits (N, classes, H, W)."""
        stages = self.trunk(image)
        first, *others = [head(getattr(stages, tap)) for tap, head in zip(self.taps, self.heads, strict=True)]
        maps = first
        for finer, refine in zip(others, self.refinements, strict=False):
            maps = refine(enlarged(maps, finer.shape[2:]) + finer)
        refined: Tensor = self.refinements[-1](enlarged(maps, image.shape[2:]))
        return refined


def enlarged(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge maps (N, C, H, W) to a size by linear interpolation that keeps the corners where they are."""
    return interpolate(maps, tuple(size), mode="bilinear", align_corners=True)
