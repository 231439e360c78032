import numpy as np
import pytest

from ganatomy.metrics.landmarks import DETECTED, compare_landmarks, dice_of_contours

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


def test_detections_count_true_landmarks_that_are_lost():
    true = np.array([[0.0, 0, 0], [0, 0, 50], [0, 0, 90], [np.nan] * 3])
    found = np.array([[2.2, 0, 0], [np.nan] * 3, [0, 3.5, 90], [0, 0, 7]])
    scores = compare_landmarks(found, true)
    assert [scores.detected(limit) for limit in DETECTED] == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3])
    assert np.isnan(compare_landmarks(found, np.full((4, 3), np.nan)).detected(2.0))


def test_the_region_is_that_of_the_spline_through_the_points_that_are_there():
    angles = 2 * np.pi * np.arange(6) / 6
    true = np.stack([-60 * np.cos(angles), 60 * np.sin(angles)], 1)
    assert dice_of_contours(true, true) == 1
    off = true.copy()
    off[0] *= 72 / 60
    assert dice_of_contours(off, true) == pytest.approx(0.963, abs=0.003)
    lost = true.copy()
    lost[[1, 4]] = np.nan
    assert 0.75 < dice_of_contours(lost, true) < 0.9
    lost[[0, 3]] = np.nan
    assert dice_of_contours(lost, true) == 0 and np.isnan(dice_of_contours(true, lost))
