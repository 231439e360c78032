"""The spine in CT: up to 24 vertebrae with their ribs, some fractured, in scans of all parts of the back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.interpolate import CubicSpline

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, Mask, Path, Tubes, ellipsoid, superellipse, texture
from ganatomy.roles.points import Points

NAMES = tuple(f"{part}{number}" for part, count in (("C", 7), ("T", 12), ("L", 5)) for number in range(1, count + 1))
"""Names of the vertebrae, from the head to the pelvis."""
FIRST_THORACIC, FIRST_LUMBAR = NAMES.index("T1"), NAMES.index("L1")
FIELD_OF_VIEW = 160.0  # mm along rows and columns
AIR, FAT, MUSCLE, DISC, CANAL = -1000, -100, 55, 85, 25  # HU
SACRUM = 2  # bones below the lumbar vertebrae, which have no name
SHARE = 0.78  # of the distance between vertebrae that is bone
GRAIN = 0.9  # mm, correlation length of the noise
CURVE = ((0.0, 2.0), (0.12, -7.0), (0.22, 6.0), (0.42, 30.0), (0.66, 8.0), (0.86, -16.0), (1.0, -4.0), (1.12, 14.0))
"""Share of the way from the first to the last vertebra, and how far the spine lies behind a straight line there, in mm:
the bows of the neck, of the chest and of the loins."""


@dataclass(frozen=True)
class Vertebra:
    """A vertebra; lengths in mm.

    Attributes:
        centre: centre of its body (x to the left, y to the back, z to the head).
        half: half width and half depth of the body.
        height: distance to the next vertebra, the disc included.
        tilt: slope of its plates, in mm along z for each mm to the back.
        crushed: share of its height that the front of the body has lost.
    """

    centre: Path
    half: tuple[float, float]
    height: float
    tilt: float
    crushed: float


class SpineCT:
    """A CT of one patient per seed, reconstructed around the spine: 160 mm across, and a part of its length.

    Some scans show the whole spine with the base of the skull and the sacrum, most show a part of it. About one
    vertebra in 15 of the chest and the loins is fractured: lower in front.

    Attributes:
        image: float32 HU, (1, slices, size, size), with noise; voxels are cubes.
        images: `image` by its name, "ct".
        points: "vertebrae", the centres of the bodies that lie in the scan, by `NAMES`, in mm.
        masks: "bone"; and "bodies", the bodies of the vertebrae that have a name.
        regions: "muscle".
        fractured: names of the fractured vertebrae in the scan.
    """

    NAMES: ClassVar[tuple[str, ...]] = NAMES

    def __init__(
        self, seed: int, *, size: int = 64, coverage: tuple[float, float] | None = None, noise: float = 18.0
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns.
            coverage: first and last place of the scan as shares of the way from C1 (0) to L5 (1); None draws them.
            noise: SD of the noise in HU.

        Raises:
            UserError: the image is too small, the noise negative, or the scan shorter than a vertebra.
        """
        if size < 16 or noise < 0 or (coverage is not None and coverage[1] - coverage[0] < 0.05):
            raise UserError(
                f"a spine of {size} pixels a side over {coverage} of its length, with noise {noise:g} HU, cannot be "
                "drawn: give at least 16 pixels, a length of at least 0.05, and no negative noise"
            )
        anatomical, scanned, physical = np.random.default_rng(seed).spawn(3)
        bones = _bones(anatomical)
        density = float(anatomical.uniform(0.6, 1.15))
        top, bottom = coverage or _coverage(scanned)
        step = FIELD_OF_VIEW / size
        high, low = (
            bones[0].centre[2] + at * (bones[len(NAMES) - 1].centre[2] - bones[0].centre[2]) for at in (top, bottom)
        )
        slices = max(round((high - low) / step), 1)
        grid = Grid.centred((slices, size, size), (step, step, step), (high + low) / 2)
        depth = float(np.mean([bone.centre[1] for bone in bones[: len(NAMES)] if low <= bone.centre[2] <= high] or [0]))
        grid = replace(grid, y=grid.y + np.float32(depth + 8), x=grid.x + np.float32(scanned.uniform(-5, 5)))

        drawing = _Drawing(grid, anatomical, density)
        for number, bone in enumerate(bones):
            drawing.vertebra(bone, number)
        drawing.skull(bones[0])
        grained = np.float32(noise) * texture(physical, grid.shape, (step, step, step), GRAIN)
        self.image = Image.from_array(
            np.asarray(drawing.hu + grained, np.float32), (step, step, step), "HU", Header(modality="CT")
        )
        self.images = {"ct": self.image}
        self.masks: dict[str, Mask] = {"bone": drawing.bone >= 0.5, "bodies": drawing.bodies >= 0.5}
        self.regions: dict[str, Mask] = {"muscle": drawing.plain}

        places: dict[str, tuple[float, float, float]] = {}
        for name, bone in zip(NAMES, bones, strict=False):
            index = _index(grid, bone.centre, step)
            if all(-0.5 <= at <= extent - 0.5 for at, extent in zip(index, grid.shape, strict=True)):
                x, y, z = self.image.affine[:3, :3] @ index + self.image.affine[:3, 3]
                places[name] = (float(x), float(y), float(z))
        self.points = {"vertebrae": Points(places)}
        self.fractured = tuple(
            name for name, bone in zip(NAMES, bones, strict=False) if bone.crushed > 0 and name in places
        )


def _index(grid: Grid, place: Path, step: float) -> Path:
    """Return slice, row and column of a position (x, y, z), as real numbers."""
    first = np.array([grid.z.flat[0], grid.y.flat[0], grid.x.flat[0]], np.float64)
    return np.asarray((place[::-1] - first) / step, np.float64)


def _coverage(rng: np.random.Generator) -> tuple[float, float]:
    """Draw which part of the spine a scan shows; a quarter shows all of it."""
    if rng.random() < 0.25:
        return -0.06, 1.12
    length = rng.uniform(0.25, 0.8)
    top = rng.uniform(-0.06, 1.1 - length)
    return float(top), float(top + length)


def _bones(rng: np.random.Generator) -> list[Vertebra]:
    """Draw all vertebrae of a patient from the first, at z = 0, downwards, and bones of the sacrum."""
    size = rng.uniform(0.9, 1.08)
    chest, loins = (np.linspace(*ends) for ends in ((20.5, 29.0, 12), (33.0, 38.0, 5)))
    heights = size * np.concatenate([[14.0, 22.0, 17, 17, 17, 17.5, 18], chest, loins, [32.0, 24.0]])
    heights *= rng.normal(1, 0.02, len(heights))
    wide = size * np.concatenate([np.linspace(9, 13, 7), np.linspace(13, 20, 12), np.linspace(21.5, 25, 5), [27, 20]])
    deep = size * np.concatenate([np.linspace(7, 9, 7), np.linspace(9.5, 15, 12), np.linspace(16, 17.5, 5), [15, 11]])
    crushed = np.where(rng.random(len(heights)) < 1 / 15, rng.uniform(0.25, 0.5, len(heights)), 0.0)
    crushed[:FIRST_THORACIC] = crushed[-SACRUM:] = 0
    heights *= 1 - 0.5 * crushed
    down = np.cumsum(heights) - heights / 2
    down -= down[0]
    way = down / down[len(NAMES) - 1]
    bow = CubicSpline(*np.transpose(CURVE))
    strength, lean, bend, phase = rng.uniform(0.5, 1.3), rng.uniform(-12, 12), rng.uniform(0, 9), rng.uniform(0, 6.3)
    behind = strength * bow(way) + lean * way
    aside = bend * np.sin(2 * np.pi * way + phase)
    tilts = -np.gradient(behind, down)
    return [
        Vertebra(np.array([x, y, -z]), (float(a), float(b)), float(height), float(tilt), float(loss))
        for x, y, z, a, b, height, tilt, loss in zip(
            aside, behind, down, wide, deep, heights, tilts, crushed, strict=True
        )
    ]


class _Drawing:
    """A spine drawn bone by bone into muscle and fat."""

    def __init__(self, grid: Grid, rng: np.random.Generator, density: float) -> None:
        self.grid, self.rng, self.density = grid, rng, density
        strands = texture(rng, grid.shape, (grid.pixel,) * 3, 7.0)
        soft = np.where(strands > rng.uniform(0.6, 1.3), FAT, MUSCLE)
        self.hu = (soft + 0 * grid.x + 0 * grid.z).astype(np.float32)
        self.bone = np.zeros(grid.shape, np.float32)
        self.bodies = np.zeros(grid.shape, np.float32)
        self.plain: Mask = strands < 0

    def paint(self, part: Grid, index: tuple[slice, slice, slice], distance: Array, hu: float, bony: bool) -> Array:
        """Mix a shape into a part of the volume, and return its shares."""
        share = np.broadcast_to(part.coverage(distance), self.hu[index].shape)
        self.hu[index] += share * (np.float32(hu) - self.hu[index])
        self.bone[index] = np.maximum(self.bone[index], share) if bony else self.bone[index] * (1 - share)
        self.plain[index] &= share == 0
        return share

    def vertebra(self, one: Vertebra, number: int) -> None:
        """Paint disc, body, arch, processes, and in the chest a pair of ribs."""
        index = self.grid.window(one.centre - np.array([80, 60, 45]), one.centre + np.array([80, 75, 45]))
        part = self.grid.crop(index)
        if 0 in part.shape:
            return
        x, y, z = (axis - np.float32(at) for axis, at in zip((part.x, part.y, part.z), one.centre, strict=True))
        wide, deep = one.half
        level = z - np.float32(one.tilt) * y
        outline = superellipse(x, y, wide, deep, 2.4)
        waist = outline + np.float32(1.6) * (1 - np.clip(np.abs(level) / (SHARE * one.height / 2), 0, 1) ** 2)
        # A crushed body is lower in front, where y is negative.
        lost = np.float32(one.crushed) * np.clip(0.5 - y / (2 * deep), 0, 1)
        half = np.float32(SHARE * one.height / 2) * (1 - lost)
        body = np.maximum(waist, np.abs(level) - half)
        disc = np.maximum(outline + 1.5, np.abs(level - np.float32(one.height / 2)) - np.float32(one.height / 2))
        canal = ellipsoid((x, y - np.float32(deep + 9)), (11, 8)) + 0 * z
        arch = np.maximum(ellipsoid((x, y - np.float32(deep + 9)), (15, 12)) + 0 * z, np.abs(level + 2) - 7)
        marrow, cortex = 175 * self.density, 620 * self.density
        lumbar = FIRST_LUMBAR <= number < len(NAMES)
        reach = 42 if lumbar else 24
        sideways = Tubes.along(one.centre + np.array([[-reach, deep + 10, -2], [reach, deep + 10, -2]]), 4.5, 4.5).draw(
            part
        )
        back = Tubes.along(
            one.centre + np.array([[0, deep + 18, -4], [0, deep + 40, -14 if lumbar else -24]]), 4.5, 3.5
        ).draw(part)
        self.paint(part, index, disc, DISC, False)
        self.paint(part, index, arch, 0.75 * cortex, True)
        for tube in (sideways, back, *self._ribs(one, number, part)):
            self.paint(part, index, (0.5 - tube) * np.float32(part.pixel), 0.7 * cortex, True)
        self.paint(part, index, canal, CANAL, False)
        whole = self.paint(part, index, body, cortex, True)
        inner = part.coverage(body + 1.6)
        self.hu[index] += inner * (np.float32(marrow) - self.hu[index])
        if number < len(NAMES):
            self.bodies[index] = np.maximum(self.bodies[index], whole)

    def _ribs(self, one: Vertebra, number: int, part: Grid) -> list[Array]:
        """Return the shares of a pair of ribs, which begin beside the disc above a thoracic vertebra."""
        if not FIRST_THORACIC <= number < FIRST_LUMBAR:
            return []
        short = number == FIRST_LUMBAR - 1
        made = []
        for side in (-1, 1):
            out = side * np.array([one.half[0] + 2, 42, 62, 78] if not short else [one.half[0] + 2, 38, 48, 54])
            back, fall = np.array([4.0, 26, 30, 14]), np.array([one.height * 0.4, 1, -9, -26])
            made.append(Tubes.along(one.centre + np.stack([out, back, fall], 1), 4.5, 5.0).draw(part))
        return made

    def skull(self, first: Vertebra) -> None:
        """Paint the base of the skull above the first vertebra."""
        index = self.grid.window(first.centre - np.array([80, 90, -6]), first.centre + np.array([80, 90, 90]))
        part = self.grid.crop(index)
        if 0 in part.shape:
            return
        x, y, z = (axis - np.float32(at) for axis, at in zip((part.x, part.y, part.z), first.centre, strict=True))
        shell = np.abs(ellipsoid((x, y - 5, z - 62), (66, 82, 50))) - 3
        self.paint(part, index, np.maximum(shell, 9 - np.hypot(x, y - 14)), 700 * self.density, True)
