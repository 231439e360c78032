import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.metrics.classification import (
    TuringTest,
    auc_values,
    balanced_accuracy_values,
    binomial_p,
    cohen_kappa,
    confusion,
    fleiss_kappa,
    mcnemar,
    sensitivity_values,
    trials_for_equivalence,
    turing_test,
)
from ganatomy.metrics.detection import Proportion, auc, delong


def test_confusion_of_three_classes() -> None:
    result = confusion([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2])
    assert result.counts.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert result.accuracy == Proportion(4, 6)
    assert result.sensitivity == pytest.approx([2 / 3, 1 / 2, 1])
    assert result.specificity == pytest.approx([1, 3 / 4, 4 / 5])
    assert result.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert result.f1 == pytest.approx([4 / 5, 1 / 2, 2 / 3])
    assert result.macro_f1 == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


def test_a_class_without_cases_is_undefined_and_left_out_of_means() -> None:
    result = confusion([0, 0, 1], [0, 0, 1], classes=4)
    assert result.counts.shape == (4, 4)
    assert np.isnan(result.sensitivity).tolist() == [False, False, True, True]
    assert result.balanced_accuracy == 1
    assert result.macro_f1 == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_confusion_counts_every_case_once(cases: list[tuple[int, int]]) -> None:
    truth, predicted = zip(*cases, strict=True)
    result = confusion(truth, predicted, classes=4)
    assert result.counts.sum() == len(cases)
    assert result.accuracy.count == sum(t == p for t, p in cases)
    np.testing.assert_array_equal(confusion(predicted, truth, classes=4).counts, result.counts.T)


def test_unusable_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="0 to 1, not 0 to 2"):
        confusion([0, 2], [0, 1], classes=2)
    with pytest.raises(ValueError, match="not -1"):
        confusion([0, -1], [0, 1])
    with pytest.raises(ValueError, match="per case"):
        confusion([0, 1], [0])


def test_mcnemar_of_a_known_table() -> None:
    first = np.repeat([1, 1, 0, 0], [50, 25, 12, 9])
    second = np.repeat([1, 0, 1, 0], [50, 25, 12, 9])
    result = mcnemar(first, second)
    assert (result.only_first, result.only_second) == (25, 12)
    assert result.chi2 == pytest.approx(144 / 37)
    assert result.p == pytest.approx(0.0485, abs=1e-4)
    assert result.exact_p == pytest.approx(2 * sum(math.comb(37, i) for i in range(13)) / 2**37)
    assert mcnemar(first, first).p == 1
    assert mcnemar([1, 0], [0, 1]).chi2 == 0


@pytest.mark.parametrize(
    ("right", "p", "interval"),
    [
        (189, 1.4e-5, (0.570, 0.679)),
        (177, 0.0033, (0.530, 0.640)),
    ],
)
def test_two_radiologists_on_302_lesions(right: int, p: float, interval: tuple[float, float]) -> None:
    assert binomial_p(right, 302) == pytest.approx(p, rel=0.04)
    assert Proportion(right, 302).interval == pytest.approx(interval, abs=5e-4)


def test_always_saying_real_beats_a_radiologist_on_an_unbalanced_set() -> None:
    is_real = np.arange(302) < 182
    lazy = turing_test(is_real, np.ones(302))
    assert lazy.accuracy.value == pytest.approx(0.603, abs=5e-4)
    assert lazy.accuracy.value > 177 / 302
    assert lazy.without_looking == pytest.approx(182 / 302)
    assert lazy.balanced_accuracy == 0.5
    assert lazy.d_prime == pytest.approx(0, abs=0.2)
    assert lazy.bias < -2


def test_rates_and_detectability_of_a_rater() -> None:
    is_real = np.arange(200) < 100
    says_real = np.concatenate([np.arange(100) < 84, np.arange(100) < 50])
    result = turing_test(is_real, says_real)
    assert (result.recognised, result.fooled) == (Proportion(84, 100), Proportion(50, 100))
    assert result.accuracy == Proportion(134, 200)
    assert result.balanced_accuracy == pytest.approx(0.67)
    assert result.d_prime == pytest.approx(0.98, abs=0.02)  # Φ⁻¹(84.5 / 101) - Φ⁻¹(50.5 / 101)
    assert result.bias == pytest.approx(-0.49, abs=0.01)
    assert result.p < 1e-5
    with pytest.raises(ValueError, match="real and synthetic"):
        turing_test([1, 1], [0, 1])


def test_indistinguishable_must_be_shown_by_enough_answers() -> None:
    few, many = (TuringTest(Proportion(n // 2, n), Proportion(n // 2, n)) for n in (20, 200))
    assert few.p > 0.9
    assert not few.indistinguishable()
    assert many.indistinguishable()
    assert not many.indistinguishable(margin=0.02)
    assert not TuringTest(Proportion(150, 200), Proportion(80, 200)).indistinguishable()


def test_cohens_kappa_of_a_known_table() -> None:
    first = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])
    second = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(first, first) == pytest.approx(1)
    assert cohen_kappa([0, 0, 1, 1], [0, 1, 0, 1]) == pytest.approx(0)
    assert math.isnan(cohen_kappa([1, 1], [1, 1]))


def test_fleiss_kappa_of_a_known_table() -> None:
    # Fourteen raters, ten subjects, five categories: a table worked through in textbooks.
    table = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    assert fleiss_kappa(table) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa([[3, 0], [0, 3]]) == 1
    assert math.isnan(fleiss_kappa([[3, 0], [3, 0]]))
    with pytest.raises(ValueError, match="same number of raters"):
        fleiss_kappa([[3, 0], [1, 1]])


def test_images_that_equivalence_takes() -> None:
    assert trials_for_equivalence(0.1) == 215  # 214.1


classified = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=4, max_size=30)


@given(classified)
def test_values_of_cases_have_the_mean_of_all_together(rows: list[tuple[int, int]]) -> None:
    truth, numbers = (np.array(one) for one in zip(*rows, strict=True))
    found = numbers % 3
    counts = confusion(truth, found, 3)
    assert balanced_accuracy_values(found == truth, truth).mean() == pytest.approx(counts.balanced_accuracy)
    for place in range(3):
        values = sensitivity_values(found == truth, truth, place)
        assert values.mean() == pytest.approx(counts.sensitivity[place], nan_ok=True)
    scores = np.stack([numbers == 0, numbers / 8, numbers % 4], axis=1)
    areas = [auc(scores[:, place], truth == place) for place in np.unique(truth)]
    assert auc_values(scores, truth).mean() == pytest.approx(np.mean(areas), nan_ok=True)


def test_values_of_two_classes_have_delongs_variance() -> None:
    rng = np.random.default_rng(4)
    truth = (np.arange(200) < 40).astype(int)
    positive = 1 / (1 + np.exp(-rng.normal(size=200) - truth))
    values = auc_values(np.stack([1 - positive, positive], axis=1), truth)
    want = delong(positive, truth)
    assert values.mean() == pytest.approx(want.value)
    assert values.std() / math.sqrt(200) == pytest.approx(want.standard_error, rel=0.02)


def test_values_of_a_share_have_the_error_of_a_proportion_of_its_class() -> None:
    truth = np.repeat([0, 1], [30, 10])
    right = np.r_[np.arange(30) < 24, np.arange(10) < 6]
    of_one = sensitivity_values(right, truth, 1)
    assert of_one.std() / math.sqrt(40) == pytest.approx(math.sqrt(0.6 * 0.4 / 10))
    both = balanced_accuracy_values(right, truth)
    assert both.mean() == pytest.approx(0.7)
    assert both.std() / math.sqrt(40) == pytest.approx(math.sqrt((0.8 * 0.2 / 30 + 0.24 / 10) / 4))


def test_ranks_of_a_single_class_have_no_area() -> None:
    assert np.isnan(auc_values(np.full((3, 2), 0.5), np.zeros(3, int))).all()
