"""Small convolutional classifier, to measure the use of images for classification, and its training."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ganatomy.nets.layers import AVERAGE_POOL, CONVOLUTION

Loss = Callable[[Tensor, Tensor], Tensor]
STEPS = 400
"""Number of updates of a small network, unless another number is given."""


class Classifier(nn.Module):
    """Classifier of blocks (convolution, group norm, ReLU, halving), global mean and maximum, and a linear layer.

    Group norm makes the result of an image independent of the other images of its batch.

    Args:
        channels: image channels.
        classes: number of classes.
        widths: channels of each block, multiples of 8.
        dims: spatial axes, 1 to 3.
        dropout: dropout rate of the features while training.
        maxima: whether features are means and maxima over positions, or means alone.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int] = (16, 32, 64),
        dims: int = 2,
        dropout: float = 0.5,
        maxima: bool = True,
    ):
        super().__init__()
        convolution, pool = CONVOLUTION[dims], AVERAGE_POOL[dims]
        layers: list[nn.Module] = []
        for before, after in pairwise((channels, *widths)):
            layers += [convolution(before, after, 3, padding=1), nn.GroupNorm(8, after), nn.ReLU(), pool(2)]
        self.trunk = nn.Sequential(*layers)
        self.maxima = maxima
        self.width = (2 if maxima else 1) * widths[-1]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.width, classes)

    def features(self, images: Tensor) -> Tensor:
        """Map images (n, channels, ...) of 8 or more pixels a side to features (n, width)."""
        maps = self.trunk(images).flatten(2)
        return torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1) if self.maxima else maps.mean(dim=2)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, ...) to logits (n, classes)."""
        return self.head(self.dropout(self.features(images)))  # type: ignore[no-any-return]


@torch.no_grad()
def in_batches(network: Callable[[Tensor], Tensor], images: Tensor, batch: int = 64) -> Tensor:
    """Apply a network to images in batches."""
    return torch.cat([network(part) for part in torch.split(images, batch)])


def fit(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    loss: Loss = cross_entropy,
    *,
    steps: int = STEPS,
    seed: int = 0,
    batch: int = 32,
    learning_rate: float = 1e-3,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> None:
    """Train a small network on real images with Adam, for a fixed number of updates.

    Args:
        network: network to train, which is left in its inference mode.
        images: inputs, (n, channels, [slices,] rows, columns).
        targets: targets of the loss, (n, ...).
        loss: function of outputs and targets.
        steps: number of updates, independent of the number of images.
        seed: seed of the batches.
        batch: images per update, all of them where there are fewer.
        learning_rate: learning rate of Adam.
        augment: augments a batch of images at random.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, learning_rate)
    network.train()
    order = torch.empty(0, dtype=torch.long)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(steps):
            while len(order) < min(batch, len(images)):
                order = torch.cat([order, torch.randperm(len(images), generator=generator)])
            chosen, order = order[:batch], order[batch:]
            shown = images[chosen] if augment is None else augment(images[chosen], generator)
            gradients = torch.autograd.grad(loss(network(shown), targets[chosen]), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    network.eval().requires_grad_(False)
