"""Agreement of a synthetic PET with the true one: uptake of lesions, lesions detected and false ones.

Images are standardised uptake values by body weight (SUV), of the same shape.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganatomy.metrics.detection import LesionDetection, detect_lesions
from ganatomy.metrics.metric import Array

HOT = 2.5
"""SUV from which on tissue is taken for a tumour, as in much of the literature on FDG."""


@dataclass(frozen=True)
class LesionUptake:
    """Uptake of one lesion in a synthetic and in the true PET.

    Attributes:
        number: number of the lesion in its map.
        voxels: its size.
        mean: SUVmean in the synthetic image and in the true one.
        highest: SUVmax in both.
    """

    number: int
    voxels: int
    mean: tuple[float, float]
    highest: tuple[float, float]

    @property
    def mean_error(self) -> float:
        """SUVmean of the synthetic image minus that of the true one."""
        return self.mean[0] - self.mean[1]

    @property
    def highest_error(self) -> float:
        """SUVmax of the synthetic image minus that of the true one."""
        return self.highest[0] - self.highest[1]


def lesion_uptakes(output: npt.ArrayLike, truth: npt.ArrayLike, lesions: npt.ArrayLike) -> list[LesionUptake]:
    """Return SUVmean and SUVmax of every lesion, in the order of their numbers.

    Args:
        output: synthetic PET.
        truth: true PET.
        lesions: map of the lesions, integers of the same shape, 0 where there is none.

    Raises:
        ValueError: the shapes differ.
    """
    found, true, numbers = _same(output, truth, lesions)
    uptakes = []
    for number in np.unique(numbers[numbers > 0]):
        inside = numbers == number
        pair = found[inside], true[inside]
        uptakes.append(
            LesionUptake(
                int(number),
                int(inside.sum()),
                (float(pair[0].mean()), float(pair[1].mean())),
                (float(pair[0].max()), float(pair[1].max())),
            )
        )
    return uptakes


def detected(
    output: npt.ArrayLike,
    lesions: npt.ArrayLike,
    organ: npt.ArrayLike | None = None,
    *,
    threshold: float = HOT,
    minimum_voxels: int = 1,
) -> LesionDetection:
    """Count the true lesions that connected hot voxels touch, and the hot parts that touch no lesion.

    Args:
        output: synthetic PET.
        lesions: map of the true lesions, 0 where there is none. Lesions that touch each other count as one.
        organ: voxels in which lesions are sought, such as those of the liver; all unless given.
        threshold: SUV above which a voxel is hot.
        minimum_voxels: smaller parts are left out.

    Raises:
        ValueError: the shapes differ.
    """
    found, inside, numbers = _same(output, np.ones(np.shape(output)) if organ is None else organ, lesions)
    return detect_lesions((found > threshold) & (inside > 0), numbers > 0, minimum_voxels=minimum_voxels)


def split_error(
    output: npt.ArrayLike, truth: npt.ArrayLike, mask: npt.ArrayLike | None = None, *, threshold: float = HOT
) -> tuple[float, float]:
    """Return the mean absolute error in SUV where the true PET is at least the threshold, and where it is below.

    The hot voxels are so few that a mean over all of them hides their error. NaN where there is no such voxel.

    Raises:
        ValueError: the shapes differ.
    """
    found, true, inside = _same(output, truth, np.ones(np.shape(truth)) if mask is None else mask)
    error = np.abs(found - true)
    parts = [error[(inside > 0) & side] for side in (true >= threshold, true < threshold)]
    high, low = (float(part.mean()) if part.size else math.nan for part in parts)
    return high, low


def _same(*arrays: npt.ArrayLike) -> Sequence[Array]:
    values = [np.asarray(array, np.float64) for array in arrays]
    if len({array.shape for array in values}) != 1:
        shapes = ", ".join(str(array.shape) for array in values)
        raise ValueError(f"images and maps of different shapes cannot be compared: {shapes}")
    return values
