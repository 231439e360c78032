"""Living cells without a stain, seen by a phase-contrast and by a DIC microscope."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.objects import Outline, numbered, placed_outlines
from ganatomy.phantoms.shapes import Array, Grid, Mask, ellipsoid, fields
from ganatomy.physics import phase

PIXEL = 0.0005  # mm
RADII = (0.0035, 0.0075)  # mm, mean radii of cells
DENSITY = (20, 80)  # smallest and largest number of cells on 256 x 256 pixels
HALO = 0.005  # mm, SD of the blur by the phase ring
SHEAR, ANGLE = 0.0003, np.pi / 4  # mm and radians, between the beams of the DIC microscope
POINT_SPREAD = 0.0003  # mm, SD of the point spread of the DIC microscope
THIN = 0.05  # share of the largest phase above which a pixel belongs to a cell
LEVELS = {"phase_contrast": 110.0, "dic": 128.0}
"""Image to the value of a blank field."""


class LiveCells:
    """A field of living cells in culture: the same cells by two microscopes, in perfect register unless they drift.

    Cells delay light and hardly absorb any. Flat cells are faint. Round ones that divide are thick: bright halos
    surround them in phase contrast, and one side is bright and the other dark in DIC. Cells have a nucleus and
    vesicles, some touch, and debris between them is as contrasted as vesicles are. Light is uneven, otherwise in each
    microscope. Phases are larger than those for which the images would be linear in them.

    Attributes:
        images: "phase_contrast" in positive contrast, and "dic" with the shear along 45 degrees; 0 to 255, float32,
            (1, 1, size, size).
        image: the former.
        phase: phase in radians, (1, size, size).
        instances: "cells", the number of the cell that each pixel belongs to, uint16 (1, size, size).
        masks: "cells", where the phase of cells exceeds 5 % of its largest value.
        regions: empty, since nothing is uniform.
    """

    def __init__(self, seed: int, *, size: int = 128, noise: float = 2.0, drift: float = 0.0) -> None:
        """Draw a field.

        Args:
            seed: seed of the field.
            size: rows and columns of 0.5 µm, at least 16.
            noise: SD of the noise of a blank field.
            drift: largest distance in pixels, along either axis, by which the DIC image is moved.

        Raises:
            UserError: the noise or the drift is negative, or the image is too small.
        """
        if size < 16 or noise < 0 or drift < 0:
            raise UserError(f"cells on {size} pixels with noise {noise:g} and drift {drift:g} cannot be drawn")
        place_rng, look_rng, debris_rng, light_rng, camera_rng = np.random.default_rng(seed).spawn(5)
        grid, width = Grid.centred((1, size, size), (1.0, PIXEL, PIXEL)), size * PIXEL
        wanted = max(2, round(float(place_rng.uniform(*DENSITY)) * (size / 256) ** 2))
        outlines = placed_outlines(place_rng, wanted, width, RADII, ragged=0.13, touching=0.35)
        numbers, distances = numbered(grid, outlines)
        cells = np.zeros(grid.shape, np.float32)
        for number, (outline, distance) in enumerate(zip(outlines, distances, strict=True), 1):
            cells += _thickness(look_rng, grid, outline, distance) * (numbers == number)
        cells = np.asarray(ndimage.gaussian_filter(cells, (0, 0.8, 0.8)), np.float32)
        # Debris is no cell, and both microscopes show it.
        self.phase: Array = np.asarray(phase.phase_of(cells + _debris(debris_rng, grid, width)), np.float32)
        inside: Mask = (cells > THIN * cells.max()) & (numbers > 0)
        moved = np.asarray(camera_rng.uniform(-1, 1, 2)) * drift
        shown = {
            "phase_contrast": phase.phase_contrast(self.phase[0], HALO / PIXEL) / phase.RING**2,
            "dic": 2 * phase.dic(_shifted(self.phase[0], moved), SHEAR / PIXEL, ANGLE, blur=POINT_SPREAD / PIXEL),
        }
        self.images = {}
        for name, values in shown.items():
            light = LEVELS[name] * values * _illumination(light_rng, size)
            # Shot noise: its variance is in proportion to the light.
            light += noise * np.sqrt(np.maximum(values, 0)) * camera_rng.standard_normal(values.shape)
            array = np.asarray(light.clip(0, 255), np.float32)[None, None]
            self.images[name] = Image.from_array(array, (1.0, PIXEL, PIXEL), header=Header(modality="GM"))
        self.image = self.images["phase_contrast"]
        self.instances = {"cells": np.where(inside, numbers, 0).astype(np.uint16)}
        self.masks: dict[str, Mask] = {"cells": inside}
        self.regions: dict[str, Mask] = {}


def _thickness(rng: np.random.Generator, grid: Grid, outline: Outline, distance: Array) -> Array:
    """Return the optical thickness of a cell in µm: half an ellipsoid with a nucleus and vesicles."""
    depth = np.clip(-distance / outline.radius, 0, 1)
    dividing = rng.random() < 0.15
    high = rng.uniform(6, 8) if dividing else rng.uniform(2, 4.5)
    profile = np.sqrt(depth * (2 - depth)) if dividing else depth * (2 - depth)
    turn, away = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3) * outline.radius
    x, y = (
        grid.x - np.float32(outline.x + away * np.cos(turn)),
        grid.y - np.float32(outline.y + away * np.sin(turn)),
    )
    nucleus = ellipsoid((x, y), tuple(outline.radius * rng.uniform(0.35, 0.5, 2)))
    denser = 1 + rng.uniform(0.1, 0.2) * (0 if dividing else 1) * grid.coverage(nucleus)
    vesicles = np.maximum(fields(rng, grid.shape, 0.0006 / grid.pixel) - 1, 0)
    return np.asarray(high * profile * denser * (1 + 0.12 * vesicles), np.float32)


def _debris(rng: np.random.Generator, grid: Grid, width: float) -> Array:
    """Return the optical thickness in µm of small particles anywhere in the field."""
    thickness = np.zeros(grid.shape, np.float32)
    for _ in range(int(rng.poisson(12 * (width / (256 * PIXEL)) ** 2))):
        x, y = rng.uniform(-width / 2, width / 2, 2)
        radius = rng.uniform(0.0006, 0.0014)
        apart = ((grid.x - np.float32(x)) ** 2 + (grid.y - np.float32(y)) ** 2) / np.float32(radius**2)
        thickness += np.float32(rng.uniform(0.5, 1.5)) * np.exp(-apart)
    return thickness


def _illumination(rng: np.random.Generator, size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return uneven light, a polynomial of second order that changes by up to about 10 %."""
    along = np.linspace(-1, 1, size)
    y, x = along[:, None], along
    parts = rng.uniform(-0.05, 0.05, 5)
    return np.asarray(1 + parts[0] * x + parts[1] * y + parts[2] * x * y + parts[3] * x**2 + parts[4] * y**2)


def _shifted(values: Array, by: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Array:
    return np.asarray(ndimage.shift(values, by, order=3, mode="nearest")) if np.any(by) else values
