"""Chest radiographs: projections of the thorax of `ganatomy.phantoms.thorax`, with outlines of the organs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import (
    Array,
    Grid,
    Mask,
    Point,
    Tubes,
    ellipsoid,
    grow_tree,
    ramp,
    superellipse,
)
from ganatomy.phantoms.thorax import Anatomy
from ganatomy.phantoms.torso import places_inside

FIELD_OF_VIEW = 358.0  # mm, that of a film of 14 inches
DEPTH, STEP = 260.0, 4.0  # mm that rays are followed through, and between the samples on them
BRIGHT = 4095.0  # value of the densest shadow

# Linear attenuation at the mean energy of a hard beam, per mm
SOFT, FAT, LUNG, CORTEX, MARROW = 0.0200, 0.0183, 0.0056, 0.052, 0.026
SCATTER = 0.25  # scattered photons behind the grid, as a share of the primary ones
SCATTER_REACH = 30.0  # mm, SD of their spread

BODY = 0.5  # attenuation from which a ray counts for the exposure
THINNEST_LUNG = 18.0  # mm of lung that a ray crosses at the border of a lung field
SUPERIOR = 30.0  # mm above the middle of the heart from which the lungs narrow to their apex
HEARTS = (0.85, 1.2)  # size of hearts relative to those of the thorax phantom, of which none is enlarged
ORGANS = {"left-lung": 1, "right-lung": 2, "heart": 3}
CLAVICLES = {"left-clavicle": 4, "right-clavicle": 5}


class ChestRadiograph:
    """A chest radiograph of one adult per seed, with lung fields, heart and clavicles as outlined by a reader.

    Rays are parallel. Lung fields are where rays cross lung, without the parts behind the heart and under the domes of
    the diaphragm; the heart is its whole shadow. Many hearts are enlarged, and half of the patients have opacities in
    their lungs, which belong to the lung fields all the same. As on a viewing screen, dense tissue is bright and the
    patient's right side is on the left.

    Attributes:
        anatomy: anatomy of the patient.
        image: float32 (1, 1, size, size), 0 to 4095 without a unit, with the noise of few photons.
        images: `image` by its name, "radiograph".
        masks: "left-lung", "right-lung", "heart", "left-clavicle" and "right-clavicle"; clavicles overlap lungs.
        labels: "organs" with 1 left lung, 2 right lung, 3 heart; "structures" with clavicles over them, 4 and 5.
        regions: empty, since nothing in a projection is uniform.
    """

    def __init__(self, seed: int, *, size: int = 128, noise: float = 1.0) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns over 358 mm, at least 16.
            noise: SD of the noise relative to that of a usual exposure.

        Raises:
            UserError: the image is too small, or the noise is negative.
        """
        if size < 16 or noise < 0:
            raise UserError(f"a chest radiograph of {size} pixels with noise {noise:g} cannot be drawn")
        anatomical, physical = np.random.default_rng(seed).spawn(2)
        drawn = Anatomy.draw(anatomical)
        a, b, c = np.asarray(drawn.heart) * anatomical.uniform(*HEARTS)
        self.anatomy = replace(drawn, heart=(float(a), float(b), float(c)))
        chest = _Chest(self.anatomy, size, anatomical)
        self.masks: dict[str, Mask] = {name: mask[None] for name, mask in chest.masks.items()}
        organs = np.zeros((1, size, size), np.uint8)
        for name, label in ORGANS.items():
            organs[self.masks[name]] = label
        structures = organs.copy()
        for name, label in CLAVICLES.items():
            structures[self.masks[name]] = label
        self.labels = {"organs": organs, "structures": structures}
        self.regions: dict[str, Mask] = {}
        pixel = FIELD_OF_VIEW / size
        values = _exposed(chest.attenuation, pixel, noise, physical)
        self.image = Image.from_array(values[None], (1.0, pixel, pixel), header=Header(modality="DX"))
        self.images = {"radiograph": self.image}


class _Chest:
    """A patient's chest between tube and film; x is the left and z the head, so rows are turned upside down.

    Attributes:
        attenuation: sum of the attenuation along the rays, (rows, columns).
        masks: outlines of the organs, (rows, columns).
    """

    def __init__(self, anatomy: Anatomy, size: int, rng: np.random.Generator) -> None:
        self.anatomy, near = anatomy, rng.uniform
        # All random numbers are drawn before the grid is used, so that every size shows one patient.
        self.apex, recess = near(105, 135), near(28, 45, 2)
        self.bottom = np.asarray(anatomy.domes) - recess
        self.neck = near(45, 65)
        collar = near(-6, 6), near(8, 26), near(-14, 0)
        shift, bubble = near(-8, 8, 2), near(8, 34, 2)
        trees = [self._tree(rng, side) for side in (-1, 1)]
        opacities = self._places(rng, int(rng.choice([0, 1, 2, 3], p=[0.5, 0.2, 0.2, 0.1])))

        pixel = FIELD_OF_VIEW / size
        across = ((np.arange(size) - (size - 1) / 2) * pixel).astype(np.float32)
        through = (np.arange(int(DEPTH / STEP)) * STEP - 0.5 * DEPTH).astype(np.float32)
        self.grid = grid = Grid(
            (across + shift[0])[None, None], through[None, :, None], (across + shift[1] + 12)[:, None, None], pixel
        )
        self.mu = np.zeros(grid.shape, np.float32)
        cavity = anatomy.cavity(grid) + 0 * grid.z
        self._wall(cavity)
        lungs = self._lungs(grid)
        air = grid.coverage(lungs)
        self._paint(air, LUNG)
        for place, radius, dense in opacities:
            x, y, z = (axis - np.float32(c) for axis, c in zip((grid.x, grid.y, grid.z), place, strict=True))
            self._paint(dense * air * np.exp(-0.5 * (x**2 + y**2 + z**2) / np.float32(radius**2)), SOFT)
        for tree in trees:
            self._paint(tree.draw(grid) * air, SOFT)
        for vessel in anatomy.great_vessels():
            self._paint(vessel.draw(grid) * (grid.z > anatomy.domes[1]), SOFT)
        self._paint(anatomy.airways().draw(grid) * (grid.z > 0), 0.0)
        gas = (grid.x - 52, grid.y + 6, grid.z - np.float32(anatomy.domes[1] - 30))
        self._paint(grid.coverage(ellipsoid(gas, (*bubble, 14.0))), 0.0)
        self._bone(anatomy.ribs(grid, cavity) + np.maximum(grid.z - self.apex - 8, 0), 1.4)
        self._bone(anatomy.vertebrae(grid), 1.5)
        clavicles = {side: self._clavicle(side, *collar) for side in (-1, 1)}
        self.attenuation = self._seen(self.mu)
        self.masks = self._outlines(lungs, clavicles)

    def _seen(self, values: Array) -> Array:
        """Add up values along the rays, with the head on top."""
        return np.asarray(values.sum(1)[::-1] * np.float32(STEP), np.float32)

    def _paint(self, share: Array, attenuation: float) -> None:
        self.mu += share * (np.float32(attenuation) - self.mu)

    def _bone(self, distance: Array, shell: float) -> None:
        """Paint cortical bone around marrow, where there is soft tissue already."""
        self._paint(self.grid.coverage(distance), CORTEX)
        self._paint(self.grid.coverage(distance + np.float32(shell)), MARROW)

    def _lungs(self, grid: Grid) -> Array:
        """Return the distance to the lungs, which end in an apex above and in recesses below."""
        a = self.anatomy
        width, depth = a.chest
        above = np.maximum(grid.z - SUPERIOR, 0)
        aside = np.abs(grid.x) - np.float32(0.42 * width)
        cap = ellipsoid((aside, grid.y - 8, above), (0.6 * width, 1.02 * depth, self.apex - SUPERIOR))
        below = np.where(grid.x < 0, *self.bottom.astype(np.float32)) - grid.z
        inside = np.maximum(a.lungs(grid), np.where(grid.z > SUPERIOR, cap, -100))
        return np.asarray(np.maximum(inside, below), np.float32)

    def _tree(self, rng: np.random.Generator, side: int) -> Tubes:
        """Return the vessels of one lung, from its hilum."""
        inner, outer = sorted((side * 20.0, side * 140.0))
        places = places_inside(rng, self._lungs, (inner, -80, -80), (outer, 80, 120), 700)
        return grow_tree((side * 40 + 4, 10, 18), places, 0.6)

    def _places(self, rng: np.random.Generator, count: int) -> list[tuple[Point, float, float]]:
        """Draw opacities of the lungs: centre, radius and the share of the air that they replace in their middle."""
        places = places_inside(rng, self._lungs, (-120, -60, -60), (120, 60, 100), 200, 8.0)[:count]
        return [((x, y, z), rng.uniform(9, 28), rng.uniform(0.4, 0.9)) for x, y, z in places]

    def _wall(self, cavity: Array) -> None:
        """Paint fat, muscles and all that is not lung inside of the ribs, narrower at the shoulders and the neck."""
        a, grid = self.anatomy, self.grid
        shoulders = ramp(grid.z, self.apex - 25, self.apex + 45)
        neck = superellipse(grid.x, grid.y - 10, self.neck, 0.9 * self.neck, 2)
        flesh = cavity - np.float32(a.muscle) + shoulders * np.maximum(neck - cavity + a.muscle, 0)
        self._paint(grid.coverage(flesh - np.float32(a.fat)), FAT)
        self._paint(grid.coverage(flesh), SOFT)

    def _clavicle(self, side: int, shrug: float, rise: float, bow: float) -> Array:
        """Paint a clavicle, from the sternum outwards and upwards; return the share of the voxels."""
        width, depth = self.anatomy.chest
        t = np.linspace(0, 1, 9)
        x = side * (14 + t * (width + 6))
        y = -0.82 * depth + 0.75 * depth * t
        z = self.apex - 32 + shrug + rise * t + bow * np.sin(2 * np.pi * t)
        tubes = Tubes.along(np.stack([x, y, z], 1), 7.5, 6.0)
        share = tubes.draw(self.grid)
        self._paint(share, CORTEX)
        self._paint(replace(tubes, radii=tubes.radii - 2.0).draw(self.grid), MARROW)
        return share

    def _outlines(self, lungs: Array, clavicles: dict[int, Array]) -> dict[str, Mask]:
        """Return the organs as a reader outlines them in the projection."""
        a, grid = self.anatomy, self.grid
        crossed = self._seen(grid.coverage(lungs))
        surface = ellipsoid(a.heart_position(grid), a.heart) - a.sac(grid)
        heart = np.asarray((surface < 0).any(1))[::-1]
        right, left = (dome.min(1)[::-1] < 0 for dome in a.diaphragm(grid))
        side = grid.x[0] < 3
        field = (crossed >= THINNEST_LUNG) & ~heart & ~right & ~left
        found = {
            "left-lung": _largest(field & ~side),
            "right-lung": _largest(field & side),
            "heart": heart,
        }
        for sign, name in ((1, "left-clavicle"), (-1, "right-clavicle")):
            found[name] = clavicles[sign].max(1)[::-1] >= 0.5
        return found


def _largest(mask: Mask) -> Mask:
    """Return the largest connected part of a plane, without holes."""
    parts, number = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())[1:]
    return np.asarray(ndimage.binary_fill_holes(parts == 1 + sizes.argmax() if number else mask))


def _exposed(attenuation: Array, pixel: float, noise: float, rng: np.random.Generator) -> Array:
    """Return the picture of rays: primary and scattered photons with their noise, on a logarithmic scale."""
    primary = np.exp(-attenuation)
    scattered = SCATTER * ndimage.gaussian_filter(primary, SCATTER_REACH / pixel, mode="nearest")
    photons = ndimage.gaussian_filter(primary + scattered, 0.4)
    # The SD at a transmission of 2 % is 3 % of it for pixels of 1 mm; larger pixels collect more photons.
    spread = noise * 0.03 * np.sqrt(0.02) / max(pixel, 1e-6)
    photons = photons + spread * np.sqrt(photons) * rng.standard_normal(photons.shape, np.float32)
    density = -np.log(np.maximum(photons, 1e-5))
    low, high = np.percentile(density[attenuation > BODY], (12, 99))
    low -= 0.12 * (high - low)
    contrast = rng.uniform(0.75, 1.35)
    shown = np.clip((density - low) / max(float(high - low), 1e-6), 0, 1) ** np.float32(contrast)
    return np.asarray(BRIGHT * shown, np.float32)
