import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.evaluation.sets import Request, bins_of, caveats, check_enough, copied, halves, measured


def split(subjects, most=100, seed=0):
    return halves(subjects, np.random.default_rng(seed), most)


def test_halves_share_no_subject_and_no_sample():
    subjects = ["c", "a", "a", "b", "b", "b", "d"]
    first, second = split(subjects)
    assert len(first) == len(second) > 1 and not set(first) & set(second)
    assert not {subjects[i] for i in first} & {subjects[i] for i in second}
    assert [len(half) for half in split(subjects, most=1)] == [1, 1]


def test_one_subject_is_halved_by_its_samples():
    first, second = split(["a"] * 7)
    assert len(first) == len(second) == 3 and not set(first) & set(second)


@pytest.mark.parametrize("seed", range(5))
def test_other_names_of_the_subjects_change_nothing(seed):
    subjects, pseudonyms = ["a", "a", "b", "c", "d"], {"a": "9f", "b": "03", "c": "7e", "d": "11"}
    for one, other in zip(
        split(subjects, 9, seed), split([pseudonyms[name] for name in subjects], 9, seed), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_no_seed_is_given_twice():
    seeds = [seed for number in range(3) for seed in Request(4, number).seeds]
    assert seeds == list(range(12))


def test_copies_are_told_beyond_three_times_what_is_expected():
    assert copied(0.05, 19, "they repeat") == "", "1 of 20 is expected of 19 held-out ones"
    assert copied(0.2, 19, "they repeat") == "20% of the samples look copied: they repeat, where 5% are expected."
    assert copied(0.02, 10_000, "they repeat") == "" and copied(0.04, 10_000, "they repeat")
    assert copied(float("nan"), 19, "they repeat") == ""


def test_sizes_of_sets_are_told():
    assert (
        "each of 30 real and as many generated vessels; 60 held-out real vessels, 1 training vessel"
        in (measured(30, 60, 1, "vessel")["Numbers"])
    )
    assert measured(30, 60, 1, "vessel")["Coverage"].startswith("0.98 ")
    small, gone = caveats(30, 1, "vessel")
    assert "30 vessels are small" in small and "training vessels are no longer available" in gone
    assert caveats(100, 2, "vessel") == []


def test_few_held_out_ones_are_refused():
    check_enough(4, "image")
    with pytest.raises(UserError, match="3 test images cannot be halved"):
        check_enough(3, "image")


def test_bins_hold_twenty_training_cases_where_there_are_enough():
    assert [bins_of(known) for known in (2, 50, 100, 400, 9000)] == [2, 4, 5, 20, 20]
