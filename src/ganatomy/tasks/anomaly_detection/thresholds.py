"""Thresholds of healthy values: found at a false-positive rate, refused where values tie, and tried on unseen data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import NotCalibrated
from ganatomy.metrics.detection import threshold_at_false_positive_rate

FOLDS = 5
"""Largest number of parts of the healthy values, each of which is tried with the threshold of the others."""
TRIED = 2**20
"""Largest number of values of a part that is tried, evenly spaced."""
SMALLEST = float(np.finfo(np.float32).tiny)
"""Smallest normal number of 32 bits; values below it are rounding."""


def threshold_of(healthy: NDArray[np.float32], rate: float, what: str, remedy: str) -> float:
    """Return the lowest threshold that at most a share of healthy values reaches.

    Args:
        healthy: values of healthy pixels or images, at least one.
        rate: largest share of them at or above the threshold, 0 to 1.
        what: name of the values, in the plural.
        remedy: what to do where there is no such threshold.

    Raises:
        NotCalibrated: many values are equal just there, or the threshold would be no normal number, so that the share
            that reaches it would be a matter of rounding.
    """
    threshold = threshold_at_false_positive_rate(healthy, rate)
    if not np.isfinite(threshold):
        return threshold
    critical = np.nextafter(threshold, -np.inf).astype(np.float32)
    equal = int(np.count_nonzero(healthy == critical))
    # A single value is no tie; of several, half of what the rate allows may lie above or below.
    if equal > max(1, int(rate * healthy.size) // 2):
        raise NotCalibrated(
            f"{equal / healthy.size:.0%} of {healthy.size} healthy {what} have the same value {critical:g}, so no "
            f"threshold is reached by {rate:.0%} of them; {remedy}"
        )
    if abs(critical) < SMALLEST:
        raise NotCalibrated(
            f"the threshold of healthy {what} would be {threshold:.3g}, which is rounding and no difference; {remedy}"
        )
    return threshold


def share_on_unseen(groups: Sequence[NDArray[Any]], rate: float) -> float | None:
    """Return the share of healthy values that reaches the threshold of other ones, by cross-validation.

    Args:
        groups: healthy values of subjects, or of blocks of slices; a group is never on both sides.
        rate: share that the thresholds allow.

    Returns:
        Share of all values, 0 to 1; None where there are fewer than two groups with values.
    """
    filled = [group[:: 1 + len(group) // TRIED] for group in groups if len(group)]
    if len(filled) < 2:
        return None
    parts = [filled[start::FOLDS] for start in range(min(FOLDS, len(filled)))]
    called, total = 0, 0
    for number, part in enumerate(parts):
        others = [group for other, one in enumerate(parts) if other != number for group in one]
        threshold = threshold_at_false_positive_rate(np.concatenate(others), rate)
        called += sum(int(np.count_nonzero(group >= np.float64(threshold))) for group in part)
        total += sum(len(group) for group in part)
    return called / total
