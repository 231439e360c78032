"""Tests for memorisation of training images: nearest neighbours, correlation, and tests of copying.

Samples are features ``(n, d)``, or images ``(n, channels, rows, columns)``, which are compared pixel by pixel.
Every verdict rests on held-out real images, of patients the generator has not seen: some likeness to the
training images is natural. Include the augmented versions of the training images if it was trained on them.
A sample that passes is not thereby anonymous.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import stats

from ganatomy.metrics.distribution import BLOCK, Indices, as_features, nearest, squared_distances
from ganatomy.metrics.metric import Array, Mask

HELD_OUT_PER_CELL = 20
FAKES_PER_CELL = 20
KMEANS_ROUNDS = 50

Match = Callable[[Array, Array], tuple[Indices, Array]]


@dataclass(frozen=True)
class CorrelationCheck:
    """Fakes that resemble a training image more than held-out real images do.

    Attributes:
        index: index of the most similar training image of every fake.
        correlation: correlation with it, -1 to 1.
        threshold: quantile of the same correlation of held-out images.
        flagged: fakes above the threshold.
        expected: expected fraction of flagged samples among held-out images, 1 % for many of them.
    """

    index: Indices
    correlation: Array
    threshold: float
    flagged: Mask
    expected: float

    @property
    def share(self) -> float:
        """Fraction of the fakes that are flagged."""
        return float(self.flagged.mean())


@dataclass(frozen=True)
class DataCopying:
    """Result of the data-copying test.

    Attributes:
        statistic: C_T, about 0 for held-out samples with an SD of 1 for one cell and less for several; below -3
            means copying, above 3 under-fitting.
        cells: number of cells that counted.
    """

    statistic: float
    cells: int


@dataclass(frozen=True)
class TwoSample:
    """Accuracy of nearest-neighbour classification of real and fake; 0.5 is ideal, below 0.5 means copies.

    Attributes:
        real: fraction of the real samples whose nearest neighbour is real.
        fake: fraction of the fakes whose nearest neighbour is fake; high with a low ``real`` if modes are missing.
    """

    real: float
    fake: float

    @property
    def accuracy(self) -> float:
        """Mean of both fractions."""
        return (self.real + self.fake) / 2


def most_correlated(
    queries: npt.ArrayLike, training: npt.ArrayLike, *, shift: int = 0, flips: tuple[int, ...] = ()
) -> tuple[Indices, Array]:
    """Find the training image with the largest normalised cross-correlation with every query.

    Invariant to brightness and contrast. The correlation of a flat image counts as 0.

    Args:
        queries: images (n, channels, rows, columns).
        training: (m, channels, rows, columns).
        shift: largest displacement tried, in pixels; all images lose a border of that width.
        flips: axes of the images that may be flipped, 2 (rows) and 3 (columns).

    Returns:
        Indices (n,) and correlations (n,), -1 to 1.
    """
    index, negative = _best_view(queries, training, shift, flips, _most_correlated_one)
    return index, -negative


def most_informative(
    queries: npt.ArrayLike, training: npt.ArrayLike, *, flips: tuple[int, ...] = ()
) -> tuple[Indices, Array]:
    """Find the training map that shares the most information with every query.

    Mutual information of two maps is that of the pixels at one place, of which each is inside or outside. As it is 0
    for empty maps and at most the entropy of the query, maps should be compared that cover similar areas.

    Args:
        queries: maps (n, channels, rows, columns); values above 0 are inside.
        training: maps (m, channels, rows, columns).
        flips: axes of the maps that may be flipped, 2 (rows) and 3 (columns).

    Returns:
        Indices (n,) and mutual information in bits per pixel (n,).
    """
    ours, theirs = np.asarray(queries) > 0, np.asarray(training) > 0
    index, negative = _best_view(ours, theirs, 0, flips, _most_informative_one)
    return index, -negative


def correlation_check(
    fake: npt.ArrayLike,
    training: npt.ArrayLike,
    held_out: npt.ArrayLike,
    *,
    quantile: float = 0.99,
    shift: int = 0,
    flips: tuple[int, ...] = (),
) -> CorrelationCheck:
    """Flag fakes whose best correlation with a training image exceeds a quantile of held-out images.

    Args:
        fake: images (n, channels, rows, columns).
        training: images that the generator was trained on.
        held_out: real images of other patients.
        quantile: quantile of the held-out images' correlation that is the threshold.
        shift: as in ``most_correlated``.
        flips: as in ``most_correlated``.
    """
    index, correlation = most_correlated(fake, training, shift=shift, flips=flips)
    _, natural = most_correlated(held_out, training, shift=shift, flips=flips)
    threshold = float(np.quantile(natural, quantile))
    n = len(natural)
    # The quantile has rank 1 + q (n - 1) among the n, and the rank of a further image is uniform among n + 1.
    expected = (n - quantile * (n - 1)) / (n + 1)
    return CorrelationCheck(index, correlation, threshold, correlation > threshold, expected)


def data_copying(
    fake: npt.ArrayLike,
    training: npt.ArrayLike,
    held_out: npt.ArrayLike,
    rng: np.random.Generator,
    cells: int | None = None,
) -> DataCopying:
    """Test whether fakes lie nearer to the training samples than held-out samples do, cell by cell.

    Cells are k-means clusters of the training samples. Each compares the distances to the nearest training sample by a
    Mann-Whitney test; the statistics are averaged with the fractions of held-out samples as weights. Cells with fewer
    than 20 fakes, or without held-out samples, do not count; NaN if none does.

    Source: Meehan et al., AISTATS 2020, arXiv:2004.05675.

    Args:
        fake: features (m, d) or images.
        training: samples that the generator was trained on.
        held_out: other real samples (n, d).
        rng: random generator of the clustering.
        cells: number of cells, one per 20 held-out samples unless given.
    """
    ours, seen, unseen = as_features(fake), as_features(training), as_features(held_out)
    centres = kmeans(seen, cells or max(1, len(unseen) // HELD_OUT_PER_CELL), rng)
    cell_ours, cell_unseen = assign(ours, centres), assign(unseen, centres)
    to_ours, to_unseen = (nearest(x, seen)[1][:, 0] for x in (ours, unseen))
    scores, weights = [], []
    for cell in range(len(centres)):
        q, p = to_ours[cell_ours == cell], to_unseen[cell_unseen == cell]
        if len(q) >= FAKES_PER_CELL and len(p):
            scores.append(_mann_whitney_z(q, p))
            weights.append(len(p))
    return DataCopying(float(np.average(scores, weights=weights)) if scores else math.nan, len(scores))


def nearest_neighbour_test(real: npt.ArrayLike, fake: npt.ArrayLike) -> TwoSample:
    """Classify real and fake samples by leave-one-out nearest neighbours.

    Source: Lopez-Paz and Oquab, ICLR 2017, arXiv:1610.06545.

    Args:
        real: features (n, d) or images.
        fake: as many features or images.

    Raises:
        ValueError: the samples differ in number.
    """
    x, y = as_features(real), as_features(fake)
    if x.shape != y.shape:
        raise ValueError(f"needs as many fake as real samples of the same features, not {x.shape} and {y.shape}")
    index, _ = nearest(pool := np.concatenate([x, y]), pool, leave_out=True)
    neighbour_is_real = index[:, 0] < len(x)
    return TwoSample(float(neighbour_is_real[: len(x)].mean()), float(1 - neighbour_is_real[len(x) :].mean()))


def authenticity(fake: npt.ArrayLike, training: npt.ArrayLike) -> float:
    """Return the fraction of fakes farther from their nearest training sample than that is from its own nearest.

    Near 0 for copies with a little noise. The value of independent samples depends on the dimensions, 0.4 in two, 0.6
    in eight, 0.8 in hundreds: compare with held-out samples in place of the fakes. Alaa et al., ICML 2022,
    arXiv:2102.08921.

    Args:
        fake: features (n, d) or images.
        training: samples that the generator was trained on.
    """
    index, distance = nearest(fake, training)
    _, among_training = nearest(training, training, leave_out=True)
    return float(np.mean(distance[:, 0] > among_training[index[:, 0], 0]))


def kmeans(points: Array, k: int, rng: np.random.Generator, rounds: int = KMEANS_ROUNDS) -> Array:
    """Return the centres (k, d) of clusters of points (n, d), by Lloyd's algorithm from k-means++ seeds.

    Source: Arthur and Vassilvitskii, SODA 2007.

    Args:
        points: (n, d).
        k: number of clusters, at most n.
        rng: draws the seeds.
        rounds: stop after this many even if centres still move.

    Raises:
        ValueError: there are fewer points than clusters.
    """
    if not 1 <= k <= len(points):
        raise ValueError(f"{len(points)} points cannot form {k} clusters")
    centres = _spread_seeds(points, k, rng)
    labels = assign(points, centres)
    for _ in range(rounds):
        membership = np.zeros((k, len(points)))
        membership[labels, np.arange(len(points))] = 1
        sizes = membership.sum(axis=1, keepdims=True)
        centres = np.where(sizes > 0, membership @ points / np.maximum(sizes, 1), centres)
        previous, labels = labels, assign(points, centres)
        if np.array_equal(previous, labels):
            break
    return centres


def assign(points: Array, centres: Array) -> Indices:
    """Return the index of the centre (k, d) nearest to every point (n, d)."""
    return np.concatenate([squared.argmin(axis=1) for _, squared in squared_distances(points, centres)])


def _spread_seeds(points: Array, k: int, rng: np.random.Generator) -> Array:
    """Draw k-means++ seeds: points with a probability proportional to their squared distance from the seeds before."""
    chosen = [int(rng.integers(len(points)))]
    nearest_squared = np.full(len(points), np.inf)
    while len(chosen) < k:
        nearest_squared = np.minimum(nearest_squared, np.sum((points - points[chosen[-1]]) ** 2, axis=1))
        total = nearest_squared.sum()
        chosen.append(int(rng.choice(len(points), p=nearest_squared / total if total else None)))
    return points[chosen]


def _best_view(
    queries: npt.ArrayLike, training: npt.ArrayLike, shift: int, flips: tuple[int, ...], match: Match
) -> tuple[Indices, Array]:
    """Return the best match of every query over all tested positions, and its distance."""
    references, views = _aligned(queries, training, shift, flips)
    index, distance = match(next(views), references)
    for view in views:
        other, farness = match(view, references)
        closer = farness < distance
        index[closer], distance[closer] = other[closer], farness[closer]
    return index, distance


def _aligned(
    queries: npt.ArrayLike, training: npt.ArrayLike, shift: int, flips: tuple[int, ...]
) -> tuple[Array, Iterator[Array]]:
    """Return the training images without their border, and the queries at every tested shift and flip."""
    if not shift and not flips:
        return as_features(training, least=1), iter((as_features(queries, least=1),))
    x, t = np.asarray(queries, dtype=np.float64), np.asarray(training, dtype=np.float64)
    if x.ndim != 4 or x.shape[1:] != t.shape[1:] or min(x.shape[2:]) <= 2 * shift:
        raise ValueError(f"images of {x.shape} and {t.shape} cannot be shifted by {shift} pixels or flipped")
    rows, columns = (length - 2 * shift for length in x.shape[2:])

    def views() -> Iterator[Array]:
        for flipped in (axes for n in range(len(flips) + 1) for axes in combinations(flips, n)):
            mirrored = np.flip(x, flipped)
            for down, across in np.ndindex(2 * shift + 1, 2 * shift + 1):
                yield as_features(mirrored[:, :, down : down + rows, across : across + columns], least=1)

    return as_features(t[:, :, shift : shift + rows, shift : shift + columns], least=1), views()


def _most_correlated_one(queries: Array, references: Array) -> tuple[Indices, Array]:
    """Return the index of the most correlated reference, and the correlation times -1."""
    ours, theirs = _standardised(queries), _standardised(references)
    index, negative = np.empty(len(ours), dtype=np.intp), np.empty(len(ours))
    for start in range(0, len(ours), BLOCK):
        rows = slice(start, start + BLOCK)
        correlation = ours[rows] @ theirs.T
        index[rows] = correlation.argmax(axis=1)
        negative[rows] = -correlation.max(axis=1)
    return index, negative


def _most_informative_one(queries: Array, references: Array) -> tuple[Indices, Array]:
    """Return the index of the reference with the greatest mutual information, and this information times -1."""
    index, negative = np.empty(len(queries), dtype=np.intp), np.empty(len(queries))
    pixels = queries.shape[1]
    theirs = references.mean(axis=1)
    for start in range(0, len(queries), BLOCK):
        rows = slice(start, start + BLOCK)
        both, ours = queries[rows] @ references.T / pixels, queries[rows].mean(axis=1)[:, None]
        found = np.zeros_like(both)
        for share, own, other in (
            (both, ours, theirs),
            (ours - both, ours, 1 - theirs),
            (theirs - both, 1 - ours, theirs),
            (1 - ours - theirs + both, 1 - ours, 1 - theirs),
        ):
            there = share > 0.5 / pixels
            found[there] += share[there] * np.log2((share / np.maximum(own * other, 1e-300))[there])
        index[rows] = found.argmax(axis=1)
        negative[rows] = -found.max(axis=1)
    return index, negative


def _standardised(x: Array) -> Array:
    centred = x - x.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0))


def _mann_whitney_z(q: Array, p: Array) -> float:
    """Return the standardised number of pairs with q above p, ties counting half."""
    m, n = len(q), len(p)
    above = stats.rankdata(np.concatenate([q, p]))[:m].sum() - m * (m + 1) / 2
    return float((above - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12))
