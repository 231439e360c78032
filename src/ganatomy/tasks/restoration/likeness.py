"""Fidelity and sharpness of an image relative to a true one, shared by several kinds of tasks."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Volume
from ganatomy.metrics.dependence import mutual_information
from ganatomy.metrics.fidelity import mae, psnr, ssim
from ganatomy.metrics.sharpness import gradient_ratio

PSNR, SSIM, MAE = "psnr[window]", "ssim[window]", "mae[window]"
EDGES, BEST = "gradient ratio[window]", "error+sharpness"
INFORMATION = "mutual information"

BLUNT = 0.01
"""Lower limit of the gradient ratio in ``error+sharpness``."""


def information(
    given: NDArray[Any], made: NDArray[Any], given_window: tuple[float, float], made_window: tuple[float, float]
) -> float:
    """Compute the mutual information of two arrays of one shape in bits; NaN where one of them is constant.

    A constant shares nothing with any image, which says nothing about a method that fills images with one.

    Args:
        given: values of the input.
        made: values of the output, at the same places.
        given_window: lowest and highest value that is counted of the input.
        made_window: those of the output.
    """
    if any(np.ptp(values) == 0 for values in (given, made) if values.size):
        return math.nan
    return mutual_information(given, made, given_window, made_window)


def likeness(
    output: Volume, true: Volume, window: tuple[float, float], spacing: tuple[float, float, float]
) -> dict[str, float]:
    """Compute PSNR, SSIM, mean absolute error and gradient ratio of two images clipped to a window.

    ``error+sharpness`` is the mean error, relative to that of a constant image, plus the absolute logarithm of the
    gradient ratio, so that neither a blurred mean image nor invented sharp detail has the best score. It is absent
    where the true image is constant.

    Args:
        output: predicted image, (slices, rows, columns).
        true: true image of the same shape.
        window: lowest and highest value; the width is the data range of PSNR and SSIM.
        spacing: mm between slices, rows and columns.
    """
    ours, theirs = np.clip(output, *window), np.clip(true, *window)
    scores = {
        PSNR: psnr(ours, theirs, window=window),
        SSIM: ssim(ours, theirs, window=window),
        MAE: mae(ours, theirs),
        EDGES: gradient_ratio(ours, theirs, spacing[1:]),
    }
    constant = float(np.abs(theirs - theirs.mean()).mean())
    if constant > 0 and math.isfinite(scores[EDGES]):
        scores[BEST] = scores[MAE] / constant + abs(math.log(max(scores[EDGES], BLUNT)))
    return scores
