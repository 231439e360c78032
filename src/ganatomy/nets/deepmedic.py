"""DeepMedic, a segmentor of volumes at two resolutions, and the classifier of its features by their domain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, pad

from ganatomy.nets.aids import centre_crop

WIDTHS = (30, 30, 40, 40, 40, 40, 50, 50)
"""Channels of the convolutions of either path."""
FACTOR = 3
"""Voxels between those that the path of low resolution sees."""
RESIDUAL = (4, 6, 8, 10)
"""Numbers of the layers, from 1, whose output the input of the layer before is added to."""
MARGIN = 24
"""Voxels around its output that the network needs, which the path of low resolution sees."""


class RecentBatchNorm(nn.BatchNorm3d):
    """Batch normalisation that at inference uses the mean statistics of the last batches, 60 in DeepMedic.

    Statistics of batches that were not seen yet count as a mean of 0 and a variance of 1. (N, C, D, H, W); the shape
    stays.

    Args:
        channels: number of channels.
        batches: number of batches that are remembered.
    """

    means: Tensor
    variances: Tensor
    seen: Tensor

    def __init__(self, channels: int, batches: int = 60):
        super().__init__(channels, track_running_stats=False)
        self.register_buffer("means", torch.zeros(batches, channels))
        self.register_buffer("variances", torch.ones(batches, channels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, D, H, W)."""
        if not self.training:
            means, variances = self.means.mean(0), self.variances.mean(0)
            return batch_norm(input, means, variances, self.weight, self.bias, False, 0.0, self.eps)
        with torch.no_grad():
            place = (self.seen % len(self.means)).reshape(1)
            variance, mean = torch.var_mean(input.float(), (0, 2, 3, 4), correction=0)
            self.means.index_copy_(0, place, mean[None])
            self.variances.index_copy_(0, place, variance[None])
            self.seen += 1
        return batch_norm(input, None, None, self.weight, self.bias, True, 0.0, self.eps)


class Preactivated(nn.Sequential):
    """Batch norm, PReLU, dropout and a convolution without bias, in this order.

    Args:
        before: input channels.
        after: output channels.
        kernel: side of the convolution, without padding.
        dropout: share of the values that are dropped.
        norm: whether there is batch norm and, where it is ``activated``, a PReLU.
        activated: whether there is a PReLU.
    """

    def __init__(
        self, before: int, after: int, kernel: int = 3, dropout: float = 0.0, norm: bool = True, activated: bool = True
    ):
        super().__init__(
            *([RecentBatchNorm(before)] if norm else []),
            *([nn.PReLU(before, init=0.01)] if norm and activated else []),
            *([nn.Dropout(dropout)] if dropout else []),
            nn.Conv3d(before, after, kernel, bias=False),
        )


class Bias(nn.Module):
    """Learned number for each channel of (N, C, D, H, W), which is added."""

    def __init__(self, channels: int):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        """Add the biases."""
        return input + self.bias.reshape(-1, 1, 1, 1)


class DeepMedic(nn.Module):
    """Segmentor with eight convolutions at full and at a third of the resolution, and three layers of both.

    Kamnitsas et al., arXiv 1612.08894, with the layers of the authors' program of that time. (N, channels, D, H, W) to
    logits (N, classes, D - 48, H - 48, W - 48) of the centre.

    Args:
        channels: input channels.
        classes: output channels.
        widths: channels of the eight convolutions of either path.
        hidden: channels of the two hidden layers of both.
        dropout: share of the values that are dropped before the second hidden layer and the last one.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int] = WIDTHS,
        hidden: int = 150,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.normal, self.low = (
            nn.ModuleList(
                [
                    nn.Sequential(Bias(channels), Preactivated(channels, widths[0], norm=False)),
                    *(Preactivated(before, after) for before, after in pairwise(widths)),
                ]
            )
            for _ in range(2)
        )
        self.joined = nn.ModuleList(
            [Preactivated(2 * widths[-1], hidden), Preactivated(hidden, hidden, 1, dropout)]
        )  # fmt: skip
        self.last = nn.Sequential(Preactivated(hidden, classes, 1, dropout), Bias(classes))
        init_fan_in(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the centre of images."""
        return self.features(image)[0]

    def features(self, image: Tensor) -> tuple[Tensor, dict[int, list[Tensor]]]:
        """Return the logits, and the outputs of the layers of `RESIDUAL` before anything is added to them.

        Layers 4, 6 and 8 are those of the path at full and of the one at low resolution; layer 10 is one.
        """
        extents = [extent - 2 * MARGIN for extent in image.shape[2:]]
        tapped: dict[int, list[Tensor]] = {number: [] for number in RESIDUAL}
        # The path of low resolution begins 24 voxels before the output and ends 24 or less behind it.
        inner = centre_crop(image, [extent + 16 for extent in extents])
        normal = _path(self.normal, inner, tapped)
        low = enlarged(_path(self.low, image[..., ::FACTOR, ::FACTOR, ::FACTOR], tapped))
        both = torch.cat([normal, low[..., : extents[0], : extents[1], : extents[2]]], dim=1)
        first = self.joined[0](mirrored_border(both))
        second = self.joined[1](first)
        tapped[10].append(second)
        return self.last(added(second, both)), tapped


def _path(layers: nn.ModuleList, image: Tensor, tapped: dict[int, list[Tensor]]) -> Tensor:
    """Return what the convolutions of a path make of an image; their outputs are added to ``tapped`` on the way."""
    inputs = [image]
    for number, layer in enumerate(layers, start=1):
        made: Tensor = layer(inputs[-1])
        if number in RESIDUAL:
            tapped[number].append(made)
            made = added(made, inputs[-2])
        inputs.append(made)
    return inputs[-1]


def added(output: Tensor, earlier: Tensor) -> Tensor:
    """Add the centre of an earlier tensor to an output with as many channels or more; missing ones count as 0."""
    centre = centre_crop(earlier, output.shape[2:])
    missing = output.shape[1] - centre.shape[1]
    return output + pad(centre, (0, 0, 0, 0, 0, 0, 0, missing))


def enlarged(features: Tensor) -> Tensor:
    """Repeat every voxel three times along all axes."""
    for axis in (2, 3, 4):
        features = features.repeat_interleave(FACTOR, axis)
    return features


def mirrored_border(features: Tensor) -> Tensor:
    """Add a voxel to all sides of (N, C, D, H, W), mirrored without repeating the edge; an axis of one is repeated."""
    for axis in (2, 3, 4):
        length = features.shape[axis]
        places = torch.arange(-1, length + 1, device=features.device).abs()
        places = torch.where(places < length, places, (2 * (length - 1) - places).abs())
        features = features.index_select(axis, places.clamp_max(length - 1))
    return features


class DomainClassifier(nn.Sequential):
    """Classifier of the domain that features are of: four convolutions without padding and one of a single voxel.

    Kamnitsas et al., arXiv 1612.08894. (N, channels, 9, 9, 9) to logits (N, 2, 1, 1, 1).

    Args:
        channels: input channels; 410 of all tapped layers of the published widths.
        width: channels of the convolutions.
        dropout: share of the values that are dropped before the last one.
    """

    def __init__(self, channels: int, width: int = 100, dropout: float = 0.5):
        super().__init__(
            Preactivated(channels, width, activated=False),
            *(Preactivated(width, width) for _ in range(3)),
            Preactivated(width, 2, 1, dropout),
            Bias(2),
        )
        init_fan_in(self)


def connected(tapped: dict[int, list[Tensor]], layers: Sequence[int]) -> Tensor:
    """Concatenate the tapped maps of some layers, those of low resolution enlarged, as large as the deepest.

    Args:
        tapped: second part of `DeepMedic.features`.
        layers: numbers of the layers.
    """
    extents = tapped[10][0].shape[2:]
    maps = [part for layer in layers for part in (tapped[layer][:1] + [enlarged(low) for low in tapped[layer][1:]])]
    return torch.cat([centre_crop(one, extents) for one in maps], dim=1)


def convolution_weights(network: nn.Module) -> list[Tensor]:
    """Return the kernels of all convolutions of a network, without biases, gains and slopes."""
    return [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv3d)]


def init_fan_in(network: nn.Module) -> None:
    """Draw the kernels of all convolutions from N(0, 2 / fan-in), in place. He et al., arXiv 1502.01852."""
    for weight in convolution_weights(network):
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
