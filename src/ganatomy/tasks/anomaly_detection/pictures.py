"""Figures for anomaly detection: strips of findings, ROC curves, and histograms of image scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ganatomy.metrics.detection import RocCurve
from ganatomy.metrics.metric import Mask, Window
from ganatomy.reports.style import INK, MARKS, ROLES, SOFT, STYLE, colours, new_figure, show_image, title

PANEL = 1.9
"""Width of an image in inches."""
ABNORMAL = "#c0504d"
MAP = "inferno"


@dataclass(frozen=True)
class Finding:
    """Results of one method on one slice; all (rows, columns).

    Attributes:
        healthy: healthy image.
        map: anomaly map.
        called: mask of pixels at or above the threshold; None without a threshold.
    """

    healthy: npt.NDArray[np.float32]
    map: npt.NDArray[np.float32]
    called: Mask | None


@rc_context(STYLE)
def finding_strip(
    image: npt.NDArray[np.float32],
    truth: Mask | None,
    findings: Mapping[str, Finding],
    *,
    window: Window,
    spacing_mm: tuple[float, float],
) -> Figure:
    """Draw image, healthy image, map, pixels called abnormal, and truth, with a row for each method.

    Args:
        image: input, (rows, columns).
        truth: mask of the abnormal pixels; None where it is not known.
        findings: method to its results.
        window: values shown black and white.
        spacing_mm: mm between rows and between columns.
    """
    tall = image.shape[0] * spacing_mm[0] / (image.shape[1] * spacing_mm[1])
    figure = new_figure(5 * PANEL, len(findings) * (PANEL * tall + 0.2) + 0.1)
    rows = figure.subplots(len(findings), 5, squeeze=False)
    for axes, (name, found) in zip(rows, findings.items(), strict=True):
        show_image(axes[0], image, window, spacing_mm)
        show_image(axes[1], found.healthy, window, spacing_mm)
        show_image(axes[2], found.map, (0, _bright(found.map)), spacing_mm, MAP)
        covers = ((axes[3], found.called, MARKS[0], "no threshold"), (axes[4], truth, MARKS[1], "not known"))
        for place, mask, colour, otherwise in covers:
            show_image(place, image, window, spacing_mm)
            if mask is None:
                place.text(0.5, 0.5, otherwise, transform=place.transAxes, ha="center", color="white")
            else:
                _cover(place, mask, colour, spacing_mm)
        headings = ("Image", f"{title(name)}: healthy", "Map", "Called abnormal", "Truth")
        for place, heading in zip(axes, headings, strict=True):
            place.set_title(heading)
    return figure


def _bright(map: npt.NDArray[np.float32]) -> float:
    """Return the upper end of the colour scale of a map, which few pixels exceed."""
    return float(np.quantile(map, 0.998)) or float(map.max()) or 1.0


def _cover(axes: Axes, mask: Mask, colour: str, spacing_mm: tuple[float, float]) -> None:
    covered = np.where(mask, 1.0, np.nan)
    down, across = spacing_mm
    axes.imshow(covered, cmap=ListedColormap([colour]), alpha=0.65, aspect=down / across, interpolation="nearest")


@rc_context(STYLE)
def roc_plot(parts: Mapping[str, Mapping[str, RocCurve]]) -> Figure:
    """Draw the ROC curves of all methods, side by side for images and pixels.

    Args:
        parts: heading of each plot to its curves by method.
    """
    figure = new_figure(4.6 * len(parts), 4.3)
    for plot, (heading, curves) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True):
        plot.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle="--")
        for name, colour in colours(curves).items():
            curve = curves[name]
            label = f"{title(name)}, area {curve.auc:.3f}"
            plot.plot(curve.false_positive_rate, curve.sensitivity, color=colour, label=label)
        plot.set(xlabel="Healthy ones called abnormal", ylabel="Abnormal ones found", xlim=(-0.01, 1), ylim=(0, 1.01))
        plot.set_title(heading)
        plot.legend(loc="lower right")
    return figure


@rc_context(STYLE)
def score_plot(healthy: Sequence[float], abnormal: Sequence[float], threshold: float | None) -> Figure:
    """Draw histograms of the scores of healthy and of abnormal images, and the threshold.

    Args:
        healthy: scores of healthy images.
        abnormal: scores of abnormal images.
        threshold: calibrated threshold of the scores; None without calibration.
    """
    everything = np.concatenate([healthy, abnormal])
    bins = np.linspace(everything.min(), everything.max() + 1e-9, max(8, min(30, math.isqrt(4 * everything.size))))
    figure = new_figure(6.8, 3.2)
    plot = figure.subplots()
    for values, name, colour in ((healthy, "healthy", ROLES["output"]), (abnormal, "abnormal", ABNORMAL)):
        plot.hist(values, bins=bins.tolist(), color=colour, alpha=0.6, label=f"{len(values)} {name}")
    if threshold is not None:
        plot.axvline(threshold, color=INK, linewidth=1.4, linestyle="--", label="calibrated threshold")
    plot.set(xlabel="Score of the image", ylabel="Images")
    plot.grid(axis="x", visible=False)
    plot.legend()
    return figure
