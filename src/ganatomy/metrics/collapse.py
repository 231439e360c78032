"""Detection of mode collapse: missed bins, repeated images, lack of variety.

Samples are features ``(n, d)``, or images ``(n, channels, rows, columns)``, which are compared pixel by pixel.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ganatomy.metrics.distribution import (
    Indices,
    as_features,
    jensen_shannon_divergence,
    nearest,
    squared_distances,
)
from ganatomy.metrics.memorisation import assign, kmeans
from ganatomy.metrics.metric import Array, Mask

MANY_DIMENSIONS = 1000
CLUSTERED_SHARE = 1 / 6
TWIN_PERCENTILE = 1.0
ROUNDING = 1e-13  # of squared distances, relative to the largest
AT_MOST = 2000  # largest number of samples tested for collapse, since memory grows with its square


@dataclass(frozen=True)
class BinComparison:
    """Fractions of two samples in the bins of a clustering.

    Attributes:
        real: fraction of the real samples per bin.
        fake: fraction of the fakes per bin.
        different: bins whose shares differ significantly.
        divergence: Jensen-Shannon divergence of the shares, 0 to 1 bit.
    """

    real: Array
    fake: Array
    different: Mask
    divergence: float

    @property
    def share(self) -> float:
        """NDB/K, the fraction of bins that differ; for equal distributions the level of the test (0.05) is expected."""
        return float(self.different.mean())

    @property
    def missed(self) -> Indices:
        """Bins that differ and hold no fake."""
        return np.flatnonzero(self.different & (self.fake == 0))


@dataclass(frozen=True)
class Collapse:
    """Verdict on mode collapse, and its reasons.

    Attributes:
        spread: mean distance between fakes over that between real samples.
        neighbour_distance: median distance of fakes from their nearest fake, over that of real samples.
        twins: fraction of fakes whose nearest fake is closer than the 1 % quantile among real samples.
        reasons: sentences; empty if nothing indicates a collapse.
    """

    spread: float
    neighbour_distance: float
    twins: float
    reasons: tuple[str, ...]

    @property
    def collapsed(self) -> bool:
        """Whether the generator has collapsed, i.e. there is a reason."""
        return bool(self.reasons)

    def __bool__(self) -> bool:
        return self.collapsed


def compare_bins(
    training: npt.ArrayLike,
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    rng: np.random.Generator,
    bins: int = 100,
    level: float = 0.05,
) -> BinComparison:
    """Compare two samples by the number of statistically different k-means bins of the training samples.

    Shares are compared by a pooled two-proportion z test. Bins need about a hundred training samples each; take 10 to
    20 bins for small samples. Beyond 1000 dimensions a random sixth of them forms the clusters.

    Source: Richardson and Weiss, NeurIPS 2018, arXiv:1805.12462.

    Args:
        training: samples (t, d) that form the bins.
        real: held-out samples (n, d), or the training samples again.
        fake: samples (m, d).
        rng: random generator of the clustering.
        bins: number of bins.
        level: significance level of the test in each bin.
    """
    t, x, y = as_features(training), as_features(real), as_features(fake)
    centres = _bin_centres(t, bins, rng)
    counts_x, counts_y = (np.bincount(assign(sample, centres), minlength=len(centres)) for sample in (x, y))
    p, q = counts_x / len(x), counts_y / len(y)
    pooled = (counts_x + counts_y) / (len(x) + len(y))
    error = np.sqrt(pooled * (1 - pooled) * (1 / len(x) + 1 / len(y)))
    z = np.divide(p - q, error, out=np.zeros(len(centres)), where=error > 0)
    different = 2 * stats.norm.sf(np.abs(z)) < level
    return BinComparison(p, q, different, jensen_shannon_divergence(counts_x, counts_y))


def mean_pairwise_distance(samples: npt.ArrayLike) -> float:
    """Return the mean Euclidean distance of all pairs of different samples (n, d)."""
    x = as_features(samples)
    total = 0.0
    for rows, squared in squared_distances(x, x):
        squared[np.arange(len(squared)), np.arange(rows.start, rows.stop)] = 0
        total += float(np.sqrt(squared).sum())
    return total / (len(x) * (len(x) - 1))


def spread_ratio(real: npt.ArrayLike, fake: npt.ArrayLike) -> float:
    """Return the mean pairwise distance of fakes over that of real samples; NaN if all real samples are equal."""
    reference = mean_pairwise_distance(real)
    return mean_pairwise_distance(fake) / reference if reference else math.nan


def collapsed(
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    smallest_spread: float = 0.3,
    smallest_neighbour_distance: float = 0.5,
    most_twins: float = 0.25,
) -> Collapse:
    """Test whether a generator has collapsed, and state the reasons.

    It has collapsed if its samples hardly differ, or if many of them repeat others. Varied but wrong samples are no
    collapse. Meant for 100 samples or more of each; at most 2000 are used.

    Args:
        real: samples (n, d).
        fake: samples (m, d).
        rng: thins the larger sample to the size of the smaller, since more samples lie nearer to each other.
        smallest_spread: lowest ratio of the mean distances of pairs.
        smallest_neighbour_distance: lowest ratio of the median distances to the nearest.
        most_twins: highest share of the fakes that have a twin; 0.01 is expected.
    """
    x, y = as_features(real), as_features(fake)
    size = min(len(x), len(y), AT_MOST)
    x, y = rng.permutation(x)[:size], rng.permutation(y)[:size]
    real_nearest, fake_nearest = _to_nearest(x), _to_nearest(y)
    spread = spread_ratio(x, y)
    median = float(np.median(real_nearest))
    closeness = float(np.median(fake_nearest)) / median if median else math.nan
    twins = float(np.mean(fake_nearest < np.percentile(real_nearest, TWIN_PERCENTILE)))
    findings = (
        (spread < smallest_spread, f"fakes lie {spread:.2f} times as far apart as real samples"),
        (
            closeness < smallest_neighbour_distance,
            f"the nearest other fake is {closeness:.2f} times as far as among real",
        ),
        (twins > most_twins, f"{twins:.0%} of the fakes have a twin, 1% of the real samples"),
    )
    return Collapse(spread, closeness, twins, tuple(words for found, words in findings if found))


def _bin_centres(training: Array, bins: int, rng: np.random.Generator) -> Array:
    dimensions = training.shape[1]
    if dimensions <= MANY_DIMENSIONS:
        return kmeans(training, bins, rng)
    some = training[:, rng.permutation(dimensions)[: int(dimensions * CLUSTERED_SHARE)]]
    labels = assign(some, kmeans(some, bins, rng))
    return np.stack([training[labels == b].mean(axis=0) for b in np.unique(labels)])


def _to_nearest(x: Array) -> Array:
    return nearest(x, x, leave_out=True)[1][:, 0]
