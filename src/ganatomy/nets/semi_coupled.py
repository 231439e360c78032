"""Networks of semi-coupled GANs: generators that share all layers but the last, and a discriminator with two heads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn

START_BIAS = 0.1
"""Initial bias of convolutions in the released program of CoGAN."""


def init_coupled(network: nn.Module) -> None:
    """Draw weights from Xavier's uniform distribution with gain sqrt(2), and set biases of maps to 0.1. In place.

    As in the released program of CoGAN (Liu & Tuzel, NIPS 2016).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight, sqrt(2))
            if module.bias is not None:
                nn.init.constant_(module.bias, START_BIAS)


class CoupledGenerators(nn.Module):
    """Generators that map one latent vector to an image of each class, and share all layers but the last.

    Layers are transposed convolutions with bias, batch norm without gain and bias, and a PReLU with one slope; the last
    one, of which every class has its own, ends in a tanh.

    Args:
        latent: size of the latent vectors.
        channels: image channels.
        size: rows and columns, multiples of two to the power of the number of widths.
        widths: channels of the shared layers; the first makes the smallest maps, every other one doubles them.
        classes: number of classes.
    """

    def __init__(self, latent: int, channels: int, size: Sequence[int], widths: Sequence[int], classes: int):
        super().__init__()
        base = [extent // 2 ** len(widths) for extent in size]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, widths[0], (base[0], base[1]))]
        layers += [nn.BatchNorm2d(widths[0], affine=False), nn.PReLU()]
        for before, after in pairwise(widths):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.BatchNorm2d(after, affine=False), nn.PReLU()]
        self.shared = nn.Sequential(*layers)
        self.private = nn.ModuleList(nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1) for _ in range(classes))
        init_coupled(self)

    def forward(self, latent: Tensor) -> Tensor:
        """Map latent vectors (n, latent) to images (classes * n, channels, rows, columns), class after class."""
        maps = self.shared(latent[:, :, None, None])
        return torch.cat([own(maps) for own in self.private]).tanh()


class TwoHeads(nn.Module):
    """Discriminator of strided convolutions with a head for real images and one for classes.

    Layers are convolutions with bias, batch norm in all but the first, and leaky ReLUs with slope 0.2.

    Args:
        channels: image channels.
        size: rows and columns, multiples of two to the power of the number of widths.
        widths: channels of the convolutions, each of which halves the maps.
        classes: number of logits of the classes.
        realness: whether there is a head for real images.
    """

    def __init__(self, channels: int, size: Sequence[int], widths: Sequence[int], classes: int, realness: bool = True):
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise([channels, *widths])):
            layers.append(nn.Conv2d(before, after, 4, 2, 1))
            layers += [nn.BatchNorm2d(after)] if number else []
            layers.append(nn.LeakyReLU(0.2))
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        rows, columns = (extent // 2 ** len(widths) for extent in size)
        features = widths[-1] * rows * columns
        self.realness = nn.Linear(features, 1) if realness else None
        self.classes = nn.Linear(features, classes)
        init_coupled(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (n, channels, rows, columns) to logits of being real (n,), and of the classes (n, classes).

        Without a head for real images, their logits are those of any class against none: log of the sum of exp.
        """
        features = self.trunk(image)
        classes = self.classes(features)
        real = classes.logsumexp(1) if self.realness is None else self.realness(features)[:, 0]
        return real, classes
