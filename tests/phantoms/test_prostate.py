import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms import site
from ganatomy.phantoms.prostate import LABELS, RANGES, UNITS, ProstateLesion, ProstateMR


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


GLANDS = 12


@pytest.fixture(scope="module")
def glands() -> list[ProstateMR]:
    return [ProstateMR(seed, size=48) for seed in range(GLANDS)]


def test_three_images_on_one_grid_and_zones_that_fill_the_gland(glands: list[ProstateMR]) -> None:
    for gland in glands:
        assert set(gland.images) == {"t2w", "adc", "dwi"} and gland.image is gland.images["t2w"]
        for image in gland.images.values():
            assert (
                image.array.shape == (1, 12, 48, 48) and image.spacing == (3, 2, 2) and image.array.dtype == np.float32
            )
            assert np.isfinite(image.array).all() and image.array.min() >= 0
        masks, labels = gland.masks, gland.labels["prostate"]
        np.testing.assert_array_equal(masks["transition"] | masks["peripheral"], masks["gland"])
        assert not (masks["transition"] & masks["peripheral"]).any()
        np.testing.assert_array_equal(labels > 0, masks["gland"])
        np.testing.assert_array_equal(labels == 3, masks["lesion"])
        assert not (masks["indolent"] & masks["lesion"]).any()
        rows = [np.argwhere(masks[name])[:, 1].mean() for name in ("transition", "peripheral")]
        assert rows[0] < rows[1], "the transition zone lies in front"


def test_seeds_alternate_between_scanners_of_different_scale_and_noise(glands: list[ProstateMR]) -> None:
    assert [site("prostate-mr", seed) for seed in range(4)] == [glands[seed].site for seed in range(4)]
    assert [one.site for one in glands[:4]] == ["3 T", "1.5 T", "1.5 T endorectal", "3 T"]
    means = {name: [] for name in ProstateMR.SITES}
    for one in glands:
        means[one.site].append(float(one.image.array[0][one.masks["transition"]].mean()))
    assert np.mean(means["3 T"]) > 1.4 * np.mean(means["1.5 T"])
    assert site("brain-mr", 0) is None


def test_the_coil_in_the_rectum_sees_best_what_is_near(glands: list[ProstateMR]) -> None:
    def fall(one: ProstateMR) -> float:
        fat = one.image.array[0, 6, :, 23:25]
        return float(fat[34:].max() / np.median(fat[:8]))

    near = [fall(one) for one in glands if one.site == "1.5 T endorectal"]
    far = [fall(one) for one in glands if one.site == "3 T"]
    assert min(near) > 2 * max(far)


def test_aggressive_lesions_are_dark_in_t2_and_adc_and_bright_in_diffusion() -> None:
    for seed in (0, 1, 3, 4):
        one = ProstateMR(seed, size=64, lesions=2)
        lesion = one.masks["lesion"] & one.masks["peripheral"]
        zone = one.masks["peripheral"] & ~one.masks["lesion"] & ~one.masks["indolent"]
        t2w, adc, dwi = (np.median(one.images[name].array[0][lesion]) for name in ("t2w", "adc", "dwi"))
        usual = [np.median(one.images[name].array[0][zone]) for name in ("t2w", "adc", "dwi")]
        assert t2w < 0.9 * usual[0] and adc < usual[1] - 250 and dwi > 1.05 * usual[2]


def test_some_patients_have_no_lesion_and_numbers_can_be_chosen(glands: list[ProstateMR]) -> None:
    without = [not one.masks["lesion"].any() for one in glands]
    assert 0 < sum(without) < GLANDS
    assert any(one.masks["indolent"].any() for one in glands)
    assert not ProstateMR(5, size=32, lesions=0).masks["lesion"].any()
    assert (
        ProstateMR(5, size=32, lesions=3).masks["lesion"].sum()
        > ProstateMR(5, size=32, lesions=1).masks["lesion"].sum()
    )


def test_every_size_shows_the_same_patient() -> None:
    coarse, fine = ProstateMR(7, size=48, slices=4), ProstateMR(7, size=96, slices=4)
    volumes = [one.masks["gland"].sum() * np.prod(one.image.spacing) for one in (coarse, fine)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.02)
    lesions = [one.masks["lesion"].mean() for one in (coarse, fine)]
    assert lesions[0] == pytest.approx(lesions[1], rel=0.15)


def test_impossible_glands_are_refused() -> None:
    for wrong in ({"size": 0}, {"slices": 0}, {"distance_mm": 0.0}, {"lesions": -1}):
        with pytest.raises(UserError, match="cannot be drawn"):
            ProstateMR(0, **wrong)
