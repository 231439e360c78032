import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms.radiograph import ChestRadiograph


@pytest.fixture(scope="module")
def patients() -> list[ChestRadiograph]:
    return [ChestRadiograph(seed, size=64, noise=0) for seed in range(8)]


def width(mask: np.ndarray) -> int:
    columns = np.flatnonzero(mask.any((0, 1)))
    return int(columns[-1] - columns[0] + 1)


def test_a_radiograph_is_one_plane_whose_dense_tissue_is_bright(patients: list[ChestRadiograph]) -> None:
    for patient in patients:
        image = patient.image.array
        assert image.shape == (1, 1, 64, 64) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 4095 and patient.image.header.modality == "DX"
        np.testing.assert_allclose(patient.image.spacing, (1, 358 / 64, 358 / 64))
        heart, lungs = patient.masks["heart"], patient.masks["left-lung"] | patient.masks["right-lung"]
        assert image[0][heart].mean() > 1.5 * image[0][lungs].mean()


def test_the_left_lung_lies_on_the_right_and_is_smaller_as_the_heart_reaches_to_the_left(
    patients: list[ChestRadiograph],
) -> None:
    for patient in patients:
        left, right, heart = (patient.masks[name] for name in ("left-lung", "right-lung", "heart"))
        centres = [ndimage.center_of_mass(mask)[2] for mask in (right, heart, left)]
        assert centres == sorted(centres)
        assert left.sum() < right.sum()
        assert not (heart & (left | right)).any() and not (left & right).any()
        for mask in (left, right, heart):
            assert ndimage.label(mask[0])[1] == 1
            assert (ndimage.binary_fill_holes(mask[0]) == mask[0]).all()


def test_hearts_are_healthy_or_enlarged(patients: list[ChestRadiograph]) -> None:
    ratios = [width(p.masks["heart"]) / width(p.masks["left-lung"] | p.masks["right-lung"]) for p in patients]
    assert 0.35 < min(ratios) < 0.5 < max(ratios) < 0.75


def test_clavicles_cross_the_tops_of_the_lungs(patients: list[ChestRadiograph]) -> None:
    for patient in patients:
        for side in ("left", "right"):
            clavicle, lung = patient.masks[f"{side}-clavicle"], patient.masks[f"{side}-lung"]
            rows = np.flatnonzero(lung.any((0, 2)))
            shared = np.flatnonzero((clavicle & lung).any((0, 2)))
            assert shared.size and shared.max() < rows[0] + 0.4 * np.ptp(rows)


def test_label_maps_hold_the_organs_and_the_clavicles_over_them(patients: list[ChestRadiograph]) -> None:
    for patient in patients:
        organs, structures = patient.labels["organs"], patient.labels["structures"]
        for label, name in ((1, "left-lung"), (2, "right-lung"), (3, "heart")):
            np.testing.assert_array_equal(organs == label, patient.masks[name])
        for label, name in ((4, "left-clavicle"), (5, "right-clavicle")):
            np.testing.assert_array_equal(structures == label, patient.masks[name])
        np.testing.assert_array_equal(structures[structures < 4], organs[structures < 4])


def test_seeds_differ_and_repeat_and_every_size_shows_one_patient() -> None:
    first, again, other = (ChestRadiograph(seed, size=32) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image.array, again.image.array)
    assert (first.image.array != other.image.array).any()
    large = ChestRadiograph(1, size=64, noise=0)
    for name, mask in large.masks.items():
        assert mask.mean() == pytest.approx(first.masks[name].mean(), abs=0.012), name


def test_noise_is_that_of_the_exposure() -> None:
    clean, usual, noisy = (ChestRadiograph(1, size=48, noise=noise).image.array for noise in (0, 1, 3))
    spread = [float(np.std(image - clean)) for image in (usual, noisy)]
    assert 2 < spread[0] < spread[1]


@pytest.mark.parametrize("wrong", [{"size": 8}, {"noise": -1.0}])
def test_impossible_requests_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        ChestRadiograph(0, **wrong)
