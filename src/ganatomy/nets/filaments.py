"""Generator and discriminator of Fila-GAN, which draw images of filaments from a map of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganatomy.nets.aids import OwnBatchNorm2d


def shift_only(channels: int) -> OwnBatchNorm2d:
    """Return a batch normalisation with a learned shift and no scale, as TensorFlow's slim has it; epsilon is 1e-3."""
    norm = OwnBatchNorm2d(channels, eps=1e-3)
    norm.register_parameter("weight", None)
    return norm


def init_truncated(network: nn.Module, spread: float) -> None:
    """Draw all weights from N(0, ``spread``²), cut at twice that, in place; biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, 0.0, spread, -2 * spread, 2 * spread)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class FilamentGenerator(nn.Module):
    """U-Net whose bottleneck is made from noise alone, so that the map enters by the skips only.

    Zhao, Li & Cheng, arXiv 1706.02185, as in the authors' release. The first map of the encoder and that of the noise
    pass a leaky ReLU twice, since they are stored behind it. The output has no activation.

    Args:
        inputs: input channels.
        outputs: output channels.
        size: rows and columns, multiples of ``2**(levels + 1)``. The noise passes a dense layer; for images of
            another size, such multiples too, its map is enlarged to the nearest pixels (our choice).
        latent: size of the noise vector.
        width: channels of the first level; grows to eight times that.
        levels: strided convolutions; 6 in the paper.
    """

    def __init__(
        self, inputs: int, outputs: int, size: Sequence[int], latent: int = 400, width: int = 64, levels: int = 6
    ):
        super().__init__()
        self.size, self.base = tuple(size), tuple(extent // 2 ** (levels + 1) for extent in size)
        widths = [width * min(2**level, 8) for level in range(levels)]
        self.down = nn.ModuleList()
        for level, channels in enumerate(widths):
            before = inputs if level == 0 else widths[level - 1]
            convolution = nn.Conv2d(before, channels, 4, 2, 1, bias=level == 0)
            last = nn.LeakyReLU(0.2) if level == 0 else shift_only(channels)
            first = [] if level == 0 else [nn.LeakyReLU(0.2)]
            self.down.append(nn.Sequential(*first, convolution, last))
        self.noise = nn.Linear(latent, width * self.base[0] * self.base[1])
        self.up = nn.ModuleList()
        before = width
        for step in range(levels):
            after = width * min(2 ** (step + 1), 2 ** (levels - 1 - step), 8)
            activation = nn.LeakyReLU(0.2) if step < levels // 2 else nn.ReLU()
            transposed = nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)
            self.up.append(nn.Sequential(activation, transposed, shift_only(after)))
            before = after + widths[-1 - step]
        self.last = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(before, outputs, 4, 2, 1))
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, image: Tensor, latent: Tensor) -> Tensor:
        """Map (N, inputs, H, W) and noise (N, latent) to (N, outputs, H, W)."""
        skips = []
        for down in self.down:
            image = down(image)
            skips.append(image)
        # Channels come last in the release, which matters to nobody but a user of its weights.
        made = self.activation(self.noise(latent)).unflatten(1, (*self.base, -1)).permute(0, 3, 1, 2)
        base = [extent // 2 for extent in skips[-1].shape[2:]]
        made = made if list(made.shape[2:]) == base else interpolate(made, base)
        for up in self.up:
            made = torch.cat([up(made), skips.pop()], dim=1)
        return self.last(made)  # type: ignore[no-any-return]


class WholeImageDiscriminator(nn.Sequential):
    """Discriminator of Fila-GAN, with one logit for a whole image: (N, channels, H, W) to (N, 1).

    Args:
        channels: input channels, image and condition together.
        size: rows and columns, multiples of ``2**strided``.
        width: channels of the first layer; grows to sixteen times that.
        strided: strided convolutions; 5 in the paper.
    """

    def __init__(self, channels: int, size: Sequence[int], width: int = 32, strided: int = 5):
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        before = width
        for level in range(1, strided):
            after = width * min(2**level, 16)
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), shift_only(after), nn.LeakyReLU(0.2)]
            before = after
        rows, columns = (extent // 2**strided for extent in size)
        super().__init__(*layers, nn.Flatten(), nn.Linear(before * rows * columns, 1))
