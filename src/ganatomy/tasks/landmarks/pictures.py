"""Figures of landmarks: projections of a volume with true and predicted positions."""

from __future__ import annotations

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ganatomy.case import Array, Sample
from ganatomy.inference.predictor import encoded
from ganatomy.reports.style import MARKS, OTHERS, STYLE, new_figure
from ganatomy.tasks.landmarks.task import Landmarks

HEIGHT = 6.0
"""Height of the figure in inches."""
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
