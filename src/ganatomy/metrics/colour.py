"""Differences of colours as they are seen."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from skimage.color import deltaE_ciede2000, rgb2lab


def delta_e_2000(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return the mean colour difference ΔE2000 over all pixels.

    About 1 is just noticeable beside each other, and black differs from white by 100. Sharma et al., The CIEDE2000
    color-difference formula, 2005. doi:10.1002/col.20070.

    Args:
        x: sRGB colours, (..., 3) in [0, 1]; others are clipped. The white is that of D65.
        y: colours of the same shape.

    Raises:
        ValueError: the shapes differ, or the last axis does not hold three channels.
    """
    first, second = (np.asarray(colours, np.float64).clip(0, 1) for colours in (x, y))
    if first.shape != second.shape or first.shape[-1:] != (3,):
        raise ValueError(f"colours are (..., 3) of one shape, not {first.shape} and {second.shape}")
    difference: Callable[..., npt.NDArray[np.float64]] = deltaE_ciede2000
    return float(difference(rgb2lab(first), rgb2lab(second)).mean())
