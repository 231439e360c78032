import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms import label, part
from ganatomy.phantoms.myelin import LESION, WHITE, MyelinMRPet

SMALL = {"size": 64, "slices": 10}
MAPS = ("mtr", "fa", "rd", "ad")


@pytest.fixture(scope="module")
def people() -> list[MyelinMRPet]:
    return [MyelinMRPet(seed, **SMALL) for seed in range(6)]


def values(person, name: str) -> np.ndarray:
    return person.images[name].numpy()[0]


def test_half_of_the_people_are_sick_and_only_these_have_lesions(people):
    assert [person.label for person in people] == ["healthy", "sick"] * 3
    assert [label("myelin-mr-pet", seed) for seed in (0, 1)] == ["healthy", "sick"]
    for person in people:
        assert (person.masks["lesion"].sum() > 10) == (person.label == "sick")
        assert set(np.unique(person.labels["regions"])) <= {0, 1, 2, 3}
        np.testing.assert_array_equal(person.labels["regions"] == LESION, person.masks["lesion"])
        np.testing.assert_array_equal(person.labels["regions"] > 0, person.masks["brain"])
        if person.label == "healthy":
            assert not person.demyelinated.any()


def test_lesions_have_lost_myelin_and_bind_less(people):
    kept = []
    for person in people[1::2]:
        lesion, normal = person.labels["regions"] == LESION, person.regions["white"]
        assert person.myelin[lesion].mean() < 0.85 * person.myelin[normal].mean()
        assert values(person, "dvr")[lesion].mean() < 0.95 * values(person, "dvr")[normal].mean()
        assert values(person, "flair")[lesion].mean() > 1.3 * values(person, "flair")[normal].mean()
        kept.append(person.demyelinated[lesion])
    # Lesions differ: some have kept most of their myelin.
    assert np.ptp(np.concatenate(kept)) > 0.4


def test_white_matter_of_the_sick_is_slightly_damaged(people):
    sick, healthy = (
        np.mean([person.myelin[person.labels["regions"] == WHITE].mean() for person in people[start::2]])
        for start in (1, 0)
    )
    assert 0.85 < sick / healthy < 0.995


def test_maps_have_the_order_of_tissues(people):
    person = people[0]
    white, grey = person.regions["white"], person.regions["grey"]
    mean = {name: (values(person, name)[white].mean(), values(person, name)[grey].mean()) for name in person.images}
    for name in ("mtr", "fa", "dvr"):
        assert mean[name][0] > 1.15 * mean[name][1], name
    assert mean["rd"][0] < mean["rd"][1] and mean["ad"][0] > mean["rd"][0]
    assert 40 < mean["mtr"][0] < 55 and 0.3 < mean["fa"][0] < 0.65 and 1.2 < mean["dvr"][0] < 1.8


def test_several_maps_tell_myelin_better_than_any_alone():
    told = {name: [] for name in (*MAPS, "all")}
    for seed in (1, 3, 5):
        person = MyelinMRPet(seed, **SMALL, noise=0.01)
        inside = person.masks["lesion"] | person.regions["white"]
        true = person.myelin[inside]
        features = np.stack([values(person, name)[inside] for name in MAPS], 1)
        for name, columns in (*((name, [number]) for number, name in enumerate(MAPS)), ("all", [0, 1, 2, 3])):
            design = np.column_stack([features[:, columns], np.ones(len(true))])
            left = true - design @ np.linalg.lstsq(design, true, rcond=None)[0]
            told[name].append(1 - left.var() / true.var())
    mean = {name: np.mean(shares) for name, shares in told.items()}
    assert mean["all"] > max(mean[name] for name in MAPS) + 0.01
    assert mean["fa"] < 0.8


def test_binding_is_linear_in_myelin_and_blurred():
    person = MyelinMRPet(3, **SMALL, noise=0.0)
    inside = (person.regions["white"] | person.regions["grey"]) & person.masks["brain"]
    assert np.corrcoef(person.myelin[inside], values(person, "dvr")[inside])[0, 1] > 0.9
    # Lesions are smaller than the point spread, so that their binding is seen as too high.
    lesion = person.masks["lesion"]
    assert values(person, "dvr")[lesion].mean() > 0.75 + 0.85 * person.myelin[lesion].mean()


def test_a_seed_is_a_person_and_maps_lie_at_one_place(people):
    again = MyelinMRPet(3, **SMALL)
    for name, image in people[3].images.items():
        np.testing.assert_array_equal(image.numpy(), again.images[name].numpy())
        np.testing.assert_array_equal(image.affine, again.image.affine)
        assert image.dtype == np.float32 and not values(again, name)[~again.masks["brain"]].any()
    assert part(again, "labels:regions").array.dtype == np.uint8 and part(again, "dvr") is again.images["dvr"]
    assert MyelinMRPet(2, **SMALL, label="sick").masks["lesion"].any()


@pytest.mark.parametrize("wrong", [{"size": 8}, {"slices": 0}, {"distance_mm": 0.0}, {"noise": -1.0}])
def test_impossible_requests_are_refused(wrong):
    with pytest.raises(UserError, match="cannot be drawn"):
        MyelinMRPet(0, **wrong)
    with pytest.raises(UserError, match="no label 'ill'"):
        MyelinMRPet(0, label="ill")
