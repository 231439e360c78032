"""Outlines of many objects in one plane, such as cells and glands, which may touch but do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganatomy.phantoms.shapes import Array, Grid, Waves, star, undulations

TRIES = 200
"""Number of places that are tried for an object before the plane is full."""


@dataclass(frozen=True)
class Outline:
    """The outline of an object around a place in the plane.

    Attributes:
        x, y: its middle in mm.
        radius: its mean radius in mm.
        waves: undulations of the radius, (1, orders), for `star`.
    """

    x: float
    y: float
    radius: float
    waves: Waves

    def distance(self, grid: Grid) -> Array:
        """Return the signed distance to the outline in mm, negative inside, (1, rows, columns)."""
        return star(grid.x - np.float32(self.x), grid.y - np.float32(self.y), self.radius, self.waves)


def placed_outlines(
    rng: np.random.Generator,
    count: int,
    width: float,
    radii: tuple[float, float],
    *,
    ragged: float,
    orders: int = 3,
    touching: float = 0.0,
    gap: float = 1.15,
) -> list[Outline]:
    """Place up to a number of objects in a square, of which some touch an earlier one.

    Args:
        rng: source of random numbers.
        count: number of objects that are wanted; there are fewer where no room is left.
        width: edge of the square in mm, around (0, 0).
        radii: smallest and largest mean radius in mm.
        ragged: SD of the logarithm of the radius along the outline that the first undulation contributes.
        orders: number of undulations, from the one with two periods on.
        touching: share of the objects that are placed beside an earlier one, so that outlines touch.
        gap: smallest distance between the middles of other objects, as a multiple of the sum of their radii.
    """
    found: list[Outline] = []
    for _ in range(TRIES):
        if len(found) == count:
            break
        radius, waves = rng.uniform(*radii), undulations(rng, 1, orders, ragged)
        beside = found[int(rng.integers(len(found)))] if found and rng.random() < touching else None
        if beside is None:
            x, y = rng.uniform(-width / 2, width / 2, 2)
        else:
            turn, apart = rng.uniform(0, 2 * np.pi), 0.95 * (beside.radius + radius)
            x, y = beside.x + apart * np.cos(turn), beside.y + apart * np.sin(turn)
        inside = max(abs(x), abs(y)) < width / 2
        free = all(
            np.hypot(x - other.x, y - other.y) > (radius + other.radius) * (0.94 if other is beside else gap)
            for other in found
        )
        if inside and free:
            found.append(Outline(float(x), float(y), float(radius), waves))
    return found


def numbered(grid: Grid, outlines: Sequence[Outline]) -> tuple[NDArray[np.uint16], list[Array]]:
    """Return an instance map of objects, each pixel with the deepest one, and the distance to each outline.

    Args:
        grid: grid with one slice.
        outlines: objects, which get numbers from 1 on.

    Returns:
        Numbers, uint16 (1, rows, columns); signed distances in mm, (1, rows, columns) each.
    """
    distances = [outline.distance(grid) for outline in outlines]
    numbers = np.zeros(grid.shape, np.uint16)
    deepest = np.zeros(grid.shape, np.float32)
    for number, distance in enumerate(distances, 1):
        closer = distance < deepest
        numbers[closer], deepest[closer] = number, distance[closer]
    return numbers, distances
