import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.metrics.display import gaussian, perona_malik


@pytest.fixture
def step():
    image = np.zeros((2, 32, 32), np.float32)
    image[:, :, 16:] = 1.0
    noise = 0.03 * np.random.default_rng(0).standard_normal(image.shape)
    return (image + noise).astype(np.float32)


@given(st.integers(0, 10), st.floats(0.01, 2.0), st.floats(0.01, 0.25))
def test_what_flows_keeps_the_mean_and_the_range(iterations, kappa, amount):
    image = np.random.default_rng(1).random((3, 9, 7)).astype(np.float32)
    smooth = perona_malik(image, iterations, kappa, amount)
    np.testing.assert_allclose(smooth.mean((1, 2)), image.mean((1, 2)), atol=1e-5)
    assert smooth.min() >= image.min() - 1e-6 and smooth.max() <= image.max() + 1e-6
    assert smooth.dtype == np.float32


def test_diffusion_smooths_noise_and_keeps_edges_that_a_gaussian_blurs(step):
    diffused, blurred = perona_malik(step, 20), gaussian(step, 1.5)
    flat = np.s_[:, :, 2:13]
    assert diffused[flat].std() < 0.5 * step[flat].std()
    assert blurred[flat].std() < 0.5 * step[flat].std()
    height = {name: np.diff(image, axis=2).max() for name, image in (("diffused", diffused), ("blurred", blurred))}
    assert height["diffused"] > 0.9 and height["blurred"] < 0.4


def test_images_do_not_see_each_other(step):
    for smooth in (gaussian, perona_malik):
        np.testing.assert_array_equal(smooth(step)[0], smooth(step[:1])[0])


def test_gaussian_spreads_a_point_by_its_sigma():
    point = np.zeros((41, 41), np.float32)
    point[20, 20] = 1
    smooth = gaussian(point, 2.0)
    assert smooth.sum() == pytest.approx(1, abs=1e-5)
    assert (smooth * (np.arange(41) - 20) ** 2).sum() == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("numbers", [{"step": 0.3}, {"step": 0.0}, {"kappa": 0.0}])
def test_numbers_that_oscillate_are_refused(numbers):
    with pytest.raises(ValueError, match="step"):
        perona_malik(np.zeros((4, 4)), **numbers)
