"""Focal liver lesions in portal-venous CT: a region of interest around a cyst, metastasis or haemangioma."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import (
    Array,
    Grid,
    Mask,
    fields,
    label_of,
    per_slice,
    ramp,
    star,
    strokes,
    undulations,
    wander,
)

FIELD_OF_VIEW = 45.0  # mm
THICKNESS = 3.0
FAT = -95.0  # HU
VESSELS = 7  # main vessels in a slice
BLUR = 0.5  # mm, SD of the scanner's point spread in the plane

Drawn = tuple[Array, Array, Mask]
"""Image with the lesion, distance to the lesion in mm, and mask of its enhancing part."""


class LiverLesion:
    """Liver lesions of one patient and one class, each in the middle of its own region of interest.

    CT numbers are typical of the portal-venous phase. Cysts are round, sharp and hold water (0 to 15 HU);
    metastases are irregular and ill-defined (40 to 80 HU), some with a rim around a darker centre; haemangiomas
    have bright nodules (150 to 220 HU) along their border and fill towards a dark centre.

    Attributes:
        LABELS: the classes, in the order in which seeds alternate between them.
        image: float32 HU, (1, slices, size, size) with noise; every slice shows another lesion.
        images: `image` by its name, "image".
        masks: "lesion", and "enhancement", the bright nodules of haemangiomas.
        regions: "liver", parenchyma away from lesion, vessels and the border of the organ.
        label: "cyst", "metastasis" or "haemangioma".
        parenchyma: mean CT number of this patient's liver in HU.
    """

    LABELS: ClassVar[tuple[str, ...]] = ("cyst", "metastasis", "haemangioma")

    def __init__(
        self, seed: int, *, size: int = 64, slices: int = 1, noise: float = 12.0, label: str | None = None
    ) -> None:
        """Draw the lesions of a patient.

        Args:
            seed: seed of the patient; one in three has each kind of lesion.
            size: rows and columns over 45 mm, at least 8.
            slices: number of lesions.
            noise: SD of the noise in HU, which varies by 15 % between patients, with the grain of a soft kernel.
            label: class of the lesions; None selects it by the seed.

        Raises:
            UserError: the label does not exist, the noise is negative or the image is too small.
        """
        if size < 8 or slices < 1 or noise < 0:
            raise UserError(f"{slices} lesions of {size} pixels with noise {noise:g} HU cannot be drawn")
        self.label = label_of(seed, self.LABELS, label)
        rng, liver_rng, lesion_rng, noise_rng = np.random.default_rng(seed).spawn(4)
        pixel = FIELD_OF_VIEW / size
        grid = Grid.centred((slices, size, size), (THICKNESS, pixel, pixel))
        self.parenchyma = float(rng.normal(110, 7))
        clean, uniform = _liver(liver_rng, grid, self.parenchyma, vessels=self.parenchyma + rng.uniform(40, 65))
        x, y = grid.x - per_slice(lesion_rng, slices, -2, 2), grid.y - per_slice(lesion_rng, slices, -2, 2)
        draw = {"cyst": _cyst, "metastasis": _metastasis, "haemangioma": _haemangioma}[self.label]
        clean, distance, bright = draw(lesion_rng, grid, x, y, clean)

        self.masks: dict[str, Mask] = {"lesion": distance < 0, "enhancement": bright & (distance < 0)}
        self.regions: dict[str, Mask] = {"liver": uniform & (distance > 5)}
        clean = ndimage.gaussian_filter(clean, (0, BLUR / pixel, BLUR / pixel), mode="nearest")
        grained = noise * rng.uniform(0.85, 1.15) * fields(noise_rng, grid.shape, 0.6 / pixel)
        spacing = (THICKNESS, pixel, pixel)
        values = (clean + grained).astype(np.float32)
        self.image = Image.from_array(values, spacing, unit="HU", header=Header(modality="CT"))
        self.images = {"image": self.image}


def _liver(rng: np.random.Generator, grid: Grid, parenchyma: float, vessels: float) -> tuple[Array, Mask]:
    """Draw parenchyma with vessels, in some slices up to the border of the organ, and the mask where it is uniform."""
    slices = grid.shape[0]
    hu = parenchyma + 2.5 * fields(rng, grid.shape, 2.5 / grid.pixel)

    # Vessels cross the plane: some run within it for a distance, more are cut across.
    around = rng.uniform(0, 2 * np.pi, (slices, VESSELS))
    start = rng.uniform(14, 26, (slices, VESSELS, 1)) * np.stack([np.cos(around), np.sin(around)], -1)
    long = rng.random(around.shape) < 0.35
    heading = around + np.pi + rng.uniform(-1, 1, around.shape)
    length = np.where(long, rng.uniform(14, 45, around.shape), rng.uniform(0, 3, around.shape))
    trunks = wander(rng, start, heading, length, steps=6, bend=0.22)
    side = heading + rng.choice([-0.8, 0.8], around.shape)
    branches = wander(rng, trunks[:, :, 3], side, 0.6 * length, steps=6, bend=0.22)
    wide = rng.uniform(0.6, 2.4, around.shape)
    narrow = np.where(long, 0.5, 1) * wide
    lines, first = np.concatenate([trunks, branches], 1), np.concatenate([wide, 0.55 * wide], 1)
    tree = strokes(grid.x, grid.y, grid.pixel, lines, first, np.concatenate([narrow, 0.3 * wide], 1))
    hu += tree * (vessels - hu)

    turn, bulge = per_slice(rng, slices, 0, 2 * np.pi), per_slice(rng, slices, 45, 90)
    depth = np.where(rng.random((slices, 1, 1)) < 0.3, per_slice(rng, slices, 15, 19), 60).astype(np.float32)
    border = np.hypot(grid.x - np.cos(turn) * (depth - bulge), grid.y - np.sin(turn) * (depth - bulge)) - bulge
    hu += (1 - grid.coverage(border)) * (FAT - hu)
    return hu, (tree == 0) & (border < -3)


def _cyst(rng: np.random.Generator, grid: Grid, x: Array, y: Array, hu: Array) -> Drawn:
    slices = grid.shape[0]
    radius = np.exp(per_slice(rng, slices, np.log(4.5), np.log(14)))
    distance = star(x, y, radius, undulations(rng, slices, 3, 0.04, fall=2))
    water = per_slice(rng, slices, 0, 15)
    return hu + grid.coverage(distance) * (water - hu), distance, np.zeros(hu.shape, bool)


def _metastasis(rng: np.random.Generator, grid: Grid, x: Array, y: Array, hu: Array) -> Drawn:
    slices = grid.shape[0]
    radius = np.exp(per_slice(rng, slices, np.log(5.5), np.log(15)))
    distance = star(x, y, radius, undulations(rng, slices, 9, 0.12))
    inside = per_slice(rng, slices, 48, 72) + 5 * fields(rng, hu.shape, 1.8 / grid.pixel)
    target = per_slice(rng, slices, 10, 24) * (rng.random((slices, 1, 1)) < 0.45)
    inside += target * (0.5 - ramp(np.asarray(distance / radius, np.float32), -0.25, -0.6))
    edge = per_slice(rng, slices, 1.2, 3.2)
    return hu + ramp(distance, edge, -edge) * (inside - hu), distance, np.zeros(hu.shape, bool)


def _haemangioma(rng: np.random.Generator, grid: Grid, x: Array, y: Array, hu: Array) -> Drawn:
    slices = grid.shape[0]
    radius = np.exp(per_slice(rng, slices, np.log(7), np.log(15)))
    distance = star(x, y, radius, undulations(rng, slices, 6, 0.08))
    inside = per_slice(rng, slices, 55, 80) + 4 * fields(rng, hu.shape, 1.8 / grid.pixel)

    # Nodules are on the border, with gaps between them, and extend inwards as the lesion fills.
    count = 6
    angle = per_slice(rng, slices, 0, 2 * np.pi) + np.linspace(0, 2 * np.pi, count, endpoint=False)
    angle = angle + rng.normal(0, 0.2, angle.shape)
    filling, there = per_slice(rng, slices, 0.26, 0.42), rng.random(angle.shape) < 0.8
    nodules = np.full(hu.shape, np.inf, np.float32)
    lumps = undulations(rng, slices, 3, 0.16)
    for i in range(count):
        middle = np.float32(0.84) * radius
        u = x - middle * np.cos(angle[..., i : i + 1]).astype(np.float32)
        v = y - middle * np.sin(angle[..., i : i + 1]).astype(np.float32)
        size = np.where(there[..., i : i + 1], radius * filling * per_slice(rng, slices, 0.7, 1.2), -1)
        nodules = np.minimum(nodules, star(u, v, size.astype(np.float32), lumps))
    bright = per_slice(rng, slices, 170, 215)
    inside += grid.coverage(nodules) * (bright - inside)
    return hu + grid.coverage(distance) * (inside - hu), distance, nodules < 0
