import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import structural_similarity

from ganatomy.metrics.fidelity import mae, panel, psnr, rmse, ssim

ABDOMEN = (-160.0, 240.0)
images = arrays(np.float64, (12, 13), elements=st.floats(-1000, 1000))


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.normal(40, 200, (3, 40, 50))
    return y + rng.normal(0, 30, y.shape), y


def test_known_answers() -> None:
    y = np.zeros((4, 4))
    x = np.array([[20.0] * 4, [-20.0] * 4] * 2)
    assert rmse(x, y) == pytest.approx(20)
    assert mae(x, y) == pytest.approx(20)
    assert psnr(x, y, 400) == pytest.approx(20 * math.log10(20))
    assert psnr(y, y, 400) == math.inf


def test_ssim_is_skimages_gaussian_ssim(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    expected = np.mean(
        [
            structural_similarity(a, b, data_range=400, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
            for a, b in zip(x, y, strict=True)
        ]
    )
    assert ssim(x, y, 400) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_integers_far_from_zero_is_exact() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(-20, 20, (20, 20)).astype(np.int16)
    assert ssim(y, y, 400) == pytest.approx(1, abs=1e-12)
    shifted = (y + 30000).astype(np.int32)
    assert ssim(shifted, shifted, 400) == pytest.approx(1, abs=1e-12)


def test_a_window_clips_and_sets_the_range(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    clipped = np.clip(x, *ABDOMEN), np.clip(y, *ABDOMEN)
    for metric in (psnr, ssim):
        assert metric(x, y, window=ABDOMEN) == pytest.approx(metric(*clipped, 400))
    for metric in (rmse, mae):
        assert metric(x, y, window=ABDOMEN) == pytest.approx(metric(*clipped))


def test_only_the_mask_counts(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    mask = np.zeros(y.shape, dtype=bool)
    mask[1, 10:20, 10:20] = True
    spoiled = np.where(mask, x, 1e4)
    assert rmse(spoiled, y, mask) == pytest.approx(rmse(x[1, 10:20, 10:20], y[1, 10:20, 10:20]))
    assert mae(spoiled, y, mask) == pytest.approx(mae(x[1, 10:20, 10:20], y[1, 10:20, 10:20]))
    inner = mask & (np.indices(y.shape)[1] == 15)
    far = x.copy()
    far[0] = 1e4
    assert ssim(far, y, 400, mask=inner) == pytest.approx(ssim(x, y, 400, mask=inner))
    assert ssim(x, y, 400, mask=inner) != pytest.approx(ssim(x, y, 400))


def test_an_empty_mask_gives_nan(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    nothing = np.zeros(y.shape, dtype=bool)
    assert all(math.isnan(metric(x, y, nothing)) for metric in panel(ABDOMEN))


def test_misuse_is_refused(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    with pytest.raises(ValueError, match="different shapes"):
        rmse(x, y[0])
    with pytest.raises(ValueError, match="mask's shape"):
        rmse(x, y, np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match="data range"):
        psnr(x, y)
    with pytest.raises(ValueError, match="its width"):
        psnr(x, y, 4096, window=ABDOMEN)
    with pytest.raises(ValueError, match="11x11"):
        ssim(x[:, :10], y[:, :10], 400)


def test_labels_name_the_variant() -> None:
    assert [metric.label for metric in panel(ABDOMEN)] == [
        "psnr[-160,240]",
        "ssim[-160,240]",
        "rmse[-160,240]",
        "mae[-160,240]",
    ]
    assert [metric.label for metric in panel(data_range=4096)] == [
        "psnr[range 4096]",
        "ssim[range 4096]",
        "rmse",
        "mae",
    ]
    assert "data range 400 HU" in panel(ABDOMEN)[0].description


@given(images, images, st.floats(-500, 500))
def test_symmetry_and_invariance_to_a_common_offset(x: np.ndarray, y: np.ndarray, offset: float) -> None:
    assert rmse(x, y) == rmse(y, x)
    assert rmse(x + offset, y + offset) == pytest.approx(rmse(x, y), abs=1e-6)
    assert mae(x, y) <= rmse(x, y) + 1e-9
    assert ssim(x, y, 400) == pytest.approx(ssim(y, x, 400), abs=1e-9)
    assert -1 - 1e-9 <= ssim(x, y, 400) <= 1 + 1e-9
