"""Scores of named landmarks that were found: distances, which were identified, and the region that they imply."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganatomy.images.contours import FEWEST, closed_spline, inside

LIMIT = 20.0
"""Distance in mm from which a landmark counts as missed; of the CSI 2014 challenge on vertebrae."""

DETECTED = (2.0, 2.5, 3.0, 4.0)
"""Distances in mm up to which a landmark counts as detected; of the ISBI 2015 challenge on cephalometric landmarks."""
PIXELS = 256
"""Pixels across the larger extent of the regions whose overlap is measured."""

Places = NDArray[np.float64]
"""Positions in mm, (landmarks, 3); NaN for a landmark that is not there."""


@dataclass(frozen=True)
class LandmarkScores:
    """Comparison of the landmarks of a case with the true ones, by name.

    Attributes:
        error: distance of each landmark to the true one of its name in mm, (landmarks,); NaN unless both are there.
        close: whether a landmark is there and closer than the limit to that of its name.
        identified: whether it is, besides, closer to that than to every other true landmark.
        found: whether a landmark was found.
        true: whether there is a true one.
    """

    error: NDArray[np.float64]
    close: NDArray[np.bool_]
    identified: NDArray[np.bool_]
    found: NDArray[np.bool_]
    true: NDArray[np.bool_]

    @property
    def rate(self) -> float:
        """Identification rate: share of the true landmarks that were identified; NaN without true landmarks."""
        return self.rate_of(np.ones(len(self.true), np.bool_))

    def rate_of(self, part: NDArray[np.bool_]) -> float:
        """Return the identification rate of some landmarks, (landmarks,); NaN where none of them is true."""
        count = int((self.true & part).sum())
        return float((self.identified & part).sum() / count) if count else float("nan")

    @property
    def precision(self) -> float:
        """Share of the landmarks found that are close to the true one of their name; 0 where none is found."""
        return float(self.close.sum() / max(int(self.found.sum()), 1))

    @property
    def recall(self) -> float:
        """Share of the true landmarks to which the one found of their name is close; NaN without true landmarks."""
        count = int(self.true.sum())
        return float(self.close.sum() / count) if count else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 2 TP / (found + true); NaN where nothing is found or true."""
        total = int(self.found.sum() + self.true.sum())
        return float(2 * self.close.sum() / total) if total else float("nan")

    def detected(self, limit: float) -> float:
        """Return the share of the true landmarks that were found within a distance in mm; NaN without true ones."""
        count = int(self.true.sum())
        return float((np.nan_to_num(self.error, nan=np.inf) <= limit).sum() / count) if count else float("nan")

    @property
    def mean_error(self) -> float:
        """Mean distance in mm over the landmarks that are both found and true; NaN where there are none."""
        return float(np.nanmean(self.error)) if np.isfinite(self.error).any() else float("nan")


def compare_landmarks(found: Places, true: Places, limit: float = LIMIT) -> LandmarkScores:
    """Compare landmarks with the true ones of the same names.

    Glocker et al., MICCAI 2013, doi:10.1007/978-3-642-40763-5_33.

    Args:
        found: positions found.
        true: true positions, in the same order of names.
        limit: distance in mm from which a landmark counts as missed.
    """
    there, real = (np.asarray(np.isfinite(places).all(1), np.bool_) for places in (found, true))
    apart = np.linalg.norm(found[:, None] - true[None], axis=2)
    error = np.where(there & real, np.diagonal(apart), np.nan)
    others = np.where(np.eye(len(true), dtype=np.bool_) | ~real, np.inf, apart)
    close = np.nan_to_num(error, nan=np.inf) < limit
    nearest = np.where(there, others.min(1, initial=np.inf), np.inf)
    return LandmarkScores(error, close, close & (error < nearest), there, real)


def dice_of_contours(found: NDArray[np.float64], true: NDArray[np.float64]) -> float:
    """Return the Dice of the regions inside of the closed splines through two sets of points of a plane.

    Both regions come from the same spline, so that its distance from a drawn border does not count.

    Args:
        found: points found, in their order around an organ, (points, 2) in mm; NaN for those that are not there.
        true: true points, alike.

    Returns:
        Dice from 0 to 1; 0 where too few points were found, NaN where there are too few true ones.
    """
    ours, theirs = (places[np.isfinite(places).all(1)] for places in (found, true))
    if len(theirs) < FEWEST:
        return float("nan")
    if len(ours) < FEWEST:
        return 0.0
    outlines = [closed_spline(places) for places in (ours, theirs)]
    both = np.concatenate(outlines)
    low, high = both.min(0), both.max(0)
    pixel = max(float((high - low).max()) / PIXELS, 1e-9)
    rows, columns = (int(extent) + 2 for extent in (high - low) / pixel)
    first, second = (inside((outline - low) / pixel + 0.5, (rows, columns)) for outline in outlines)
    total = int(first.sum() + second.sum())
    return float(2 * (first & second).sum() / total) if total else 0.0
