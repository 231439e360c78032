import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms.prostate import LABELS, RANGES, UNITS, ProstateLesion


@pytest.fixture(scope="module")
def patients() -> list[ProstateLesion]:
    return [ProstateLesion(seed) for seed in range(60)]


def inside(patient: ProstateLesion, name: str) -> float:
    return float(np.median(patient.images[name].array[0][patient.masks["lesion"]]))


def test_the_same_arguments_give_the_same_patient_and_another_seed_another(patients: list[ProstateLesion]) -> None:
    np.testing.assert_array_equal(ProstateLesion(7).image.array, patients[7].image.array)
    assert len({patient.image.array.tobytes() for patient in patients}) == len(patients)
    views = patients[1].image.array
    assert all((views[:, i] != views[:, 0]).any() for i in range(1, 8))


def test_three_channels_in_their_ranges(patients: list[ProstateLesion]) -> None:
    for patient in patients:
        assert patient.image.array.shape == (3, 8, 16, 16)
        assert patient.image.array.dtype == np.float32
        assert patient.image.spacing == (1, 1, 1)
        for channel, (name, unit) in zip(patient.image.array, UNITS.items(), strict=True):
            np.testing.assert_array_equal(channel, patient.images[name].array[0])
            assert patient.images[name].unit == unit
            low, high = RANGES[name]
            assert low <= channel.min() < channel.max() <= high


def test_classes_are_balanced_and_can_be_forced(patients: list[ProstateLesion]) -> None:
    assert [patient.label for patient in patients] == list(LABELS) * 30
    assert ProstateLesion(0, label="significant").severity > 0.5 > ProstateLesion(1, label="insignificant").severity


def test_significant_lesions_are_darker_denser_faster_and_larger(patients: list[ProstateLesion]) -> None:
    mild, severe = patients[::2], patients[1::2]
    for name, sign in (("t2", -1), ("adc", -1), ("ktrans", 1)):
        means = [np.mean([inside(patient, name) for patient in group]) for group in (mild, severe)]
        spread = np.std([inside(patient, name) for patient in mild])
        assert sign * (means[1] - means[0]) > spread
    sizes = [np.mean([patient.masks["lesion"].mean() for patient in group]) for group in (mild, severe)]
    assert sizes[1] > 1.8 * sizes[0]


def test_classes_come_near_each_other(patients: list[ProstateLesion]) -> None:
    adc = [[inside(patient, "adc") for patient in group] for group in (patients[::2], patients[1::2])]
    assert min(adc[0]) < max(adc[1])


def test_channels_show_the_lesion_in_one_place(patients: list[ProstateLesion]) -> None:
    for patient in patients[1::2]:
        lesion, tissue = patient.masks["lesion"], patient.regions["tissue"]
        t2, adc, ktrans = patient.image.array
        assert np.median(t2[lesion]) < np.median(t2[tissue])
        assert np.median(adc[lesion]) < np.median(adc[tissue])
        assert np.median(ktrans[lesion]) > np.median(ktrans[tissue])
        assert np.corrcoef(t2.ravel(), adc.ravel())[0, 1] > 0.5
        assert np.corrcoef(adc.ravel(), ktrans.ravel())[0, 1] < -0.5


def test_every_view_holds_the_lesion_near_its_middle(patients: list[ProstateLesion]) -> None:
    for patient in patients:
        assert patient.masks["lesion"].any((1, 2)).all()
        assert not (patient.masks["lesion"] & patient.regions["tissue"]).any()
        for mask in patient.masks["lesion"]:
            np.testing.assert_allclose(np.argwhere(mask).mean(0), 7.5, atol=3.5)


def test_noise_can_be_left_out() -> None:
    quiet, loud = (ProstateLesion(2, size=24, noise=noise) for noise in (0.0, 2.0))
    np.testing.assert_array_equal(quiet.masks["lesion"], loud.masks["lesion"])
    difference = (loud.images["t2"].array - quiet.images["t2"].array)[0][quiet.regions["tissue"]]
    assert difference.std() == pytest.approx(18, rel=0.1)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        ProstateLesion(0, size=0)
    with pytest.raises(UserError, match="no label 'benign'"):
        ProstateLesion(0, label="benign")
