import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms import make
from ganatomy.phantoms.abdomen_ct import CT_NUMBERS, AbdomenCT

COARSE = {"size": 48, "slices": 34, "distance_mm": 7.0}


@pytest.fixture(scope="module")
def patients() -> list[AbdomenCT]:
    return [AbdomenCT(seed, **COARSE) for seed in range(5)]


def test_the_same_arguments_give_the_same_patient(patients: list[AbdomenCT]) -> None:
    again = make("abdomen-ct", 3, **COARSE)
    np.testing.assert_array_equal(again.image.array, patients[3].image.array)
    np.testing.assert_array_equal(again.labels["liver"], patients[3].labels["liver"])


def test_the_image_is_a_ct_image_of_the_size_asked_for(patients: list[AbdomenCT]) -> None:
    patient = patients[0]
    assert patient.images["ct"] is patient.image and patient.image.shape == (34, 48, 48)
    np.testing.assert_allclose(patient.image.spacing, (7.0, 320 / 48, 320 / 48))
    assert patient.image.unit == "HU" and patient.image.header.modality == "CT"


def test_every_liver_is_whole_and_of_a_human_volume(patients: list[AbdomenCT]) -> None:
    for patient in patients:
        inside = patient.masks["liver"]
        assert inside.any((1, 2)).sum() > 15 and not inside[0].any() and not inside[-1].any()
        assert 300 < inside.sum() * np.prod(patient.image.spacing) / 1000 < 2200, "ml, from children to adults"
        assert np.nonzero(inside)[2].mean() < 24, "on the patient's right, at low columns"


def test_lesions_are_in_the_liver_and_have_a_label_of_their_own(patients: list[AbdomenCT]) -> None:
    for patient in patients:
        labels = patient.labels["liver"]
        assert labels.dtype == np.uint8 and labels.shape == patient.image.shape
        np.testing.assert_array_equal(labels >= 1, patient.masks["liver"])
        np.testing.assert_array_equal(labels == 2, patient.masks["lesion"])
        assert patient.masks["lesion"].any() <= (patient.lesion_count > 0)
    assert sum(patient.masks["lesion"].any() for patient in patients) >= 3


def test_the_number_of_lesions_can_be_chosen() -> None:
    none, many = (AbdomenCT(4, lesions=count, noise=0, **COARSE) for count in (0, 12))
    assert (none.labels["liver"] < 2).all() and (many.labels["liver"] == 2).sum() > 20
    differ = (
        np.abs(none.image.array[0] - many.image.array[0]) > 4
    )  # a sliver of liver beside the kidney differs by less
    assert differ.any() and not (differ & ~ndimage.binary_dilation(many.masks["liver"])).any()
    assert many.image.array[0][many.masks["lesion"]].mean() < 80


def test_regions_have_the_ct_number_of_their_tissue_and_phase() -> None:
    early, late = (AbdomenCT(seed, noise=0, lesions=0, **COARSE) for seed in (2, 3))
    assert early.enhancement < 0.2 < 0.6 < late.enhancement
    for patient in (early, late):
        plain, portal = CT_NUMBERS["muscle"]
        want = plain + patient.enhancement * (portal - plain)
        assert patient.image.array[0][patient.regions["muscle"]].mean() == pytest.approx(want, abs=0.2)
    assert late.image.array[0][late.regions["liver"]].mean() > early.image.array[0][early.regions["liver"]].mean() + 10
    assert np.median(late.image.array[0][late.masks["bone"]]) > 200


def test_noise_is_as_strong_as_asked_and_leaves_the_anatomy() -> None:
    quiet, loud = (AbdomenCT(1, noise=noise, **COARSE) for noise in (0.0, 14.0))
    difference = loud.image.array - quiet.image.array
    assert 8 < difference.std() < 22 and abs(difference.mean()) < 1
    np.testing.assert_array_equal(quiet.labels["liver"], loud.labels["liver"])


@pytest.mark.parametrize(
    "options", [{"size": 7}, {"slices": 0}, {"distance_mm": 0}, {"distance_mm": 11}, {"noise": -1}, {"lesions": -1}]
)
def test_impossible_requests_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        make("abdomen-ct", 0, **options)
