"""Pulmonary nodules in CT: a patch of lung around a benign or malignant nodule."""

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

FIELD_OF_VIEW = 40.0  # mm
THICKNESS = 1.5
BLUR = 0.45  # mm, SD of the scanner's point spread in the plane
VESSELS = 9  # vessels in a slice
SPICULES = 14
MUSCLE, FAT, BONE = 50.0, -100.0, 420.0  # HU


class LungNodule:
    """Lung nodules of one patient and one class, each in the middle of its own patch.

    Benign nodules are small, round and sharp; a third have a calcified centre. Malignant ones are larger, lobulated
    and spiculated; every second has a halo of ground glass. Some patches contain the chest wall.

    Attributes:
        LABELS: the classes, in the order in which seeds alternate between them.
        image: float32 HU, (1, slices, size, size) with noise; every slice shows another nodule.
        images: `image` by its name, "image".
        masks: "nodule", its solid part without spicules; "calcification"; "halo", ground glass around it.
        regions: empty, since nothing is uniform.
        label: "benign" or "malignant".
        parenchyma: mean CT number of this patient's lung in HU.
    """

    LABELS: ClassVar[tuple[str, ...]] = ("benign", "malignant")

    def __init__(
        self, seed: int, *, size: int = 56, slices: int = 1, noise: float = 25.0, label: str | None = None
    ) -> None:
        """Draw the nodules of a patient.

        Args:
            seed: seed of the patient; nodules are benign for even ones, malignant for odd ones.
            size: rows and columns over 40 mm, at least 8.
            slices: number of nodules.
            noise: SD of the noise in HU, which varies by 20 % between patients, with the grain of a sharp kernel.
            label: class of the nodules; None selects it by the seed.

        Raises:
            UserError: the label does not exist, the noise is negative or the image is too small.
        """
        if size < 8 or slices < 1 or noise < 0:
            raise UserError(f"{slices} nodules of {size} pixels with noise {noise:g} HU cannot be drawn")
        self.label = label_of(seed, self.LABELS, label)
        rng, lung_rng, nodule_rng, noise_rng = np.random.default_rng(seed).spawn(4)
        pixel = FIELD_OF_VIEW / size
        spacing = (THICKNESS, pixel, pixel)
        grid = Grid.centred((slices, size, size), spacing)
        self.parenchyma = float(np.clip(rng.normal(-850, 22), -900, -800))
        hu = _lung(lung_rng, grid, self.parenchyma)
        x, y = grid.x - per_slice(nodule_rng, slices, -1.5, 1.5), grid.y - per_slice(nodule_rng, slices, -1.5, 1.5)
        draw = _benign if self.label == "benign" else _malignant
        hu, self.masks = draw(nodule_rng, grid, x, y, hu)

        hu = ndimage.gaussian_filter(hu, (0, BLUR / pixel, BLUR / pixel), mode="nearest")
        hu += noise * rng.uniform(0.8, 1.2) * fields(noise_rng, grid.shape, 0.4 / pixel)
        self.image = Image.from_array(hu.astype(np.float32), spacing, unit="HU", header=Header(modality="CT"))
        self.images = {"image": self.image}
        self.regions: dict[str, Mask] = {}


def _lung(rng: np.random.Generator, grid: Grid, parenchyma: float) -> Array:
    """Draw parenchyma with vessels, cut along and across, and the chest wall in some patches."""
    slices = grid.shape[0]
    hu = parenchyma + 22 * fields(rng, grid.shape, 1.2 / grid.pixel)
    around = rng.uniform(0, 2 * np.pi, (slices, VESSELS))
    start = rng.uniform(9, 24, (slices, VESSELS, 1)) * np.stack([np.cos(around), np.sin(around)], -1)
    long = rng.random(around.shape) < 0.45
    heading = around + rng.uniform(0.6, 2 * np.pi - 0.6, around.shape)
    length = np.where(long, rng.uniform(8, 30, around.shape), rng.uniform(0, 1.5, around.shape))
    trunks = wander(rng, start, heading, length, steps=5, bend=0.2)
    side = heading + rng.choice([-0.7, 0.7], around.shape)
    branches = wander(rng, trunks[:, :, 2], side, 0.6 * length, steps=5, bend=0.25)
    wide = rng.uniform(0.3, 1.1, around.shape) * np.where(rng.random(around.shape) < 0.1, 1.8, 1)
    narrow = np.where(long, 0.35, 1) * wide
    lines, first = np.concatenate([trunks, branches], 1), np.concatenate([wide, 0.6 * wide], 1)
    hu += strokes(grid.x, grid.y, grid.pixel, lines, first, np.concatenate([narrow, 0.25 * wide], 1)) * (30 - hu)
    return _with_wall(rng, grid, hu)


def _with_wall(rng: np.random.Generator, grid: Grid, hu: Array) -> Array:
    """Draw the chest wall in about a third of the patches: pleura and muscle, then a rib in fat."""
    slices = grid.shape[0]
    turn, radius = per_slice(rng, slices, 0, 2 * np.pi), per_slice(rng, slices, 50, 90)
    there = rng.random((slices, 1, 1)) < 0.3
    depth = np.where(there, per_slice(rng, slices, 12.5, 18), 99).astype(np.float32)
    along = grid.x * np.cos(turn) + grid.y * np.sin(turn)
    across = grid.y * np.cos(turn) - grid.x * np.sin(turn)
    wall = np.hypot(along - depth + radius, across) - radius
    hu = hu + grid.coverage(-wall) * (MUSCLE - hu)
    hu += ramp(wall, 2.5, 4) * (FAT - hu)
    rib = np.hypot((wall - 6.5) / 3.2, (across - per_slice(rng, slices, -15, 15)) / 7)
    return hu + ramp(rib, 1.1, 0.9) * (BONE - 230 * ramp(rib, 0.8, 0.5) - hu)


def _benign(rng: np.random.Generator, grid: Grid, x: Array, y: Array, hu: Array) -> tuple[Array, dict[str, Mask]]:
    slices = grid.shape[0]
    radius = np.exp(per_slice(rng, slices, np.log(2.6), np.log(6)))
    distance = star(x, y, radius, undulations(rng, slices, 3, 0.05, fall=2))
    hu = hu + grid.coverage(distance) * (per_slice(rng, slices, 10, 60) - hu)

    calcified = rng.random((slices, 1, 1)) < 1 / 3
    core = star(x, y, radius * per_slice(rng, slices, 0.35, 0.6), undulations(rng, slices, 4, 0.12))
    hu += calcified * grid.coverage(core) * (per_slice(rng, slices, 350, 800) - hu)
    nothing = np.zeros(hu.shape, bool)
    return hu, {"nodule": distance < 0, "calcification": calcified & (core < 0), "halo": nothing}


def _malignant(rng: np.random.Generator, grid: Grid, x: Array, y: Array, hu: Array) -> tuple[Array, dict[str, Mask]]:
    slices = grid.shape[0]
    radius = np.exp(per_slice(rng, slices, np.log(5.5), np.log(10)))
    part_solid = rng.random((slices, 1, 1)) < 0.5
    radius *= np.where(part_solid, 0.75, 1).astype(np.float32)
    distance = star(x, y, radius, undulations(rng, slices, 7, 0.13))

    glass = star(x, y, radius * per_slice(rng, slices, 1.35, 1.7), undulations(rng, slices, 5, 0.12))
    opacity = per_slice(rng, slices, -650, -480) + 45 * fields(rng, hu.shape, 1.2 / grid.pixel)
    hu = hu + part_solid * ramp(glass, 1.5, -1.5) * np.maximum(opacity - hu, 0)

    angle = np.linspace(0, 2 * np.pi, SPICULES, endpoint=False) + rng.normal(0, 0.2, (slices, SPICULES))
    root = radius[:, :, 0] * 0.7
    start = root[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    reach = radius[:, :, 0] * rng.uniform(0.5, 1.2, angle.shape)
    lines = wander(rng, start, angle + rng.normal(0, 0.15, angle.shape), reach, steps=3, bend=0.12)
    wide = rng.uniform(0.5, 1.1, angle.shape) * (rng.random(angle.shape) < 0.8)
    share = np.maximum(ramp(distance, 0.5, -0.5), strokes(x, y, grid.pixel, lines, wide, 0.15 * wide))
    solid = per_slice(rng, slices, 5, 50) + 12 * fields(rng, hu.shape, 1.5 / grid.pixel)
    hu += share * (solid - hu)
    halo = part_solid & (glass < 0) & (distance >= 0)
    return hu, {"nodule": distance < 0, "calcification": np.zeros(hu.shape, bool), "halo": halo}
