"""Networks that find landmarks and the contour through them, and the discriminator of both."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ganatomy.nets.scan import init_he
from ganatomy.nets.unet import UNet

COLD = -4.0
"""Bias of the maps of landmarks before training, at which a sigmoid is near 0, as most pixels are."""


class LandmarkContourNet(UNet):
    """U-Net with two heads: a heat map of every landmark, and classes of the contour through them.

    (N, inputs, H, W) to two stacks of logits, (N, landmarks, H, W) and (N, 1 + landmarks, H, W); extents are multiples
    of ``2**(levels - 1)``.

    Args:
        inputs: channels of the images.
        landmarks: number of landmarks.
        width: channels of the first level, doubled by every halving.
        levels: number of levels.
    """

    def __init__(self, inputs: int, landmarks: int, width: int = 32, levels: int = 5):
        widths = [width * 2**level for level in range(levels)]
        super().__init__(inputs, 2 * landmarks + 1, widths, widths[-2::-1], slope=0.0, convolved=True)
        self.larger = nn.Upsample(None, 2.0, "bilinear", align_corners=False)
        self.landmarks = landmarks
        init_he(self)
        with torch.no_grad():
            self.head.bias[:landmarks] = COLD  # type: ignore[index]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return the logits of the heat maps and of the classes of the contour."""
        both = super().forward(image)
        return both[:, : self.landmarks], both[:, self.landmarks :]


class StructureDiscriminator(nn.Module):
    """Discriminator that keeps where things are: strided convolutions, a mean over 4 x 4 parts, and one score.

    (N, inputs, H, W) to logits (N, 1); extents are at least 32.

    Args:
        inputs: channels of what it is shown.
        width: channels of the first of five levels, doubled by every halving.
        parts: rows and columns of parts of the image that are averaged.
    """

    def __init__(self, inputs: int, width: int = 32, parts: int = 4):
        super().__init__()
        layers: list[nn.Module] = []
        widths = [inputs, *(width * 2**level for level in range(5))]
        for level, (before, after) in enumerate(pairwise(widths)):
            layers.append(nn.Conv2d(before, after, 4, 2, 1, bias=level == 0))
            layers += [nn.BatchNorm2d(after)] if level else []
            layers.append(nn.LeakyReLU(0.2))
        self.levels = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(parts), nn.Flatten())
        self.score = nn.Linear(widths[-1] * parts**2, 1)

    def forward(self, shown: Tensor) -> Tensor:
        """Score images with their maps."""
        score: Tensor = self.score(self.levels(shown))
        return score
