"""The cerebrum in MR: T1, T1 after gadolinium, T2 and FLAIR of one patient per seed, healthy or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import pairwise
from math import atan2, ceil
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import (
    Array,
    Grid,
    Mask,
    PlaneWaves,
    Point,
    average,
    blend,
    capsule,
    ellipsoid,
    label_of,
    ramp,
    superellipse,
    turned,
)

DISEASES = ("ms", "tumour")
CONTRASTS = ("t1", "t2", "flair", "t1c")  # "t1c" is last because noise is drawn in this order

NECROTIC, OEDEMA, ENHANCING = 1, 2, 4  # values of the label map of a tumour, as in BRATS since 2017
CSF, GREY, WHITE = 1, 2, 3  # values of the label map of tissues

FIELD_OF_VIEW = 200.0  # mm, edge of a square image
PORTRAIT = (220.0, 172.0)  # mm, smallest field of view of an image of another shape
FINEST = 1.6  # mm, largest edge of the pixels that coarser ones are averaged from
MOTTLE = 0.07  # mean share of grey in white matter, which varies
COARSE = 4.0  # mm between the positions at which a lesion may start
REACH = 0.3  # largest share of the scanned height over which a lesion extends, up and down
RELAXIVITY = 4.5  # 1/(s mM), T1 relaxivity of gadolinium chelates


class Tissue(NamedTuple):
    """Proton density relative to water, relaxation times in ms at 1.5 T, and gadolinium uptake in mM of a tissue."""

    density: float
    t1: float
    t2: float
    uptake: float = 0.0


WATER = Tissue(1.0, 2569, 329)
TISSUES = {
    "csf": WATER,
    "ventricles": WATER,
    "grey": Tissue(0.86, 833, 83),
    "white": Tissue(0.77, 500, 70),
    "plaque": Tissue(0.76, 752, 237),
    "tumour": Tissue(0.90, 1300, 130, 0.8),
    "unenhanced": Tissue(0.90, 1300, 130),
    "necrosis": Tissue(0.95, 1900, 250),
    "oedema": Tissue(0.86, 1000, 140),
    "bone": Tissue(0.03, 500, 70),
    "marrow": Tissue(0.45, 400, 70),
    "fat": Tissue(1.0, 350, 70),
    "muscle": Tissue(1.0, 900, 47, 0.05),
    "blood": Tissue(0.80, 1440, 200, 1.0),
}
"""Tissue to its properties: CSF, grey and white matter, MS plaques, fat and muscle as in BrainWeb (Kwan, Evans and
Pike, IEEE Trans. Med. Imaging 18(11), 1999, doi 10.1109/42.816072); the others and all uptakes are our choice.
"unenhanced" is tumour that the contrast agent does not reach."""

BRAIN = ("csf", "grey", "white", "plaque", "tumour", "necrosis", "oedema")

# Points (x, y, z) and radius in mm of a lateral ventricle: frontal horn, body, atrium, occipital and temporal horn.
VENTRICLE = (
    (9, -38, -2, 2.6),
    (7, -22, 10, 4.2),
    (9, 2, 19, 4.2),
    (15, 22, 17, 4.8),
    (24, 36, 7, 5.6),
    (24, 54, 3, 2.2),
)
TEMPORAL_HORN = ((24, 36, 7, 4.0), (37, 8, -17, 2.0))

# Centre and half axes in mm of the nuclei of a side, and the tilt of their long axis in radians.
NUCLEI = (
    ((14, -21, 6), (5.5, 10, 11), -0.2),
    ((10.5, 9, 3), (8.0, 13, 10), 0.35),
    ((25, -3, 0), (6.5, 17, 12), -0.28),
)


def signal(tissue: Tissue, contrast: str) -> float:
    """Return the signal of a tissue relative to that of fully relaxed water.

    The sequences are spin echo with TR/TE 4000/100 ms for T2; inversion recovery with TR/TI/TE 3000/1000/10 ms for T1,
    and with TR/TE 9000/120 ms and the inversion time that nulls CSF for FLAIR. "t1c" is T1 with T1 times shortened by
    the uptake of the contrast agent, at a relaxivity within those measured in plasma at 1.5 T (Rohrer et al., Invest.
    Radiol. 40(11), 2005).
    """
    if contrast == "t1c":
        rate = 1 / tissue.t1 + RELAXIVITY * tissue.uptake / 1000
        return signal(tissue._replace(t1=1 / rate), "t1")
    if contrast == "t2":
        recovered, echo = 1 - np.exp(-4000 / tissue.t1), 100
    else:
        repetition, echo = (3000, 10) if contrast == "t1" else (9000, 120)
        nulling = WATER.t1 * np.log(2 / (1 + np.exp(-repetition / WATER.t1)))
        inversion = 1000 if contrast == "t1" else nulling
        recovered = abs(1 - 2 * np.exp(-inversion / tissue.t1) + np.exp(-repetition / tissue.t1))
    return float(tissue.density * recovered * np.exp(-echo / tissue.t2))


def intensities(contrast: str) -> dict[str, float]:
    """Return the intensity of each tissue, where the brightest of the brain has 1000."""
    signals = {name: signal(tissue, contrast) for name, tissue in TISSUES.items()}
    brightest = max(signals[name] for name in BRAIN)
    return {name: 1000 * value / brightest for name, value in signals.items()}


@dataclass(frozen=True)
class Anatomy:
    """Anatomy that differs between patients; lengths in mm."""

    half: Point  # half width, length and height of the cerebrum
    cortex: float  # thickness of the grey ribbon
    csf: float  # thickness of the fluid around the brain; the sulci are about as wide
    ventricle: float  # radius of the ventricles relative to an average one
    level: float  # height of the middle of the scan over the plane of the commissures
    folds: PlaneWaves  # function whose zeros are the sulci of the convexity
    medial: PlaneWaves  # function whose zeros are the sulci of the medial wall
    mottle: PlaneWaves  # mottling of white matter
    depth: PlaneWaves  # variation of the sulci's depth
    bends: tuple[PlaneWaves, PlaneWaves]  # deformation of the whole brain in x and y
    coil: PlaneWaves  # sensitivity of the coil

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Anatomy:
        """Draw a random adult."""
        near, size = rng.uniform, rng.uniform(0.95, 1.03)
        age = rng.uniform(0, 1)
        return cls(
            half=(66 * size * near(0.97, 1.03), 81 * size * near(0.98, 1.02), 68 * size),
            cortex=near(2.6, 3.2),
            csf=0.8 + 1.2 * age + near(0, 0.4),
            ventricle=0.65 + 0.6 * age + near(0, 0.35),
            level=near(4, 22),
            folds=PlaneWaves.draw(rng, near(20, 23)),
            medial=PlaneWaves.draw(rng, 22.0, 10),
            mottle=PlaneWaves.draw(rng, 14.0, 12),
            depth=PlaneWaves.draw(rng, 50.0, 8),
            bends=(PlaneWaves.draw(rng, 70.0, 6), PlaneWaves.draw(rng, 70.0, 6)),
            coil=PlaneWaves.draw(rng, 260.0, 4),
        )

    def place(self, grid: Grid) -> tuple[Array, Array, Array]:
        """Return the distance from the midline, and the other coordinates, all slightly deformed."""
        x, y = (
            axis + np.float32(1.5) * bend(grid.x, grid.y, grid.z)
            for axis, bend in zip((grid.x, grid.y), self.bends, strict=True)
        )
        return np.asarray(np.abs(x)), np.asarray(y), grid.z

    def outline(self, grid: Grid) -> tuple[Array, Array]:
        """Return x in which the egg-shaped outline is symmetric from front to back, and its scale at each height."""
        _, length, height = self.half
        along = grid.y / np.float32(length)
        straight = grid.x / (1 + 0.1 * along - 0.06 * along**2)
        taper = np.sqrt(np.maximum(1 - (grid.z / np.where(grid.z > 0, height, 0.85 * height)) ** 2, 1e-6))
        return np.asarray(straight, np.float32), np.asarray(taper, np.float32)

    def hull(self, grid: Grid) -> Array:
        """Return the distance to the inside of the skull."""
        straight, taper = self.outline(grid)
        return superellipse(straight, grid.y, self.half[0] * taper, self.half[1] * taper, 2.25)

    def ventricles(self, place: tuple[Array, Array, Array]) -> Array:
        """Return the distance to the lateral ventricles and the third."""
        x, y, z = place
        lateral = blend(self._horn(place, VENTRICLE), self._horn(place, TEMPORAL_HORN), 3)
        third = np.maximum(np.maximum(x - 1.6 * self.ventricle, np.abs(y - 2) - 11), z - 5)
        septum = np.where(z > 5, 0.6 - x, -np.inf)
        return np.asarray(np.maximum(np.minimum(lateral, third), septum), np.float32)

    def _horn(self, place: tuple[Array, Array, Array], points: tuple[tuple[float, ...], ...]) -> Array:
        pieces = (_cone(place, a, b, self.ventricle) for a, b in pairwise(points))
        return reduce(partial(blend, reach=4.0), pieces)

    def nuclei(self, place: tuple[Array, Array, Array]) -> Array:
        """Return the distance to caudate, thalamus and lentiform nucleus."""
        x, y, z = place
        shapes = []
        for (cx, cy, cz), radii, tilt in NUCLEI:
            shapes.append(ellipsoid((*turned(x - cx, y - cy, tilt), z - cz), radii))
        return np.minimum(np.minimum(*shapes[:2]), shapes[2])


def _cone(place: tuple[Array, Array, Array], a: tuple[float, ...], b: tuple[float, ...], scale: float) -> Array:
    """Return the distance to a tapering tube between two points, each with its radius."""
    start, along = np.asarray(a, np.float32), np.asarray(b, np.float32) - np.asarray(a, np.float32)
    x, y, z = (axis - first for axis, first in zip(place, start[:3], strict=True))
    dx, dy, dz, growth = along
    t = np.clip((x * dx + y * dy + z * dz) / (dx * dx + dy * dy + dz * dz), 0, 1)
    apart = np.sqrt((x - t * dx) ** 2 + (y - t * dy) ** 2 + (z - t * dz) ** 2)
    return np.asarray(apart - np.float32(scale) * (start[3] + growth * t), np.float32)


class BrainMR:
    """Axial slices of a cerebrum with folded cortex, ventricles and deep nuclei; no brain stem, no cerebellum.

    Sick patients have either several MS plaques in the white matter around the ventricles or one tumour with oedema
    and a necrotic core. Lesions displace nothing: the tissue around them is that of `healthy`.

    After gadolinium the viable tumour enhances unevenly, as a ring around its necrosis, and so do vessels in the sulci,
    which the other contrasts do not show; plaques do not.

    Attributes:
        LABELS: the classes, in the order in which seeds alternate between them.
        DISEASES: diseases of sick patients, in the order in which seeds alternate between them.
        TUMOUR_RADIUS: least and greatest radius in mm of a tumour without its oedema.
        image: the chosen contrast, float32 (1, slices, rows, columns) in a.u.; the brightest tissue of the brain has
            1000. With a slow bias field and Rician noise; 0 outside the brain unless the skull is drawn.
        images: "t1", "t2", "flair" and "t1c", T1 after gadolinium.
        healthy: these images with unchanged noise and no lesion.
        masks: "brain" (with its fluid), of which "grey", "white" and "csf" are parts, where lesions count as the tissue
            that they grew in; "lesion"; "tumour", which is lesion without oedema; and "altered", wherever the lesion
            takes any share of a voxel.
        regions: "white" and "ventricles".
        labels: label maps, uint8 (slices, rows, columns). "tumour" has 0 for background, 1 for necrosis, 2 for oedema
            and 4 for enhancing tumour, as in BRATS since 2017: 1 and 4 together are the mask "tumour", all three
            "lesion". "plaques" has 1 in MS plaques. "tissue" has 1 for CSF, 2 for grey and 3 for white matter, where
            lesions count as the tissue that they grew in.
        label: "healthy" or "sick".
        disease: "ms" or "tumour"; None for healthy patients.
        anatomy: anatomy of the patient.
    """

    LABELS: ClassVar[tuple[str, ...]] = ("healthy", "sick")
    DISEASES: ClassVar[tuple[str, ...]] = DISEASES
    TUMOUR_RADIUS: ClassVar[tuple[float, float]] = (6, 17)

    def __init__(
        self,
        seed: int,
        *,
        size: int = 128,
        slices: int = 12,
        shape: tuple[int, int] | None = None,
        distance_mm: float = 3.0,
        contrast: str = "flair",
        label: str | None = None,
        disease: str | None = None,
        skull: bool = False,
        bias: float = 0.05,
        noise: float = 0.03,
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient; even ones are healthy.
            size: rows and columns over 200 mm.
            slices: number of slices, from below.
            shape: rows and columns of an image that is not square; its pixels are the finest that show at least 220 x
                172 mm.
            distance_mm: distance between slices.
            contrast: contrast of `image`.
            label: "healthy" or "sick"; None selects it by the seed.
            disease: "ms" or "tumour", for a sick patient; None selects it by the seed.
            skull: whether skull and scalp are in the image.
            bias: SD of the logarithm of the coil's sensitivity.
            noise: SD of the noise in either channel, as a fraction of white matter's intensity.

        Raises:
            UserError: the contrast, label or disease is unknown, or the size impossible.
        """
        rows, columns = shape or (size, size)
        if min(rows, columns) < 8 or slices < 1 or not 0 < distance_mm <= 10:
            raise UserError(
                f"a brain of {slices} x {rows} x {columns} voxels, {distance_mm} mm apart, cannot be drawn: give at "
                "least one slice of 8 x 8 pixels, and at most 10 mm between slices"
            )
        for kind, asked, choices in (("contrast", contrast, CONTRASTS), ("disease", disease, self.DISEASES)):
            if asked is not None and asked not in choices:
                raise UserError(f"there is no {kind} {asked!r}: choose one of {', '.join(choices)}")
        pixel = max(PORTRAIT[0] / rows, PORTRAIT[1] / columns) if shape else FIELD_OF_VIEW / size
        self.label = label_of(seed, self.LABELS, label)
        anatomical, pathological, physical, vascular = np.random.default_rng(seed).spawn(4)
        self.anatomy = Anatomy.draw(anatomical)
        self.disease = (disease or self.DISEASES[seed // 2 % len(self.DISEASES)]) if self.label == "sick" else None

        parts = ceil(pixel / FINEST)
        fine = Grid.centred(
            (slices, rows * parts, columns * parts), (distance_mm, pixel / parts, pixel / parts), self.anatomy.level
        )
        tissues = _tissues(self.anatomy, fine, skull)
        lesions = _lesions(self.anatomy, fine, pathological, self.disease, self.TUMOUR_RADIUS)
        affected = _affected(tissues, lesions)
        tissues, affected = (
            {name: average(share, parts) for name, share in shares.items()} for shares in (tissues, affected)
        )
        self.masks = _masks(tissues, affected)
        self.regions = {name: affected[name] > 0.8 for name in ("white", "ventricles")}
        self.labels = _label_maps(self.masks, affected, self.disease)

        grid = Grid.centred((slices, rows, columns), (distance_mm, pixel, pixel), self.anatomy.level)
        coil = np.exp(np.float32(bias) * self.anatomy.coil(grid.x, grid.y, grid.z))
        perfused = _Perfusion.draw(vascular, grid)
        self.images: dict[str, Image] = {}
        self.healthy: dict[str, Image] = {}
        for name in CONTRASTS:
            values = intensities(name)
            thermal = noise * values["white"] * physical.standard_normal((2, *grid.shape), np.float32)
            for shares, images in ((affected, self.images), (tissues, self.healthy)):
                seen = perfused(shares) if name == "t1c" else shares
                clean = coil * sum(values[tissue] * share for tissue, share in seen.items())
                noisy = np.hypot(clean + thermal[0], thermal[1]).astype(np.float32)
                if not skull:
                    noisy *= self.masks["brain"]
                images[name] = Image.from_array(noisy, (distance_mm, pixel, pixel), "a.u.", Header(modality="MR"))
        self.image = self.images[contrast]


class BrainTumourMR(BrainMR):
    """`BrainMR` in which every patient has a tumour in the scanned slices, larger than those of `BrainMR`.

    All four contrasts and `labels["tumour"]` make up a training case of brain tumour segmentation.
    """

    LABELS = ("sick",)
    DISEASES = ("tumour",)
    TUMOUR_RADIUS = (12, 26)


class _Perfusion(NamedTuple):
    """Distribution of the contrast agent: shares of fluid that are vessels, and of tumour that enhances."""

    vessels: Array
    reached: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, grid: Grid) -> Self:
        vessels = PlaneWaves.draw(rng, 9.0, 12)(grid.x, grid.y, grid.z)
        reached = PlaneWaves.draw(rng, 13.0, 12)(grid.x, grid.y, grid.z)
        return cls(ramp(vessels, 0.9, 1.9), np.asarray(np.clip(0.9 + 0.2 * reached, 0.4, 1), np.float32))

    def __call__(self, shares: dict[str, Array]) -> dict[str, Array]:
        """Return shares of tissues with vessels and tumour that does not enhance as tissues of their own."""
        seen = {**shares, "csf": shares["csf"] * (1 - self.vessels), "blood": shares["csf"] * self.vessels}
        if "tumour" in shares:
            seen["tumour"] = shares["tumour"] * self.reached
            seen["unenhanced"] = shares["tumour"] * (1 - self.reached)
        return seen


def _paint(shares: dict[str, Array], name: str, share: Array) -> None:
    """Replace this share of every voxel by one tissue."""
    for other in shares.values():
        other *= 1 - share
    shares[name] = shares.get(name, np.float32(0)) + share


def _sheets(values: Array, pixel: float) -> Array:
    """Return the in-plane distance to the nearest zero of a smooth function, from its slope and curvature uphill.

    It is infinite where the function does not reach zero.
    """
    down, right = np.gradient(values, pixel, axis=(1, 2))
    steep = np.maximum(down**2 + right**2, 1e-9)
    steeper = np.gradient(steep, pixel, axis=(1, 2))
    bend = (down * steeper[0] + right * steeper[1]) / (2 * steep)
    root = steep - 2 * values * bend
    apart = 2 * np.abs(values) / (np.sqrt(steep) + np.sqrt(np.maximum(root, 0)))
    return np.asarray(np.where(root > 0, apart, np.inf), np.float32)


def _tissues(anatomy: Anatomy, grid: Grid, skull: bool) -> dict[str, Array]:
    """Return the share of each voxel that each tissue takes."""
    place = anatomy.place(grid)
    hull, ventricles = anatomy.hull(grid), anatomy.ventricles(place)
    shares: dict[str, Array] = {}
    if skull:
        for name, thickness in (("fat", 14.0), ("muscle", 9.0), ("bone", 8.0), ("marrow", 5.5), ("bone", 3.0)):
            _paint(shares, name, grid.coverage(hull - thickness))
    inside = grid.coverage(hull)
    _paint(shares, "white", inside)
    _paint(shares, "grey", MOTTLE * inside * np.maximum(1 + anatomy.mottle(grid.x, grid.y, grid.z), 0))
    _paint(shares, "grey", inside * grid.coverage(anatomy.nuclei(place)) * 0.75)
    clefts = _clefts(anatomy, grid, hull, ventricles)
    for name, margin in (("grey", anatomy.cortex), ("csf", 0.0)):
        fluid = 1 - grid.coverage(hull + anatomy.csf + margin)
        for cleft in clefts:
            fluid = np.maximum(fluid, cleft.share(grid, margin))
        _paint(shares, name, inside * fluid)
    _paint(shares, "ventricles", inside * grid.coverage(ventricles))
    return shares


class _Cleft(NamedTuple):
    """A sheet of fluid: the distance to it, half its width, and the distance to the region that bounds it."""

    distance: Array
    half: Array | float
    limit: Array

    def share(self, grid: Grid, margin: float) -> Array:
        """Return the share of each pixel within `margin` mm of the fluid, also for sheets thinner than a pixel."""
        half = self.half + np.float32(margin)
        apart = np.abs(self.distance)
        share = (grid.coverage(apart - half) - grid.coverage(apart + half)) * grid.coverage(self.limit - margin)
        return np.asarray(share, np.float32)


def _clefts(anatomy: Anatomy, grid: Grid, hull: Array, ventricles: Array) -> list[_Cleft]:
    """Return sulci of the convexity and the medial wall, and the fissures between the hemispheres and lateral ones."""
    x, y, z = anatomy.place(grid)
    side = np.sign(grid.x) * x
    straight, _ = anatomy.outline(grid)
    width = 0.2 + 0.3 * anatomy.csf

    # Scaled by the radius, the folds are perpendicular to the surface.
    radius = np.sqrt(sum((axis / half) ** 2 for axis, half in zip((straight, y, z), anatomy.half, strict=True)))
    spread = np.maximum(radius, 0.1) ** -0.65
    folds = anatomy.folds(side * spread, y * spread, z * spread)
    deep = anatomy.depth(grid.x, grid.y, grid.z)
    half = np.asarray(width * np.clip(1.1 + hull / 25, 0.3, 1), np.float32)

    fissure = -ellipsoid((y + 3, z + 2), (44, 34))
    medial = _sheets(anatomy.medial(side, y, z), grid.pixel)
    u, v = x + 1.5 * folds, y + 3 * deep
    opercula = np.minimum(capsule(u, v, (75, 10), (45, -2)), capsule(u, v, (44, -17), (46, 17)))
    lateral = np.hypot(opercula, np.maximum(np.abs(z - 2) - 12, 0)).astype(np.float32)
    return [
        _Cleft(_sheets(folds, grid.pixel), half, np.maximum(-hull - (18 + 6 * deep), 8 - ventricles)),
        _Cleft(medial, 0.7 * width, np.maximum(x - (8 + 3 * deep), fissure)),
        _Cleft(x, 0.3 + 0.4 * anatomy.csf, fissure),
        _Cleft(lateral, 0.2 + 0.5 * anatomy.csf, hull),
    ]


def _affected(tissues: dict[str, Array], lesions: dict[str, Array]) -> dict[str, Array]:
    """Return the tissues with lesions in place of grey and white matter, and of the lesions before them."""
    shares, flesh = dict(tissues), ["grey", "white"]
    for lesion, part in lesions.items():
        replaced = np.zeros_like(part)
        for name in flesh:
            replaced += part * shares[name]
            shares[name] = shares[name] * (1 - part)
        shares[lesion] = replaced
        flesh.append(lesion)
    return shares


def _lesions(
    anatomy: Anatomy, grid: Grid, rng: np.random.Generator, disease: str | None, radii: tuple[float, float]
) -> dict[str, Array]:
    """Return the shares of tissue that lesions replace, in order; each lesion is cut by a slice in its middle."""
    if disease is None:
        return {}
    reach = max(REACH * float(np.ptp(grid.z)), 4.0)
    coarse = replace(Grid.centred((1, 41, 35), (1.0, COARSE, COARSE)), z=grid.z)
    place = anatomy.place(coarse)
    from_ventricles, from_hull = anatomy.ventricles(place), -anatomy.hull(coarse)
    if disease == "ms":
        near = (from_ventricles > 1) & (from_ventricles < 14) & (from_hull > 16) & (anatomy.nuclei(place) > 1)
        return {"plaque": _plaques(coarse, near & (place[0] > 4), grid, rng, reach)}
    roomy = (from_hull > 16) & (from_ventricles > 6) & (place[0] > 16)
    return _tumour(coarse, roomy, grid, rng, reach, radii)


def _pick(coarse: Grid, where: Mask, rng: np.random.Generator, count: int) -> Array:
    """Draw random positions (x, y, z) where a mask on the coarse grid is true."""
    k, j, i = np.nonzero(where)
    chosen = rng.integers(0, len(k), count)
    return np.stack([coarse.x[0, 0, i[chosen]], coarse.y[0, j[chosen], 0], coarse.z[k[chosen], 0, 0]], 1)


def _plaques(coarse: Grid, where: Mask, grid: Grid, rng: np.random.Generator, reach: float) -> Array:
    """Draw plaques of 3 to 10 mm that point away from the ventricles, in a part of the scanned height."""
    ((_, _, middle),) = _pick(coarse, where, rng, 1)
    band = where & (np.abs(coarse.z - middle) <= 0.7 * reach)
    share = np.zeros(grid.shape, np.float32)
    for x, y, z in _pick(coarse, band, rng, int(rng.integers(5, 13))):
        length = rng.uniform(2.3, 5.0)
        width = max(length * rng.uniform(0.55, 0.9), 1.6)
        along, across = turned(grid.x - x, grid.y - y, atan2(y, x) + rng.normal(0, 0.4))
        plaque = ellipsoid((along, across, grid.z - z), (length, width, max(width, 2.5)))
        np.maximum(share, ramp(plaque, 0.8, -0.8), out=share)
    return share


def _tumour(
    coarse: Grid, where: Mask, grid: Grid, rng: np.random.Generator, reach: float, radii: tuple[float, float]
) -> dict[str, Array]:
    """Draw a tumour with a ragged border, its oedema along the white matter, and necrosis in its middle."""
    (centre,) = _pick(coarse, where, rng, 1)
    radius, swelling = rng.uniform(*radii), rng.uniform(5, 12)
    height = min(1.0, reach / (radius + swelling))
    x, y, z = grid.x - centre[0], grid.y - centre[1], (grid.z - centre[2]) / np.float32(height)
    ragged = PlaneWaves.draw(rng, 1.6 * radius, 10)(x, y, z)
    fingers = PlaneWaves.draw(rng, 24.0, 10)(x, y, z)
    smooth = ellipsoid((x, y, z), (radius, radius * rng.uniform(0.8, 1.2), radius))
    core = np.asarray(smooth + 0.12 * radius * ragged, np.float32)
    return {
        "oedema": ramp(core - swelling - 4 * fingers, 1.0, -1.0),
        "tumour": ramp(core, 0.8, -0.8),
        "necrosis": ramp(core + radius * rng.uniform(0.35, 0.9) + fingers, 1.0, -1.0),
    }


def _masks(tissues: dict[str, Array], affected: dict[str, Array]) -> dict[str, Mask]:
    """Return the true masks: tissues by the largest share, lesions by half of the tissue that they can replace."""
    fluid = tissues["csf"] + tissues["ventricles"]
    parts = np.stack([tissues["grey"], tissues["white"], fluid])
    brain, largest = parts.sum(0) >= 0.5, parts.argmax(0)
    masks = {name: brain & (largest == number) for number, name in enumerate(("grey", "white", "csf"))}
    zero = np.zeros_like(fluid)
    tumour = affected.get("tumour", zero) + affected.get("necrosis", zero)
    lesion = tumour + affected.get("oedema", zero) + affected.get("plaque", zero)
    return {
        "brain": brain,
        **masks,
        "lesion": brain & (lesion >= 0.5),
        "tumour": brain & (tumour >= 0.5),
        "altered": brain & (lesion > 0),
    }


def _label_maps(
    masks: dict[str, Mask], affected: dict[str, Array], disease: str | None
) -> dict[str, NDArray[np.uint8]]:
    """Return label maps of tumour, plaques and tissue that agree with the masks."""
    maps = {name: np.zeros(masks["brain"].shape, np.uint8) for name in ("tumour", "plaques", "tissue")}
    for value, name in ((CSF, "csf"), (GREY, "grey"), (WHITE, "white")):
        maps["tissue"][masks[name]] = value
    if disease == "ms":
        maps["plaques"][masks["lesion"]] = 1
    if disease == "tumour":
        maps["tumour"][masks["lesion"]] = OEDEMA
        dead = affected["necrosis"] > affected["tumour"]
        maps["tumour"][masks["tumour"]] = np.where(dead, NECROTIC, ENHANCING)[masks["tumour"]]
    return maps
