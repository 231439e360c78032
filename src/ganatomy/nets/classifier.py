"""Small convolutional classifier, to measure the use of images for classification."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganatomy.nets.layers import AVERAGE_POOL, CONVOLUTION


class Classifier(nn.Module):
    """Classifier of blocks (convolution, group norm, ReLU, halving), global mean and maximum, and a linear layer.

    Group norm makes the result of an image independent of the other images of its batch.

    Args:
        channels: image channels.
        classes: number of classes.
        widths: channels of each block, multiples of 8.
        dims: spatial axes, 1 to 3.
        dropout: dropout rate of the features while training.
    """

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int] = (16, 32, 64), dims: int = 2, dropout: float = 0.5
    ):
        super().__init__()
        convolution, pool = CONVOLUTION[dims], AVERAGE_POOL[dims]
        layers: list[nn.Module] = []
        for before, after in pairwise((channels, *widths)):
            layers += [convolution(before, after, 3, padding=1), nn.GroupNorm(8, after), nn.ReLU(), pool(2)]
        self.trunk = nn.Sequential(*layers)
        self.width = 2 * widths[-1]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.width, classes)

    def features(self, images: Tensor) -> Tensor:
        """Map images (n, channels, ...) of 8 or more pixels a side to features (n, width)."""
        maps = self.trunk(images).flatten(2)
        return torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, ...) to logits (n, classes)."""
        return self.head(self.dropout(self.features(images)))  # type: ignore[no-any-return]
