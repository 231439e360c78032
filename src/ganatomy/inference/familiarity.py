"""Whether the intensities of an image are like those of the training images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import QUANTILES, Sample, Task, intensity_quantiles
from ganatomy.images.codecs import ZScore

COMPARED = slice(2, 7)
"""Those of `QUANTILES` that are compared, from 5 to 95 %; extreme ones depend on single bright or dark spots."""
FEWEST = 2
"""Number of compared quantiles that must lie outside: a single one changes with the share of air (our choice)."""
MARGIN = 0.1
"""Share of the scale by which quantiles may exceed those of all training images (our choice)."""
SPREAD = 6.0
"""Standard deviations that count as the width of a z-score's scale."""


def unfamiliar(task: Task, sample: Sample) -> Iterator[str]:
    """Yield a sentence for every image of a sample whose intensities are unlike those of all training images.

    Quantiles of the image, in the range of the networks, are compared with those of the training cases. Where every
    case has a scale of its own, each is mapped to the range by its own, so that the contrast within the image counts
    and its unit does not.

    Args:
        task: task of the trained method, with the numbers that were fitted on the training cases.
        sample: sample to compare.
    """
    for name, array in sample.arrays.items():
        known, role = task.fitted.get(f"quantiles.{name}"), sample.role(name)
        if known is None or role.codec is None or name not in sample.affines:
            continue
        own = np.asarray(role.codec.encode(intensity_quantiles(array)[COMPARED]), np.float64)
        trained = _encoded(task, name, np.asarray(known, np.float64))[:, COMPARED]
        first, last = getattr(role.codec, "to", (0.0, SPREAD if isinstance(role.codec, ZScore) else 1.0))
        slack = MARGIN * (last - first)
        outside = (own < trained.min(axis=0) - slack) | (own > trained.max(axis=0) + slack)
        if outside.sum() >= FEWEST:
            middle = len(own) // 2
            medians = (np.array([own[middle], trained[:, middle].min(), trained[:, middle].max()]) - first) / (
                last - first
            )
            found, low, high = (f"{median:.0%}" for median in medians)
            yield (
                f"{name}: its intensities are unlike those of the images that the model was trained on (median at "
                f"{found} of the scale, there {low} to {high}); the output may be meaningless"
            )


def _encoded(task: Task, name: str, quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Map quantiles of training cases to the range of the networks, (cases, `QUANTILES`)."""
    assert quantiles.shape[1] == len(QUANTILES)
    ends = task.fitted.get(f"scale.{name}")
    if ends is None:
        codec = task.roles[name].codec
        assert codec is not None
        return np.asarray(codec.encode(quantiles), np.float64)
    zero, one = np.asarray(ends, np.float64).T[..., None]
    return np.asarray((quantiles - zero) / (one - zero))
