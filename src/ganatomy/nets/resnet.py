"""The trunk of ResNet-50, and the search for its published weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ganatomy.errors import UserError
from ganatomy.nets.features import weights_folder

RESNET50_ADDRESS = "https://download.pytorch.org/models/resnet50-0676ba61.pth"
RESNET50_SHA256 = "0676ba61"
"""First digits of the SHA-256 of this file, which PyTorch publishes as a part of its name."""
SUBSTITUTE = "resnet50 with random first weights, a substitute for those of ImageNet"
IMAGENET_WEIGHTS = "resnet50 with ImageNet weights"
WIDTH, BLOCKS = 64, (3, 4, 6, 3)
"""Channels of the first convolution, and numbers of blocks, of ResNet-50."""

TrunkSource = Literal["auto", "imagenet", "random"]
"""First weights of a trunk: those of ImageNet where they are on this machine, else random ones; those of ImageNet;
random ones."""


class Bottleneck(nn.Module):
    """Residual block of three convolutions, of which the middle one is narrow and may halve the size."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        after = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after)
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            if stride > 1 or before != after
            else nn.Identity()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, before, H, W) to (N, 4 · width, H, W), or to half of the size."""
        inside = torch.relu(self.bn1(self.conv1(features)))
        inside = torch.relu(self.bn2(self.conv2(inside)))
        return torch.relu(self.bn3(self.conv3(inside)) + self.downsample(features))


class Stages(NamedTuple):
    """Feature maps of a trunk, from fine to coarse."""

    stem: Tensor
    """Behind the first convolution, at half of the size."""
    pooled: Tensor
    """The stem at a quarter of the size."""
    layer1: Tensor
    layer2: Tensor
    layer3: Tensor
    layer4: Tensor
    """At 1/32 of the size."""


class ResNetTrunk(nn.Module):
    """ResNet-50 without its classifier; names of weights are those of torchvision. He et al., arXiv 1512.03385.

    Args:
        inputs: channels of the images.
        width: channels of the first convolution; layer4 has 32 times as many.
        blocks: bottlenecks of the four layers.
    """

    def __init__(self, inputs: int = 3, width: int = WIDTH, blocks: Sequence[int] = BLOCKS):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1)
        before, layers = width, []
        for level, count in enumerate(blocks):
            inner, parts = width * 2**level, []
            for place in range(count):
                parts.append(Bottleneck(before, inner, 2 if place == 0 and level else 1))
                before = 4 * inner
            layers.append(nn.Sequential(*parts))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.channels = dict(zip(Stages._fields, (width, width, *(4 * width * 2**n for n in range(4))), strict=True))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Stages:
        """Return the feature maps of images (N, inputs, H, W)."""
        stem = torch.relu(self.bn1(self.conv1(image)))
        found = [stem, self.pool(stem)]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            found.append(layer(found[-1]))
        return Stages(*found)


def resnet50_file() -> Path:
    """Return the path at which torchvision's ResNet-50 weights are looked for, whether they are there or not."""
    return weights_folder() / Path(RESNET50_ADDRESS).name


def load_imagenet(trunk: ResNetTrunk, file: Path) -> None:
    """Load torchvision's ResNet-50 weights into a trunk of the published widths.

    Raises:
        UserError: the file is not torchvision's, or the trunk is a smaller one.
    """
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if not digest.startswith(RESNET50_SHA256):
            raise UserError(f"{file}: not torchvision's ResNet-50 weights, or damaged; delete it, and copy it anew")
        state = torch.load(file, map_location="cpu", weights_only=True)
        trunk.load_state_dict({key: state[key] for key in trunk.state_dict() if key in state}, strict=False)
    except (OSError, EOFError, RuntimeError, ValueError, TypeError, UnpicklingError) as error:
        raise UserError(f"{file}: not torchvision's ResNet-50 weights ({type(error).__name__})") from None
