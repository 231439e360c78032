"""Dense networks, and the maxout networks of the original GAN paper (Goodfellow et al., arXiv 1406.2661)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from ganatomy.nets.aids import Activation, activation_layer


def init_uniform(network: nn.Module, limit: float) -> None:
    """Draw the weights of all dense layers from U(-limit, limit) and set their biases to zero, in place."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -limit, limit)
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
