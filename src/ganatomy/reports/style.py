"""Style of all figures: colours, fonts, and export as PNG or SVG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ganatomy.metrics.metric import Window
from ganatomy.metrics.sharpness import Point

INK, SOFT, FAINT = "#22262b", "#6b727b", "#d9dce0"
ROLES = {"input": "#9aa1aa", "output": "#1f6fb2", "target": INK}
OTHERS = ("#d9822b", "#2e8b6f", "#8a5fa8", "#c0504d", "#7a6a3f", "#4aa3c7")
MARKS = ("#f5b301", "#35c4b5", "#f0609e", "#8ccf4d")
DIVERGING, SEQUENTIAL = "RdBu_r", "inferno"
"""Colours of differences, and of maps that are bright where something was found."""
NICE_LENGTHS_MM = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
"""Lengths of scale bars."""

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": SOFT,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#eceef0",
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "ganatomy",
}


def colours(names: Mapping[str, Any] | Sequence[str]) -> dict[str, str]:
    """Return a colour for every name: fixed ones for input, output and target, others in order."""
    others = iter(OTHERS * (1 + len(names) // len(OTHERS)))
    return {name: ROLES[name] if name in ROLES else next(others) for name in names}


def title(name: str) -> str:
    """Return the name with a capital first letter."""
    return plain(name[:1].upper() + name[1:])


def plain(text: str) -> str:
    """Escape dollar signs, which matplotlib would take for formulas."""
    return text.replace("$", r"\$")


def minus(number: str) -> str:
    """Replace hyphens in a number by minus signs."""
    return number.replace("-", "−")


def nice_length(field_mm: float) -> float:
    """Return a round length in mm for a scale bar, at most a third of the field of view."""
    return max((nice for nice in NICE_LENGTHS_MM if nice <= field_mm / 3), default=field_mm / 3)


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure of a size in inches with constrained layout."""
    return Figure((width, height), layout=ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.1))


def show_image(
    axes: Axes,
    image: npt.NDArray[Any],
    window: Window,
    spacing_mm: tuple[float, float] | None,
    cmap: str = "gray",
    magnified: bool = False,
) -> None:
    """Draw an image in a window with the aspect ratio of its spacing; magnified images show sharp pixels."""
    down, across = spacing_mm or (1.0, 1.0)
    if image.ndim == 3 and np.issubdtype(image.dtype, np.floating):
        image = np.clip(image, 0, 1)
    axes.imshow(
        image,
        cmap=cmap,
        vmin=window[0],
        vmax=window[1],
        aspect=down / across,
        interpolation="nearest" if magnified else "auto",
    )
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def colour_bar(axes: Axes, top: float) -> None:
    """Draw the colours of the image in axes beside it, from 0 to the value of the brightest."""
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(axes.images[0], ax=axes, ticks=[0, top], format="%.3g", fraction=0.06, pad=0.03)
    bar.outline.set_visible(False)


def mark_segment(axes: Axes, segment: tuple[Point, Point]) -> None:
    """Draw a line between two (row, column) points."""
    (first, last), (start, end) = zip(*segment, strict=True)
    axes.plot([start, end], [first, last], color=MARKS[0], linewidth=1.6, marker="o", markersize=3)


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """Render a figure as PNG."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


@rc_context(STYLE)
def to_svg(figure: Figure) -> bytes:
    """Render a figure as SVG with outlined text; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
