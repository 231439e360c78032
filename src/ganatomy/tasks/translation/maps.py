"""Maps of single values between two contrasts, fitted to training images, which every translator must improve on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq
from scipy.optimize import isotonic_regression

from ganatomy.case import Sample, slab
from ganatomy.images.codecs import Window
from ganatomy.inference.predictor import encoded
from ganatomy.physics import stains
from ganatomy.tasks.restoration.nearness import UNITS_OF_PICTURES
from ganatomy.tasks.translation.task import Translation

Map = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Function from values (input channels, ...) to values (output channels, ...), both in the range of the networks."""

MOST_CASES, MOST_VOXELS = 24, 2**15
"""Largest number of training cases, and approximate largest number of voxels of each, that maps are fitted to."""
BINS = 256
"""Number of intervals of the input's values between which a monotone map is interpolated."""
HISTOGRAMS = "histogram matching"
NORMALISATIONS = (HISTOGRAMS, "Reinhard", "Macenko", "Vahadane")
"""Names of the maps of pictures in colour, which give them the colours of the training pictures."""
CLASSES, MOST_CLASSED = 5, 20_000
"""Number of classes of tissue, and largest number of voxels that they are found in (our choice)."""
MOST_REMEMBERED = 400
"""Largest number of training slices among which the one with the most similar label map is sought."""


class Fitted(NamedTuple):
    """A map with its name and description."""

    name: str
    about: str
    map: Map


def fit_maps(task: Translation, training: Sequence[Sample]) -> list[Fitted]:
    """Fit simple maps of values to training images; nothing where images are missing.

    These are a constant, a linear and a monotone map; and where there are pairs, the mean output of classes of tissue,
    or the output of the training slice whose label map is most similar. Pairs are fitted by least squares. Where no
    case has both images, mean and standard deviation or the histograms of the two sets of images are matched.
    Pictures in colour that are made of pictures in colour are also normalised as slides of histology are, which never
    looks at pairs.

    Args:
        task: task with the roles of the inputs and of the output.
        training: prepared training cases.
    """
    names, channels = (*task.inputs, task.output), task.in_channels
    pairs = [case for case in training if set(names) <= set(case.arrays)][:MOST_CASES]
    if pairs:
        values = np.concatenate([np.concatenate(_voxels(case, names)) for case in pairs], axis=1)
        given, wanted = values[:channels], values[channels:]
        told = f"fitted to the values of {len(pairs)} training pairs"
        linear, monotone = _line(given, wanted), _isotonic(given, wanted)
    else:
        found = [
            [np.concatenate(_voxels(case, group)) for case in training if set(group) <= set(case.arrays)][:MOST_CASES]
            for group in (task.inputs, (task.output,))
        ]
        if not all(found):
            return []
        given, wanted = (np.concatenate(parts, axis=1) for parts in found)
        told = "matched to the values of unpaired training images"
        linear, monotone = _matched_moments(given, wanted), _matched_histogram(given, wanted)
    mean = wanted.mean(axis=1, dtype=np.float64)

    def constant(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return _spread(mean, values.shape[1:])

    maps = [
        Fitted("constant", f"no image at all; {told}", constant),
        Fitted("linear map", f"of single values; {told}", linear),
        Fitted("monotone map", f"of single values; {told}", monotone),
    ]
    if in_colours(task):
        maps += _normalised(wanted)
    if not pairs:
        return maps
    if task.roles[task.input].is_label_map:
        if task.config.fit != "patches":
            alike = "of the training slice with the most similar label map"
            maps.append(Fitted("nearest image", alike, _nearest(task, pairs)))
    else:
        classes = f"{CLASSES} classes of voxels by their input values, each with its mean output; {told}"
        maps.append(Fitted("tissue classes", classes, _classes(given, wanted)))
    return maps


def in_colours(task: Translation) -> bool:
    """Return whether one picture in colour is made of another one, both with a window for all images."""
    roles = [task.roles[name] for name in (*task.inputs, *task.outputs)]
    codecs = [role.codec for role in roles]
    return (
        [role.channels for role in roles] == [3, 3]
        and not any(role.is_label_map for role in roles)
        and all(isinstance(one, Window) and (one.unit or "") in UNITS_OF_PICTURES for one in codecs)
    )


def _normalised(wanted: NDArray[np.float32]) -> list[Fitted]:
    """Return normalisations of each picture by its own colours to those of all training outputs.

    Args:
        wanted: training outputs, (3, n), in the range of the networks, whose upper end is taken for empty glass.
    """
    shares = _shares(wanted)
    target = stains.moments(stains.to_opponent(shares))
    told = "of each picture, matched to those of all training outputs; no pairs are used"

    def by_colour(colours: NDArray[np.float64]) -> NDArray[np.float64]:
        return stains.reinhard(colours, *target)

    levels = np.linspace(0, 1, BINS + 1)
    aimed = np.quantile(shares.reshape(-1, 3), levels, axis=0)

    def by_histogram(colours: NDArray[np.float64]) -> NDArray[np.float64]:
        made = np.empty_like(colours)
        for channel in range(3):
            places, first = np.unique(np.quantile(colours[..., channel], levels), return_index=True)
            made[..., channel] = np.interp(colours[..., channel], places, aimed[first, channel])
        return made

    maps = [
        Fitted(HISTOGRAMS, f"of red, green and blue {told}", _of_each(by_histogram)),
        Fitted("Reinhard", f"mean and SD in lαβ {told}", _of_each(by_colour)),
    ]
    density = stains.optical_density(shares * stains.WHITE)
    for name, find, amounts in (
        ("Macenko", stains.macenko, stains.amounts),
        ("Vahadane", stains.vahadane, stains.sparse_amounts),
    ):
        try:
            own = find(density)
        except ValueError:  # Nothing is stained.
            continue
        strength = stains.strengths(amounts(density, own))

        def by_stain(
            colours: NDArray[np.float64],
            find: Callable[..., NDArray[np.float64]] = find,
            amounts: Callable[..., NDArray[np.float64]] = amounts,
            own: NDArray[np.float64] = own,
            strength: NDArray[np.float64] = strength,
        ) -> NDArray[np.float64]:
            given = stains.optical_density(colours * stains.WHITE)
            try:
                there = find(given)
            except ValueError:  # Empty glass stays as it is.
                return colours
            found = amounts(given, there)
            made = stains.restained(found, stains.strengths(found), own, strength)
            return stains.transmitted(made) / stains.WHITE

        maps.append(Fitted(name, f"haematoxylin, eosin and their 99th percentiles {told}", _of_each(by_stain)))
    return maps


def _shares(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return colours (..., 3) in [0, 1] of channels (3, ...) in the range of the networks."""
    return np.moveaxis(np.asarray((values.clip(-1, 1) + 1) / 2, np.float64), 0, -1)


def _of_each(change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Map:
    """Return the map that changes the colours (rows, columns, 3) of each slice by those of that slice alone."""

    def mapped(values: NDArray[np.float32]) -> NDArray[np.float32]:
        made = [change(_shares(values[:, plane])) for plane in range(values.shape[1])]
        return np.asarray(np.moveaxis(np.stack(made).clip(0, 1), -1, 0) * 2 - 1, np.float32)

    return mapped


def _voxels(case: Sample, names: Sequence[str]) -> list[NDArray[np.float32]]:
    """Return the same voxels of several roles, (channels, n), in the range of the networks."""
    slices, size = case.shape[0], int(np.prod(case.shape))
    planes = np.unique(np.linspace(0, slices - 1, min(slices, 16)).round().astype(int))
    step = max(1, size // slices * len(planes) // MOST_VOXELS)
    found = []
    for name in names:
        parts = [slab(case.arrays[name], int(plane), int(plane) + 1) for plane in planes]
        flat = np.concatenate([part.reshape(len(part), -1)[:, ::step] for part in parts], axis=1)
        found.append(case.role(name).encoded(flat))
    return found


def _spread(numbers: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.broadcast_to(numbers.reshape(-1, *[1] * len(shape)), (len(numbers), *shape)).astype(np.float32)


def _line(given: NDArray[np.float32], wanted: NDArray[np.float32]) -> Map:
    """Return the linear map with the least squared error, of all input channels to each output channel."""
    design = np.concatenate([given, np.ones_like(given[:1])]).T.astype(np.float64)
    weights, *_ = np.linalg.lstsq(design, wanted.T.astype(np.float64), rcond=None)
    slopes, offsets = weights[:-1], weights[-1]

    def linear(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(np.tensordot(slopes.T, values, 1) + _spread(offsets, values.shape[1:]), np.float32)

    return linear


def _isotonic(given: NDArray[np.float32], wanted: NDArray[np.float32]) -> Map:
    """Return the monotone map of the mean input channel with the least squared error, rising or falling."""
    grey = given.mean(axis=0)
    edges = np.unique(np.quantile(grey, np.linspace(0, 1, BINS + 1)))
    bins = np.clip(np.searchsorted(edges, grey, side="right") - 1, 0, max(len(edges) - 2, 0))
    bins = np.unique(bins, return_inverse=True)[1]
    weights = np.bincount(bins).astype(np.float64)
    middles = np.bincount(bins, grey) / weights
    curves = []
    for channel in wanted:
        means = np.bincount(bins, channel) / weights
        fits = [isotonic_regression(means, weights=weights, increasing=rising).x for rising in (True, False)]
        errors = [float(weights @ (fit - means) ** 2) for fit in fits]
        curves.append(fits[int(np.argmin(errors))])
    return _curve(middles, curves)


def _classes(given: NDArray[np.float32], wanted: NDArray[np.float32]) -> Map:
    """Return the map that gives every voxel the mean output of its class, the nearest of those found by k-means."""
    step = max(1, given.shape[1] // MOST_CLASSED)
    scale = np.maximum(given.std(axis=1, dtype=np.float64, keepdims=True), 1e-6)
    seen = (given / scale).T[::step].astype(np.float64)
    centres, labels = kmeans2(seen, CLASSES, minit="++", seed=0, missing="warn")
    there = np.unique(labels)
    means = np.stack([wanted[:, ::step][:, labels == label].mean(axis=1, dtype=np.float64) for label in there])

    def classed(values: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = (values.reshape(len(values), -1) / scale).T
        own = vq(flat, centres[there])[0]
        return np.asarray(means[own].T.reshape(-1, *values.shape[1:]), np.float32)

    return classed


def _nearest(task: Translation, pairs: Sequence[Sample]) -> Map:
    """Return the map that gives every slice the output of the training slice with the most similar label map.

    Similarity is Dice of the channels of all inputs.
    """
    each = max(1, MOST_REMEMBERED // len(pairs))
    seen, made = [], []
    for case in pairs:
        read, wanted = encoded(case, task.inputs), encoded(case, (task.output,))
        for plane in np.unique(np.linspace(0, case.shape[0] - 1, min(each, case.shape[0])).round().astype(int)):
            seen.append(read(int(plane), int(plane) + 1).ravel() > 0)
            made.append(wanted(int(plane), int(plane) + 1)[:, 0])
    known = np.stack(seen).astype(np.float32)
    sizes = known.sum(axis=1)

    def nearest(values: NDArray[np.float32]) -> NDArray[np.float32]:
        shown = (values.swapaxes(0, 1).reshape(values.shape[1], -1) > 0).astype(np.float32)
        dice = 2 * shown @ known.T / np.maximum(shown.sum(axis=1)[:, None] + sizes, 1)
        return np.stack([made[place] for place in dice.argmax(axis=1)], axis=1)

    return nearest


def _matched_moments(given: NDArray[np.float32], wanted: NDArray[np.float32]) -> Map:
    """Return the rising linear map that gives the input channels the mean and SD of the output channels."""
    seen = _facing(given, len(wanted)).astype(np.float64)
    slopes = wanted.std(axis=1, dtype=np.float64) / np.maximum(seen.std(axis=1), 1e-12)
    offsets = wanted.mean(axis=1, dtype=np.float64) - slopes * seen.mean(axis=1)

    def linear(values: NDArray[np.float32]) -> NDArray[np.float32]:
        shape = values.shape[1:]
        return np.asarray(_spread(slopes, shape) * _facing(values, len(wanted)) + _spread(offsets, shape), np.float32)

    return linear


def _matched_histogram(given: NDArray[np.float32], wanted: NDArray[np.float32]) -> Map:
    """Return the rising map that gives the input channels the histograms of the output channels."""
    levels = np.linspace(0, 1, BINS + 1)
    curves = []
    for seen, channel in zip(_facing(given, len(wanted)), wanted, strict=True):
        places = np.quantile(seen, levels)
        first = np.flatnonzero(np.diff(places, prepend=-np.inf) > 0)
        curves.append((places[first], np.quantile(channel, levels)[first]))

    def mapped(values: NDArray[np.float32]) -> NDArray[np.float32]:
        seen = _facing(values, len(curves))
        return np.stack([np.interp(one, *curve) for one, curve in zip(seen, curves, strict=True)]).astype(np.float32)

    return mapped


def _facing(values: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Return the input channel that each output channel is made of: its own, or the mean where numbers differ."""
    if len(values) == channels:
        return values
    return np.broadcast_to(values.mean(axis=0), (channels, *values.shape[1:]))


def _curve(places: NDArray[np.float64], curves: Sequence[NDArray[np.float64]]) -> Map:
    def mapped(values: NDArray[np.float32]) -> NDArray[np.float32]:
        grey = values.mean(axis=0)
        return np.stack([np.interp(grey, places, curve) for curve in curves]).astype(np.float32)

    return mapped
