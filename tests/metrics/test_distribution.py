import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from ganatomy.metrics.distribution import (
    Statistics,
    expected_coverage,
    floor,
    frechet_distance,
    kernel_distance,
    nearest,
    precision_recall_density_coverage,
    wasserstein_1d,
)


def normal(n: int, d: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=(n, d))


def exact(mean: np.ndarray, covariance: np.ndarray) -> Statistics:
    return Statistics(mean, covariance, 10_000)


def test_the_frechet_distance_of_shifted_normals_is_the_squared_shift() -> None:
    shift = np.array([3.0, -4.0, 0.0])
    assert frechet_distance(exact(np.zeros(3), np.eye(3)), exact(shift, np.eye(3))) == pytest.approx(25)
    x = normal(50, 3, 0)
    assert frechet_distance(x, x + shift) == pytest.approx(25)


def test_the_frechet_distance_of_scaled_normals_is_the_squared_difference_of_deviations() -> None:
    d, a, b = 7, 2.0, 5.0
    wide, narrow = exact(np.zeros(d), b**2 * np.eye(d)), exact(np.zeros(d), a**2 * np.eye(d))
    assert frechet_distance(narrow, wide) == pytest.approx(d * (b - a) ** 2)


@pytest.mark.parametrize(("n", "m"), [(60, 50), (60, 8), (9, 60), (9, 8)])
def test_frechet_agrees_with_the_matrix_root_also_for_few_samples(n: int, m: int) -> None:
    mixing = normal(20, 20, 5)
    x, y = normal(n, 20, 1) @ mixing, normal(m, 20, 2, 1.5) + 0.3
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    root = sqrtm(cov_x + 1e-10 * np.eye(20))
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(
        cov_x + cov_y - 2 * sqrtm(root @ (cov_y + 1e-10 * np.eye(20)) @ root).real
    )
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-4)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x))
    assert frechet_distance(Statistics.of(x), y) == pytest.approx(frechet_distance(x, y), rel=1e-6)


def test_equal_samples_have_no_distance() -> None:
    x = normal(30, 64, 0)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_a_constant_sample_has_no_covariance() -> None:
    x, constant = normal(40, 6, 0), np.ones((40, 6))
    expected = np.sum((x.mean(axis=0) - 1) ** 2) + np.trace(np.cov(x.T))
    assert frechet_distance(x, constant) == pytest.approx(expected)
    assert frechet_distance(Statistics.of(x), Statistics.of(constant)) == pytest.approx(expected)


def discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / x.shape[1] + 1) ** 3

    def within(k: np.ndarray) -> float:
        return (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))

    return within(kernel(x, x)) + within(kernel(y, y)) - 2 * kernel(x, y).mean()


def test_the_kernel_distance_is_that_of_its_definition() -> None:
    x, y = normal(12, 5, 1), normal(9, 5, 2) + 0.4
    rng = np.random.default_rng(0)
    whole = kernel_distance(x[:9], y, rng, subsets=3)
    assert whole.mean == pytest.approx(discrepancy(x[:9], y))
    assert whole.sd == pytest.approx(0, abs=1e-12)
    # The estimate on all samples is the mean over subsets.
    subsets = kernel_distance(x, y, rng, subsets=400, size=6)
    assert subsets.mean == pytest.approx(discrepancy(x, y), abs=4 * subsets.sd / math.sqrt(400))
    assert subsets.sd > 0


def test_the_kernel_distance_is_unbiased_and_sees_a_shift() -> None:
    rng = np.random.default_rng(0)
    same = [kernel_distance(normal(80, 16, i), normal(80, 16, 100 + i), rng, subsets=1).mean for i in range(40)]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(len(same))
    assert min(same) < 0
    assert kernel_distance(normal(80, 16, 0), normal(80, 16, 1) + 0.5, rng).mean > 5 * np.std(same)


def test_identical_samples_have_all_neighbourhoods_in_common() -> None:
    x = normal(120, 8, 0)
    result = precision_recall_density_coverage(x, x.copy())
    assert (result.precision, result.recall, result.density, result.coverage) == (1, 1, 1, 1)


def test_independent_samples_reach_the_expected_coverage() -> None:
    assert expected_coverage(300, 300, 5) == pytest.approx(0.969, abs=1e-3)
    results = [precision_recall_density_coverage(normal(300, 6, i), normal(300, 6, 50 + i)) for i in range(12)]
    assert np.mean([r.coverage for r in results]) == pytest.approx(0.969, abs=0.006)
    assert np.mean([r.density for r in results]) == pytest.approx(1, abs=0.05)


def test_a_missing_mode_lowers_recall_and_coverage_but_not_precision() -> None:
    two_modes = normal(200, 4, 0) + 20 * (np.arange(200) % 2)[:, None]
    result = precision_recall_density_coverage(two_modes, normal(200, 4, 1))
    assert result.precision > 0.8
    assert result.recall < 0.55
    assert result.coverage < 0.55


def test_neighbourhoods_follow_their_definitions() -> None:
    x, y = np.array([[0.0], [1.0], [3.0], [10.0]]), np.array([[0.5], [1.0], [2.0], [40.0]])
    result = precision_recall_density_coverage(x, y, k=1)
    # Real radii 1, 1, 2, 7; fake radii 0.5, 0.5, 1, 38. Open balls: (-1,1), (0,2), (1,5), (3,17).
    assert result.precision == 3 / 4
    assert result.density == 4 / 4
    assert result.coverage == 3 / 4
    assert result.recall == 3 / 4  # 1, inside (0.5, 1.5); 3 and 10, inside (2, 78)


def test_wasserstein_is_the_shift_of_the_grey_levels_per_channel() -> None:
    x = np.random.default_rng(0).normal(size=(4, 2, 9, 7))
    shifted = x + np.array([5.0, -2.0])[:, None, None]
    assert wasserstein_1d(x, shifted) == pytest.approx([5, 2])
    assert wasserstein_1d(x, x[::-1]) == pytest.approx([0, 0])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 1000), st.floats(0, 1e4))
def test_neighbours_are_those_of_a_plain_search(n: int, d: int, seed: int, offset: float) -> None:
    x = normal(n, d, seed) + offset
    y = np.concatenate([normal(5, d, seed + 1) + offset, x[:1]])
    index, distance = nearest(x, y, k=3)
    plain = np.linalg.norm(x[:, None] - y[None], axis=2)
    np.testing.assert_allclose(distance, np.sort(plain, axis=1)[:, :3])
    np.testing.assert_allclose(distance, np.take_along_axis(plain, index, axis=1))
    assert index[0, 0] == 5
    assert distance[0, 0] == 0


def test_nobody_is_its_own_neighbour() -> None:
    x = normal(700, 3, 0)  # more than one block
    index, distance = nearest(x, x, leave_out=True)
    assert not np.any(index[:, 0] == np.arange(700))
    assert distance.min() > 0


def test_the_floor_compares_disjoint_halves() -> None:
    seen = []

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        seen.append((len(a), len(b)))
        return float(len(np.intersect1d(a, b)))

    result = floor(overlap, np.arange(11.0)[:, None], np.random.default_rng(0), repeats=4)
    assert (result.mean, result.sd, result.repeats) == (0, 0, 4)
    assert seen == [(5, 5)] * 4


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="3 and 4 dimensions"):
        frechet_distance(normal(5, 3, 0), normal(5, 4, 0))
    with pytest.raises(ValueError, match="2 or more"):
        frechet_distance(normal(1, 3, 0), normal(5, 3, 0))
    with pytest.raises(ValueError, match="too few"):
        precision_recall_density_coverage(normal(4, 3, 0), normal(4, 3, 0), k=5)
    with pytest.raises(ValueError, match="not finite"):
        nearest(np.full((3, 2), np.nan), normal(3, 2, 0))
    assert nearest([[1.0, 0.0]], [[0.0, 0.0]])[1].tolist() == [[1.0]]
