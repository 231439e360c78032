import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ganatomy.metrics.calibration import (
    balanced_log_loss,
    balanced_threshold,
    brier,
    log_loss,
    reliability,
    softmax,
    temperature,
)

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]])
TRUTH = [0, 1, 1, 2]


def test_brier_and_log_loss_of_known_cases() -> None:
    assert brier(PROBABILITIES, TRUTH) == pytest.approx([0.14, 0.26, 1.04, 0.98])
    assert log_loss(PROBABILITIES, TRUTH) == pytest.approx(-np.log([0.7, 0.6, 0.2, 0.2]))
    by_class = [-math.log(0.7), -(math.log(0.6) + math.log(0.2)) / 2, -math.log(0.2)]
    assert balanced_log_loss(PROBABILITIES, TRUTH) == pytest.approx(np.mean(by_class))
    with pytest.raises(ValueError, match="a class from 0 to K - 1"):
        brier(PROBABILITIES, [0, 1, 2, 3])


def test_reliability_by_hand() -> None:
    found = reliability([0.05, 0.12, 0.18, 0.95, 1.0], [0, 1, 0, 1, 1])
    assert found.counts.tolist() == [1, 2, 2]
    assert found.predicted == pytest.approx([0.05, 0.15, 0.975])
    assert found.observed == pytest.approx([0, 0.5, 1])
    assert found.error == pytest.approx((0.05 + 2 * 0.35 + 2 * 0.025) / 5)
    with pytest.raises(ValueError, match="several cases"):
        reliability([], [])


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30), st.integers(1, 12))
def test_the_calibration_error_is_that_of_a_loop_over_bins(rows: list[tuple[float, bool]], bins: int) -> None:
    total = 0.0
    for place in range(bins):
        inside = [(p, y) for p, y in rows if min(int(p * bins), bins - 1) == place]
        total += abs(sum(p - y for p, y in inside))
    assert reliability(*zip(*rows, strict=True), bins).error == pytest.approx(total / len(rows), abs=1e-9)


def test_a_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, (4000, 3))
    truth = [rng.choice(3, p=row) for row in softmax(logits)]
    assert temperature(3 * logits, truth) == pytest.approx(3, rel=0.08)
    assert temperature(0.5 * logits, truth) == pytest.approx(0.5, rel=0.08)
    assert np.argsort(softmax(logits / 3)[0]).tolist() == np.argsort(logits[0]).tolist()


def test_frequencies_of_classes_are_no_overconfidence() -> None:
    rng = np.random.default_rng(2)
    logits, offset = rng.normal(0, 2, (4000, 2)), np.log([0.9, 0.1])
    truth = [rng.choice(2, p=row) for row in softmax(logits + offset)]
    assert temperature(2 * logits, truth, offset) == pytest.approx(2, rel=0.1)
    assert temperature(2 * logits, truth) > 2.5


def test_the_temperature_of_few_cases_ranked_right_is_that_of_platts_targets() -> None:
    logits, truth = np.array([[0.0, -4.0], [0.0, -3.0], [0.0, 5.0]]), [0, 0, 1]
    targets = np.array([[3 / 4, 1 / 4], [3 / 4, 1 / 4], [1 / 3, 2 / 3]])
    want = minimize_scalar(
        lambda t: -(targets * np.log(softmax(logits / t))).sum(), bounds=(0.05, 20), method="bounded"
    ).x
    assert temperature(logits, truth) == pytest.approx(want, rel=1e-3) and want > 1


def test_a_threshold_lies_in_the_gap_with_the_best_balance() -> None:
    p, positive = np.array([0.1, 0.2, 0.3, 0.6, 0.9]), np.array([0, 0, 1, 0, 1])
    assert balanced_threshold(p, positive) == pytest.approx(0.25)
    assert balanced_threshold([0.02, 0.04, 0.1], [0, 0, 1]) == pytest.approx(0.07)
    assert math.isnan(balanced_threshold(p, np.ones(5)))


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=20))
def test_no_other_threshold_is_better(rows: list[tuple[int, bool]]) -> None:
    p, positive = np.array([one / 10 for one, _ in rows]), np.array([one for _, one in rows])
    if positive.all() or not positive.any():
        return

    def gain(level: float) -> float:
        return float((p[positive] >= level).mean() - (p[~positive] >= level).mean())

    found = balanced_threshold(p, positive)
    assert 0 < found < 1 and gain(found) == pytest.approx(max(gain(level) for level in np.linspace(-0.05, 1.05, 111)))
