import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms import part
from ganatomy.phantoms.pet_ct import UPTAKE, ChestPetCT, LiverPetCT
from ganatomy.physics.pet import decayed, standardised_uptake

KINDS = (ChestPetCT, LiverPetCT)
SMALL = {"size": 64, "slices": 12, "distance_mm": 8.0}


@pytest.fixture(scope="module")
def patients() -> dict[type, list]:
    return {kind: [kind(seed, **SMALL, lesions=6) for seed in range(4)] for kind in KINDS}


def values(phantom, name: str) -> np.ndarray:
    return phantom.images[name].numpy()[0]


@pytest.mark.parametrize("kind", KINDS)
def test_images_have_their_units_and_lie_at_one_place(patients, kind):
    for phantom in patients[kind]:
        assert phantom.images["ct"].unit == "HU" and phantom.images["pet"].unit == "SUV"
        assert phantom.images["pet"].header.modality == "PT" and phantom.image is phantom.images["ct"]
        np.testing.assert_array_equal(phantom.images["pet"].affine, phantom.image.affine)
        assert values(phantom, "pet").min() >= 0
        assert values(phantom, "pet")[~ndimage.binary_dilation(phantom.masks["body"], iterations=4)].max() < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_lesions_have_the_uptake_that_is_known(patients, kind):
    tumours = 0
    for phantom in patients[kind]:
        numbers = phantom.instances["lesions"]
        hot = [lesion for lesion in phantom.lesions if lesion.hot]
        assert [lesion.number for lesion in hot] == list(range(1, numbers.max() + 1))
        assert all(lesion.number == 0 and lesion.uptake < 2.5 for lesion in phantom.lesions if not lesion.hot)
        assert (phantom.masks["lesions"] == (numbers > 0)).all() and not (phantom.masks["benign"] & (numbers > 0)).any()
        assert not (phantom.masks["lesions"] & ~phantom.masks["organ"]).any()
        assert ndimage.label(ndimage.binary_dilation(numbers > 0), np.ones((3, 3, 3)))[1] <= len(hot)
        for lesion in hot:
            inside = numbers == lesion.number
            assert phantom.uptake[inside].max() == pytest.approx(lesion.uptake, rel=0.25)
            assert 4 <= lesion.uptake <= 13
            slices, rows, columns = ndimage.center_of_mass(inside)
            step = np.array(phantom.image.spacing)
            place = (np.array([slices, rows, columns]) - (np.array(inside.shape) - 1) / 2) * step
            np.testing.assert_allclose(lesion.centre, place[::-1], atol=1.1 * step.max())
        tumours += len(hot)
    assert tumours >= 4


def test_a_tumour_loses_contrast_by_the_point_spread_and_small_ones_most():
    recovered = []
    for seed in range(6):
        phantom = LiverPetCT(seed, **SMALL, lesions=6, noise=0.0)
        for lesion in phantom.lesions:
            if lesion.hot:
                inside = phantom.instances["lesions"] == lesion.number
                peak, liver = values(phantom, "pet")[inside].max(), phantom.uptake[phantom.regions["liver"]].mean()
                # Lesions at the border of the slices are cut, and so their radius means nothing.
                if phantom.uptake[inside].max() > 0.95 * lesion.uptake:
                    recovered.append((lesion.radius, (peak - liver) / (lesion.uptake - liver)))
    assert len(recovered) > 5
    radii, shares = np.array(recovered).T
    assert (shares < 1.02).all() and (shares > 0.5).all()
    assert np.corrcoef(radii, shares)[0, 1] > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_normal_tissue_has_the_mean_uptake_of_the_patient(patients, kind):
    for phantom in patients[kind]:
        for name in ("liver", "muscle"):
            inside = ndimage.binary_erosion(phantom.regions[name], np.ones((3, 3, 3)), 1)
            if inside.sum() > 60:
                low, high = UPTAKE[name]
                true = float(np.median(phantom.uptake[inside]))
                assert low <= true <= high
                assert values(phantom, "pet")[inside].mean() == pytest.approx(true, rel=0.15)


def test_uptake_and_activity_belong_to_weight_dose_and_time():
    phantom = LiverPetCT(1, size=32, slices=1)
    left = float(decayed(phantom.dose_mbq, 3600))
    assert standardised_uptake(phantom.kbq_per_ml, phantom.weight_kg, left) == pytest.approx(1)
    assert phantom.dose_mbq / phantom.weight_kg == pytest.approx(4) and phantom.kbq_per_ml == pytest.approx(
        2.739, abs=1e-3
    )


def test_benign_lesions_of_the_liver_are_cold_and_tumours_hot(patients):
    hot, cold = [], []
    for phantom in patients[LiverPetCT]:
        liver = np.median(phantom.uptake[phantom.regions["liver"]])
        hot.extend(phantom.uptake[phantom.masks["lesions"]] / liver)
        cold.extend(phantom.uptake[phantom.masks["benign"]] / liver)
    assert np.median(hot) > 1.5 and np.median(cold) < 0.9


def test_noise_grows_with_the_root_of_uptake():
    clean, noisy = (LiverPetCT(3, **SMALL, lesions=0, noise=noise) for noise in (0.0, 0.2))
    apart = values(noisy, "pet") - values(clean, "pet")
    for low, high in ((0.4, 0.9), (1.8, 2.6)):
        inside = (values(clean, "pet") > low) & (values(clean, "pet") < high)
        assert apart[inside].std() == pytest.approx(0.2 * np.sqrt(2 * values(clean, "pet")[inside].mean()), rel=0.25)


def test_an_actual_scan_agrees_with_the_quick_one_in_large_regions():
    size = {"size": 72, "slices": 1, "lesions": 0}
    quick, scanned = LiverPetCT(2, **size, noise=0.0), LiverPetCT(2, **size, counts=2e6)
    np.testing.assert_array_equal(quick.uptake, scanned.uptake)
    np.testing.assert_array_equal(values(quick, "ct"), values(scanned, "ct"))
    liver = ndimage.binary_erosion(quick.regions["liver"], np.ones((1, 3, 3)))
    assert liver.sum() > 20
    assert values(scanned, "pet")[liver].mean() == pytest.approx(values(quick, "pet")[liver].mean(), rel=0.1)
    assert np.corrcoef(values(scanned, "pet").ravel(), values(quick, "pet").ravel())[0, 1] > 0.9
    few = LiverPetCT(2, **size, counts=5e4)
    assert values(few, "pet")[liver].std() > 1.5 * values(scanned, "pet")[liver].std()


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_a_patient(kind):
    first, again, other = (kind(seed, size=32, slices=2) for seed in (5, 5, 6))
    for name in ("ct", "pet"):
        np.testing.assert_array_equal(values(first, name), values(again, name))
        assert (values(first, name) != values(other, name)).mean() > 0.3
    assert part(first, "instances:lesions").array.dtype == np.uint16
    assert part(first, "labels:lesions").array.dtype == np.uint8
    assert kind(5, size=32, slices=2, lesions=0).lesions == []


@pytest.mark.parametrize("wrong", [{"size": 8}, {"slices": 0}, {"lesions": -1}, {"noise": -0.1}, {"counts": 0.0}])
def test_impossible_requests_are_refused(wrong):
    for kind in KINDS:
        with pytest.raises(UserError, match="cannot be drawn"):
            kind(0, **wrong)
