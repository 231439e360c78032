"""Dense networks, and the maxout networks of the original GAN paper (Goodfellow et al., arXiv 1406.2661)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganatomy.nets.aids import Activation, activation_layer, centre_crop
from ganatomy.nets.layers import CONVOLUTION, MAX_POOL, TRANSPOSED, Convolution, Transposed


def init_uniform(network: nn.Module, limit: float) -> None:
    """Draw the weights of dense layers and convolutions from U(-limit, limit), and set biases to zero, in place."""
    for module in network.modules():
        if isinstance(module, nn.Linear | Convolution | Transposed):
            nn.init.uniform_(module.weight, -limit, limit)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class MLP(nn.Sequential):
    """Multilayer perceptron: dense layers with an activation between them. (N, sizes[0]) to (N, sizes[-1]).

    The generator of Goodfellow et al., arXiv 1406.2661, for images of 784 pixels is
    ``MLP((100, 1200, 1200, 784), output="sigmoid")`` with `init_uniform` of 0.05.

    Args:
        sizes: numbers of units of the input, of every hidden layer and of the output.
        activation: activation of the hidden layers; ``leaky`` has slope 0.2.
        output: activation of the output.
        dropout: dropout rate after every hidden layer.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Activation = "relu",
        output: Activation = "linear",
        dropout: float = 0.0,
    ):
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes[:-1]):
            layers += [nn.Linear(before, after), activation_layer(activation), nn.Dropout(dropout)]
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1]), activation_layer(output))


class Maxout(nn.Module):
    """Maxout layer: every unit is the maximum of several linear functions. Goodfellow et al., arXiv 1302.4389.

    (N, inputs) to (N, units).
    """

    def __init__(self, inputs: int, units: int, pieces: int = 5):
        super().__init__()
        self.units = units
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, inputs) to (N, units)."""
        return self.linear(features).unflatten(1, (self.units, -1)).amax(2)  # type: ignore[no-any-return]


class MaxoutDiscriminator(nn.Sequential):
    """Maxout discriminator of the original GAN paper, for small images; returns raw logits.

    Goodfellow et al., arXiv 1406.2661. (N, ...) to (N, 1).

    Args:
        inputs: number of values per sample.
        units: units of every maxout layer.
        pieces: linear functions per unit.
        input_dropout: dropout rate of the input values.
        dropout: dropout rate after every maxout layer.
        limit: weights are initialised in U(-limit, limit).
    """

    def __init__(
        self,
        inputs: int,
        units: Sequence[int] = (240, 240),
        pieces: int = 5,
        input_dropout: float = 0.2,
        dropout: float = 0.5,
        limit: float = 0.005,
    ):
        layers: list[nn.Module] = [nn.Flatten(), nn.Dropout(input_dropout)]
        for before, after in pairwise([inputs, *units]):
            layers += [Maxout(before, after, pieces), nn.Dropout(dropout)]
        super().__init__(*layers, nn.Linear(units[-1], 1))
        init_uniform(self, limit)


class DeconvolutionGenerator(nn.Module):
    """Generator of two dense layers and one transposed convolution; linear output, with a bias for every pixel.

    Goodfellow et al., arXiv 1406.2661. The second dense layer has sigmoids and makes maps of about a third of the
    image's size, which a kernel of 5 with a stride of 3 enlarges; what exceeds the size is cropped off.

    Args:
        latent: size of the latent vector.
        hidden: units of the first dense layer.
        maps: channels of the maps.
        outputs: image channels.
        size: extents of the image along its axes, one to three, of 5 at least.
        limit: weights are initialised in U(-limit, limit).
    """

    def __init__(self, latent: int, hidden: int, maps: int, outputs: int, size: Sequence[int], limit: float = 0.05):
        super().__init__()
        self.size = tuple(size)
        base = (maps, *(max(1, -(-(length - 5) // 3) + 1) for length in size))
        self.dense = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, torch.Size(base).numel()),
            nn.Sigmoid(),
            nn.Unflatten(1, base),
        )
        self.enlarge = TRANSPOSED[len(size)](maps, outputs, 5, 3, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs, *size))
        init_uniform(self, limit)

    def forward(self, latent: Tensor) -> Tensor:
        """Generate images (N, outputs, *size) from (N, latent)."""
        return centre_crop(self.enlarge(self.dense(latent)), self.size) + self.bias


class MaxoutConvolution(nn.Module):
    """Convolution whose channels are the maximum of several, and overlapping max pooling with half the size.

    Goodfellow et al., arXiv 1302.4389. (N, inputs, ...) to (N, channels, ...). The pooling's last windows may
    be partial.

    Args:
        inputs: input channels.
        channels: output channels.
        pieces: convolutions per channel.
        kernel: side of the convolutions.
        padding: zeros added per side.
        pool: side of the pooling.
        dims: spatial axes, 1 to 3.
    """

    def __init__(self, inputs: int, channels: int, pieces: int, kernel: int, padding: int, pool: int, dims: int = 2):
        super().__init__()
        self.channels = channels
        self.convolution = CONVOLUTION[dims](inputs, channels * pieces, kernel, padding=padding)
        self.pool = MAX_POOL[dims](pool, 2, ceil_mode=True)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, ...) to (N, channels, ...)."""
        return self.pool(self.convolution(image).unflatten(1, (self.channels, -1)).amax(2))  # type: ignore[no-any-return]


class MaxoutConvolutionDiscriminator(nn.Sequential):
    """Discriminator of three maxout convolutions and a `MaxoutDiscriminator`; returns raw logits.

    Goodfellow et al., arXiv 1406.2661. (N, inputs, *size) to (N, 1).

    Args:
        inputs: image channels.
        size: extents of the image along its axes, one to three.
        channels: channels of the three maxout convolutions.
        filter_pieces: convolutions per channel.
        units: units of every dense maxout layer.
        pieces: linear functions per unit.
        input_dropout: dropout rate of the input values.
        dropout: dropout rate after every layer.
        limit: weights are initialised in U(-limit, limit).
    """

    def __init__(
        self,
        inputs: int,
        size: Sequence[int],
        channels: Sequence[int] = (32, 32, 192),
        filter_pieces: int = 2,
        units: Sequence[int] = (500,),
        pieces: int = 5,
        input_dropout: float = 0.2,
        dropout: float = 0.5,
        limit: float = 0.005,
    ):
        layers: list[nn.Module] = []
        side, before = tuple(size), inputs
        for after, kernel, padding, pool in zip(channels, (8, 8, 5), (4, 3, 3), (4, 4, 2), strict=True):
            layers += [
                nn.Dropout(dropout if layers else input_dropout),
                MaxoutConvolution(before, after, filter_pieces, kernel, padding, pool, len(size)),
            ]
            side = tuple(max(0, -(-(length + 2 * padding - kernel + 1 - pool) // 2) + 1) for length in side)
            before = after
        rest = MaxoutDiscriminator(before * torch.Size(side).numel(), units, pieces, dropout, dropout, limit)
        super().__init__(*layers, rest)
        init_uniform(self, limit)
