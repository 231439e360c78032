import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from ganatomy.errors import UserError
from ganatomy.metrics.agatston import agatston
from ganatomy.phantoms.thorax import ThoraxCT


@pytest.fixture(scope="module")
def slab() -> ThoraxCT:
    return ThoraxCT(3, size=128, slices=40, spacing_mm=(5.0, 3.0, 3.0))


@pytest.fixture(scope="module")
def patients() -> list[ThoraxCT]:
    return [ThoraxCT(seed, size=192) for seed in range(12)]


def test_the_image_is_a_ct_in_hounsfield_units(slab: ThoraxCT) -> None:
    assert slab.image.array.shape == (1, 40, 128, 128)
    assert slab.image.array.dtype == np.int16
    assert slab.image.unit == "HU"
    assert slab.image.header.modality == "CT"
    np.testing.assert_allclose(slab.image.spacing, (5, 3, 3))
    assert slab.image.array.min() == -1000
    assert all(mask.shape == (40, 128, 128) and mask.dtype == bool for mask in slab.masks.values())


def test_the_same_seed_gives_the_same_patient_and_another_seed_another(patients: list[ThoraxCT]) -> None:
    again = ThoraxCT(4, size=192)
    np.testing.assert_array_equal(again.image.array, patients[4].image.array)
    assert again.agatston == patients[4].agatston
    assert len({patient.anatomy.chest for patient in patients}) == len(patients)
    assert ThoraxCT(4, size=64, slices=2).anatomy == again.anatomy


def test_tissues_have_their_ct_numbers(slab: ThoraxCT) -> None:
    hu = slab.image.array[0].astype(float)
    vessels = slab.masks["lung-vessels"]
    expected = {
        "lungs": (-920, -740),
        "subcutaneous-fat": (-115, -85),
        "liver": (50, 65),
        "spine": (200, 600),
        "ribs": (200, 700),
    }
    for name, (low, high) in expected.items():
        assert low < hu[slab.masks[name] & ~vessels].mean() < high, name
    assert hu[~slab.masks["body"]].max() < -200


def test_regions_are_uniform(slab: ThoraxCT) -> None:
    hu = slab.image.array[0].astype(float)
    assert set(slab.regions) == {"air", "aorta", "heart", "liver"}
    for name, mean in (("air", -1000), ("aorta", 42), ("heart", 42), ("liver", 60)):
        assert hu[slab.regions[name]].mean() == pytest.approx(mean, abs=1.5)
        assert hu[slab.regions[name]].std() < 4


def test_soft_tissue_has_fine_structure_to_lose(patients: list[ThoraxCT]) -> None:
    hu = patients[0].image.array[0].astype(float)
    flesh = binary_erosion((hu > 20) & (hu < 90) & ~patients[0].masks["heart"], np.ones((1, 3, 3)))
    steps = np.diff(hu, axis=2)[flesh[:, :, 1:] & flesh[:, :, :-1]]
    assert 1 < steps.std() < 15


def test_anatomy_is_where_it_belongs(slab: ThoraxCT) -> None:
    def centre(name: str) -> np.ndarray:
        return np.argwhere(slab.masks[name]).mean(0)

    middle = 63.5
    assert centre("heart")[2] > middle
    assert centre("heart")[1] < centre("spine")[1]
    assert centre("liver")[2] < middle
    assert centre("liver")[0] < centre("heart")[0]
    assert centre("aorta")[2] > centre("spine")[2]
    for name in ("lungs", "heart", "spine", "liver", "aorta"):
        assert not (slab.masks[name] & ~slab.masks["body"]).any(), name
    assert not (slab.masks["lungs"] & slab.masks["heart"]).any()
    sides = slab.masks["lungs"][..., :64].sum(), slab.masks["lungs"][..., 64:].sum()
    assert 0.5 < sides[0] / sides[1] < 2


def test_edges_are_partial_volumes(patients: list[ThoraxCT]) -> None:
    hu = patients[1].image.array[0, 0]
    first_tissue = [row[np.argmax(row > -990)] for row in hu[:90] if (row > -990).any()]
    assert len(set(first_tissue)) > len(first_tissue) / 2


def test_calcium_is_scored_as_placed(patients: list[ThoraxCT]) -> None:
    scores = []
    for patient in patients:
        hu, roi = patient.image.array[0], patient.masks["coronaries"]
        assert patient.agatston == agatston(hu, patient.image.spacing, roi).score
        if patient.anatomy.calcium == 0:
            assert patient.agatston == 0
            assert not patient.masks["calcifications"].any()
        bright = (hu >= 130) & roi
        assert not (bright & ~patient.masks["calcifications"]).any()
        scores.append(patient.agatston)
    assert min(scores) == 0
    assert max(scores) > 20


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        ThoraxCT(0, slices=0)
    with pytest.raises(UserError, match="cannot be drawn"):
        ThoraxCT(0, spacing_mm=(3, 0, 1))
