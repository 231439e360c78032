"""An atlas of images and regions: the mean of training cases that were aligned by an affine map each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, ndimage

from ganatomy.case import Sample
from ganatomy.inference.predictor import encoded
from ganatomy.metrics.metric import Mask
from ganatomy.tasks.segmentation.task import Segmentation

Array = NDArray[np.float32]
CELL = 1 / 12
"""Variance of the positions in a voxel, which keeps flat masks invertible."""


def mean_atlas(task: Segmentation, samples: Iterable[Sample]) -> tuple[Array, Array]:
    """Return the mean image and the mean regions of annotated cases, whose annotated voxels were brought to one place.

    The map of a case moves, scales and shears it without a rotation, so that the centre and the covariance of all its
    annotated voxels become the means over the cases.

    Args:
        task: task with the inputs and regions; all cases have one size.
        samples: training cases; those without annotated voxels are left out.

    Returns:
        Image in the range of the networks, (channels, slices, rows, columns), and share of the cases that have each
        region in a voxel, (regions, slices, rows, columns).

    Raises:
        ValueError: no case has an annotated voxel.
    """
    cases = [(sample, inside) for sample in samples if (inside := _annotated(task, sample)) is not None]
    if not cases:
        raise ValueError("no case has an annotated voxel")
    moments = [_moments(inside) for _, inside in cases]
    centre = np.mean([own for own, _ in moments], axis=0)
    spread = np.mean([own for _, own in moments], axis=0)
    image, regions = (np.zeros(1, np.float32) for _ in range(2))
    for (sample, _), (own_centre, own_spread) in zip(cases, moments, strict=True):
        matrix = between(spread, own_spread)
        offset = own_centre - matrix @ centre
        values = encoded(sample, task.inputs)(0, sample.shape[0])
        true = np.maximum(task.target.indicators(np.asarray(sample.arrays[task.labels])), 0)
        image = image + _moved(values, matrix, offset) / np.float32(len(cases))
        regions = regions + _moved(true, matrix, offset) / np.float32(len(cases))
    return image, regions


def between(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric matrix that maps points of one covariance to points of another one."""
    root = np.real(linalg.sqrtm(first))
    inverse = np.linalg.inv(root)
    return np.asarray(inverse @ np.real(linalg.sqrtm(root @ second @ root)) @ inverse, np.float64)


def ball(extents: Sequence[int]) -> Array:
    """Return a ball with a soft border in the middle of a volume, half as wide as it: an atlas before it is fitted."""
    axes = np.meshgrid(*(np.linspace(-1, 1, extent) for extent in extents), indexing="ij", sparse=True)
    radius = np.sqrt(sum(axis**2 for axis in axes))
    return np.asarray(np.clip(0.5 + 4 * (0.5 - radius), 0, 1), np.float32)


def _annotated(task: Segmentation, sample: Sample) -> Mask | None:
    """Return the voxels of a case that belong to any region; None where there are none."""
    if task.labels not in sample.arrays:
        return None
    inside = (task.target.indicators(np.asarray(sample.arrays[task.labels])) == 1).any(0)
    return np.asarray(inside) if inside.any() else None


def _moments(inside: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return centre and covariance of the positions of a mask's voxels, in voxels."""
    places = np.argwhere(inside).astype(np.float64)
    spread = np.cov(places.T, bias=True) if len(places) > 1 else np.zeros((3, 3))
    return places.mean(0), spread + CELL * np.eye(3)


def _moved(values: Array, matrix: NDArray[np.float64], offset: NDArray[np.float64]) -> Array:
    """Return channels of a volume, sampled linearly at a matrix times a position plus an offset; 0 outside."""
    moved = [ndimage.affine_transform(channel, matrix, offset, order=1, output=np.float32) for channel in values]
    return np.stack(moved)
