"""Sharpness of images: line profiles, and edge strength relative to a reference."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from ganatomy.metrics.metric import Array

Point = tuple[float, float]


@dataclass(frozen=True)
class LineProfile:
    """Values along a segment: distance from its start in mm, value in the image's unit."""

    distance_mm: Array
    values: Array


def line_profile(
    image: npt.ArrayLike,
    start: Point,
    end: Point,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    *,
    unit: Literal["voxel", "mm"] = "voxel",
    width_mm: float = 0.0,
) -> LineProfile:
    """Sample an image linearly along a segment, every half pixel.

    Args:
        image: ``(rows, columns)``.
        start: row and column; the centre of the first voxel is (0, 0).
        end: row and column, likewise.
        spacing_mm: distance of rows and of columns.
        unit: unit of ``start`` and ``end``.
        width_mm: average over lines side by side in a band this wide.

    Raises:
        ValueError: start and end coincide.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    scale = spacing if unit == "voxel" else np.ones(2)
    first, last = np.asarray(start) * scale, np.asarray(end) * scale
    length = float(np.linalg.norm(last - first))
    if length == 0:
        raise ValueError("a line profile needs two different points")
    along = (last - first) / length
    step = float(spacing.min()) / 2
    distance = np.linspace(0, length, math.ceil(length / step) + 1)
    offsets = np.linspace(-width_mm / 2, width_mm / 2, math.ceil(width_mm / step) + 1) if width_mm else np.zeros(1)
    across = np.array([-along[1], along[0]])
    points = first + offsets[:, None, None] * across + distance[None, :, None] * along
    values = map_coordinates(
        np.asarray(image, dtype=np.float64), np.moveaxis(points / spacing, -1, 0), order=1, mode="nearest"
    )
    return LineProfile(distance, values.mean(axis=0))


def gradient_ratio(
    output: npt.ArrayLike,
    reference: npt.ArrayLike,
    spacing_mm: tuple[float, float],
    edge_fraction: float = 0.05,
) -> float:
    """Return the edge strength of the output relative to its reference: 1 as sharp, below blurred, above sharpened.

    Both gradients are projected on that of the smoothed reference and summed over its strongest edges. Gradients of
    noise have random directions and cancel in the sum, so noise does not count as sharpness.

    Args:
        output: ``(rows, columns)`` or ``(slices, rows, columns)``; slices are taken one by one.
        reference: of the same shape.
        spacing_mm: between rows, between columns.
        edge_fraction: the part of the pixels that counts as edges.
    """
    ours, theirs = np.asarray(output, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"images of different shapes cannot be compared: {ours.shape} and {theirs.shape}")
    # Edges are taken from a smoothed copy, so that they follow anatomy instead of the noise of single pixels.
    smooth = gaussian_filter(theirs, (0,) * (theirs.ndim - 2) + (1.0, 1.0))
    across = _gradient(smooth, spacing_mm)
    strength = np.linalg.norm(across, axis=0)
    across *= strength >= np.quantile(strength, 1 - edge_fraction)
    reference_strength = float(np.sum(_gradient(theirs, spacing_mm) * across))
    output_strength = float(np.sum(_gradient(ours, spacing_mm) * across))
    return output_strength / reference_strength if reference_strength else math.nan


def _gradient(image: Array, spacing_mm: tuple[float, float]) -> Array:
    return np.asarray(np.gradient(image, *spacing_mm, axis=(-2, -1)), dtype=np.float64)
