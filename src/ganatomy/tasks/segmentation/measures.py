"""Measures that clinicians read from a label map, such as the cup-to-disc ratio.

A method declares its measures in `Segmenter.measures`. Predictors write them beside every label map, and the judge
compares those of a prediction with those of the annotation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ganatomy.metrics.metric import Mask

Triple = tuple[float, float, float]
Masks = Mapping[str, Mask]
"""Name of a judged region to its mask, (slices, rows, columns)."""


@dataclass(frozen=True)
class Measure:
    """A number that is computed from the regions of a label map.

    Attributes:
        name: name in tables, such as "vertical cup-to-disc ratio".
        regions: names of the judged regions that it is computed from.
        of: function of the masks of a case on the working grid, and of the spacing in mm of (slices, rows, columns); it
            returns NaN where the number is not defined, as where a region is missing.
        note: definition in a sentence without its full stop, for a footnote.
        unit: unit of the number.
        digits: number of decimals in tables.
        over: function of the numbers of all cases of one subject, such as the time frames of a beating heart, that
            returns the measure of the subject; None where every case has a measure of its own.
    """

    name: str
    regions: tuple[str, ...]
    of: Callable[[Masks, Triple], float]
    note: str
    unit: str = ""
    digits: int = 3
    over: Callable[[Sequence[float]], float] | None = None

    def __call__(self, masks: Masks, spacing: Triple) -> float:
        """Return the number of a case; NaN where it is not defined.

        Args:
            masks: masks of the judged regions, (slices, rows, columns) each.
            spacing: spacing in mm along each axis.
        """
        return float(self.of({name: masks[name] for name in self.regions}, spacing))


def height(mask: Mask) -> int:
    """Return the number of rows from the first to the last that a mask (slices, rows, columns) has in any slice."""
    return _extent(mask, 1)


def breadth(mask: Mask) -> int:
    """Return the number of columns from the first to the last that a mask (slices, rows, columns) has in any slice."""
    return _extent(mask, 2)


def _extent(mask: Mask, axis: int) -> int:
    places = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
    return int(places[-1] - places[0]) + 1 if places.size else 0


def mean_ratio(part: str, whole: str, size: Callable[[Mask], float]) -> Callable[[Masks, Triple], float]:
    """Return a function of masks: the ratio of the sizes of two regions, averaged over the slices with the second one.

    Args:
        part: name of the region above the fraction line.
        whole: name of the region below it; without any of it the ratio is NaN.
        size: size of a mask of one slice, (1, rows, columns).
    """

    def ratio(masks: Masks, spacing: Triple) -> float:
        places = np.flatnonzero(masks[whole].any(axis=(1, 2)))
        each = [size(masks[part][at : at + 1]) / size(masks[whole][at : at + 1]) for at in places]
        return float(np.mean(each)) if each else math.nan

    return ratio


VERTICAL_CUP_TO_DISC = Measure(
    "vertical cup-to-disc ratio",
    ("disc", "cup"),
    mean_ratio("cup", "disc", height),
    "Height of the cup in rows, from the first to the last, divided by that of the disc, which holds the cup",
)
"""Vertical cup-to-disc ratio, which is suspicious of glaucoma from about 0.6 to 0.7."""
AREA_CUP_TO_DISC = Measure(
    "area cup-to-disc ratio",
    ("disc", "cup"),
    mean_ratio("cup", "disc", np.count_nonzero),
    "Area of the cup divided by that of the disc, which holds the cup",
)


def volume_of(region: str) -> Callable[[Masks, Triple], float]:
    """Return a function of masks: the volume of a region in ml."""
    return lambda masks, spacing: float(np.count_nonzero(masks[region])) * math.prod(spacing) / 1000


def ejection_fraction(volumes: Sequence[float]) -> float:
    """Return the share of the largest volume that is missing from the smallest one, in percent.

    Args:
        volumes: volumes of the frames of one heart. The result is NaN for less than two, and if all are 0.
    """
    largest = max(volumes, default=0.0)
    return 100 * (largest - min(volumes)) / largest if len(volumes) > 1 and largest > 0 else math.nan


EJECTION_FRACTION = Measure(
    "ejection fraction",
    ("ventricle",),
    volume_of("ventricle"),
    "Largest volume among the frames of a heart less the smallest one, divided by the largest",
    "%",
    1,
    ejection_fraction,
)
"""Ejection fraction of the left ventricle from label maps of its frames, two or more for each subject."""


def _cardiothoracic(masks: Masks, spacing: Triple) -> float:
    thorax = breadth(masks["left_lung"] | masks["right_lung"])
    return breadth(masks["heart"]) / thorax if thorax else math.nan


CARDIOTHORACIC = Measure(
    "cardiothoracic ratio",
    ("left_lung", "right_lung", "heart"),
    _cardiothoracic,
    "Greatest breadth of the heart divided by that of both lungs together, in columns",
)
"""Cardiothoracic ratio of a frontal chest radiograph, of which more than 0.5 counts as an enlarged heart."""
