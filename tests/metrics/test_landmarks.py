import numpy as np
import pytest

from ganatomy.metrics.landmarks import compare_landmarks

NOWHERE = [np.nan] * 3
TRUE = np.array([[0.0, 0, 0], [0, 0, 30], [0, 0, 60], NOWHERE])


def test_true_landmarks_are_identified():
    found = compare_landmarks(TRUE, TRUE)
    assert (found.rate, found.precision, found.recall, found.f1, found.mean_error) == (1, 1, 1, 1, 0)


def test_a_landmark_counts_that_is_close_to_its_own_and_closer_than_to_any_other():
    placed = np.array([[3.0, 4, 0], [0, 0, 48], [0, 21, 60], [0, 0, 90]])
    found = compare_landmarks(placed, TRUE)
    np.testing.assert_allclose(found.error, [5, 18, 21, np.nan])
    assert found.close.tolist() == [True, True, False, False]
    assert found.identified.tolist() == [True, False, False, False], "the second one is closer to the third"
    assert found.rate == pytest.approx(1 / 3) and found.recall == pytest.approx(2 / 3)
    assert found.precision == pytest.approx(2 / 4) and found.f1 == pytest.approx(4 / 7)
    assert found.mean_error == pytest.approx(44 / 3)
    assert found.rate_of(np.array([True, False, False, False])) == 1
    assert np.isnan(found.rate_of(np.array([False, False, False, True])))


def test_missing_landmarks_lower_the_rate_and_not_the_error():
    placed = TRUE.copy()
    placed[1] = np.nan
    found = compare_landmarks(placed, TRUE)
    assert found.rate == pytest.approx(2 / 3) and found.precision == 1 and found.mean_error == 0


def test_nothing_found_is_worth_nothing_and_nothing_true_is_not_defined():
    nothing = np.full((4, 3), np.nan)
    found = compare_landmarks(nothing, TRUE)
    assert (found.rate, found.precision, found.f1) == (0, 0, 0) and np.isnan(found.mean_error)
    empty = compare_landmarks(TRUE, nothing)
    assert np.isnan(empty.rate) and empty.precision == 0
    assert np.isnan(compare_landmarks(nothing, nothing).f1)
