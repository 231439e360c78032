"""FCN-4s on VGG-16: a fully convolutional network whose coarse maps of scores are enlarged and added to finer ones."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from ganatomy.errors import UserError
from ganatomy.nets.features import VGG19Features

VGG16_DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions of the five blocks of VGG-16, each of which ends with a pooling."""
VGG16_WIDTHS = (64, 128, 256, 512, 512)
"""Their channels. Simonyan & Zisserman, arXiv 1409.1556."""
VGG16_FILE = "vgg16-397923af.pth"
"""Name of torchvision's file of ImageNet weights, which ends with the first digits of its SHA-256."""
SCORED = 4
"""Number of blocks, counted from the last one, whose pooled maps are scored."""


class FCN4s(nn.Module):
    """Fully convolutional network of stride 4 with a linear output. Long, Shelhamer & Darrell, arXiv 1411.4038.

    The pooled maps of the second to the fifth block of VGG-16 are scored by 1x1 convolutions. Scores are enlarged twice
    by a transposed convolution and added to those of the next finer map, and the sum on the finest one is enlarged four
    times. The dense layers fc6 and fc7 of VGG-16 are left out. (N, inputs, H, W) to (N, outputs, H, W); both extents
    are multiples of 32.

    Args:
        inputs: input channels.
        outputs: output channels.
        widths: channels of the five blocks.
        depths: convolutions of the five blocks.
    """

    def __init__(
        self,
        inputs: int = 3,
        outputs: int = 1,
        widths: Sequence[int] = VGG16_WIDTHS,
        depths: Sequence[int] = VGG16_DEPTHS,
    ):
        super().__init__()
        self.blocks = nn.ModuleList()
        for (before, after), depth in zip(pairwise((inputs, *widths)), depths, strict=True):
            layers: list[nn.Module] = []
            for index in range(depth):
                convolution = nn.Conv2d(before if index == 0 else after, after, 3, padding=1)
                nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
                nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
                layers += [convolution, nn.ReLU()]
            self.blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        scores = [nn.Conv2d(width, outputs, 1) for width in widths[: -SCORED - 1 : -1]]
        for score in scores:
            nn.init.zeros_(score.weight)
            nn.init.zeros_(score.bias)  # type: ignore[arg-type]
        self.scores = nn.ModuleList(scores)
        self.enlarged = nn.ModuleList(enlarging(outputs, factor) for factor in (2, 2, 2, 4))

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        pooled = []
        for block in self.blocks:
            image = block(image)
            pooled.append(image)
        total: Tensor | None = None
        for score, enlarge in zip(self.scores, self.enlarged, strict=True):
            scored = score(pooled.pop())
            total = enlarge(scored if total is None else total + scored)
        assert total is not None
        return total

    def load_vgg16(self, file: Path) -> str:
        """Load the convolutions from torchvision's weights of VGG-16, and return in words which they are.

        Raises:
            UserError: the file does not hold such weights, or this network is not as wide.
        """
        try:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            state = torch.load(file, map_location="cpu", weights_only=True)
            found = [value for key, value in state.items() if key.startswith("features.")]
            own = [value for block in self.blocks for value in block.state_dict().values()]
            if [value.shape for value in found] != [value.shape for value in own]:
                raise ValueError("shapes differ")
        except (OSError, EOFError, AttributeError, RuntimeError, ValueError, TypeError, UnpicklingError) as error:
            raise UserError(
                f"{file}: no weights for the convolutions of this FCN ({type(error).__name__}); give torchvision's "
                f"{VGG16_FILE}, and leave --fcn-widths as they are"
            ) from None
        with torch.no_grad():
            for mine, theirs in zip(own, found, strict=True):
                mine.copy_(theirs)
        return f"vgg16 with the weights sha256:{digest[:12]}"


def as_natural_image(image: Tensor) -> Tensor:
    """Normalise (N, 3, H, W) from [-1, 1] as torchvision's weights for ImageNet expect it."""
    mean, std = (image.new_tensor(values).view(1, 3, 1, 1) for values in (VGG19Features.MEAN, VGG19Features.STD))
    return ((image + 1) / 2 - mean) / std


def enlarging(channels: int, factor: int) -> nn.ConvTranspose2d:
    """Return a transposed convolution that enlarges every channel by itself, at first by bilinear interpolation."""
    layer = nn.ConvTranspose2d(channels, channels, 2 * factor, factor, factor // 2, bias=False)
    places = torch.arange(2 * factor, dtype=torch.float32)
    weights = 1 - (places - (factor - 0.5)).abs() / factor
    with torch.no_grad():
        layer.weight.zero_()
        for channel in range(channels):
            layer.weight[channel, channel] = weights[:, None] * weights
    return layer
