"""Comparison strips: images beside their reference, with difference images and magnified details."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from scipy.ndimage import minimum_filter, uniform_filter

from ganatomy.metrics.metric import Array, Window
from ganatomy.metrics.regions import Box
from ganatomy.metrics.sharpness import Point
from ganatomy.reports.style import (
    DIVERGING,
    MARKS,
    SOFT,
    STYLE,
    mark_segment,
    minus,
    nice_length,
    plain,
    show_image,
    title,
)

SHEET_WIDTH = 12.0
MARGIN, GAP, FOOT = 0.06, 0.07, 0.22
COLUMN_WIDTHS = (1.7, 3.4)
TALLEST = 4.5
LETTER_WIDTH = 0.0092  # inches per point of type size, for bold capitals and small letters mixed


@rc_context(STYLE)
def comparison_strip(
    images: Mapping[str, npt.ArrayLike],
    *,
    window: Window,
    spacing_mm: tuple[float, float] | None = None,
    unit: str = "HU",
    target: str = "target",
    differences: Sequence[str] = ("output",),
    difference_range: float | None = None,
    zooms: Sequence[Box] = (),
    notes: Mapping[str, str] | None = None,
    segment: tuple[Point, Point] | None = None,
) -> Figure:
    """Draw images side by side in one window, with signed differences from the target and magnified details below.

    Args:
        images: name to ``(rows, columns)``, or ``(rows, columns, 3)`` colours as bytes or in [0, 1].
        window: values shown black and white; colours are shown as they are.
        spacing_mm: distance of rows and of columns, for the aspect ratio and a scale bar.
        unit: unit of the images.
        target: name of the reference of the differences.
        differences: images whose difference (image - target) gets a column; colours are averaged first.
        difference_range: difference that is shown in full colour; a quarter of the window unless given.
        zooms: boxes that are magnified below, at one magnification in all columns.
        notes: name to a line under its title, such as a score.
        segment: first and last (row, column) of a line to mark.
    """
    shown = {name: np.asarray(image) for name, image in images.items()}
    columns = [_Column(name, image, False) for name, image in shown.items()]
    if target in shown:
        columns += [
            _Column(f"{name} − {target}", _grey(shown[name]) - _grey(shown[target]), True)
            for name in differences
            if name in shown
        ]
    coloured = next((image.dtype for image in shown.values() if image.ndim == 3), None)
    full_scale = window[1] - window[0]
    if coloured is not None:
        full_scale = 256.0 if np.issubdtype(coloured, np.integer) else 1.0
    limit = full_scale / 4 if difference_range is None else difference_range
    sheet = _Strip(columns, window, limit, unit, spacing_mm, zooms, notes or {})
    sheet.draw(segment)
    return sheet.figure


def detail_boxes(
    image: npt.ArrayLike,
    window: Window,
    spacing_mm: tuple[float, float],
    *,
    count: int = 2,
    size_mm: float = 50.0,
) -> list[Box]:
    """Find squares for magnification: those with the most structure that lie mostly inside the window.

    Args:
        image: ``(rows, columns)``, preferably the target.
        window: values that will be shown.
        spacing_mm: distance of rows and of columns.
        count: number of squares; fewer are returned if there are no more.
        size_mm: edge of a square.
    """
    values = np.asarray(image, dtype=np.float64)
    extent = [
        max(8, min(round(size_mm / step), length // 2)) for step, length in zip(spacing_mm, values.shape, strict=True)
    ]
    shown = (values > window[0]) & (values < window[1])
    slopes = np.gradient(values, *spacing_mm)
    # Edges to values outside the window are left out, since they would dominate the structure inside it.
    structure = uniform_filter(np.where(minimum_filter(shown, 3), sum(slope**2 for slope in slopes), 0), extent)
    structure[uniform_filter(shown.astype(np.float64), extent) < 0.9] = 0
    for axis, size in enumerate(extent):
        edge = np.moveaxis(structure, axis, 0)
        edge[: size // 2] = edge[edge.shape[0] - size + size // 2 + 1 :] = 0
    boxes: list[Box] = []
    while len(boxes) < count and structure.max() > 0:
        row, column = (int(i) for i in np.unravel_index(np.argmax(structure), structure.shape))
        boxes.append(Box(row - extent[0] // 2, column - extent[1] // 2, extent[0], extent[1]))
        structure[
            max(0, row - extent[0] + 1) : row + extent[0], max(0, column - extent[1] + 1) : column + extent[1]
        ] = 0
    return boxes


@dataclass(frozen=True)
class _Column:
    name: str
    image: npt.NDArray[Any]
    signed: bool


class _Strip:
    """Layout of a comparison strip in inches, so that all columns have exactly the same scale."""

    def __init__(
        self,
        columns: Sequence[_Column],
        window: Window,
        limit: float,
        unit: str,
        spacing_mm: tuple[float, float] | None,
        zooms: Sequence[Box],
        notes: Mapping[str, str],
    ):
        self.columns, self.window, self.limit, self.unit = columns, window, limit, unit
        self.spacing_mm, self.zooms, self.notes = spacing_mm, zooms, notes
        self.heading = 0.44 if notes or any(column.signed for column in columns) else 0.25
        self.bar = 0.75 if any(column.signed for column in columns) else 0.0
        n = len(columns)
        fair = (SHEET_WIDTH - self.bar - 2 * MARGIN + GAP) / n - GAP
        self.column = min(max(fair, COLUMN_WIDTHS[0]), COLUMN_WIDTHS[1])
        self.column *= min(1, TALLEST / self._height(*columns[0].image.shape[:2]))
        self.heights = [self._height(*columns[0].image.shape[:2])]
        self.heights += [self._height(box.rows, box.columns) for box in zooms]
        self.width = 2 * MARGIN + n * (self.column + GAP) - GAP + self.bar
        self.height = self.heading + sum(self.heights) + GAP * len(self.heights) + FOOT
        self.figure = Figure((self.width, self.height))

    def draw(self, segment: tuple[Point, Point] | None) -> None:
        for i, column in enumerate(self.columns):
            left = MARGIN + i * (self.column + GAP)
            self._text(left, 0.17, title(column.name), fontsize=self._fit(column.name, 10), fontweight="bold")
            note = self.notes.get(column.name, "")
            self._text(left, 0.34, plain(note), fontsize=self._fit(note, 8.5), color=SOFT)
            axes = self._panel(column, left, 0)
            for mark, box in zip(MARKS * len(self.zooms), self.zooms, strict=False):
                axes.add_patch(_frame(box, mark))
            if segment:
                mark_segment(axes, segment)
            for row, box in enumerate(self.zooms, start=1):
                detail = self._panel(column, left, row, box)
                detail.spines[:].set(visible=True, color=MARKS[(row - 1) % len(MARKS)], linewidth=1.8)
            if i == 0 and self.spacing_mm:
                self._scale_bars(left)
        if self.bar:
            self._colour_bar()
        if any(column.image.ndim == 2 and not column.signed for column in self.columns):
            low, high = (minus(f"{limit:g}") for limit in self.window)
            self._text(MARGIN, self.height - 0.07, f"Window {low} to {high} {self.unit}", fontsize=8, color=SOFT)

    def _height(self, rows: int, columns: int) -> float:
        down, across = self.spacing_mm or (1.0, 1.0)
        return self.column * rows * down / (columns * across)

    def _top(self, row: int) -> float:
        return self.heading + sum(self.heights[:row]) + GAP * row

    def _axes(self, left: float, row: int, width: float) -> Axes:
        bottom = self.height - self._top(row) - self.heights[row]
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, self.heights[row] / self.height)
        )

    def _text(self, x: float, y: float, text: str, **style: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, **style)

    def _fit(self, text: str, size: float) -> float:
        """Return the font size in points at which the text is not wider than its column."""
        return min(size, self.column / (LETTER_WIDTH * max(1, len(text))))

    def _panel(self, column: _Column, left: float, row: int, box: Box | None = None) -> Axes:
        axes = self._axes(left, row, self.column)
        image = column.image if box is None else column.image[box.slices]
        shown = (-self.limit, self.limit) if column.signed else self.window
        show_image(axes, image, shown, self.spacing_mm, DIVERGING if column.signed else "gray", box is not None)
        return axes

    def _scale_bars(self, left: float) -> None:
        widths = [self.columns[0].image.shape[1], *(box.columns for box in self.zooms)]
        for row, columns in enumerate(widths):
            assert self.spacing_mm is not None
            field = columns * self.spacing_mm[1]
            length = nice_length(field)
            overlay = self._axes(left, row, self.column)
            overlay.set(xlim=(0, self.column), ylim=(0, self.heights[row]))
            overlay.axis("off")
            outline = [withStroke(linewidth=3, foreground="#000000b0")]
            end = 0.1 + self.column * length / field
            overlay.plot(
                [0.1, end],
                [0.12] * 2,
                color="white",
                linewidth=2,
                path_effects=outline,
                solid_capstyle="butt",
            )
            overlay.text(0.1, 0.17, f"{length:g} mm", color="white", fontsize=8, path_effects=outline)

    def _colour_bar(self) -> None:
        left = MARGIN + len(self.columns) * (self.column + GAP)
        axes = self._axes(left, 0, 0.11)
        axes.imshow(
            np.linspace(1, -1, 128)[:, None],
            cmap=DIVERGING,
            aspect="auto",
            extent=(0, 1, -self.limit, self.limit),
        )
        axes.grid(False)
        axes.set_xticks([])
        ticks = np.array([-1, -0.5, 0, 0.5, 1]) * self.limit
        axes.set_yticks(ticks, [minus(f"{tick:+g}") if tick else "0" for tick in ticks], fontsize=8)
        axes.yaxis.tick_right()
        axes.spines[:].set_visible(False)
        self._text(left, self.heading - 0.06, self.unit, fontsize=8, color=SOFT)


def _frame(box: Box, colour: str) -> Rectangle:
    corner = (box.column - 0.5, box.row - 0.5)
    return Rectangle(corner, box.columns, box.rows, fill=False, edgecolor=colour, linewidth=1.4)


def _grey(image: npt.NDArray[Any]) -> Array:
    values = image.astype(np.float64)
    return values.mean(axis=-1) if values.ndim == 3 else values
