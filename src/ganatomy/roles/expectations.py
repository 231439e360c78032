"""Properties that a system expects of its images beyond their unit; they are checked where an image shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ganatomy.images.image import Image

EMPTY = 0.2
"""Smallest share of voxels with exactly the lowest value in a volume whose background around the brain was removed."""
CLOSE = 0.15
"""Largest relative difference between the spacing of an image and the expected one."""


@dataclass(frozen=True)
class Expectation:
    """A property that images should have, and that no codec or window can correct.

    Attributes:
        words: the property, in words that follow "should be", such as "brain-extracted".
        problem: function that describes how an image differs from it, and returns None for an image that does not; None
            where this cannot be checked.
    """

    words: str
    problem: Callable[[Image], str | None] | None = None


def _extracted(image: Image) -> str | None:
    """Describe an image in which too few voxels have the lowest value for one without noise, skull and background."""
    middle = image.slab(image.shape[0] // 2, image.shape[0] // 2 + 1)
    share = float(np.mean(middle == middle.min()))
    return None if share >= EMPTY else f"only {share:.0%} of its middle slice is empty"


BRAIN_EXTRACTED = Expectation("brain-extracted", _extracted)
REGISTERED = Expectation("registered to each other")
BIAS_CORRECTED = Expectation("corrected for the bias field")


def spaced(slices: float | None, rows: float, columns: float) -> Expectation:
    """Return the expectation of a spacing in mm between slices (None: any), rows and columns."""
    wanted = (slices, rows, columns)
    words = " x ".join(f"{step:g}" for step in wanted if step is not None)

    def problem(image: Image) -> str | None:
        pairs = zip(image.spacing, wanted, strict=True)
        if all(step is None or abs(own / step - 1) <= CLOSE for own, step in pairs):
            return None
        return "its voxels measure " + " x ".join(f"{own:.3g}" for own in image.spacing) + " mm"

    return Expectation(f"spaced {words} mm", problem)
