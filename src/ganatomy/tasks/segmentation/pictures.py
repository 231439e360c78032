"""Figures for segmentation: outlines of truth and prediction over images, and predicted against true volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ganatomy.evaluation.illustrations import Grounds
from ganatomy.evaluation.judging import OUTPUT
from ganatomy.metrics.metric import Mask, Window
from ganatomy.metrics.regions import Box
from ganatomy.reports.style import INK, MARKS, OTHERS, SOFT, STYLE, colours, new_figure, show_image, title
from ganatomy.reports.viewer import Kept, Layer, Panel, Regions, Stack

PANEL = 2.6
"""Width of an image in inches."""
AROUND = 0.15
"""Margin of the magnified part as a share of the extent of the regions."""
BORDER = 2
"""Smallest margin in pixels."""
SMALLEST = 24
"""Smallest number of rows and columns of the magnified part."""
THIN, THICKER = 1.1, 0.9
"""Width of the last region's outline in points, and the increment for each region before it, so that all are visible.
"""
HUES = (*MARKS, *OTHERS)


def box_around(mask: Mask, around: float = 0.0, least: int = 0) -> Box:
    """Return the bounding box of a mask with a margin; the whole image where the mask is empty.

    Args:
        mask: mask (rows, columns), true inside.
        around: margin as a share of the extent of the mask.
        least: smallest number of rows and columns.
    """
    sides = []
    for axis, extent in enumerate(mask.shape):
        hits = np.flatnonzero(mask.any(axis=1 - axis))
        if not hits.size:
            return Box(0, 0, *mask.shape)
        first, last = int(hits[0]), int(hits[-1]) + 1
        margin = max(BORDER, round(around * (last - first)))
        length = min(max(last - first + 2 * margin, least), extent)
        start = min(max((first + last - length) // 2, 0), extent - length)
        sides.append((start, length))
    (row, rows), (column, columns) = sides
    return Box(row, column, rows, columns)


@rc_context(STYLE)
def outline_strip(
    images: Mapping[str, npt.NDArray[np.float32]],
    truth: Mapping[str, Mask],
    found: Mapping[str, Mapping[str, Mask]],
    *,
    spacing_mm: tuple[float, float],
    notes: Mapping[str, str] | None = None,
    magnified: str = OUTPUT,
) -> Figure:
    """Draw inputs, and outlines of each method's regions over the first input; below, the regions are magnified.

    Lines are predictions, in a colour for each region; in the magnified row, black lines on white are the truth.

    Args:
        images: input to image, (rows, columns).
        truth: region to true mask, (rows, columns).
        found: method to region to predicted mask.
        spacing_mm: mm between rows and between columns.
        notes: method to a line below its name, such as a score.
        magnified: method whose regions, with the true ones, decide which part is magnified.
    """
    first = next(iter(images.values()))
    everywhere = np.any([*truth.values(), *found.get(magnified, {}).values()], axis=0)
    body = box_around(first > first.min())
    boxes = (body, box_around(everywhere, AROUND, SMALLEST)) if everywhere.any() else (body,)
    windows = {name: _window(image) for name, image in images.items()}
    tall = sum(box.rows * spacing_mm[0] / (box.columns * spacing_mm[1]) for box in boxes)
    count = len(images) + 1 + len(found)
    width = min(PANEL, 13.5 / count)
    figure = new_figure(count * width, width * tall + 0.3 * len(boxes) + 0.3)
    hues = dict(zip(truth, HUES * len(truth), strict=False))
    for row, box in zip(figure.subplots(len(boxes), count, squeeze=False), boxes, strict=True):
        close = box is not body
        for axes, (name, image) in zip(row, images.items(), strict=False):
            show_image(axes, image[box.slices], windows[name], spacing_mm, magnified=close)
            if not close:
                axes.set_title(title(name))
        methods = {"truth": truth, **found}
        for axes, (name, masks) in zip(row[len(images) :], methods.items(), strict=True):
            show_image(axes, first[box.slices], next(iter(windows.values())), spacing_mm, magnified=close)
            for place, (region, mask) in enumerate(masks.items()):
                if name != "truth" and close:
                    _outline(axes, truth[region][box.slices], "white", 2.2)
                    _outline(axes, truth[region][box.slices], INK, 0.9)
                _outline(axes, mask[box.slices], hues[region], THIN + THICKER * (len(masks) - 1 - place))
            if not close:
                axes.set_title("\n".join(filter(None, (title(name), (notes or {}).get(name)))))
    handles = [Line2D([], [], color=hue, label=region) for region, hue in hues.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def outline_stack(
    images: Mapping[str, Sequence[npt.NDArray[np.float32]]],
    truth: Mapping[str, Sequence[Mask]],
    found: Mapping[str, Mapping[str, Sequence[Mask]]],
    kept: Kept,
    total: int,
    first: int,
    *,
    spacing_mm: tuple[float, float],
    grounds: Grounds,
    notes: Mapping[str, str] | None = None,
) -> Stack:
    """Return a stack for a viewer: inputs, and outlines of each method's regions over the first input.

    Inputs have scales of their own and are brought to the window of the first one, so that one window fits all.

    Args:
        images: input to its kept slices, (rows, columns) each.
        truth: region to true masks of these slices.
        found: method to region to predicted masks of these slices.
        kept: kept slices of the whole stack.
        total: number of slices of the whole stack.
        first: index of the slice that is shown first.
        spacing_mm: mm between rows and between columns.
        grounds: knowledge about the grid.
        notes: method to a line below it, such as a score.
    """
    hues = dict(zip(truth, HUES * len(truth), strict=False))
    windows = {name: _window(np.stack(slices)) for name, slices in images.items()}
    lead = next(iter(images))
    low, high = windows[lead]
    layers = {}
    for name, slices in images.items():
        dark, bright = windows[name]
        layers[name] = Layer([low + (one - dark) * (high - low) / (bright - dark) for one in slices])
    panels = [Panel(name, name) for name in images]
    for name, regions in {"truth": truth, **found}.items():
        panels.append(Panel(name, lead, regions=Regions(regions, hues), note=(notes or {}).get(name, "")))
    unit = "" if len(images) == 1 else f"(scale of {lead})"
    window, sized, affine = (low, high), grounds.sized, grounds.affine
    return Stack(layers, panels, kept.numbers, total, first, window, unit, spacing_mm, sized, affine, times=kept.times)


def _window(image: npt.NDArray[np.float32]) -> Window:
    """Return a display window that few foreground pixels exceed."""
    inside = image[image > image.min()]
    if not inside.size:
        return float(image.min()), float(image.min()) + 1.0
    low, high = float(image.min()), float(np.quantile(inside, 0.995))
    return low, max(high, low + 1e-6)


def _outline(axes: Axes, mask: Mask, colour: str, width: float) -> None:
    """Draw the border of a mask, halfway between its pixels and their neighbours."""
    if mask.any() and not mask.all():
        rows, columns = np.arange(-1, mask.shape[0] + 1), np.arange(-1, mask.shape[1] + 1)
        axes.contour(columns, rows, np.pad(mask.astype(float), 1), [0.5], colors=[colour], linewidths=width)
        axes.set(xlim=(-0.5, mask.shape[1] - 0.5), ylim=(mask.shape[0] - 0.5, -0.5))


@rc_context(STYLE)
def volume_plot(
    volumes: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], unit: str = "ml"
) -> Figure:
    """Draw predicted against true sizes, with a plot for each region and a point for each case.

    Args:
        volumes: region to method to predicted and true sizes, in the same order of cases.
        unit: unit of the sizes.
    """
    figure = new_figure(min(3.3 * len(volumes), 13.5), 3.4)
    for plot, (region, methods) in zip(
        figure.subplots(1, len(volumes), squeeze=False)[0], volumes.items(), strict=True
    ):
        most = max((max(*found, *true, 0.0) for found, true in methods.values() if found), default=0.0) or 1.0
        plot.plot([0, most], [0, most], color=SOFT, linewidth=0.8, linestyle="--")
        for name, colour in colours(methods).items():
            found, true = methods[name]
            plot.scatter(true, found, color=colour, s=22, label=title(name), alpha=0.85)
        plot.set(xlabel=f"True size ({unit})", ylabel=f"Size found ({unit})")
        plot.set_title(title(region))
    figure.axes[0].legend(loc="upper left")
    return figure
