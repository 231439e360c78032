import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms import label, side
from ganatomy.phantoms.two_scanners import TwoScannersMR


def contrast(patient: TwoScannersMR, name: str) -> float:
    """Return the mean in lesions relative to that in the rest of the brain."""
    values, lesion = patient.images[name].numpy()[0], patient.masks["lesion"]
    return float(values[lesion].mean() / values[patient.masks["brain"] & ~lesion].mean())


@pytest.fixture(scope="module")
def patients() -> list[TwoScannersMR]:
    return [TwoScannersMR(4, size=40, slices=24, label=name) for name in TwoScannersMR.LABELS]


def test_lesions_are_bright_on_one_scanner_and_dark_on_the_other(patients: list[TwoScannersMR]) -> None:
    source, target, tested = patients
    for name in ("flair", "t2"):
        assert all(contrast(patient, name) > 1.2 for patient in patients)
    assert contrast(source, "ge") > 1.2 > 0.8 > contrast(target, "ge") == contrast(tested, "ge")


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
