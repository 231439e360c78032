"""Stacks of slices in reports, which a script in the page shows: slices, windows, overlays, orientation and values.

The page works offline and without WebGL. Values of every slice are kept as whole steps from the lowest value. Each is
predicted from its neighbours to the left and above (the median of left, above, and left + above - above left, as in
JPEG-LS), and the errors are compressed and written in base64; `viewer.js` reverses this.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ganatomy.metrics.metric import Window
from ganatomy.reports.style import DIVERGING, SEQUENTIAL, nice_length, title

SCRIPT = files("ganatomy.reports").joinpath("viewer.js").read_text(encoding="utf-8")
"""Script of the viewer."""

MOST_SLICES = 24
"""Largest number of slices of a stack in a report; of longer stacks evenly spaced ones are kept (our choice)."""
MOST_BYTES = 6 * 2**20
"""Largest size of a stack in a report in bytes, beyond which fewer slices are kept (our choice)."""
LARGE = 384
"""Number of rows and columns from which slices may be kept at half the resolution (our choice)."""
FEWEST_SLICES = 8
"""Number of slices, or all if there are fewer, for which images of lesser interest are left out (our choice)."""
STEPS = 256
"""Number of steps of the values across the display window."""
LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))
"""Letters of the directions along the axes of RAS+ space, negative and positive."""
OBLIQUE = math.sin(math.radians(22.5))
"""Share of a direction along a second axis from which that axis gets a letter, too."""
PRESETS: Mapping[str, Window] = {
    "Soft tissue": (-160.0, 240.0),
    "Lung": (-1350.0, 150.0),
    "Bone": (-450.0, 1050.0),
    "Brain": (0.0, 80.0),
}
"""Usual windows for images in HU."""

Kind = Literal["grey", "colour", "map"]


@dataclass(frozen=True)
class Layer:
    """Images of a stack that belong together, one for every kept slice.

    Attributes:
        slices: for every kept slice (rows, columns), or (rows, columns, 3) colours in [0, 1].
        kind: whether it is shown in the window of the stack, as colours, or with a colour scale of its own.
    """

    slices: Sequence[npt.NDArray[Any]]
    kind: Kind = "grey"


@dataclass(frozen=True)
class Regions:
    """Outlines over a panel.

    Attributes:
        masks: region to a mask for every kept slice, (rows, columns).
        colours: region to colour, ``#rrggbb``.
    """

    masks: Mapping[str, Sequence[npt.NDArray[np.bool_]]]
    colours: Mapping[str, str]


@dataclass(frozen=True)
class Panel:
    """One of the pictures that are shown side by side.

    Attributes:
        name: heading.
        shows: name of the layer.
        minus: name of the layer that is subtracted; None shows the layer itself.
        map: name of a layer that is blended over the picture as an overlay.
        regions: outlines over the picture.
        note: line below the picture, such as a score.
    """

    name: str
    shows: str
    minus: str | None = None
    map: str | None = None
    regions: Regions | None = None
    note: str = ""


@dataclass(frozen=True)
class Stack:
    """Some or all slices of a case, as seen by several methods.

    Attributes:
        layers: name to images.
        panels: pictures in their order.
        numbers: index of every kept slice in the whole stack.
        total: number of slices of the whole stack.
        first: index of the slice that is shown first.
        window: values shown black and white.
        unit: unit of the values.
        spacing_mm: distance of rows and of columns; only their ratio is used where ``sized`` is false.
        sized: whether distances are known, so that a scale bar may be drawn.
        affine: affine (4, 4) from (slice, row, column) to mm in RAS+ space; None where the patient's sides are unknown.
        difference: difference that is shown in full colour; a quarter of the window unless given.
        left_out: names of methods that only the still picture shows.
        times: number of rows and of columns that slices other than the first one shown are averaged over.
    """

    layers: Mapping[str, Layer]
    panels: Sequence[Panel]
    numbers: Sequence[int]
    total: int
    first: int
    window: Window
    unit: str = ""
    spacing_mm: tuple[float, float] = (1.0, 1.0)
    sized: bool = False
    affine: npt.NDArray[np.float64] | None = None
    difference: float | None = None
    left_out: Sequence[str] = ()
    times: int = 1


@dataclass(frozen=True)
class Illustration:
    """A still picture, and the stack that a viewer shows instead where the page can run its script.

    Attributes:
        figure: the still picture.
        stack: makes the stack, which is called when the page is written; None where there is nothing to scroll.
    """

    figure: Figure
    stack: Callable[[], Stack] | None = field(default=None)


class Kept(NamedTuple):
    """Slices of a stack that are kept in a page."""

    numbers: Sequence[int]
    """Index of every kept slice in the whole stack."""
    times: int
    """Number of rows and of columns that slices other than the first one shown are averaged over."""


def kept_slices(total: int, first: int, bytes_each: float, shape: tuple[int, int]) -> Kept:
    """Choose evenly spaced slices of a stack, among them the one that is shown first.

    Where large slices are too many for a page, all but the first one shown have half the resolution.

    Args:
        total: number of slices.
        first: index of the slice that is shown first.
        bytes_each: expected size of one slice of all layers, of which `MOST_BYTES` are allowed altogether.
        shape: rows and columns of a slice.
    """
    wanted, share = min(total, MOST_SLICES), MOST_BYTES / max(bytes_each, 1)
    times = 2 if wanted > share and min(shape) >= LARGE else 1
    count = max(1, min(wanted, 1 + int((share - 1) * times**2)))
    step = math.ceil(total / count)
    return Kept(list(range(first % step, total, step)), times)


def fits(total: int, bytes_each: float, shape: tuple[int, int]) -> bool:
    """Whether `FEWEST_SLICES` slices, or all, fit into a page."""
    times = 2 if min(shape) >= LARGE else 1
    return bytes_each * (1 + (min(total, FEWEST_SLICES) - 1) / times**2) <= MOST_BYTES


def sides(affine: npt.NDArray[np.float64]) -> dict[str, str]:
    """Return the letters of the patient's sides at the four sides of an axial, coronal, sagittal or oblique slice.

    Args:
        affine: affine (4, 4) from (slice, row, column) to mm in RAS+ space.

    Returns:
        ``left``, ``right``, ``top`` and ``bottom`` to R, L, A, P, S, I, or two of them where the slice is oblique.
    """
    found = {}
    for column, (start, end) in ((2, ("left", "right")), (1, ("top", "bottom"))):
        direction = np.asarray(affine, np.float64)[:3, column]
        direction = direction / np.linalg.norm(direction)
        for side, sign in ((start, -1), (end, 1)):
            axes = [axis for axis in np.argsort(-np.abs(direction), kind="stable") if abs(direction[axis]) > OBLIQUE]
            found[side] = "".join(LETTERS[axis][int(sign * direction[axis] > 0)] for axis in axes[:2])
    return found


def packed(steps: npt.NDArray[np.integer[Any]]) -> str:
    """Compress whole numbers of a picture, (rows, columns), from 0 to 65535, to text."""
    values = steps.astype(np.int64)
    padded = np.pad(values, ((1, 0), (1, 0)))
    above, left, corner = padded[:-1, 1:], padded[1:, :-1], padded[:-1, :-1]
    low, high = np.minimum(above, left), np.maximum(above, left)
    errors = values - np.where(corner >= high, low, np.where(corner <= low, high, above + left - corner))
    # Small errors of either sign become small numbers, so that the high bytes are nearly all zero.
    folded = np.where(errors < 0, -2 * errors - 1, 2 * errors)
    planes = [folded >> shift & 255 for shift in ((0, 8, 16) if folded.max(initial=0) > 255 else (0,))]
    return base64.b64encode(zlib.compress(b"".join(plane.astype(np.uint8).tobytes() for plane in planes), 6)).decode()


def encoded(stack: Stack) -> dict[str, Any]:
    """Return a stack as values that JSON can hold, for the script.

    Slices that exceed `MOST_BYTES` are left out, those farthest from the first one before others.
    """
    order = sorted(range(len(stack.numbers)), key=lambda place: (abs(stack.numbers[place] - stack.first), place))
    names = list(stack.layers)
    lead = list(stack.numbers).index(stack.first)
    times = [1 if place == lead else stack.times for place in range(len(stack.numbers))]
    layers = {name: _layer(layer, stack.window, times) for name, layer in stack.layers.items()}
    outlines = {index: _bits(panel.regions, times) for index, panel in enumerate(stack.panels) if panel.regions}
    kept: dict[int, list[str]] = {}
    size = 0
    for place in order:
        texts = [packed(one["steps"](place)) for one in (*layers.values(), *outlines.values())]
        size += sum(map(len, texts))
        if kept and size > MOST_BYTES:
            break
        kept[place] = texts
    places = sorted(kept)
    images = []
    for index, one in enumerate((*layers.values(), *outlines.values())):
        facts = {key: value for key, value in one.items() if key != "steps"}
        images.append({**facts, "data": [kept[place][index] for place in places]})
    panels = []
    for index, panel in enumerate(stack.panels):
        plain: dict[str, Any] = {"name": title(panel.name), "image": names.index(panel.shows), "note": panel.note}
        if panel.minus is not None:
            plain["minus"] = names.index(panel.minus)
        if panel.map is not None:
            plain["map"] = names.index(panel.map)
        if panel.regions:
            regions = [{"name": name, "colour": panel.regions.colours[name]} for name in panel.regions.masks]
            plain["mask"] = {"image": len(names) + list(outlines).index(index), "regions": regions}
        panels.append(plain)
    columns = next(iter(stack.layers.values())).slices[0].shape[1]
    grey = any(layer.kind == "grey" for layer in stack.layers.values())
    step = (stack.window[1] - stack.window[0]) / STEPS
    return {
        "images": images,
        "panels": panels,
        "slices": [stack.numbers[place] for place in places],
        "total": stack.total,
        "first": places.index(lead),
        "times": stack.times,
        "window": list(stack.window),
        "step": step,
        "unit": stack.unit,
        "limit": stack.difference or (stack.window[1] - stack.window[0]) / 4,
        "grey": grey,
        "spacing": list(stack.spacing_mm),
        "bar": nice_length(columns * stack.spacing_mm[1]) if stack.sized else None,
        "letters": sides(stack.affine) if stack.affine is not None else None,
        "presets": [{"name": name, "window": list(window)} for name, window in PRESETS.items()]
        if grey and stack.unit == "HU"
        else [],
        "colours": {name: _stops(name_of) for name, name_of in (("difference", DIVERGING), ("map", SEQUENTIAL))},
        "about": _about(stack, len(places), step if grey else None),
    }


def embedded(stack: Stack) -> str:
    """Return a stack as JSON that is safe within a ``<script>`` element."""
    return json.dumps(encoded(stack), separators=(",", ":")).replace("<", "\\u003c")


def _about(stack: Stack, kept: int, step: float | None) -> str:
    told = []
    if stack.left_out:
        told.append(f"Only in the still picture: {', '.join(stack.left_out)}.")
    if kept < stack.total:
        told.append(f"{kept} of {stack.total} slices are kept in this page.")
    if stack.times > 1 and kept > 1:
        told.append(
            f"Slice {stack.first + 1} is kept pixel by pixel, others averaged over {stack.times} × {stack.times}."
        )
    if step is not None:
        told.append(f"Values are kept in steps of {step:.3g} {stack.unit}".rstrip(" .") + ".")
    return " ".join(told)


def averaged(picture: npt.NDArray[Any], times: int) -> npt.NDArray[Any]:
    """Average a picture, (rows, columns, ...), over squares of so many pixels; edges are repeated to fill the last."""
    if times == 1:
        return picture
    rows, columns = picture.shape[:2]
    more = [(0, -rows % times), (0, -columns % times), *[(0, 0)] * (picture.ndim - 2)]
    padded = np.pad(picture, more, mode="edge").astype(np.float64)
    blocks = padded.reshape(-(-rows // times), times, -(-columns // times), times, *picture.shape[2:])
    return np.asarray(blocks.mean((1, 3)))


def _layer(layer: Layer, window: Window, times: Sequence[int]) -> dict[str, Any]:
    rows, columns = layer.slices[0].shape[:2]
    shared = {"rows": rows, "columns": columns, "kind": layer.kind}
    if layer.kind == "colour":

        def colours(place: int) -> npt.NDArray[np.integer[Any]]:
            picture = averaged(layer.slices[place], times[place])
            levels = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
            return np.asarray(np.moveaxis(levels, -1, 0).reshape(-1, picture.shape[1]))

        return {**shared, "base": 0.0, "step": 1 / 255, "steps": colours}
    ends = [(float(one.min()), float(one.max())) for one in layer.slices]
    base, top = min(low for low, _ in ends), max(high for _, high in ends)
    if layer.kind == "map":
        base, top = 0.0, bright(layer.slices)
        shared["range"] = [base, top]
        step = (top - base) / (STEPS - 1)
        most = STEPS - 1
    else:
        step, most = (window[1] - window[0]) / STEPS or 1.0, 2**16 - 1

    def steps(place: int) -> npt.NDArray[np.integer[Any]]:
        levels = np.rint((averaged(layer.slices[place], times[place]).astype(np.float64) - base) / step)
        return np.clip(levels, 0, most).astype(np.uint16)

    return {**shared, "base": base, "step": step, "steps": steps}


def bright(slices: Sequence[npt.NDArray[Any]]) -> float:
    """Return the upper end of the colour scale of a map, which few pixels exceed."""
    values = np.concatenate([np.asarray(one).reshape(-1) for one in slices])
    return float(np.quantile(values, 0.998)) or float(values.max()) or 1.0


def _bits(regions: Regions, times: Sequence[int]) -> dict[str, Any]:
    several = list(regions.masks.values())[:16]
    rows, columns = several[0][0].shape

    def steps(place: int) -> npt.NDArray[np.integer[Any]]:
        bits = np.zeros((rows, columns), np.uint16)
        for bit, masks in enumerate(several):
            bits |= masks[place].astype(np.uint16) << bit
        return bits[:: times[place], :: times[place]]

    return {"rows": rows, "columns": columns, "kind": "mask", "base": 0, "step": 1, "steps": steps}


def _stops(name: str) -> list[str]:
    return [to_hex(colour) for colour in colormaps[name](np.linspace(0, 1, 17))]
