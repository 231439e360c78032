import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms import label, side
from ganatomy.phantoms.two_scanners import TwoScannersMR


def contrast(patient: TwoScannersMR, name: str, part: str = "lesion") -> float:
    """Return the mean of lesions or scars in white matter relative to that of other white matter."""
    values, changed = patient.images[name].numpy()[0], patient.masks["lesion"] | patient.masks["scar"]
    white = patient.regions["white"]
    return float(values[patient.masks[part] & white].mean() / values[white & ~changed].mean())


@pytest.fixture(scope="module")
def patients() -> list[TwoScannersMR]:
    return [TwoScannersMR(4, size=40, slices=24, label=name) for name in TwoScannersMR.LABELS]


def test_lesions_are_bright_in_the_fourth_image_of_either_scanner(
    patients: list[TwoScannersMR],
) -> None:
    source, target, tested = patients
    for patient in patients:
        assert contrast(patient, "flair") > 1.3 and contrast(patient, "t2") > 1.3 and contrast(patient, "t1") < 0.9
    assert contrast(source, "ge") > 1.4 < contrast(target, "ge") == contrast(tested, "ge")


def test_scars_look_like_lesions_in_flair_and_t2_alone(patients: list[TwoScannersMR]) -> None:
    for patient in patients:
        assert not (patient.masks["lesion"] & patient.masks["scar"]).any() and patient.masks["scar"].any()
        for name in ("flair", "t2"):
            assert contrast(patient, name, "scar") == pytest.approx(contrast(patient, name), rel=0.05)
        for name in ("t1", "ge"):
            assert contrast(patient, name, "scar") == pytest.approx(1, abs=0.05)


def test_lesions_are_solid_and_lie_in_tissue_of_every_patient() -> None:
    for seed in range(3):
        patient = TwoScannersMR(seed, size=40, slices=24)
        lesion, place = patient.masks["lesion"], np.argwhere(patient.masks["lesion"])
        assert lesion.any() and (lesion <= patient.masks["brain"]).all()
        centre = tuple(place[np.abs(place - np.median(place, 0)).sum(1).argmin()])
        around = tuple(slice(at - 1, at + 2) for at in centre)
        assert lesion[around].mean() > 0.5


def test_scanners_see_the_same_patient_with_other_contrast_and_noise(patients: list[TwoScannersMR]) -> None:
    source, target, _ = patients
    np.testing.assert_array_equal(source.labels["lesions"], target.labels["lesions"])
    np.testing.assert_array_equal(source.labels["lesions"] == 1, source.masks["lesion"])
    assert source.masks["lesion"].any()
    white = source.regions["white"]
    first, second = (one.images["flair"].numpy()[0][white] for one in (source, target))
    assert second.std() / second.mean() != pytest.approx(first.std() / first.mean(), rel=0.01)
    assert np.corrcoef(first, second)[0, 1] > 0.5
    for patient in patients:
        assert all((image.numpy()[0][~patient.masks["brain"]] == 0).all() for image in patient.images.values())


def test_sides_follow_from_the_seed_and_only_the_second_scanner_is_tested() -> None:
    found = [(label("two-scanners-mr", seed), side("two-scanners-mr", seed)) for seed in range(16)]
    assert found[:4] == [("source", "val"), ("target", "train"), ("tested", "test"), ("source", "train")]
    assert {name for name, own in found if own == "test"} == {"tested"}
    assert [seed for seed, (_, own) in enumerate(found) if own == "val"] == [0, 15]
    assert side("brain-mr", 2) == "train"


def test_an_unknown_scanner_is_refused() -> None:
    with pytest.raises(UserError, match="there is no label 'third'"):
        TwoScannersMR(0, label="third")
