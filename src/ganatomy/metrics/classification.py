"""Scores of classifiers and human raters: confusion matrix, paired tests, visual Turing tests, agreement.

Classes are the integers 0 to K - 1.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ganatomy.metrics.detection import Proportion, placements
from ganatomy.metrics.metric import Array

CHANCE = 0.5


@dataclass(frozen=True)
class Confusion:
    """Confusion matrix: numbers of cases by true and predicted class.

    Attributes:
        counts: (K, K), true class along rows, predicted class along columns.
    """

    counts: npt.NDArray[np.int64]

    @property
    def accuracy(self) -> Proportion:
        """Fraction of cases with the right class, with its interval."""
        return Proportion(int(np.trace(self.counts)), int(self.counts.sum()))

    @property
    def sensitivity(self) -> Array:
        """Fraction of each class's cases that are predicted as this class; NaN for a class without cases."""
        return _ratio(self._hits, self.counts.sum(axis=1))

    @property
    def specificity(self) -> Array:
        """Fraction of all other classes' cases that are not predicted as this class, by class."""
        others = self.counts.sum() - self.counts.sum(axis=1)
        return _ratio(others - (self.counts.sum(axis=0) - self._hits), others)

    @property
    def f1(self) -> Array:
        """F1 score, 2 TP / (2 TP + FP + FN), by class; NaN for a class neither present nor predicted."""
        return _ratio(2 * self._hits, self.counts.sum(axis=0) + self.counts.sum(axis=1))

    @property
    def balanced_accuracy(self) -> float:
        """Mean sensitivity of the classes that have cases."""
        return _mean_defined(self.sensitivity)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that are present or predicted."""
        return _mean_defined(self.f1)

    @property
    def _hits(self) -> npt.NDArray[np.int64]:
        return np.diagonal(self.counts)


@dataclass(frozen=True)
class McNemar:
    """Paired comparison of two classifiers on the cases that only one of them gets right.

    Attributes:
        only_first: cases that the first alone gets right.
        only_second: cases that the second alone gets right.
        chi2: (|b - c| - 1)² / (b + c), with continuity correction.
        p: p value of chi2 with one degree of freedom.
        exact_p: two-sided exact binomial p, for few such cases (below 25, say).
    """

    only_first: int
    only_second: int
    chi2: float
    p: float
    exact_p: float


@dataclass(frozen=True)
class TuringTest:
    """Result of a rater's visual Turing test, answers to "real or synthetic?".

    Attributes:
        recognised: real images called real.
        fooled: synthetic images called real; to be read together with ``recognised``.
    """

    recognised: Proportion
    fooled: Proportion

    @property
    def accuracy(self) -> Proportion:
        """Fraction of right answers; chance level is one half only for as many real as synthetic images."""
        right = self.recognised.count + self.fooled.total - self.fooled.count
        return Proportion(right, self.recognised.total + self.fooled.total, self.recognised.level)

    @property
    def without_looking(self) -> float:
        """Accuracy of always giving the answer that is right more often."""
        share = self.recognised.total / self.accuracy.total
        return max(share, 1 - share)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the fractions of right answers on real and on synthetic images."""
        return (self.recognised.value + 1 - self.fooled.value) / 2

    @property
    def p(self) -> float:
        """Two-sided exact binomial p of the accuracy against one half."""
        return binomial_p(self.accuracy.count, self.accuracy.total)

    @property
    def d_prime(self) -> float:
        """Sensitivity index d' = Φ⁻¹(recognised) - Φ⁻¹(fooled), 0 at chance level; rates as (k + 0.5) / (n + 1)."""
        return _deviate(self.recognised) - _deviate(self.fooled)

    @property
    def bias(self) -> float:
        """Response bias -½ (Φ⁻¹(recognised) + Φ⁻¹(fooled)), negative for a rater who tends to say "real"."""
        return -(_deviate(self.recognised) + _deviate(self.fooled)) / 2

    def indistinguishable(self, margin: float = 0.1, level: float = 0.05) -> bool:
        """Return whether the accuracy is shown to lie within the margin of one half, by two one-sided tests.

        A test that finds no significant difference from one half does not show equivalence.
        """
        low, high = Proportion(self.accuracy.count, self.accuracy.total, 1 - 2 * level).interval
        return low > CHANCE - margin and high < CHANCE + margin


def confusion(truth: npt.ArrayLike, predicted: npt.ArrayLike, classes: int | None = None) -> Confusion:
    """Count cases by true and predicted class.

    Args:
        truth: true classes (n,).
        predicted: predicted classes (n,).
        classes: number of classes K; the highest class that occurs + 1 unless given.

    Raises:
        ValueError: The numbers of cases differ, or a class is not one of 0 to K - 1.
    """
    t, p = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    if t.shape != p.shape or t.ndim != 1 or not t.size:
        raise ValueError(f"needs one true and one predicted class per case, not {t.shape} and {p.shape}")
    lowest, highest = int(min(t.min(), p.min())), int(max(t.max(), p.max()))
    k = highest + 1 if classes is None else classes
    if lowest < 0 or highest >= k:
        raise ValueError(f"classes must be 0 to {k - 1}, not {lowest} to {highest}")
    return Confusion(np.bincount(t * k + p, minlength=k * k).reshape(k, k))


def balanced_accuracy_values(right: npt.ArrayLike, truth: npt.ArrayLike) -> Array:
    """Return one number per case, (n,), whose mean is the balanced accuracy and whose spread is that of its error.

    These are the values of the infinitesimal jackknife, statistic + n times the influence of the case: intervals and
    paired tests over subjects can be computed from them as from scores of single cases.

    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11.

    Args:
        right: whether each case's class is right, (n,).
        truth: true classes (n,); classes without cases do not count.
    """
    hits, true = np.asarray(right, np.float64), np.asarray(truth, np.int64)
    classes = np.unique(true)
    return np.asarray(np.mean([_share_values(hits, true == place) for place in classes], axis=0))


def sensitivity_values(right: npt.ArrayLike, truth: npt.ArrayLike, place: int) -> Array:
    """Return one number per case, (n,), whose mean is the sensitivity for a class; see `balanced_accuracy_values`.

    They are NaN where the class has no case.
    """
    true = np.asarray(truth, np.int64) == place
    hits = np.asarray(right, np.float64)
    return _share_values(hits, true) if true.any() else np.full(hits.shape, math.nan)


def auc_values(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> Array:
    """Return one number per case, (n,), whose mean is the area under the ROC curve, of each class against the others.

    Areas are averaged over the classes that some, but not all cases have. Of two classes, the variance of the mean is
    that of DeLong et al., Biometrics 44(3):837-845, 1988; see `balanced_accuracy_values`. NaN without such a class.

    Args:
        probabilities: (n, K).
        truth: true classes (n,).
    """
    p, true = np.asarray(probabilities, np.float64), np.asarray(truth, np.int64)
    found = []
    for place in np.unique(true):
        own = true == place
        if own.all():
            continue
        values = np.empty(len(true))
        values[own], values[~own] = placements(p[:, place], own)
        area = float(values[own].mean())
        found.append(area + len(true) * (values - area) / np.where(own, own.sum(), (~own).sum()))
    return np.asarray(np.mean(found, axis=0)) if found else np.full(len(true), math.nan)


def _share_values(hits: Array, own: npt.NDArray[np.bool_]) -> Array:
    """Return the values of the infinitesimal jackknife of the share of hits among some of the cases."""
    share = float(hits[own].mean())
    return np.asarray(share + np.where(own, len(hits) / own.sum() * (hits - share), 0.0))


def mcnemar(first_right: npt.ArrayLike, second_right: npt.ArrayLike) -> McNemar:
    """Compare two classifiers on the same cases by McNemar's test.

    Source: McNemar, Psychometrika 12(2):153-157, 1947. doi:10.1007/BF02295996

    Args:
        first_right: (n,), whether the first classifier is right.
        second_right: (n,), whether the second classifier is right.

    Raises:
        ValueError: the numbers of cases differ.
    """
    a, b = np.asarray(first_right, dtype=np.bool_), np.asarray(second_right, dtype=np.bool_)
    if a.shape != b.shape:
        raise ValueError(f"needs both classifiers on the same cases, not {a.shape} and {b.shape}")
    ours, theirs = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    if ours + theirs == 0:
        return McNemar(0, 0, 0.0, 1.0, 1.0)
    chi2 = max(abs(ours - theirs) - 1, 0) ** 2 / (ours + theirs)
    return McNemar(ours, theirs, chi2, float(stats.chi2.sf(chi2, 1)), binomial_p(ours, ours + theirs))


def turing_test(is_real: npt.ArrayLike, says_real: npt.ArrayLike, level: float = 0.95) -> TuringTest:
    """Score a rater's answers in a visual Turing test.

    Args:
        is_real: (n,), whether each image is real.
        says_real: (n,), whether the rater called it real.
        level: confidence level of the intervals.

    Raises:
        ValueError: the numbers differ, or all images are real, or all synthetic.
    """
    truth, answer = np.asarray(is_real, dtype=np.bool_), np.asarray(says_real, dtype=np.bool_)
    if truth.shape != answer.shape or truth.all() or not truth.any():
        raise ValueError(f"needs an answer to every one of real and synthetic images: {truth.size}, {answer.size}")
    real, synthetic = answer[truth], answer[~truth]
    return TuringTest(
        Proportion(int(real.sum()), real.size, level), Proportion(int(synthetic.sum()), synthetic.size, level)
    )


def binomial_p(count: int, total: int, chance: float = CHANCE) -> float:
    """Return the two-sided exact binomial p of ``count`` successes in ``total`` trials with probability ``chance``."""
    return float(stats.binomtest(count, total, chance).pvalue)


def trials_for_equivalence(margin: float = 0.1, level: float = 0.05, power: float = 0.8) -> int:
    """Return the number of trials, half of them real, that shows an accuracy of one half to be within the margin.

    By two one-sided tests in normal approximation.
    """
    deviates = float(stats.norm.ppf(1 - level)) + float(stats.norm.ppf((1 + power) / 2))
    return math.ceil(CHANCE * (1 - CHANCE) * (deviates / margin) ** 2)


def cohen_kappa(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Return Cohen's kappa of two raters, classes unordered: 1 full agreement, 0 chance; NaN if all answers are one.

    Source: Cohen, Educ. Psychol. Meas. 20(1):37-46, 1960. doi:10.1177/001316446002000104

    Args:
        first: (n,), classes given by the first rater.
        second: (n,), classes given by the second rater.
    """
    shares = (table := confusion(first, second).counts) / table.sum()
    by_chance = float(shares.sum(axis=0) @ shares.sum(axis=1))
    return (float(np.trace(shares)) - by_chance) / (1 - by_chance) if by_chance < 1 else math.nan


def fleiss_kappa(counts: npt.ArrayLike) -> float:
    """Return Fleiss' kappa of several raters; NaN if all answers are of one class.

    Source: Fleiss, Psychol. Bull. 76(5):378-382, 1971. doi:10.1037/h0031619

    Args:
        counts: (images, classes), number of raters who gave each answer, with the same total for every image.

    Raises:
        ValueError: the number of raters varies, or is below two.
    """
    table = np.asarray(counts, dtype=np.float64)
    raters = table.sum(axis=1)
    if raters.min() < 2 or np.ptp(raters):
        raise ValueError("every image needs the same number of raters, two or more")
    k = raters[0]
    observed = float(np.mean((np.sum(table**2, axis=1) - k) / (k * (k - 1))))
    by_chance = float(np.sum((table.sum(axis=0) / table.sum()) ** 2))
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else math.nan


def _ratio(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> Array:
    return np.where(whole > 0, part / np.maximum(whole, 1), math.nan)


def _mean_defined(values: Array) -> float:
    return float(np.mean(values[~np.isnan(values)]))


def _deviate(rate: Proportion) -> float:
    return float(stats.norm.ppf((rate.count + 0.5) / (rate.total + 1)))
