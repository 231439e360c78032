"""The thorax in CT: one noise-free patient per seed, with its anatomy as ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.metrics.agatston import agatston
from ganatomy.phantoms.shapes import (
    Array,
    Grid,
    Index,
    Path,
    Point,
    Tubes,
    blend,
    capsule,
    ellipsoid,
    grow_tree,
    superellipse,
    texture,
)

# CT numbers in HU
AIR, LUNG, FAT, MUSCLE, BLOOD, MYOCARDIUM, LIVER, SPLEEN = -1000, -860, -103, 54, 42, 51, 60, 50
MARROW, CORTEX, CARTILAGE, DISC, CORD, SKIN = 190, 750, 95, 78, 32, 25

FIELD_OF_VIEW = 380.0
PLANE = 1.5  # mm, largest distance between the planes that are averaged to a slice
RIB_SPACING = 25.0
VERTEBRA_HEIGHT = 27.0
WALL_TO_RIB = 5.0  # mm from the inner surface of the chest to the middle of the ribs
MIN_REGION = 30  # smallest number of voxels of a region


@dataclass(frozen=True)
class Anatomy:
    """Anatomy that differs between patients; lengths in mm."""

    chest: tuple[float, float]  # inner half width and half depth of the rib cage
    roundness: float  # exponent of its outline
    muscle: float  # thickness of the chest wall without fat
    fat: float  # thickness of subcutaneous fat
    spine: float  # distance of the vertebral bodies behind the centre
    heart: tuple[float, float, float]  # half axes: base to apex, left to right ventricle, across
    heart_centre: Point
    apex: Point  # direction from base to apex
    epicardial_fat: float
    aorta: float  # radius of the descending aorta
    domes: tuple[float, float]  # height of the right and left half of the diaphragm
    rib_tilt: float  # fall of a rib per mm from back to front
    rib_phase: tuple[float, float]  # phase of the right and the left ribs
    vertebra_phase: float
    oesophagus_air: float  # radius of the gas in the oesophagus
    lung: float  # HU of the parenchyma
    calcium: int  # number of coronary calcifications
    level: float  # height of the middle of the scan

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Anatomy:
        """Draw a random adult."""
        near, size = rng.uniform, rng.uniform(0.92, 1.07)
        chest = (126 * size * near(0.96, 1.04), 86 * size * near(0.94, 1.08))
        rib_phase = near(0, RIB_SPACING)
        heart = size * near(0.9, 1.12)
        return cls(
            chest=chest,
            roundness=near(2.1, 2.5),
            muscle=near(12, 17),
            fat=near(6, 26),
            spine=chest[1] * near(0.66, 0.72),
            heart=(60 * heart * near(0.95, 1.05), 48 * heart, 46 * heart),
            heart_centre=(near(16, 26), -chest[1] * near(0.2, 0.3), near(-6, 6)),
            apex=(near(0.65, 0.85), near(-0.65, -0.4), near(-0.5, -0.25)),
            epicardial_fat=near(3, 8),
            aorta=near(10, 15),
            domes=(near(-62, -42), near(-75, -52)),
            rib_tilt=near(0.35, 0.6),
            rib_phase=(rib_phase, rib_phase + near(-4, 4)),
            vertebra_phase=near(0, VERTEBRA_HEIGHT),
            oesophagus_air=near(0, 4.5),
            lung=LUNG + near(-35, 45),
            calcium=int(rng.choice([0, 1, 2, 4, 7, 12], p=[0.2, 0.2, 0.2, 0.2, 0.12, 0.08])),
            level=near(-12, 22),
        )

    @property
    def spinous(self) -> float:
        """Length of the spinous processes behind the vertebral bodies' centres, which keeps them under the skin."""
        return min(58.0, self.chest[1] + 0.8 * self.muscle + 0.7 * self.fat - self.spine - 8)

    @property
    def aorta_centre(self) -> tuple[float, float]:
        """Position of the descending aorta: left in front of the vertebrae."""
        apart = 18 + self.aorta
        return 0.7 * apart, self.spine - 0.72 * apart

    def cavity(self, grid: Grid) -> Array:
        """Return the distance to the inside of the rib cage, which tapers to the top."""
        taper = 1 - 0.2 * np.clip((grid.z - 10) / 140, 0, 1) ** 2
        return superellipse(grid.x, grid.y, self.chest[0] * taper, self.chest[1] * taper, self.roundness)

    def heart_axes(self) -> Path:
        """Return unit vectors (rows) from base to apex, from left to right ventricle, and across both."""
        apex = np.asarray(self.apex) / np.linalg.norm(self.apex)
        right = np.array([-0.6, -0.8, 0.1])
        right -= right @ apex * apex
        right /= np.linalg.norm(right)
        return np.stack([apex, right, np.cross(apex, right)])

    def heart_position(self, grid: Grid) -> tuple[Array, Array, Array]:
        """Return positions along the axes of the heart."""
        x, y, z = (g - np.float32(c) for g, c in zip((grid.x, grid.y, grid.z), self.heart_centre, strict=True))
        u, v, w = (np.asarray(a[0] * x + a[1] * y + a[2] * z) for a in self.heart_axes().astype(np.float32))
        return u, v, w

    def chambers(self, grid: Grid) -> dict[str, Array]:
        """Return the distance to the inside of each chamber of the heart, which may extend into its wall."""
        position, scale = self.heart_position(grid), self.heart[1] / 48
        chambers = {
            "left ventricle": ((12, -20, 0), (36, 15, 20)),
            "right ventricle": ((8, 23, 0), (36, 13, 26)),
            "left atrium": ((-36, -16, 0), (16, 20, 24)),
            "right atrium": ((-28, 22, 0), (18, 16, 22)),
        }
        return {
            name: ellipsoid(
                tuple(p - scale * c for p, c in zip(position, centre, strict=True)), tuple(scale * r for r in radii)
            )
            for name, (centre, radii) in chambers.items()
        }

    def sac(self, grid: Grid) -> Array:
        """Return the distance of the pericardium from the muscle: thick fat in front and over grooves, else thin."""
        u, v, w = self.heart_position(grid)
        pads = 1 + 0.5 * np.sin(u / 19 + self.level) * np.cos(w / 23) + 0.6 * np.clip(v / 40, -1, 1)
        return np.asarray(np.float32(self.epicardial_fat) * np.maximum(pads, 0.3), np.float32)

    def diaphragm(self, grid: Grid) -> tuple[Array, Array]:
        """Return the distances to the regions under the right and the left half of the diaphragm."""
        right, left = self.domes
        return (
            ellipsoid((grid.x + 70, grid.y - 5, grid.z - (right - 58)), (95, 96, 58)),
            ellipsoid((grid.x - 76, grid.y - 8, grid.z - (left - 54)), (82, 90, 54)),
        )

    def lungs(self, grid: Grid) -> Array:
        """Return the distance to the lungs: the chest without heart, spine, great vessels and diaphragm."""
        heart = ellipsoid(self.heart_position(grid), self.heart) - self.sac(grid) - 1.5
        spine = ellipsoid((grid.x, grid.y - self.spine), (22, 19))
        aorta = np.hypot(grid.x - self.aorta_centre[0], grid.y - self.aorta_centre[1]) - (self.aorta + 3)
        septum: Array = np.abs(grid.x - 3) - (7 + 17 / (1 + np.exp((35 - grid.z) / np.float32(10))))
        cava: Array = np.maximum(np.hypot(grid.x + 14, grid.y - 10) - 13, grid.z + 10)
        middle = blend(blend(heart, blend(spine, aorta, 8), 14), septum, 14)
        middle = blend(middle, cava, 6)
        right, left = self.diaphragm(grid)
        return np.maximum(np.maximum(self.cavity(grid) + 3, -middle), -np.minimum(right, left))

    def ribs(self, grid: Grid, cavity: Array) -> Array:
        """Return the distance to the ribs: tilted hoops around the cavity, from the spine to the cartilage in front."""
        width, depth = (half + WALL_TO_RIB for half in self.chest)
        side = np.abs(grid.x)
        gap = np.where(grid.y > 0, 44 - side, 20 - side)
        hoop = np.hypot(cavity - WALL_TO_RIB, np.maximum(gap, 0))
        angle = depth * (1 - (44 / width) ** self.roundness) ** (1 / self.roundness)
        neck = capsule(side, grid.y, (20, self.spine + 8), (44, angle))
        phase = np.where(grid.x < 0, *self.rib_phase).astype(np.float32)
        height = np.mod(grid.z - self.rib_tilt * grid.y - phase, RIB_SPACING) - RIB_SPACING / 2
        return ellipsoid((np.minimum(hoop, neck), height / np.hypot(1, self.rib_tilt)), (4.0, 6.2))

    def vertebrae(self, grid: Grid) -> Array:
        """Return the distance to the vertebrae, with their processes."""
        x, y = np.abs(grid.x), grid.y - np.float32(self.spine)
        height = np.mod(grid.z + self.vertebra_phase, VERTEBRA_HEIGHT) - np.float32(VERTEBRA_HEIGHT / 2)
        body = np.maximum(ellipsoid((x, y), (19, 15)), np.abs(height) - (VERTEBRA_HEIGHT / 2 - 2.5))
        arch = np.maximum(np.hypot(x, y - 23) - 13, 8.5 - np.hypot(x, y - 23))
        transverse = capsule(x, y, (10, 19), (36, 31)) - 4.5
        spinous = capsule(x, y, (0, 35), (0, self.spinous)) - (4.5 - 0.03 * y)
        processes = np.minimum(np.minimum(transverse, spinous), arch)
        return np.asarray(np.minimum(body, np.maximum(processes, np.abs(height - 2) - 9)), np.float32)

    def great_vessels(self) -> list[Tubes]:
        """Return the ascending aorta with its arch, pulmonary arteries, caval veins and azygos."""
        heart_x, heart_y, _ = self.heart_centre
        courses: list[tuple[list[Point], float]] = [
            (
                [
                    (heart_x - 20, heart_y, 10),
                    (-14, heart_y - 4, 58),
                    (-4, -6, 82),
                    (14, 20, 84),
                    (*self.aorta_centre, 66),
                ],
                15,
            ),
            ([(heart_x - 8, heart_y - 18, 15), (12, heart_y - 6, 44), (6, heart_y + 12, 52)], 13),
            ([(6, heart_y + 12, 50), (-44, 8, 40)], 10),
            ([(10, heart_y + 8, 52), (48, 14, 42)], 10),
            ([(-24, heart_y + 8, 10), (-24, heart_y - 2, 130)], 8.5),
            ([(-14, 10, -15), (-14, 10, -140)], 11),
            ([(-9, self.spine - 18, -200), (-9, self.spine - 18, 60)], 3.5),
        ]
        return [Tubes.along(np.asarray(path, np.float64), radius, radius) for path, radius in courses]

    def airways(self) -> Tubes:
        """Return the lumen of trachea, main bronchi and the first lobar ones."""
        trunk = [((0, 5, 160), (0, 8, 56), 8.5, 8.5)]
        for side, drop in ((-1, 22), (1, 30)):
            root, hilum = (0, 8, 56), (side * 40 + 3, 16, 56 - drop)
            trunk.append((root, hilum, 7.5, 6.0))
            for end in (
                (side * 75, -35, -10),
                (side * 60, 45, -50),
                (side * 70, 20, 80),
                (side * 52, 22, -30),
            ):
                trunk.append((hilum, end, 4.2, 1.2))
        starts, ends = (np.array([branch[i] for branch in trunk], np.float64) for i in (0, 1))
        return Tubes(starts, ends, np.array([branch[2:] for branch in trunk]))

    def coronaries(self) -> dict[str, Path]:
        """Return the courses of the three arteries on the heart, points (x, y, z)."""
        polar = {  # angles from the apex and around the axis, in degrees
            "left anterior descending": ((100, 15), (-95, -80)),
            "left circumflex": ((98, 104), (-100, -215)),
            "right": ((100, 106), (-60, 80)),
        }
        paths = {}
        for name, (tilt, turn) in polar.items():
            theta, phi = (np.radians(np.linspace(*span, 60)) for span in (tilt, turn))
            wobble = 0.04 * np.sin(np.linspace(0, 11, 60) + len(name))
            unit = np.stack(
                [np.cos(theta + wobble), np.sin(theta) * np.cos(phi + wobble), np.sin(theta) * np.sin(phi)], 1
            )
            paths[name] = (unit * (np.asarray(self.heart) + 1)) @ self.heart_axes() + self.heart_centre
        return paths


class ThoraxCT:
    """A patient's chest without noise, which is determined by seed and size; every seed is another patient.

    Sizes and CT numbers are typical of adults. The chest is drawn on planes at most 1.5 mm apart, which are averaged to
    the slices asked for.

    Attributes:
        anatomy: anatomy of the patient.
        image: int16 HU, (1, slices, size, size).
        masks: body, subcutaneous-fat, bone, ribs, spine, lungs, lung-vessels, heart, aorta, liver,
            calcifications (any share of a voxel above 5 %), and coronaries, the region in which calcium is
            scored. Empty for structures outside of the slices.
        regions: regions of uniform tissue (aorta, heart, liver, air) with at least 30 voxels.
        agatston: score within the coronaries of this volume, as `ganatomy.metrics.agatston` measures it.
    """

    def __init__(self, seed: int, size: int = 256, slices: int = 1, spacing_mm: Point | None = None) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns.
            slices: number of axial slices, from feet to head around the middle of the heart.
            spacing_mm: spacing of slices, rows and columns; by default 3 mm and a field of view of 380 mm.

        Raises:
            UserError: a size or spacing is not positive.
        """
        spacing = spacing_mm or (3.0, FIELD_OF_VIEW / size, FIELD_OF_VIEW / size)
        if min(size, slices) < 1 or min(spacing) <= 0:
            raise UserError(f"a phantom of {slices} x {size} x {size} voxels of {spacing} mm cannot be drawn")
        anatomy_rng, drawing_rng = np.random.default_rng(seed).spawn(2)
        self.anatomy = Anatomy.draw(anatomy_rng)
        drawing = _Drawing(self.anatomy, (slices, size, size), spacing, drawing_rng)
        hu = np.rint(drawing.average(drawing.hu)).astype(np.int16)
        self.image = Image.from_array(hu, spacing, unit="HU", header=Header(modality="CT"))
        self.masks = {name: drawing.average(share) >= 0.5 for name, share in drawing.shares.items()}
        self.masks["calcifications"] = drawing.average(drawing.shares["calcifications"]) > 0.05
        self.regions = {
            name: region
            for name, share in drawing.uniform.items()
            if (region := drawing.average(share) > 0.999).sum() >= MIN_REGION
        }
        self.agatston = agatston(hu, spacing, self.masks["coronaries"]).score


class _Drawing:
    """A patient drawn organ by organ, where later organs replace earlier ones."""

    def __init__(self, anatomy: Anatomy, shape: tuple[int, int, int], spacing: Point, rng: np.random.Generator) -> None:
        self.anatomy = anatomy
        self.rng = rng
        self.planes = int(np.ceil(spacing[0] / PLANE))
        self.shape = shape
        self.spacing = spacing
        slices, rows, columns = shape
        fine = (spacing[0] / self.planes, *spacing[1:])
        self.grid = Grid.centred((slices * self.planes, rows, columns), fine, anatomy.level)
        self.hu = np.full(self.grid.shape, AIR, np.float32)
        self.shares: dict[str, Array] = {}
        self.uniform: dict[str, Array] = {}

        # Fine grain of tissue, mottling, and the wavy sheets that separate lobules of fat and bundles of muscle.
        self.grain, self.mottle, waves = (self.texture(size) for size in (1.3, 4.0, 9.0))
        self.strands = np.exp(-((waves / 0.07) ** 2)) * np.clip(self.mottle, 0, 1)
        self.cavity = anatomy.cavity(self.grid)
        self.diaphragm = anatomy.diaphragm(self.grid)
        self.lungs = anatomy.lungs(self.grid)

        self.table()
        self.chest_wall()
        self.skeleton()
        self.abdomen()
        self.mediastinum()
        self.heart()
        self.lung_tissue()
        self.airways()
        self.coronaries()

    def average(self, values: Array) -> Array:
        """Average planes to slices."""
        return np.asarray(values.reshape(self.shape[0], self.planes, *self.shape[1:]).mean(1), np.float32)

    def texture(self, grain: float) -> Array:
        """Return a random field of the volume, constant within a slice."""
        return np.repeat(texture(self.rng, self.shape, self.spacing, grain), self.planes, 0)

    def paint(self, share: Array, hu: ArrayLike, index: Index | None = None) -> None:
        """Mix tissue into the volume (or a part of it) by the share of each voxel that it takes."""
        canvas = self.hu if index is None else self.hu[index]
        canvas += share * (np.asarray(hu, np.float32) - canvas)

    def fill(self, distance: Array, hu: ArrayLike, index: Index | None = None) -> Array:
        """Paint the inside of a shape and return the shares."""
        share = np.broadcast_to(self.grid.coverage(distance), self.hu[index or ...].shape)
        self.paint(share, hu, index)
        return share

    def table(self) -> None:
        """Paint the patient table: two carbon shells with foam between."""
        a, grid = self.anatomy, self.grid
        back = a.chest[1] + a.muscle + a.fat + 8
        sag = grid.y - (back - grid.x**2 / 2000)
        top, bottom = np.abs(sag) - 1, np.abs(sag - 22 + grid.x**2 / 1500) - 1
        foam = np.maximum(-sag, sag - 22 + grid.x**2 / 1500)
        for shape, hu in ((foam, -945), (np.minimum(top, bottom), -350)):
            self.fill(np.maximum(shape, np.abs(grid.x) - 175), hu)

    def chest_wall(self) -> None:
        """Paint skin, subcutaneous fat, the muscles around the ribs and along the spine."""
        a, grid, cavity = self.anatomy, self.grid, self.cavity
        width, depth = a.chest
        flank = np.clip(grid.y / depth + 0.2, 0, 1) * np.clip(np.abs(grid.x) / 70, 0, 1)
        pectoral = np.exp(-(((np.abs(grid.x) - 0.45 * width) / 30) ** 2)) * np.clip(-2 * grid.y / depth, 0, 1)
        thickness = np.float32(a.muscle) * (0.8 + 0.7 * flank + 0.6 * pectoral)
        layer = np.float32(a.fat) * (0.55 + 0.5 * np.abs(grid.x) / width + 0.3 * np.abs(grid.y) / depth)
        side = np.abs(grid.x)
        erector = ellipsoid((side - 26, grid.y - (a.spine + 35)), (21, 15))
        muscle = blend(cavity - thickness, erector, 8)
        body = blend(cavity - thickness - layer, muscle - 3, 6)

        self.shares["body"] = self.fill(body, SKIN)
        inside = self.fill(body + 1.8, FAT + 6 * self.mottle + 45 * self.strands)
        flesh = self.fill(muscle, MUSCLE + 5 * self.mottle + 4 * self.grain - 35 * self.strands)
        self.shares["subcutaneous-fat"] = inside - flesh
        between = np.abs(cavity - 0.72 * thickness) - 0.8
        self.paint(0.7 * grid.coverage(np.maximum(between, 45 - side)), FAT)
        self.fill(cavity, FAT + 5 * self.mottle + 20 * self.strands)
        self.uniform["air"] = (1 - grid.coverage(body - 12)) * (grid.y < -depth / 2)

    def bone(self, distance: Array, shell: float, index: Index | None = None) -> Array:
        """Paint cortical bone around marrow and return the shares of both."""
        grain = self.grain if index is None else self.grain[index]
        share = self.fill(distance, CORTEX, index)
        self.fill(distance + shell, MARROW + 40 * grain, index)
        return share

    def skeleton(self) -> None:
        """Paint ribs with their cartilage, sternum, shoulder blades and spine."""
        bones = self.ribs()
        self.shares["ribs"] = bones.copy()
        self.shares["spine"] = np.zeros_like(bones)
        a, grid = self.anatomy, self.grid
        sternum = ellipsoid((grid.x, grid.y + a.chest[1] + 3), (17, 6.5)) + 0 * grid.z
        blade = np.maximum(
            np.abs(self.cavity - (a.muscle * 1.05)) - 4 * np.clip((grid.z + 15) / 25, 0, 1) + 1.5,
            np.maximum(np.abs(np.abs(grid.x) - 92) - 24, 5 - grid.y),
        )
        for share in (self.bone(sternum, 1.2), self.bone(blade, 1.0)):
            np.maximum(bones, share, out=bones)
        index, share = self.spine()
        self.shares["spine"][index] = share
        np.maximum(bones, self.shares["spine"], out=bones)
        self.shares["bone"] = bones

    def ribs(self) -> Array:
        """Paint ribs: tilted hoops in the chest wall, from the spine to the cartilage beside the sternum."""
        a, grid = self.anatomy, self.grid
        rib = a.ribs(grid, self.cavity)
        cartilage = np.clip((-0.7 * (a.chest[1] + WALL_TO_RIB) - grid.y) / 4, 0, 1)
        share = self.grid.coverage(rib)
        self.paint(share, CORTEX + (CARTILAGE - CORTEX) * cartilage)
        marrow = MARROW + 40 * self.grain
        self.fill(rib + 1.4, marrow + (CARTILAGE - marrow) * cartilage)
        return np.asarray(share * (1 - cartilage), np.float32)

    def spine(self) -> tuple[Index, Array]:
        """Paint vertebrae, discs and cord; return the part of the volume around them, and the bone in it."""
        a = self.anatomy
        index = self.grid.window((-50, a.spine - 30, -np.inf), (50, a.spine + 75, np.inf))
        grid = self.grid.crop(index)
        x, y = np.abs(grid.x), grid.y - np.float32(a.spine)
        canal = np.hypot(x, y - 23) - 8.5
        self.fill(ellipsoid((x, y), (19, 15)) + 0 * grid.z, DISC, index)
        share = self.bone(a.vertebrae(grid), 1.5, index)
        self.fill(canal + 0 * grid.z, FAT, index)
        self.fill(canal + 1.5 + 0 * grid.z, 12, index)
        self.fill(ellipsoid((x, y - 23), (5.5, 4)) + 0 * grid.z, CORD, index)
        return index, share

    def abdomen(self) -> None:
        """Paint the organs under the diaphragm: liver with its veins, stomach, spleen."""
        a, grid = self.anatomy, self.grid
        right, left = (np.maximum(dome, self.cavity + 2) for dome in self.diaphragm)
        self.fill(np.minimum(right, left), MUSCLE)
        self.fill(left + 3, FAT + 5 * self.mottle)
        self.fill(np.maximum(left + 4, ellipsoid((grid.x - 92, grid.y - 36), (42, 34))), SPLEEN)
        stomach = np.maximum(left + 4, ellipsoid((grid.x - 62, grid.y + 14), (44, 36)))
        self.fill(stomach, MUSCLE)
        self.fill(stomach + 4, np.where(grid.y < -28, AIR, 18))
        liver = self.fill(right + 3, LIVER + 3 * self.mottle)
        self.shares["liver"] = liver
        low, high = grid.z.min() - 30, a.domes[0] - 6
        if liver.any():
            spread = self.rng.uniform((-140, -75, low), (10, 85, max(high, low + 1)), (50, 3))
            veins = grow_tree((-20, 30, low), spread, 0.9).draw(grid) * liver
            self.paint(veins, BLOOD)
            self.uniform["liver"] = grid.coverage(right + 8) * (veins < 0.1)

    def mediastinum(self) -> None:
        """Paint aorta, oesophagus, azygos and caval veins, and the great arteries above the heart."""
        a, grid = self.anatomy, self.grid
        aorta = np.hypot(grid.x - a.aorta_centre[0], grid.y - a.aorta_centre[1]) + 0 * grid.z
        gullet = (grid.x + 3, grid.y - (a.spine - 27))
        for vessel in a.great_vessels():
            self.paint(vessel.draw(grid), BLOOD)
        self.fill(ellipsoid(gullet, (9, 6.5)) + 0 * grid.z, 34)
        if a.oesophagus_air > 1:
            self.fill(ellipsoid(gullet, (a.oesophagus_air, 0.7 * a.oesophagus_air)) + 0 * grid.z, AIR)
        self.shares["aorta"] = self.fill(aorta - a.aorta, MUSCLE)
        self.fill(aorta - (a.aorta - 1.5), BLOOD)
        self.uniform["aorta"] = grid.coverage(aorta - (a.aorta - 4))

    def heart(self) -> None:
        """Paint pericardium, myocardium and four chambers, hardly discernible without contrast medium."""
        a, grid = self.anatomy, self.grid
        u, v, w = a.heart_position(grid)
        surface = ellipsoid((u, v, w), a.heart)
        sac = surface - a.sac(grid)
        self.outside_heart = 1 - grid.coverage(sac - 1.5)
        self.paint(0.6 * grid.coverage(np.maximum(np.abs(sac) - 0.7, self.cavity)), SKIN)
        muscle = np.maximum(surface, self.cavity + 2)
        self.shares["heart"] = self.fill(muscle, MYOCARDIUM + 2 * self.mottle)
        for chamber in a.chambers(grid).values():
            cavity = np.maximum(chamber, muscle + 3)
            self.fill(cavity, BLOOD)
            pool = grid.coverage(cavity + 3)
            self.uniform["heart"] = np.maximum(self.uniform.get("heart", pool), pool)

    def lung_tissue(self) -> None:
        """Paint parenchyma, denser in dependent parts, with fissures, arteries and veins."""
        a, grid = self.anatomy, self.grid
        gravity = 30 * grid.y / np.float32(a.chest[1])
        lung = self.fill(self.lungs, a.lung + gravity + 14 * self.grain + 12 * self.mottle)
        fissure = np.abs(grid.z - 0.9 * grid.y - np.where(grid.x < 0, 8, 16)) / 1.35 - 0.5
        self.paint(0.25 * grid.coverage(fissure) * lung, LUNG + 400)
        vessels = np.zeros_like(self.hu)
        for side in (-1, 1):
            for hilum, density in (((side * 42 + 4, 10, 24), 1 / 450), ((side * 36 + 6, 4, 6), 1 / 700)):
                tree = grow_tree(hilum, self.lung_points(side, density), 0.33)
                np.maximum(vessels, tree.draw(grid), out=vessels)
        vessels *= lung
        self.paint(vessels, BLOOD)
        self.shares["lungs"] = lung
        self.shares["lung-vessels"] = vessels

    def lung_points(self, side: int, density: float) -> Path:
        """Draw random positions in one lung near the scanned part, `density` of them per mm³."""
        coarse, reach = 6.0, 60.0
        z = self.grid.z
        slices = int((float(z.max() - z.min()) + 2 * reach) / coarse) + 1
        grid = Grid.centred((slices, 40, 56), (coarse,) * 3, float(z.mean()))
        inside = (self.anatomy.lungs(grid) < -2) & (grid.x * side > 0)
        k, j, i = np.nonzero(inside)
        chosen = self.rng.integers(0, max(len(k), 1), int(len(k) * coarse**3 * density))
        corner = np.stack([grid.x[0, 0, i[chosen]], grid.y[0, j[chosen], 0], grid.z[k[chosen], 0, 0]], 1)
        return corner + self.rng.uniform(-coarse / 2, coarse / 2, corner.shape)

    def airways(self) -> None:
        """Paint trachea, main bronchi and the first lobar ones, with their walls."""
        lumen = self.anatomy.airways()
        self.paint(replace(lumen, radii=lumen.radii + 1.2).draw(self.grid) * self.outside_heart, MUSCLE)
        self.paint(lumen.draw(self.grid) * self.outside_heart, AIR)

    def coronaries(self) -> None:
        """Paint coronary arteries in their fat, and their calcifications: ellipsoids along the vessel wall."""
        paths = self.anatomy.coronaries()
        grid = self.grid
        region = np.zeros_like(self.hu)
        for path in paths.values():
            self.paint(Tubes.along(path, 5.0, 3.5).draw(grid), FAT)
            np.maximum(region, Tubes.along(path, 6.0, 5.0).draw(grid), out=region)
        for path in paths.values():
            self.paint(Tubes.along(path, 2.2, 1.2).draw(grid), BLOOD)
        self.shares["coronaries"] = region * (self.shares["bone"] == 0)
        self.shares["calcifications"] = self.calcium(np.concatenate([path[5:50] for path in paths.values()]))

    def calcium(self, course: Path) -> Array:
        """Paint calcifications in the scanned part of the arteries, 1 to 8 mm long, 200 to 900 HU; return shares."""
        drawn = np.zeros_like(self.hu)
        z = self.grid.z
        scanned = np.flatnonzero((course[:-1, 2] > z.min()) & (course[:-1, 2] < z.max()))
        for _ in range(self.anatomy.calcium if len(scanned) else 0):
            place = self.rng.choice(scanned)
            middle = course[place] + self.rng.uniform(-1.0, 1.0, 3)
            along = course[place + 1] - course[place]
            half = along / np.linalg.norm(along) * self.rng.uniform(0.2, 3.5)
            width = self.rng.uniform(0.5, 1.4)
            spot = Tubes((middle - half)[None], (middle + half)[None], np.full((1, 2), width)).draw(self.grid)
            self.paint(spot, self.rng.uniform(200, 900))
            np.maximum(drawn, spot, out=drawn)
        return drawn
