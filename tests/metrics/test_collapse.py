import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ganatomy.metrics.collapse import (
    collapsed,
    compare_bins,
    mean_pairwise_distance,
    spread_ratio,
)


def normal(n: int, seed: int, d: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def of_modes(n: int, modes: int, jitter: float, seed: int, d: int = 8) -> np.ndarray:
    return normal(modes, seed, d)[np.arange(n) % modes] + jitter * normal(n, seed + 1, d)


def test_bins_of_equal_distributions_differ_at_the_level_of_the_test() -> None:
    training = normal(1500, 0)
    results = [compare_bins(training, normal(1000, s), normal(1000, 50 + s), rng(s), bins=15) for s in range(1, 9)]
    assert np.mean([r.share for r in results]) == pytest.approx(0.05, abs=0.04)
    assert max(r.divergence for r in results) < 0.02


def test_a_missing_mode_is_a_missed_bin() -> None:
    modes = 12 * normal(10, 3)
    training, real = (modes[np.arange(1000) % 10] + normal(1000, s) for s in (4, 5))
    fake = modes[np.arange(700) % 7] + normal(700, 6)
    result = compare_bins(training, real, fake, rng(), bins=10)
    assert result.missed.size >= 2
    assert result.fake[result.missed].sum() == 0
    assert result.real.sum() == pytest.approx(1)
    assert result.divergence > 0.1


def test_the_bins_test_is_the_pooled_test_of_proportions() -> None:
    training = np.array([[0.0], [0.0], [10.0], [10.0]])

    def sample(low: int, high: int) -> np.ndarray:
        return np.repeat([[0.0], [10.0]], [low, high], axis=0)

    # 60 of 100 against 45 of 100: z = 2.12; against 47 of 100: z = 1.84.
    assert compare_bins(training, sample(60, 40), sample(45, 55), rng(), bins=2).share == 1
    assert compare_bins(training, sample(60, 40), sample(47, 53), rng(), bins=2).share == 0
    assert compare_bins(training, sample(60, 40), sample(60, 40), rng(), bins=2).divergence == 0


def test_images_of_many_pixels_are_clustered_by_some_of_them() -> None:
    images = np.concatenate([normal(40, s, 1200) + 3 * s for s in range(3)]).reshape(-1, 1, 30, 40)
    result = compare_bins(images, images, images[:40], rng(), bins=3)
    assert sorted(result.fake.tolist()) == [0, 0, 1]
    assert result.missed.size == 2


def test_the_mean_pairwise_distance() -> None:
    x = normal(600, 0, 3)
    plain = np.linalg.norm(x[:, None] - x[None], axis=2).sum() / (600 * 599)
    assert mean_pairwise_distance(x) == pytest.approx(plain)
    assert spread_ratio(x, 0.25 * x + 7) == pytest.approx(0.25)
    assert math.isnan(spread_ratio(np.ones((5, 2)), x[:, :2]))


@pytest.mark.parametrize("d", [2, 16, 256])
def test_a_collapsed_generator_is_recognised(d: int) -> None:
    real = normal(150, 0, d)
    constant = collapsed(real, np.ones((150, d)), rng())
    assert constant
    assert "apart" in constant.reasons[0]
    for jitter in (0.0, 0.02, 0.15):
        few = collapsed(real, of_modes(150, 5, jitter, 7, d), rng())
        assert few.collapsed, jitter
    assert collapsed(real, 0.28 * normal(200, 3, d), rng()).spread < 0.3
    assert collapsed(real, 0.28 * normal(200, 3, d) + 1, rng()).collapsed


def test_collapse_is_seen_in_images() -> None:
    def images(n: int, seed: int) -> np.ndarray:
        return gaussian_filter(rng(seed).normal(size=(n, 1, 24, 24)), (0, 0, 3, 3))

    real = images(120, 0)
    assert not collapsed(real, images(150, 1), rng())
    assert collapsed(real, images(5, 2)[np.arange(150) % 5] + 0.1 * images(150, 3), rng())
    assert collapsed(real, np.zeros((150, 1, 24, 24)), rng())


@pytest.mark.parametrize("d", [2, 16, 256])
def test_an_independent_real_sample_has_not_collapsed(d: int) -> None:
    verdicts = [collapsed(normal(100, 2 * seed, d), normal(100, 2 * seed + 1, d), rng(seed)) for seed in range(100)]
    assert not any(verdicts)


def test_varied_but_wrong_is_not_collapsed() -> None:
    real = normal(150, 0)
    verdict = collapsed(real, 2 * normal(400, 1) + 10, rng())
    assert not verdict
    assert verdict.spread == pytest.approx(2, rel=0.1)
    assert verdict.reasons == ()
