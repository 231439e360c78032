"""Torch layers looked up by number of spatial axes, so that one network serves signals (1), images (2), volumes (3)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

CONVOLUTION: Mapping[int, type[Convolution]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: Mapping[int, type[Transposed]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
BATCH_NORM: Mapping[int, type[BatchNorm]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
INSTANCE_NORM: Mapping[int, type[nn.InstanceNorm1d] | type[nn.InstanceNorm2d] | type[nn.InstanceNorm3d]] = {
    1: nn.InstanceNorm1d,
    2: nn.InstanceNorm2d,
    3: nn.InstanceNorm3d,
}
MAX_POOL: Mapping[int, type[nn.MaxPool1d] | type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {
    1: nn.MaxPool1d,
    2: nn.MaxPool2d,
    3: nn.MaxPool3d,
}
AVERAGE_POOL: Mapping[int, type[nn.AvgPool1d] | type[nn.AvgPool2d] | type[nn.AvgPool3d]] = {
    1: nn.AvgPool1d,
    2: nn.AvgPool2d,
    3: nn.AvgPool3d,
}
ADAPTIVE_AVERAGE_POOL: Mapping[
    int, type[nn.AdaptiveAvgPool1d] | type[nn.AdaptiveAvgPool2d] | type[nn.AdaptiveAvgPool3d]
] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}

CONVOLVE: Mapping[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
"""Functional convolution for every number of spatial axes."""
LINEAR: Mapping[int, str] = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""Mode of `torch.nn.functional.interpolate` that is linear along every axis, for every number of axes."""


def map_norms(network: nn.Module) -> tuple[type[BatchNorm], ...]:
    """Return the batch-normalisation classes with as many axes as the network's convolutions, for ``isinstance``.

    In image networks this is `BatchNorm2d` but not the `BatchNorm1d` that follows dense layers, since the published
    initialisations concern feature maps only.
    """
    modules = list(network.modules())
    return tuple(
        norm
        for dims, norm in BATCH_NORM.items()
        if any(isinstance(module, (CONVOLUTION[dims], TRANSPOSED[dims])) for module in modules)
    )


def init_glorot(network: nn.Module) -> None:
    """Draw weights as Glorot and Bengio, AISTATS 2010, from a uniform distribution; biases are zero. In place."""
    for module in network.modules():
        if isinstance(module, nn.Linear | Convolution | Transposed):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_truncated(network: nn.Module, std: float = 0.02) -> None:
    """Draw the weights of convolutions from N(0, std) within two standard deviations, as TensorFlow does, in place.

    Gains of batch norms are 1, and all biases are zero.
    """
    for module in network.modules():
        if isinstance(module, Convolution):
            nn.init.trunc_normal_(module.weight, 0.0, std, -2 * std, 2 * std)
        if isinstance(module, BatchNorm):
            nn.init.ones_(module.weight)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)


class SameConvolution(nn.Conv2d):
    """Convolution whose output has the extents divided by the stride, rounded up, padded as in TensorFlow.

    Where the padding cannot be the same on both sides, as for a stride of 2 and even extents, there is one pixel more
    after the last row and column than before the first ones.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel.
        stride: step of the kernel in pixels.
        bias: whether there is a bias.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, bias: bool = True):
        super().__init__(inputs, outputs, kernel, stride, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        side, step = self.kernel_size[0], self.stride[0]
        rows, columns = (max(0, (-(-extent // step) - 1) * step + side - extent) for extent in input.shape[2:])
        around = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return super().forward(functional.pad(input, around))


class SameTransposed(nn.ConvTranspose2d):
    """Transposed convolution that doubles the extents as in TensorFlow: the reverse of a `SameConvolution`.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel, at least 2.
        bias: whether there is a bias.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True):
        super().__init__(inputs, outputs, kernel, 2, (kernel - 2) // 2, bias=bias)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, 2 H, 2 W)."""
        rows, columns = (2 * extent for extent in input.shape[2:])
        return super().forward(input, output_size)[:, :, :rows, :columns]


class ChannelShuffle(nn.Module):
    """Sub-pixel rearrangement of channels to pixels, with any number of spatial axes and a factor for each.

    (N, C·d·h·w, D, H, W) to (N, C, d·D, h·H, w·W). Shi et al., arXiv 1609.05158. Equals `torch.nn.PixelShuffle` on
    images if all factors are equal.

    Args:
        factors: output pixels per input pixel along every axis.
    """

    def __init__(self, factors: Sequence[int]):
        super().__init__()
        self.factors = tuple(factors)

    def forward(self, features: Tensor) -> Tensor:
        """Rearrange (N, C·d·h·w, D, H, W) to (N, C, d·D, h·H, w·W)."""
        samples, _, *extents = features.shape
        dims = len(self.factors)
        parts = features.reshape(samples, -1, *self.factors, *extents)
        paired = [axis for place in range(2, 2 + dims) for axis in (place + dims, place)]
        fine = [extent * times for extent, times in zip(extents, self.factors, strict=True)]
        return parts.permute(0, 1, *paired).reshape(samples, -1, *fine)


def nearest_transposed(before: int, after: int, factors: Sequence[int]) -> nn.Module:
    """Build a transposed convolution initialised as a 3-wide convolution followed by nearest-neighbour enlargement.

    The initialisation is free of checkerboard artefacts. Aitken et al., arXiv 1707.02937. (N, before, D, H, W) to
    (N, after, d·D, h·H, w·W), with any number of axes.

    Args:
        before: input channels.
        after: output channels.
        factors: output pixels per input pixel along every axis.
    """
    kind: Any = TRANSPOSED[len(factors)]
    layer: Transposed = kind(before, after, [3 * times for times in factors], tuple(factors), tuple(factors))
    copy_nearest(layer)
    return layer


@torch.no_grad()
def copy_nearest(layer: Transposed) -> None:
    """Make the kernel of a transposed convolution constant over the output pixels of each input pixel, in place.

    Every group of weights takes the value of its first; the layer then enlarges by nearest neighbour.
    """
    kernel: Tensor = layer.weight
    for axis, times in enumerate(layer.stride, start=2):
        first = torch.arange(0, kernel.shape[axis], times, device=kernel.device)
        kernel = kernel.index_select(axis, first).repeat_interleave(times, axis)
    layer.weight.copy_(kernel)
