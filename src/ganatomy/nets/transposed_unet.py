"""U-Net with max pooling and transposed convolutions."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ganatomy.nets.aids import Norm, normalisation
from ganatomy.nets.layers import CONVOLUTION, MAX_POOL, TRANSPOSED


class TransposedUNet(nn.Module):
    """U-Net with two convolutions of side 3 per level, max pooling, and transposed convolutions of side 2; no output
    activation.

    After Ronneberger et al., arXiv 1505.04597, and Çiçek et al., arXiv 1606.06650. (N, inputs, ...) to (N, outputs,
    ...). Extents that are no multiples of ``2**(len(widths) - 1)`` are padded at their ends by repeating the last
    voxels, and cropped again.

    Args:
        inputs: input channels.
        outputs: output channels.
        widths: channels of every level, the finest first.
        norm: normalisation after every convolution, with gain and bias.
        biased: whether convolutions have a bias before a normalisation, too.
        dropout: dropout rate after the deepest level.
        dims: spatial axes, 1 to 3.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        widths: Sequence[int] = (32, 64, 128, 256),
        norm: Norm = "instance",
        biased: bool = True,
        dropout: float = 0.0,
        dims: int = 3,
    ):
        super().__init__()
        self.multiple = 2 ** (len(widths) - 1)
        bias = biased or norm == "none"

        def level(before: int, after: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels in (before, after):
                layers += [
                    CONVOLUTION[dims](channels, after, 3, padding=1, bias=bias),
                    normalisation(norm, after, dims, scaled=True),
                    nn.ReLU(),
                ]
            return nn.Sequential(*layers)

        self.down = nn.ModuleList(level(before, after) for before, after in pairwise((inputs, *widths)))
        self.dropout = nn.Dropout(dropout)
        rising = list(pairwise(widths))[::-1]
        self.larger = nn.ModuleList(TRANSPOSED[dims](coarse, fine, 2, 2) for fine, coarse in rising)
        self.up = nn.ModuleList(level(2 * fine, fine) for fine, _ in rising)
        self.pool = MAX_POOL[dims](2)
        self.head = CONVOLUTION[dims](widths[0], outputs, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, ...) to (N, outputs, ...) of the same extents."""
        extents = image.shape[2:]
        extra = [-extent % self.multiple for extent in extents]
        if any(extra):
            image = pad(image, [side for length in reversed(extra) for side in (0, length)], mode="replicate")
        skips: list[Tensor] = []
        for down in self.down:
            image = down(self.pool(image) if skips else image)
            skips.append(image)
        image = self.dropout(skips.pop())
        for larger, up in zip(self.larger, self.up, strict=True):
            image = up(torch.cat([skips.pop(), larger(image)], dim=1))
        made: Tensor = self.head(image)
        for axis, extent in enumerate(extents, start=2):
            made = made.narrow(axis, 0, extent)
        return made
