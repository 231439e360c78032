import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from ganatomy.metrics.pyramid import (
    downsample,
    laplacian_pyramid,
    reconstruct,
    sliced_wasserstein,
    upsample,
)


def noise(n: int, channels: int, size: tuple[int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, channels, *size)).astype(np.float32)


def distances(real: np.ndarray, fake: np.ndarray, **masks: np.ndarray) -> np.ndarray:
    options = {"patches": 32, "directions": 32, "repeats": 2}
    return np.array(sliced_wasserstein(real, fake, np.random.default_rng(0), **masks, **options).distances)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 41), st.integers(1, 41), st.integers(1, 4))
def test_a_pyramid_of_any_size_gives_its_images_back(rows: int, columns: int, levels: int) -> None:
    images = noise(2, 3, (rows, columns), rows * columns)
    pyramid = laplacian_pyramid(images, levels)
    assert len(pyramid) == levels
    np.testing.assert_allclose(reconstruct(pyramid), images, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((256, 256), [256, 128, 64, 32, 16]),
        ((128, 200), [128, 64, 32, 16]),
        ((31, 31), [31]),
        ((70, 90), [70, 35, 18]),
        ((8, 8), [8]),
    ],
)
def test_levels_go_down_to_sixteen_pixels(size: tuple[int, int], sizes: list[int]) -> None:
    assert [level.shape[-2] for level in laplacian_pyramid(np.zeros((1, 1, *size)))] == sizes


def test_an_impulse_shows_the_binomial_kernel() -> None:
    impulse = np.zeros((1, 1, 9, 9), dtype=np.float32)
    impulse[0, 0, 4, 4] = 256
    np.testing.assert_allclose(downsample(impulse)[0, 0, 1:4, 1:4], np.outer([1, 6, 1], [1, 6, 1]))
    point = np.zeros((1, 1, 5, 5), dtype=np.float32)
    point[0, 0, 2, 2] = 64
    np.testing.assert_allclose(upsample(point, (10, 10))[0, 0, 2:7, 2:7], np.outer(*[[1, 4, 6, 4, 1]] * 2))


@pytest.mark.parametrize("size", [(16, 18), (17, 19), (2, 3)])
def test_constant_images_stay_constant_up_to_the_border(size: tuple[int, int]) -> None:
    flat = np.full((1, 1, *size), 7.0, dtype=np.float32)
    coarse = downsample(flat)
    np.testing.assert_allclose(coarse, 7)
    np.testing.assert_allclose(upsample(coarse, size), 7, rtol=1e-6)


def test_it_tells_other_texture_from_more_of_the_same() -> None:
    real, again = noise(60, 1, (32, 32), 0), noise(60, 1, (32, 32), 1)
    smoothed = gaussian_filter(again, (0, 0, 1, 1))
    same, other = distances(real, again), distances(real, smoothed)
    assert same.max() < 60
    assert other[0] > 2 * same.max()


def test_only_the_disturbed_level_is_far() -> None:
    coarse = noise(60, 1, (8, 8), 0)
    real = np.asarray(upsample(upsample(coarse, (16, 16)), (32, 32))) + 0.2 * noise(60, 1, (32, 32), 1)
    stripes = 0.4 * np.where(np.arange(32) % 2, 1, -1)
    result = distances(real, real + stripes)
    assert result[0] > 4 * result[1]


def test_brightness_and_contrast_of_the_whole_sample_do_not_show() -> None:
    real, fake = noise(20, 2, (16, 24), 0), noise(20, 2, (16, 24), 1)
    stretched = 3 * fake + np.array([10.0, -4.0], dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(distances(real, fake), distances(real, stretched), rtol=1e-3)


def test_a_shifted_distribution_has_the_distance_of_its_quantiles() -> None:
    # Constant images give every patch one value, so a projection is that value times the sum of the direction.
    values = np.random.default_rng(0).normal(size=40)
    bimodal = np.sign(values)
    standard = [np.sort((v - v.mean()) / v.std()) for v in (values, bimodal)]
    between = np.abs(standard[0] - standard[1]).mean()
    expected = 1000 * between * np.sqrt(2 / np.pi)
    real, fake = (np.ones((40, 1, 16, 16)) * v[:, None, None, None] for v in (values, bimodal))
    result = sliced_wasserstein(real, fake, np.random.default_rng(0), patches=4, directions=2000)
    assert result.mean == pytest.approx(expected, rel=0.05)


def test_a_mask_keeps_the_background_out() -> None:
    body = np.zeros((56, 48), dtype=bool)
    body[14:42, 14:34] = True
    real, fake = noise(30, 1, (56, 48), 0), noise(30, 1, (56, 48), 1)
    # Patches centred in the body reach three pixels beyond it, and the filters of the pyramid four more.
    outside = np.ones((56, 48), dtype=np.float32)
    outside[6:50, 6:42] = 0
    spoiled = fake + 50 * outside
    masks = {"real_mask": body, "fake_mask": np.broadcast_to(body, (30, 56, 48))}
    assert distances(real, spoiled)[0] > 100
    assert distances(real, spoiled, **masks)[0] == pytest.approx(distances(real, fake, **masks)[0], rel=0.3)


def test_a_seed_decides_the_result() -> None:
    real, fake = noise(6, 1, (20, 20), 0), noise(6, 1, (20, 20), 1)
    assert distances(real, fake).tolist() == distances(real, fake).tolist()


def test_unequal_samples_and_empty_masks_are_refused() -> None:
    images = noise(4, 1, (32, 32), 0)
    with pytest.raises(ValueError, match="as many fake as real"):
        distances(images, images[:3])
    with pytest.raises(ValueError, match="do not fit"):
        distances(images[..., :5], images[..., :5])
    mask = np.ones((4, 32, 32), dtype=bool)
    mask[2] = False
    with pytest.raises(ValueError, match="image 2"):
        distances(images, images, real_mask=mask)
