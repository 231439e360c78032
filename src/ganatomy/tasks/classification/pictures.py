"""Figures of classification: ROC curves, reliability diagrams, and the images that are classified worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ganatomy.metrics.calibration import Reliability
from ganatomy.metrics.detection import RocCurve
from ganatomy.reports.style import INK, SOFT, STYLE, colours, new_figure, plain, show_image

ACROSS = 4
"""Number of images in a row."""


@dataclass(frozen=True)
class Shown:
    """An image with its class and what was found.

    Attributes:
        image: in the range of the networks, -1 to 1, (channels, rows, columns).
        spacing_mm: mm between rows and between columns.
        title: words above it.
        right: whether its class was found.
    """

    image: NDArray[np.float32]
    spacing_mm: tuple[float, float]
    title: str
    right: bool


@rc_context(STYLE)
def gallery(shown: Sequence[Shown]) -> Figure:
    """Draw images in rows, the first at the top left; titles of wrong ones are in bold."""
    rows = -(-len(shown) // ACROSS)
    figure = new_figure(1.9 * ACROSS, 2.2 * rows)
    for axes in figure.subplots(rows, ACROSS, squeeze=False).flat:
        axes.set_axis_off()
    for axes, one in zip(figure.axes, shown, strict=False):
        colour = len(one.image) == 3
        image = (np.moveaxis(one.image, 0, -1) + 1) / 2 if colour else one.image[0]
        show_image(axes, image, (-1.0, 1.0), one.spacing_mm, magnified=True)
        axes.set_axis_off()
        axes.set_title(plain(one.title), fontsize=7.5, fontweight="normal" if one.right else "bold")
    return figure


@rc_context(STYLE)
def roc_plot(parts: Mapping[str, Mapping[str, RocCurve]]) -> Figure:
    """Plot ROC curves side by side.

    Args:
        parts: title of each plot to the curves in it, by name.
    """
    figure = new_figure(3.8 * len(parts), 3.8)
    for axes, (words, curves) in zip(
        np.ravel(figure.subplots(1, len(parts), squeeze=False)), parts.items(), strict=True
    ):
        axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
        for name, colour in colours(curves).items():
            curve = curves[name]
            axes.plot(
                curve.false_positive_rate, curve.sensitivity, color=colour, label=f"{plain(name)} {curve.auc:.3f}"
            )
        axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=plain(words), aspect="equal")
        axes.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def reliability_plot(found: Mapping[str, Reliability], event: str) -> Figure:
    """Plot observed frequencies over predicted probabilities; areas of points grow with their numbers of cases.

    Args:
        found: name to its reliability.
        event: event whose probability is predicted, in words.
    """
    figure = new_figure(4.4, 4.8)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    for name, colour in colours(found).items():
        one = found[name]
        axes.plot(one.predicted, one.observed, color=colour, linewidth=1.0, label=f"{plain(name)}, ECE {one.error:.3f}")
        axes.scatter(one.predicted, one.observed, 6 + 120 * one.counts / one.counts.sum(), color=colour, alpha=0.6)
    axes.set(xlabel=f"predicted probability of {plain(event)}", ylabel="observed share", aspect="equal")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    figure.legend(loc="outside lower center")
    return figure
