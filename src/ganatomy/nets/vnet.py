"""V-Net, an encoder-decoder of volumes with residual stages. Milletari et al., arXiv 1606.04797."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

CONVOLUTIONS_DOWN = (2, 3, 3, 3)
"""Number of convolutions of the encoder's stages below the first."""
CONVOLUTIONS_UP = (3, 3, 2, 1)
"""Number of convolutions of the decoder's stages, the coarsest first."""


Norm = Literal["batch", "instance"]
"""Normalisation of the features: with the statistics of a batch, or with those of every volume alone."""


class _VolumeNorm(nn.InstanceNorm3d):
    """Instance norm that also takes volumes of one voxel, of which its shift is left."""

    def __init__(self, channels: int):
        super().__init__(channels, affine=True)

    def forward(self, input: Tensor) -> Tensor:
        if input[0, 0].numel() > 1:
            return super().forward(input)
        return self.bias.reshape(-1, 1, 1, 1).expand_as(input)


NORMS: Mapping[Norm, type[nn.BatchNorm3d] | type[_VolumeNorm]] = {"batch": nn.BatchNorm3d, "instance": _VolumeNorm}


def _layers(before: int, after: int, count: int, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Conv3d(before, after, 5, padding=2), NORMS[norm](after), nn.PReLU(after)]
        before = after
    return nn.Sequential(*layers)


class _Resized(nn.Sequential):
    """A convolution that halves, or a transposed one that doubles, with normalisation and PReLU."""

    def __init__(self, before: int, after: int, kind: type[nn.Conv3d] | type[nn.ConvTranspose3d], norm: Norm):
        super().__init__(kind(before, after, 2, 2), NORMS[norm](after), nn.PReLU(after))


class _Stage(nn.Module):
    """Convolutions whose input is added to their output."""

    def __init__(self, width: int, count: int, norm: Norm):
        super().__init__()
        self.body = _layers(width, width, count, norm)

    def forward(self, features: Tensor) -> Tensor:
        total: Tensor = features + self.body(features)
        return total


class VNet(nn.Module):
    """V-Net without its last layer: features of the full size, and those of the coarsest stage.

    (N, inputs, D, H, W) to (N, widths[0], D, H, W). Extents that are no multiples of ``2**(len(widths) - 1)`` are
    padded at their ends by repeating the last voxels, and cropped again.

    Args:
        inputs: input channels.
        widths: channels of the stages, the finest first; 16 to 256 in the paper.
        norm: normalisation after every convolution. That of every volume alone learns nothing of a coarsest stage of
            one voxel.
    """

    def __init__(self, inputs: int, widths: Sequence[int] = (16, 32, 64, 128, 256), norm: Norm = "batch"):
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        first = widths[0]
        self.begin = nn.Sequential(nn.Conv3d(inputs, first, 5, padding=2), NORMS[norm](first))
        self.shortcut = nn.Conv3d(inputs, first, 1)
        self.activation = nn.PReLU(first)
        self.down = nn.ModuleList(
            nn.Sequential(_Resized(before, after, nn.Conv3d, norm), _Stage(after, count, norm))
            for (before, after), count in zip(pairwise(widths), CONVOLUTIONS_DOWN, strict=False)
        )
        rising = [*pairwise(widths)][::-1]
        self.up = nn.ModuleList(_Resized(coarse, fine, nn.ConvTranspose3d, norm) for fine, coarse in rising)
        counts = CONVOLUTIONS_UP[-len(rising) :]
        self.joined = nn.ModuleList(
            nn.Sequential(_Stage(2 * fine, count, norm), nn.Conv3d(2 * fine, fine, 1))
            for (fine, _), count in zip(rising, counts, strict=True)
        )

    def encode(self, volume: Tensor) -> list[Tensor]:
        """Return the features of every stage, the finest first; their extents are those of the padded volume."""
        extra = [-extent % self.multiple for extent in volume.shape[2:]]
        if any(extra):
            volume = pad(volume, [side for length in reversed(extra) for side in (0, length)], mode="replicate")
        features = self.activation(self.begin(volume) + self.shortcut(volume))
        stages: list[Tensor] = [features]
        for down in self.down:
            stages.append(down(stages[-1]))
        return stages

    def decode(self, stages: Sequence[Tensor], extents: Sequence[int]) -> Tensor:
        """Return features of the full size, (N, widths[0], D, H, W), from those of all stages."""
        features = stages[-1]
        for up, joined, skip in zip(self.up, self.joined, reversed(stages[:-1]), strict=True):
            features = joined(torch.cat([skip, up(features)], 1))
        deep, high, wide = extents
        return features[:, :, :deep, :high, :wide]

    def forward(self, volume: Tensor) -> Tensor:
        """Map volumes (N, inputs, D, H, W) to features (N, widths[0], D, H, W)."""
        return self.decode(self.encode(volume), volume.shape[2:])
