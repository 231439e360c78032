"""Multi-scale residual U-Net for clusters of cells, and a discriminator of images with their masks.

The layers are our choice, since the paper names the building blocks only: long skips that concatenate, short residual
skips, and features of the image at several scales. Sadanandan et al., ICCV Workshops 2017.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

SCALED = 16
"""Channels of the features of the image at a smaller scale."""
LEVELS = 4
"""Levels of the network, each of half the size of the one before."""


def convolved(before: int, after: int) -> nn.Sequential:
    """Return a 3 x 3 convolution without bias, batch norm and ReLU."""
    return nn.Sequential(nn.Conv2d(before, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


class ResidualBlock(nn.Module):
    """ReLU(BN(conv(ReLU(BN(conv x)))) + x), with a 1 x 1 convolution of x where the number of channels changes."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.branch = nn.Sequential(
            convolved(before, after), nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        )
        self.shortcut = nn.Conv2d(before, after, 1, bias=False) if before != after else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, before, H, W) to (N, after, H, W)."""
        return torch.relu(self.branch(features) + self.shortcut(features))


class MultiScaleUNet(nn.Module):
    """U-Net of residual blocks, (N, inputs, H, W) to logits (N, 1, H, W); extents are multiples of 8.

    At half and quarter size, features of the averaged image join those of the encoder. The decoder has a head at each
    of its three levels, and a 1 x 1 convolution fuses their enlarged logits.

    Args:
        inputs: input channels.
        width: channels at full size; they double at every level.
        several: whether the image is seen at several scales, and heads at several levels are fused; otherwise it is a
            residual U-Net with one head.
    """

    def __init__(self, inputs: int, width: int = 32, several: bool = True):
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.several = several
        self.scaled = nn.ModuleDict({str(level): convolved(inputs, SCALED) for level in (1, 2)} if several else {})
        self.encoder, before = nn.ModuleList(), inputs
        for level, channels in enumerate(widths):
            joined = SCALED if str(level) in self.scaled else 0
            blocks = ResidualBlock(before + joined, channels), ResidualBlock(channels, channels)
            self.encoder.append(nn.Sequential(*blocks))
            before = channels
        self.up, self.decoder, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for deeper, channels in pairwise(reversed(widths)):
            self.up.append(convolved(deeper, channels))
            blocks = ResidualBlock(2 * channels, channels), ResidualBlock(channels, channels)
            self.decoder.append(nn.Sequential(*blocks))
            if several or channels == width:
                self.heads.append(nn.Conv2d(channels, 1, 1))
        self.fuse = nn.Conv2d(len(self.heads), 1, 1) if several else nn.Identity()
        init_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to logits (N, 1, H, W)."""
        skips: list[Tensor] = []
        features = image
        for level, blocks in enumerate(self.encoder):
            if level:
                features = max_pool2d(features, 2)
            if str(level) in self.scaled:
                features = torch.cat([features, self.scaled[str(level)](avg_pool2d(image, 2**level))], dim=1)
            features = blocks(features)
            skips.append(features)
        maps = []
        for place, (up, blocks) in enumerate(zip(self.up, self.decoder, strict=True)):
            enlarged = up(interpolate(features, scale_factor=2, mode="bilinear", align_corners=False))
            features = blocks(torch.cat([skips[-2 - place], enlarged], dim=1))
            maps.append(features)
        seen = maps if self.several else maps[-1:]
        logits = [head(one) for head, one in zip(self.heads, seen, strict=True)]
        full = image.shape[2:]
        whole = [interpolate(one, size=full, mode="bilinear", align_corners=False) for one in logits]
        return self.fuse(torch.cat(whole, dim=1))  # type: ignore[no-any-return]


class MaskDiscriminator(nn.Sequential):
    """Scores of images with their masks: four convolutions of stride 2, the mean over the image, and a linear layer.

    (N, inputs, H, W) to logits (N, 1).

    Args:
        inputs: channels of images and masks together.
        width: channels of the first layer; they double at every layer.
    """

    def __init__(self, inputs: int, width: int = 32):
        layers: list[nn.Module] = []
        before = inputs
        for level in range(4):
            channels = width * 2**level
            norm = [nn.BatchNorm2d(channels)] if level else []
            layers += [nn.Conv2d(before, channels, 3, 2, 1, bias=not level), *norm, nn.LeakyReLU(0.2)]
            before = channels
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1))


def init_he(network: nn.Module) -> None:
    """Draw the weights of convolutions from He's normal distribution, in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
