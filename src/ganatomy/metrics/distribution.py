"""Distances between the distributions of two samples of images: Fréchet, kernel, precision, recall, coverage.

Samples are features ``(n, d)``, or images ``(n, channels, rows, columns)`` where a function says so. Only
numbers taken on the same features, with the same n, and from images prepared in the same way can be compared;
``floor`` gives the value that two halves of the real images reach, below which nothing is a difference.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ganatomy.metrics.metric import Array

BLOCK = 512
TOUCHING = 1e-9  # relative; a point this close to a ball's surface is on it, and the balls are open

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Statistics:
    """Mean and covariance of a sample for the Fréchet distance; those of real images can be stored and reused.

    Attributes:
        mean: (d,).
        covariance: (d, d), with n - 1 in the denominator.
        n: number of samples.
    """

    mean: Array
    covariance: Array
    n: int

    @classmethod
    def of(cls, features: npt.ArrayLike) -> "Statistics":
        """Mean and covariance of features (n, d)."""
        x = as_features(features)
        centred = x - x.mean(axis=0)
        return cls(x.mean(axis=0), centred.T @ centred / (len(x) - 1), len(x))


@dataclass(frozen=True)
class Spread:
    """Mean over repetitions and their standard deviation (n - 1; NaN for a single one)."""

    mean: float
    sd: float
    repeats: int

    @classmethod
    def of(cls, values: npt.ArrayLike) -> "Spread":
        """Mean and standard deviation of the values."""
        v = np.asarray(values, dtype=np.float64).ravel()
        return cls(float(v.mean()), float(v.std(ddof=1)) if v.size > 1 else math.nan, v.size)


@dataclass(frozen=True)
class Manifolds:
    """Precision, recall, density and coverage of two samples by their k-nearest-neighbour balls.

    Attributes:
        precision: part of the fakes inside the ball of some real sample.
        recall: part of the real samples inside the ball of some fake.
        density: real balls around a fake, on average, over k; about 1 for equal distributions, may exceed 1.
        coverage: part of the real samples whose ball holds a fake.
        expected_coverage: the coverage of a fake sample of this size drawn from the real distribution.
        k: number of neighbours.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    expected_coverage: float
    k: int


def frechet_distance(real: npt.ArrayLike | Statistics, fake: npt.ArrayLike | Statistics) -> float:
    """Return the Fréchet distance of normal distributions fitted to two samples (FID, on Inception features).

    |μr - μs|² + Tr(Σr + Σs - 2 (Σr^½ Σs Σr^½)^½), in squared feature units. The trace of the root is the sum
    of the singular values of Ar Asᵀ where Σ = AᵀA, so no matrix root is taken, and features with d > n cost no
    more than their Gram matrices. Small samples bias it upwards, for d > n by far; ``kernel_distance`` is for
    them.

    Source: Heusel et al., NeurIPS 2017, arXiv:1706.08500.

    Args:
        real: features (n, d), or their statistics.
        fake: features (m, d), or their statistics.

    Raises:
        ValueError: the features differ in d, or a sample has fewer than two members.
    """
    (mean_r, root_r), (mean_s, root_s) = _mean_and_root(real), _mean_and_root(fake)
    if mean_r.shape != mean_s.shape:
        raise ValueError(f"features of {mean_r.size} and {mean_s.size} dimensions cannot be compared")
    overlap = np.linalg.svd(root_r @ root_s.T, compute_uv=False).sum()
    distance = np.sum((mean_r - mean_s) ** 2) + np.sum(root_r**2) + np.sum(root_s**2) - 2 * overlap
    return max(float(distance), 0.0)


def kernel_distance(
    real: npt.ArrayLike, fake: npt.ArrayLike, rng: np.random.Generator, subsets: int = 100, size: int = 1000
) -> Spread:
    """Return the squared maximum mean discrepancy with the kernel (aᵀb/d + 1)³ (KID, on Inception features).

    Unbiased: 0 on average for equal distributions, so it can be negative. Mean and SD over random subsets of
    min(size, n, m) samples of each; where that is a whole sample, subsets repeat it, and the SD says too little.

    Source: Bińkowski et al., ICLR 2018, arXiv:1801.01401.

    Args:
        real: features (n, d).
        fake: features (m, d).
        rng: draws the subsets.
        subsets: number of subsets.
        size: samples per subset.
    """
    x, y = _pair(real, fake)
    size = min(size, len(x), len(y))
    in_x, in_y = (_memberships(len(sample), size, subsets, rng) for sample in (x, y))
    within = size * (size - 1)
    discrepancy = (
        (_kernel_sums(x, in_x, x, in_x) - _kernel_diagonal(x) @ in_x) / within
        + (_kernel_sums(y, in_y, y, in_y) - _kernel_diagonal(y) @ in_y) / within
        - 2 * _kernel_sums(x, in_x, y, in_y) / size**2
    )
    return Spread.of(discrepancy)


def precision_recall_density_coverage(real: npt.ArrayLike, fake: npt.ArrayLike, k: int = 5) -> Manifolds:
    """Compute improved precision and recall, density and coverage, by neighbourhoods within each sample.

    A ball is open and reaches from a sample to the k-th nearest of its own sample, itself not counted.
    Outliers have large balls, which inflate precision and recall; density and coverage suffer less.

    Source: Kynkäänniemi et al., NeurIPS 2019, arXiv:1904.06991 (precision, recall; k = 3 there); Naeem et al.,
    ICML 2020, arXiv:2002.09797 (density, coverage; k = 5 there).

    Args:
        real: features (n, d).
        fake: features (m, d); take m = n.
        k: number of neighbours.
    """
    x, y = _pair(real, fake)
    radius_x, radius_y = ((_radii(sample, k) * (1 - TOUCHING)) ** 2 for sample in (x, y))
    believable = np.zeros(len(y), dtype=np.bool_)
    recalled, covered = np.zeros(len(x), dtype=np.bool_), np.zeros(len(x), dtype=np.bool_)
    balls = 0
    for rows, squared in squared_distances(x, y):
        inside = squared < radius_x[rows, None]
        balls += int(inside.sum())
        believable |= inside.any(axis=0)
        covered[rows] = inside.any(axis=1)
        recalled[rows] = (squared < radius_y).any(axis=1)
    return Manifolds(
        precision=float(believable.mean()),
        recall=float(recalled.mean()),
        density=balls / (k * len(y)),
        coverage=float(covered.mean()),
        expected_coverage=expected_coverage(len(x), len(y), k),
        k=k,
    )


def expected_coverage(n: int, m: int, k: int = 5) -> float:
    """Return the expected coverage of n real samples by m more from the same distribution.

    1 - Π_{i=1..k} (n - i) / (n + m - i): a real sample is not covered when its k nearest among all others
    are real (Naeem et al., 2020).
    """
    i = np.arange(1, k + 1)
    return float(1 - np.prod((n - i) / (n + m - i)))


def wasserstein_1d(real: npt.ArrayLike, fake: npt.ArrayLike) -> Array:
    """Return the Wasserstein-1 distance of the pixel values, per channel, in the images' unit.

    Args:
        real: images (n, channels, rows, columns).
        fake: images (m, channels, rows, columns).

    Returns:
        Distances (channels,).
    """
    return np.array([stats.wasserstein_distance(x, y) for x, y in _channel_pairs(real, fake)])


def jensen_shannon_divergence(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Return ½ KL(p ‖ ½(p + q)) + ½ KL(q ‖ ½(p + q)) in bits, 0 to 1, of two histograms of counts or fractions."""
    a, b = (v / v.sum() for v in (np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)))
    middle = (a + b) / 2
    return float((stats.entropy(a, middle, base=2) + stats.entropy(b, middle, base=2)) / 2)


def floor(
    metric: Callable[[Array, Array], float], real: npt.ArrayLike, rng: np.random.Generator, repeats: int = 5
) -> Spread:
    """Return a metric's value between two random halves of the real samples, the best value a generator can reach.

    Args:
        metric: function of two samples.
        real: one sample per entry of the first axis.
        rng: draws the halves.
        repeats: number of draws.
    """
    x = np.asarray(real)
    half = len(x) // 2
    orders = (rng.permutation(len(x)) for _ in range(repeats))
    return Spread.of([metric(x[order[:half]], x[order[half : 2 * half]]) for order in orders])


def nearest(
    queries: npt.ArrayLike, references: npt.ArrayLike, k: int = 1, *, leave_out: bool = False
) -> tuple[Indices, Array]:
    """Find the k nearest references of every query, by Euclidean distance.

    Candidates are found by matrix products, their distances then computed by subtraction, so that a copy has
    the distance 0.

    Args:
        queries: features (n, d).
        references: features (m, d).
        k: number of neighbours.
        leave_out: queries and references are the same sample, of which none is its own neighbour.

    Returns:
        Indices (n, k), nearest first, and distances (n, k).

    Raises:
        ValueError: there are fewer than k references.
    """
    x, y = _pair(queries, references, least=1)
    if k > len(y) - leave_out:
        raise ValueError(f"{len(y)} samples are too few for {k} neighbours")
    index = np.empty((len(x), k), dtype=np.intp)
    distance = np.empty((len(x), k))
    for rows, squared in squared_distances(x, y):
        if leave_out:
            squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = np.inf
        found = np.argpartition(squared, k - 1, axis=1)[:, :k]
        for column in range(k):
            distance[rows, column] = np.linalg.norm(x[rows] - y[found[:, column]], axis=1)
        order = np.argsort(distance[rows], axis=1, kind="stable")
        index[rows] = np.take_along_axis(found, order, axis=1)
        distance[rows] = np.take_along_axis(distance[rows], order, axis=1)
    return index, distance


def squared_distances(a: Array, b: Array) -> Iterator[tuple[slice, Array]]:
    """Yield squared Euclidean distances of rows of a (n, d) from rows of b (m, d), for blocks of rows of a.

    Yields:
        Slice of the rows of a, and their distances (rows, m), a new array.
    """
    # The mean is subtracted, since differences of large squares lose digits and distances do not depend on the origin.
    origin = b.mean(axis=0)
    theirs = b - origin
    squares = np.sum(theirs**2, axis=1)
    for start in range(0, len(a), BLOCK):
        rows = slice(start, min(start + BLOCK, len(a)))
        ours = a[rows] - origin
        squared = ours @ theirs.T
        squared *= -2
        squared += squares
        squared += np.sum(ours**2, axis=1)[:, None]
        yield rows, np.maximum(squared, 0, out=squared)


def as_features(sample: npt.ArrayLike, least: int = 2) -> Array:
    """Convert a sample to (n, d) in double precision; images are flattened.

    Raises:
        ValueError: there are fewer members than the least, or a value is not finite.
    """
    x = np.asarray(sample, dtype=np.float64)
    if x.ndim < 2 or len(x) < least:
        raise ValueError(f"needs {least} or more samples of one or more features, not the shape {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError("a sample holds values that are not finite")
    return x.reshape(len(x), -1)


def _pair(a: npt.ArrayLike, b: npt.ArrayLike, least: int = 2) -> tuple[Array, Array]:
    x, y = as_features(a, least), as_features(b, least)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"features of {x.shape[1]} and {y.shape[1]} dimensions cannot be compared")
    return x, y


def _mean_and_root(sample: npt.ArrayLike | Statistics) -> tuple[Array, Array]:
    """Return the mean μ and a matrix A, as small as the rank allows, with AᵀA = Σ."""
    if isinstance(sample, Statistics):
        values, vectors = np.linalg.eigh(sample.covariance)
        # Eigenvalues below this are rounding errors, which the square root would amplify, and are set to zero.
        real = values > values.max() * len(values) * np.finfo(np.float64).eps
        return sample.mean, np.asarray(vectors[:, real] * np.sqrt(values[real])).T
    x = as_features(sample)
    centred = (x - x.mean(axis=0)) / math.sqrt(len(x) - 1)
    return x.mean(axis=0), centred if len(x) <= x.shape[1] else np.asarray(np.linalg.qr(centred, mode="r"))


def _memberships(n: int, size: int, subsets: int, rng: np.random.Generator) -> Array:
    """Draw random subsets as a matrix (n, subsets) that is 1 where a sample belongs to a subset."""
    members = np.zeros((n, subsets))
    for subset in range(subsets):
        members[rng.permutation(n)[:size], subset] = 1
    return members


def _kernel_sums(x: Array, in_x: Array, y: Array, in_y: Array) -> Array:
    """Return the sum of the kernel over all pairs of each subset, in one pass over the kernel matrix."""
    total = np.zeros(in_x.shape[1])
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        kernel = (x[rows] @ y.T / x.shape[1] + 1) ** 3
        total += np.sum(in_x[rows] * (kernel @ in_y), axis=0)
    return total


def _kernel_diagonal(x: Array) -> Array:
    return np.asarray((np.mean(x**2, axis=1) + 1) ** 3)


def _radii(x: Array, k: int) -> Array:
    return np.asarray(nearest(x, x, k, leave_out=True)[1][:, -1])


def _channel_pairs(real: npt.ArrayLike, fake: npt.ArrayLike) -> Iterator[tuple[Array, Array]]:
    x, y = np.asarray(real, dtype=np.float64), np.asarray(fake, dtype=np.float64)
    if x.ndim != 4 or y.ndim != 4 or x.shape[1] != y.shape[1]:
        raise ValueError(f"images must be (n, channels, rows, columns), equal in channels, not {x.shape}, {y.shape}")
    return ((x[:, channel].ravel(), y[:, channel].ravel()) for channel in range(x.shape[1]))
