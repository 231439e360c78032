"""What a system expects of its images beyond their unit: stated on its page, and checked where it can be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ganatomy.images.image import Image

EMPTY = 0.2
"""Share of the voxels of a volume that are exactly the lowest value once everything around the brain is taken away."""
CLOSE = 0.15
"""Relative difference of a spacing that is still taken for the stated one."""


@dataclass(frozen=True)
class Expectation:
    """Something that images should be, which no codec or window can put right.

    Attributes:
        words: what is expected, to follow "should be", such as "brain-extracted".
        problem: says of an image how it differs, None where it does not; None where that cannot be seen.
    """

    words: str
    problem: Callable[[Image], str | None] | None = None


def _extracted(image: Image) -> str | None:
    """Few voxels have the lowest value: there is noise, or a skull, where nothing should be."""
    middle = image.slab(image.shape[0] // 2, image.shape[0] // 2 + 1)
    share = float(np.mean(middle == middle.min()))
    return None if share >= EMPTY else f"only {share:.0%} of its middle slice is empty"


BRAIN_EXTRACTED = Expectation("brain-extracted", _extracted)
REGISTERED = Expectation("registered to each other")
BIAS_CORRECTED = Expectation("corrected for the bias field")


def spaced(slices: float | None, rows: float, columns: float) -> Expectation:
    """A stated spacing in mm between slices (None: any), rows and columns."""
    wanted = (slices, rows, columns)
    words = " x ".join(f"{step:g}" for step in wanted if step is not None)

    def problem(image: Image) -> str | None:
        pairs = zip(image.spacing, wanted, strict=True)
        if all(step is None or abs(own / step - 1) <= CLOSE for own, step in pairs):
            return None
        return "its voxels measure " + " x ".join(f"{own:.3g}" for own in image.spacing) + " mm"

    return Expectation(f"spaced {words} mm", problem)
