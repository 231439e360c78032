"""Illustrations shared by the judges of several kinds of tasks: example cases, captions and strips of images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Sample, grey, slab
from ganatomy.evaluation.judging import BLOCK, INPUT, OUTPUT, RESERVED, TARGET, Entry, Judgement
from ganatomy.images.image import Image
from ganatomy.inference.resolution import is_sized, source_image
from ganatomy.reports.strip import comparison_strip, detail_boxes
from ganatomy.reports.style import title
from ganatomy.reports.viewer import Illustration, Kind, Layer, Panel, Stack, fits, kept_slices

DIFFERENCES = "In differences, red is too bright and blue too dark;"
"""Explanation of the colours in a strip's caption."""

COARSE = 64
"""Largest number of rows and columns of the averaged slices that `most_to_see` compares."""
FEWEST_PIXELS = 16
"""Smallest number of pixels of tissue to which a window is fitted."""
BYTES_EACH = 1.0
"""Approximate size of a pixel in a page in bytes, as measured on noisy CT and MR images."""
SECTIONS = ("CT", "MR", "PT", "NM")
"""Modalities whose images in memory are sections of a patient, with known sides."""

Rank = Literal["Worst", "Median", "Best"]


def examples(
    judgement: Judgement, ranked: Mapping[str, float], order: Sequence[Rank] = ("Median", "Worst", "Best")
) -> dict[str, Sample]:
    """Return the median, worst and best case, each once and by rank; a single case is labelled ``Only``.

    Args:
        judgement: judgement of the cases.
        ranked: name of every case to a number that is higher for better cases.
        order: ranks in the order in which they are shown; a case with two ranks gets the first.
    """
    names = sorted(ranked, key=lambda name: ranked[name])
    cases = {case.case.name: case for case in judgement.cases}
    if len(names) < 2:
        return {"Only": cases[names[0]]} if names else {}
    places = {"Worst": 0, "Median": (len(names) - 1) // 2, "Best": len(names) - 1}
    labels: dict[str, str] = {}
    for label in order:
        labels.setdefault(names[places[label]], label)
    return {label: cases[name] for name, label in labels.items()}


def caption(label: str, case: Sample, judgement: Judgement, by: str, plane: int | None = None) -> str:
    """Return the first sentence of a caption, which names the case, its rank, and the slice where there are several.

    Args:
        label: rank of the case among the `examples`.
        case: case that is shown.
        judgement: judgement of all cases.
        by: name of the score that ranks the cases.
        plane: index of the slice; None means that of `most_to_see`.
    """
    which = "The only case" if label == "Only" else f"{label} of {len(judgement.cases)} cases by {by}"
    if case.shape[0] == 1:
        return f"{which}: {case.case.name}."
    shown = most_to_see(case) if plane is None else plane
    return f"{which}: {case.case.name}, slice {shown + 1} of {case.shape[0]}."


def most_to_see(case: Sample) -> int:
    """Return the index of the slice of a case with the most structure.

    Structure is the sum of the slopes of the first image, averaged over blocks so that noise counts little, between the
    limits that 1 % of its values lie outside of; ties go to the middle slice.
    """
    slices, middle = case.shape[0], case.shape[0] // 2
    images = (name for name in case.affines if name in case.roles and case.roles[name].has_intensities)
    found = [case.arrays[name] for name in images if name in case.arrays]
    array = next((one for one in found if one.shape[1] == slices), case.arrays[case.first])
    coarse = np.stack([_coarse(np.abs(grey(slab(array, plane, plane + 1)))[0]) for plane in range(slices)])
    low, high = np.quantile(coarse, (0.005, 0.995))
    seen = np.clip(coarse, low, high)
    slopes = np.abs(np.diff(seen, axis=1)).sum((1, 2)) + np.abs(np.diff(seen, axis=2)).sum((1, 2))
    best = np.flatnonzero(slopes >= slopes.max() * (1 - 1e-6))
    return int(best[np.abs(best - middle).argmin()])


def _coarse(image: NDArray[Any]) -> NDArray[np.float64]:
    """Average an image over blocks, such that at most `COARSE` rows and columns are left."""
    times = [-(-length // COARSE) for length in image.shape]
    rows, columns = (max(1, length // by) for length, by in zip(image.shape, times, strict=True))
    cut = image[: rows * times[0], : columns * times[1]].astype(np.float64)
    return np.asarray(cut.reshape(rows, times[0], columns, times[1]).mean((1, 3)))


def tissue_window(image: NDArray[Any], window: tuple[float, float]) -> tuple[float, float]:
    """Narrow a window to the values of tissue in an image, so that air and few bright pixels do not fix its ends.

    Tissue is what rises 5 % above the lower end of the window. The upper end becomes the value that 0.5 % of the tissue
    exceed. The lower end rises only if air would take more than half of the new window: to a tenth of the width below
    the value that 0.5 % of the tissue fall below. The new window never exceeds the old one.

    Args:
        image: image whose tissue is to be seen, of any shape.
        window: window that is narrowed; it is returned where no tissue has different values.
    """
    low, high = window
    tissue = image[(image > low + 0.05 * (high - low)) & np.isfinite(image)]
    if tissue.size < FEWEST_PIXELS:
        return window
    dark, bright = (float(end) for end in np.quantile(tissue, (0.005, 0.995)))
    width = bright - dark
    if not width > 0:
        return window
    if dark - low > width:
        low = max(low, round_to(dark - 0.1 * width, width))
    return low, min(high, round_to(bright, width))


def round_to(value: float, width: float) -> float:
    """Round a value to the decimal place of a hundredth of a width."""
    return round(value, 2 - math.floor(math.log10(width)))


@dataclass(frozen=True)
class Grounds:
    """Knowledge about the grid of a case.

    Attributes:
        sized: whether the size of its pixels is known, so that lengths in mm mean something.
        affine: affine of the working grid, (4, 4); None where the patient's sides are unknown.
    """

    sized: bool = False
    affine: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, case: Sample) -> Grounds:
        """Look up what the sources of a case state; nothing is known of sources that cannot be opened any more."""
        image = source_image(case)
        if image is None:
            return cls()
        return cls(is_sized(image), case.affines.get(case.first) if _oriented(image) else None)


def _oriented(image: Image) -> bool:
    header = image.header
    if header.kind == "dicom":
        return header.frame_of_reference is not None and not header.colours
    return header.kind in ("nifti", "itk", "mgh") or (header.kind == "array" and header.modality in SECTIONS)


def strip(
    entries: Sequence[Entry],
    case: Sample,
    judgement: Judgement,
    score: str,
    window: tuple[float, float],
    unit: str = "",
    differences: Sequence[str] = (INPUT, OUTPUT),
    *,
    fitted: bool = True,
) -> Illustration:
    """Show every entry, its difference from the target, and magnified details; in a page that runs scripts, all slices.

    Images of three channels are shown in colour.

    Args:
        entries: entries to show.
        case: case to show.
        judgement: judgement of all cases.
        score: name of a PSNR, which is written below the images.
        window: values that are scored; those that are shown black and white are the ends of its part with tissue.
        unit: unit of the images.
        differences: names of the entries whose differences from the target are shown.
        fitted: whether the window is narrowed to the tissue, see `tissue_window`.
    """
    plane, spacing, grounds = most_to_see(case), case.spacing[1:], Grounds.of(case)
    views = {name: image[0] for name, image in pictures(entries, case, plane, plane + 1, window).items()}
    reference = views.get(TARGET, views[OUTPUT])
    coloured = reference.ndim == 3
    shown = tissue_window(reference, window) if fitted and not coloured else window
    noted = {name: judgement.scores.by_case(name, score).get(case.case.name) for name in views}
    notes = {name: f"PSNR {value:.1f} dB" for name, value in noted.items() if value is not None}
    figure = comparison_strip(
        views,
        window=shown,
        spacing_mm=spacing if grounds.sized else None,
        unit=unit,
        differences=differences,
        zooms=detail_boxes(_grey(reference), (0.0, 1.0) if coloured else shown, spacing, size_mm=_size(case, grounds)),
        notes=notes,
    )

    def stack() -> Stack:
        each, plan = _bytes_each(case, coloured), case.shape[1:]
        lead = {*RESERVED, judgement.reference}
        all_fit = fits(case.shape[0], len(entries) * each, plan)
        several = entries if all_fit else [one for one in entries if one.name in lead]
        kept, times = kept_slices(case.shape[0], plane, len(several) * each, plan)
        found = gathered(several, case, kept, window)
        kind: Kind = "colour" if coloured else "grey"
        panels = [Panel(name, name, note=notes.get(name, "")) for name in found]
        if TARGET in found:
            panels += [Panel(f"{name} − {TARGET}", name, TARGET) for name in differences if name in found]
        return Stack(
            {name: Layer(slices, kind) for name, slices in found.items()},
            panels,
            kept,
            case.shape[0],
            plane,
            shown,
            unit,
            spacing,
            grounds.sized,
            grounds.affine,
            0.25 if coloured else None,
            [title(one.name) for one in entries if one not in several],
            times,
        )

    return Illustration(figure, stack)


def pictures(
    entries: Sequence[Entry], case: Sample, start: int, stop: int, window: tuple[float, float]
) -> dict[str, NDArray[Any]]:
    """Compute some slices with every entry; the target comes last.

    Returns:
        Name of the entry to (slices, rows, columns), or (slices, rows, columns, 3) colours in [0, 1].
    """
    found = {}
    for entry in entries:
        made = entry.run(case, start, stop)
        apart = made.reshape(-1, stop - start, *made.shape[1:])
        found[entry.name] = in_colours(apart, window) if len(apart) == 3 else grey(apart)
    return {name: found[name] for name in sorted(found, key=lambda name: name == TARGET)}


def in_colours(channels: NDArray[Any], window: tuple[float, float]) -> NDArray[np.float32]:
    """Return colours, (3, slices, rows, columns), as (slices, rows, columns, 3), with the window mapped to [0, 1]."""
    low, high = window
    return np.moveaxis(((channels - low) / (high - low)).clip(0, 1).astype(np.float32), 0, -1)


def gathered(
    entries: Sequence[Entry], case: Sample, kept: Sequence[int], window: tuple[float, float]
) -> dict[str, list[NDArray[Any]]]:
    """Compute the kept slices with every entry; neighbours are computed together."""
    found: dict[str, list[NDArray[Any]]] = {}
    for start, stop in runs(kept):
        for name, slices in pictures(entries, case, start, stop, window).items():
            found.setdefault(name, []).extend(slices)
    return found


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Divide increasing numbers into runs of neighbours, `BLOCK` at most; returns the first and one past the last."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number and number - found[-1][0] < BLOCK:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


def _bytes_each(case: Sample, coloured: bool) -> float:
    """Estimate the size in a page of one slice of one image."""
    _, rows, columns = case.shape
    return BYTES_EACH * rows * columns * (3 if coloured else 1)


def _size(case: Sample, grounds: Grounds) -> float:
    """Return the edge of magnified squares in the unit of the spacing: 5 cm, or a quarter if sizes are unknown."""
    return 50.0 if grounds.sized else case.shape[1] * case.spacing[1] / 4


def _grey(image: NDArray[Any]) -> NDArray[Any]:
    return image.mean(axis=-1) if image.ndim == 3 else image
