"""Areas under ROC and precision-recall curves from binned scores."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.metrics.detection import roc_curve
from ganatomy.metrics.ranking import Ranking

TRUTH = np.array([[0, 0, 1], [1, 1, 0]], bool)


def test_perfect_inverted_and_constant_scores():
    assert Ranking.of(TRUTH * 0.8 + 0.1, TRUTH).roc_area == 1
    assert Ranking.of(0.9 - TRUTH * 0.8, TRUTH).roc_area == 0
    assert Ranking.of(np.full(TRUTH.shape, 0.3), TRUTH).roc_area == 0.5
    assert Ranking.of(TRUTH * 1.0, TRUTH).precision_recall_area == 1
    assert Ranking.of(np.full(TRUTH.shape, 0.3), TRUTH).precision_recall_area == pytest.approx(0.75)


def test_areas_are_those_of_all_distinct_scores():
    rng = np.random.default_rng(2)
    truth = rng.random((40, 50)) < 0.2
    scores = 1 / (1 + np.exp(-(rng.normal(0, 2, truth.shape) + 2 * truth)))
    exact, binned = roc_curve(scores, truth), Ranking.of(scores, truth)
    assert binned.roc_area == pytest.approx(exact.auc, abs=1e-4)
    recall = exact.sensitivity
    precision = exact.true_positives[1:] / (exact.true_positives[1:] + exact.false_positives[1:])
    area = np.trapezoid(np.r_[1.0, precision], recall)
    assert binned.precision_recall_area == pytest.approx(area, abs=2e-3)
    assert abs(area - exact.average_precision) > 1e-4


def test_precision_recall_is_by_trapezoids_from_full_precision():
    ranking = Ranking.of([0.9, 0.7, 0.5, 0.2], [True, False, True, False])
    assert ranking.precision_recall_area == pytest.approx(0.5 * 1 + 0.25 * (0.5 + 2 / 3))


def test_unknown_voxels_do_not_count_and_a_single_kind_has_no_area():
    scores = np.array([0.9, 0.8, 0.1])
    assert Ranking.of(scores, [True, False, False], [True, False, True]).roc_area == 1
    assert math.isnan(Ranking.of(scores, [False] * 3).roc_area)
    assert math.isnan(Ranking.of(scores, [False] * 3).precision_recall_area)
    assert math.isnan(Ranking.of(scores, [True] * 3).roc_area)
    with pytest.raises(ValueError, match="shape"):
        Ranking.of(scores, [True, False])


def test_scores_just_outside_count_as_the_nearer_end():
    scores, truth = np.array([1 + 1e-7, 0.4, -1e-7, 0.0]), [True, True, False, False]
    assert Ranking.of(scores, truth).roc_area == 1
    assert (
        Ranking.of(scores, [False, True, True, False]).roc_area == Ranking.of(scores.clip(0, 1), [0, 1, 1, 0]).roc_area
    )


@given(st.integers(0, 100))
def test_a_sum_pools_voxels(seed):
    rng = np.random.default_rng(seed)
    parts = [(rng.random(30), rng.random(30) < 0.5) for _ in range(2)]
    together = Ranking.of(*(np.concatenate([part[at] for part in parts]) for at in (0, 1)))
    pooled = Ranking.of(*parts[0]) + Ranking.of(*parts[1])
    assert pooled.roc_area == together.roc_area
    assert pooled.precision_recall_area == together.precision_recall_area
