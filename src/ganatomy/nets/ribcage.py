"""The estimator and the "rib cage" discriminator for cells in microscopy. Arbelle & Riklin-Raviv, arXiv 1709.05860.

Batch norms have neither gain nor offset, since the authors' release trains neither.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

SLOPE = 0.1
"""Slope of the leaky ReLU for negative values."""
Release = Literal["2017", "2018"]
"""Code of the time of the paper (September 2017), or the authors' last version."""
KERNELS: dict[Release, tuple[int, ...]] = {"2017": (9, 7, 5, 3), "2018": (9, 7, 5, 4)}
"""Kernels of the estimator's convolutions but for the last one, which is 1 x 1."""
BONES: dict[Release, tuple[tuple[int, int], ...]] = {
    "2017": ((9, 8), (7, 16), (5, 32)),
    "2018": ((3, 32), (3, 64), (3, 128)),
}
"""Kernel and channels of the discriminator's blocks."""
NORMS: dict[Release, tuple[float, float]] = {"2017": (1e-3, 1e-3), "2018": (0.1, 0.01)}
"""Number added to the variance, and weight of a batch in the running averages."""


def plain_norm(channels: int, release: Release) -> nn.BatchNorm2d:
    """Return a batch norm without gain and offset."""
    eps, momentum = NORMS[release]
    return nn.BatchNorm2d(channels, eps, momentum, affine=False)


class CellEstimator(nn.Sequential):
    """Convolutions without padding, each with batch norm and leaky ReLU, and a 1 x 1 convolution to logits.

    (N, inputs, H, W) to (N, outputs, H - lost, W - lost), where 20 (2017) or 21 (2018) pixels are lost.

    Args:
        inputs: input channels.
        outputs: classes.
        width: channels of the first layer; then twice, four times and four times as many.
        release: version of the authors' code.
    """

    def __init__(self, inputs: int, outputs: int = 3, width: int = 16, release: Release = "2017"):
        widths = (inputs, width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        for kernel, (before, after) in zip(KERNELS[release], pairwise(widths), strict=True):
            layers += [nn.Conv2d(before, after, kernel), plain_norm(after, release), nn.LeakyReLU(SLOPE)]
        if release == "2017":
            layers.append(plain_norm(widths[-1], release))
        super().__init__(*layers, nn.Conv2d(widths[-1], outputs, 1))
        init_glorot(self)


class Rib(nn.Module):
    """A block of the rib cage: image and segmentation on either side, and both of them in the middle.

    Args:
        left, right, centre: channels of the three inputs.
        channels: channels of either side afterwards; the middle has 2.5 times as many.
        kernel: edge of the kernels.
        release: version of the authors' code, which decides about the norms.
    """

    def __init__(self, left: int, right: int, centre: int, channels: int, kernel: int, release: Release):
        super().__init__()

        def convolved(before: int, after: int) -> nn.Sequential:
            convolution = nn.Conv2d(before, after, kernel, padding="same", bias=False)
            return nn.Sequential(convolution, plain_norm(after, release), nn.LeakyReLU(SLOPE), nn.MaxPool2d(2))

        self.left, self.right = convolved(left, channels), convolved(right, channels)
        self.centre = convolved(centre, channels // 2)

    def forward(self, left: Tensor, right: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Halve and widen the three streams; the middle takes in both sides."""
        sides = self.left(left), self.right(right)
        return *sides, torch.cat([*sides, self.centre(centre)], dim=1)


class RibCage(nn.Module):
    """Discriminator with a stream for images, one for segmentations, and one for both, joined at every level.

    Args:
        inputs: channels of the image.
        regions: channels of the segmentation.
        size: rows and columns of both, which the dense layers are made for.
        width: factor of all numbers of channels, relative to the authors'.
        release: version of the authors' code.
    """

    def __init__(self, inputs: int, regions: int, size: tuple[int, int], width: float = 1.0, release: Release = "2017"):
        super().__init__()
        self.ribs = nn.ModuleList()
        left, right, centre = inputs, regions, inputs + regions
        rows, columns = size
        for kernel, full in BONES[release]:
            channels = 2 * max(1, round(full * width / 2))
            self.ribs.append(Rib(left, right, centre, channels, kernel, release))
            left, right, centre = channels, channels, 2 * channels + channels // 2
            rows, columns = rows // 2, columns // 2
        hidden = max(4, round(64 * width))
        self.score = nn.Sequential(
            nn.Linear((left + right + centre) * rows * columns, hidden, bias=False),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, hidden, bias=False),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, 1, bias=False),
        )
        init_glorot(self)

    def forward(self, image: Tensor, regions: Tensor) -> Tensor:
        """Score images (N, inputs, H, W) with segmentations (N, regions, H, W); returns logits (N, 1)."""
        streams = image, regions, torch.cat([image, regions], dim=1)
        for rib in self.ribs:
            streams = rib(*streams)
        return self.score(torch.cat(streams, dim=1).flatten(1))  # type: ignore[no-any-return]


class PlainDiscriminator(nn.Module):
    """Discriminator like VGG-16 of image and segmentation together, which the rib cage is compared with.

    Args:
        inputs: channels of the image.
        regions: channels of the segmentation.
        size: rows and columns of both.
        width: factor of all numbers of channels, relative to the authors'.
        release: version of the authors' code, which decides about the norms.
    """

    def __init__(self, inputs: int, regions: int, size: tuple[int, int], width: float = 1.0, release: Release = "2017"):
        super().__init__()
        layers: list[nn.Module] = []
        before, (rows, columns) = inputs + regions, size
        for repeats, full in ((2, 64), (2, 128), (3, 256), (3, 256)):
            channels = max(1, round(full * width))
            for _ in range(repeats):
                convolution = nn.Conv2d(before, channels, 3, padding=1, bias=False)
                layers += [convolution, plain_norm(channels, release), nn.LeakyReLU(SLOPE)]
                before = channels
            layers.append(nn.MaxPool2d(2))
            rows, columns = rows // 2, columns // 2
        hidden = max(4, round(4096 * width))
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            *_dense(before * rows * columns, hidden),
            *_dense(hidden, hidden),
            nn.Linear(hidden, 1, bias=False),
        )
        init_glorot(self)

    def forward(self, image: Tensor, regions: Tensor) -> Tensor:
        """Score images (N, inputs, H, W) with segmentations (N, regions, H, W); returns logits (N, 1)."""
        return self.layers(torch.cat([image, regions], dim=1))  # type: ignore[no-any-return]


def _dense(before: int, after: int) -> Sequence[nn.Module]:
    return nn.Linear(before, after, bias=False), nn.LeakyReLU(SLOPE)


def init_glorot(network: nn.Module) -> None:
    """Draw all weights from Glorot's uniform distribution and set offsets to 0, in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
