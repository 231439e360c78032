"""Heat maps of points, and losses between predicted and true stacks of them.

Stacks have a channel for the background and one for each point, (N, 1 + points, H, W).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


def heat_of_points(points: Tensor, across: int, extents: Sequence[int], sigmas: Sequence[float]) -> Tensor:
    """Return a Gaussian of height 1 for every point in a projection along one axis of a volume, (N, points, H, W).

    Args:
        points: slice, row and column of points in the volume, and 1 for those that are there, (N, points, 4).
        across: axis of the volume that runs across the projection, 1 rows or 2 columns; slices run down.
        extents: height and width of the projection.
        sigmas: SD along slices, rows and columns, in voxels.
    """
    down = torch.arange(extents[0], device=points.device, dtype=points.dtype)
    aside = torch.arange(extents[1], device=points.device, dtype=points.dtype)
    along = torch.exp(-0.5 * ((down - points[..., :1]) / sigmas[0]).square())
    beside = torch.exp(-0.5 * ((aside - points[..., across : across + 1]) / sigmas[across]).square())
    return points[..., 3, None, None] * along[..., :, None] * beside[..., None, :]


def heat_maps(points: Tensor, across: int, extents: Sequence[int], sigmas: Sequence[float]) -> Tensor:
    """Return the stack of heat maps of points, whose background is 1 less the greatest heat; see `heat_of_points`."""
    heat = heat_of_points(points, across, extents, sigmas)
    return torch.cat([1 - heat.amax(1, keepdim=True), heat], 1)


def class_weights(counts: Tensor) -> Tensor:
    """Return the median of the counts of classes that occur over the count of each; 0 for classes that never occur.

    Args:
        counts: number of pixels of each class, (..., classes).
    """
    there = counts > 0
    middle = torch.nanmedian(counts.masked_fill(~there, float("nan")), -1, keepdim=True).values
    return (middle / counts).masked_fill(~there, 0)


def weighted_entropy(maps: Tensor, true: Tensor, weights: Tensor, known: Tensor) -> Tensor:
    """Return the cross-entropy between stacks under a softmax over their channels, summed and averaged over images.

    The true maps go through a softmax, too, as in the public code after the paper. Sekuboyina et al., arXiv 1804.01307.

    Args:
        maps: predicted stack.
        true: true stack.
        weights: weight of each channel, (channels,).
        known: pixels that count, (N, 1, H, W).
    """
    losses = -true.softmax(1) * log_softmax(maps, 1) * weights[:, None, None]
    return losses.masked_fill(~known, 0).flatten(1).sum(1).mean()
