"""Training curves from a run's ``metrics.csv``."""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import uniform_filter1d

from ganatomy.errors import UserError
from ganatomy.metrics.metric import Array
from ganatomy.reports.measures import GRADIENT_NORM, OF, Kind, Measure
from ganatomy.reports.style import OTHERS, ROLES, SOFT, STYLE, new_figure, title

LOSSES, GRADIENTS = "loss terms", "gradient norms"
COLUMNS = ("round", "images", "stage", "name", "value")
"""Columns of ``metrics.csv``."""


@rc_context(STYLE)
def training_curves(metrics: Path | Mapping[Measure, tuple[Array, Array]]) -> Figure:
    """Plot losses and scores of every player, gradient norms, seconds per round, and validation scores over training.

    Args:
        metrics: path of a ``metrics.csv``, or the result of ``read_metrics``. The losses of a player share a panel, and
            so do its scores; gradient norms share one with a logarithmic scale, and seconds another; each validation
            score and each property of the game has its own.

    Raises:
        UserError: There is no curve to draw.
    """
    curves = read_metrics(metrics) if isinstance(metrics, Path) else dict(metrics)
    panels = _panels(curves)
    if not panels:
        raise UserError(f"{metrics if isinstance(metrics, Path) else 'metrics'}: no curves named player/term yet")
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(max(4.0, 3.9 * columns), 2.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (heading, names) in zip(grid.flat, panels.items(), strict=False):
        for name, colour in zip(names, (ROLES["output"], *OTHERS, SOFT) * len(names), strict=False):
            _curve(axes, *curves[name], colour, label=_label(name))
        axes.set_title(title(heading))
        axes.margins(x=0.015)
        if heading.startswith(GRADIENTS) and all((curves[name][1] > 0).all() for name in names):
            axes.set_yscale("log")
        if len(names) > 1:
            axes.legend(loc="best")
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel("Round", fontsize=9, color=SOFT)
    return figure


def read_metrics(path: Path) -> dict[Measure, tuple[Array, Array]]:
    """Read a run's ``metrics.csv`` into curves, measure to (rounds, values); lines without a finite number are skipped.

    Raises:
        UserError: The file cannot be read or is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            rows, fields = list(reader), list(reader.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if not {"round", "name", "value"} <= set(fields):
        raise UserError(f"{path}: expected a table with the columns {', '.join(COLUMNS)}")
    curves: dict[Measure, list[tuple[float, float]]] = {}
    for row in rows:
        point = _number(row["round"]), _number(row["value"])
        try:
            measure = Measure.parse(row["name"])
        except ValueError:
            continue
        if math.isfinite(point[0]) and math.isfinite(point[1]):
            curves.setdefault(measure, []).append(point)
    return {measure: (np.array(points)[:, 0], np.array(points)[:, 1]) for measure, points in curves.items()}


def _panels(curves: Iterable[Measure]) -> dict[str, list[Measure]]:
    """Group curves by the heading of their panel, those of players first."""
    panels: dict[str, list[Measure]] = {}
    for measure in sorted(curves, key=lambda one: PANELS.index(one.kind)):
        panels.setdefault(_heading(measure), []).append(measure)
    return panels


PANELS: tuple[Kind, ...] = ("loss", "score", "gradient norm", "game", "validation", "seconds")
"""Kinds of curves in the order of their panels."""


def _heading(measure: Measure) -> str:
    match measure.kind:
        case "loss":
            return f"{measure.player}: {LOSSES}"
        case "score":
            return f"{measure.player}: scores"
        case "gradient norm":
            return GRADIENTS
        case "game" if measure.name == GRADIENT_NORM:
            return f"{GRADIENTS} of the game"
        case "seconds" if measure.name != "validation":  # which is no part of a round
            return "seconds per round"
    return f"{measure.kind}: {measure.name}"


def _label(measure: Measure) -> str:
    """Return the label of a curve within its panel."""
    if measure.kind == "seconds":
        return f"{measure.name}{OF}{measure.player}" if measure.player else measure.name
    if measure.kind in ("loss", "score"):
        return measure.name
    return measure.player or measure.name


def _curve(axes: Axes, steps: Array, values: Array, colour: str, label: str) -> None:
    if len(values) < 20:
        axes.plot(steps, values, color=colour, label=label, marker="o", markersize=3.5)
        return
    axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
    axes.plot(steps, uniform_filter1d(values, max(3, len(values) // 30), mode="reflect"), color=colour, label=label)


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan
