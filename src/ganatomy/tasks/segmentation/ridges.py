"""Frangi's filter, which finds thin lines such as vessels without training: the classical method for them.

Frangi, Niessen, Vincken & Viergever, Multiscale vessel enhancement filtering, MICCAI 1998, LNCS 1496:130-137,
doi:10.1007/BFb0056195, as scikit-image computes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganatomy.case import Sample, Volume, slab
from ganatomy.evaluation.judging import Classical
from ganatomy.metrics.metric import Mask
from ganatomy.metrics.segmentation import count_overlap
from ganatomy.tasks.segmentation.task import Segmentation

FRANGI = "Frangi's filter"
"""Name of the method."""
WIDTHS = ((1.0,), (1.0, 2.0), (1.0, 2.0, 3.0), (2.0, 3.0, 4.0, 5.0))
"""SDs in pixels of the scales that the filter chooses from; a line about three of them wide responds most."""
FITTED = 8
"""Largest number of training cases, evenly chosen, on which its level and its side are fitted."""
SHARES = np.geomspace(0.005, 0.5, 40)
"""Shares of the pixels with the strongest responses that are tried as lines."""
AROUND = 8.0
"""SD in pixels of the Gaussian that continues an image beyond its field of view."""


@dataclass(frozen=True)
class RidgeFilter:
    """Finds thin lines in slices by the response of Frangi's filter to one channel of the first input.

    Attributes:
        task: task with the input and the region of the lines.
        widths: SDs of the scales in pixels.
        dark: whether lines are darker than what surrounds them.
        level: response from which a pixel belongs to a line.
    """

    task: Segmentation
    widths: tuple[float, ...]
    dark: bool = True
    level: float = 0.5

    def response(self, case: Sample, start: int, stop: int) -> NDArray[np.float32]:
        """Return the response in some slices, (slices, rows, columns), from 0 for no line."""
        from skimage.filters import frangi

        values, field = channel(self.task, case, start, stop), _field(self.task, case, start, stop)
        found = [
            frangi(continued(image, inside), sigmas=self.widths, black_ridges=self.dark)  # type: ignore[no-untyped-call]
            for image, inside in zip(values, field, strict=True)
        ]
        return np.asarray(np.where(field, np.stack(found), 0), np.float32)

    def __call__(self, case: Sample, start: int, stop: int) -> NDArray[np.bool_]:
        """Return the mask of all lines in some slices, (1, slices, rows, columns)."""
        return np.asarray(self.response(case, start, stop) >= self.level)[None]

    def ranks(self, case: Sample, start: int, stop: int) -> dict[str, Volume]:
        """Return scores in [0, 1) by which pixels are ranked: one half at the level."""
        response = self.response(case, start, stop)
        (region,) = self.task.judged.names
        return {region: response / (response + self.level)}


def frangi_filter(task: Segmentation, training: Sequence[Sample], entry: Callable[..., Any]) -> Classical:
    """Return Frangi's filter for lines of several widths, each with the side and the level that fit training best.

    Args:
        task: task with a single judged region.
        training: training cases with label maps.
        entry: class of the entries.
    """
    places = np.unique(np.linspace(0, len(training) - 1, min(len(training), FITTED)).astype(int))
    cases = [training[place] for place in places]
    settings: list[tuple[str, Callable[..., Any]]] = []
    for widths in WIDTHS:
        fitted = [_fitted(RidgeFilter(task, widths, dark), cases) for dark in (True, False)]
        best, dice = max(fitted, key=lambda one: one[1])
        side, scales = "dark" if best.dark else "bright", " ".join(f"{width:g}" for width in widths)
        settings.append((f"{side} lines at scales of {scales} pixels, Dice {dice:.3f} in training", best))
    return Classical(
        FRANGI, "multi-scale filter of thin lines; side and level fitted on training cases", settings, entry
    )


def _fitted(ridges: RidgeFilter, cases: Sequence[Sample]) -> tuple[RidgeFilter, float]:
    """Return the filter with the level of the largest mean Dice over cases, and that Dice."""
    responses, parts = [], []
    for case in cases:
        stop = case.shape[0]
        responses.append(ridges.response(case, 0, stop))
        nothing = np.zeros((1, *case.shape), np.bool_)
        parts.append(ridges.task.compared(nothing, ridges.task.annotation(case, 0, stop)))
    known = [next(iter(part.values())) if part else None for part in parts]
    pooled = np.concatenate([one[part.known] for one, part in zip(responses, known, strict=True) if part is not None])
    levels = np.unique(np.quantile(pooled, 1 - SHARES))
    levels = levels[levels > 0]
    if not levels.size:
        return ridges, 0.0
    dice = [
        np.mean([count_overlap(one >= level, part.true, part.known).dice
                 for one, part in zip(responses, known, strict=True) if part is not None])
        for level in levels
    ]  # fmt: skip
    best = int(np.argmax(dice))
    return RidgeFilter(ridges.task, ridges.widths, ridges.dark, float(levels[best])), float(dice[best])


def channel(task: Segmentation, case: Sample, start: int, stop: int) -> Volume:
    """Return slices of the first input as networks see them: green of a picture in colour, where vessels stand out."""
    values = case.role(task.given).encoded(slab(case.arrays[task.given], start, stop))
    return np.asarray(values[1] if len(values) == 3 else values.mean(axis=0), np.float32)


def continued(image: NDArray[np.float32], inside: Mask) -> NDArray[np.float32]:
    """Continue an image beyond its field of view by local means, so that its border is no line.

    Args:
        image: (rows, columns).
        inside: the field of view, same shape.
    """
    if inside.all() or not inside.any():
        return image
    weight = ndimage.gaussian_filter(inside.astype(np.float32), AROUND)
    mean = ndimage.gaussian_filter(np.where(inside, image, 0), AROUND) / np.maximum(weight, 1e-6)
    # Far from the field nothing weighs anything: there the nearest pixel inside counts.
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    outside = np.where(weight > 1e-3, mean, mean[tuple(nearest)])
    return np.asarray(np.where(inside, image, outside), np.float32)


def _field(task: Segmentation, case: Sample, start: int, stop: int) -> Mask:
    """Return the field of view of some slices, (slices, rows, columns); everything where a case has none."""
    name = task.config.field_of_view
    if name is None or name not in case.arrays:
        return np.ones((stop - start, *case.shape[1:]), np.bool_)
    return np.asarray(slab(case.arrays[name], start, stop)[0] > 0)
