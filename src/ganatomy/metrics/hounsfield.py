"""Agreement of a synthetic CT with the true one by tissue: bias with limits, calibration, paths of radiation.

Images are in HU, of the same shape, and are compared voxel by voxel. A mask selects the voxels that count.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ganatomy.metrics.metric import Array, Mask
from ganatomy.metrics.statistics import BlandAltman, bland_altman

TISSUES: Mapping[str, tuple[float, float]] = {
    "air": (-math.inf, -200.0),
    "fat": (-200.0, -20.0),
    "soft tissue": (-20.0, 150.0),
    "bone": (150.0, math.inf),
}
"""Class of tissue to the CT numbers of the true image, from the first up to below the second (our choice); lung counts
as air."""


@dataclass(frozen=True)
class TissueError:
    """Error within one class of tissue of one image.

    Attributes:
        agreement: mean difference (output minus truth) of the voxels in HU, their SD and 95 % limits of agreement; NaN
            where the class is empty.
        absolute: mean absolute difference in HU.
        found: share of the voxels that are of this class in the output, too.
    """

    agreement: BlandAltman
    absolute: float
    found: float

    @property
    def bias(self) -> float:
        """Mean difference in HU."""
        return self.agreement.bias

    @property
    def voxels(self) -> int:
        """Number of voxels of this class in the true image."""
        return self.agreement.n


@dataclass(frozen=True)
class Calibration:
    """Line by which CT numbers of an output depend on the true ones: output = slope * truth + intercept."""

    slope: float
    intercept: float


def tissue_errors(
    output: npt.ArrayLike,
    truth: npt.ArrayLike,
    mask: npt.ArrayLike | None = None,
    tissues: Mapping[str, tuple[float, float]] = TISSUES,
) -> dict[str, TissueError]:
    """Return the error of a synthetic CT in each class of tissue, which the true CT decides.

    Limits are those over the voxels of one image; limits over patients are those of `bland_altman` of their biases.

    Args:
        output: synthetic CT.
        truth: true CT.
        mask: voxels that count, such as those of the body; all unless given.
        tissues: name of each class to its lower and upper CT number.

    Raises:
        ValueError: the shapes differ.
    """
    found, true = _voxels(output, truth, mask)
    errors = {}
    for name, (low, high) in tissues.items():
        inside = (true >= low) & (true < high)
        a, b = found[inside], true[inside]
        if a.size:
            agreement, absolute = bland_altman(a, b), float(np.abs(a - b).mean())
            share = float(((a >= low) & (a < high)).mean())
        else:
            agreement, absolute, share = BlandAltman(math.nan, math.nan, math.nan, math.nan, 0), math.nan, math.nan
        errors[name] = TissueError(agreement, absolute, share)
    return errors


def calibration(output: npt.ArrayLike, truth: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> Calibration:
    """Return the line through pairs of CT numbers that is closest to them in both directions (Deming's regression).

    Errors of both images have the same size, so that the line is the one with the least squared distances at right
    angles. A slope below 1 means that contrasts between tissues are too small, one below 0 that they are inverted.

    Source: Deming, Statistical Adjustment of Data, 1943.

    Args:
        output: CT numbers of a synthetic CT, or their means in several regions.
        truth: true CT numbers.
        mask: voxels that count.

    Returns:
        The line; NaN where there are fewer than two voxels, or all are equal.

    Raises:
        ValueError: the shapes differ.
    """
    y, x = _voxels(output, truth, mask)
    if x.size < 2:
        return Calibration(math.nan, math.nan)
    xx, yy, xy = float(np.var(x)), float(np.var(y)), float(np.mean((x - x.mean()) * (y - y.mean())))
    if xx == 0:
        return Calibration(math.nan, math.nan)
    # Without any dependence, a flat line is closest where the truth varies more than the output.
    slope = 0.0 if xy == 0 else (yy - xx + math.hypot(yy - xx, 2 * xy)) / (2 * xy)
    return Calibration(slope, float(y.mean() - slope * x.mean()))


@dataclass(frozen=True)
class PathError:
    """Difference of water-equivalent paths through a synthetic and a true CT, over the rays through the patient.

    Attributes:
        bias: mean difference in mm.
        absolute: mean absolute difference in mm.
        worst: absolute difference in mm that 95 % of rays do not exceed.
        relative: mean absolute difference relative to the true path.
        rays: number of rays.
    """

    bias: float
    absolute: float
    worst: float
    relative: float
    rays: int


def path_error(output: npt.ArrayLike, truth: npt.ArrayLike, least_mm: float = 20.0) -> PathError:
    """Compare water-equivalent paths, as of `ganatomy.physics.ct_numbers.water_equivalent_paths`.

    Args:
        output: paths through the synthetic CT in mm.
        truth: paths of the same rays through the true CT.
        least_mm: true paths that are shorter are left out, as those that miss the patient.

    Returns:
        The differences; NaN where no ray is left.

    Raises:
        ValueError: the shapes differ.
    """
    found, true = _voxels(output, truth, None)
    through = true >= least_mm
    apart = (found - true)[through]
    if not apart.size:
        return PathError(math.nan, math.nan, math.nan, math.nan, 0)
    size = np.abs(apart)
    return PathError(
        float(apart.mean()),
        float(size.mean()),
        float(np.quantile(size, 0.95)),
        float((size / true[through]).mean()),
        int(apart.size),
    )


def _voxels(output: npt.ArrayLike, truth: npt.ArrayLike, mask: npt.ArrayLike | None) -> tuple[Array, Array]:
    found, true = np.asarray(output, np.float64), np.asarray(truth, np.float64)
    inside: Mask = np.ones(true.shape, bool) if mask is None else np.asarray(mask, bool)
    if not found.shape == true.shape == inside.shape:
        raise ValueError(f"images of different shapes cannot be compared: {found.shape}, {true.shape}, {inside.shape}")
    return found[inside], true[inside]
