"""Networks for the detection of aggressive prostate cancer: a U-Net, and a discriminator of whole label maps."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ganatomy.nets.aids import normalisation
from ganatomy.nets.scan import init_he

SlopedNorm = Literal["instance", "instance-all", "batch", "none"]
HALVINGS = 4
"""Number of times that the U-Net halves rows and columns."""
GRID = 4
"""Rows and columns of places that the discriminator tells apart."""
TIMES = (1, 2, 4, 8, 8)
"""Channels of the layers of the discriminator relative to those of the first one."""


class TransposedUNet(nn.Module):
    """U-Net that enlarges by transposed convolutions and normalises on its contracting path.

    The contracting levels have instance norms without gain and bias and leaky ReLUs of slope 0.01; the bottom has ReLUs
    and no norm, the expanding levels have leaky ReLUs and no norm. After the public U-Net example of the division of
    medical image computing at the German Cancer Research Center. (N, inputs, H, W) to logits (N, classes, H, W);
    extents are multiples of 16.

    Args:
        inputs: channels of the images.
        classes: number of classes.
        width: channels of the first level; sixteen times as many at the bottom.
        norm: ``instance`` on the contracting path, ``instance-all`` also at the bottom and on the expanding path,
            ``batch`` on the contracting path, or ``none``.
    """

    def __init__(self, inputs: int, classes: int, width: int = 64, norm: SlopedNorm = "instance"):
        super().__init__()
        widths = [width * 2**level for level in range(HALVINGS + 1)]
        everywhere = norm == "instance-all"

        def convolutions(before: int, after: int, normed: bool, slope: float = 0.01) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels in (before, after):
                layers.append(nn.Conv2d(channels, after, 3, padding=1))
                if normed and norm != "none":
                    layers.append(normalisation("batch" if norm == "batch" else "instance", after))
                layers.append(nn.LeakyReLU(slope))
            return nn.Sequential(*layers)

        self.down = nn.ModuleList(
            convolutions(before, after, True) for before, after in zip([inputs, *widths], widths[:-1], strict=False)
        )
        self.bottom = convolutions(widths[-2], widths[-1], everywhere, 0.0)
        self.enlarge = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(2 * channels, channels, 2, 2), nn.ReLU() if place == 0 else nn.Identity())
            for place, channels in enumerate(reversed(widths[:-1]))
        )
        self.up = nn.ModuleList(convolutions(2 * channels, channels, everywhere) for channels in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)
        self.pool = nn.MaxPool2d(2)
        init_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, inputs, H, W) to logits (N, classes, H, W)."""
        skips = []
        for down in self.down:
            image = down(image)
            skips.append(image)
            image = self.pool(image)
        image = self.bottom(image)
        for enlarge, up in zip(self.enlarge, self.up, strict=True):
            image = up(torch.cat([enlarge(image), skips.pop()], 1))
        return self.head(image)  # type: ignore[no-any-return]


class WholeMapDiscriminator(nn.Module):
    """Discriminator that gives a label map, perhaps beside its image, one score for the whole of it.

    Five convolutions of stride 2 with leaky ReLUs, instance norms without gain and bias from the second on, and a
    linear layer on the means of 4 x 4 places. (N, channels, H, W) to (N, 1); H and W are at least 64.

    Args:
        channels: input channels.
        width: channels of the first layer.
        positions: whether the score depends on places; otherwise the features are averaged over the whole map.
    """

    def __init__(self, channels: int, width: int = 64, positions: bool = True):
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for place, times in enumerate(TIMES):
            after = width * times
            layers.append(nn.Conv2d(before, after, 4, 2, 1))
            layers += [normalisation("instance", after)] if place else []
            layers.append(nn.LeakyReLU(0.2))
            before = after
        side = GRID if positions else 1
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(side), nn.Flatten())
        self.score = nn.Linear(before * side**2, 1)
        init_he(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Return scores (N, 1) of maps (N, channels, H, W)."""
        return self.score(self.features(maps))  # type: ignore[no-any-return]
