"""Densely connected generators for super-resolution."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganatomy.nets.layers import BATCH_NORM, CONVOLUTION
from ganatomy.nets.volumetric import without


class DenseBlock(nn.Module):
    """Dense block: units of norm, ELU and convolution, each given all maps before it. Huang et al., arXiv 1608.06993.

    (N, before, ...) to (N, before + units·growth, ...), of the same extents.

    Args:
        before: input channels.
        units: number of units.
        growth: channels that each unit adds.
        dims: spatial axes, 1 to 3.
    """

    def __init__(self, before: int, units: int, growth: int, dims: int = 3):
        super().__init__()
        self.units = nn.ModuleList(
            nn.Sequential(
                BATCH_NORM[dims](channels), nn.ELU(), CONVOLUTION[dims](channels, growth, 3, padding=1, bias=False)
            )
            for channels in range(before, before + units * growth, growth)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, before, ...) to (N, before + units·growth, ...)."""
        for unit in self.units:
            features = torch.cat([features, unit(features)], dim=1)
        return features


class MultiLevelDense(nn.Module):
    """mDCSRN: dense blocks joined by 1x1 compression of all maps before, and a 1x1 reconstruction from all of them.

    Chen et al., arXiv 1803.01417. Volumes (N, 1, ...) keep their shape; the output is linear and no convolution has a
    bias.

    Args:
        blocks: number of dense blocks.
        units: units of a block.
        growth: channels that a unit adds; the first convolution and every compression return twice as many.
        dims: spatial axes, 1 to 3.
    """

    def __init__(self, blocks: int = 4, units: int = 4, growth: int = 16, dims: int = 3):
        super().__init__()
        convolution = CONVOLUTION[dims]
        start, grown = 2 * growth, (2 + units) * growth
        self.reach = 1 + blocks * units
        self.begin = convolution(1, start, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(DenseBlock(start, units, growth, dims) for _ in range(blocks))
        self.summaries = nn.ModuleList(
            convolution(start + number * grown, start, 1, bias=False) for number in range(1, blocks)
        )
        self.end = convolution(start + blocks * grown, 1, 1, bias=False)

    def forward(self, volume: Tensor, margin: Sequence[int] = ()) -> Tensor:
        """Map (N, 1, ...) to the same shape, less a margin of context in voxels per side that is cropped off."""
        begun = self.begin(volume)
        levels, given = [begun], begun
        for number, block in enumerate(self.blocks):
            if number:
                given = self.summaries[number - 1](torch.cat(levels, dim=1))
            levels.append(block(given))
        features = torch.cat(levels, dim=1)
        return self.end(without(features, margin) if margin else features)  # type: ignore[no-any-return]
