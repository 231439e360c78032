import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms.angiography import BrainMRA

SMALL = {"size": 96, "slices": 8, "field_mm": 144.0}


@pytest.fixture(scope="module")
def people() -> list[BrainMRA]:
    return [BrainMRA(seed, **SMALL) for seed in range(4)]


def values(person: BrainMRA, name: str) -> np.ndarray:
    return person.images[name].numpy()[0]


def middle(person: BrainMRA, name: str) -> np.ndarray:
    """Return the mask of vessels inside the brain, away from its surface."""
    return person.masks[name] & person.masks["brain"]


def test_arteries_shine_in_angiography_and_veins_do_not(people):
    for person in people:
        mra, white = values(person, "mra"), person.regions["white"]
        arteries, veins = middle(person, "arteries"), middle(person, "veins") & ~person.masks["arteries"]
        assert arteries.sum() > 150 and 0.001 < arteries.mean() < 0.05
        assert mra[arteries].mean() > 1.3 * mra[white].mean()
        if veins.any():
            assert mra[veins].mean() < 1.2 * mra[white].mean()


def test_both_are_dark_in_t2_and_dark_or_grey_in_t1(people):
    for person in people:
        white = person.regions["white"]
        vessels = (middle(person, "arteries") | middle(person, "veins")) & ~np.isnan(values(person, "t2"))
        inner = vessels & (values(person, "t2") < 3 * values(person, "t2")[white].mean())
        assert np.median(values(person, "t2")[inner]) < values(person, "t2")[white].mean()
        assert values(person, "t1")[vessels].mean() < values(person, "t1")[white].mean()


def test_tissues_have_the_order_of_their_sequences(people):
    person = people[0]
    white = person.regions["white"]
    assert values(person, "t1")[white].mean() == pytest.approx(1000, rel=0.2)
    assert values(person, "mra")[white].mean() == pytest.approx(1000 * 0.0705 / 0.284, rel=0.25)
    assert values(person, "t2").max() > 800 > values(person, "t2")[white].mean()


def test_blood_fades_on_its_way_up():
    low, high = [], []
    for seed in range(6):
        person = BrainMRA(seed, size=96, slices=24, distance_mm=2.0, field_mm=144.0, noise=0.0, bias=0.0)
        mra = values(person, "mra")
        low.append(np.percentile(mra[:4][middle(person, "arteries")[:4]], 90))
        high.append(np.percentile(mra[-6:][middle(person, "arteries")[-6:]], 90))
    assert np.mean(high) < 0.8 * np.mean(low)


def test_sides_and_people_differ(people):
    maps = [person.masks["arteries"].any(0) for person in people]
    for one in maps:
        mirrored = one[:, ::-1]
        assert (one & mirrored).sum() < 0.5 * one.sum()
    assert (maps[0] & maps[1]).sum() < 0.5 * maps[0].sum()


def test_a_seed_decides_and_noise_hides_no_vessel(people):
    again = BrainMRA(0, **SMALL)
    np.testing.assert_array_equal(values(again, "mra"), values(people[0], "mra"))
    quiet = BrainMRA(0, **SMALL, noise=0.0)
    np.testing.assert_array_equal(quiet.masks["arteries"], people[0].masks["arteries"])
    apart = values(people[0], "mra") - values(quiet, "mra")
    assert np.std(apart[people[0].regions["white"]]) == pytest.approx(20, rel=0.15)


@pytest.mark.parametrize("wrong", [{"size": 8}, {"slices": 0}, {"distance_mm": 0}, {"field_mm": 0}, {"noise": -1}])
def test_impossible_heads_are_refused(wrong):
    with pytest.raises(UserError, match="cannot be drawn"):
        BrainMRA(0, **{**SMALL, **wrong})
