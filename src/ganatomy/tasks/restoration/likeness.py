"""How near an image is to a true one and how sharp beside it, as several kinds of work score it."""

import math

import numpy as np

from ganatomy.case import Volume
from ganatomy.metrics.fidelity import mae, psnr, ssim
from ganatomy.metrics.sharpness import gradient_ratio

PSNR, SSIM, MAE = "psnr[window]", "ssim[window]", "mae[window]"
EDGES, BEST = "gradient ratio[window]", "error+sharpness"
INFORMATION = "mutual information"

BLUNT = 0.01
"""Edges count as at least this strong, relative to the true ones."""


def likeness(
    output: Volume, true: Volume, window: tuple[float, float], spacing: tuple[float, float, float]
) -> dict[str, float]:
    """How near and how sharp an image is, both clipped to the window: PSNR, SSIM, mean error, strength of edges.

    ``error+sharpness`` adds the mean error, relative to that of a constant image, to the logarithm of the edges'
    relative strength: neither a blurred mean image nor sharp inventions win. A flat true image has none.
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
