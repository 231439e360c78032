"""Networks of DI2IN-AN: an encoder-decoder of volumes with outputs at several levels, and its discriminator."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganatomy.nets.layers import Convolution


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    """Build a convolution of side 3 with batch normalisation and leaky ReLU."""
    return nn.Sequential(nn.Conv3d(before, after, 3, stride, 1, bias=False), nn.BatchNorm3d(after), nn.LeakyReLU(0.01))


class DI2IN(nn.Module):
    """Deep image-to-image network: halved by convolutions, enlarged linearly, with skips and an output at every level.

    (N, inputs, D, H, W) to logits (N, outputs, D, H, W), one for every decoder level, the coarsest first. Logits of
    coarse levels are enlarged linearly to the full size. Any extents are accepted; multiples of 8 are halved exactly.

    Args:
        inputs: input channels.
        outputs: output channels.
        widths: channels of the levels, the finest first.
    """

    def __init__(self, inputs: int = 1, outputs: int = 1, widths: Sequence[int] = (16, 32, 64, 128)):
        super().__init__()
        first = nn.Sequential(_block(inputs, widths[0]), _block(widths[0], widths[0]))
        deeper = (nn.Sequential(_block(a, b, 2), _block(b, b)) for a, b in pairwise(widths))
        self.encoder = nn.ModuleList([first, *deeper])
        rising = [*pairwise(widths)][::-1]
        self.decoder = nn.ModuleList(nn.Sequential(_block(a + b, a), _block(a, a)) for a, b in rising)
        self.heads = nn.ModuleList(nn.Conv3d(a, outputs, 1) for a, _ in rising)
        _init_he(self)
        for head in self.heads:
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, volume: Tensor) -> list[Tensor]:
        """Return the logits of every level at full size; the last are those of the main output."""
        skips: list[Tensor] = []
        features = volume
        for level in self.encoder:
            features = level(features)
            skips.append(features)
        skips.pop()
        logits = []
        for level, head in zip(self.decoder, self.heads, strict=True):
            skip = skips.pop()
            features = level(torch.cat([skip, _enlarged(features, skip)], 1))
            # Logits are enlarged and not probabilities, whose linear interpolation would blur the border.
            logits.append(_enlarged(head(features), volume))
        return logits


class MaskDiscriminator(nn.Sequential):
    """Classifier of masks alone, true or predicted; (N, regions, D, H, W) to logits (N, 1).

    Args:
        regions: input channels.
        widths: channels of the layers, each of which halves the extents.
    """

    def __init__(self, regions: int = 1, widths: Sequence[int] = (32, 64, 128, 256)):
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise([regions, *widths])):
            norm = [nn.BatchNorm3d(after)] if index else []
            layers += [nn.Conv3d(before, after, 3, 2, 1, bias=not index), *norm, nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(widths[-1], 1))
        _init_he(self)


def _enlarged(features: Tensor, like: Tensor) -> Tensor:
    """Interpolate feature maps linearly to the extents of others."""
    if features.shape[2:] == like.shape[2:]:
        return features
    return interpolate(features, like.shape[2:], mode="trilinear", align_corners=False)


def _init_he(network: nn.Module) -> None:
    """Draw the weights of convolutions as He et al., arXiv 1502.01852; biases and norms keep torch's, in place."""
    for module in network.modules():
        if isinstance(module, Convolution):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
