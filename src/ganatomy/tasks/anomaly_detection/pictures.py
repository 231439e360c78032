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

from ganatomy.evaluation.illustrations import Grounds
from ganatomy.metrics.detection import RocCurve
from ganatomy.metrics.metric import Mask, Window
from ganatomy.reports.style import (
    INK,
    MARKS,
    ROLES,
    SEQUENTIAL,
    SOFT,
    STYLE,
    colour_bar,
    colours,
    new_figure,
    show_image,
    title,
)
from ganatomy.reports.viewer import Illustration, Layer, Panel, Regions, Stack, bright, kept_slices

PANEL = 1.9
"""Width of an image in inches."""
ABNORMAL = "#c0504d"


@dataclass(frozen=True)
class Finding:
    """Results of one method on a case; all (slices, rows, columns).

    Attributes:
        healthy: healthy image.
        map: anomaly map.
        called: mask of voxels at or above the threshold; None without a threshold.
    """

    healthy: npt.NDArray[np.float32]
    map: npt.NDArray[np.float32]
    called: Mask | None


def finding_strip(
    image: npt.NDArray[np.float32],
    truth: Mask | None,
    findings: Mapping[str, Finding],
    plane: int,
    *,
    window: Window,
    spacing_mm: tuple[float, float],
    grounds: Grounds,
) -> Illustration:
    """Show image, healthy image, map, voxels called abnormal, and truth for each method.

    Args:
        image: input, (slices, rows, columns).
        truth: mask of the abnormal voxels; None where it is not known.
        findings: method to its results.
        plane: index of the slice of the still picture, from which a viewer starts.
        window: values shown black and white.
        spacing_mm: mm between rows and between columns.
        grounds: knowledge about the grid.
    """
    still = _still(image, truth, findings, plane, window, spacing_mm)
    return Illustration(still, lambda: _stack(image, truth, findings, plane, window, spacing_mm, grounds))


@rc_context(STYLE)
def _still(
    image: npt.NDArray[np.float32],
    truth: Mask | None,
    findings: Mapping[str, Finding],
    plane: int,
    window: Window,
    spacing_mm: tuple[float, float],
) -> Figure:
    tall = image.shape[1] * spacing_mm[0] / (image.shape[2] * spacing_mm[1])
    figure = new_figure(5 * PANEL, len(findings) * (PANEL * tall + 0.2) + 0.1)
    rows = figure.subplots(len(findings), 5, squeeze=False)
    for axes, (name, found) in zip(rows, findings.items(), strict=True):
        show_image(axes[0], image[plane], window, spacing_mm)
        show_image(axes[1], found.healthy[plane], window, spacing_mm)
        map = found.map[plane]
        top = bright([map])
        show_image(axes[2], map, (0, top), spacing_mm, SEQUENTIAL)
        colour_bar(axes[2], top)
        covers = ((axes[3], found.called, MARKS[0], "no threshold"), (axes[4], truth, MARKS[1], "not known"))
        for place, mask, colour, otherwise in covers:
            show_image(place, image[plane], window, spacing_mm)
            if mask is None:
                place.text(0.5, 0.5, otherwise, transform=place.transAxes, ha="center", color="white")
            else:
                _cover(place, mask[plane], colour, spacing_mm)
        headings = ("Image", f"{title(name)}: healthy", "Map", "Called abnormal", "Truth")
        for place, heading in zip(axes, headings, strict=True):
            place.set_title(heading)
    return figure


def _stack(
    image: npt.NDArray[np.float32],
    truth: Mask | None,
    findings: Mapping[str, Finding],
    plane: int,
    window: Window,
    spacing_mm: tuple[float, float],
    grounds: Grounds,
) -> Stack:
    slices, rows, columns = image.shape
    kept, times = kept_slices(slices, plane, (1 + 2 * len(findings)) * rows * columns, (rows, columns))
    layers = {"image": Layer([image[number] for number in kept])}
    known = () if truth is None else (("truth", truth, MARKS[1]),)
    panels = [Panel("image", "image", regions=_regions(known, kept), note="" if known else "the truth is not known")]
    for name, found in findings.items():
        layers[f"{name}: healthy"] = Layer([found.healthy[number] for number in kept])
        layers[f"{name}: map"] = Layer([found.map[number] for number in kept], "map")
        called = () if found.called is None else (("called abnormal", found.called, MARKS[0]),)
        panels += [
            Panel(f"{name}: healthy", f"{name}: healthy"),
            Panel(f"{name}: map", f"{name}: map"),
            Panel(
                f"{name}: findings",
                "image",
                map=f"{name}: map",
                regions=_regions((*known, *called), kept),
                note="" if called else "no threshold",
            ),
        ]
    return Stack(
        layers, panels, kept, slices, plane, window, "", spacing_mm, grounds.sized, grounds.affine, times=times
    )


def _regions(masks: Sequence[tuple[str, Mask, str]], kept: Sequence[int]) -> Regions | None:
    if not masks:
        return None
    return Regions(
        {name: [mask[number] for number in kept] for name, mask, _ in masks},
        {name: colour for name, _, colour in masks},
    )


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
