import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.errors import UserError
from ganatomy.metrics.agatston import AgatstonScore, agatston, risk_class, weighted_kappa


def square(slices: int, hu: float = 350.0) -> np.ndarray:
    volume = np.zeros((slices + 2, 12, 12))
    volume[1:-1, 4:8, 4:8] = hu
    return volume


def score(volume: np.ndarray, spacing: tuple[float, float, float] = (3.0, 0.5, 0.5)) -> AgatstonScore:
    return agatston(volume, spacing, np.ones(volume.shape, bool))


@pytest.mark.parametrize(("slices", "increment", "expected"), [(1, 3.0, 12), (2, 3.0, 24), (4, 1.5, 24)])
def test_a_square_of_four_square_millimetres(slices: int, increment: float, expected: float) -> None:
    result = score(square(slices), (increment, 0.5, 0.5))
    assert result.score == pytest.approx(expected)
    assert result.volume_mm3 == pytest.approx(4 * slices * increment)
    assert result.lesions == 1


@pytest.mark.parametrize(
    ("peak", "weight"),
    [(129, 0), (130, 1), (199, 1), (200, 2), (299, 2), (300, 3), (399, 3), (400, 4), (1500, 4)],
)
def test_weight_follows_the_peak(peak: float, weight: int) -> None:
    assert score(square(1, peak)).score == pytest.approx(4 * weight)


def test_the_peak_is_taken_per_lesion_and_slice() -> None:
    volume = square(2, 150)
    volume[1, 5, 5] = 450
    volume[1, 0:3, 0] = 250
    assert score(volume).score == pytest.approx(4 * 4 + 4 * 1 + 0.75 * 2)
    assert score(volume).lesions == 2


def test_lesions_join_across_corners() -> None:
    volume = np.zeros((2, 4, 4))
    volume[0, 1, 1] = volume[1, 2, 2] = 200
    assert score(volume, (3, 1, 1)).lesions == 1


def test_specks_and_what_lies_outside_the_region_do_not_count() -> None:
    volume = square(1)
    volume[1, 0, 0] = 500
    assert score(volume).score == pytest.approx(12)
    assert agatston(volume, (3, 0.5, 0.5), volume == 500, min_volume_mm3=0).score == pytest.approx(1)
    assert agatston(volume, (3, 0.5, 0.5), np.zeros(volume.shape)) == AgatstonScore(0.0, 0.0, 0)


def test_a_lower_threshold_still_counts_once() -> None:
    volume = square(1, 110)
    assert agatston(volume, (3, 0.5, 0.5), np.ones(volume.shape), threshold=100).score == pytest.approx(4)


@given(st.integers(0, 3), st.integers(0, 3))
def test_the_score_does_not_move_with_the_patient(rows: int, columns: int) -> None:
    volume = np.random.default_rng(0).choice([0.0, 150.0, 420.0], (3, 9, 9), p=[0.7, 0.2, 0.1])
    moved = np.pad(volume, ((0, 0), (rows, 0), (columns, 0)))
    assert score(moved) == score(volume)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (10, 0), (10.5, 1), (100, 1), (101, 2), (1000, 2), (1001, 3)])
def test_risk_classes(value: float, expected: int) -> None:
    assert risk_class(value) == expected


def test_other_risk_classes() -> None:
    assert [risk_class(s, (0, 10, 100, 400)) for s in (0, 1, 50, 400, 401)] == [0, 1, 2, 3, 4]


def test_kappa_known_values() -> None:
    assert weighted_kappa([0, 1, 2, 3], [0, 1, 2, 3]) == 1
    assert weighted_kappa([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0)
    assert weighted_kappa([0, 1, 2], [0, 1, 1]) == pytest.approx(1 - (1 / 3) / (7 / 9))
    assert np.isnan(weighted_kappa([2, 2], [2, 2]))


def test_bad_input_is_refused() -> None:
    with pytest.raises(UserError, match="same shape"):
        agatston(np.zeros((2, 3, 3)), (3, 1, 1), np.zeros((2, 3, 4)))
    with pytest.raises(UserError, match="two ratings"):
        weighted_kappa([1], [1, 2])
