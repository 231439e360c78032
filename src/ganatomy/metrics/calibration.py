"""Calibration of the probabilities of classes: temperature, reliability, Brier score, thresholds.

Classes are the integers 0 to K - 1, and probabilities are arrays (n, K) whose rows add up to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from ganatomy.metrics.metric import Array

BINS = 10
"""Number of bins of equal width into which probabilities are sorted (Guo et al., 2017, take 15 for large test sets)."""
LIMITS = (0.05, 20.0)
"""Lowest and highest temperature that is tried (our choice)."""


@dataclass(frozen=True)
class Reliability:
    """Predicted probabilities and observed frequencies by bins of the former.

    Attributes:
        predicted: mean predicted probability of each bin with cases.
        observed: share of these cases in which the event occurred.
        counts: number of cases of each of these bins.
    """

    predicted: Array
    observed: Array
    counts: npt.NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of both over all cases, 0 to 1. Guo et al., arXiv 1706.04599."""
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.counts))


def softmax(logits: npt.ArrayLike) -> Array:
    """Return the probabilities of logits (n, K)."""
    values = np.asarray(logits, np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def log_loss(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> Array:
    """Return -log of the probability of each case's true class, (n,)."""
    p, t = _checked(probabilities, truth)
    return np.asarray(-np.log(np.maximum(p[np.arange(len(t)), t], np.finfo(np.float64).tiny)))


def balanced_log_loss(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Return the mean of `log_loss` over the cases of each class, averaged over the classes that occur."""
    own, (_, t) = log_loss(probabilities, truth), _checked(probabilities, truth)
    return float(np.mean([own[t == place].mean() for place in np.unique(t)]))


def brier(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> Array:
    """Return the squared distance of each case's probabilities from its true class, (n,): 0 at best, 2 at worst.

    Source: Brier, Mon. Weather Rev. 78(1):1-3, 1950.
    """
    p, t = _checked(probabilities, truth)
    return np.asarray(np.square(p - np.eye(p.shape[1])[t]).sum(axis=1))


def temperature(logits: npt.ArrayLike, truth: npt.ArrayLike, offset: npt.ArrayLike = 0.0) -> float:
    """Return the temperature T with the least cross-entropy of the probabilities softmax(logits / T + offset).

    The n cases of a class have the target (n + 1) / (n + K), and share the rest among the other classes, as if there
    were one case more of every class. Without that, T would fall to 0 where few cases are all ranked right.

    Sources: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599; the targets are those of
    Platt, Advances in Large Margin Classifiers, 1999, pp. 61-74.

    Args:
        logits: (n, K).
        truth: true classes (n,).
        offset: logarithm of the frequencies of the classes, (K,), where the logits are those of equally frequent ones.
    """
    values, own = np.asarray(logits, np.float64), np.asarray(offset, np.float64)
    _, true = _checked(values, truth)
    classes = values.shape[1]
    counts = np.bincount(true, minlength=classes)
    targets = (np.eye(classes) * counts[:, None] + 1)[true] / (counts[true, None] + classes)

    def loss(exponent: float) -> float:
        scores = values / math.exp(exponent) + own
        logs = scores - scores.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        return -float((targets * logs).sum(axis=1).mean())

    low, high = (math.log(end) for end in LIMITS)
    return math.exp(float(optimize.minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def reliability(predicted: npt.ArrayLike, occurred: npt.ArrayLike, bins: int = BINS) -> Reliability:
    """Compare predicted probabilities of an event with how often it occurs, in bins of equal width.

    Args:
        predicted: probabilities (n,).
        occurred: whether the event occurred, (n,).
        bins: number of bins between 0 and 1; those without cases are left out.

    Raises:
        ValueError: there is no case, or the numbers of cases differ.
    """
    p, happened = np.asarray(predicted, np.float64), np.asarray(occurred, np.float64)
    if p.shape != happened.shape or p.ndim != 1 or not p.size:
        raise ValueError(f"needs a probability and an event for each of several cases, not {p.shape}, {happened.shape}")
    places = np.minimum((p * bins).astype(int), bins - 1)
    counts = np.bincount(places, minlength=bins)
    there = counts > 0
    mean, share = (np.bincount(places, values, bins)[there] / counts[there] for values in (p, happened))
    return Reliability(mean, share, counts[there])


def balanced_threshold(probabilities: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Return the threshold with the largest sensitivity + specificity: in the middle of a gap between probabilities.

    Of several thresholds the one nearest to one half is returned; NaN where a class has no case.

    Args:
        probabilities: probability of the positive class, (n,).
        positive: whether the case is positive, (n,).
    """
    p, true = np.asarray(probabilities, np.float64), np.asarray(positive, np.bool_)
    if true.all() or not true.any():
        return math.nan
    values = np.unique(p)
    limits = np.concatenate([[values[0] / 2], (values[:-1] + values[1:]) / 2, [(values[-1] + 1) / 2]])
    called = p[None] >= limits[:, None]
    gains = called[:, true].mean(axis=1) - called[:, ~true].mean(axis=1)
    best = limits[gains >= gains.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])


def _checked(probabilities: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.int64]]:
    p, t = np.asarray(probabilities, np.float64), np.asarray(truth, np.int64)
    if p.ndim != 2 or t.shape != p.shape[:1] or not t.size or t.min() < 0 or t.max() >= p.shape[1]:
        raise ValueError(f"needs probabilities (n, K) and a class from 0 to K - 1 of each case: {p.shape}, {t.shape}")
    return p, t
