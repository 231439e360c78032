import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from ganatomy.metrics.dependence import mutual_information
from ganatomy.metrics.memorisation import (
    assign,
    authenticity,
    correlation_check,
    data_copying,
    kmeans,
    most_correlated,
    most_informative,
    nearest_neighbour_test,
)


def normal(n: int, seed: int, d: int = 8) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def images(n: int, seed: int, size: tuple[int, int] = (20, 24)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n, 1, *size))
    return gaussian_filter(noise, (0, 0, 1.5, 1.5))


@pytest.fixture(scope="module")
def training() -> np.ndarray:
    return normal(400, 0)


@pytest.fixture(scope="module")
def held_out() -> np.ndarray:
    return normal(400, 1)


@pytest.fixture(scope="module")
def copies(training: np.ndarray) -> np.ndarray:
    return training[::-1] + 0.05 * normal(400, 2)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_correlation_is_the_largest_over_the_training_images() -> None:
    queries, originals = images(6, 0), images(9, 1)
    index, correlation = most_correlated(queries, originals)
    table = np.corrcoef(queries.reshape(6, -1), originals.reshape(9, -1))[:6, 6:]
    assert correlation == pytest.approx(table.max(axis=1))
    assert index.tolist() == table.argmax(axis=1).tolist()
    assert most_correlated(np.ones((2, 1, 20, 24)), originals)[1].tolist() == [0, 0]


def test_mutual_information_of_maps_is_that_of_two_by_two_bins() -> None:
    draw = np.random.default_rng(0)
    known, queries = draw.random((5, 1, 16, 20)) < 0.2, draw.random((3, 1, 16, 20)) < 0.1
    queries[1], queries[2] = known[3], known[4, :, :, ::-1]
    table = [[mutual_information(a, b, (0, 1), (0, 1), bins=2) for b in known] for a in queries.astype(float)]
    index, shared = most_informative(queries, known)
    assert shared == pytest.approx(np.max(table, axis=1)) and index.tolist() == np.argmax(table, axis=1).tolist()
    mirrored, more = most_informative(queries, known, flips=(2, 3))
    assert mirrored[2] == 4 and more[2] == pytest.approx(shared[1], rel=0.5) and (more >= shared).all()
    assert most_informative(np.zeros((1, 1, 16, 20)), known)[1].tolist() == [0]


def test_copies_are_flagged_and_held_out_images_are_not() -> None:
    originals, others = images(150, 0), images(150, 1)
    fake = np.concatenate([originals[:20] + 0.02 * images(20, 3), images(80, 2)])
    check = correlation_check(fake, originals, others)
    assert check.flagged[:20].all()
    assert check.flagged[20:].mean() < 0.08
    assert check.index[:20].tolist() == list(range(20))
    assert check.share == pytest.approx(check.flagged.mean())


def test_held_out_images_are_flagged_as_often_as_expected() -> None:
    shares, expected = [], 0.0
    for seed in range(60):
        fake, originals, others = (np.random.default_rng([seed, i]).normal(size=(60, 1, 6, 6)) for i in range(3))
        check = correlation_check(fake, originals, others, quantile=0.9)
        shares.append(check.share)
        expected = check.expected
    assert expected > 0.11
    assert np.mean(shares) == pytest.approx(expected, abs=3 * np.std(shares) / math.sqrt(60))


def test_the_data_copying_statistic_tells_copies_from_underfitting(
    training: np.ndarray, held_out: np.ndarray, copies: np.ndarray
) -> None:
    sound = [data_copying(normal(400, 10 + seed), training, held_out, rng()).statistic for seed in range(8)]
    assert max(np.abs(sound)) < 3
    result = data_copying(copies, training, held_out, rng())
    assert result.statistic < -3
    assert 1 < result.cells <= 20
    assert data_copying(2 * normal(400, 4), training, held_out, rng(), cells=4).statistic > 3


def test_one_cell_of_the_data_copying_test_is_a_mann_whitney_test() -> None:
    training = np.array([[0.0], [100.0]])
    fake = np.repeat([[1.0], [3.0]], 10, axis=0)
    held_out = np.array([[2.0], [3.0], [4.0]])
    wins = 10 * 1 + 10 * 0.5
    expected = (wins - 30) / math.sqrt(60 * 24 / 12)
    assert data_copying(fake, training, held_out, rng(), cells=1).statistic == pytest.approx(expected)
    assert math.isnan(data_copying(fake[:19], training, held_out, rng(), cells=1).statistic)


def test_the_nearest_neighbour_tells_samples_apart(training: np.ndarray, held_out: np.ndarray) -> None:
    assert nearest_neighbour_test(training, held_out).accuracy == pytest.approx(0.5, abs=0.06)
    assert nearest_neighbour_test(training, held_out + 20).accuracy == 1
    assert nearest_neighbour_test(training, training.copy()).accuracy == 0
    two_modes = held_out + 20 * (np.arange(400) % 2)[:, None]
    missing = nearest_neighbour_test(two_modes, training)
    assert missing.fake > missing.real
    with pytest.raises(ValueError, match="as many"):
        nearest_neighbour_test(training, held_out[:-1])


def test_authenticity_follows_its_definition(training: np.ndarray, copies: np.ndarray) -> None:
    independent = [authenticity(normal(400, 20 + seed), normal(400, 40 + seed)) for seed in range(5)]
    assert min(independent) > 0.5
    assert max(independent) < 0.66
    assert authenticity(copies, training) < 0.02
    # The nearest training sample of the fake at 5 is 0, which lies 1 from its own nearest; 20's lies 19 away.
    line = np.array([[0.0], [-1.0], [20.0], [-1.5]])
    assert authenticity(np.array([[5.0], [25.0]]), line) == 0.5


def test_kmeans_finds_separate_clusters() -> None:
    corners = np.array([[0, 0], [0, 30], [30, 0], [30, 30.0]])
    points = np.repeat(corners, 50, axis=0) + normal(200, 0, 2)
    centres = kmeans(points, 4, rng())
    found = centres[assign(corners, centres)]
    np.testing.assert_allclose(found, corners, atol=0.6)
    assert np.bincount(assign(points, centres)).tolist() == [50] * 4
    np.testing.assert_array_equal(centres, kmeans(points, 4, rng()))


def test_kmeans_of_equal_points_and_too_few_points() -> None:
    np.testing.assert_array_equal(kmeans(np.ones((5, 2)), 3, rng()), np.ones((3, 2)))
    assert kmeans(normal(7, 0), 1, rng()) == pytest.approx(normal(7, 0).mean(axis=0, keepdims=True))
    with pytest.raises(ValueError, match="3 points cannot form 4"):
        kmeans(normal(3, 0), 4, rng())


def test_a_shifted_and_flipped_copy_is_found_with_its_original() -> None:
    originals = images(30, 0)
    moved = np.roll(originals[[4, 17]][..., ::-1], (2, -3), axis=(2, 3))
    index, correlation = most_correlated(10 - 3 * -moved, originals, shift=3, flips=(2, 3))
    assert index.tolist() == [4, 17]
    assert correlation == pytest.approx([1, 1])
    assert most_correlated(moved, originals)[1].max() < 0.9
