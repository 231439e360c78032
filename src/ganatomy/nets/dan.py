"""Segmentation and evaluation networks of DAN, Zhang et al., MICCAI 2017, with the layers of public re-implementations.

The segmentation network is DCAN's with the layers of VGG-16, of which three depths are joined at full size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

POOLED = 7
"""Rows and columns of the features that the dense layers of the evaluation network see."""


def blocks(before: int, *widths: int) -> list[nn.Module]:
    """Return 3 x 3 convolutions without bias, each with batch norm and ReLU, of these widths."""
    layers: list[nn.Module] = []
    for channels in widths:
        layers += [nn.Conv2d(before, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
        before = channels
    return layers


class BranchedSegmentor(nn.Module):
    """VGG-like encoder whose three deepest levels are enlarged, concatenated, and classified.

    (N, inputs, H, W) to logits (N, classes, H, W); extents are multiples of 32. With ``auxiliary`` heads, also the
    logits of each branch alone.

    Args:
        inputs: input channels.
        classes: output channels.
        width: factor of all numbers of channels, relative to the paper's.
        auxiliary: whether each branch has a head of its own, as in DCAN.
    """

    def __init__(self, inputs: int, classes: int = 2, width: float = 1.0, auxiliary: bool = False):
        super().__init__()
        a, b, c, d, e = (max(1, round(full * width)) for full in (64, 128, 256, 512, 1024))
        pool = nn.MaxPool2d(2)
        self.first = nn.Sequential(
            *blocks(inputs, a, a), pool, *blocks(a, b), pool, *blocks(b, b, c), pool, *blocks(c, d, d)
        )  # fmt: skip
        self.second = nn.Sequential(pool, *blocks(d, d, d))
        self.third = nn.Sequential(pool, *blocks(d, e, e))
        self.joined = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()) for channels in (e, d, d))
        self.classify = nn.Sequential(*blocks(e + 2 * d, e), nn.Conv2d(e, classes, 1, bias=False))
        self.heads = nn.ModuleList(nn.Conv2d(channels, classes, 1) for channels in (e, d, d)) if auxiliary else None
        init_reimplemented(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of the classes, (N, classes, H, W)."""
        return self.levels(image)[0]

    def levels(self, image: Tensor) -> list[Tensor]:
        """Return the logits, and those of the heads of single branches where there are any, deepest first."""
        fourth = self.first(image)
        fifth = self.second(fourth)
        sixth = self.third(fifth)
        size = image.shape[2:]
        branches = [
            norm(interpolate(features, size=size, mode="bilinear", align_corners=False))
            for norm, features in zip(self.joined, (sixth, fifth, fourth), strict=True)
        ]
        heads = [head(branch) for head, branch in zip(self.heads or (), branches, strict=False)]
        return [self.classify(torch.cat(branches, dim=1)), *heads]


class EvaluationNetwork(nn.Module):
    """VGG-like network that scores an image with its segmentation; high scores mean good ones.

    (N, inputs, H, W) to logits (N, 1). The features are averaged to 7 x 7 before the dense layers, so that images have
    any size from 16 on (our choice).

    Args:
        inputs: channels of image and segmentation together.
        width: factor of all numbers of channels, relative to the re-implementation's.
        pooled: size that features are averaged to; None leaves them, for images of ``size``.
        size: rows and columns of the features where they are not averaged.
    """

    def __init__(self, inputs: int, width: float = 1.0, size: Sequence[int] | None = None):
        super().__init__()
        a, b, c, d = (max(1, round(full * width)) for full in (64, 128, 256, 512))
        pool = nn.MaxPool2d(2)
        self.features = nn.Sequential(
            *blocks(inputs, a, a), pool, *blocks(a, b), pool, *blocks(b, c, c), pool, *blocks(c, d, d), pool,
            *blocks(d, d, d),
        )  # fmt: skip
        rows, columns = size or (POOLED, POOLED)
        self.average = nn.Identity() if size else nn.AdaptiveAvgPool2d(POOLED)
        before, dense = d * rows * columns, list[nn.Module]()
        for full in (256, 128, 64):
            hidden = max(4, round(full * width))
            dense += [nn.Linear(before, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
            before = hidden
        self.score = nn.Sequential(nn.Flatten(), *dense, nn.Linear(before, 1))
        init_reimplemented(self)

    def forward(self, image: Tensor) -> Tensor:
        """Score images with segmentations, (N, inputs, H, W); returns logits (N, 1)."""
        return self.score(self.average(self.features(image)))  # type: ignore[no-any-return]


class TwoStemDiscriminator(nn.Module):
    """Evaluation network of SSL4MIS: stems for map and image whose features are summed, and strided convolutions.

    (N, classes, H, W) and (N, inputs, H, W) to two logits (N, 2), the second of a good segmentation.

    Args:
        inputs: channels of the image.
        classes: channels of the map.
        width: channels of the stems.
        dropout: share of feature maps that are dropped after the second and the third convolution.
    """

    def __init__(self, inputs: int, classes: int, width: int = 64, dropout: float = 0.5):
        super().__init__()
        self.map, self.image = (nn.Conv2d(channels, width, 4, 2, 1) for channels in (classes, inputs))
        layers: list[nn.Module] = []
        for level in range(3):
            before = width * 2**level
            layers += [nn.Conv2d(before, 2 * before, 4, 2, 1), nn.LeakyReLU(0.2)]
            if level < 2:
                layers.append(nn.Dropout2d(dropout))
        self.layers = nn.Sequential(*layers, nn.AvgPool2d(7))
        self.score = nn.Linear(8 * width * 4, 2)

    def forward(self, maps: Tensor, image: Tensor) -> Tensor:
        """Score maps of images of 256 x 256 pixels; returns logits (N, 2)."""
        return self.score(self.layers(self.map(maps) + self.image(image)).flatten(1))  # type: ignore[no-any-return]


def init_reimplemented(network: nn.Module) -> None:
    """Draw convolutions from He's normal distribution and dense layers from Xavier's uniform one, in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
