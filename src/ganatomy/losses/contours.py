"""Contours through landmarks as maps of classes, each pixel of which belongs to the nearest landmark."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ganatomy.images.contours import spline_basis

UNKNOWN = -1
"""Class of all pixels of an image of which a landmark is missing."""


def contour_classes(points: Tensor, extents: Sequence[int], reach: float, samples: int = 240) -> Tensor:
    """Return the classes of pixels, (N, H, W): 0 far from the contour, near it the number of the nearest landmark.

    The contour is the closed spline through the landmarks in their order.

    Args:
        points: row and column of landmarks, and 1 for those that are there, (N, landmarks, 3), at least three.
        extents: H and W.
        reach: distance in pixels up to which a pixel belongs to the contour.
        samples: number of straight pieces that approximate the contour.
    """
    basis = torch.from_numpy(spline_basis(points.shape[1], samples)).to(points)
    rows = torch.arange(extents[0], device=points.device, dtype=points.dtype)
    columns = torch.arange(extents[1], device=points.device, dtype=points.dtype)
    pixels = torch.cartesian_prod(rows, columns)
    found = []
    for own in points:
        if (own[:, 2] <= 0).any():
            found.append(torch.full((len(pixels),), UNKNOWN, device=points.device))
            continue
        curve = basis @ own[:, :2]
        near = _distance(pixels, curve) <= reach
        found.append(torch.where(near, 1 + torch.cdist(pixels, own[:, :2]).argmin(1), 0))
    return torch.stack(found).reshape(len(points), *extents)


def _distance(pixels: Tensor, curve: Tensor) -> Tensor:
    """Return the distance of pixels (P, 2) to the pieces of a closed curve (S, 2) beside its nearest vertex, (P,)."""
    nearest = torch.cdist(pixels, curve).argmin(1)
    found = []
    for step in (-1, 1):
        start, end = curve[nearest], curve[(nearest + step) % len(curve)]
        along, away = end - start, pixels - start
        share = ((away * along).sum(1) / along.square().sum(1).clamp_min(1e-12)).clamp(0, 1)
        found.append((away - share[:, None] * along).norm(dim=1))
    return torch.minimum(*found)


def one_hot_classes(classes: Tensor, count: int, softness: float = 0.0) -> Tensor:
    """Return maps of classes as probabilities, (N, count, H, W).

    Args:
        classes: (N, H, W); unknown pixels count as the class 0.
        count: number of classes.
        softness: share of the probability that is given to all classes alike.
    """
    hot = torch.nn.functional.one_hot(classes.clamp_min(0), count).movedim(-1, 1).float()
    return (1 - softness) * hot + softness / count


def contour_entropy(logits: Tensor, classes: Tensor, background: float) -> Tensor:
    """Return the cross-entropy of classes, divided by the sum of the pixels' weights; 0 where no pixel is known.

    Args:
        logits: (N, classes, H, W).
        classes: classes from `contour_classes`.
        background: weight of pixels of the class 0; that of others is 1.
    """
    weights = torch.where(classes == 0, background, 1.0).to(logits) * (classes != UNKNOWN)
    losses = cross_entropy(logits, classes.clamp_min(0), reduction="none")
    return (weights * losses).sum() / weights.sum().clamp_min(1e-6)
