import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms.spine import NAMES, SpineCT

SIZE = 32


@pytest.fixture(scope="module")
def whole() -> SpineCT:
    return SpineCT(1, size=2 * SIZE, coverage=(-0.06, 1.12))


@pytest.fixture(scope="module")
def parts() -> list[SpineCT]:
    return [SpineCT(seed, size=SIZE) for seed in range(6)]


def indices(patient: SpineCT) -> dict[str, np.ndarray]:
    inverse = np.linalg.inv(patient.image.affine)
    return {name: inverse[:3, :3] @ place + inverse[:3, 3] for name, place in patient.points["vertebrae"].items()}


def test_names_run_from_the_neck_to_the_loins() -> None:
    assert len(NAMES) == 24 and (NAMES[0], NAMES[7], NAMES[19], NAMES[23]) == ("C1", "T1", "L1", "L5")


def test_a_whole_spine_has_all_vertebrae_one_below_the_other(whole: SpineCT) -> None:
    assert tuple(whole.points["vertebrae"]) == NAMES
    heights = np.array([place[2] for place in whole.points["vertebrae"].values()])
    assert (np.diff(heights) < -8).all() and 500 < heights[0] - heights[-1] < 680
    steps = -np.diff(heights)
    assert steps[19:].mean() > steps[8:18].mean() > steps[2:6].mean(), "lumbar vertebrae are the highest"


def test_centres_lie_in_the_bodies(whole: SpineCT, parts: list[SpineCT]) -> None:
    for patient in (whole, *parts):
        labelled, _ = ndimage.label(patient.masks["bodies"])
        hit = {
            int(labelled[tuple(np.clip(np.rint(at).astype(int), 0, np.array(labelled.shape) - 1))])
            for at in indices(patient).values()
        }
        assert 0 not in hit
        assert patient is not whole or len(hit) >= 20, "few bodies touch"


def test_most_scans_show_a_part_and_only_vertebrae_in_it_are_named(parts: list[SpineCT]) -> None:
    counts = [len(patient.points["vertebrae"]) for patient in parts]
    assert min(counts) < 18 and max(counts) > 5
    for patient in parts:
        names = list(patient.points["vertebrae"])
        first = NAMES.index(names[0])
        assert tuple(names) == NAMES[first : first + len(names)], "no gaps"
        for at in indices(patient).values():
            assert (at > -0.51).all() and (at < np.array(patient.image.shape) - 0.49).all()


def test_the_same_arguments_give_the_same_patient(parts: list[SpineCT]) -> None:
    again = SpineCT(3, size=SIZE)
    np.testing.assert_array_equal(again.image.array, parts[3].image.array)
    assert dict(again.points["vertebrae"]) == dict(parts[3].points["vertebrae"])


def test_the_image_is_a_ct_of_cubes_with_bright_bones(whole: SpineCT) -> None:
    assert whole.image.unit == "HU" and whole.image.header.modality == "CT" and whole.images["ct"] is whole.image
    np.testing.assert_allclose(whole.image.spacing, 2.5)
    values = whole.image.array[0]
    assert values[whole.masks["bone"]].mean() > values[whole.regions["muscle"]].mean() + 100
    assert whole.masks["bodies"].sum() < whole.masks["bone"].sum()


def test_some_vertebrae_are_fractured_and_lower_in_front() -> None:
    seeds = [seed for seed in range(12) if SpineCT(seed, size=16, coverage=(0.0, 1.0)).fractured]
    assert 3 <= len(seeds) <= 12


@pytest.mark.parametrize("options", [{"size": 15}, {"noise": -1}, {"coverage": (0.5, 0.52)}])
def test_impossible_requests_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        SpineCT(0, **options)
