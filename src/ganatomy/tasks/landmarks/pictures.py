"""Figures of landmarks: projections of a volume, or frames, with true and predicted positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ganatomy.case import Array, Sample
from ganatomy.images.contours import FEWEST, closed_spline
from ganatomy.inference.predictor import encoded
from ganatomy.reports.style import MARKS, OTHERS, STYLE, new_figure
from ganatomy.tasks.landmarks.task import Landmarks, Outline

HEIGHT = 6.0
"""Height of the figure of a volume in inches."""
EDGE, ACROSS = 3.0, 3
"""Edge of a frame in inches, and the number of frames beside each other."""
VIEWS = (("sagittal", 2, 1), ("coronal", 1, 2))
"""Name of each projection, the axis along which the brightest voxel is taken, and the axis that runs across."""


@rc_context(STYLE)
def projections(task: Landmarks, case: Sample, found: Array, true: Array) -> Figure:
    """Draw both projections of a volume with its landmarks.

    Args:
        task: task of the run.
        case: prepared case.
        found: landmarks found on the working grid, (landmarks, 1, 1, 4).
        true: true landmarks, alike.
    """
    volume = encoded(case, (task.given,))(0, case.shape[0])[0]
    ours, theirs = (np.asarray(points, np.float64).reshape(points.shape[0], -1) for points in (found, true))
    figure = new_figure(HEIGHT, HEIGHT)
    for axes, (view, along, across) in zip(figure.subplots(1, 2), VIEWS, strict=True):
        aspect = case.spacing[0] / case.spacing[across]
        axes.imshow(volume.max(along), cmap="gray", vmin=0, vmax=1, origin="lower", aspect=aspect)
        axes.set_title(view)
        axes.set_axis_off()
        for name, mine, real in zip(task.landmarks.points, ours, theirs, strict=True):
            if real[3] > 0.5:
                axes.plot(real[across], real[0], "o", ms=6, mfc="none", mec=MARKS[1])
            if mine[3] > 0.5:
                axes.plot(mine[across], mine[0], ".", ms=4, color=OTHERS[0])
                axes.annotate(
                    name, (mine[across], mine[0]), (4, 0), textcoords="offset points", fontsize=6, color=MARKS[0]
                )
            if real[3] > 0.5 and mine[3] > 0.5:
                axes.plot([real[across], mine[across]], [real[0], mine[0]], lw=0.8, color=OTHERS[0])
    return figure


@rc_context(STYLE)
def frames(task: Landmarks, drawn: Sequence[tuple[str, Sample, Array]]) -> Figure:
    """Draw frames with their true landmarks and those that were found, and with the outlines of an organ.

    Args:
        task: task of the run.
        drawn: title, prepared case with its true landmarks, and landmarks found on the working grid,
            (landmarks, 1, 1, 4).
    """
    across = min(ACROSS, len(drawn))
    down = -(-len(drawn) // across)
    figure = new_figure(EDGE * across, EDGE * down)
    axes = np.atleast_1d(np.asarray(figure.subplots(down, across), object)).ravel()
    for panel in axes:
        panel.set_axis_off()
    for panel, (title, case, found) in zip(axes, drawn, strict=False):
        image = encoded(case, (task.given,))(0, 1)[0, 0]
        panel.imshow(image, cmap="gray", vmin=0, vmax=1, aspect=case.spacing[1] / case.spacing[2])
        panel.set_title(title, fontsize=7)
        ours, theirs = (
            np.asarray(points, np.float64).reshape(points.shape[0], -1)
            for points in (found, np.asarray(case.arrays[task.landmarks.name]))
        )
        for mine, real in zip(ours, theirs, strict=True):
            if real[3] > 0.5:
                panel.plot(real[2], real[1], "o", ms=6, mfc="none", mec=MARKS[1])
            if mine[3] > 0.5:
                panel.plot(mine[2], mine[1], ".", ms=4, color=OTHERS[0])
            if real[3] > 0.5 and mine[3] > 0.5:
                panel.plot([real[2], mine[2]], [real[1], mine[1]], lw=0.8, color=OTHERS[0])
        if isinstance(task, Outline):
            _outline(panel, theirs, MARKS[1], "--")
            _outline(panel, ours, OTHERS[0], "-")
    return figure


def _outline(panel: Axes, points: NDArray[np.float64], colour: str, style: str) -> None:
    """Draw the closed spline through the landmarks (landmarks, 4) that are there."""
    there = points[points[:, 3] > 0.5, 1:3]
    if len(there) >= FEWEST:
        curve = closed_spline(there)
        rows, columns = np.vstack([curve, curve[:1]]).T
        panel.plot(columns, rows, style, lw=0.9, color=colour)
