"""Residual super-resolution generators for volumes, images and signals."""

from collections.abc import Sequence
from math import prod
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganatomy.nets.aids import Activation, activation_layer, centre_crop
from ganatomy.nets.layers import (
    BATCH_NORM,
    CONVOLUTION,
    LINEAR,
    ChannelShuffle,
    Convolution,
    Transposed,
    copy_nearest,
    nearest_transposed,
)
from ganatomy.nets.residual import Residual

Factors = tuple[int, int, int]
"""Enlargement factors of slices, rows and columns."""
Upsampler = Literal["sub-pixel", "sub-pixel-nn", "resize-conv"]


def without(volume: Tensor, lost: Sequence[int]) -> Tensor:
    """Crop ``lost`` pixels per side along every axis of (N, C, ...); the result is a view."""
    return centre_crop(volume, [extent - 2 * side for extent, side in zip(volume.shape[2:], lost, strict=True)])


def enlargement(
    kind: Upsampler, before: int, width: int, factors: Sequence[int], slope: float
) -> tuple[list[nn.Module], int]:
    """Return the layers that enlarge an image, and the number of channels they return.

    Args:
        kind: ``sub-pixel``: a convolution whose channels become pixels; ``sub-pixel-nn``: a transposed convolution that
            is initialised as nearest-neighbour enlargement; ``resize-conv``: a convolution before and after
            nearest-neighbour enlargement.
        before: input channels.
        width: channels of the convolutions.
        factors: output pixels per input pixel along every axis, one to three.
        slope: slope of the leaky ReLUs below zero.

    Raises:
        ValueError: The number of channels is not divisible by the number of output pixels per input pixel.
    """
    if kind == "sub-pixel-nn":
        return [nearest_transposed(before, width, factors), nn.LeakyReLU(slope)], width
    convolution = CONVOLUTION[len(factors)]
    first = [convolution(before, width, 3, padding=1), nn.LeakyReLU(slope)]
    if kind == "resize-conv":
        second = [convolution(width, width, 3, padding=1), nn.LeakyReLU(slope)]
        return [*first, nn.Upsample(scale_factor=tuple(map(float, factors))), *second], width
    pixels = prod(factors)
    if width % pixels:
        raise ValueError(f"{width} channels cannot be shared among {pixels} pixels")
    return [*first, ChannelShuffle(factors)], width // pixels


class VolumeSRResNet(nn.Module):
    """3D SRResNet: residual blocks on the coarse grid, then enlarging steps. Sánchez & Vilaplana, arXiv 1812.11440.

    (N, inputs, ...) to (N, outputs, ...), finer by the product of the steps. All kernels are of side 3; every
    convolution has a bias.

    Args:
        inputs: input channels.
        outputs: output channels.
        steps: output voxels per input voxel of each step, along every axis.
        width: channels of the blocks.
        blocks: residual blocks.
        upsampler: layers of a step, see `enlargement`.
        wide: channels of the convolutions of a step.
        slope: slope of the leaky ReLUs below zero.
        output: activation of the volume.
        std: standard deviation of the initial weights; None initialises them as He et al., arXiv 1502.01852.
        skip: whether the linearly interpolated input is added to the output; the last convolution is then initialised
            with zeros, so that training starts from interpolation.
        dims: spatial axes, 1 to 3.
    """

    def __init__(
        self,
        inputs: int = 1,
        outputs: int = 1,
        steps: Sequence[Sequence[int]] = ((2, 2, 2), (2, 2, 2)),
        width: int = 32,
        blocks: int = 6,
        upsampler: Upsampler = "sub-pixel-nn",
        wide: int = 64,
        slope: float = 0.25,
        output: Activation = "linear",
        std: float | None = 0.02,
        skip: bool = False,
        dims: int = 3,
    ):
        super().__init__()
        self.steps, self.blocks, self.upsampler, self.skip, self.dims = tuple(steps), blocks, upsampler, skip, dims
        convolution = CONVOLUTION[dims]

        def layer(before: int) -> list[nn.Module]:
            return [convolution(before, width, 3, padding=1), BATCH_NORM[dims](width)]

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
        last = convolution(channels, outputs, 3, padding=1)
        self.end = nn.Sequential(last, activation_layer(output))
        self._initialise(std, slope)
        if skip:
            nn.init.zeros_(last.weight)

    def _initialise(self, std: float | None, slope: float) -> None:
        for module in self.modules():
            if isinstance(module, Convolution | Transposed):
                if std is None:
                    nn.init.kaiming_normal_(module.weight, slope)
                else:
                    nn.init.normal_(module.weight, 0.0, std)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            if isinstance(module, Transposed):
                copy_nearest(module)

    @property
    def factors(self) -> tuple[int, ...]:
        """Output voxels per input voxel along every axis."""
        return tuple(prod(times) for times in zip((1,) * self.dims, *self.steps, strict=True))

    @property
    def reach(self) -> tuple[int, ...]:
        """Input voxels per side, beyond its own, on which an output voxel depends."""
        return tuple(2 * self.blocks + 2 + side for side in self._reach_of_the_steps)

    @property
    def _reach_of_the_steps(self) -> list[int]:
        reach = [1] * self.dims
        for factors in reversed(self.steps):
            behind = 1 if self.upsampler == "resize-conv" else 0
            reach = [-(-(side + behind) // times) + 1 for side, times in zip(reach, factors, strict=True)]
        return reach

    def forward(self, volume: Tensor, margin: Sequence[int] = ()) -> Tensor:
        """Map coarse volumes (N, inputs, ...) to fine ones (N, outputs, ...).

        Args:
            volume: coarse volume, including the margin.
            margin: input voxels per side along every axis that are context only and cropped from the output; empty for
                none. Context that the costly enlarging steps do not depend on is cropped before them.
        """
        margin = margin or (0,) * self.dims
        features = self.body(self.begin(volume))
        needed = [min(side, need) for side, need in zip(margin, self._reach_of_the_steps, strict=True)]
        beyond = [side - need for side, need in zip(margin, needed, strict=True)]
        fine = self.end(self.enlarge(without(features, beyond)))
        if self.skip:
            fine = fine + interpolate(without(volume, beyond), fine.shape[2:], mode=LINEAR[self.dims])
        return without(fine, [side * times for side, times in zip(needed, self.factors, strict=True)])
