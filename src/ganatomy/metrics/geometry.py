"""Shape descriptors of vessels given by centre-lines with radii, and distances between two samples of them."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.spatial.distance import cdist

from ganatomy.metrics.metric import Array


@dataclass(frozen=True)
class TubeShape:
    """Shape descriptors of one vessel, invariant to translation and rotation.

    Attributes:
        length_mm: arc length of the centre-line.
        mean_radius_mm: mean radius over arc length.
        max_radius_mm: largest radius.
        tortuosity: arc length over the distance of the ends, 1 for a straight line; infinite for a closed one.
        taper: least-squares slope of radius over arc length in mm per mm, negative where the vessel gets thinner.
        curvature_per_mm: mean over all points with two neighbours of 1 / radius of the circle through the three.
    """

    length_mm: float
    mean_radius_mm: float
    max_radius_mm: float
    tortuosity: float
    taper: float
    curvature_per_mm: float

    @classmethod
    def of(cls, points: npt.ArrayLike, radii: npt.ArrayLike) -> "TubeShape":
        """Measure a vessel; points that repeat the one before do not count.

        Args:
            points: (n, 3) mm along the centre-line.
            radii: (n,) mm.

        Returns:
            Descriptors; NaN where there are too few points: tortuosity and taper need two, curvature three.
        """
        p, r = _polyline(points, radii)
        arc = _arc(p)
        length, chord = float(arc[-1]), float(np.linalg.norm(p[-1] - p[0]))
        several = len(p) > 1
        return cls(
            length_mm=length,
            mean_radius_mm=float(np.trapezoid(r, arc) / length) if several else float(r[0]),
            max_radius_mm=float(r.max()),
            tortuosity=(length / chord if chord else math.inf) if several else math.nan,
            taper=float(np.polynomial.polynomial.polyfit(arc, r, 1)[1]) if several else math.nan,
            curvature_per_mm=float(curvatures(p).mean()) if len(p) > 2 else math.nan,
        )


@dataclass(frozen=True)
class Difference:
    """Distances between two samples of one descriptor.

    Attributes:
        wasserstein: Wasserstein-1 distance in the number's unit.
        kolmogorov_smirnov: largest difference of the cumulative distributions, 0 when equal, 1 when disjoint.
        n: compared members of the first sample.
        m: compared members of the second sample.
    """

    wasserstein: float
    kolmogorov_smirnov: float
    n: int
    m: int


def curvatures(points: npt.ArrayLike) -> Array:
    """Return the curvature in 1/mm at each inner point of a polyline, of the circle through it and its neighbours.

    Args:
        points: (n, 3) mm, none equal to the one before.

    Returns:
        Curvatures (n - 2,); infinite where both neighbours coincide.
    """
    p = np.asarray(points, dtype=np.float64)
    before, after = p[1:-1] - p[:-2], p[2:] - p[1:-1]
    across = np.linalg.norm(np.cross(before, after), axis=1)
    sides = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1) * np.linalg.norm(before + after, axis=1)
    return np.asarray(np.divide(2 * across, sides, out=np.full(len(sides), np.inf), where=sides > 0))


def intersects_itself(points: npt.ArrayLike, radii: npt.ArrayLike) -> bool:
    """Return whether a vessel intersects itself: distant points along it are closer than the sum of their radii.

    Distant is more than π times the mean of the two radii, the arc length of a bend as narrow as the vessel.

    Args:
        points: (n, 3) mm along the centre-line, some per radius.
        radii: (n,) mm.
    """
    p, r = _polyline(points, radii)
    arc = _arc(p)
    together = r[:, None] + r
    apart_along = np.abs(arc[:, None] - arc) > np.pi * together / 2
    return bool((apart_along & (cdist(p, p) < together)).any())


def difference(real: npt.ArrayLike, fake: npt.ArrayLike) -> Difference:
    """Return the Wasserstein-1 and Kolmogorov-Smirnov distances of two samples of numbers.

    Numbers that are not finite are left out, as the counts in the result show.

    Args:
        real: (n,).
        fake: (m,).

    Raises:
        ValueError: a sample has no finite number.
    """
    x, y = (values[np.isfinite(values)] for values in (np.asarray(v, dtype=np.float64).ravel() for v in (real, fake)))
    if not (x.size and y.size):
        raise ValueError("a sample without a finite number cannot be compared")
    # Only the distance is used, so its p value need not be exact.
    kolmogorov_smirnov = stats.ks_2samp(x, y, method="asymp").statistic
    return Difference(float(stats.wasserstein_distance(x, y)), float(kolmogorov_smirnov), x.size, y.size)


def relative_length_errors(lengths_mm: npt.ArrayLike, asked_mm: npt.ArrayLike) -> Array:
    """Return |length - asked| / asked of vessels that were generated for a given length.

    Args:
        lengths_mm: (n,) arc lengths.
        asked_mm: (n,) or one for all, positive.

    Raises:
        ValueError: a length that was asked for is not positive.
    """
    lengths, asked = np.asarray(lengths_mm, dtype=np.float64), np.asarray(asked_mm, dtype=np.float64)
    if not (asked > 0).all():
        raise ValueError("lengths to generate must be positive")
    return np.asarray(np.abs(lengths - asked) / asked)


def _polyline(points: npt.ArrayLike, radii: npt.ArrayLike) -> tuple[Array, Array]:
    """Convert points and radii to double precision, without points that repeat the one before."""
    p, r = np.asarray(points, dtype=np.float64), np.asarray(radii, dtype=np.float64)
    if p.ndim != 2 or p.shape[1] != 3 or r.shape != p.shape[:1] or not len(p):
        raise ValueError(f"a vessel is (n, 3) points and (n,) radii, not {p.shape} and {r.shape}")
    kept = np.append(True, np.any(np.diff(p, axis=0) != 0, axis=1))
    return p[kept], r[kept]


def _arc(points: Array) -> Array:
    return np.append(0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1)))
