"""The strongest simple comparison of classifiers: logistic regression on the pixels of coarse images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from torch.nn.functional import adaptive_avg_pool2d

from ganatomy.case import Sample
from ganatomy.inference.predictor import encoded
from ganatomy.metrics.calibration import balanced_threshold, softmax
from ganatomy.tasks.classification.predictor import Found
from ganatomy.tasks.classification.task import Classification

FOLDS = 5
"""Number of folds of subjects by which the threshold is chosen without a look at other cases."""
Features = NDArray[np.float64]


@dataclass(frozen=True)
class LogisticRegression:
    """Multinomial logistic regression with a quadratic penalty, on standardised features.

    Attributes:
        mean, scale: means and standard deviations of the features in training, (features,).
        weights: (features + 1, classes); the last row is the intercept.
    """

    mean: Features
    scale: Features
    weights: Features

    @classmethod
    def fit(cls, features: Features, truth: NDArray[np.int64], classes: int, penalty: float) -> LogisticRegression:
        """Fit the weights with the greatest penalised likelihood.

        Args:
            features: (n, features).
            truth: classes (n,).
            classes: number of classes.
            penalty: half of this weighs the squared weights, the intercept's left out, beside the sum of log losses.
        """
        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 1e-6 * scale.max(initial=1e-12), scale, np.inf)
        known = _with_one((features - mean) / scale)
        wanted = np.eye(classes)[truth]

        def loss(flat: Features) -> tuple[float, Features]:
            weights = flat.reshape(known.shape[1], classes)
            scores = known @ weights
            scores -= scores.max(axis=1, keepdims=True)
            logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
            shrunk = weights.copy()
            shrunk[-1] = 0
            slope = known.T @ (np.exp(logs) - wanted) + penalty * shrunk
            return -float((logs * wanted).sum()) + penalty / 2 * float(np.square(shrunk).sum()), slope.ravel()

        start = np.zeros(known.shape[1] * classes)
        found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})
        return cls(mean, scale, found.x.reshape(known.shape[1], classes))

    def probabilities(self, features: Features) -> Features:
        """Return the probabilities of the classes, (n, classes)."""
        return softmax(_with_one((features - self.mean) / self.scale) @ self.weights)


def _with_one(features: Features) -> Features:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def coarse(task: Classification, case: Sample, side: int) -> Features:
    """Return the pixels of every slice after averaging to at most ``side`` rows and columns, (slices, features)."""
    values = torch.from_numpy(np.ascontiguousarray(encoded(case, task.images)(0, case.shape[0])))
    rows, columns = (min(side, extent) for extent in values.shape[2:])
    return adaptive_avg_pool2d(values, (rows, columns)).transpose(0, 1).flatten(1).double().numpy()


class PixelModel:
    """Logistic regression on the coarse pixels of what has a class, fitted when it is first used.

    Args:
        task: task of the run.
        training: training cases.
        side: largest number of rows and columns.
        penalty: penalty of the weights.
    """

    def __init__(self, task: Classification, training: Sequence[Sample], side: int, penalty: float):
        self.task, self.training, self.side, self.penalty = task, training, side, penalty
        self.fitted: tuple[LogisticRegression, float] | None = None

    def __call__(self, case: Sample) -> Found:
        """Return the probabilities of a case and its slices."""
        model, threshold = self.fitted = self.fitted or self._fit()
        pixels = coarse(self.task, case, self.side)
        slices = model.probabilities(pixels)
        units = model.probabilities(self.task.units(pixels))
        own = units[self.task.deciding(case)] if self.task.sliced else units
        return Found(units, slices, own.mean(axis=0), threshold)

    def _fit(self) -> tuple[LogisticRegression, float]:
        """Fit the model, and choose the threshold on predictions for subjects that were left out."""
        features, truth, subjects = [], [], list[str]()
        for case in self.training:
            own, known = self.task.units(coarse(self.task, case, self.side)), self.task.truth(case)
            features.append(own[known >= 0])
            truth.append(known[known >= 0])
            subjects += [case.case.subject] * int((known >= 0).sum())
        x, y, classes = np.concatenate(features), np.concatenate(truth), len(self.task.config.classes)
        names = np.unique(subjects, return_inverse=True)[1]
        folds, positive = names % FOLDS, np.full(len(y), math.nan)
        for fold in range(FOLDS if classes == 2 else 0):
            inside = folds == fold
            if inside.any() and not inside.all():
                part = LogisticRegression.fit(x[~inside], y[~inside], classes, self.penalty)
                positive[inside] = part.probabilities(x[inside])[:, 1]
        known = np.isfinite(positive)
        threshold = balanced_threshold(positive[known], y[known] == 1) if known.any() else math.nan
        whole = LogisticRegression.fit(x, y, classes, self.penalty)
        return whole, threshold if math.isfinite(threshold) else 0.5
