"""U-Net generator and discriminator of DAGAN, for the removal of aliasing from undersampled MR images."""

from collections.abc import Sequence
from math import log2, prod

import torch
from torch import Tensor, nn

from ganatomy.nets.layers import BATCH_NORM, CONVOLUTION, TRANSPOSED, Convolution, Transposed, map_norms
from ganatomy.nets.residual import Residual


class DealiasingUNet(nn.Module):
    """U-Net whose inner decoder levels are twice as wide as its encoder; linear output.

    Yang et al., DAGAN, IEEE Trans. Med. Imaging 37(6), 2018, doi 10.1109/TMI.2017.2785879. The shape (N, 1, ...) stays;
    every extent is a multiple of 2**levels, and greater than that in training.

    Args:
        width: channels of the first level; grows to eight times that.
        levels: stride-2 steps; 8 for 256 pixels.
        dims: spatial axes, 1 to 3.
    """

    def __init__(self, width: int = 64, levels: int = 8, dims: int = 2):
        super().__init__()
        down = [width * min(2**level, 8) for level in range(levels)]
        up = [width * (max(1, 2 ** (level - 1)) if level < 4 else 16) for level in range(levels)]
        up[-1] = min(up[-1], 8 * width)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(down):
            plain = level in (0, levels - 1)
            convolution = CONVOLUTION[dims](down[level - 1] if level else 1, channels, 4, 2, 1)
            self.down.append(
                nn.Sequential(convolution, nn.Identity() if plain else BATCH_NORM[dims](channels), nn.LeakyReLU(0.2))
            )
        for level in reversed(range(levels)):
            before = down[level] + (0 if level == levels - 1 else up[level + 1])
            enlarging = TRANSPOSED[dims](before, up[level], 4, 2, 1)
            self.up.append(nn.Sequential(enlarging, BATCH_NORM[dims](up[level]), nn.ReLU()))
        self.head = CONVOLUTION[dims](up[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, 1, ...) to images of the same shape."""
        skips = []
        for down in self.down:
            image = down(image)
            skips.append(image)
        image = self.up[0](skips.pop())
        for up in list(self.up)[1:]:
            image = up(torch.cat([image, skips.pop()], dim=1))
        return self.head(image)  # type: ignore[no-any-return]


class DealiasingDiscriminator(nn.Sequential):
    """DAGAN's discriminator: strided convolutions down to 4 pixels, a residual block and a dense layer.

    Maps (N, 1, *size) to raw scores (N, 1). Yang et al., doi 10.1109/TMI.2017.2785879.

    Args:
        size: extents of the image, one to three; the shortest is a power of two, and the others multiples of a quarter
            of it.
        width: channels of the first layer, doubled by each of the others.
    """

    def __init__(self, size: Sequence[int], width: int = 64):
        dims, strided = len(size), int(log2(min(size))) - 2

        def normed(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
            convolution = CONVOLUTION[dims](before, after, kernel, stride, (kernel - 1) // 2, bias=False)
            return [convolution, BATCH_NORM[dims](after), nn.LeakyReLU(0.2)]

        layers: list[nn.Module] = [CONVOLUTION[dims](1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level in range(1, strided):
            layers += normed(width * 2 ** (level - 1), width * 2**level, 4, 2)
        widest = width * 2 ** (strided - 1)
        half, quarter, few = (max(1, widest // part) for part in (2, 4, 16))
        layers += [*normed(widest, half, 1), *normed(half, quarter, 1)[:-1]]
        branch = nn.Sequential(*normed(quarter, few, 1), *normed(few, few, 3), *normed(few, quarter, 3)[:-1])
        positions = prod(side >> strided for side in size)
        super().__init__(*layers, Residual(branch), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(quarter * positions, 1))


def init_dealiasing(network: nn.Module, width: int = 64) -> None:
    """Draw weights from N(0, 0.01) truncated at two deviations, norm gains from N(1, 0.02); biases are zero. In place.

    In networks narrower than the published one, ``width`` channels instead of 64, weights are larger by √(64 / width),
    which keeps the size of the activations.
    """
    spread = 0.01 * (64 / width) ** 0.5
    norms = map_norms(network)
    for module in network.modules():
        if isinstance(module, Convolution | Transposed):
            nn.init.trunc_normal_(module.weight, 0.0, spread, -2 * spread, 2 * spread)
        elif isinstance(module, norms):
            nn.init.normal_(module.weight, 1.0, 0.02)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)
