import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_ind, ttest_rel

from ganatomy.metrics.statistics import (
    Interval,
    bland_altman,
    bootstrap_mean,
    compare,
    contrast,
    crossed_interval,
    difference_interval,
    holm,
    subject_means,
    wilcoxon,
)


def test_every_subject_counts_once() -> None:
    values = [10.0] * 100 + [20.0, 30.0]
    subjects = ["a"] * 100 + ["b", "c"]
    interval = bootstrap_mean(values, subjects)
    assert interval.mean == pytest.approx(20)
    assert (interval.n, interval.unit_of_resampling) == (3, "subject")
    assert subject_means(values, subjects) == {"a": 10, "b": 20, "c": 30}


def test_slices_of_a_subject_do_not_narrow_the_interval() -> None:
    means = np.random.default_rng(0).normal(0, 1, 8)
    once = bootstrap_mean(means, [*"abcdefgh"])
    often = bootstrap_mean(np.repeat(means, 50), [s for s in "abcdefgh" for _ in range(50)])
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


def test_the_interval_covers_the_truth_for_few_subjects() -> None:
    rng = np.random.default_rng(0)
    intervals = [bootstrap_mean(rng.normal(5, 2, 8), resamples=2000, seed=i) for i in range(300)]
    covered = np.mean([i.low <= 5 <= i.high for i in intervals])
    assert 0.90 <= covered <= 0.985


def test_the_bootstrap_approaches_the_known_standard_error() -> None:
    values = np.random.default_rng(1).normal(0, 3, 400)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.05)
    assert interval == bootstrap_mean(values)
    assert interval != bootstrap_mean(values, seed=1)


def test_one_subject_falls_back_to_slices_and_says_so() -> None:
    interval = bootstrap_mean([1.0, 2.0, 3.0], ["a"] * 3)
    assert (interval.n, interval.unit_of_resampling) == (3, "slice")
    assert interval.caveat == "1 subject: interval over slices, not over patients"
    comparison = compare([3, 4, 5], [1, 1, 1], ["a"] * 3)
    assert comparison.p is None
    assert "interval over slices, not over patients" in comparison.words
    assert "Wilcoxon" not in comparison.words


def test_undefined_values_are_left_out_and_counted() -> None:
    interval = bootstrap_mean([1.0, math.inf, 3.0, math.nan], [*"abcd"])
    assert (interval.mean, interval.n, interval.excluded) == (2, 2, 2)
    assert "2 undefined values left out" in interval.caveat


def test_a_single_value_has_no_interval() -> None:
    interval = bootstrap_mean([4.0])
    assert interval.mean == 4 and math.isnan(interval.low) and math.isnan(interval.high)
    assert math.isnan(bootstrap_mean([math.nan]).mean)


def test_labels_must_match_values() -> None:
    with pytest.raises(ValueError, match="3 values but 2 subject labels"):
        bootstrap_mean([1, 2, 3], ["a", "b"])


def test_holm_adjusts_in_the_order_given() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_order_and_never_lowers_p(p: list[float]) -> None:
    adjusted = np.array(holm(p))
    assert np.all(adjusted >= np.array(p)) and np.all(adjusted <= 1)
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)


def test_limits_of_agreement() -> None:
    agreement = bland_altman([1, 3, 5], [0, 1, 2])
    assert (agreement.bias, agreement.sd, agreement.n) == (2, 1, 3)
    assert (agreement.lower, agreement.upper) == pytest.approx((0.04, 3.96))


def test_verdicts() -> None:
    subjects = [f"s{i}" for i in range(8)]
    base = np.linspace(20, 27, 8)
    gain = np.linspace(3, 5, 8)
    win = compare(base + gain, base, subjects, metric="psnr[-160,240]", unit="dB")
    assert (win.outcome, win.improved, win.p) == ("better", 8, pytest.approx(2 / 256))
    assert win.words.startswith("Output is better than input on psnr[-160,240] by 4.0 dB (95% CI 3.4 to 4.6")
    assert win.words.endswith("and better in 8 of 8 subjects, Wilcoxon p = 0.0078.")
    loss = compare(base + gain, base, subjects, better="lower")
    assert loss.outcome == "worse"
    assert loss.words.startswith("Output is worse than input by 4.0 (95% CI 3.4 to 4.6), and better in 0 of 8")
    assert compare(base - gain, base, subjects, better="lower").outcome == "better"
    tie = compare(base + np.array([1, -1] * 4), base, subjects, names=("ours", "BM3D"))
    assert tie.outcome == "undecided" and tie.words.startswith("Ours and BM3D cannot be told apart")


def test_few_subjects_are_named_as_few() -> None:
    words = compare([5, 6, 7, 8], [1, 1, 1, 1], [*"abcd"]).words
    assert "4 subjects: the interval cannot reach beyond those seen" in words
    assert "p cannot fall below 0.12" in words


def test_an_interval_reads_well() -> None:
    assert str(Interval(31.234, 29.9, 32.5, 4)) == "31.2 (95% CI 29.9 to 32.5, 4 subjects)"
    assert str(Interval(0.91234, 0.9, 0.92, 1)) == "0.912 (95% CI 0.900 to 0.920, 1 subject)"


def crossed(rng: np.random.Generator, runs: int, subjects: int, sds: tuple[float, float, float]) -> np.ndarray:
    """Draw values around 0 with random effects of runs and subjects and residual noise, by their SDs."""
    parts = rng.normal(size=(runs, 1)), rng.normal(size=(1, subjects)), rng.normal(size=(runs, subjects))
    return sum(sd * part for sd, part in zip(sds, parts, strict=True))


@pytest.mark.parametrize("runs", [2, 3, 5])
@pytest.mark.parametrize("sds", [(0.0, 0.0, 1.0), (0.0, 1.0, 0.5), (1.0, 1.0, 1.0), (1.0, 0.0, 0.3)])
def test_two_alike_are_told_apart_no_more_often_than_promised(runs: int, sds: tuple[float, float, float]) -> None:
    """Simulate differences of two arms that differ in seeds only: the interval holds zero in about 95 % of cases."""
    rng, tries = np.random.default_rng(5), 600
    found = [crossed_interval(crossed(rng, runs, 10, sds)) for _ in range(tries)]
    held = sum(one.low <= 0 <= one.high for one in found) / tries
    assert 0.88 <= held <= 0.99


def test_a_crossed_interval_of_equal_runs_is_students() -> None:
    values = np.random.default_rng(1).normal(3, 1, 7)
    found, expected = crossed_interval([values] * 3), ttest_1samp(values, 0).confidence_interval()
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), expected.low, expected.high))
    assert found.caveat == "" and found.n == 7
    assert bootstrap_mean([1.0], ["a"]).caveat == "1 subject: there is no interval"


def test_a_crossed_interval_knows_its_limits() -> None:
    assert crossed_interval([[1.0, 2.0, 4.0]]) == bootstrap_mean([1.0, 2.0, 4.0])
    assert math.isnan(crossed_interval([[1.0], [2.0]]).low)
    same = crossed_interval(np.full((2, 4), 0.1))
    assert same.low == same.mean == same.high and same.caveat == ""
    left = crossed_interval([[1.0, math.nan, 3.0], [2.0, 5.0, 3.5]])
    assert (left.n, left.excluded, left.mean) == (2, 1, 2.375)


@pytest.mark.parametrize(("runs", "subjects"), [(1, 10), (2, 4), (3, 3), (3, 10), (5, 6)])
@pytest.mark.parametrize("sds", [(0.0, 1.0, 0.5), (1.0, 1.0, 1.0), (1.0, 0.0, 0.3), (0.3, 1.0, 0.1)])
def test_equal_methods_are_rarely_called_different(runs: int, sds: tuple[float, float, float], subjects: int) -> None:
    """Simulate two methods that differ in their runs only: at most a tenth of the pairs may be decided."""
    rng, tries = np.random.default_rng(11), 100
    decided = 0
    for _ in range(tries):
        own = sds[1] * rng.normal(size=(1, subjects))
        first, second = (own + crossed(rng, runs, subjects, (sds[0], 0.0, sds[2])) for _ in range(2))
        decided += contrast(first, second).outcome in ("better", "worse")
    assert decided / tries <= (0.1 if runs >= 3 else 0)


def test_real_differences_are_found() -> None:
    rng, tries = np.random.default_rng(12), 40
    found = []
    for _ in range(tries):
        own = rng.normal(size=(1, 8))
        first, second = (own + crossed(rng, 3, 8, (0.2, 0.0, 0.2)) for _ in range(2))
        found.append(contrast(first + 1.5, second, better="lower").outcome)
    assert found.count("worse") >= 0.9 * tries and "better" not in found


def test_an_interval_of_a_difference_is_welchs_where_subjects_agree() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0, 1, 4), rng.normal(2, 3, 6)
    own = rng.normal(size=5)
    found = difference_interval(first[:, None] + own, second[:, None] + own)
    expected = ttest_ind(first, second, equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_an_interval_of_a_difference_is_students_where_runs_agree() -> None:
    first, second = np.random.default_rng(4).normal(size=(2, 7))
    found = difference_interval([first] * 3, [second] * 4)
    expected = ttest_rel(first, second).confidence_interval()
    assert (found.mean, found.low, found.high) == pytest.approx(((first - second).mean(), expected.low, expected.high))


def test_a_difference_leaves_out_subjects_without_a_value_of_both() -> None:
    first, second = np.random.default_rng(5).normal(size=(2, 3, 6))
    first[1, 2], second[0, 4] = math.nan, math.inf
    found, kept = difference_interval(first, second), [0, 1, 3, 5]
    alone = difference_interval(first[:, kept], second[:, kept])
    assert (found.n, found.excluded, found.mean, found.low) == (4, 2, alone.mean, alone.low)


def test_a_difference_knows_its_limits() -> None:
    one = difference_interval([[1.0, 2.0, 4.0]], [[0.0, 0.5, 1.0]] * 3)
    assert one == bootstrap_mean([1.0, 1.5, 3.0])
    assert math.isnan(difference_interval([[1.0], [2.0], [3.0]], [[0.0]] * 3).low)
    same = difference_interval(np.ones((3, 4)), np.zeros((3, 4)))
    assert same.low == same.mean == same.high == 1
    assert contrast(np.ones((3, 4)), np.zeros((3, 4))).outcome == "better"
    assert contrast([[1.0], [2.0], [3.0]], [[0.0]] * 3).outcome == "undecided"


def test_exact_p_values() -> None:
    assert wilcoxon([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2 / 32)
    assert wilcoxon([0.0, 0.0, 0.0]) == 1


@pytest.mark.parametrize(("labels", "few"), [("aaaa", "One"), ("aabb", "Two"), ("aabc", "")])
def test_few_subjects_decide_nothing_however_many_slices_they_have(labels: str, few: str) -> None:
    found = compare([5, 6, 7, 8], [1, 1, 1, 1], [*labels], metric="dice")
    assert found.outcome == ("undecided" if few else "better")
    told = f"{few} test subject{'s' if few == 'Two' else ''}: no comparison can be decided. output and input differ"
    assert found.words.startswith(told if few else "Output is better")
    runs = contrast(np.full((3, len({*labels})), 2.0), np.full((3, len({*labels})), 1.0))
    assert runs.outcome == ("undecided" if few else "better")
