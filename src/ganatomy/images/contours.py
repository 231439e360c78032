"""Closed smooth curves through points, and the regions inside of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from skimage.draw import polygon2mask

FEWEST = 3
"""Smallest number of points that a closed curve goes through."""


@lru_cache(maxsize=32)
def spline_basis(count: int, samples: int) -> NDArray[np.float64]:
    """Return the matrix (samples, count) from points to a closed cubic spline through them.

    The knots are the numbers of the points, so that a curve through points at equal angles is nearly a circle where
    these lie on one. The first sample is the first point.

    Args:
        count: number of points, at least three.
        samples: number of samples, evenly spaced between the numbers of the points.
    """
    knots = np.arange(count + 1)
    spline = CubicSpline(knots, np.eye(count)[knots % count], bc_type="periodic")
    return np.asarray(spline(count * np.arange(samples) / samples), np.float64)


def closed_spline(points: ArrayLike, samples: int = 240) -> NDArray[np.float64]:
    """Return samples of the closed cubic spline through points in their order, (samples, axes).

    Args:
        points: at least three points, (points, axes).
        samples: number of samples.
    """
    places = np.asarray(points, np.float64)
    return np.asarray(spline_basis(len(places), samples) @ places)


def inside(outline: ArrayLike, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose centre lies inside of a closed polygon, (rows, columns).

    Args:
        outline: vertices (row, column) in pixels.
        shape: rows and columns.
    """
    inside_of: Any = polygon2mask
    return np.asarray(inside_of(shape, np.asarray(outline, np.float64)), np.bool_)
