"""Illustrations shared by the judges of several kinds of tasks: example cases, captions and strips of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from matplotlib.figure import Figure

from ganatomy.case import Sample
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judgement, middle_slice, side_by_side
from ganatomy.reports.strip import comparison_strip, detail_boxes

DIFFERENCES = "Differences on the right: red is too bright, blue too dark;"
"""Explanation of the colours in a strip's caption."""

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
    """Return the first sentence of a caption, which names the case, its rank and the slice.

    Args:
        label: rank of the case among the `examples`.
        case: case that is shown.
        judgement: judgement of all cases.
        by: name of the score that ranks the cases.
        plane: index of the slice; None means the middle one.
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
    """Draw the middle slice of every entry, its difference from the target, and magnified details.

    Args:
        entries: entries to show.
        case: case to show.
        judgement: judgement of all cases.
        score: name of a PSNR, which is written below the images.
        window: values shown black and white.
        unit: unit of the images.
        differences: names of the entries whose differences from the target are shown.
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
