import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms.nodule import LungNodule


def roundness(mask: np.ndarray) -> float:
    """Return the ratio of the area to that of the disk with equal second moments, 1 for disks."""
    rows, columns = np.nonzero(mask)
    return mask.sum() / (2 * np.pi * (rows.var() + columns.var()))


def test_benign_nodules_are_small_and_round() -> None:
    benign, malignant = (LungNodule(seed, size=112, slices=32) for seed in (0, 1))
    areas = [np.median(phantom.masks["nodule"].sum((1, 2))) for phantom in (benign, malignant)]
    assert areas[0] < 0.6 * areas[1]
    shapes = [np.median([roundness(mask) for mask in phantom.masks["nodule"]]) for phantom in (benign, malignant)]
    assert shapes[0] > 0.96 > shapes[1]


def test_some_benign_nodules_are_calcified() -> None:
    phantoms = [LungNodule(seed, size=112, slices=12, noise=0) for seed in range(0, 12, 2)]
    calcified = np.concatenate([phantom.masks["calcification"].any((1, 2)) for phantom in phantoms])
    assert 0.2 < calcified.mean() < 0.5
    for phantom in phantoms:
        nodule, calcium = phantom.masks["nodule"], phantom.masks["calcification"]
        assert (calcium & nodule).sum() > 0.97 * calcium.sum()
        assert phantom.image.array[0][calcium].mean() > 300
    assert not LungNodule(1, slices=12).masks["calcification"].any()


def test_some_malignant_nodules_have_a_halo_of_ground_glass() -> None:
    phantom = LungNodule(1, size=112, slices=60, noise=0)
    halo = phantom.masks["halo"]
    assert 0.3 < halo.any((1, 2)).mean() < 0.7
    assert not (halo & phantom.masks["nodule"]).any()
    assert -700 < np.median(phantom.image.array[0][halo]) < -430
    assert not LungNodule(0, slices=12).masks["halo"].any()


def test_malignant_nodules_are_spiculated() -> None:
    def shell(seed: int) -> float:
        """Return the share of soft tissue 2 to 4 mm away from nodules without a halo."""
        phantom = LungNodule(seed, size=112, slices=40, noise=0)
        plain = ~phantom.masks["halo"].any((1, 2))
        shares = []
        for hu, nodule in zip(phantom.image.array[0, plain], phantom.masks["nodule"][plain], strict=True):
            gap = ndimage.distance_transform_edt(~nodule)
            shares.append((hu[(gap > 6) & (gap < 10)] > -600).mean())
        return float(np.median(shares))

    assert shell(1) > 1.5 * shell(0)


def test_the_lung_is_full_of_air() -> None:
    for seed in range(4):
        phantom = LungNodule(seed, slices=8, noise=0)
        assert np.percentile(phantom.image.array, 35) == pytest.approx(phantom.parenchyma, abs=40)
        assert -900 <= phantom.parenchyma <= -800
        nodule = phantom.image.array[0][phantom.masks["nodule"] & ~phantom.masks["calcification"]]
        assert -50 < np.median(nodule) < 70


def test_the_chest_wall_is_sometimes_there() -> None:
    corners = LungNodule(0, slices=200, noise=0).image.array[0][:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert 0.15 < (corners > -200).any(1).mean() < 0.6


def test_noise_is_added_on_top() -> None:
    clean, noisy = (LungNodule(3, slices=16, noise=noise).image.array for noise in (0.0, 25.0))
    assert (noisy - clean).std() == pytest.approx(25, rel=0.25)


def test_labels_alternate_and_can_be_forced() -> None:
    assert [LungNodule(seed, size=16).label for seed in range(4)] == ["benign", "malignant"] * 2
    assert LungNodule(0, label="malignant").label == "malignant"
    with pytest.raises(UserError, match="no label"):
        LungNodule(0, label="cancer")


def test_seeds_and_slices_differ_and_repeat() -> None:
    first, again, other = (LungNodule(seed, slices=3) for seed in (1, 1, 3))
    np.testing.assert_array_equal(first.image.array, again.image.array)
    assert (first.image.array != other.image.array).any()
    assert len(np.unique(first.masks["nodule"].reshape(3, -1), axis=0)) == 3
    assert first.image.array.dtype == np.float32 and first.image.unit == "HU"


@pytest.mark.parametrize("size", [32, 64])
def test_other_sizes_show_the_same_millimetres(size: int) -> None:
    phantom = LungNodule(1, size=size, slices=4)
    assert phantom.image.array.shape == (1, 4, size, size)
    expected = LungNodule(1, slices=4).masks["nodule"].mean()
    assert phantom.masks["nodule"].mean() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("wrong", [{"size": 4}, {"slices": 0}, {"noise": -1.0}])
def test_impossible_requests_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        LungNodule(0, **wrong)
