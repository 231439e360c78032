import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ganatomy.case import Case
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.data.splits import Fold, divide, folds, recorded, split_by_subject
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoising


def case(name, subject, split="train", label=None):
    return Case(name, subject, split, {}, label)


@given(
    st.lists(st.integers(0, 12), min_size=2, max_size=30),
    st.integers(0, 99),
    st.data(),
)
@settings(deadline=None)
def test_no_subject_is_ever_on_both_sides(owners, seed, data):
    cases = [case(f"c{n}", f"s{owner}") for n, owner in enumerate(owners)]
    names = sorted({found.subject for found in cases})
    pick = st.lists(st.sampled_from(names), max_size=2, unique=True)
    test = data.draw(pick)
    val = [name for name in data.draw(pick) if name not in test]
    try:
        found = split_by_subject(cases, test, val, seed)
    except UserError as error:
        assert "no subject is left for training" in str(error)
        return
    assert [c.name for c in found] == [c.name for c in cases]
    sides = {}
    for each in found:
        assert sides.setdefault(each.subject, each.split) == each.split
    assert "train" in sides.values()
    assert all(sides[name] == "test" for name in test) and all(sides[name] == "val" for name in val)
    if test:
        assert {name for name, side in sides.items() if side == "test"} == set(test)
    if val:
        assert {name for name, side in sides.items() if side == "val"} == set(val)
    assert found == split_by_subject(cases, test, val, seed)


def test_a_fifth_is_kept_for_testing_and_a_tenth_chooses_weights():
    found = split_by_subject([case(str(n), f"s{n}") for n in range(20)])
    assert [sum(c.split == side for c in found) for side in ("train", "val", "test")] == [14, 2, 4]
    other = split_by_subject([case(str(n), f"s{n}") for n in range(20)], seed=1)
    assert [c.split for c in found] != [c.split for c in other]


def test_the_only_subject_is_trained_on():
    assert [c.split for c in split_by_subject([case("a", "s"), case("b", "s")])] == ["train", "train"]


def test_as_many_subjects_are_drawn_for_validation_as_its_scores_need():
    cases = [case(str(n), f"s{n}") for n in range(8)]
    told = [case("t", "t", "test"), *cases]
    for fewest in (1, 2):
        for some in (cases, told):
            assert sum(one.split == "val" for one in split_by_subject(some, fewest=fewest)) == fewest


@pytest.mark.parametrize(
    ("test", "val", "told"),
    [
        (("x",), (), "subject 'x' is not in the data; there are s0, s1"),
        ((), ("x",), "subject 'x' is not in the data"),
        (("s0",), ("s0",), "both name s0; splits are by subject"),
        (("s0", "s1"), (), "no subject is left for training"),
    ],
)
def test_named_subjects_must_make_sense(test, val, told):
    with pytest.raises(UserError, match=told):
        split_by_subject([case("a", "s0"), case("b", "s1")], test, val)


def test_a_manifest_that_names_no_validation_gets_some_where_there_are_enough():
    told = [case(f"c{n}", f"s{n}", "test" if n > 7 else "train") for n in range(10)]
    found = split_by_subject(told)
    assert sum(item.split == "val" for item in found) == 1
    assert {item.subject for item in found if item.split == "test"} == {"s8", "s9"}
    assert split_by_subject(told[4:]) == told[4:], "four are too few to spare one"
    named = [*told, case("v", "v", "val")]
    assert split_by_subject(named) == named


@given(st.sets(st.integers(0, 40), min_size=2, max_size=17), st.integers(2, 7), st.integers(0, 9), st.randoms())
@settings(deadline=None)
def test_folds_share_all_subjects_evenly_whatever_their_order(numbers, count, seed, random):
    subjects = [f"s{number}" for number in numbers]
    if len(subjects) < count:
        with pytest.raises(UserError, match=f"--folds {count}: there are only {len(subjects)} subjects"):
            folds(subjects, count, seed)
        return
    parts = folds(subjects, count, seed)
    assert sorted(name for part in parts for name in part) == sorted(subjects)
    sizes = {len(part) for part in parts}
    assert len(parts) == count and max(sizes) - min(sizes) <= 1
    shuffled = [*subjects, *subjects]
    random.shuffle(shuffled)
    assert folds(shuffled, count, seed) == parts


def test_folds_depend_on_the_seed():
    subjects = [f"s{number}" for number in range(11)]
    assert folds(subjects, 3, 0) != folds(subjects, 3, 1)


@pytest.mark.parametrize("numbers", [{"number": 3, "of": 3}, {"number": -1, "of": 3}, {"number": 0, "of": 1}])
def test_a_fold_is_one_of_several(numbers):
    with pytest.raises(ValidationError):
        Fold(**numbers)


class HealthyOnly(CTDenoising):
    """Denoising that is trained on healthy cases only."""

    def only_tested(self, label):
        return label == "sick"


TASK = HealthyOnly(LowDoseScan(views=20), Window(low=-1000, high=1000), "rmse", 2)


def test_every_subject_is_tested_in_one_fold_and_those_that_are_only_tested_in_all():
    cases = [case(f"c{n}", f"s{n // 2}", label="healthy") for n in range(26)] + [case("x", "x", label="sick")]
    tested = []
    for number in range(4):
        found = divide(TASK, cases, seed=5, fold=Fold(number=number, of=4))
        sides = {side: {item.subject for item in found if item.split == side} for side in ("train", "val", "test")}
        assert "x" in sides["test"] and sides["train"] and sides["val"]
        assert not sides["train"] & sides["test"] and not sides["val"] & (sides["train"] | sides["test"])
        tested.append(sides["test"] - {"x"})
        assert found == divide(TASK, cases, seed=5, fold=Fold(number=number, of=4))
    assert sorted(name for part in tested for name in part) == sorted(f"s{n}" for n in range(13))


@pytest.mark.parametrize(
    ("cases", "named", "told"),
    [
        ([case("a", "a"), case("b", "b", "test"), case("c", "c")], {}, "--folds 2: .* given by a manifest"),
        ([case("a", "a"), case("b", "b"), case("c", "c")], {"test": ["a"]}, "--folds 2: .* --test-subjects"),
        ([case("a", "a"), case("b", "b"), case("c", "c")], {"val": ["a"]}, "--folds 2: .* --val-subjects"),
    ],
)
def test_folds_are_refused_where_the_sides_are_given(cases, named, told):
    with pytest.raises(UserError, match=told):
        divide(TASK, cases, fold=Fold(number=0, of=2), **named)


def test_the_sides_of_a_run_are_found_again_by_pseudonym():
    mine = Pseudonyms(b"0123456789abcdef")
    cases = [case(f"c{n}", f"s{n // 2}") for n in range(10)]
    sides = {"train": ["s0", "s3"], "val": ["s1"], "test": ["s4"]}
    recorded_sides = {side: [mine.subject(name) for name in names] for side, names in sides.items()}
    known, strange = recorded(cases, recorded_sides, mine)
    assert {side: sorted({c.subject for c in known if c.split == side}) for side in sides} == sides
    assert {c.subject for c in strange} == {"s2"} and len(known) + len(strange) == len(cases)
    assert len(recorded(cases[2:], recorded_sides, mine)[0]) == 6
