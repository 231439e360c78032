"""Global contrast factor, and a total score of several methods over several scores."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from ganatomy.metrics.metric import Array

SUPERPIXELS = (1, 2, 4, 8, 16, 25, 50, 100, 200)
"""Pixels along the sides of the squares that are averaged, level by level."""
GAMMA = 2.2
"""Gamma of the display for which perceived brightness is computed."""


def global_contrast_factor(image: npt.ArrayLike) -> float:
    """Return the global contrast factor: local contrast of perceived brightness at nine resolutions, weighted.

    At every level brightness is averaged over squares and becomes L = 100 √((g / 255)^2.2); the contrast of a square is
    the mean of |L - L'| over the squares that share a side with it. Levels with fewer than two squares along a side are
    left out, as are rows and columns that fill no square.

    Matkovic et al., Global Contrast Factor - a New Approach to Image Contrast, Computational Aesthetics 2005,
    doi 10.2312/COMPAESTH/COMPAESTH05/159-167.

    Args:
        image: ``(rows, columns)``, or ``(slices, rows, columns)`` whose mean is taken; brightness from 0 to 255, values
            beyond are clipped.

    Returns:
        0 for a uniform image; NaN where there is no square beside another.
    """
    values = np.clip(np.asarray(image, np.float64), 0, 255)
    planes = values.reshape(-1, *values.shape[-2:])
    return float(np.mean([_factor(plane) for plane in planes]))


def total_scores(
    scores: Mapping[str, Mapping[str, float]], better: Mapping[str, Literal["higher", "lower"]]
) -> dict[str, float]:
    """Return the total score of every method: the mean of its scores, each rescaled from 0 (worst) to 1 (best method).

    Tot_cs of Ravi et al., Med. Image Anal. 53, 2019, doi 10.1016/j.media.2019.01.011. It ranks methods relative to each
    other, so it depends on the methods that are compared. A score that is equal for all methods, or missing for one, is
    left out.

    Args:
        scores: scores by method, then by name.
        better: the scores that count, and their direction.

    Returns:
        Number from 0 to 1 by method; NaN if no score distinguishes the methods.
    """
    columns = [_ranked([found.get(name, math.nan) for found in scores.values()], way) for name, way in better.items()]
    told = [column for column in columns if np.isfinite(column).all()]
    totals = np.mean(told, axis=0) if told else np.full(len(scores), math.nan)
    return dict(zip(scores, totals.tolist(), strict=True))


def _ranked(values: Sequence[float], better: Literal["higher", "lower"]) -> Array:
    """Rescale values from 0, the worst, to 1, the best; NaN if all are equal."""
    found = np.asarray(values, np.float64) * (1 if better == "higher" else -1)
    width = found.max() - found.min()
    return np.asarray((found - found.min()) / width if width > 0 else np.full_like(found, np.nan))


def _factor(plane: Array) -> float:
    total = math.nan
    for level, side in enumerate(SUPERPIXELS, start=1):
        rows, columns = (extent // side for extent in plane.shape)
        if min(rows, columns) < 2:
            break
        squares = plane[: rows * side, : columns * side].reshape(rows, side, columns, side).mean(axis=(1, 3))
        place = level / len(SUPERPIXELS)
        weight = (-0.406385 * place + 0.334573) * place + 0.0877526
        total = weight * _local_contrast(100 * np.sqrt((squares / 255) ** GAMMA)) + (0 if level == 1 else total)
    return total


def _local_contrast(brightness: Array) -> float:
    """Return the mean over all pixels of the mean difference from their neighbours in rows and columns."""
    difference, neighbours = np.zeros_like(brightness), np.zeros_like(brightness)
    for axis in (0, 1):
        step = np.abs(np.diff(brightness, axis=axis))
        for place in (slice(None, -1), slice(1, None)):
            part = (place, slice(None)) if axis == 0 else (slice(None), place)
            difference[part] += step
            neighbours[part] += 1
    return float(np.mean(difference / neighbours))
