"""Residual generators that make volumes finer."""

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganatomy.nets.aids import Activation, activation_layer, centre_crop
from ganatomy.nets.residual import Residual

Factors = tuple[int, int, int]
"""Of slices, rows and columns."""
Upsampler = Literal["sub-pixel", "sub-pixel-nn", "resize-conv"]


def without(volume: Tensor, lost: Sequence[int]) -> Tensor:
    """(N, C, D, H, W) without so many voxels per side along slices, rows and columns, as a view."""
    return centre_crop(volume, [extent - 2 * side for extent, side in zip(volume.shape[2:], lost, strict=True)])


class VoxelShuffle(nn.Module):
    """Channels to voxels: (N, C·d·h·w, D, H, W) to (N, C, d·D, h·H, w·W). Shi et al., arXiv 1609.05158, in space.

    Args:
        factors: d, h and w.
    """

    def __init__(self, factors: Factors):
        super().__init__()
        self.factors = factors

    def forward(self, features: Tensor) -> Tensor:
        """As above."""
        samples, _, *extents = features.shape
        parts = features.reshape(samples, -1, *self.factors, *extents)
        fine = [extent * times for extent, times in zip(extents, self.factors, strict=True)]
        return parts.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(samples, -1, *fine)


class NearestTransposed(nn.ConvTranspose3d):
    """Transposed convolution that begins as a 3x3x3 convolution followed by nearest-neighbour enlargement.

    So it has no checkerboard to unlearn. Aitken et al., arXiv 1707.02937. (N, before, D, H, W) to (N, after, d·D, h·H,
    w·W).

    Args:
        before: input channels.
        after: output channels.
        factors: d, h and w.
    """

    def __init__(self, before: int, after: int, factors: Factors):
        kernel = (3 * factors[0], 3 * factors[1], 3 * factors[2])
        super().__init__(before, after, kernel, factors, padding=factors)
        self.copy_nearest()

    @torch.no_grad()
    def copy_nearest(self) -> None:
        """Give every weight the value of the first of those that stand for the same coarse voxel."""
        kernel: Tensor = self.weight
        for axis, times in enumerate(self.stride, start=2):
            first = torch.arange(0, kernel.shape[axis], times, device=kernel.device)
            kernel = kernel.index_select(axis, first).repeat_interleave(times, axis)
        self.weight.copy_(kernel)


def enlargement(
    kind: Upsampler, before: int, width: int, factors: Factors, slope: float
) -> tuple[list[nn.Module], int]:
    """Layers that make a volume finer, and the channels they leave.

    Args:
        kind: ``sub-pixel``: a convolution whose channels become voxels; ``sub-pixel-nn``: a transposed convolution that
            begins as a nearest-neighbour one; ``resize-conv``: a convolution on either side of nearest-neighbour
            enlargement.
        before: input channels.
        width: channels of the convolutions.
        factors: output voxels per input voxel along slices, rows and columns.
        slope: of the leaky ReLUs below zero.

    Raises:
        ValueError: the channels cannot be shared among the voxels.
    """
    if kind == "sub-pixel-nn":
        return [NearestTransposed(before, width, factors), nn.LeakyReLU(slope)], width
    first = [nn.Conv3d(before, width, 3, padding=1), nn.LeakyReLU(slope)]
    if kind == "resize-conv":
        second = [nn.Conv3d(width, width, 3, padding=1), nn.LeakyReLU(slope)]
        return [*first, nn.Upsample(scale_factor=tuple(map(float, factors))), *second], width
    voxels = torch.Size(factors).numel()
    if width % voxels:
        raise ValueError(f"{width} channels cannot be shared among {voxels} voxels")
    return [*first, VoxelShuffle(factors)], width // voxels


class VolumeSRResNet(nn.Module):
    """Residual blocks on the coarse grid, then steps to the fine one. Sánchez & Vilaplana, arXiv 1812.11440.

    (N, inputs, D, H, W) to (N, outputs, ...), finer by the product of the steps. Kernels are 3x3x3; every convolution
    has a bias.

    Args:
        inputs: input channels.
        outputs: output channels.
        steps: output voxels per input voxel of each step, along slices, rows and columns.
        width: channels of the blocks.
        blocks: residual blocks.
        upsampler: how a step is made.
        wide: channels of the convolutions of a step.
        slope: of the leaky ReLUs below zero.
        output: activation of the volume.
        std: of the first weights; none draws them as He et al., arXiv 1502.01852, do.
        skip: whether the network adds to its linearly interpolated input, with which it then begins.
    """

    def __init__(
        self,
        inputs: int = 1,
        outputs: int = 1,
        steps: Sequence[Factors] = ((2, 2, 2), (2, 2, 2)),
        width: int = 32,
        blocks: int = 6,
        upsampler: Upsampler = "sub-pixel-nn",
        wide: int = 64,
        slope: float = 0.25,
        output: Activation = "linear",
        std: float | None = 0.02,
        skip: bool = False,
    ):
        super().__init__()
        self.steps, self.blocks, self.upsampler, self.skip = tuple(steps), blocks, upsampler, skip

        def layer(before: int) -> list[nn.Module]:
            return [nn.Conv3d(before, width, 3, padding=1), nn.BatchNorm3d(width)]

        def block() -> nn.Module:
            return Residual(nn.Sequential(*layer(width), nn.LeakyReLU(slope), *layer(width)))

        self.begin = nn.Sequential(*layer(inputs), nn.LeakyReLU(slope))
        self.body = Residual(nn.Sequential(*[block() for _ in range(blocks)], *layer(width)))
        finer: list[nn.Module] = []
        channels = width
        for factors in self.steps:
            layers, channels = enlargement(upsampler, channels, wide, factors, slope)
            finer += layers
        self.enlarge = nn.Sequential(*finer)
        last = nn.Conv3d(channels, outputs, 3, padding=1)
        self.end = nn.Sequential(last, activation_layer(output))
        self._initialise(std, slope)
        if skip:
            nn.init.zeros_(last.weight)

    def _initialise(self, std: float | None, slope: float) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                if std is None:
                    nn.init.kaiming_normal_(module.weight, slope)
                else:
                    nn.init.normal_(module.weight, 0.0, std)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            if isinstance(module, NearestTransposed):
                module.copy_nearest()

    @property
    def factors(self) -> Factors:
        """Output voxels per input voxel along slices, rows and columns."""
        slices, rows, columns = (prod(times) for times in zip((1, 1, 1), *self.steps, strict=True))
        return slices, rows, columns

    @property
    def reach(self) -> Factors:
        """Input voxels per side, beyond its own, that an output voxel depends on."""
        slices, rows, columns = (2 * self.blocks + 2 + side for side in self._reach_of_the_steps)
        return slices, rows, columns

    @property
    def _reach_of_the_steps(self) -> list[int]:
        reach = [1, 1, 1]
        for factors in reversed(self.steps):
            behind = 1 if self.upsampler == "resize-conv" else 0
            reach = [-(-(side + behind) // times) + 1 for side, times in zip(reach, factors, strict=True)]
        return reach

    def forward(self, volume: Tensor, margin: Factors = (0, 0, 0)) -> Tensor:
        """(N, inputs, D, H, W) to (N, outputs, ...).

        Args:
            volume: coarse.
            margin: voxels per side of the input that are seen but not wanted; of those, the costly steps to the fine
                grid see no more than they depend on.
        """
        features = self.body(self.begin(volume))
        needed = [min(side, need) for side, need in zip(margin, self._reach_of_the_steps, strict=True)]
        beyond = [side - need for side, need in zip(margin, needed, strict=True)]
        fine = self.end(self.enlarge(without(features, beyond)))
        if self.skip:
            fine = fine + interpolate(without(volume, beyond), fine.shape[2:], mode="trilinear")
        return without(fine, [side * times for side, times in zip(needed, self.factors, strict=True)])
