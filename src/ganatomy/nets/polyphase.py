"""U-Net whose pooling loses nothing: images are split into sub-lattices and put together again. Kim & Ye, MIDL 2018."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganatomy.nets.aids import Activation, activation_layer
from ganatomy.nets.layers import ChannelShuffle


class PolyphaseUNet(nn.Module):
    """U-Net with the polyphase transform in place of pooling, and its inverse in place of unpooling.

    Halving makes channels of the four sub-lattices of every map, so that no detail is discarded and signs stay; four
    maps of half the size become one map of the full size by the inverse. Layers and channels are our choice.
    (N, inputs, H, W) to (N, outputs, H, W); extents are multiples of ``2 ** (len(widths) - 1)``.

    Args:
        inputs: input channels.
        outputs: output channels.
        widths: channels of each level, from full size to the coarsest.
        output: activation of the output.
    """

    def __init__(
        self, inputs: int, outputs: int, widths: Sequence[int] = (64, 128, 256, 512), output: Activation = "linear"
    ):
        super().__init__()
        self.split, self.join = nn.PixelUnshuffle(2), ChannelShuffle((2, 2))
        entering = [inputs, *(4 * width for width in widths[:-1])]
        self.down = nn.ModuleList(convolutions(before, width) for before, width in zip(entering, widths, strict=True))
        # No activation precedes the inverse transform, which therefore acts on numbers of both signs.
        self.enlarging = nn.ModuleList(nn.Conv2d(low, 4 * high, 3, padding=1) for high, low in pairwise(widths))
        self.up = nn.ModuleList(convolutions(2 * width, width) for width in widths[:-1])
        self.head = nn.Sequential(nn.Conv2d(widths[0], outputs, 1), activation_layer(output))

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        skips: list[Tensor] = []
        for down in self.down:
            image = down(self.split(image) if skips else image)
            skips.append(image)
        image = skips.pop()
        for enlarging, up in zip(reversed(self.enlarging), reversed(self.up), strict=True):
            image = up(torch.cat([skips.pop(), self.join(enlarging(image))], dim=1))
        found: Tensor = self.head(image)
        return found


def convolutions(before: int, after: int) -> nn.Sequential:
    """Build two 3x3 convolutions, each followed by batch norm and ReLU, the first of which changes the channels."""
    layers: list[nn.Module] = []
    for entering in (before, after):
        layers += [nn.Conv2d(entering, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)
