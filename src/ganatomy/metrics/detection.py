"""Scores of anomaly detection: ROC curves, thresholds, overlap, lesion detection, attribution.

Labels are true, or 1, for abnormal cases; a score at or above a threshold is a positive prediction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from ganatomy.metrics.metric import Array, Mask

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Proportion:
    """Fraction of cases with Wilson's score interval.

    Source: Wilson, J. Am. Stat. Assoc. 22(158):209-212, 1927. doi:10.1080/01621459.1927.10502953

    Attributes:
        count: cases that have the property.
        total: cases.
        level: confidence level of the interval.
    """

    count: int
    total: int
    level: float = 0.95

    @property
    def value(self) -> float:
        """Fraction of the cases; NaN without cases."""
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper limit of the interval; NaN without cases."""
        if not self.total:
            return math.nan, math.nan
        z, n, p = float(stats.norm.ppf((1 + self.level) / 2)), self.total, self.value
        centre, margin = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return max(0.0, (centre - margin) / (1 + z**2 / n)), min(1.0, (centre + margin) / (1 + z**2 / n))


@dataclass(frozen=True)
class OperatingPoint:
    """Sensitivity, specificity and precision at one threshold."""

    threshold: float
    sensitivity: Proportion
    specificity: Proportion
    precision: Proportion


@dataclass(frozen=True)
class RocCurve:
    """ROC curve: counts of positive predictions at every threshold, from infinity downwards.

    Attributes:
        thresholds: decreasing thresholds.
        true_positives: abnormal cases at or above each threshold.
        false_positives: healthy cases at or above each threshold.
    """

    thresholds: Array
    true_positives: Counts
    false_positives: Counts

    @cached_property
    def sensitivity(self) -> Array:
        """True-positive rate at every threshold; NaN without abnormal cases."""
        return _share(self.true_positives, self.true_positives[-1])

    @cached_property
    def false_positive_rate(self) -> Array:
        """1 - specificity at every threshold; NaN without healthy cases."""
        return _share(self.false_positives, self.false_positives[-1])

    @property
    def auc(self) -> float:
        """Area under the curve: probability that an abnormal case scores above a healthy one, ties counting half."""
        return float(np.trapezoid(self.sensitivity, self.false_positive_rate))

    @property
    def average_precision(self) -> float:
        """Area under the precision-recall curve as the sum of precision times gain in sensitivity."""
        called = np.maximum(self.true_positives[1:] + self.false_positives[1:], 1)
        return float(np.sum(np.diff(self.sensitivity) * self.true_positives[1:] / called))

    @property
    def dice(self) -> Array:
        """Dice of predicted and true abnormal cases at every threshold; 1 where both are empty."""
        sizes = self.true_positives + self.false_positives + self.true_positives[-1]
        return np.where(sizes > 0, 2 * self.true_positives / np.maximum(sizes, 1), 1.0)

    @property
    def youden_threshold(self) -> float:
        """Threshold with the largest sensitivity + specificity, the highest of several; NaN without both classes."""
        if not (self.true_positives[-1] and self.false_positives[-1]):
            return math.nan
        return float(self.thresholds[np.argmax(self.sensitivity - self.false_positive_rate)])

    def best_dice(self) -> tuple[float, float]:
        """Return the threshold with the largest Dice, the highest of several, and that Dice."""
        dice = self.dice
        best = int(np.argmax(dice))
        return float(self.thresholds[best]), float(dice[best])

    def threshold_at_false_positive_rate(self, rate: float) -> float:
        """Return the lowest threshold of the curve whose false-positive rate is at most ``rate``."""
        allowed = rate * self.false_positives[-1]
        return float(self.thresholds[np.searchsorted(self.false_positives, allowed, side="right") - 1])

    def at(self, threshold: float) -> OperatingPoint:
        """Return sensitivity, specificity and precision at a threshold, or at the next higher one of the curve."""
        index = np.searchsorted(-self.thresholds, -threshold, side="right") - 1
        hits, alarms = int(self.true_positives[index]), int(self.false_positives[index])
        abnormal, healthy = int(self.true_positives[-1]), int(self.false_positives[-1])
        return OperatingPoint(
            threshold,
            Proportion(hits, abnormal),
            Proportion(healthy - alarms, healthy),
            Proportion(hits, hits + alarms),
        )


@dataclass(frozen=True)
class Estimate:
    """Area under the ROC curve, or a difference of two, with its standard error and interval."""

    value: float
    standard_error: float
    low: float
    high: float
    level: float = 0.95

    @property
    def p(self) -> float:
        """Two-sided p value against 0, for differences."""
        if self.standard_error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stats.norm.sf(abs(self.value) / self.standard_error))


@dataclass(frozen=True)
class LesionDetection:
    """Counts of lesions that were detected in one or more volumes.

    Attributes:
        lesions: connected components of the truth.
        found: lesions with sufficient overlap with the prediction.
        false_positives: connected components of the prediction that touch no lesion.
        volumes: number of volumes.
        predicted: connected components of the prediction.
    """

    lesions: int
    found: int
    false_positives: int
    volumes: int = 1
    predicted: int = 0

    @property
    def sensitivity(self) -> Proportion:
        """Fraction of the lesions that were found."""
        return Proportion(self.found, self.lesions)

    @property
    def precision(self) -> Proportion:
        """Fraction of the components of the prediction that touch a lesion."""
        return Proportion(self.predicted - self.false_positives, self.predicted)

    @property
    def false_positives_per_volume(self) -> float:
        """Number of false-positive components per volume."""
        return self.false_positives / self.volumes


def roc_curve(scores: npt.ArrayLike, labels: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> RocCurve:
    """Compute the ROC curve with one threshold per distinct score.

    Args:
        scores: scores of any shape.
        labels: labels of the same shape.
        mask: cases that count; all unless given.
    """
    s, truth = _scores_and_labels(scores, labels, mask)
    values, index = np.unique(s, return_inverse=True)
    abnormal = np.bincount(index[truth], minlength=len(values))
    return _curve(values, abnormal, np.bincount(index, minlength=len(values)) - abnormal)


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the area under the ROC curve, ties counting half; NaN if a class is missing."""
    s, truth = _scores_and_labels(scores, labels, None)
    of_abnormal, _ = placements(s, truth)
    return float(of_abnormal.mean()) if truth.any() and not truth.all() else math.nan


def delong(scores: npt.ArrayLike, labels: npt.ArrayLike, level: float = 0.95) -> Estimate:
    """Return the area under the ROC curve with DeLong's standard error and normal interval, within 0 and 1.

    Cases must be independent: one per patient. For perfect separation standard error and interval have no width.

    Source: DeLong et al., Biometrics 44(3):837-845, 1988. doi:10.2307/2531595

    Args:
        scores: (n,).
        labels: (n,).
        level: confidence level.

    Raises:
        ValueError: there are fewer than two cases of a class.
    """
    area, error = _delong(placements(*_two_classes(scores, labels)))
    return _estimate(area, error, level, (0.0, 1.0))


def delong_difference(
    first: npt.ArrayLike, second: npt.ArrayLike, labels: npt.ArrayLike, level: float = 0.95
) -> Estimate:
    """Return the difference of the ROC areas of two scores of the same cases, first - second.

    Args:
        first: scores (n,).
        second: scores (n,) of the same cases.
        labels: (n,).
        level: confidence level.

    Raises:
        ValueError: there are fewer than two cases of a class.
    """
    ours, theirs = (placements(*_two_classes(scores, labels)) for scores in (first, second))
    return _estimate(*_delong((ours[0] - theirs[0], ours[1] - theirs[1])), level, (-1.0, 1.0))


def threshold_at_false_positive_rate(healthy_scores: npt.ArrayLike, rate: float) -> float:
    """Return the lowest threshold at or above which at most the fraction ``rate`` of healthy scores lies.

    Raises:
        ValueError: there is no score, or the rate is not between 0 and 1.
    """
    scores = np.sort(np.asarray(healthy_scores, dtype=np.float64), axis=None)[::-1]
    if not scores.size or not 0 <= rate <= 1:
        raise ValueError(f"a threshold needs scores and a rate from 0 to 1, not {scores.size} scores and {rate}")
    allowed = math.floor(rate * scores.size + 1e-9)
    return float(np.nextafter(scores[allowed], np.inf)) if allowed < scores.size else -math.inf


def dice(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the Dice coefficient 2 |A ∩ B| / (|A| + |B|) of two masks of the same shape; 1 if both are empty."""
    a, b = _masks(prediction, truth)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def detect_lesions(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, *, overlap: float = 0.0, minimum_voxels: int = 1
) -> LesionDetection:
    """Count detected lesions by the components of two masks (26-connectivity in 3D).

    Args:
        prediction: mask of an image or volume.
        truth: mask of the same shape.
        overlap: fraction of a lesion that must be predicted for it to be found; any voxel at 0.
        minimum_voxels: smaller components of the prediction are removed first.

    Raises:
        ValueError: the shapes differ.
    """
    predicted, actual = _masks(prediction, truth)
    predicted = remove_small(predicted, minimum_voxels)
    lesions, count = _components(actual)
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)[1:]
    covered = np.bincount(lesions[predicted], minlength=count + 1)[1:]
    found = int(np.sum((covered > 0) & (covered >= overlap * sizes * (1 - 1e-9))))
    candidates, candidate_count = _components(predicted)
    touching = np.unique(candidates[predicted & actual]).size
    return LesionDetection(count, found, candidate_count - touching, predicted=candidate_count)


def pooled(detections: Sequence[LesionDetection]) -> LesionDetection:
    """Add up the lesion counts of several volumes."""
    return LesionDetection(
        sum(d.lesions for d in detections),
        sum(d.found for d in detections),
        sum(d.false_positives for d in detections),
        sum(d.volumes for d in detections),
        sum(d.predicted for d in detections),
    )


def remove_small(mask: npt.ArrayLike, minimum_voxels: int) -> Mask:
    """Remove the components of a mask that have fewer than ``minimum_voxels`` voxels."""
    components, count = _components(np.asarray(mask, dtype=np.bool_))
    kept = np.bincount(components.ravel(), minlength=count + 1) >= minimum_voxels
    kept[0] = False
    return np.asarray(kept[components])


def normalised_cross_correlation(attribution: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the zero-normalised cross-correlation of an attribution map with the true effect; NaN for a flat map.

    A map that removes a bright effect is negative there, so its sign must be inverted first.

    Source: Baumgartner et al., CVPR 2018, arXiv:1711.08998.

    Raises:
        ValueError: the shapes differ.
    """
    a, b = np.asarray(attribution, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"maps of different shapes cannot be compared: {a.shape} and {b.shape}")
    a, b = a - a.mean(), b - b.mean()
    norm = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.sum(a * b) / norm) if norm else math.nan


def _scores_and_labels(scores: npt.ArrayLike, labels: npt.ArrayLike, mask: npt.ArrayLike | None) -> tuple[Array, Mask]:
    s, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.bool_)
    if s.shape != truth.shape:
        raise ValueError(f"scores and labels differ in shape: {s.shape} and {truth.shape}")
    if mask is None:
        s, truth = s.ravel(), truth.ravel()
    else:
        inside = np.asarray(mask, dtype=np.bool_)
        s, truth = s[inside], truth[inside]
    if np.isnan(s).any():
        raise ValueError("a score is not a number")
    return s, truth


def _two_classes(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Array, Mask]:
    s, truth = _scores_and_labels(scores, labels, None)
    abnormal = int(truth.sum())
    if min(abnormal, truth.size - abnormal) < 2:
        raise ValueError(f"needs two cases of either class, not {abnormal} abnormal of {truth.size}")
    return s, truth


def _curve(ascending: Array, abnormal: Counts, healthy: Counts) -> RocCurve:
    return RocCurve(
        np.append(np.inf, ascending[::-1]),
        np.append(0, np.cumsum(abnormal[::-1])),
        np.append(0, np.cumsum(healthy[::-1])),
    )


def placements(scores: Array, truth: Mask) -> tuple[Array, Array]:
    """Return the fraction of healthy cases below each abnormal one, and of abnormal cases above each healthy one.

    Ties count half. The means of both are the area under the ROC curve.
    """
    everywhere = stats.rankdata(scores)
    abnormal, healthy = scores[truth], scores[~truth]
    below = everywhere[truth] - stats.rankdata(abnormal)
    not_above = everywhere[~truth] - stats.rankdata(healthy)
    return below / max(healthy.size, 1), 1 - not_above / max(abnormal.size, 1)


def _delong(placements: tuple[Array, Array]) -> tuple[float, float]:
    variance = math.fsum(float(np.var(side, ddof=1)) / side.size for side in placements)
    return float(placements[0].mean()), math.sqrt(variance)


def _estimate(value: float, error: float, level: float, bounds: tuple[float, float]) -> Estimate:
    margin = float(stats.norm.ppf((1 + level) / 2)) * error
    return Estimate(value, error, max(bounds[0], value - margin), min(bounds[1], value + margin), level)


def _share(part: Counts, whole: np.int64) -> Array:
    return part / whole if whole else np.full(part.shape, math.nan)


def _masks(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Mask, Mask]:
    a, b = np.asarray(prediction, dtype=np.bool_), np.asarray(truth, dtype=np.bool_)
    if a.shape != b.shape:
        raise ValueError(f"masks of different shapes cannot be compared: {a.shape} and {b.shape}")
    return a, b


def _components(mask: Mask) -> tuple[npt.NDArray[np.intp], int]:
    labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim))
    return np.asarray(labels, dtype=np.intp), int(count)
