"""The torso in MR after contrast medium: abdomens of all sizes, from children to adults, and adult chests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import pairwise
from math import ceil
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms import thorax
from ganatomy.phantoms.shapes import (
    Array,
    Grid,
    Index,
    Mask,
    Path,
    PlaneWaves,
    Point,
    Tubes,
    average,
    blend,
    capsule,
    ellipsoid,
    grow_tree,
    ramp,
    superellipse,
    turned,
)

CONTRASTS = ("t1", "t2")

FINEST = 2.8  # mm, largest edge of the pixels that coarser ones are averaged from
RIB_SPACING = 25.0  # mm
VERTEBRA_HEIGHT = 27.0  # mm
SPINE = 46.0  # mm, distance of the vertebral bodies of an abdomen behind its centre
LIVER_BOX: tuple[tuple[float, float, float], tuple[float, float, float]] = ((-118, -72, -75), (55, 70, 85))
"""Two corners of a box around the liver of an adult of average size, in mm."""
PURE = 0.999  # smallest share of one tissue in a voxel of a region


class Tissue(NamedTuple):
    """Intensities of a tissue in T1- and T2-weighted images, in a.u."""

    t1: float
    t2: float


TISSUES = {
    "air": Tissue(0, 0),
    "skin": Tissue(380, 260),
    "fat": Tissue(720, 620),
    "muscle": Tissue(300, 170),
    "bone": Tissue(50, 30),
    "marrow": Tissue(460, 420),
    "cartilage": Tissue(260, 330),
    "csf": Tissue(90, 1000),
    "cord": Tissue(330, 350),
    "lung": Tissue(35, 30),
    "blood": Tissue(960, 90),
    "myocardium": Tissue(430, 240),
    "liver": Tissue(500, 230),
    "bile": Tissue(120, 950),
    "spleen": Tissue(580, 430),
    "cortex": Tissue(830, 430),
    "medulla": Tissue(520, 560),
    "urine": Tissue(130, 980),
    "pancreas": Tissue(530, 330),
    "gland": Tissue(420, 480),
    "wall": Tissue(470, 280),
    "chyme": Tissue(190, 850),
    "stool": Tissue(340, 240),
}
"""Tissue to its intensities in the portal-venous phase of a T1-weighted gradient echo, and in a T2-weighted spin echo
without signal of blood; fat is not suppressed. The order of tissues is realistic, the numbers are our choice."""


class Loop(NamedTuple):
    """A piece of bowel: its points, radius, and content ("mixed" is chyme under air, "empty" almost nothing)."""

    path: Path
    radius: float
    content: str


Shape = Callable[[Grid], Array]
"""Function from a grid, of which x, y and z are used, to the distance to a shape."""


class Canvas:
    """Tissues painted one over the other, each replacing a share of those before.

    Attributes:
        grid: positions of the voxels.
        shares: share of each tissue in each voxel, (tissues, slices, rows, columns).
        taken: distance to the organs placed so far, which later ones do not overlap.
        organs: share of each voxel that an organ takes, by name.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.shares = np.zeros((len(TISSUES), *grid.shape), np.float32)
        self.shares[0] = 1
        self.taken = np.full(grid.shape, np.inf, np.float32)
        self.organs: dict[str, Array] = {}

    def __getitem__(self, tissue: str) -> Array:
        return np.asarray(self.shares[list(TISSUES).index(tissue)], np.float32)

    def paint(self, share: Array, tissue: str, index: Index | None = None) -> None:
        """Replace this share of every voxel, or of those at an index, by one tissue."""
        canvas = self.shares[(slice(None), *index)] if index else self.shares
        share = np.broadcast_to(share, canvas.shape[1:])
        canvas *= 1 - share
        canvas[list(TISSUES).index(tissue)] += share

    def fill(self, distance: Array, tissue: str, index: Index | None = None) -> None:
        """Paint the inside of a shape."""
        self.paint(self.grid.coverage(distance), tissue, index)

    def place(self, distance: Array, gap: float = 1.0, index: Index | None = None) -> Array:
        """Return the shape of an organ without those placed before, and exclude later organs from it."""
        taken = self.taken[index] if index else self.taken
        free = np.maximum(distance, gap - taken)
        np.minimum(taken, free, out=taken)
        return np.asarray(free, np.float32)


class TorsoMR(ABC):
    """Axial slices of one torso per seed, measured by a coil of uneven sensitivity.

    Attributes:
        image: contrast-enhanced T1, float32 (1, slices, size, size) in a.u. from 0 to about 1000, with a slow bias
            field and Rician noise.
        images: "t1", and "t2" with equal anatomy and independent noise.
        masks: organs, where they take at least half of a voxel; empty for organs outside of the slices.
        regions: voxels that hold one tissue only.
    """

    FIELD_OF_VIEW: ClassVar[float]
    PLAIN: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        seed: int,
        *,
        size: int = 128,
        slices: int = 12,
        distance_mm: float = 3.0,
        bias: float = 0.1,
        noise: float = 0.015,
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns.
            slices: number of slices, from below.
            distance_mm: distance between slices.
            bias: SD of the logarithm of the coil's sensitivity.
            noise: SD of the noise in either channel, as a fraction of 1000 a.u.

        Raises:
            UserError: the size is impossible, or bias or noise is negative.
        """
        if size < 8 or slices < 1 or not 0 < distance_mm <= 10 or min(bias, noise) < 0:
            raise UserError(
                f"a torso of {slices} x {size} x {size} voxels, {distance_mm:g} mm apart, with bias {bias:g} and noise "
                f"{noise:g} cannot be drawn: give at least one slice of 8 x 8 pixels, and at most 10 mm between slices"
            )
        anatomical, physical = np.random.default_rng(seed).spawn(2)
        pixel = self.FIELD_OF_VIEW / size
        parts = ceil(pixel / FINEST)
        fine = Grid.centred((slices, size * parts, size * parts), (distance_mm, pixel / parts, pixel / parts))
        canvas = self._draw(fine, anatomical)

        shares = {name: average(canvas[name], parts) for name in TISSUES}
        self.masks = {name: average(share, parts) >= 0.5 for name, share in canvas.organs.items()}
        self.regions: dict[str, Mask] = {name: shares[name] > PURE for name in self.PLAIN}

        grid = Grid.centred((slices, size, size), (distance_mm, pixel, pixel))
        place = grid.x, grid.y, grid.z
        coil = np.exp(np.float32(bias) * PlaneWaves.draw(anatomical, 600.0, 4)(*place))
        mottled = coil * (1 + np.float32(0.02) * PlaneWaves.draw(anatomical, 12.0, 12)(*place))
        self.images: dict[str, Image] = {}
        for name in CONTRASTS:
            clean = mottled * sum(
                np.float32(getattr(TISSUES[tissue], name)) * share for tissue, share in shares.items()
            )
            thermal = 1000 * noise * physical.standard_normal((2, *grid.shape), np.float32)
            noisy = np.hypot(clean + thermal[0], thermal[1]).astype(np.float32)
            self.images[name] = Image.from_array(noisy, (distance_mm, pixel, pixel), "a.u.", Header(modality="MR"))
        self.image = self.images["t1"]

    @abstractmethod
    def _draw(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        """Draw a random patient on a grid around the middle of the scan; draws from `rng` do not depend on the grid."""


class AbdomenMR(TorsoMR):
    """The upper abdomen of children and adults: liver with vessels, spleen, kidneys, stomach and bowel in fat.

    Attributes:
        masks: "body"; "liver", vessels included; "spleen"; "kidneys" without the fat in them; and "vessels", all blood.
        regions: "liver" and "muscle".
    """

    FIELD_OF_VIEW = 320.0
    PLAIN = ("liver", "muscle")

    def _draw(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        return draw_abdomen(Abdomen.draw(rng), grid, rng)


class SplenomegalyMR(AbdomenMR):
    """The upper abdomen with a spleen of one to about five times its usual volume, in place of stomach and bowel.

    Attributes:
        growth: length of the spleen relative to that of a healthy one of this patient, 1 to 1.75.
    """

    def _draw(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        patient = Abdomen.draw(rng)
        self.growth = float(rng.uniform(1.0, 1.75))
        (x, y, z), radii = patient.spleen
        # A large spleen reaches downwards, to the front and to the middle.
        far = self.growth - 1
        a, b, c = self.growth * np.asarray(radii)
        patient = replace(patient, spleen=((x - 16 * far, y - 22 * far, z - 40 * far), (a, b, c)))
        return draw_abdomen(patient, grid, rng)


class ChestMR(TorsoMR):
    """An adult's chest at the height of the heart, whose chambers and vessels are bright.

    The anatomy is that of `ganatomy.phantoms.thorax`.

    Attributes:
        masks: "body" and "lungs", vessels included; "heart"; and "vessels", all blood outside of the heart.
        regions: "blood" and "muscle".
    """

    FIELD_OF_VIEW = 370.0
    PLAIN = ("blood", "muscle")

    def _draw(self, grid: Grid, rng: np.random.Generator) -> Canvas:
        return _chest(thorax.Anatomy.draw(rng), grid, rng)


@dataclass(frozen=True)
class Abdomen:
    """Anatomy that differs between patients; lengths in mm of an adult of average size."""

    size: Point  # size of the patient relative to that adult: width, depth and height
    fat: float  # thickness of subcutaneous fat
    muscle: float  # thickness of the muscular wall
    level: float  # height of the middle of the scan
    phases: tuple[float, float]  # phases of ribs and vertebrae
    liver: tuple[Point, Point]  # half axes of the right and the left lobe
    spleen: tuple[Point, Point]  # centre and half axes
    kidneys: tuple[tuple[Point, Point, float], ...]  # centre, half axes and angle in radians of the right and the left
    gallbladder: tuple[Point, Point]  # centre and half axes
    stomach: tuple[Point, Point]  # centre and half axes
    aorta: float  # radius of the aorta
    lumps: PlaneWaves  # unevenness of the surface of organs
    folds: PlaneWaves  # folds of the mucosa
    lobules: PlaneWaves  # lobules of fat, pancreas and colon

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Abdomen:
        """Draw a random patient of at least about six years."""
        near = rng.uniform
        size = near(0.72, 1.04)

        def about(centre: Point, apart: float) -> Point:
            x, y, z = rng.uniform(-apart, apart, 3) + centre
            return x, y, z

        def scaled(radii: Point, share: float) -> Point:
            a, b, c = np.asarray(radii) * near(1 - share, 1 + share) * near(0.94, 1.06, 3)
            return a, b, c

        return cls(
            size=(size * near(0.97, 1.03), size * near(0.95, 1.06), size),
            fat=near(4, 18),
            muscle=near(9, 13),
            level=near(-45, 14),
            phases=(near(0, RIB_SPACING), near(0, VERTEBRA_HEIGHT)),
            liver=(scaled((60, 66, 82), 0.08), scaled((62, 30, 44), 0.2)),
            spleen=(about((88, 26, 14), 6), scaled((26, 42, 50), 0.15)),
            kidneys=tuple(
                (about((side * 58, 40, middle), 5), scaled((29, 23, 54), 0.1), near(0.5, 0.9))
                for side, middle in ((-1, -34), (1, -22))
            ),
            gallbladder=(about((-38, -44, -22), 6), scaled((13, 21, 20), 0.3)),
            stomach=(about((52, -28, 18), 7), scaled((40, 34, 44), 0.2)),
            aorta=near(8, 10),
            lumps=PlaneWaves.draw(rng, 55.0, 8),
            folds=PlaneWaves.draw(rng, (11.0, 11.0, 16.0), 10),
            lobules=PlaneWaves.draw(rng, 20.0, 10),
        )

    def own(self, grid: Grid) -> Grid:
        """Return a grid around the middle of the scan, in the mm of an adult of average size."""
        across, deep, high = (np.float32(relative) for relative in self.size)
        level = np.float32(self.level)
        return Grid(grid.x / across, grid.y / deep, grid.z / high + level, grid.pixel / float(np.sqrt(across * deep)))

    def cavity(self, grid: Grid) -> Array:
        """Return the distance to the inside of the wall."""
        return superellipse(grid.x, grid.y + 7, 116, 80, 2.3) + 0 * grid.z

    def dome(self, grid: Grid) -> Array:
        """Return the distance to the space under the diaphragm."""
        return ellipsoid((grid.x, grid.y + 2, np.maximum(grid.z + 10, 0)), (122, 92, 100))

    def livers(self, grid: Grid) -> Array:
        """Return the distance to both lobes of the liver, with a fissure between and hollows for other organs."""
        x, y, z = grid.x, grid.y, grid.z
        right = ellipsoid((x + 58, y - 4, z - 5), self.liver[0])
        left = ellipsoid((x + 4 + 0.1 * z, y + 40, z - 24), self.liver[1])
        both = blend(right, left, 30) + 2 * self.lumps(x, y, z)
        back = ellipsoid((x - 8, y - 44), (42, 44))
        hilum = ellipsoid((x + 18, y + 6, z + 12), (20, 11, 26))
        fissure = np.maximum(np.abs(x + 10 - 0.2 * y) - 1.2, np.maximum(y + 32, z - 26))
        free = np.maximum(both, -np.minimum(blend(back, hilum, 12), fissure))
        return np.asarray(np.maximum(np.maximum(free, self.cavity(grid) + 2.5), self.dome(grid) + 4), np.float32)

    def stomachs(self, grid: Grid) -> Array:
        """Return the distance to the stomach, from under the left dome towards the pylorus."""
        centre, radii = self.stomach
        x, y, z = _from(grid, centre)
        antrum = _tube(grid, ((*centre[:2], centre[2] - 15), (20, -44, -14), (-14, -34, -18)), (18, 15, 9))
        bag = blend(ellipsoid((x, y, z), radii), antrum, 14)
        return np.asarray(np.maximum(bag, np.maximum(self.cavity(grid) + 4, self.dome(grid) + 5)), np.float32)


def _from(grid: Grid, centre: Point) -> tuple[Array, Array, Array]:
    """Return positions relative to a centre."""
    x, y, z = (axis - np.float32(c) for axis, c in zip((grid.x, grid.y, grid.z), centre, strict=True))
    return x, y, z


def _tube(grid: Grid, path: tuple[Point, ...] | Path, radii: tuple[float, ...]) -> Array:
    """Return the distance to a smooth tube through points, with the radius that it has at each."""
    pieces = []
    for (start, first), (end, last) in pairwise(
        zip(np.asarray(path, np.float32), np.asarray(radii, np.float32), strict=True)
    ):
        x, y, z = (axis - c for axis, c in zip((grid.x, grid.y, grid.z), start, strict=True))
        dx, dy, dz = along = end - start
        t = np.clip((x * dx + y * dy + z * dz) / max(along @ along, 1e-6), 0, 1)
        apart = np.sqrt((x - t * dx) ** 2 + (y - t * dy) ** 2 + (z - t * dz) ** 2)
        pieces.append(np.asarray(apart - (first + (last - first) * t), np.float32))
    return reduce(partial(blend, reach=5.0), pieces)


def places_inside(
    rng: np.random.Generator, shape: Shape, low: Point, high: Point, tries: int, depth: float = 2.0
) -> Path:
    """Draw random positions at least `depth` mm inside a shape, from ``tries`` positions between two corners."""
    places = rng.uniform(low, high, (tries, 3))
    x, y, z = places.T.astype(np.float32)
    return np.asarray(places[shape(Grid(x, y, z, 1.0)) < -depth], np.float64)


def _wall(canvas: Canvas, cavity: Array, muscle: ArrayLike, fat: ArrayLike, spine: float) -> Array:
    """Paint skin, subcutaneous fat and muscles around a cavity; return the distance to the muscles."""
    grid = canvas.grid
    side = np.abs(grid.x)
    erector = ellipsoid((side - 27, grid.y - (spine + 33)), (22, 16))
    outside = cavity - np.asarray(muscle, np.float32)
    flesh = blend(outside, erector, 8)
    body = blend(outside - np.asarray(fat, np.float32), flesh - 3, 8)
    canvas.organs["body"] = np.broadcast_to(grid.coverage(body), grid.shape)
    canvas.fill(body, "skin")
    canvas.fill(body + 2, "fat")
    canvas.fill(flesh, "muscle")
    return flesh


def _ribs(canvas: Canvas, apart: Array, spine: float, front: Array | float, tilt: float, phase: float) -> None:
    """Paint tilted hoops at a distance `apart`, from the spine to y = `front`, where cartilage takes over."""
    grid = canvas.grid
    gap = np.maximum(np.where(grid.y > 0, 40 - np.abs(grid.x), 18 - np.abs(grid.x)), front - 25 - grid.y)
    height = np.mod(grid.z - tilt * grid.y - np.float32(phase), RIB_SPACING) - np.float32(RIB_SPACING / 2)
    rib = ellipsoid((np.hypot(apart, np.maximum(gap, 0)), height / np.float32(np.hypot(1, tilt))), (3.8, 6.0))
    ends = grid.y < front
    canvas.paint(grid.coverage(rib) * ends, "cartilage")
    canvas.paint(grid.coverage(rib) * ~ends, "bone")
    canvas.paint(grid.coverage(rib + 1.4) * ~ends, "marrow")


def _spine(canvas: Canvas, spine: float, reach: float, phase: float) -> None:
    """Paint vertebrae with discs, and the cord in its fluid; spinous processes end `reach` mm behind the bodies."""
    index = canvas.grid.window((-50, spine - 30, -np.inf), (50, spine + 75, np.inf))
    grid = canvas.grid.crop(index)
    x, y = np.abs(grid.x), grid.y - np.float32(spine)
    height = np.mod(grid.z + np.float32(phase), VERTEBRA_HEIGHT) - np.float32(VERTEBRA_HEIGHT / 2)
    column = ellipsoid((x, y), (20, 15)) + 0 * grid.z
    body = np.maximum(column, np.abs(height) - (VERTEBRA_HEIGHT / 2 - 3))
    canal = ellipsoid((x, y - 23), (10, 8)) + 0 * grid.z
    transverse = capsule(x, y, (10, 19), (34, 28)) - 4
    spinous = capsule(x, y, (0, 33), (0, reach)) - 4
    processes = np.minimum(np.minimum(transverse, spinous), ellipsoid((x, y - 23), (15, 13)))
    vertebra = np.minimum(body, np.maximum(processes, np.abs(height - 2) - 9))
    for shape, tissue in (
        (column, "cartilage"),
        (vertebra, "bone"),
        (vertebra + 1.6, "marrow"),
        (canal, "fat"),
        (canal + 1.5, "csf"),
        (ellipsoid((x, y - 23), (5.5, 4)) + 0 * grid.z, "cord"),
    ):
        canvas.fill(shape, tissue, index)


def _septa(canvas: Canvas, waves: PlaneWaves, spread: PlaneWaves) -> None:
    """Paint wavy sheets of connective tissue, in some places, through all fat."""
    place = canvas.grid.x, canvas.grid.y, canvas.grid.z
    sheets = np.exp(-((waves(*place) / np.float32(0.09)) ** 2)) * np.clip(0.4 + 0.4 * spread(*place), 0, 0.8)
    canvas.paint(sheets * canvas["fat"], "muscle")


def draw_abdomen(a: Abdomen, grid: Grid, rng: np.random.Generator) -> Canvas:
    """Return the tissues of an abdomen, painted organ by organ on a grid around the middle of the scan."""
    # All random numbers are drawn before the grid is used, so that every grid shows one patient.
    trees, gut = _liver_trees(a, rng), _loops(rng)
    mesentery = grow_tree((8, 2, -30), rng.uniform((-75, -60, -110), (80, 5, 10), (160, 3)), 0.55)
    septa = PlaneWaves.draw(rng, 26.0, 10), PlaneWaves.draw(rng, 40.0, 6)

    canvas = Canvas(a.own(grid))
    grid = canvas.grid
    _abdominal_wall(canvas, a, septa)
    _great_vessels(canvas, a)
    _solid_organs(canvas, a, trees)
    _stomach(canvas, a)
    for loop in gut:
        _loop(canvas, a, loop)
    canvas.paint(mesentery.draw(grid) * grid.coverage(2 - canvas.taken) * canvas["fat"], "blood")
    canvas.organs["vessels"] = canvas["blood"]
    return canvas


def _abdominal_wall(canvas: Canvas, a: Abdomen, septa: tuple[PlaneWaves, PlaneWaves]) -> None:
    """Paint the wall with its layers and bones, the diaphragm and the lungs over it, which bound the organs."""
    grid = canvas.grid
    cavity, dome, side = a.cavity(grid), a.dome(grid), np.abs(grid.x)
    flank = np.clip(side / 90, 0, 1)
    layer = np.float32(a.fat) * (1 + 0.3 * np.clip(grid.y / 80, -1, 1) - 0.25 * flank)
    flesh = _wall(canvas, cavity, a.muscle * (0.8 + 0.35 * flank), layer, SPINE)
    between = np.maximum(np.abs(cavity - 0.5 * a.muscle) - 0.5, 30 - side)
    alba = np.maximum(side - 2.5, np.maximum(flesh, grid.y + 40))
    canvas.paint(0.6 * grid.coverage(between), "fat")
    canvas.fill(alba, "fat")
    canvas.fill(cavity, "fat")
    _septa(canvas, *septa)
    _ribs(canvas, cavity - 0.45 * a.muscle, SPINE, -55 + 1.1 * np.clip(10 - grid.z, 0, 60), 0.5, a.phases[0])

    girth = np.clip(11 - 0.2 * grid.z, 3, 18)
    psoas = ellipsoid((side - 22 - girth, grid.y - (SPINE + 4)), (girth, 1.3 * girth))
    lumborum = ellipsoid((side - 58, grid.y - (SPINE + 20)), (18, 8)) + 0 * grid.z
    crus = np.maximum(ellipsoid((side - 12, grid.y - (SPINE - 16)), (9, 5)), -10 - grid.z)
    for muscle in (psoas, lumborum, crus):
        canvas.fill(np.maximum(muscle, cavity - 1), "muscle")
    _spine(canvas, SPINE, 50, a.phases[1])
    chest = np.maximum(cavity + 1, -10 - grid.z)
    canvas.fill(np.maximum(chest, 2 - dome), "muscle")
    canvas.fill(np.maximum(chest + 1, 3.5 - dome), "lung")
    column = ellipsoid((grid.x, grid.y - SPINE), (24, 19)) + 0 * grid.z
    for limit in (column, psoas, lumborum, -cavity, -dome):
        np.minimum(canvas.taken, limit, out=canvas.taken)


def _liver_trees(a: Abdomen, rng: np.random.Generator) -> tuple[Tubes, ...]:
    """Return the portal vein with its branches, and the hepatic veins."""
    portal = grow_tree((-26, -4, -4), places_inside(rng, a.livers, *LIVER_BOX, 1500), 0.75)
    hepatic = grow_tree((-20, 14, 62), places_inside(rng, a.livers, *LIVER_BOX, 1300), 0.75)
    return portal, hepatic


def _great_vessels(canvas: Canvas, a: Abdomen) -> None:
    """Paint aorta and inferior vena cava, with the vessels that join them."""
    grid, front = canvas.grid, SPINE - 20
    aorta, cava = (5, front - a.aorta), (-20, front - 8)
    courses: list[tuple[tuple[Point, ...], tuple[float, ...]]] = [
        (((*aorta, -200), (*aorta, 200)), (a.aorta, a.aorta)),
        (((*cava, -200), (*cava, 40), (-22, 6, 90)), (10, 11, 11)),
        (((*aorta, 12), (6, front - 32, 14)), (4, 3.5)),
        (((6, front - 32, 14), (-30, -8, 12)), (3, 2.5)),
        (((*aorta, 0), (7, front - 26, -8), (8, 0, -40), (6, -6, -140)), (4, 4, 4, 3)),
        (((-8, -6, -140), (-8, -4, -40), (-6, -2, -12), (-16, -3, -8), (-28, -4, -2)), (4, 5.5, 6.5, 6.5, 6)),
        (((-6, -2, -12), (20, 2, 2), (52, 14, 10), (80, 24, 14)), (5, 4.5, 4, 3.5)),
    ]
    for (centre, radii, _), source in zip(a.kidneys, (cava, aorta), strict=True):
        inner = centre[0] - np.sign(centre[0]) * 0.6 * radii[0], centre[1] - 0.4 * radii[1]
        courses.append((((*aorta, -16), (*inner, centre[2] + 3)), (3, 2.2)))
        courses.append((((*cava, -22), (source[0], front - 22, -22), (*inner, centre[2] - 4)), (4.5, 4, 3.5)))
    shape = reduce(np.minimum, (_tube(grid, path, radii) for path, radii in courses))
    canvas.fill(canvas.place(shape, 0.0), "blood")


def _solid_organs(canvas: Canvas, a: Abdomen, trees: tuple[Tubes, ...]) -> None:
    """Paint kidneys, gallbladder, liver, spleen and pancreas."""
    grid = canvas.grid
    for centre, radii, turn in a.kidneys:
        _kidney(canvas, centre, radii, turn)
    canvas.organs["kidneys"] = canvas["cortex"] + canvas["medulla"] + canvas["urine"]

    centre, radii = a.gallbladder
    bladder = canvas.place(ellipsoid(_from(grid, centre), radii))
    canvas.fill(bladder, "wall")
    canvas.fill(bladder + 1.5, "bile")

    liver = canvas.place(a.livers(grid))
    share = grid.coverage(liver)
    canvas.paint(share, "liver")
    for tree in trees:
        canvas.paint(tree.draw(grid) * share, "blood")
    canvas.organs["liver"] = share

    centre, radii = a.spleen
    x, y, z = _from(grid, centre)
    hollow = ellipsoid((x + 34, y + 22), (30, 40))
    spleen = np.maximum(ellipsoid((x, y, z), radii) + 1.5 * a.lumps(grid.x, grid.y, grid.z), -hollow)
    spleen = canvas.place(np.maximum(np.maximum(spleen, a.cavity(grid) + 2.5), a.dome(grid) + 4))
    canvas.fill(spleen, "spleen")
    canvas.organs["spleen"] = grid.coverage(spleen)

    path = ((-26, 2, -24), (-10, -12, -14), (14, -10, -2), (44, 6, 6), (72, 16, 10))
    pancreas = canvas.place(_tube(grid, path, (13, 10, 8, 8, 6)) + 1.8 * a.lobules(grid.x, grid.y, grid.z), 0.5)
    canvas.fill(pancreas, "pancreas")


def _kidney(canvas: Canvas, centre: Point, radii: Point, turn: float) -> None:
    """Paint cortex around pyramids around a sinus of fat, which opens to the middle and front."""
    grid = canvas.grid
    x, y, z = _from(grid, centre)
    u, v = turned(x if centre[0] > 0 else -x, y, turn)
    bean = canvas.place(ellipsoid((u, v, z), radii))
    a, b, c = radii
    sinus = ellipsoid((u + 0.45 * a, v, z), (0.75 * a, 0.34 * b, 0.5 * c))
    kidney = np.maximum(bean, -sinus)
    depth = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (z / c) ** 2)
    pyramids = np.cos(6 * np.arctan2(v, u + 0.2 * a) + 2 * np.sin(z / 9)) + 0.6 * np.cos(z / 4.5)
    canvas.fill(kidney, "cortex")
    inner = ramp(depth, 0.86, 0.72) * ramp(np.asarray(pyramids, np.float32), -0.7, 0.1)
    canvas.paint(grid.coverage(kidney + 2) * inner, "medulla")
    pelvis = ellipsoid((u + 0.42 * a, v, z), (0.42 * a, 0.11 * b, 0.3 * c))
    canvas.fill(np.maximum(pelvis, bean + 2), "urine")


def _stomach(canvas: Canvas, a: Abdomen) -> None:
    """Paint a folded wall around gas and fluid."""
    grid = canvas.grid
    stomach = canvas.place(a.stomachs(grid))
    canvas.fill(stomach, "wall")
    lumen = stomach + 4.5 + 1.5 * a.folds(grid.x, grid.y, grid.z)
    canvas.fill(lumen, "chyme")
    canvas.fill(np.maximum(lumen, grid.y - (a.stomach[0][1] - 8)), "air")


def _loops(rng: np.random.Generator) -> list[Loop]:
    """Return colon, duodenum and the small bowel in the space that they leave."""
    colon = [
        ((-86, 22, -160), (-88, 18, -80), (-84, 6, -40), (-78, -22, -30)),
        ((96, 34, -160), (98, 32, -60), (96, 22, -20), (88, -6, 6)),
        ((-78, -28, -32), (-40, -58, -52), (10, -60, -56), (56, -54, -40), (90, -10, -4)),
    ]
    loops = [
        Loop(
            np.asarray(path) + rng.normal(0, 5, (len(path), 3)),
            rng.uniform(13, 19),
            str(rng.choice(["mixed", "stool"])),
        )
        for path in colon
    ]
    duodenum = np.asarray([(-26, -28, -16), (-40, -4, -20), (-40, 8, -50), (-10, 14, -62), (22, 8, -48)])
    loops.append(Loop(duodenum, rng.uniform(9, 12), "chyme"))
    for _ in range(34):
        start = rng.uniform((-75, -58, -130), (78, 14, 6))
        heading = np.cumsum(rng.normal(0, 0.8, (6, 3)), 0) + rng.normal(0, 1, 3)
        moves = 15 * heading / np.linalg.norm(heading, axis=1, keepdims=True)
        path = np.clip(start + np.cumsum(moves, 0), (-95, -66, -200), (95, 16, 12))
        content = str(rng.choice(["chyme", "mixed", "empty", "air"], p=[0.5, 0.2, 0.2, 0.1]))
        loops.append(Loop(path, rng.uniform(8.5, 13), content))
    return loops


def _loop(canvas: Canvas, a: Abdomen, loop: Loop) -> None:
    """Paint a piece of bowel, compressed between its neighbours."""
    path, radius, content = loop
    margin = radius + 8
    index = canvas.grid.window(path.min(0) - margin, path.max(0) + margin)
    grid = canvas.grid.crop(index)
    if 0 in grid.shape:
        return
    folds = a.folds(grid.x, grid.y, grid.z)
    outside = canvas.place(
        _tube(grid, path, (radius,) * len(path)) + 1.2 * a.lobules(grid.x, grid.y, grid.z), 0.4, index
    )
    canvas.fill(outside, "wall", index)
    lumen = outside + (5.5 if content == "empty" else 2.4) + folds * np.float32(1.4)
    canvas.fill(lumen, {"air": "air", "stool": "stool"}.get(content, "chyme"), index)
    if content in ("mixed", "stool"):
        canvas.fill(np.maximum(lumen, grid.y - path[:, 1].mean() + 0.3 * radius), "air", index)


def _chest(a: thorax.Anatomy, grid: Grid, rng: np.random.Generator) -> Canvas:
    """Draw a chest, organ by organ."""
    trees, breasts = _lung_trees(a, rng), rng.uniform(10, 34) * rng.integers(0, 2)
    septa = PlaneWaves.draw(rng, 26.0, 10), PlaneWaves.draw(rng, 40.0, 6)

    canvas = Canvas(Grid(grid.x, grid.y, grid.z + np.float32(a.level), grid.pixel))
    grid = canvas.grid
    cavity = np.asarray(a.cavity(grid) + 0 * grid.z, np.float32)
    _chest_wall(canvas, a, cavity, breasts, septa[0](grid.x, grid.y, grid.z))
    _septa(canvas, *septa)
    _ribs(canvas, cavity - thorax.WALL_TO_RIB, a.spine, -0.62 * a.chest[1], a.rib_tilt, a.rib_phase[0])
    sternum = ellipsoid((grid.x, grid.y + a.chest[1] + 3), (17, 6.5)) + 0 * grid.z
    canvas.fill(sternum, "bone")
    canvas.fill(sternum + 1.6, "marrow")
    _spine(canvas, a.spine, a.spinous, a.vertebra_phase)
    _under_diaphragm(canvas, a, cavity)
    _mediastinum(canvas, a)

    lungs = a.lungs(grid)
    air = grid.coverage(lungs)
    canvas.paint(air, "lung")
    for tree in trees:
        canvas.paint(tree.draw(grid) * air, "blood")
    canvas.organs["lungs"] = air
    _heart(canvas, a, cavity)
    canvas.organs["vessels"] = canvas["blood"] * (1 - canvas.organs["heart"])
    return canvas


def _lung_trees(a: thorax.Anatomy, rng: np.random.Generator) -> list[Tubes]:
    """Return arteries and veins of either lung, from their hila."""
    trees = []
    for side in (-1, 1):
        inner, outer = sorted((side * 20.0, side * 145.0))
        for hilum, count in (((side * 42 + 4, 10, 24), 2200), ((side * 36 + 6, 4, 6), 1600)):
            places = places_inside(rng, a.lungs, (inner, -95, -70), (outer, 95, 110), count)
            trees.append(grow_tree(hilum, places, 0.5))
    return trees


def _chest_wall(canvas: Canvas, a: thorax.Anatomy, cavity: Array, breasts: float, strands: Array) -> None:
    """Paint the wall with pectoral muscles, shoulder blades' muscles and, in some, breasts `breasts` mm deep."""
    grid = canvas.grid
    side, (width, depth) = np.abs(grid.x), a.chest
    flank = np.clip(grid.y / depth + 0.2, 0, 1) * np.clip(side / 70, 0, 1)
    pectoral = np.exp(-(((side - 0.45 * width) / 30) ** 2)) * np.clip(-2 * grid.y / depth, 0, 1)
    thickness = np.float32(a.muscle) * (0.8 + 0.7 * flank + 0.6 * pectoral)
    frontal = np.clip(-1.6 * grid.y / depth, 0, 1)
    bulge = np.exp(-(((side - 0.5 * width) / 34) ** 2) - ((grid.z + 5) / 50) ** 2) * frontal
    layer = np.float32(a.fat) * (0.4 + 0.3 * side / width + 0.25 * np.abs(grid.y) / depth)
    flesh = _wall(canvas, cavity, thickness, layer + np.float32(breasts) * bulge, a.spine)
    if breasts:
        ahead = grid.y + np.float32(depth + a.muscle + 0.4 * a.fat + 0.35 * breasts)
        gland = ellipsoid((side - np.float32(0.5 * width), ahead, grid.z + 5), (26, 0.4 * breasts, 32)) + 4 * strands
        share = grid.coverage(np.maximum(gland, 2 - flesh)) * np.clip(0.6 + 0.4 * strands, 0, 1)
        canvas.paint(share * canvas["fat"], "gland")
    between = np.abs(cavity - 0.72 * thickness) - 0.9
    canvas.paint(0.8 * grid.coverage(np.maximum(between, 45 - side)), "fat")
    canvas.fill(cavity, "fat")


def _under_diaphragm(canvas: Canvas, a: thorax.Anatomy, cavity: Array) -> None:
    """Paint liver, stomach and spleen, as far as they rise into the slices."""
    grid = canvas.grid
    right, left = (np.maximum(dome, cavity + 2) for dome in a.diaphragm(grid))
    canvas.fill(np.minimum(right, left), "muscle")
    canvas.fill(left + 3, "fat")
    canvas.fill(np.maximum(left + 4, ellipsoid((grid.x - 92, grid.y - 36), (42, 34))), "spleen")
    stomach = np.maximum(left + 4, ellipsoid((grid.x - 62, grid.y + 14), (44, 36)))
    canvas.fill(stomach, "wall")
    canvas.fill(stomach + 4, "chyme")
    canvas.fill(np.maximum(stomach + 4, grid.y + 28), "air")
    canvas.fill(right + 3, "liver")


def _mediastinum(canvas: Canvas, a: thorax.Anatomy) -> None:
    """Paint descending aorta, oesophagus and airways."""
    grid = canvas.grid
    aorta = np.hypot(grid.x - a.aorta_centre[0], grid.y - a.aorta_centre[1]) + 0 * grid.z
    canvas.fill(ellipsoid((grid.x + 3, grid.y - (a.spine - 27)), (9, 6.5)) + 0 * grid.z, "muscle")
    canvas.fill(aorta - a.aorta, "muscle")
    canvas.fill(aorta - (a.aorta - 1.5), "blood")
    trachea: Point = (0, 8, 56)
    for path, radii in (
        (((0, 5, 160), trachea), (8.5, 8.5)),
        ((trachea, (-39, 16, 34)), (7.5, 6)),
        ((trachea, (43, 16, 26)), (7.5, 6)),
    ):
        bronchus = _tube(grid, path, radii)
        canvas.fill(bronchus - 1.4, "wall")
        canvas.fill(bronchus, "air")


def _heart(canvas: Canvas, a: thorax.Anatomy, cavity: Array) -> None:
    """Paint four chambers filled with blood in their walls, in fat, and the vessels that leave and reach them."""
    grid = canvas.grid
    surface = ellipsoid(a.heart_position(grid), a.heart)
    sac = np.maximum(surface - a.sac(grid) - 1.5, cavity + 1)
    canvas.fill(sac, "muscle")
    canvas.fill(sac + 1.3, "fat")
    wall = np.maximum(surface, cavity + 3)
    canvas.organs["heart"] = grid.coverage(wall)
    canvas.fill(wall, "myocardium")
    for chamber in a.chambers(grid).values():
        canvas.fill(np.maximum(chamber - 2.5, wall + 3), "blood")
    for vessel in a.great_vessels():
        canvas.paint(vessel.draw(grid), "blood")
