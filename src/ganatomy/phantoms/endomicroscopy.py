"""Mosaics of confocal endomicroscopy: crypts of the colon with their cells, after an injection of fluorescein."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, Mask, fields, ramp

WIDTH = 0.5  # mm across the mosaic
PITCH = 0.105  # mm between neighbouring crypts
CELL = 0.0095  # mm, width of a cell of the epithelium

# Brightness from 0 to 255 of tissues stained with fluorescein: vessels most, then the lamina propria, cells less,
# mucus hardly (our choice).
VESSEL, LAMINA, CELLS, GOBLET, LUMEN = 225.0, 150.0, 95.0, 30.0, 45.0


class EndomicroscopyMosaic:
    """Crypts of one person's colon in face-on view, with other crypts in every slice.

    Each crypt is a ring of cells around its lumen, some of them dark goblet cells; capillaries run between the crypts.

    Attributes:
        image: brightness from 0 to 255, float32, (1, slices, size, size).
        images: "image", and "elsewhere", as many mosaics of other places in the person's colon.
        masks: "crypts", "lumen", "vessels" of "image".
        regions: empty, since nothing is uniform.
    """

    def __init__(self, seed: int, *, size: int = 128, slices: int = 1, noise: float = 2.0) -> None:
        """Draw the mosaics.

        Args:
            seed: seed of the person.
            size: rows and columns over 0.5 mm, at least 16.
            slices: number of mosaics.
            noise: SD of the noise.

        Raises:
            UserError: the noise is negative or the image is too small.
        """
        if size < 16 or slices < 1 or noise < 0:
            raise UserError(f"{slices} mosaics of {size} pixels with noise {noise:g} cannot be drawn")
        pixel = WIDTH / size
        grid = Grid.centred((1, size, size), (1.0, pixel, pixel))
        drawn = [_draw(rng, grid, noise) for rng in np.random.default_rng(seed).spawn(2 * slices)]
        values = np.concatenate([mosaic for mosaic, _ in drawn])
        self.masks: dict[str, Mask] = {
            name: np.concatenate([masks[name] for _, masks in drawn[:slices]])
            for name in ("crypts", "lumen", "vessels")
        }
        self.image, elsewhere = (
            Image.from_array(part, (1.0, pixel, pixel), header=Header(modality="ES"))
            for part in (values[:slices], values[slices:])
        )
        self.images = {"image": self.image, "elsewhere": elsewhere}
        self.regions: dict[str, Mask] = {}


def _draw(rng: np.random.Generator, grid: Grid, noise: float) -> tuple[Array, dict[str, Mask]]:
    """Draw one mosaic, (1, rows, columns), and its masks."""
    x, y = (
        np.broadcast_to(axis, grid.shape) + 0.006 * fields(rng, grid.shape, 0.03 / grid.pixel)
        for axis in (grid.x, grid.y)
    )
    centres = _crypts(rng)
    (near, far), (own, _) = np.moveaxis(np.asarray(cKDTree(centres).query(np.stack([x, y], -1), 2)), -1, 1)
    number = own.astype(np.intp)
    turn = np.arctan2(y - centres[number, 1], x - centres[number, 0])

    count = len(centres)
    size, flat, axis = rng.uniform(0.4, 0.455, count), rng.normal(0, 0.08, count), rng.uniform(0, np.pi, count)
    radius = PITCH * size[number] * (1 + flat[number] * np.cos(2 * (turn - axis[number])))
    depth = near / radius
    cells = np.rint(2 * np.pi * 0.8 * PITCH * size / CELL)
    phase = turn * cells[number] / (2 * np.pi) + rng.random(count)[number]
    across, which = phase % 1 - 0.5, np.floor(phase).astype(np.intp)
    goblets = rng.random((count, 256)) < 0.4
    goblet = goblets[number, which % 256] * ramp(np.hypot(across / 0.42, (depth - 0.68) / 0.2), 1.15, 0.75)

    hollow = rng.uniform(0.2, 0.34, count)[number] * (1 + 0.3 * np.cos(3 * turn + axis[number]))
    walls = ramp(np.abs(across), 0.3, 0.5)
    tissue = CELLS * (1 + 0.35 * walls + 0.25 * ramp(depth, 0.75, 1.0)) + 8 * fields(
        rng, grid.shape, 0.003 / grid.pixel
    )
    tissue = tissue + (GOBLET - tissue) * goblet
    tissue = tissue + (LUMEN - tissue) * ramp(depth, hollow + 0.06, hollow - 0.06)

    between = LAMINA * (1 + 0.12 * fields(rng, grid.shape, 0.006 / grid.pixel))
    between = between - 55 * ramp(fields(rng, grid.shape, 0.0035 / grid.pixel), 1.0, 1.8)
    vessel = ramp(far - near + 0.004 * fields(rng, grid.shape, 0.02 / grid.pixel), 0.014, 0.007) * (depth > 1)
    between = between + (VESSEL - between) * vessel

    edge = 0.5 * grid.pixel / radius + 0.02
    inside = ramp(depth, 1 + edge, 1 - edge)
    light = 1 + 0.08 * fields(rng, grid.shape, 0.15 / grid.pixel)
    values = (between + (tissue - between) * inside) * light
    values = values + noise * rng.standard_normal(grid.shape, np.float32)
    masks = {"crypts": depth < 1, "lumen": depth < hollow, "vessels": (vessel > 0.5) & (depth > 1)}
    return np.asarray(values.clip(0, 255), np.float32), masks


def _crypts(rng: np.random.Generator) -> Array:
    """Return the centres (x, y) of crypts on a jittered hexagonal lattice that extends beyond the mosaic."""
    half = int(WIDTH / PITCH) + 2
    rows, columns = np.meshgrid(np.arange(-half, half + 1), np.arange(-half, half + 1), indexing="ij")
    lattice = np.stack([columns + 0.5 * (rows % 2), rows * np.sqrt(0.75)], -1).reshape(-1, 2) * PITCH
    turn = rng.uniform(0, np.pi / 3)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = lattice + rng.normal(0, 0.035 * PITCH, lattice.shape) + rng.uniform(-PITCH, PITCH, 2)
    return np.asarray(moved @ rotation, np.float32)
