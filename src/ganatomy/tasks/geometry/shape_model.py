"""A statistical shape model of vessels: principal components with normal coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganatomy.physics.centreline import Centreline

PLACES = 128
"""Places along a vessel, at equal shares of its length, which correspond from vessel to vessel."""
KEPT = 0.98
"""Share of the variance that the components keep."""
THINNEST_MM = 0.05
"""Radii are taken for at least this, as their logarithm is modelled."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Mean and principal components of what describes a vessel.

    A vessel is described by its directions at `PLACES` equal shares of its length, the logarithms of its radii there,
    and the logarithm of its length, which weighs as much as a radius everywhere. So places correspond whatever the
    length, which padded signals would not allow.

    Source: after Cootes et al., Active shape models, CVIU 61(1):38-59, 1995, with arc length for the landmarks.

    Attributes:
        mean: (4 · `PLACES` + 1,), see `describe`.
        components: (kept, same), unit vectors.
        deviations: (kept,), standard deviations of the coefficients.
    """

    mean: Array
    components: Array
    deviations: Array

    @classmethod
    def of(cls, lines: Sequence[Centreline], kept: float = KEPT) -> ShapeModel:
        """Fit the model to vessels.

        Args:
            lines: two or more, each of two or more different points.
            kept: share of the variance.
        """
        rows = np.stack([describe(line) for line in lines])
        mean = rows.mean(axis=0)
        _, sizes, components = np.linalg.svd(rows - mean, full_matrices=False)
        variances = sizes**2 / (len(rows) - 1)
        number = int(np.searchsorted(np.cumsum(variances), kept * variances.sum() * (1 - 1e-12))) + 1
        return cls(mean, components[:number], np.sqrt(variances[:number]))

    def sample(self, count: int, rng: np.random.Generator) -> list[Centreline]:
        """New vessels, whose ostium is the origin.

        Args:
            count: how many.
            rng: draws the coefficients.
        """
        drawn = rng.standard_normal((count, len(self.deviations))) * self.deviations
        return [restore(row) for row in self.mean + drawn @ self.components]


def describe(line: Centreline) -> Array:
    """A vessel in 4 · `PLACES` + 1 numbers: directions, logarithms of radii, and that of the length in mm."""
    line = line.without_repeats()
    arc = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(line.points, axis=0), axis=1)))
    edges = np.linspace(0, arc[-1], PLACES + 1)
    points = np.stack([np.interp(edges, arc, axis) for axis in line.points.T], axis=1)
    middles = (edges[1:] + edges[:-1]) / 2
    radii = np.log(np.maximum(np.interp(middles, arc, line.radii), THINNEST_MM))
    directions = np.diff(points, axis=0) / (arc[-1] / PLACES)
    return np.concatenate([directions.ravel(), radii, [np.log(arc[-1]) * np.sqrt(PLACES)]])


def restore(numbers: Array) -> Centreline:
    """The vessel of numbers as `describe` gives them."""
    length = float(np.exp(numbers[-1] / np.sqrt(PLACES)))
    directions = numbers[: 3 * PLACES].reshape(PLACES, 3)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    points = np.vstack([np.zeros(3), np.cumsum(directions, axis=0) * (length / PLACES)])
    edges, middles = np.arange(PLACES + 1), np.arange(PLACES) + 0.5
    return Centreline(points, np.exp(np.interp(edges, middles, numbers[3 * PLACES : -1])))
