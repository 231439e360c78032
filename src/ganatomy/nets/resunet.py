"""Residual U-Net with pre-activated blocks, after the one for optic disc and cup.

Shankaranarayana et al., LNCS 10554:168-176, 2017, doi:10.1007/978-3-319-67561-9_19, state residual blocks in a U-Net;
widths and the ways between levels are our choice.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganatomy.nets.residual import Residual


class ResUNet(nn.Module):
    """U-Net of residual blocks, with strided convolutions between its levels and linear output.

    (N, inputs, H, W) to (N, outputs, H, W); H and W are multiples of ``2**(len(widths) - 1)``.

    Args:
        inputs: input channels.
        outputs: output channels.
        widths: channels of every level, the bottleneck last.
    """

    def __init__(self, inputs: int, outputs: int, widths: Sequence[int] = (64, 128, 256, 512, 512)):
        super().__init__()
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(preactivated(width, width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(before, after, 4, 2, 1) for before, after in pairwise(widths))
        steps = [*pairwise(reversed(widths))]
        self.up = nn.ModuleList(nn.ConvTranspose2d(before, after, 4, 2, 1) for before, after in steps)
        self.decoder = nn.ModuleList(preactivated(2 * after, after) for _, after in steps)
        self.head = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        features = self.encoder[0](self.stem(image))
        skips = []
        for down, block in zip(self.down, list(self.encoder)[1:], strict=True):
            skips.append(features)
            features = block(down(features))
        for up, block in zip(self.up, self.decoder, strict=True):
            features = block(torch.cat([up(features), skips.pop()], dim=1))
        return self.head(features)  # type: ignore[no-any-return]


def preactivated(before: int, after: int) -> Residual:
    """Build a residual block of two convolutions, each after a batch norm and a ReLU.

    The shortcut is a convolution of side 1 where the widths differ. He et al., arXiv 1603.05027.
    """
    branch = nn.Sequential(
        *(nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, after, 3, padding=1)),
        *(nn.BatchNorm2d(after), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1)),
    )
    return Residual(branch, None if before == after else nn.Conv2d(before, after, 1))
