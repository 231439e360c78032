"""Heat maps of points, and losses between predicted and true stacks of them.

Stacks have a channel for the background and one for each point, (N, 1 + points, H, W); maps of points alone have none
for the background.
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


def gaussians(points: Tensor, extents: Sequence[int], sigma: float) -> Tensor:
    """Return a Gaussian of height 1 around every point of an image, (N, points, H, W).

    Args:
        points: row and column, and 1 for points that are there, (N, points, 3).
        extents: H and W.
        sigma: SD in pixels.
    """
    down = torch.arange(extents[0], device=points.device, dtype=points.dtype)
    across = torch.arange(extents[1], device=points.device, dtype=points.dtype)
    rows = torch.exp(-0.5 * ((down - points[..., :1]) / sigma).square())
    columns = torch.exp(-0.5 * ((across - points[..., 1:2]) / sigma).square())
    return points[..., 2, None, None] * rows[..., :, None] * columns[..., None, :]


def emphasised_error(maps: Tensor, true: Tensor, emphasis: float) -> Tensor:
    """Return the mean squared error of maps, where pixels weigh more the hotter they are in truth.

    Args:
        maps: predicted heat.
        true: true heat, 0 to 1.
        emphasis: weight that is added to 1 where the true heat is 1.
    """
    return ((1 + emphasis * true) * (maps - true).square()).mean()


def read_out(maps: Tensor, reach: int) -> Tensor:
    """Return where maps are hottest, with fractions of pixels, and the heat there, (N, points, 3): row, column, heat.

    The position is the mean of the pixels around the hottest one, weighed by their heat.

    Args:
        maps: heat, (N, points, H, W), not negative.
        reach: distance in pixels along rows and columns up to which pixels count.
    """
    rows, columns = maps.shape[2:]
    heat, place = maps.flatten(2).max(2)
    down, across = torch.arange(rows, device=maps.device), torch.arange(columns, device=maps.device)
    near_rows = (down - (place // columns)[..., None]).abs() <= reach
    near_columns = (across - (place % columns)[..., None]).abs() <= reach
    window = maps * near_rows[..., :, None] * near_columns[..., None, :]
    total = window.sum((2, 3)).clamp_min(torch.finfo(maps.dtype).tiny)
    row, column = (window.sum(3) * down).sum(2) / total, (window.sum(2) * across).sum(2) / total
    return torch.stack([row, column, heat], 2)
