"""Networks of the structure correcting adversarial network for chest radiographs. Dai et al., arXiv 1703.08770."""

from __future__ import annotations

from torch import Tensor, nn

from ganatomy.nets.residual import Residual

SHRINKING = (((7, 1), (3, 1)), ((3, 2),), ((3, 4),), ((3, 8),))
"""Residual blocks before each halving, as side of the kernels and channels relative to the first block."""
DEEPEST = (1, 3, 1, 3, 1)
"""Sides of the kernels of the blocks behind the last halving."""
SQUEEZED = 4
"""Channels that are enlarged to the size of the image."""
STRIDE = 16
"""Pixels of the image for each pixel of the deepest feature maps."""


def block(before: int, after: int, kernel: int) -> nn.Sequential:
    """Build a residual block of two convolutions with batch norm, which widens in the first of them.

    Args:
        before: input channels.
        after: output channels; where they differ from the input's, the shortcut is a 1x1 convolution without norm.
        kernel: side of the convolutions.
    """
    branch = nn.Sequential(
        nn.Conv2d(before, after, kernel, padding=kernel // 2),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.Conv2d(after, after, kernel, padding=kernel // 2),
        nn.BatchNorm2d(after),
    )
    shortcut = nn.Conv2d(before, after, 1) if before != after else None
    return nn.Sequential(Residual(branch, shortcut), nn.ReLU())


def encoder(inputs: int, width: int) -> nn.Sequential:
    """Build the narrow, deep path (N, inputs, H, W) to (N, 8·width, H/16, W/16), which halves by average pooling."""
    layers: list[nn.Module] = []
    before = inputs
    for level in SHRINKING:
        for kernel, times in level:
            layers.append(block(before, times * width, kernel))
            before = times * width
        layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers, *(block(before, before, kernel) for kernel in DEEPEST))


class ScanSegmentor(nn.Sequential):
    """Fully convolutional network for few training images: few channels, many layers, one large enlargement.

    (N, inputs, H, W) to logits (N, classes, H, W); extents are multiples of 16.

    Args:
        inputs: channels of the images.
        classes: number of classes, with the background.
        width: channels at full size; eight times as many at a sixteenth of it.
    """

    def __init__(self, inputs: int, classes: int, width: int = 8):
        deepest = nn.Conv2d(8 * width, SQUEEZED, 1)
        enlarge = nn.ConvTranspose2d(SQUEEZED, classes, 2 * STRIDE, STRIDE, STRIDE // 2)
        super().__init__(encoder(inputs, width), deepest, enlarge)
        init_he(self)


class ScanCritic(nn.Module):
    """Critic that judges label maps as a whole: the path of the segmentor, a mean over all places, one score.

    Args:
        inputs: channels of the maps, and of the images where the critic sees them.
        width: channels at full size.
    """

    def __init__(self, inputs: int, width: int = 8):
        super().__init__()
        self.encoder = encoder(inputs, width)
        self.score = nn.Linear(8 * width, 1)
        init_he(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Score maps (N, inputs, H, W); logits (N, 1)."""
        features: Tensor = self.encoder(maps)
        score: Tensor = self.score(features.mean((2, 3)))
        return score


def init_he(network: nn.Module) -> None:
    """Draw weights by the rule of He et al., arXiv 1502.01852; biases are zero. In place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
