import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ganatomy.case import Case
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.data.splits import Fold, divide, folds, recorded, sites_of, split_by_site, split_by_subject
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoising


def case(name, subject, split="train", label=None, site=None):
    return Case(name, subject, split, {}, label, site=site)


def of_sites(**sizes):
    """Return a case for each subject of some sites, and the cases' sides by site."""
    return [case(f"{site}{n}", f"{site}{n}", site=site) for site, size in sizes.items() for n in range(size)]


def by_site(cases):
    """Return site to the numbers of its cases for training, validation and testing."""
    return {
        site: tuple(sum(c.split == side for c in cases if c.site == site) for side in ("train", "val", "test"))
        for site in dict.fromkeys(c.site for c in cases)
    }


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


def test_sites_that_are_held_out_are_tested_and_each_other_one_gives_subjects_for_validation():
    cases = of_sites(nord=23, ost=4, west=1, sued=6)
    found = divide(TASK, cases, held_out=["sued"])
    assert by_site(found) == {"nord": (21, 2, 0), "ost": (3, 1, 0), "west": (1, 0, 0), "sued": (0, 0, 6)}
    assert found == divide(TASK, cases[::-1], held_out=["sued"])[::-1] != divide(TASK, cases, seed=1, held_out=["sued"])
    assert by_site(divide(TASK, cases, held_out=["nord", "sued"]))["ost"] == (3, 1, 0)
    assert by_site(divide(TASK, cases[23:28], held_out=["west"])) == {"ost": (4, 0, 0), "west": (0, 0, 1)}
    named = divide(TASK, cases, val=["nord7"], held_out=["sued"])
    assert [c.subject for c in named if c.split == "val"] == ["nord7"]


def test_as_many_subjects_of_all_sites_are_drawn_as_validation_needs():
    for fewest, wanted in ((1, 2), (4, 4), (99, 7)):
        found = split_by_site(of_sites(a=6, b=3, c=2), ["c"], "", [], fewest=fewest)
        assert sum(c.split == "val" for c in found) == wanted and all(by_site(found)[site][0] for site in "ab")


def test_each_site_is_left_out_once():
    cases = [*of_sites(nord=5, ost=3, west=2), case("x", "x", label="sick", site="ost")]
    tested = []
    for number in range(3):
        found = divide(TASK, cases, fold=Fold(number=number, of=3, by="sites"))
        numbers = by_site([c for c in found if c.subject != "x"])
        (left,) = [site for site, (train, val, test) in numbers.items() if test]
        assert not any(numbers[left][:2]) and all(
            train and not test for s, (train, _, test) in numbers.items() if s != left
        )
        tested.append(left)
    assert tested == ["nord", "ost", "west"] == sites_of(cases)
    last = divide(TASK, cases[:10], fold=Fold(number=2, of=3, by="sites"), order=lambda site: site[1:])
    assert {c.site for c in last if c.split == "test"} == {"ost"}, "sites are ordered by the key"


SITES = of_sites(nord=3, ost=2, west=2)


@pytest.mark.parametrize(
    ("cases", "options", "told"),
    [
        (
            SITES,
            {"held_out": ["bern"]},
            "--hold-out-site bern: no case is of site 'bern'; the sites are nord, ost, west",
        ),
        ([case("a", "a")], {"held_out": ["bern"]}, "no case says its site .*column site"),
        (SITES, {"held_out": ["nord", "ost", "west"]}, "no subject is left for training; validation has none"),
        (
            SITES,
            {"held_out": ["nord"], "val": ["nord1"]},
            "--val-subjects: subject 'nord1' is of site nord, which is held",
        ),
        (SITES, {"held_out": ["nord"], "val": ["eve"]}, "--val-subjects: subject 'eve' is not in the data"),
        (SITES, {"held_out": ["nord"], "test": ["ost1"]}, "--hold-out-site nord: .* given by --test-subjects; leave"),
        (SITES, {"held_out": ["nord"], "fold": Fold(number=0, of=2)}, "--folds 2: .* given by --hold-out-site; leave"),
        ([*SITES, case("t", "t", "test", site="ost")], {"held_out": ["nord"]}, "nord: .* given by a manifest"),
        ([*SITES, case("a", "eve")], {"held_out": ["nord"]}, "the site of eve is not known"),
        (
            [*SITES, case("a", "ost0", site="west")],
            {"held_out": ["nord"]},
            r"'ost0' was at several sites \(ost, west\)",
        ),
        (SITES, {"fold": Fold(number=0, of=4, by="sites")}, "--folds sites: the data have 3 sites and not 4"),
        (SITES[:3], {"fold": Fold(number=0, of=2, by="sites")}, "--folds sites: .* two are needed; the sites are nord"),
    ],
)
def test_splits_by_site_that_cannot_be_are_refused(cases, options, told):
    with pytest.raises(UserError, match=told):
        divide(TASK, cases, **options)


def test_the_sides_of_a_run_are_found_again_by_pseudonym():
    mine = Pseudonyms(b"0123456789abcdef")
    cases = [case(f"c{n}", f"s{n // 2}") for n in range(10)]
    sides = {"train": ["s0", "s3"], "val": ["s1"], "test": ["s4"]}
    recorded_sides = {side: [mine.subject(name) for name in names] for side, names in sides.items()}
    known, strange = recorded(cases, recorded_sides, mine)
    assert {side: sorted({c.subject for c in known if c.split == side}) for side in sides} == sides
    assert {c.subject for c in strange} == {"s2"} and len(known) + len(strange) == len(cases)
    assert len(recorded(cases[2:], recorded_sides, mine)[0]) == 6
