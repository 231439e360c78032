"""Training curves from a run's ``metrics.csv``."""

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import uniform_filter1d

from ganatomy.errors import UserError
from ganatomy.metrics.metric import Array
from ganatomy.reports.style import OTHERS, ROLES, SOFT, STYLE, new_figure, title

STEPS = ("round", "step", "iteration", "epoch")
LOSSES, GRADIENTS, GAIN = "loss terms", "gradient norms", "gain alone"
ALONE = ("validation", "valid", "val", "game")
GRADIENT_NORM = re.compile(r"^grad(ient)?s?\b|grad(ient)?[ _]norm")


@rc_context(STYLE)
def training_curves(metrics: Path | Mapping[str, tuple[Array, Array]]) -> Figure:
    """Losses and scores player by player, gradient norms, and validation over training.

    Args:
        metrics: a ``metrics.csv``, or what ``read_metrics`` made of one. Names are ``player/term``; the
            losses of a player share a panel, and so do its scores, ``player/score of real``; gradient norms,
            ``player/gradient norm``, share one with a logarithmic scale; each ``validation/…`` and ``game/…``
            has its own.

    Raises:
        UserError: there is no curve to draw.
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
            _curve(axes, *curves[name], colour, label=_label(name, heading))
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


def read_metrics(path: Path) -> dict[str, tuple[Array, Array]]:
    """Read a run's ``metrics.csv`` into curves, name to (steps, values).

    Two shapes are understood: long, with columns ``name`` and ``value``, and wide, with a column per curve
    and empty cells where nothing was measured. Steps are in the column ``round``, ``step``, ``iteration``
    or ``epoch``.

    Raises:
        UserError: the file cannot be read so.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restval="")
            rows, fields = list(reader), list(reader.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    step = next((name for name in STEPS if name in fields), None)
    if step is None:
        raise UserError(f"{path}: expected a header with one of the columns {', '.join(STEPS)}, and rows below it")
    long = {"name", "value"} <= set(fields)
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        cells = {row["name"]: row["value"]} if long else {k: row[k] for k in fields if k not in STEPS}
        for name, value in cells.items():
            point = _number(row[step]), _number(value)
            if math.isfinite(point[0]) and math.isfinite(point[1]):
                curves.setdefault(name, []).append(point)
    return {name: (np.array(points)[:, 0], np.array(points)[:, 1]) for name, points in curves.items()}


def _panels(curves: Mapping[str, object]) -> dict[str, list[str]]:
    players: dict[str, list[str]] = {}
    gradients: dict[str, list[str]] = {}
    alone: dict[str, list[str]] = {}
    for name in curves:
        group, _, term = name.partition("/")
        if GRADIENT_NORM.search(name):
            heading = f"{GRADIENTS} of the game" if group == "game" else GRADIENTS
            gradients.setdefault(heading, []).append(name)
        elif term.startswith(GAIN):
            alone.setdefault(f"{group}: {GAIN}", []).append(name)
        elif group in ALONE:
            alone.setdefault(f"{group}: {term}", []).append(name)
        elif term:
            kind = "scores" if term.startswith("score of ") else LOSSES
            players.setdefault(f"{group}: {kind}", []).append(name)
    return players | gradients | alone


def _label(name: str, heading: str) -> str:
    group, _, term = name.partition("/")
    if heading.endswith(LOSSES):
        return term
    _, of, whose = term.partition(" of ")
    if of:
        return whose
    return group if heading == GRADIENTS and "grad" in term else term


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
