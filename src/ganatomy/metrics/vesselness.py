"""Frangi's vesselness of bright tubes, and segmentation of vessels by it.

Frangi, Niessen, Vincken & Viergever, Multiscale vessel enhancement filtering, MICCAI 1998, LNCS 1496:130-137,
doi:10.1007/BFb0056195. Scales are in mm, so that voxels need not be cubes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

ALPHA, BETA = 0.5, 0.5
"""Widths by which plates and blobs are told from tubes, as in the paper."""
TINY = 1e-10
"""Least product of eigenvalues, which keeps flat places from division by zero."""
BINS = 256
"""Number of intervals of the histogram in which Otsu's level is sought."""


class Vesselness(NamedTuple):
    """Response of the filter, 0 to 1, and the contrast c that a curvature counts as much from."""

    response: Array
    contrast: float


def tubular(eigenvalues: ArrayLike, contrast: float) -> Array:
    """Return the vesselness of bright tubes from the eigenvalues of the Hessian, 0 to 1.

    Args:
        eigenvalues: sorted by magnitude, (3, ...) of volumes or (2, ...) of slices.
        contrast: norm of the Hessian against which that of a voxel is weighed, half of the largest one as a rule.
    """
    values = np.asarray(eigenvalues, np.float64)
    strength = 1 - np.exp(-(values**2).sum(0) / (2 * contrast**2))
    if len(values) == 2:
        first, second = values
        round_ = first**2 / np.maximum(second**2, TINY)
        return np.asarray(np.where(second > 0, 0, np.exp(-round_ / (2 * BETA**2)) * strength))
    first, second, third = values
    flat = np.abs(second) / np.maximum(np.abs(third), TINY)
    round_ = np.abs(first) / np.sqrt(np.maximum(np.abs(second * third), TINY))
    found = (1 - np.exp(-(flat**2) / (2 * ALPHA**2))) * np.exp(-(round_**2) / (2 * BETA**2)) * strength
    return np.asarray(np.where((second > 0) | (third > 0), 0, found))


def curvatures(image: ArrayLike, spacing: Sequence[float], scale: float) -> Array:
    """Return the eigenvalues of the Hessian times the squared scale, (axes, ...), sorted by magnitude.

    Args:
        image: volume or slice.
        spacing: mm between its voxels along each axis.
        scale: SD in mm of the Gaussian.
    """
    values, axes = np.asarray(image, np.float64), range(np.ndim(image))
    widths = [scale / step for step in spacing]
    hessian = np.empty((*values.shape, len(spacing), len(spacing)))
    for i in axes:
        for j in range(i, len(spacing)):
            orders = [int(axis == i) + int(axis == j) for axis in axes]
            # Nearer cut kernels do not sum to 0, and see a curvature in a bright plain.
            found = ndimage.gaussian_filter(values, widths, orders, mode="nearest", truncate=6.0)
            hessian[..., i, j] = hessian[..., j, i] = found * scale**2 / (spacing[i] * spacing[j])
    eigenvalues = np.linalg.eigvalsh(hessian)
    order = np.argsort(np.abs(eigenvalues), axis=-1)
    return np.asarray(np.moveaxis(np.take_along_axis(eigenvalues, order, -1), -1, 0))


def vesselness(
    image: ArrayLike,
    spacing: Sequence[float],
    scales: Sequence[float],
    contrast: float | None = None,
    inside: Mask | None = None,
) -> Vesselness:
    """Return the largest response to bright tubes over some scales.

    Args:
        image: volume (slices, rows, columns), or slice (rows, columns).
        spacing: mm between its voxels along each axis.
        scales: SDs in mm of the Gaussians.
        contrast: that of another image with which this one is compared; unless given, half of the largest norm of the
            Hessian inside. Nothing is found where it is 0, as that of a constant image is.
        inside: mask of the organ, of the same shape; everywhere unless given.
    """
    if not np.ptp(image):
        return Vesselness(np.zeros(np.shape(image)), 0.0)
    found = [curvatures(image, spacing, scale) for scale in scales]
    if contrast is None:
        norms = np.sqrt(np.max([(one**2).sum(0) for one in found], axis=0))
        contrast = float(norms[inside].max() if inside is not None and inside.any() else norms.max()) / 2
    if not contrast > 0:
        return Vesselness(np.zeros(np.shape(image)), 0.0)
    return Vesselness(np.max([tubular(one, contrast) for one in found], axis=0), contrast)


def otsu(values: ArrayLike) -> float:
    """Return the level between two classes of values with the largest variance between their means (Otsu, 1979)."""
    values = np.asarray(values, np.float64).ravel()
    if not values.size or not np.ptp(values):
        return float(values[0]) if values.size else 0.0
    counts, edges = np.histogram(values, BINS)
    middles = (edges[:-1] + edges[1:]) / 2
    below, above = counts.cumsum()[:-1], counts[::-1].cumsum()[::-1][1:]
    sums = (counts * middles).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2
    # Of a gap between the classes, in which all levels are equal, the middle is taken.
    best = np.flatnonzero(apart >= np.nanmax(apart) * (1 - 1e-12))
    return float(edges[1:-1][best].mean())
