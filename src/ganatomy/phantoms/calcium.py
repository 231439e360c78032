"""A test object for calcium scoring: cylinders of known size and density in a chest-like body."""

from __future__ import annotations

from itertools import product

import numpy as np

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, Mask, Point, capsule, ellipsoid

DIAMETERS = (1.0, 3.0, 5.0)
"""Diameters of the inserts in mm, which are equal to their lengths."""

DENSITIES = (260.0, 520.0, 1040.0)
"""CT numbers of the inserts in HU: 200, 400 and 800 mg/cm³ of hydroxyapatite at about 1.3 HU per mg/cm³."""

BODY = {"body": 0.0, "lungs": -800.0, "spine": 400.0, "block": 40.0}
"""CT numbers of the parts in HU."""

APART = 24.0  # mm between the axes of neighbouring inserts
BLOCK_Y = -12.0  # mm, centre of the cardiac block
SUPERSAMPLING = 5


class CalciumInserts:
    """An elliptic body of 300 x 200 mm with lungs, spine, and nine calcium cylinders in a cardiac block.

    It is modelled on the anthropomorphic cardiac phantoms on which calcium scoring is tested. The seed rotates the
    inserts and shifts them by a fraction of a voxel, as repositioning of the object on the table would.

    Attributes:
        image: float32 HU, (1, slices, size, size).
        masks: body, lungs, spine, block, inserts, and for each insert, such as "5 mm 260 HU", a region that contains no
            other insert, in which it is scored.
        regions: the block away from the inserts.
        scores: true score by insert: cross-section times weight of its CT number times length over 3 mm.
        volumes_mm3: true volume by insert.
        agatston: sum of the scores.
    """

    def __init__(self, seed: int, size: int = 256, slices: int = 9, spacing_mm: Point | None = None) -> None:
        """Draw the object.

        Args:
            seed: seed of its position.
            size: rows and columns.
            slices: number of axial slices around the middle of the inserts.
            spacing_mm: spacing of slices, rows and columns; by default 1.5 mm and a field of view of 320 mm.

        Raises:
            UserError: a size or spacing is not positive.
        """
        spacing = spacing_mm or (1.5, 320.0 / size, 320.0 / size)
        if min(size, slices) < 1 or min(spacing) <= 0:
            raise UserError(f"a phantom of {slices} x {size} x {size} voxels of {spacing} mm cannot be drawn")
        rng = np.random.default_rng(seed)
        grid = Grid.centred((slices, size, size), spacing)
        outlines = _outlines(grid)
        volume = np.full(grid.shape, -1000.0, np.float32)
        for name, shape in outlines.items():
            volume += grid.coverage(shape) * (BODY[name] - volume)

        self.masks: dict[str, Mask] = {
            name: np.broadcast_to(shape < 0, volume.shape) for name, shape in outlines.items()
        }
        self.masks["inserts"] = np.zeros(volume.shape, bool)
        self.scores: dict[str, float] = {}
        self.volumes_mm3: dict[str, float] = {}
        turn, shift = rng.uniform(-0.4, 0.4), rng.uniform(-0.5, 0.5, 3) * spacing[::-1]
        for (row, diameter), (column, density) in product(enumerate(DIAMETERS), enumerate(DENSITIES)):
            u, v = (column - 1) * APART, (row - 1) * APART
            x = u * np.cos(turn) - v * np.sin(turn) + shift[0]
            y = u * np.sin(turn) + v * np.cos(turn) + BLOCK_Y + shift[1]
            share = _cylinder(grid, spacing, (x, y, shift[2]), diameter)
            volume += share * (density - volume)

            name, area = f"{diameter:g} mm {density:g} HU", np.pi * diameter**2 / 4
            self.masks["inserts"] |= share >= 0.5
            self.masks[name] = np.broadcast_to(np.hypot(grid.x - x, grid.y - y) < APART / 2 - 2, volume.shape)
            self.volumes_mm3[name] = area * diameter
            self.scores[name] = area * min(density // 100, 4) * diameter / 3
        self.agatston = sum(self.scores.values())
        away = np.hypot(grid.x, grid.y - BLOCK_Y)
        self.regions = {"block": np.broadcast_to((away > 39) & (away < 45), volume.shape)}
        self.image = Image.from_array(volume, spacing, unit="HU", header=Header(modality="CT"))


def _outlines(grid: Grid) -> dict[str, Array]:
    """Return distances to the parts of the body in a plane, in the order in which they are painted."""
    x, y = grid.x, grid.y
    body = ellipsoid((x, y), (150, 100))
    spinous = capsule(x, y, (0, 78), (0, 88)) - 4
    return {
        "body": body,
        "lungs": np.maximum(ellipsoid((np.abs(x) - 84, y + 4), (50, 68)), body + 16),
        "spine": np.minimum(np.hypot(x, y - 62) - 17, spinous),
        "block": np.hypot(x, y - BLOCK_Y) - 48,
    }


def _cylinder(grid: Grid, spacing: Point, centre: tuple[float, ...], diameter: float) -> Array:
    """Return the share of each voxel inside an axial cylinder as long as wide, counted on points within the voxel."""
    step = (np.arange(SUPERSAMPLING) + 0.5) / SUPERSAMPLING - 0.5
    x, y, z = (
        axis.reshape(-1, 1) + step * width - middle
        for axis, width, middle in zip((grid.x, grid.y, grid.z), spacing[::-1], centre, strict=True)
    )
    disk = np.hypot(y[:, None, :, None], x[None, :, None, :]) < diameter / 2
    length = (np.abs(z) < diameter / 2).mean(1)
    return np.asarray(length[:, None, None] * disk.mean((2, 3)), np.float32)
