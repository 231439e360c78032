"""The results of a downstream study of segmenters: numbers, table and report page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ganatomy.data.pseudonyms import Labels
from ganatomy.metrics.statistics import count
from ganatomy.reports.report import Cell, Column, Report
from ganatomy.reports.style import STYLE, new_figure
from ganatomy.studies.augmentation import CLASSIC, ONLY, REAL, SYNTHETIC
from ganatomy.studies.results import Results
from ganatomy.studies.segmentation_gain import LabelledImages, SegmentationGain
from ganatomy.training.arms import unknown_code

SHOWN = 6
"""Number of images in a row of the report."""
CONTROLS = (CLASSIC, REAL, ONLY)
"""Arms that the arm of real and synthetic images is compared with; the first one decides."""


def segmentation_results(
    gain: SegmentationGain,
    structure: str,
    real: LabelledImages,
    examples: LabelledImages,
    labels: Labels,
    facts: dict[str, Any],
) -> Results:
    """Return the results of a study of segmenters.

    Args:
        gain: results of the segmenters.
        structure: name of the label map.
        real: real images.
        examples: synthetic images of one fold.
        labels: pseudonyms of the subjects.
        facts: facts of the study that do not depend on its kind.
    """
    patients = [labels.subjects[name] for name in gain.subjects]
    values = {
        **facts,
        "headline": gain.words,
        "outcome": gain.outcome,
        "alone": gain.alone,
        "structure": structure,
        "images": len(real),
        "synthetic": [made for made, _ in gain.made],
        "patients": patients,
        "arms": {
            name: {
                "dice": asdict(gain.dice(name)),
                "dices": table.mean(axis=1).tolist(),
                "by patient": dict(zip(patients, table.T.tolist(), strict=True)),
            }
            for name, table in gain.arms.items()
        },
        "differences": {name: asdict(gain.difference(SYNTHETIC, name)) for name in CONTROLS},
    }
    return Results(
        "segmenter",
        "Dice",
        {name: gain.dice(name) for name in gain.arms},
        values,
        table_lines(gain),
        lambda page: compose(page, gain, real, examples, values),
    )


def table_lines(gain: SegmentationGain) -> list[list[str]]:
    """Return the lines of table.csv, the first of which names its columns."""
    lines = [["arm", "dice", "low", "high", "patients", "synthetic_gains", "gain_low", "gain_high"]]
    for name in gain.arms:
        told, against = gain.dice(name), gain.difference(SYNTHETIC, name)
        limits = [f"{value:.6g}" for value in (told.mean, told.low, told.high)]
        more = [f"{value:.6g}" for value in (against.mean, against.low, against.high)]
        lines.append([name, *limits, str(told.n), *(more if name != SYNTHETIC else ["", "", ""])])
    return lines


def compose(
    page: Report, gain: SegmentationGain, real: LabelledImages, examples: LabelledImages, facts: dict[str, Any]
) -> Report:
    """Add all sections to the report page of a study of segmenters.

    Args:
        page: empty page.
        gain: results of the segmenters.
        real: real images.
        examples: synthetic images of one fold.
        facts: facts of the study, as in ``results.json``.
    """
    page.headline(gain.words, gain.outcome).text(gain.alone)
    page.section("Pictures")
    for name, images in (("real", real), ("synthetic", examples)):
        page.figure(outlined(images), f"{name.capitalize()} images, and below them with the outline of their mask.")
    page.section("The arms")
    columns = [
        Column("arm"),
        Column("Dice", better="higher", digits=3),
        Column("real + synthetic beats it by", digits=3),
    ]
    rows: list[list[Cell]] = [
        [name, gain.dice(name), None if name == SYNTHETIC else gain.difference(SYNTHETIC, name)] for name in gain.arms
    ]
    page.table(rows, columns, caption="Dice on real images, with 95 % intervals over patients and seeds.")
    study = facts["study"]
    page.measured(
        {
            "Verdict": f"better where the interval of real + synthetic minus {CLASSIC} is above 0, worse where it is "
            "below; undecided with fewer than three seeds",
            "Dice": f"of {facts['structure']}, over all pixels of a patient together; 1 where both are empty",
            "Segmenters": f"a U-Net trained by Dice and cross-entropy, {study['steps']} updates in every arm, "
            f"{count(study['seeds'], 'seed')}; the arms {CLASSIC} and {SYNTHETIC} use classic augmentation",
            "Folds": f"{study['folds']} of the patients; systems and segmenters are trained on the others",
            "Synthetic images": ", ".join(f"{made} beside {own} real ones" for made, own in gain.made),
            "Versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        }
    )
    points = [unknown_code(facts["of_unknown_code"])] if facts["of_unknown_code"] else []
    return page.caveats([*points, "A segmenter of another kind, or with more real images, may gain more or less."])


@rc_context(STYLE)
def outlined(data: LabelledImages) -> Figure:
    """Draw a few images, those with the largest masks among evenly chosen ones, and below them their outlines."""
    parts = np.array_split(np.arange(len(data)), min(SHOWN, len(data)))
    sizes = data.masks.flatten(1).sum(1).numpy()
    shown = [int(part[np.argmax(sizes[part])]) for part in parts]
    figure = new_figure(1.3 * SHOWN, 2.7)
    axes = figure.subplots(2, SHOWN, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for column, place in enumerate(shown):
        image = data.images[place].numpy()
        picture = (np.moveaxis(image[:3], 0, -1) if len(image) >= 3 else image[0]) / 2 + 0.5
        for axis in axes[:, column]:
            axis.imshow(picture.clip(0, 1), cmap="gray", vmin=0, vmax=1)
        if data.masks[place].any():
            axes[1][column].contour(data.masks[place].numpy(), [0.5], colors=["#e4572e"], linewidths=0.9)
    return figure
