"""Agreement of objects, such as cells and glands, between a predicted and a true instance map.

Instance maps are arrays of integers of the same shape, (rows, columns) or (slices, rows, columns), in which every
object has a number of its own and 0 is the background. Scores of several images are pooled by adding their counts and
sums. Where neither map has an object the agreement is perfect, where only one has any there is none.

F1, Dice and Hausdorff distance of objects are those of the GlaS challenge, Sirinukunwattana et al., Gland segmentation
in colon histology images, Medical Image Analysis 35, 2017, doi:10.1016/j.media.2016.08.008. No maintained package
computes them; distances are those of scikit-image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy import ndimage

Box = tuple[slice, ...]
Measure = Callable[[int, int], float]


@dataclass(frozen=True)
class Matches:
    """Numbers of predicted, true and matched objects; a sum of several pools their objects."""

    found: int
    true: int
    matched: int

    def __add__(self, other: Matches) -> Matches:
        return Matches(self.found + other.found, self.true + other.true, self.matched + other.matched)

    @property
    def precision(self) -> float:
        """Share of predicted objects that are matched; with none 1 if there are no true ones either, else 0."""
        return self.matched / self.found if self.found else float(not self.true)

    @property
    def recall(self) -> float:
        """Share of true objects that are matched; with none 1 if none are predicted, else 0."""
        return self.matched / self.true if self.true else float(not self.found)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 2 matched / (found + true); 1 if there are no objects at all."""
        total = self.found + self.true
        return 2 * self.matched / total if total else 1.0


@dataclass(frozen=True)
class Weighted:
    """A measure of objects weighted by their areas, from predicted to true objects and back; sums pool images.

    Attributes:
        found: sum over predicted objects of area times measure.
        found_area: area of all predicted objects in pixels.
        true: sum over true objects of area times measure.
        true_area: area of all true objects in pixels.
        empty: value of a direction without objects, where the other one has some.
        perfect: value where there are no objects at all.
    """

    found: float
    found_area: int
    true: float
    true_area: int
    empty: float
    perfect: float

    def __add__(self, other: Weighted) -> Weighted:
        return Weighted(
            self.found + other.found,
            self.found_area + other.found_area,
            self.true + other.true,
            self.true_area + other.true_area,
            self.empty,
            self.perfect,
        )

    @property
    def mean(self) -> float:
        """Mean of both directions."""
        if not (self.found_area or self.true_area):
            return self.perfect
        found = self.found / self.found_area if self.found_area else self.empty
        true = self.true / self.true_area if self.true_area else self.empty
        return 0.5 * (found + true)


class Overlaps:
    """Areas of the objects of two instance maps, and of their intersections.

    Args:
        found: predicted instance map.
        true: true instance map, same shape.

    Raises:
        ValueError: different shapes.
    """

    def __init__(self, found: npt.ArrayLike, true: npt.ArrayLike):
        (self.found, self.found_numbers), (self.true, self.true_numbers) = (
            _compact(np.asarray(numbers)) for numbers in (found, true)
        )
        if self.found.shape != self.true.shape:
            raise ValueError(
                f"instance maps of different shapes cannot be compared: {self.found.shape} and {self.true.shape}"
            )
        rows, columns = len(self.found_numbers) + 1, len(self.true_numbers) + 1
        pairs = self.found.reshape(-1).astype(np.int64) * columns + self.true.reshape(-1)
        table = np.bincount(pairs, minlength=rows * columns).reshape(rows, columns)
        self.found_areas: NDArray[np.int64] = table.sum(axis=1)[1:]
        self.true_areas: NDArray[np.int64] = table.sum(axis=0)[1:]
        self.shared: NDArray[np.int64] = table[1:, 1:]
        """Pixels that are common to each predicted and each true object, (predicted, true)."""

    def matched_by_iou(self, least: float = 0.5) -> Matches:
        """Count the pairs of objects with an intersection over union of at least ``least``.

        Objects have one partner at most, but for two exact halves of one object, of which one counts.

        Raises:
            ValueError: ``least`` is below one half, where partners are not unique.
        """
        if least < 0.5:
            raise ValueError(f"objects may have several partners at an IoU of {least:g}; take 0.5 or more")
        union = self.found_areas[:, None] + self.true_areas - self.shared
        pairs = self.shared >= least * union
        pairs &= self.shared > 0
        matched = min(int(pairs.any(axis=0).sum()), int(pairs.any(axis=1).sum()))
        return Matches(len(self.found_areas), len(self.true_areas), matched)

    def matched_by_cover(self) -> Matches:
        """Count predicted objects that cover more than half of the true object that they share most pixels with.

        This is the rule of the GlaS challenge as its public ports have it. The share is that of the true object, not of
        the union, so that a prediction may be far too large.
        """
        if not self.shared.size:
            return Matches(len(self.found_areas), len(self.true_areas), 0)
        partner = self.shared.argmax(axis=1)
        covered = self.shared[np.arange(len(partner)), partner]
        matched = int((2 * covered > self.true_areas[partner]).sum())
        return Matches(len(self.found_areas), len(self.true_areas), matched)

    def dice(self) -> Weighted:
        """Sum the Dice coefficient of each object and the one of the other map that it shares most pixels with."""
        pairs = 2 * self.shared / np.maximum(self.found_areas[:, None] + self.true_areas, 1)
        found = [row[shared.argmax()] if shared.any() else 0.0 for row, shared in zip(pairs, self.shared, strict=True)]
        true = [
            row[shared.argmax()] if shared.any() else 0.0 for row, shared in zip(pairs.T, self.shared.T, strict=True)
        ]
        return self._weighted(found, true, 0.0, 1.0)

    def hausdorff(self) -> Weighted:
        """Sum the Hausdorff distance in pixels of each object and its partner in the other map.

        The partner is the object with most common pixels, or where there is none, the one at the smallest distance. In
        place of the partner of objects in an otherwise empty map stands the diagonal of the image.
        """
        diagonal = float(np.linalg.norm(self.found.shape))
        boxes = [ndimage.find_objects(numbers) for numbers in (self.found, self.true)]
        kept: dict[tuple[int, int], float] = {}

        def distance(row: int, column: int) -> float:
            if (row, column) not in kept:
                kept[row, column] = self._distance(row, column, boxes[0][row], boxes[1][column])
            return kept[row, column]

        def nearest(number: int, boxes: tuple[list[Box], list[Box]], measure: Measure) -> float:
            """Return the distance to the nearest object, trying those first whose boxes are close."""
            bounds = np.array([_bound(boxes[0][number], other) for other in boxes[1]])
            best = math.inf
            for other in np.argsort(bounds):
                if bounds[other] >= best:
                    break
                best = min(best, measure(number, int(other)))
            return best

        if not self.shared.size:
            far, away = ([diagonal] * len(areas) for areas in (self.found_areas, self.true_areas))
            return self._weighted(far, away, diagonal, 0.0)
        found = [
            distance(row, int(shared.argmax())) if shared.any() else nearest(row, (boxes[0], boxes[1]), distance)
            for row, shared in enumerate(self.shared)
        ]
        true = [
            distance(int(shared.argmax()), column)
            if shared.any()
            else nearest(column, (boxes[1], boxes[0]), lambda one, other: distance(other, one))
            for column, shared in enumerate(self.shared.T)
        ]
        return self._weighted(found, true, diagonal, 0.0)

    def _distance(self, row: int, column: int, first: Box, second: Box) -> float:
        """Return the Hausdorff distance between a predicted and a true object in pixels."""
        from skimage.metrics import hausdorff_distance

        box = tuple(
            slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True)
        )  # fmt: skip
        masks = self.found[box] == row + 1, self.true[box] == column + 1
        return float(hausdorff_distance(*masks))  # type: ignore[no-untyped-call]

    def _weighted(self, found: list[float], true: list[float], empty: float, perfect: float) -> Weighted:
        areas = self.found_areas, self.true_areas
        return Weighted(
            float(np.dot(areas[0], found)),
            int(areas[0].sum()),
            float(np.dot(areas[1], true)),
            int(areas[1].sum()),
            empty,
            perfect,
        )


def matched_by_iou(found: npt.ArrayLike, true: npt.ArrayLike, least: float = 0.5) -> Matches:
    """Count objects of two instance maps that match with an intersection over union of at least ``least``.

    Raises:
        ValueError: different shapes.
    """
    return Overlaps(found, true).matched_by_iou(least)


def _compact(numbers: NDArray[np.generic]) -> tuple[NDArray[np.int32], NDArray[np.generic]]:
    """Number the objects of a map from 1 on without gaps; returns the map and the old numbers in that order."""
    there, places = np.unique(numbers, return_inverse=True)
    background = there == 0
    new = np.where(background, 0, np.cumsum(~background)).astype(np.int32)
    return new[places].reshape(numbers.shape), there[~background]


def _bound(first: Box, second: Box) -> float:
    """Return a lower bound of the Hausdorff distance between objects, from the ends of their boxes."""
    return float(
        max(max(abs(a.start - b.start), abs(a.stop - b.stop)) for a, b in zip(first, second, strict=True))
    )  # fmt: skip
