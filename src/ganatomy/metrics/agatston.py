"""Coronary calcium in CT: Agatston and volume score, risk class, and agreement of classes.

Agatston et al., Quantification of coronary artery calcium using ultrafast computed tomography, J. Am. Coll.
Cardiol. 15(4):827-832, 1990. doi:10.1016/0735-1097(90)90282-T
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from ganatomy.errors import UserError

WEIGHT_STEPS = (130.0, 200.0, 300.0, 400.0)
"""Peak CT numbers in HU from which a lesion's area in a slice counts once, twice, three and four times."""

REFERENCE_SPACING = 3.0
"""Slice increment in mm of the scans for which the score was defined."""

RISK_LIMITS = (10.0, 100.0, 1000.0)
"""Upper ends of the risk classes 0-10, 11-100, 101-1000, above."""


@dataclass(frozen=True)
class AgatstonScore:
    """Calcium found in a region.

    Attributes:
        score: Agatston score in mm²-weighted units, scaled to slices 3 mm apart.
        volume_mm3: volume of all lesions.
        lesions: number of lesions.
    """

    score: float
    volume_mm3: float
    lesions: int


def agatston(
    hu: ArrayLike,
    spacing_mm: tuple[float, float, float],
    roi: ArrayLike,
    threshold: float = 130.0,
    min_volume_mm3: float = 1.5,
) -> AgatstonScore:
    """Score the calcifications in a region of a CT scan.

    Lesions are 26-connected groups of voxels at or above the threshold, which presumes 120 kVp. In every
    slice a lesion adds its area times a weight of 1 to 4 by its peak there.

    Args:
        hu: CT numbers, shape (slices, rows, columns).
        spacing_mm: distance of slices, rows and columns.
        roi: region of interest (coronary arteries, inserts), true or non-zero inside, shaped as `hu`.
        threshold: lowest CT number of calcium in HU.
        min_volume_mm3: smaller lesions count as noise.

    Raises:
        UserError: `hu` is not a volume, or `roi` has another shape.
    """
    volume, region = np.asarray(hu), np.asarray(roi) != 0
    if volume.ndim != 3 or region.shape != volume.shape:
        raise UserError(
            f"calcium scoring needs a volume and a region of the same shape (slices, rows, columns), "
            f"not {volume.shape} and {region.shape}"
        )
    candidates, count = ndimage.label((volume >= threshold) & region, np.ones((3, 3, 3)))
    voxels = np.bincount(candidates.ravel(), minlength=count + 1)[1:]
    voxel_mm3 = float(np.prod(spacing_mm))
    kept = np.flatnonzero(voxels * voxel_mm3 >= min_volume_mm3 * (1 - 1e-9)) + 1

    slices = np.arange(len(volume))[:, None, None]
    fragments = np.where(np.isin(candidates, kept), candidates * len(volume) + slices, -1)
    lesion_voxels = fragments >= 0
    _, fragment, pixels = np.unique(fragments[lesion_voxels], return_inverse=True, return_counts=True)
    peaks = np.full(len(pixels), -np.inf)
    np.maximum.at(peaks, fragment, volume[lesion_voxels])

    weights = np.maximum(np.searchsorted(WEIGHT_STEPS, peaks, side="right"), 1)
    increment, row, column = spacing_mm
    score = float((weights * pixels).sum()) * row * column * increment / REFERENCE_SPACING
    return AgatstonScore(score, float(pixels.sum()) * voxel_mm3, len(kept))


def risk_class(score: float, limits: Sequence[float] = RISK_LIMITS) -> int:
    """Return the risk class of a score, 0 for the lowest: the number of `limits` (inclusive ends) that it exceeds."""
    return bisect_left(limits, score)


def weighted_kappa(a: ArrayLike, b: ArrayLike) -> float:
    """Return the linearly weighted kappa of two ratings of the same cases with ordered classes 0, 1, 2…

    1 is full agreement and 0 agreement by chance; NaN if all ratings are of one class.
    Cohen, Psychological Bulletin 70(4):213-220, 1968.

    Raises:
        UserError: The ratings are not two sequences of the same, positive length.
    """
    first, second = np.asarray(a), np.asarray(b)
    if first.shape != second.shape or first.ndim != 1 or first.size == 0:
        raise UserError(f"kappa needs two ratings per case, not {first.size} and {second.size}")
    observed = np.abs(first - second).mean()
    chance = np.abs(first[:, None] - second[None]).mean()
    return float(1 - observed / chance) if chance > 0 else float("nan")
