import numpy as np
import pytest

from ganatomy.evaluation.sets import Request, halves


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
