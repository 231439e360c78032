"""Pictures that judges of several kinds of tasks have in common: which cases are shown, and their strips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from matplotlib.figure import Figure

from ganatomy.case import Sample
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judgement, middle_slice, side_by_side
from ganatomy.reports.strip import comparison_strip, detail_boxes

DIFFERENCES = "Differences on the right: red is too bright, blue too dark;"
"""Part of a strip's caption."""

Rank = Literal["Worst", "Median", "Best"]


def examples(
    judgement: Judgement, ranked: Mapping[str, float], order: Sequence[Rank] = ("Median", "Worst", "Best")
) -> dict[str, Sample]:
    """Median, worst and best case, each once; a single one is called the only one.

    Args:
        judgement: of the cases.
        ranked: name of every case to a number that is higher for better cases.
        order: in which they are shown; where two of them are one case it is called by the first.
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
    """The beginning of a caption: which case is shown, and which slice of it.

    Args:
        label: of the case among the examples.
        case: that is shown.
        judgement: of all cases.
        by: what they are ranked by.
        plane: number of the slice, the middle one unless given.
    """
    which = "The only case" if label == "Only" else f"{label} of {len(judgement.cases)} cases by {by}"
    shown = middle_slice(case) if plane is None else plane
    return f"{which}: {case.case.name}, slice {shown + 1} of {case.shape[0]}."


def strip(
    entries: Sequence[Entry],
    case: Sample,
    judgement: Judgement,
    score: str,
    window: tuple[float, float],
    unit: str = "",
    differences: Sequence[str] = (INPUT, OUTPUT),
) -> Figure:
    """The middle slice as every entry makes it, differences from the target, and details magnified.

    Args:
        entries: whose images are shown.
        case: that is shown.
        judgement: of all cases.
        score: a PSNR, which is noted below the images.
        window: values shown black and white.
        unit: of the images.
        differences: entries whose differences from the target are shown.
    """
    plane, spacing = middle_slice(case), case.spacing[1:]
    views = {name: image[0] for name, image in side_by_side(entries, case, plane, plane + 1).items()}
    noted = {name: judgement.scores.by_case(name, score).get(case.case.name) for name in views}
    return comparison_strip(
        views,
        window=window,
        spacing_mm=spacing,
        unit=unit,
        differences=differences,
        zooms=detail_boxes(views.get(TARGET, views[OUTPUT]), window, spacing),
        notes={name: f"PSNR {value:.1f} dB" for name, value in noted.items() if value is not None},
    )
