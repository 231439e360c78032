"""A statistical shape model of vessels: principal components with normal coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganatomy.physics.centreline import Centreline

PLACES = 128
"""Number of equally spaced landmarks along a vessel, which correspond between vessels."""
KEPT = 0.98
"""Share of the variance that the components explain."""
THINNEST_MM = 0.05
"""Lower limit of radii in mm, needed since their logarithm is modelled."""

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """Mean and principal components of vessel descriptions, see `describe`.

    A vessel is described by its directions and the logarithms of its radii at `PLACES` landmarks, and by the logarithm
    of its length, which has the weight of all radii together. Landmarks at equal shares of the length correspond
    between vessels of any length, unlike the samples of padded signals.

    Source: after Cootes et al., Active shape models, CVIU 61(1):38-59, 1995, with arc length for the landmarks.

    Attributes:
        mean: mean description, (4 · `PLACES` + 1,).
        components: unit vectors, (kept, 4 · `PLACES` + 1).
        deviations: standard deviations of the coefficients, (kept,).
    """

    mean: Array
    components: Array
    deviations: Array

    @classmethod
    def of(cls, lines: Sequence[Centreline], kept: float = KEPT) -> ShapeModel:
        """Fit the model to vessels.

        Args:
            lines: two or more centre-lines, each of two or more different points.
            kept: share of the variance that the components explain.
        """
        rows = np.stack([describe(line) for line in lines])
        mean = rows.mean(axis=0)
        _, sizes, components = np.linalg.svd(rows - mean, full_matrices=False)
        variances = sizes**2 / (len(rows) - 1)
        number = int(np.searchsorted(np.cumsum(variances), kept * variances.sum() * (1 - 1e-12))) + 1
        return cls(mean, components[:number], np.sqrt(variances[:number]))

    def sample(self, count: int, rng: np.random.Generator) -> list[Centreline]:
        """Sample vessels with the ostium at the origin.

        Args:
            count: number of vessels.
            rng: generator of the coefficients.
        """
        drawn = rng.standard_normal((count, len(self.deviations))) * self.deviations
        return [restore(row) for row in self.mean + drawn @ self.components]


def describe(line: Centreline) -> Array:
    """Describe a vessel by 4 · `PLACES` + 1 numbers: directions, log radii, and the weighted log length in mm."""
    line = line.without_repeats()
    arc = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(line.points, axis=0), axis=1)))
    edges = np.linspace(0, arc[-1], PLACES + 1)
    points = np.stack([np.interp(edges, arc, axis) for axis in line.points.T], axis=1)
    middles = (edges[1:] + edges[:-1]) / 2
    radii = np.log(np.maximum(np.interp(middles, arc, line.radii), THINNEST_MM))
    directions = np.diff(points, axis=0) / (arc[-1] / PLACES)
    return np.concatenate([directions.ravel(), radii, [np.log(arc[-1]) * np.sqrt(PLACES)]])


def restore(numbers: Array) -> Centreline:
    """Reconstruct a vessel from the numbers of `describe`."""
    length = float(np.exp(numbers[-1] / np.sqrt(PLACES)))
    directions = numbers[: 3 * PLACES].reshape(PLACES, 3)
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    points = np.vstack([np.zeros(3), np.cumsum(directions, axis=0) * (length / PLACES)])
    edges, middles = np.arange(PLACES + 1), np.arange(PLACES) + 0.5
    return Centreline(points, np.exp(np.interp(edges, middles, numbers[3 * PLACES : -1])))
