"""Statistical dependence of two images of any contrasts: mutual information and correlation."""

import math

import numpy as np
import numpy.typing as npt

from ganatomy.metrics.metric import Array, Window

BINS = 16


class JointHistogram:
    """Joint histogram of two images, accumulated slab by slab.

    Args:
        first: range of the bins of the first image; values beyond count in the outermost bins.
        second: range of the bins of the second image.
        bins: number of bins per image; few, because empty cells bias mutual information upwards.
    """

    def __init__(self, first: Window, second: Window, bins: int = BINS):
        self.windows, self.bins = (first, second), bins
        self.counts = np.zeros((bins, bins))

    def add(self, x: npt.ArrayLike, y: npt.ArrayLike) -> None:
        """Count pairs of corresponding values of two arrays of one shape."""
        i, j = (self._bin(np.asarray(values), window) for values, window in zip((x, y), self.windows, strict=True))
        self.counts += np.bincount(i * self.bins + j, minlength=self.bins**2).reshape(self.bins, self.bins)

    def _bin(self, values: npt.NDArray[np.generic], window: Window) -> npt.NDArray[np.intp]:
        place = (values.ravel().astype(np.float64) - window[0]) / (window[1] - window[0]) * self.bins
        return place.clip(0, self.bins - 1).astype(np.intp)

    @property
    def mutual_information(self) -> float:
        """Mutual information in bits, 0 for independent images; NaN if nothing was counted."""
        total = self.counts.sum()
        if not total:
            return math.nan
        joint = self.counts / total
        apart = np.outer(joint.sum(axis=1), joint.sum(axis=0))
        there = joint > 0
        return max(0.0, float(np.sum(joint[there] * np.log2(joint[there] / apart[there]))))


def mutual_information(
    x: npt.ArrayLike, y: npt.ArrayLike, x_window: Window, y_window: Window, bins: int = BINS
) -> float:
    """Return the mutual information of two arrays of one shape, in bits, from a histogram of equal bins."""
    histogram = JointHistogram(x_window, y_window, bins)
    histogram.add(x, y)
    return histogram.mutual_information


def correlation(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return Pearson's correlation over all values of two arrays of one shape; NaN if one is constant or empty."""
    a, b = (_centred(values) for values in (x, y))
    spread = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / spread if spread > 0 else math.nan


def _centred(values: npt.ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array - array.mean() if array.size else array
