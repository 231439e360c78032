"""Measures that clinicians read from a label map, such as the cup-to-disc ratio.

A method declares its measures in `Segmenter.measures`. Predictors write them beside every label map, and the judge
compares those of a prediction with those of the annotation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
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
        each: name of the number of a case, where `over` is given.
        each_unit: unit of that number.
    """

    name: str
    regions: tuple[str, ...]
    of: Callable[[Masks, Triple], float]
    note: str
    unit: str = ""
    digits: int = 3
    over: Callable[[Sequence[float]], float] | None = None
    each: str = ""
    each_unit: str = ""

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


def end_diastole(volumes: Sequence[float]) -> float:
    """Return the largest volume among the frames of one heart; NaN for less than two frames."""
    return max(volumes) if len(volumes) > 1 else math.nan


def end_systole(volumes: Sequence[float]) -> float:
    """Return the smallest volume among the frames of one heart; NaN for less than two frames."""
    return min(volumes) if len(volumes) > 1 else math.nan


def _of_ventricle(name: str, over: Callable[[Sequence[float]], float], note: str, unit: str) -> Measure:
    """Return a measure of the left ventricle from label maps of its frames, two or more for each subject."""
    volume = volume_of("ventricle")
    return Measure(name, ("ventricle",), volume, note, unit, 1, over, "ventricular volume", "ml")


EJECTION_FRACTION = _of_ventricle(
    "ejection fraction",
    ejection_fraction,
    "Largest volume among the frames of a heart less the smallest one, divided by the largest",
    "%",
)
END_DIASTOLIC = _of_ventricle("end-diastolic volume", end_diastole, "Largest volume among the frames of a heart", "ml")
END_SYSTOLIC = _of_ventricle("end-systolic volume", end_systole, "Smallest volume among the frames of a heart", "ml")


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


def _circumference(masks: Masks, spacing: Triple) -> float:
    """Return the circumference in mm of the ellipse with the centre, the area and the moments of a mask, by Ramanujan.

    Of several slices the one with the largest area counts, and of a slice its largest component.
    """
    planes = masks["head"]
    plane = planes[int(planes.sum(axis=(1, 2)).argmax())]
    parts, number = ndimage.label(plane)
    if not number:
        return math.nan
    sizes = np.bincount(parts.reshape(-1))[1:]
    places = np.argwhere(parts == 1 + int(sizes.argmax())) * np.asarray(spacing[1:])
    # A pixel is no point: the square that it covers has moments of its own.
    spread = np.cov(places.T, bias=True) + np.diag(np.square(spacing[1:])) / 12 if len(places) > 1 else np.zeros((2, 2))
    short, long = 2 * np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0))
    if not long:
        return math.nan
    flat = ((long - short) / (long + short)) ** 2
    return float(math.pi * (long + short) * (1 + 3 * flat / (10 + math.sqrt(4 - 3 * flat))))


HEAD_CIRCUMFERENCE = Measure(
    "head circumference",
    ("head",),
    _circumference,
    "Circumference of the ellipse with the moments of the largest component of the head in its largest slice",
    "mm",
    1,
)
"""Head circumference of a fetus in the transventricular plane, from which its age is estimated."""

NAMED: Mapping[str, tuple[Measure, ...]] = {
    "cup-to-disc": (VERTICAL_CUP_TO_DISC, AREA_CUP_TO_DISC),
    "cardiothoracic": (CARDIOTHORACIC,),
    "ejection-fraction": (EJECTION_FRACTION, END_DIASTOLIC, END_SYSTOLIC),
    "head-circumference": (HEAD_CIRCUMFERENCE,),
}
"""Name of an option to the measures that it stands for."""


def named(names: Sequence[str], regions: Sequence[str]) -> tuple[Measure, ...]:
    """Return measures by the names of an option.

    Args:
        names: names in `NAMED`.
        regions: names of the judged regions.

    Raises:
        UserError: there is no such measure, or a region that it needs is not judged.
    """
    for name in names:
        if name not in NAMED:
            raise UserError(f"--measures {name}: no such measure; there are {', '.join(NAMED)}")
        needed = {region: None for one in NAMED[name] for region in one.regions}
        if missing := [region for region in needed if region not in regions]:
            raise UserError(
                f"--measures {name}: is computed from the regions {', '.join(needed)}; there is no {missing[0]} among "
                f"{', '.join(regions)}, see --regions and --judged"
            )
    return tuple(measure for name in names for measure in NAMED[name])
