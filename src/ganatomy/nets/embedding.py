"""Random features for comparing sets of images, without download or training."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganatomy.nets.layers import CONVOLUTION

WIDTHS = (32, 64, 128)


class RandomEmbedding(nn.Module):
    """Strided convolutions with fixed random weights; mean and standard deviation of every map are the features.

    Random features distinguish distributions without favouring any kind of image, and are reproducible everywhere.

    Args:
        channels: image channels.
        dims: spatial axes, 1 to 3.
        seed: seed of the weights.
    """

    name = "random convolutions, seed 0"

    def __init__(self, channels: int, dims: int = 2, seed: int = 0):
        super().__init__()
        widths = (channels, *WIDTHS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(
                CONVOLUTION[dims](before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
            )
            for layer in self.layers:
                nn.init.orthogonal_(layer.weight, gain=2.0)  # type: ignore[arg-type]
        self.requires_grad_(False)

    @property
    def features(self) -> int:
        """Number of features of an image."""
        return 2 * sum(WIDTHS)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, channels, ...) in [-1, 1] to (n, features)."""
        found = []
        for layer in self.layers:
            images = nn.functional.leaky_relu(layer(images), 0.2)
            maps = images.flatten(2)
            found += [maps.mean(dim=2), maps.std(dim=2, unbiased=False)]
        return torch.cat(found, dim=1)


@lru_cache(maxsize=8)
def _embedding(channels: int, dims: int) -> RandomEmbedding:
    return RandomEmbedding(channels, dims)


def embed(images: Tensor, batch: int = 64) -> NDArray[np.float64]:
    """Return random features (n, features) of images (n, channels, ...) in [-1, 1]."""
    network = _embedding(images.shape[1], images.dim() - 2)
    return torch.cat([network(part) for part in torch.split(images, batch)]).double().numpy()
