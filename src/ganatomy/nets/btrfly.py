"""Networks of Btrfly Net: heat maps from two projections, and discriminators that are autoencoders of heat maps."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad


class _Block(nn.Sequential):
    """A convolution of side 3 with ReLU, dropout of single values where there is any, and batch normalisation."""

    def __init__(self, before: int, after: int, dropout: float = 0.0):
        drop = [nn.Dropout(dropout)] if dropout else []
        super().__init__(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), *drop, nn.BatchNorm2d(after))


class _Rise(nn.Module):
    """A transposed convolution that doubles the extents, and a block over it and the features of a finer level."""

    def __init__(self, below: int, beside: int, after: int):
        super().__init__()
        self.up = nn.Sequential(nn.ConvTranspose2d(below, below, 4, 2, 1), nn.ReLU())
        self.block = _Block(below + beside, after)

    def forward(self, below: Tensor, beside: Tensor) -> Tensor:
        """Return features of the extents of ``beside``; the last row or column is dropped where these are odd."""
        rows, columns = beside.shape[2:]
        made: Tensor = self.block(torch.cat([self.up(below)[:, :, :rows, :columns], beside], 1))
        return made


class _Levels(nn.ModuleList):
    """Blocks of the levels of an arm or a wing, in the order in which features pass them."""


class ButterflyNet(nn.Module):
    """Network with an arm for each of two projections on either side of a body that sees both.

    Two images (N, 1, H, W) of one size to two stacks of heat maps (N, outputs, H, W), linear. Odd extents are padded by
    zeros before they are halved.

    Args:
        outputs: channels of both outputs.
        width: channels of the first level of the arms, doubled by each of the five halvings.
        dropout: dropout of the body's descending blocks.
    """

    def __init__(self, outputs: int = 25, width: int = 32, dropout: float = 0.5):
        super().__init__()
        arm, body = [1, width, 2 * width, 4 * width], [8 * width, 8 * width, 16 * width, 32 * width]
        self.arms = nn.ModuleList(_Levels(_Block(a, b) for a, b in pairwise(arm)) for _ in range(2))
        self.body = nn.ModuleList(_Block(a, b, dropout) for a, b in pairwise(body))
        self.rising = nn.ModuleList([_Rise(body[3], body[2], body[2]), _Rise(body[2], body[1], body[2])])
        steps = [(body[2], arm[3], 8 * width), (8 * width, arm[2], 4 * width), (4 * width, arm[1], 2 * width)]
        self.wings = nn.ModuleList(_Levels(_Rise(*step) for step in steps) for _ in range(2))
        self.heads = nn.ModuleList(nn.Conv2d(2 * width, outputs, 1) for _ in range(2))

    def forward(self, sagittal: Tensor, coronal: Tensor) -> tuple[Tensor, Tensor]:
        """Return the heat maps of both projections."""
        skips: list[list[Tensor]] = []
        ends = []
        for arm, features in zip(self.arms, (sagittal, coronal), strict=True):
            assert isinstance(arm, _Levels)
            skips.append([])
            for block in arm:
                skips[-1].append(block(features))
                features = halved(skips[-1][-1])
            ends.append(features)
        upper = self.body[0](torch.cat(ends, 1))
        middle = self.body[1](halved(upper))
        lowest = self.body[2](halved(middle))
        shared = self.rising[1](self.rising[0](lowest, middle), upper)
        made = []
        for wing, own, head in zip(self.wings, skips, self.heads, strict=True):
            assert isinstance(wing, _Levels)
            features = shared
            for step, skip in zip(wing, reversed(own), strict=True):
                features = step(features, skip)
            made.append(head(features))
        return made[0], made[1]


def halved(features: Tensor) -> Tensor:
    """Return the maxima of blocks of 2 x 2 pixels; odd extents are padded by a 0 at their end."""
    rows, columns = features.shape[2:]
    made: Tensor = max_pool2d(pad(features, (0, columns % 2, 0, rows % 2)), 2)
    return made


class EnergyDiscriminator(nn.Module):
    """Autoencoder of a stack of heat maps, whose error is an energy: low where neighbours lie as in true spines.

    Convolutions run along the labels, too, so that a position is judged with those of neighbouring labels, within a
    field of 128 x 128 pixels.

    (N, labels, H, W) to energies (N,). The number of labels is a multiple of 4; H and W are multiples of 8.

    Args:
        width: channels of the widest layers.
    """

    def __init__(self, width: int = 10):
        super().__init__()
        half = width // 2

        def layer(before: int, after: int, dilation: int = 1, halved: bool = False) -> list[nn.Module]:
            convolution = nn.Conv3d(
                before, after, 5, padding=(2, 2 * dilation, 2 * dilation), dilation=(1, dilation, dilation)
            )
            pool = [nn.AvgPool3d(2)] if halved else []
            return [convolution, *pool, nn.LeakyReLU(0.01), nn.BatchNorm3d(after)]

        def rise(before: int, after: int) -> list[nn.Module]:
            return [nn.ConvTranspose3d(before, after, 4, 2, 1), nn.LeakyReLU(0.01), nn.BatchNorm3d(after)]

        self.pool = nn.AvgPool3d((1, 2, 2))
        self.autoencoder = nn.Sequential(
            *layer(1, half),
            *layer(half, width, halved=True),
            *layer(width, width, 2, halved=True),
            *layer(width, width, 2),
            *rise(width, half),
            *rise(half, half),
            nn.Conv3d(half, 1, 1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return the sum of squared errors of every stack, over pooled maps."""
        pooled = self.pool(maps[:, None])
        energy: Tensor = (pooled - self.autoencoder(pooled)).square().flatten(1).sum(1)
        return energy
