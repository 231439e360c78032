"""U-Nets used by several methods."""

import torch
from torch import Tensor, nn

from ganatomy.nets.aids import Norm, normalisation


class Pix2PixUNet(nn.Module):
    """The U-Net-256 of pix2pix: strided convolutions down to one pixel, skips at every level, no output activation.

    Isola et al., arXiv 1611.07004. Input and output (N, C, H, W); H and W are multiples of 2**levels.

    Args:
        inputs: input channels.
        outputs: output channels.
        width: channels of the first level; grows to eight times that.
        levels: stride-2 steps; 8 for 256 pixels.
        norm: ``batch`` or ``instance``; only the last convolution has a bias.
        dropout: rate in the three innermost of the full-width decoder levels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int = 64,
        levels: int = 8,
        norm: Norm = "batch",
        dropout: float = 0.5,
    ):
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(levels)]
        innermost = levels - 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(widths):
            plain = level in (0, innermost)
            activation = [] if level == 0 else [nn.LeakyReLU(0.2)]
            convolution = nn.Conv2d(inputs if level == 0 else widths[level - 1], channels, 4, 2, 1, bias=False)
            self.down.append(
                nn.Sequential(*activation, convolution, *([] if plain else [normalisation(norm, channels)]))
            )
        for level in reversed(range(levels)):
            before = widths[level] * (1 if level == innermost else 2)
            after = outputs if level == 0 else widths[level - 1]
            layers: list[nn.Module] = [nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=level == 0)]
            if level > 0:
                layers.append(normalisation(norm, after))
                if level > innermost - 3 and widths[level - 1] == widths[-1] and dropout:
                    layers.append(nn.Dropout(dropout))
            self.up.append(nn.Sequential(*layers))

    def forward(self, image: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        skips = []
        for down in self.down:
            image = down(image)
            skips.append(image)
        image = self.up[0](skips.pop())
        for up in list(self.up)[1:]:
            image = up(torch.cat([image, skips.pop()], dim=1))
        return image


class ConvUNet(nn.Module):
    """A plain U-Net: two 3x3 convolutions a level, leaky ReLUs, max pooling, nearest up-sampling, linear output.

    After Ronneberger et al., arXiv 1505.04597, with padding. H and W are multiples of 2**(levels - 1).
    """

    def __init__(self, inputs: int, outputs: int, width: int = 32, levels: int = 4):
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(
            self._double(before, after) for before, after in zip([inputs, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            self._double(widths[level] + widths[level - 1], widths[level - 1]) for level in range(levels - 1, 0, -1)
        )
        self.head = nn.Conv2d(width, outputs, 1)

    @staticmethod
    def _double(before: int, after: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H, W)."""
        skips: list[Tensor] = []
        for down in self.down:
            image = down(nn.functional.max_pool2d(image, 2) if skips else image)
            skips.append(image)
        skips.pop()
        for up in self.up:
            image = nn.functional.interpolate(image, scale_factor=2.0, mode="nearest")
            image = up(torch.cat([image, skips.pop()], dim=1))
        return self.head(image)  # type: ignore[no-any-return]
