"""Bright-field images of spheroids: clusters of cells of varying size, shape and density, some of them touching."""

from __future__ import annotations

import numpy as np

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.objects import Outline, numbered, placed_outlines
from ganatomy.phantoms.shapes import Array, Grid, Mask, fields, ramp

WIDTH = 1.6  # mm across the image
LIGHT = 170.0  # value of the empty medium, of 255
RADII = (0.07, 0.2)  # mm, radii of spheroids
MOST = 9  # largest number of spheroids in an image


class BrightFieldSpheroids:
    """A well with spheroids in transmitted light.

    Spheroids absorb light in proportion to their thickness, from hardly to strongly, are grainy, and have a dark edge
    with a bright seam around it. Shadows of clusters out of focus and specks of debris are as dark but no spheroids,
    and the illumination is uneven, so that no threshold separates them.

    Attributes:
        image: brightness from 0 to 255, float32, (1, 1, size, size).
        images: `image` by its name, "image".
        instances: "spheroids", the number of the spheroid that each pixel belongs to, uint16 (1, size, size).
        masks: "spheroids", all of them together.
        regions: empty, since nothing is uniform.
    """

    def __init__(self, seed: int, *, size: int = 128, noise: float = 3.0) -> None:
        """Draw a well.

        Args:
            seed: seed of the well.
            size: rows and columns over 1.6 mm, at least 16.
            noise: SD of the camera's noise.

        Raises:
            UserError: the noise is negative or the image is too small.
        """
        if size < 16 or noise < 0:
            raise UserError(f"spheroids on {size} pixels with noise {noise:g} cannot be drawn")
        place_rng, look_rng, light_rng, camera_rng = np.random.default_rng(seed).spawn(4)
        pixel = WIDTH / size
        grid = Grid.centred((1, size, size), (1.0, pixel, pixel))
        outlines = placed_outlines(
            place_rng, int(place_rng.integers(3, MOST + 1)), WIDTH, RADII, ragged=0.06, orders=7, touching=0.45
        )
        numbers, distances = numbered(grid, outlines)
        density = _debris(light_rng, grid)
        for outline, distance in zip(outlines, distances, strict=True):
            density = density + _spheroid(look_rng, grid, outline, distance)
        light = LIGHT * (1 + 0.1 * fields(light_rng, grid.shape, 0.5 / pixel)) * np.exp(-density)
        values = light + noise * camera_rng.standard_normal(grid.shape, np.float32)
        self.image = Image.from_array(
            np.asarray(values.clip(0, 255), np.float32), (1.0, pixel, pixel), header=Header(modality="GM")
        )
        self.images = {"image": self.image}
        self.instances = {"spheroids": numbers}
        self.masks: dict[str, Mask] = {"spheroids": numbers > 0}
        self.regions: dict[str, Mask] = {}


def _spheroid(rng: np.random.Generator, grid: Grid, outline: Outline, distance: Array) -> Array:
    """Return the optical density of a spheroid: its thickness times its grain, a dark edge and a bright seam."""
    depth = np.clip(-distance / outline.radius, 0, 1)
    thickness = np.sqrt(depth * (2 - depth))
    grain = fields(rng, grid.shape, rng.uniform(0.008, 0.016) / grid.pixel)
    absorbed = rng.uniform(0.12, 0.7) * thickness * (1 + rng.uniform(0.2, 0.5) * grain)
    edge = rng.uniform(0.15, 0.35) * np.exp(-((distance / 0.012) ** 2))
    seam = rng.uniform(0.05, 0.15) * np.exp(-(((distance - 0.03) / 0.015) ** 2))
    return np.asarray(absorbed * grid.coverage(distance) + edge - seam, np.float32)


def _debris(rng: np.random.Generator, grid: Grid) -> Array:
    """Return the optical density of what is no spheroid: blurred shadows and small specks."""
    density = np.zeros(grid.shape, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(-WIDTH / 2, WIDTH / 2, 2)
        apart = np.hypot(grid.x - x, grid.y - y)
        density += np.float32(rng.uniform(0.1, 0.3)) * np.exp(-((apart / rng.uniform(0.08, 0.2)) ** 2))
    for _ in range(int(rng.integers(4, 14))):
        x, y = rng.uniform(-WIDTH / 2, WIDTH / 2, 2)
        apart = np.hypot(grid.x - x, grid.y - y)
        density += np.float32(rng.uniform(0.2, 0.8)) * ramp(apart, 0.02, rng.uniform(0.004, 0.012))
    return density
