"""ResNet-34 as a classifier of images, with the features before its last layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

WIDTH, BLOCKS = 64, (3, 4, 6, 3)
"""Channels of the first convolution, and numbers of blocks, of ResNet-34."""
POOLED = 7
"""Side of the window of the average pooling; smaller maps are pooled to two positions a side."""


class BasicBlock(nn.Module):
    """Residual block of two convolutions, of which the first may halve the size."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            if stride > 1 or before != after
            else nn.Identity()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, before, H, W) to (N, after, H, W), or to half of the size."""
        inside = torch.relu(self.bn1(self.conv1(features)))
        return torch.relu(self.bn2(self.conv2(inside)) + self.downsample(features))


class ResNet34Classifier(nn.Module):
    """Classifier of images of a fixed size by ResNet-34, whose features keep two or more positions a side.

    He et al., arXiv 1512.03385.

    Args:
        inputs: channels of the images.
        classes: number of classes.
        size: rows and columns of the images.
        width: channels of the first convolution.
        blocks: residual blocks of each layer, after the first of which every layer halves the size.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        size: Sequence[int],
        width: int = WIDTH,
        blocks: Sequence[int] = BLOCKS,
    ):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        before, layers = width, []
        for level, count in enumerate(blocks):
            after, parts = width * 2**level, []
            for place in range(count):
                parts.append(BasicBlock(before, after, 2 if place == 0 and level else 1))
                before = after
            layers.append(nn.Sequential(*parts))
        self.layers = nn.Sequential(*layers)
        sides = [-(-extent // 2 ** (len(blocks) + 1)) for extent in size]
        windows = [max(1, min(POOLED, side - 1)) for side in sides]
        self.average = nn.AvgPool2d((windows[0], windows[1]), 1)
        positions = [side - window + 1 for side, window in zip(sides, windows, strict=True)]
        self.width = before * positions[0] * positions[1]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.fc = nn.Linear(self.width, classes)

    def features(self, images: Tensor) -> Tensor:
        """Map images (N, inputs, H, W) to features (N, width)."""
        maps = self.pool(torch.relu(self.bn1(self.conv1(images))))
        return self.average(self.layers(maps)).flatten(1)  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, inputs, H, W) to logits (N, classes)."""
        return self.fc(self.features(images))  # type: ignore[no-any-return]
