"""Plots for reports: line profiles, noise power spectra, region statistics, scores per patient.

Every function returns a matplotlib ``Figure`` without pyplot or global state. Several images or methods are given as a
mapping from name to content, in the order of their columns; the names ``input``, ``output`` and ``target`` have the
same colours in all figures.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ganatomy.metrics.metric import Window
from ganatomy.metrics.regions import RegionStatistics
from ganatomy.metrics.sharpness import Point, line_profile
from ganatomy.metrics.statistics import bootstrap_mean, significant_digits
from ganatomy.metrics.texture import NoisePowerSpectrum
from ganatomy.reports.style import (
    INK,
    ROLES,
    STYLE,
    colours,
    mark_segment,
    new_figure,
    plain,
    show_image,
    title,
)


@rc_context(STYLE)
def profile_plot(
    images: Mapping[str, npt.ArrayLike],
    start: Point,
    end: Point,
    *,
    window: Window,
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    unit: str = "HU",
    target: str = "target",
    width_mm: float = 0.0,
) -> Figure:
    """Plot the values of all images along a segment, beside an image that shows the segment.

    Args:
        images: name to ``(rows, columns)``.
        start: row and column in voxels of the first point.
        end: row and column in voxels of the last point.
        window: window of the image that shows the segment.
        spacing_mm: distance of rows and of columns.
        unit: unit of the images.
        target: name of the image that is shown; the last one if there is none of this name.
        width_mm: values are averaged across a band this wide.
    """
    figure = new_figure(10, 3.4)
    place, plot = figure.subplots(1, 2, width_ratios=(1, 2.4))
    shown = np.asarray(images.get(target, list(images.values())[-1]))
    show_image(place, shown, window, spacing_mm)
    mark_segment(place, (start, end))
    for name, colour in colours(images).items():
        profile = line_profile(images[name], start, end, spacing_mm, width_mm=width_mm)
        plot.plot(
            profile.distance_mm,
            profile.values,
            color=colour,
            label=title(name),
            linewidth=2.4 if name == target else 1.5,
            alpha=0.55 if name == "input" else 1,
            zorder=1 if name == "input" else 3,
        )
    plot.set(xlabel="Distance along the line (mm)", ylabel=unit)
    plot.margins(x=0)
    _legend_above(plot, len(images))
    return figure


@rc_context(STYLE)
def nps_plot(spectra: Mapping[str, NoisePowerSpectrum], *, nyquist: float | None = None, unit: str = "HU") -> Figure:
    """Plot noise power over spatial frequency.

    Args:
        spectra: name to spectrum.
        nyquist: highest frequency shown, 1/mm; all unless given.
        unit: unit of the images.
    """
    figure = new_figure(6.8, 3.6)
    plot = figure.subplots()
    for name, colour in colours(spectra).items():
        spectrum = spectra[name]
        kept = spectrum.frequencies <= (math.inf if nyquist is None else nyquist)
        plot.plot(
            spectrum.frequencies[kept],
            spectrum.power[kept],
            color=colour,
            label=f"{title(name)}: SD {math.sqrt(spectrum.variance):.1f} {unit}, "
            f"mean {spectrum.mean_frequency:.2f} /mm",
        )
    plot.set(xlabel="Spatial frequency (1/mm)", ylabel=f"Noise power ({unit}² mm²)")
    plot.margins(x=0)
    plot.set_ylim(bottom=0)
    plot.legend(loc="upper right")
    return figure


@rc_context(STYLE)
def region_plot(
    regions: Mapping[str, Sequence[RegionStatistics]], *, target: str = "target", unit: str = "HU"
) -> Figure:
    """Plot errors of region means against the target, and standard deviations with the target's as a line.

    Args:
        regions: name to the statistics of the same regions in the same order.
        target: name of the reference.
        unit: unit of the images.
    """
    wanted = regions[target]
    others = {name: found for name, found in regions.items() if name != target}
    places = np.arange(len(wanted))
    width = 0.8 / len(others)
    figure = new_figure(max(7.0, 2.4 + 0.9 * len(wanted) * max(1, len(others) / 2)), 3.4)
    means, sds = figure.subplots(1, 2)
    for i, (name, colour) in enumerate(colours(others).items()):
        at = places + (i - (len(others) - 1) / 2) * width
        errors = [ours.mean - theirs.mean for ours, theirs in zip(others[name], wanted, strict=True)]
        means.bar(at, errors, width * 0.9, color=colour)
        sds.bar(at, [region.sd for region in others[name]], width * 0.9, color=colour, label=title(name))
    means.axhline(0, color=INK, linewidth=1.4)
    sds.hlines(
        [region.sd for region in wanted],
        places - 0.46,
        places + 0.46,
        color=ROLES["target"],
        linewidth=2,
        label=title(target),
    )
    for axes, heading in (
        (means, f"Error of the mean against the {target} ({unit})"),
        (sds, f"Standard deviation ({unit})"),
    ):
        axes.set_title(heading)
        axes.set_xticks(places, [plain(region.name) for region in wanted])
        axes.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=len(regions))
    return figure


@rc_context(STYLE)
def paired_plot(
    scores: Mapping[str, Mapping[str, float]],
    *,
    metric: str,
    unit: str = "",
    better: str | None = None,
) -> Figure:
    """Plot one line per subject across columns, and each column's mean with its 95 % interval.

    Args:
        scores: column (input, output, a baseline) to subject to score.
        metric: label of the score.
        unit: unit of the score.
        better: ``higher`` or ``lower``.
    """
    names = list(scores)
    figure = new_figure(max(3.6, 1.3 + 1.25 * len(names)), 3.6)
    plot = figure.subplots()
    subjects = dict.fromkeys(subject for column in scores.values() for subject in column)
    for subject in subjects:
        values = [scores[name].get(subject, math.nan) for name in names]
        plot.plot(range(len(names)), values, color="#b9bec5", linewidth=1, zorder=1)
    for i, (name, colour) in enumerate(colours(scores).items()):
        values = list(scores[name].values())
        plot.scatter([i] * len(values), values, s=26, color=colour, edgecolor="white", linewidth=0.8, zorder=3)
        interval = bootstrap_mean(values)
        side = 1 if i else -1
        at = i + 0.2 * side
        if interval.n > 1:
            plot.plot([at, at], [interval.low, interval.high], color=colour, linewidth=2, zorder=2)
        plot.plot(at, interval.mean, marker="D", markersize=6, color=colour, markeredgecolor="white", zorder=4)
        plot.annotate(
            f"{interval.mean:.{significant_digits(interval.high - interval.low)}f}",
            (at, interval.mean),
            xytext=(7 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            color=colour,
            fontweight="bold",
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )
    direction = f", {better} is better" if better else ""
    plot.set_title(plain(f"{metric}{f' ({unit})' if unit else ''}{direction}"))
    plot.set_xticks(range(len(names)), [title(name) for name in names])
    plot.set_xlim(-0.7, len(names) - 0.3)
    plot.grid(axis="x", visible=False)
    return figure


def _legend_above(axes: Axes, entries: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=entries, borderaxespad=0, handlelength=1.6)
