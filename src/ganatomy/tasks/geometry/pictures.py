"""Figures of vessels: projections, radius profiles, distributions, nearest training vessels, and latent walks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy.stats import norm

from ganatomy.evaluation.judging import OUTPUT
from ganatomy.metrics.distribution import nearest
from ganatomy.physics.centreline import Centreline
from ganatomy.reports.report import Report
from ganatomy.reports.style import OTHERS, STYLE, colours, new_figure, title
from ganatomy.tasks.geometry.predictor import VesselPredictor
from ganatomy.tasks.geometry.task import NUMBERS, Signals, VesselGeometry
from ganatomy.tasks.synthesis.pictures import slerp

REAL = "real"
SHOWN = 16
"""Number of vessels of each set that are drawn."""
STEPS = 7
"""Number of vessels along a latent walk."""
ASKED_MM = (50.0, 100.0, 150.0, 200.0, 250.0)
"""Lengths in mm for which the paper generates vessels."""
LOWEST = 0.05
"""Quantile of the normal distribution at the lower end of a map of the latent space; the upper end is symmetric."""
PLANES = (("coronal", 0, 2), ("sagittal", 1, 2), ("axial", 0, 1))
"""Projections: their names, and the axes of space across and up."""
AXES = ("to the right", "to the front", "to the head")
WORDS = {
    "length_mm": "Length (mm)",
    "mean_radius_mm": "Mean radius (mm)",
    "max_radius_mm": "Largest radius (mm)",
    "tortuosity": "Tortuosity",
    "taper": "Taper (mm/mm)",
    "curvature_per_mm": "Mean curvature (1/mm)",
}


def illustrate(report: Report, sets: Mapping[str, Signals], predictor: VesselPredictor, known: Signals) -> None:
    """Add all figures of vessels to a report.

    Args:
        report: report to add to.
        sets: name of each entry, among them ``real``, to its vessels (n, 4, samples).
        predictor: predictor of the run that is judged.
        known: training vessels; empty where they are no longer available.
    """
    task: VesselGeometry = predictor.task
    report.figure(
        projections(sets, task),
        f"The first {SHOWN} vessels of each set, not picked, in three projections (mm). All ostia are at the origin; "
        "lines are as wide as the vessels to scale, and colours only tell them apart.",
    )
    report.figure(
        profiles(sets, task),
        "Radius along the same vessels. Real ones get thinner, without steps.",
    )
    report.figure(
        distributions(sets, task),
        "How the numbers of single vessels are distributed: share of vessels below each value. Curves that agree are "
        "necessary for realistic vessels, and not sufficient.",
    )
    own = sets[OUTPUT] if OUTPUT in sets else next(iter(sets.values()))
    if len(known):
        report.figure(
            neighbours(own, known, task),
            "Samples (coloured), and over each the training vessel whose signal is nearest (grey). Pairs that lie on "
            "each other are copies; likeness in course is natural.",
        )
    report.section("Through the latent space")
    report.figure(
        walks(predictor),
        "From one sample (blue) to another (orange), in equal steps on the sphere of latent numbers. Smooth changes "
        "speak for a learned space; jumps between few vessels speak for memorised ones.",
    )
    if predictor.method.latent_size == 2:
        report.figure(
            plane(predictor),
            "The plane of both latent numbers, each from the lower to the upper end of its normal distribution "
            f"({LOWEST:.0%} to {1 - LOWEST:.0%}) in equal shares. Neighbours should be alike, and all places vessels.",
        )
    if predictor.conditional:
        report.figure(
            lengths(predictor),
            "The same latent numbers with the lengths that were asked for, and what came out.",
        )


@rc_context(STYLE)
def projections(sets: Mapping[str, Signals], task: VesselGeometry) -> Figure:
    """Draw vessels of every set in three projections, with a row per set and one scale for all."""
    lines = {name: [task.signals.decode(signal) for signal in signals[:SHOWN]] for name, signals in sets.items()}
    extent = _extent([line for some in lines.values() for line in some])
    figure = new_figure(9.6, 3.1 * len(sets))
    axes = np.atleast_2d(figure.subplots(len(sets), len(PLANES)))
    for (name, some), row in zip(lines.items(), axes, strict=True):
        for (plane, across, up), place in zip(PLANES, row, strict=True):
            draw(place, some, across, up)
            place.set(xlim=extent, ylim=extent, xlabel=AXES[across], ylabel=AXES[up])
            place.set_title(f"{_called(name)}, {plane}")
    return figure


@rc_context(STYLE)
def profiles(sets: Mapping[str, Signals], task: VesselGeometry) -> Figure:
    """Draw radius over arc length for vessels of every set, in one scale."""
    figure = new_figure(min(12.0, 3.6 * len(sets)), 3.0)
    places = np.atleast_1d(figure.subplots(1, len(sets), sharex=True, sharey=True))
    for (name, signals), place in zip(sets.items(), places, strict=True):
        for number, signal in enumerate(signals[:SHOWN]):
            line = task.signals.decode(signal)
            arc = task.signals.step_mm * np.arange(len(line.points))
            place.plot(arc, line.radii, color=OTHERS[number % len(OTHERS)], linewidth=0.9)
        place.set(xlabel="Arc length (mm)", ylim=(0, None))
        place.set_title(_called(name))
    places[0].set_ylabel("Radius (mm)")
    return figure


@rc_context(STYLE)
def distributions(sets: Mapping[str, Signals], task: VesselGeometry) -> Figure:
    """Draw cumulative distributions of the six numbers of `TubeShape`, with a panel for each."""
    found = {name: task.shapes(signals) for name, signals in sets.items()}
    inks = colours({"target" if name == REAL else name: None for name in sets})
    figure = new_figure(9.6, 5.4)
    places = figure.subplots(2, len(NUMBERS) // 2).ravel()
    for number, place in zip(NUMBERS, places, strict=True):
        for name, shapes in found.items():
            values = np.sort(shapes[number][np.isfinite(shapes[number])])
            shares = np.arange(1, len(values) + 1) / max(len(values), 1)
            place.plot(values, shares, color=inks["target" if name == REAL else name], label=_called(name))
        true = found[REAL][number] if REAL in found else next(iter(found.values()))[number]
        true = true[np.isfinite(true)]
        if len(true):
            # A single sample far off would squeeze everything else.
            margin = 0.6 * (true.max() - true.min()) + 1e-9
            place.set_xlim(true.min() - margin, true.max() + margin)
        place.set(xlabel=WORDS[number], ylim=(0, 1))
    places[0].set_ylabel("Share of vessels")
    places[0].legend()
    return figure


@rc_context(STYLE)
def neighbours(made: Signals, known: Signals, task: VesselGeometry) -> Figure:
    """Draw samples over the training vessels with the nearest signals, in the coronal projection."""
    some = made[: SHOWN // 2]
    index = nearest(some.reshape(len(some), -1), known.reshape(len(known), -1))[0][:, 0]
    figure = new_figure(9.6, 5.0)
    places = figure.subplots(2, SHOWN // 4).ravel()
    for number, (signal, place) in enumerate(zip(some, places, strict=False)):
        twin, line = task.signals.decode(known[index[number]]), task.signals.decode(signal)
        draw(place, [twin], 0, 2, ["#b4bac1"])
        draw(place, [line], 0, 2, [OTHERS[number % len(OTHERS)]])
        place.set(xlim=_extent([twin, line]), ylim=_extent([twin, line]))
    return figure


@rc_context(STYLE)
def walks(predictor: VesselPredictor, rows: int = 3) -> Figure:
    """Draw vessels along the way between two samples, with a row for each pair, in the coronal projection."""
    method, task = predictor.method, predictor.task
    figure = new_figure(9.6, 1.9 * rows)
    axes = np.atleast_2d(figure.subplots(rows, STEPS))
    for row, places in enumerate(axes):
        first, last = method.draw([2 * row, 2 * row + 1])
        latents = torch.stack([slerp(first, last, float(t)) for t in np.linspace(0, 1, STEPS)])
        length = np.full(STEPS, predictor.asked([2 * row])[0]) if predictor.conditional else None
        lines = [task.signals.decode(signal) for signal in predictor.from_latents(latents, length)]
        extent = _extent(lines)
        for step, (line, place) in enumerate(zip(lines, places, strict=True)):
            share = step / (STEPS - 1)
            draw(place, [line], 0, 2, [(0.12 + 0.73 * share, 0.44 + 0.07 * share, 0.70 - 0.53 * share)])
            place.set(xlim=extent, ylim=extent, xticks=[], yticks=[])
    return figure


@rc_context(STYLE)
def plane(predictor: VesselPredictor, side: int = 7) -> Figure:
    """Draw vessels over the plane of two latent numbers, in coronal projection; the second increases upwards."""
    task: VesselGeometry = predictor.task
    ends = norm.ppf(np.linspace(LOWEST, 1 - LOWEST, side))
    places = [(first, second) for second in ends[::-1] for first in ends]
    length = np.full(len(places), task.signals.longest_mm / 2) if predictor.conditional else None
    signals = predictor.from_latents(torch.tensor(places, dtype=torch.float32), length)
    lines = [task.signals.decode(signal) for signal in signals]
    extent = _extent(lines)
    figure = new_figure(9.6, 9.6)
    for number, (line, axes) in enumerate(zip(lines, figure.subplots(side, side).ravel(), strict=True)):
        draw(axes, [line], 0, 2, [OTHERS[number % side % len(OTHERS)]])
        axes.set(xlim=extent, ylim=extent, xticks=[], yticks=[])
    return figure


@rc_context(STYLE)
def lengths(predictor: VesselPredictor, rows: int = 3) -> Figure:
    """Draw vessels of different lengths in the coronal projection, with a row for each latent vector."""
    task: VesselGeometry = predictor.task
    asked = [length for length in ASKED_MM if length <= task.signals.longest_mm]
    figure = new_figure(9.6, 2.1 * rows)
    axes = np.atleast_2d(figure.subplots(rows, len(asked)))
    for row, places in enumerate(axes):
        latents = predictor.method.draw([row]).repeat(len(asked), 1)
        lines = [task.signals.decode(signal) for signal in predictor.from_latents(latents, np.array(asked))]
        extent = _extent(lines)
        for length, line, place in zip(asked, lines, places, strict=True):
            draw(place, [line], 0, 2, [OTHERS[row % len(OTHERS)]])
            place.set(xlim=extent, ylim=extent, xticks=[], yticks=[])
            place.set_title(f"{length:.0f} mm: {line.length_mm:.0f}")
    return figure


def draw(axes: Axes, lines: Sequence[Centreline], across: int, up: int, inks: Sequence[Any] | None = None) -> None:
    """Draw vessels in a projection, with lines as wide as the vessels about to scale.

    Args:
        axes: axes to draw into.
        lines: centre-lines in mm.
        across: axis of space from left to right.
        up: axis of space from bottom to top.
        inks: colour of each line; None means those of the style in turn.
    """
    for number, line in enumerate(lines):
        points = line.points[:, [across, up]]
        if len(points) < 2:
            continue
        segments = np.stack([points[:-1], points[1:]], axis=1)
        # About 1.4 points a mm at the usual extents: thick enough to see the taper.
        widths = 1.4 * np.maximum(line.radii[1:], 0.1)
        ink = inks[number] if inks is not None else OTHERS[number % len(OTHERS)]
        axes.add_collection(LineCollection(list(segments), linewidths=widths, colors=[ink]))
    axes.plot(0, 0, marker="o", markersize=2.5, color="#22262b")
    axes.set_aspect("equal")


def _extent(lines: Sequence[Centreline]) -> tuple[float, float]:
    """Return limits for all axes of space, so that all projections have one scale."""
    points = np.concatenate([line.points for line in lines] or [np.zeros((1, 3))])
    return float(points.min()) - 5, float(points.max()) + 5


def _called(name: str) -> str:
    return "Generated" if name == OUTPUT else title(name)
