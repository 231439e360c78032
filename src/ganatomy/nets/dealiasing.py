"""The U-Net and the discriminator of DAGAN, for images whose aliasing is removed."""

from math import log2

import torch
from torch import Tensor, nn

from ganatomy.nets.residual import Residual


class DealiasingUNet(nn.Module):
    """A U-Net whose inner decoder is twice as wide as its encoder; linear output.

    Yang et al., DAGAN, IEEE Trans. Med. Imaging 37(6), 2018, doi 10.1109/TMI.2017.2785879. (N, 1, H, W) to the same; H
    and W are multiples of 2**levels, and greater than that in training.

    Args:
        width: channels of the first level; grows to eight times that.
        levels: stride-2 steps; 8 for 256 pixels.
    """

    def __init__(self, width: int = 64, levels: int = 8):
        super().__init__()
        down = [width * min(2**level, 8) for level in range(levels)]
        up = [width * (max(1, 2 ** (level - 1)) if level < 4 else 16) for level in range(levels)]
        up[-1] = min(up[-1], 8 * width)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, channels in enumerate(down):
            plain = level in (0, levels - 1)
            convolution = nn.Conv2d(down[level - 1] if level else 1, channels, 4, 2, 1)
            self.down.append(
                nn.Sequential(convolution, nn.Identity() if plain else nn.BatchNorm2d(channels), nn.LeakyReLU(0.2))
            )
        for level in reversed(range(levels)):
            before = down[level] + (0 if level == levels - 1 else up[level + 1])
            enlarging = nn.ConvTranspose2d(before, up[level], 4, 2, 1)
            self.up.append(nn.Sequential(enlarging, nn.BatchNorm2d(up[level]), nn.ReLU()))
        self.head = nn.Conv2d(up[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 1, H, W) to the same."""
        skips = []
        for down in self.down:
            image = down(image)
            skips.append(image)
        image = self.up[0](skips.pop())
        for up in list(self.up)[1:]:
            image = up(torch.cat([image, skips.pop()], dim=1))
        return self.head(image)  # type: ignore[no-any-return]


class DealiasingDiscriminator(nn.Sequential):
    """Strided convolutions down to 4 pixels, a residual block and a dense layer; raw scores (N, 1) of (N, 1, *size).

    Source as above.

    Args:
        size: rows and columns; the shorter side is a power of two, and the longer a multiple of a quarter of it.
        width: channels of the first layer, doubled by each of the others.
    """

    def __init__(self, size: tuple[int, int], width: int = 64):
        strided = int(log2(min(size))) - 2
        layers: list[nn.Module] = [nn.Conv2d(1, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for level in range(1, strided):
            layers += _normed(width * 2 ** (level - 1), width * 2**level, 4, 2)
        widest = width * 2 ** (strided - 1)
        half, quarter, few = (max(1, widest // part) for part in (2, 4, 16))
        layers += [*_normed(widest, half, 1), *_normed(half, quarter, 1)[:-1]]
        branch = nn.Sequential(*_normed(quarter, few, 1), *_normed(few, few, 3), *_normed(few, quarter, 3)[:-1])
        positions = (size[0] >> strided) * (size[1] >> strided)
        super().__init__(*layers, Residual(branch), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(quarter * positions, 1))


def _normed(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]


def init_dealiasing(network: nn.Module, width: int = 64) -> None:
    """N(0, 0.01) weights truncated at two deviations, N(1, 0.02) norm gains and zero biases, in place.

    Narrower networks than the published one, of ``width`` channels instead of 64, get weights as much larger as keeps
    the size of the activations.
    """
    spread = 0.01 * (64 / width) ** 0.5
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.trunc_normal_(module.weight, 0.0, spread, -2 * spread, 2 * spread)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)
