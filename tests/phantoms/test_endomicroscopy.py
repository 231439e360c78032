import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms import make
from ganatomy.phantoms.endomicroscopy import PITCH, WIDTH, EndomicroscopyMosaic


@pytest.fixture(scope="module")
def mosaics() -> EndomicroscopyMosaic:
    return EndomicroscopyMosaic(0, size=192, slices=3, noise=0)


def test_brightness_follows_fluorescein(mosaics: EndomicroscopyMosaic) -> None:
    values = mosaics.image.array
    assert values.shape == (1, 3, 192, 192) and values.dtype == np.float32
    assert values.min() >= 0 and values.max() <= 255
    masks = mosaics.masks
    between = ~masks["crypts"] & ~masks["vessels"]
    epithelium = masks["crypts"] & ~masks["lumen"]
    means = [values[0][mask].mean() for mask in (masks["vessels"], between, epithelium, masks["lumen"])]
    assert means == sorted(means, reverse=True)
    assert means[0] > 1.15 * means[1] > 1.5 * means[2]


def test_lumens_lie_in_crypts_and_vessels_beside_them(mosaics: EndomicroscopyMosaic) -> None:
    assert not (mosaics.masks["lumen"] & ~mosaics.masks["crypts"]).any()
    assert not (mosaics.masks["vessels"] & mosaics.masks["crypts"]).any()


def test_crypts_are_apart_and_as_many_as_the_pitch_says(mosaics: EndomicroscopyMosaic) -> None:
    expected = WIDTH**2 / (PITCH**2 * np.sqrt(0.75))
    for crypts, lumens in zip(mosaics.masks["crypts"], mosaics.masks["lumen"], strict=True):
        assert ndimage.label(lumens)[1] == pytest.approx(expected, rel=0.4)
        areas = np.bincount(ndimage.label(crypts)[0].ravel())[1:] * (WIDTH / 192) ** 2
        assert areas.max() < 2.6 * np.pi * (0.455 * PITCH) ** 2


def test_epithelium_has_cells(mosaics: EndomicroscopyMosaic) -> None:
    epithelium = mosaics.masks["crypts"] & ~ndimage.binary_dilation(mosaics.masks["lumen"], np.ones((1, 7, 7)))
    dark = mosaics.image.array[0][epithelium] < 60
    assert 0.05 < dark.mean() < 0.45


def test_mosaics_have_more_detail_than_fibres_resolve(mosaics: EndomicroscopyMosaic) -> None:
    plane = mosaics.image.array[0, 0]
    blurred = ndimage.gaussian_filter(plane, 1.5)
    assert (plane - blurred).std() > 0.2 * plane.std()


def test_seeds_and_slices_differ_and_repeat() -> None:
    first, again, other = (EndomicroscopyMosaic(seed, size=32, slices=2) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image.array, again.image.array)
    assert (first.image.array != other.image.array).any()
    assert (first.masks["crypts"][0] != first.masks["crypts"][1]).any()
    np.testing.assert_array_equal(EndomicroscopyMosaic(1, size=32).image.array[:, 0], first.image.array[:, 0])


@pytest.mark.parametrize("size", [32, 128, 200])
def test_other_sizes_show_the_same_millimetres(size: int) -> None:
    phantom = make("endomicroscopy", 4, size=size)
    assert phantom.image.array.shape == (1, 1, size, size)
    assert phantom.image.spacing == pytest.approx((1, WIDTH / size, WIDTH / size))
    assert 0.5 < phantom.masks["crypts"].mean() < 0.8


@pytest.mark.parametrize("wrong", [{"size": 8}, {"slices": 0}, {"noise": -1.0}])
def test_impossible_requests_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        EndomicroscopyMosaic(0, **wrong)
