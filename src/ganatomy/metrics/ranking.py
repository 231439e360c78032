"""Ranking of voxels by a score in [0, 1]: areas under ROC and precision-recall curves of one volume or of several.

Scores are counted in narrow bins of their logits, so that memory does not grow with the number of voxels and the
voxels of several volumes can be pooled. Voxels in one bin count as ties.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganatomy.metrics.detection import RocCurve

BINS = 8192
"""Number of bins; two scores near 0.5 share one where they differ by less than 0.001."""
END = 17.0
"""Largest absolute logit that is told apart, that of the largest number below 1 in single precision."""


@dataclass(frozen=True)
class Ranking:
    """Counts of voxels by score and truth; a sum of several pools their voxels.

    Attributes:
        inside: number of voxels of the region in each bin, (`BINS`,), from the lowest score up.
        outside: number of the other voxels in each bin.
    """

    inside: npt.NDArray[np.int64]
    outside: npt.NDArray[np.int64]

    @classmethod
    def of(cls, scores: npt.ArrayLike, truth: npt.ArrayLike, known: npt.ArrayLike | None = None) -> Ranking:
        """Count the voxels of an image.

        Args:
            scores: scores in [0, 1], any shape; those outside, as rounding leaves them, count as the nearer end.
            truth: boolean, same shape: whether a voxel belongs to the region.
            known: boolean, same shape: voxels that count; all unless given.

        Raises:
            ValueError: the shapes differ.
        """
        values, true = np.asarray(scores, np.float64), np.asarray(truth, np.bool_)
        counted = np.ones(true.shape, np.bool_) if known is None else np.asarray(known, np.bool_)
        if not values.shape == true.shape == counted.shape:
            raise ValueError(f"scores, truth and known voxels differ in shape: {values.shape}, {true.shape}")
        values, true = values[counted].clip(0, 1), true[counted]
        with np.errstate(divide="ignore"):
            logits = np.clip(np.log(values) - np.log1p(-values), -END, END)
        places = np.minimum((logits + END) / (2 * END) * BINS, BINS - 1).astype(np.intp)
        return cls(*(np.bincount(places[part], minlength=BINS) for part in (true, ~true)))

    def __add__(self, other: Ranking) -> Ranking:
        return Ranking(self.inside + other.inside, self.outside + other.outside)

    @property
    def curve(self) -> RocCurve:
        """ROC curve with the lower end of each bin that holds a voxel as its thresholds."""
        there = np.flatnonzero(self.inside + self.outside)[::-1]
        lower = 1 / (1 + np.exp(-(2 * END * there / BINS - END)))
        hits, alarms = (np.concatenate([[0], np.cumsum(part[there])]) for part in (self.inside, self.outside))
        return RocCurve(np.concatenate([[math.inf], lower]), hits, alarms)

    @property
    def roc_area(self) -> float:
        """Area under the ROC curve, ties counting half; NaN without voxels of one of both kinds."""
        return self.curve.auc if self.inside.any() and self.outside.any() else math.nan

    @property
    def precision_recall_area(self) -> float:
        """Area under the precision-recall curve by trapezoids from (recall 0, precision 1); NaN without a region.

        It differs from average precision, the sum of steps, by enough to turn a comparison over.
        """
        if not self.inside.any():
            return math.nan
        curve = self.curve
        precision = curve.true_positives[1:] / (curve.true_positives[1:] + curve.false_positives[1:])
        recall = curve.true_positives / curve.true_positives[-1]
        return float(np.trapezoid(np.concatenate([[1.0], precision]), recall))
