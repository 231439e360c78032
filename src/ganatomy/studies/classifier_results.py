"""The results of a downstream study of classifiers: numbers, table and report page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ganatomy.data.pseudonyms import Labels
from ganatomy.metrics.statistics import Interval, count, crossed_interval
from ganatomy.reports.report import Cell, Column, Report
from ganatomy.reports.style import STYLE, new_figure
from ganatomy.reports.style import plain as literal
from ganatomy.studies.augmentation import CONTROLS, ONLY, REAL, SYNTHETIC, Gain
from ganatomy.studies.results import Results
from ganatomy.tasks.synthesis.sets import ImageSet, planes
from ganatomy.training.arms import unknown_code

SHOWN = 6
"""Number of images of each class in the report."""


def classification_results(
    gain: Gain, real: ImageSet, examples: ImageSet, labels: Labels, facts: dict[str, Any]
) -> Results:
    """Return the results of a study of classifiers.

    Args:
        gain: results of the classifiers.
        real: real images.
        examples: generated images, equally many of each class.
        labels: pseudonyms of the subjects.
        facts: facts of the study that do not depend on its kind.
    """
    patients = [labels.subjects[name] for name in gain.patients]
    values = {
        **facts,
        "headline": gain.words,
        "outcome": gain.outcome,
        "alone": gain.alone,
        "dropped": gain.dropped,
        "classes": gain.classes,
        "images": len(real),
        "patients": patients,
        "amounts": gain.amounts,
        "arms": {
            name: {
                "accuracy": asdict(accuracy(gain, name)),
                "accuracies": arm.accuracies,
                "sensitivities": dict(zip(gain.classes, arm.sensitivities, strict=True)),
                "correct": dict(zip(patients, arm.correct.T.tolist(), strict=True)),
            }
            for name, arm in gain.arms.items()
        },
        "mcnemar": {name: asdict(test) for name, test in gain.tests.items()},
    }
    return Results(
        "classifier",
        "right",
        {name: accuracy(gain, name) for name in gain.arms},
        values,
        table_lines(gain),
        lambda page: compose(page, gain, real, examples, values),
    )


def accuracy(gain: Gain, name: str) -> Interval:
    """Return an arm's share of correctly classified patients, with its interval over patients and seeds."""
    return crossed_interval(gain.arms[name].correct.astype(np.float64))


def difference(gain: Gain, name: str) -> Interval:
    """Return the difference in accuracy of `SYNTHETIC` minus another arm, with its interval."""
    both = [gain.arms[one].correct.astype(np.float64) for one in (SYNTHETIC, name)]
    return crossed_interval(both[0] - both[1])


def table_lines(gain: Gain) -> list[list[str]]:
    """Return the lines of table.csv, the first of which names its columns."""
    columns = ("arm", "accuracy", "low", "high", "patients", "synthetic_gains", "gain_low", "gain_high", "mcnemar_p")
    lines = [list(columns)]
    for name in gain.arms:
        told, against = accuracy(gain, name), difference(gain, name)
        limits = [f"{value:.6g}" for value in (told.mean, told.low, told.high)]
        more = [f"{value:.6g}" for value in (against.mean, against.low, against.high)]
        p = f"{gain.tests[name].exact_p:.3g}" if name in gain.tests else ""
        lines.append([name, *limits, str(told.n), *(more if name != SYNTHETIC else ["", "", ""]), p])
    return lines


def compose(page: Report, gain: Gain, real: ImageSet, examples: ImageSet, facts: dict[str, Any]) -> Report:
    """Add all sections to the report page of a downstream study.

    Args:
        page: empty page.
        gain: results of the classifiers.
        real: real images.
        examples: generated images, equally many of each class.
        facts: facts of the study, as in ``results.json``.
    """
    page.headline(gain.words, gain.outcome).text(gain.alone)
    page.section("Pictures")
    for name, images in (("real", real), ("generated", examples)):
        page.figure(class_strip(images, gain.classes), f"{name.capitalize()} images, a row for each class.")
    page.section("The arms")
    columns = [
        Column("arm"),
        Column("right", better="higher", digits=3),
        Column("real + synthetic beats it by", digits=3),
        Column("McNemar p"),
        *[Column(f"sensitivity for {name}", digits=2) for name in gain.classes],
    ]
    rows: list[list[Cell]] = [
        [
            name,
            accuracy(gain, name),
            None if name == SYNTHETIC else difference(gain, name),
            f"{gain.tests[name].exact_p:.2g}" if name in gain.tests else None,
            *arm.sensitivities,
        ]
        for name, arm in gain.arms.items()
    ]
    page.table(
        rows, columns, caption="Share of correctly classified patients, with 95 % intervals over patients and seeds."
    )
    study = facts["study"]
    page.measured(
        {
            "Verdict": f"better where exact McNemar tests on the same patients are significant against each of "
            f"{', '.join(CONTROLS)}, worse where one of these is better",
            "Classifiers": f"{study['steps']} updates in every arm, {count(study['seeds'], 'seed')}; all arms but "
            f"{REAL} and {ONLY} use classic augmentation",
            "Folds": f"{study['folds']} of the patients; systems and classifiers are trained on the others",
            "Synthetic images per real one": ", ".join(f"{amount:g}" for amount in gain.amounts)
            + ", chosen in each fold on patients that are neither trained on nor tested on",
            "Versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        }
    )
    points = [unknown_code(facts["of_unknown_code"])] if facts["of_unknown_code"] else []
    return page.caveats([*points, "A classifier of another kind, or with more real images, may gain more or less."])


@rc_context(STYLE)
def class_strip(images: ImageSet, classes: Sequence[str]) -> Figure:
    """Draw a few images of every class, a row for each class.

    Args:
        images: images with labels.
        classes: names of the labels.
    """
    assert images.labels is not None
    figure = new_figure(1.1 * SHOWN, 1.15 * len(classes))
    axes = figure.subplots(len(classes), SHOWN, squeeze=False)
    for row, name in enumerate(classes):
        own = np.flatnonzero(images.labels.numpy() == row)
        shown = own[np.linspace(0, len(own) - 1, min(SHOWN, len(own))).astype(int)] if len(own) else own
        for column, axis in enumerate(axes[row]):
            axis.axis("off")
            if column < len(shown):
                picture = planes(images.images[[int(shown[column])]])[0]
                colours = np.moveaxis(picture, 0, -1) if len(picture) == 3 else picture[0]
                axis.imshow((colours + 1) / 2, cmap="gray", vmin=0, vmax=1)
        axes[row][0].set_title(literal(name))
    return figure
