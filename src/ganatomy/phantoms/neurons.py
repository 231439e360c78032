"""Fluorescence pictures of neurons: cell bodies with branching filaments, and a map of both."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, Mask, Path, Tubes, fields, star, undulations, wander

WIDTH = 0.22  # mm across the image
BLUR = 0.0008  # mm, SD of the blur of the microscope
OFFSET, GAIN = 100.0, 2.0  # value of the camera without light, and values per photon
STEPS = 14  # straight pieces of a filament
THINNEST = 0.7  # pixels, smallest radius with which a filament is drawn


class Neurons:
    """One to three neurons in culture, with filaments that branch and cross.

    Filaments taper and are beaded; some lie out of focus and are not in the map, as are specks of debris.

    Attributes:
        image: values of the camera, float32 (1, 1, size, size).
        images: `image` by its name, "image".
        masks: "filaments", cell bodies included; "bodies"; and "field", which is everywhere.
        regions: empty, since nothing is uniform.
        count: number of neurons.
    """

    def __init__(self, seed: int, *, size: int = 128, noise: float = 3.0, density: float = 1.0) -> None:
        """Draw a picture.

        Args:
            seed: seed of the picture.
            size: rows and columns over 0.22 mm, at least 16.
            noise: SD of the camera's noise, besides that of the photons.
            density: number of filaments relative to usual ones.

        Raises:
            UserError: the image is too small, the noise is negative, or there are no filaments.
        """
        if size < 16 or noise < 0 or density <= 0:
            raise UserError(
                f"neurons on {size} pixels with noise {noise:g} and {density:g} times their filaments cannot be drawn"
            )
        place_rng, grow_rng, look_rng, camera_rng = np.random.default_rng(seed).spawn(4)
        pixel = WIDTH / size
        grid = Grid.centred((1, size, size), (1.0, pixel, pixel))
        self.count = int(place_rng.integers(1, 4))
        centres = place_rng.uniform(-0.36 * WIDTH, 0.36 * WIDTH, (self.count, 2))

        bodies = np.zeros(grid.shape, np.float32)
        sharp, light = np.zeros_like(bodies), np.zeros_like(bodies)
        hazy = np.zeros_like(bodies)
        beads = np.clip(1 + 0.45 * fields(look_rng, grid.shape, 0.0022 / pixel), 0.25, None)
        for centre in centres:
            radius = float(place_rng.uniform(0.006, 0.010))
            outline = star(
                grid.x - np.float32(centre[0]),
                grid.y - np.float32(centre[1]),
                radius,
                undulations(place_rng, 1, 4, 0.16),
            )
            body = grid.coverage(outline)
            bright = float(np.exp(look_rng.uniform(np.log(0.7), np.log(1.5))))
            tree = _neurites(grow_rng, grid, centre, radius, density)
            np.maximum(bodies, body, out=bodies)
            np.maximum(sharp, tree, out=sharp)
            thick = np.clip(-outline / radius, 0, 1)
            light += bright * (34 * tree * beads + body * (60 + 70 * thick))
            stray = _neurites(grow_rng, grid, grow_rng.uniform(-WIDTH / 2, WIDTH / 2, 2), radius, 0.4 * density)
            hazy += 26 * bright * stray
        debris = fields(look_rng, grid.shape, 0.0012 / pixel) > 3.1
        light = light + 55 * ndimage.gaussian_filter(debris.astype(np.float32), (0, 0.7, 0.7))
        haze = 6 * np.exp(0.5 * fields(look_rng, grid.shape, 0.04 / pixel))
        blur, out_of_focus = BLUR / pixel, 0.0045 / pixel
        seen = ndimage.gaussian_filter(light, (0, blur, blur)) + haze
        seen += ndimage.gaussian_filter(hazy, (0, out_of_focus, out_of_focus))
        photons = camera_rng.poisson(np.maximum(seen, 0))
        values = OFFSET + GAIN * photons + noise * camera_rng.standard_normal(grid.shape)
        self.image = Image.from_array(
            np.asarray(values.clip(0, 65535), np.float32), (1.0, pixel, pixel), header=Header(modality="GM")
        )
        self.images = {"image": self.image}
        self.masks: dict[str, Mask] = {
            "filaments": (sharp > 0.5) | (bodies > 0.5),
            "bodies": bodies > 0.5,
            "field": np.ones(grid.shape, bool),
        }
        self.regions: dict[str, Mask] = {}


def _neurites(rng: np.random.Generator, grid: Grid, centre: Path, radius: float, density: float) -> Array:
    """Return the share of each pixel that the filaments of one neuron cover: stems, their branches, and twigs."""
    count = max(1, round(int(rng.integers(4, 8)) * density))
    headings = rng.uniform(0, 2 * np.pi) + np.arange(count) * 2 * np.pi / count + rng.normal(0, 0.35, count)
    starts = centre + 0.8 * radius * np.stack([np.cos(headings), np.sin(headings)], 1)
    stems = wander(rng, starts, headings, rng.uniform(0.05, 0.15, count), STEPS, 0.16)
    lines, first = [stems], [np.full(count, 0.0014) * rng.uniform(0.8, 1.3, count)]
    parents, thick = stems, first[0]
    for share in (0.55, 0.4):
        # Each filament gives two branches off, somewhere beyond its first third.
        place = rng.integers(STEPS // 3, STEPS - 1, (2, len(parents)))
        which = np.arange(len(parents))
        forks = np.concatenate([parents[which, row] for row in place])
        along = np.concatenate([parents[which, row + 1] - parents[which, row] for row in place])
        sides = rng.choice([-1, 1], len(forks)) * rng.uniform(0.4, 1.0, len(forks))
        branches = wander(
            rng,
            forks,
            np.arctan2(along[:, 1], along[:, 0]) + sides,
            share * rng.uniform(0.04, 0.12, len(forks)),
            STEPS,
            0.2,
        )
        thick = 0.72 * np.concatenate([thick, thick])
        lines.append(branches)
        first.append(thick)
        parents = branches
    paths = np.concatenate(lines)
    flat = np.concatenate([paths, np.zeros((*paths.shape[:2], 1))], 2)
    widths = np.linspace(np.concatenate(first), 0.5 * np.concatenate(first), STEPS + 1, axis=1)
    widths = np.maximum(widths, THINNEST * grid.pixel)
    starts, ends = flat[:, :-1].reshape(-1, 3), flat[:, 1:].reshape(-1, 3)
    return Tubes(starts, ends, np.stack([widths[:, :-1].ravel(), widths[:, 1:].ravel()], 1)).draw(grid)
