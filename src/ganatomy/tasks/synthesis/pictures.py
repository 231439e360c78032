"""Figures of generated images: beside real ones, with nearest training images, along latent walks, and spectra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.evaluation.judging import OUTPUT, Judgement
from ganatomy.evaluation.sets import SamplerEntry
from ganatomy.metrics.diversity import radial_spectrum, upsampling_peaks
from ganatomy.metrics.memorisation import most_correlated
from ganatomy.reports.report import Cell, Column, Report
from ganatomy.reports.style import INK, STYLE, colours, minus, new_figure, plain, show_image, title
from ganatomy.tasks.synthesis.entries import ImageRequest
from ganatomy.tasks.synthesis.predictor import SamplePredictor
from ganatomy.tasks.synthesis.scores import SLICED, level
from ganatomy.tasks.synthesis.sets import ImageSet, between, physical, planes, separate, unit, window
from ganatomy.tasks.synthesis.task import Synthesis

GRID = 6
"""Number of images along a side of a grid."""
SEEN = 8
"""Number of images in a row."""
COUNTED = 128
"""Number of images used for a spectrum or a histogram."""
TRUNCATIONS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
GAP = 2

Picture = NDArray[np.float32]


def illustrate(report: Report, judgement: Judgement, task: Synthesis, held: ImageSet, known: ImageSet) -> None:
    """Add all figures of samples to a report.

    Args:
        report: report to add to.
        judgement: entries and their scores.
        task: task of the run.
        held: held-out real images.
        known: training images; empty where they are no longer available.
    """
    samplers = [one for one in judgement.entries if isinstance(one, SamplerEntry)]
    wanted = ImageRequest(COUNTED, 0, _labels(task, held, COUNTED), held, known)
    sets = {sampler.name: sampler.run(wanted) for sampler in samplers}
    real = held.take(np.random.default_rng(0).permutation(len(held))[:COUNTED])
    shown = {**sets, "real": real}
    report.figure(beside(shown, task), _beside_words(task, labelled(shown)))
    own = samplers[0]
    if len(known):
        report.figure(
            neighbours(sets[own.name], known, task),
            "Samples above, below each the training image that it correlates with best (mirrored ones counted), and "
            "the correlation. Equal pairs are copies; likeness in pose and outline is natural.",
        )
    report.section("Through the latent space")
    report.figure(
        walks(own.predictor, task),
        "From one sample to another, in equal steps of the latent numbers. Smooth changes through plausible images "
        "speak for a learned space; jumps between few images speak for memorised ones.",
    )
    report.figure(
        truncated(own.predictor, task),
        "The same samples with their latent numbers pulled to the centre of the prior (0) or pushed outwards (above "
        "1). Typical and alike on the left, varied and riskier on the right.",
    )
    report.section("Grey values and detail")
    report.figure(
        histograms({**sets, "real": real}, task),
        "How often each value occurs. Curves that agree are necessary for realistic images, and not sufficient.",
    )
    report.figure(spectra({**sets, "real": real}), _spectrum_words(sets[own.name], real))
    _level_table(report, judgement)


@rc_context(STYLE)
def beside(sets: Mapping[str, ImageSet], task: Synthesis) -> Figure:
    """Draw a grid of images of every set in the same window, with a row per class where all images have labels.

    Args:
        sets: name to images.
        task: task with the names of classes and roles.
    """
    by_class = labelled(sets)
    grids = {name: _grid(one, task, by_class) for name, one in sets.items()}
    rows, columns = next(iter(grids.values())).shape[:2]
    width = 12.0 / max(2, len(sets))
    figure = new_figure(width * len(sets), width * rows / columns + 0.4)
    axes = np.atleast_1d(figure.subplots(1, len(sets)))
    for (name, grid), place in zip(grids.items(), axes, strict=True):
        show_image(place, grid, (0, 1), None)
        place.set_anchor("N")
        place.set_title("Generated" if name == OUTPUT else title(name))
    if by_class:
        name_rows(axes[0], task.classes, rows)
    return figure


@rc_context(STYLE)
def neighbours(made: ImageSet, known: ImageSet, task: Synthesis) -> Figure:
    """Draw samples, and below each the training image with the highest correlation."""
    index, correlation = most_correlated(planes(made.images[:SEEN]), planes(known.images), flips=(2, 3))
    sheet = sheet_of([_tiles(made.images[:SEEN], task), _tiles(known.images[index.tolist()], task)])
    figure = sheet_figure(sheet)
    axes = figure.axes[0]
    name_columns(axes, [f"{value:.2f}" for value in correlation], sheet.shape[1])
    name_rows(axes, ("sample", "training"), sheet.shape[0])
    return figure


@rc_context(STYLE)
def walks(predictor: SamplePredictor, task: Synthesis, rows: int = 4) -> Figure:
    """Draw images between two samples, a row per pair: along the sphere for a normal prior, else along a line."""
    method = predictor.method
    way = slerp if method.prior == "normal" else lerp
    shown = []
    for row in range(rows):
        first, last = method.draw([2 * row, 2 * row + 1])
        latents = torch.stack([way(first, last, float(t)) for t in np.linspace(0, 1, SEEN)])
        label = torch.full((SEEN,), row % max(1, len(task.classes)))
        shown.append(_tiles(between(predictor.from_latents(latents, label), task), task))
    return sheet_figure(sheet_of(shown))


@rc_context(STYLE)
def truncated(predictor: SamplePredictor, task: Synthesis, rows: int = 3) -> Figure:
    """Draw images of the same latent vectors scaled by different truncations."""
    method = predictor.method
    shown = []
    for seed in range(rows):
        latents = torch.cat([method.draw([seed], truncation) for truncation in TRUNCATIONS])
        label = torch.full((len(TRUNCATIONS),), seed % max(1, len(task.classes)))
        shown.append(_tiles(between(predictor.from_latents(latents, label), task), task))
    sheet = sheet_of(shown)
    figure = sheet_figure(sheet)
    name_columns(figure.axes[0], [f"{t:g}" for t in TRUNCATIONS], sheet.shape[1])
    return figure


@rc_context(STYLE)
def histograms(sets: Mapping[str, ImageSet], task: Synthesis, bins: int = 64) -> Figure:
    """Draw histograms of the values in physical units, with a panel per channel of every role."""
    values = {name: physical(torch.from_numpy(planes(one.images)), task) for name, one in sets.items()}
    panels = [(name, channel) for name, role in task.images.items() for channel in range(role.channels)]
    figure = new_figure(min(12.0, 1 + 4.2 * len(panels)), 3.2)
    axes = np.atleast_1d(figure.subplots(1, len(panels)))
    for (role, channel), plot in zip(panels, axes, strict=True):
        ends = window(task, role)
        for name, colour in _colours(sets).items():
            counts, edges = np.histogram(values[name][role][:, channel], bins, ends)
            middles = (edges[1:] + edges[:-1]) / 2
            plot.plot(middles, counts / max(counts.sum(), 1), color=colour, label=_called(name))
        plot.set(
            xlabel=f"{_panel(task, role, channel)} ({unit(task, role) or 'value'})".lstrip(),
            ylabel="Share of pixels",
            yscale="log",
        )
        plot.margins(x=0)
    axes[0].legend()
    return figure


@rc_context(STYLE)
def spectra(sets: Mapping[str, ImageSet]) -> Figure:
    """Draw radial power spectra in dB, and mark the frequencies of upsampling artefacts."""
    figure = new_figure(6.8, 3.6)
    plot = figure.subplots()
    for name, colour in _colours(sets).items():
        found = radial_spectrum(planes(sets[name].images))
        power = 10 * np.log10(np.maximum(found.power[1:], 1e-12))
        plot.plot(found.frequencies[1:], power, color=colour, label=_called(name))
    if OUTPUT in sets:
        for peak in _peaks(sets[OUTPUT], sets["real"]):
            plot.axvline(peak.frequency, color=INK, linewidth=0.8, linestyle=":")
    plot.set(xlabel="Spatial frequency (1/pixel)", ylabel="Power (dB)")
    plot.margins(x=0)
    plot.legend()
    return figure


def lerp(first: Tensor, last: Tensor, t: float) -> Tensor:
    """Return a point on the straight line from first (0) to last (1)."""
    return (1 - t) * first + t * last


def slerp(first: Tensor, last: Tensor, t: float) -> Tensor:
    """Interpolate between two latent vectors on the sphere, from first (0) to last (1).

    Normal latent vectors lie near a sphere, and a straight line would pass through its inside, where the prior has
    little mass. White, arXiv:1609.04468.
    """
    angle = torch.arccos((first @ last / (first.norm() * last.norm())).clamp(-1, 1))
    if float(torch.sin(angle)) < 1e-4:
        return lerp(first, last, t)
    return (torch.sin((1 - t) * angle) * first + torch.sin(t * angle) * last) / torch.sin(angle)


def tile(image: Tensor, task: Synthesis) -> Picture:
    """Convert an image (channels, rows, columns) to a picture in [0, 1], roles side by side and three channels as RGB.

    Returns:
        (rows, width), or (rows, width, 3) where a role has colours.
    """
    parts: list[NDArray[Any]] = []
    for part in (one[0] for one in separate((image[None] + 1) / 2, task).values()):
        values = part.numpy()
        parts += [np.moveaxis(values, 0, -1)] if len(values) == 3 else list(values)
    if any(part.ndim == 3 for part in parts):
        parts = [part if part.ndim == 3 else np.repeat(part[..., None], 3, axis=-1) for part in parts]
    return np.concatenate(parts, axis=1).astype(np.float32)


def windows(task: Synthesis) -> str:
    """Describe the display windows of all roles in words."""
    ends = {name: window(task, name) for name in task.images}
    said = (f"{name} {low:g} to {high:g} {unit(task, name) or ''}" for name, (low, high) in ends.items())
    return minus(", ".join(words.rstrip() for words in said))


def _tiles(images: Tensor, task: Synthesis) -> list[Picture]:
    return [tile(torch.from_numpy(picture), task) for picture in planes(images)]


def sheet_of(rows: Sequence[Sequence[Picture]]) -> Picture:
    """Arrange pictures of one size in rows, with white gaps between them."""

    def framed(picture: Picture) -> Picture:
        edges = ((0, GAP), (0, GAP), *[(0, 0)] * (picture.ndim - 2))
        return np.pad(picture, edges, constant_values=1)

    longest = max(len(row) for row in rows)
    # A class may have no image at all, and then has an empty row.
    blank = np.ones_like(next(row[0] for row in rows if row))
    lines = [np.concatenate([framed(one) for one in [*row, *[blank] * (longest - len(row))]], axis=1) for row in rows]
    return np.concatenate(lines, axis=0)[:-GAP, :-GAP]


def sheet_figure(sheet: Picture) -> Figure:
    """Draw a sheet of pictures as a figure."""
    figure = new_figure(10.0, 10.0 * sheet.shape[0] / sheet.shape[1] + 0.35)
    show_image(figure.subplots(), sheet, (0, 1), None)
    return figure


def labelled(sets: Mapping[str, ImageSet]) -> bool:
    """Whether the images of all sets have class labels."""
    return all(one.labels is not None for one in sets.values())


def _grid(one: ImageSet, task: Synthesis, by_class: bool) -> Picture:
    """Arrange images in a grid, with a row per class if wanted."""
    if not by_class:
        tiles = _tiles(one.images[: GRID * GRID], task)
        return sheet_of([tiles[start : start + GRID] for start in range(0, GRID * GRID, GRID)] if tiles else [])
    rows = [_tiles(one.images[one.labels == place][:GRID], task) for place in range(len(task.classes))]
    return sheet_of(rows)


def name_rows(axes: Axes, names: Sequence[str], length: int) -> None:
    """Name the rows of a sheet of ``length`` pixels."""
    places = (np.arange(len(names)) + 0.5) * (length + GAP) / len(names)
    axes.set_yticks(places, [plain(name) for name in names])


def name_columns(axes: Axes, names: Sequence[str], length: int) -> None:
    """Name the columns of a sheet of ``length`` pixels."""
    places = (np.arange(len(names)) + 0.5) * (length + GAP) / len(names)
    axes.set_xticks(places, names)


def _labels(task: Synthesis, held: ImageSet, number: int) -> Tensor | None:
    """Return class indices with equal frequencies, (number,); None for tasks without classes."""
    return torch.arange(number) % len(task.classes) if task.classes else None


def _colours(sets: Mapping[str, ImageSet]) -> dict[str, str]:
    """Return a colour for each set; that of real images is the colour of targets in other figures."""
    found = colours({"target" if name == "real" else name: one for name, one in sets.items()})
    return {"real" if name == "target" else name: colour for name, colour in found.items()}


def _called(name: str) -> str:
    return "Generated" if name == OUTPUT else title(name)


def _panel(task: Synthesis, role: str, channel: int) -> str:
    number = task.images[role].channels
    colour = ("red", "green", "blue")[channel] if number == 3 else f"channel {channel + 1}" if number > 1 else ""
    return f"{role if len(task.images) > 1 else ''} {colour}".strip()


def _peaks(made: ImageSet, real: ImageSet) -> Any:
    try:
        return upsampling_peaks(planes(real.images), planes(made.images))
    except ValueError:  # real images without any structure
        return []


def _beside_words(task: Synthesis, by_class: bool) -> str:
    rows = "A row per class. " if by_class else ""
    roles = f"Side by side in every picture: {', '.join(task.images)}. " if len(task.images) > 1 else ""
    return (
        f"Generated images, not picked, beside held-out real ones of the same size. {rows}{roles}Black to white: "
        f"{windows(task)}. Look for images that occur twice, for checkerboards, and for detail that the real ones lack."
    )


def _spectrum_words(made: ImageSet, real: ImageSet) -> str:
    found = _peaks(made, real)
    lines = ", ".join(f"{peak.frequency:.3f} per pixel (+{peak.excess_db:.1f} dB)" for peak in found)
    said = f"Lines that upsampling leaves: {lines}." if found else "No lines that upsampling would leave."
    return (
        f"Power by spatial frequency, from coarse to fine. Too little on the right is blur, too much is noise. {said}"
    )


def _level_table(report: Report, judgement: Judgement) -> None:
    """Add a table of the sliced Wasserstein distance for every level of the pyramid."""
    named = dict.fromkeys(name for row in judgement.scores.rows for name in row.scores)
    sizes = [int(name.split()[-2]) for name in named if name.startswith(f"{SLICED} at ")]
    columns = [Column("method"), *[Column(f"{size} rows", better="lower") for size in sizes]]
    rows: list[list[Cell]] = [
        [title(method), *[judgement.scores.interval(method, level(size)) for size in sizes]]
        for method in judgement.scores.methods
    ]
    report.table(
        rows, columns, caption="Sliced Wasserstein distance by level of the pyramid, from fine detail to coarse shape."
    )
