import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.metrics.detection import (
    Proportion,
    auc,
    delong,
    delong_difference,
    detect_lesions,
    dice,
    normalised_cross_correlation,
    pooled,
    remove_small,
    roc_curve,
    threshold_at_false_positive_rate,
)

cases = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=4, max_size=40).filter(
    lambda rows: 2 <= sum(label for _, label in rows) <= len(rows) - 2
)


def split(rows: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score for score, _ in rows], dtype=float), np.array([label for _, label in rows])


@given(cases)
def test_the_area_counts_pairs_in_the_right_order_and_ties_by_half(rows: list[tuple[int, bool]]) -> None:
    scores, labels = split(rows)
    pairs = scores[labels][:, None] - scores[~labels]
    expected = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert auc(scores, labels) == pytest.approx(expected)
    assert roc_curve(scores, labels).auc == pytest.approx(expected)
    assert delong(scores, labels).value == pytest.approx(expected)
    assert auc(-scores, labels) == pytest.approx(1 - expected)


@given(cases)
def test_delong_is_the_variance_of_the_placements(rows: list[tuple[int, bool]]) -> None:
    scores, labels = split(rows)
    pairs = scores[labels][:, None] - scores[~labels]
    wins = (pairs > 0) + 0.5 * (pairs == 0)
    variance = wins.mean(axis=1).var(ddof=1) / len(pairs) + wins.mean(axis=0).var(ddof=1) / pairs.shape[1]
    assert delong(scores, labels).standard_error == pytest.approx(math.sqrt(variance), abs=1e-12)


def test_delongs_interval_holds_what_it_promises() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(120) < 50
    truth = 0.760250  # Φ(1 / √2)
    draws = [delong(rng.normal(size=120) + labels, labels) for _ in range(400)]
    assert np.mean([d.low < truth < d.high for d in draws]) == pytest.approx(0.95, abs=0.03)
    assert np.mean([d.standard_error for d in draws]) == pytest.approx(np.std([d.value for d in draws]), rel=0.1)


def test_paired_scores_are_compared_case_by_case() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) < 100
    shared = rng.normal(size=200) + labels
    better, worse = shared + 0.3 * rng.normal(size=200), shared + 1.5 * rng.normal(size=200)
    difference = delong_difference(better, worse, labels)
    assert difference.value == pytest.approx(auc(better, labels) - auc(worse, labels))
    assert difference.p < 0.01
    assert difference.low > 0
    assert delong_difference(better, 2 * better, labels).p == 1


def test_average_precision_of_a_known_ranking() -> None:
    curve = roc_curve([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0])
    assert curve.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert roc_curve([1, 1, 1, 1], [1, 0, 0, 0]).average_precision == pytest.approx(1 / 4)


@given(cases)
def test_best_dice_is_the_best_of_all_thresholds(rows: list[tuple[int, bool]]) -> None:
    scores, labels = split(rows)
    threshold, best = roc_curve(scores, labels).best_dice()
    assert dice(scores >= threshold, labels) == pytest.approx(best)
    assert best == pytest.approx(max(dice(scores >= t, labels) for t in np.unique(scores)))


@given(cases, st.floats(0, 1))
def test_thresholds_keep_to_the_false_positive_rate_and_are_the_lowest(
    rows: list[tuple[int, bool]], rate: float
) -> None:
    scores, labels = split(rows)
    healthy = scores[~labels]
    curve = roc_curve(scores, labels)
    of_curve = curve.threshold_at_false_positive_rate(rate)
    assert np.mean(healthy >= of_curve) <= rate + 1e-9
    assert all(np.mean(healthy >= lower) > rate - 1e-9 for lower in scores[scores < of_curve])
    free = threshold_at_false_positive_rate(healthy, rate)
    assert np.mean(healthy >= free) <= rate + 1e-9
    assert free == -math.inf or np.mean(healthy >= np.nextafter(free, -math.inf)) > rate - 1e-9


def test_the_youden_threshold_separates_best() -> None:
    curve = roc_curve([1, 2, 3, 4, 5, 6], [0, 1, 0, 0, 1, 1])
    assert curve.youden_threshold == 5
    point = curve.at(5)
    assert (point.sensitivity.value, point.specificity.value, point.precision.value) == (2 / 3, 1, 1)
    assert curve.at(4.5).sensitivity.value == 2 / 3
    assert curve.at(-1).specificity.value == 0
    assert math.isnan(curve.at(7).precision.value)


def test_wilsons_interval() -> None:
    low, high = Proportion(189, 302).interval
    assert (round(low, 3), round(high, 3)) == (0.570, 0.679)
    low, high = Proportion(177, 302).interval
    assert (round(low, 3), round(high, 3)) == (0.530, 0.640)
    assert Proportion(0, 10).interval == pytest.approx((0, 0.2775), abs=1e-4)
    assert math.isnan(Proportion(0, 0).interval[0])


def test_dice_of_masks() -> None:
    assert dice([1, 1, 0, 0], [1, 0, 1, 0]) == 0.5
    assert dice([0, 0], [0, 0]) == 1
    assert dice([1, 0], [0, 0]) == 0


def test_lesions_are_counted_by_component() -> None:
    truth, prediction = np.zeros((2, 12, 12, 12), dtype=bool)
    truth[1:3, 1:3, 1:3] = True
    truth[3, 3, 3] = True  # touches the first by a corner: one lesion of nine voxels
    truth[7:9, 7:9, 7:9] = True
    prediction[3, 3, 3] = True
    prediction[1, 10, 10:12] = True
    prediction[10, 0, 0] = True
    any_voxel = detect_lesions(prediction, truth)
    assert (any_voxel.lesions, any_voxel.found, any_voxel.false_positives) == (2, 1, 2)
    assert detect_lesions(prediction, truth, overlap=1 / 9).found == 1
    assert detect_lesions(prediction, truth, overlap=0.2).found == 0
    without_specks = detect_lesions(prediction, truth, minimum_voxels=2)
    assert (without_specks.found, without_specks.false_positives) == (0, 1)
    both = pooled([any_voxel, without_specks])
    assert both.sensitivity == Proportion(1, 4)
    assert both.false_positives_per_volume == 1.5
    assert both.precision == Proportion(1, 4)


def test_a_healthy_volume_has_no_lesions_to_find() -> None:
    empty = np.zeros((6, 6))
    assert detect_lesions(empty, empty) == detect_lesions(empty, empty)
    assert math.isnan(detect_lesions(empty, empty).sensitivity.value)


def test_small_components_go_and_the_rest_stays() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, 0] = mask[1, 1] = mask[5, 5] = True
    assert remove_small(mask, 2).sum() == 2
    assert remove_small(mask, 1).sum() == 3


def test_cross_correlation_ignores_offset_and_scale_but_not_sign() -> None:
    truth = np.zeros((10, 10))
    truth[2:5, 2:5] = 1
    noise = np.random.default_rng(0).normal(size=truth.shape)
    assert normalised_cross_correlation(5 * truth - 3, truth) == pytest.approx(1)
    assert normalised_cross_correlation(-truth, truth) == pytest.approx(-1)
    assert normalised_cross_correlation(noise, truth) == pytest.approx(np.corrcoef(noise.ravel(), truth.ravel())[0, 1])
    assert math.isnan(normalised_cross_correlation(0 * truth, truth))


def test_one_class_alone_has_no_area() -> None:
    assert math.isnan(auc([1, 2, 3], [0, 0, 0]))
    assert math.isnan(roc_curve([1, 2, 3], [1, 1, 1]).auc)
    assert math.isnan(roc_curve([1, 2, 3], [1, 1, 1]).youden_threshold)
    assert roc_curve([1, 2, 3], [0, 0, 0]).best_dice() == (math.inf, 1)
    with pytest.raises(ValueError, match="either class"):
        delong([1, 2, 3], [0, 0, 1])
    with pytest.raises(ValueError, match="differ in shape"):
        auc([1, 2, 3], [0, 1])
    with pytest.raises(ValueError, match="not a number"):
        auc([1, math.nan], [0, 1])
