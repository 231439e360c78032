"""Heads and chests in MR and CT: two images of one patient in one place, slightly apart, or of two patients.

Bone and air are both dark in MR, and 2000 HU apart in CT: sinuses, mastoid cells, airways and bowel gas lie beside thin
bone. Signals and CT numbers are those of `ganatomy.physics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms import thorax
from ganatomy.phantoms.brain import Anatomy, _tissues
from ganatomy.phantoms.shapes import (
    Array,
    Grid,
    Mask,
    PlaneWaves,
    Point,
    average,
    capsule,
    ellipsoid,
    ramp,
    superellipse,
    texture,
)
from ganatomy.phantoms.torso import FINEST as FINEST_TORSO
from ganatomy.phantoms.torso import TISSUES, ChestMR, _chest
from ganatomy.physics.ct import HU_RANGE
from ganatomy.physics.ct_numbers import CT_NUMBERS
from ganatomy.physics.mr_contrast import (
    MEASURED,
    Tissue,
    balanced_ssfp,
    inversion_recovery,
    nulling_time,
    spin_echo,
    spoiled_gradient_echo,
)

FIELD = 1.5  # T
BLUR = 0.6  # mm, SD of the point spread of CT in the plane
GRAIN = 1.0  # mm, correlation length of the noise of CT
BRIGHTEST = 1000.0  # a.u., signal of the brightest tissue of an MR image
FINEST = 2.0  # mm, largest edge of the pixels that coarser ones of a head are averaged from
BASE = 4.0  # mm, thickness of the bone under the brain

AIR, FAT, SOFT, BONE = 0, 1, 2, 3  # values of the label map of tissues
CLASSES: Mapping[str, int] = {"air": AIR, "lung": AIR, "fat": FAT, "bone": BONE, "marrow": BONE}
"""Tissue to its value in the label map; all others are soft tissue."""

LIKE: Mapping[str, str] = {
    "cord": "white",
    "bile": "fluid",
    "urine": "fluid",
    "chyme": "fluid",
    "stool": "muscle",
    "wall": "muscle",
    "gland": "muscle",
    "cortex": "kidney",
    "medulla": "kidney",
    "ventricles": "csf",
}
"""Tissue of the torso or the brain to the one whose physical properties it is given."""

SEQUENCES: Mapping[str, Callable[[Tissue], NDArray[np.float64]]] = {
    "t1": lambda tissue: spoiled_gradient_echo(tissue, 12, 2.5, 20),
    "t2": lambda tissue: spin_echo(tissue, 4000, 95),
    "flair": lambda tissue: inversion_recovery(tissue, 9000, nulling_time(MEASURED[FIELD]["csf"].t1, 9000), 110),
    "bssfp": lambda tissue: balanced_ssfp(tissue, 3.4, 55),
}
"""MR contrast to its sequence; times are typical at 1.5 T (our choice)."""


class Drawn(NamedTuple):
    """A patient: shares of tissues, and of structures, in each voxel, and the mottling of tissue."""

    shares: dict[str, Array]
    structures: dict[str, Array]
    mottle: Array


class _Pair:
    """MR and CT of a patient, from the shares of tissues that `_patient` draws."""

    FIELD_OF_VIEW: ClassVar[float]
    CONTRASTS: ClassVar[tuple[str, ...]]
    enhancement = 0.0

    def __init__(
        self,
        seed: int,
        *,
        size: int,
        slices: int,
        distance_mm: float,
        paired: bool = True,
        misregistration_mm: float = 0.0,
        noise: float = 0.02,
        ct_noise: float = 10.0,
        bias: float = 0.08,
    ) -> None:
        if size < 16 or slices < 1 or not 0 < distance_mm <= 10 or min(misregistration_mm, noise, ct_noise, bias) < 0:
            raise UserError(
                f"MR and CT of {slices} x {size} x {size} voxels, {distance_mm:g} mm apart and misregistered by "
                f"{misregistration_mm:g} mm, with noise {noise:g} and {ct_noise:g} HU cannot be drawn: give at least "
                "one slice of 16 x 16 pixels, and at most 10 mm between slices"
            )
        pixel = self.FIELD_OF_VIEW / size
        spacing = (distance_mm, pixel, pixel)
        grid = Grid.centred((slices, size, size), spacing)
        anatomical, magnetic, radiological, moving = np.random.default_rng(seed).spawn(4)
        other = np.random.default_rng([seed, 1])

        patient = self._patient(anatomical, spacing, grid.shape)
        coil = np.exp(np.float32(bias) * PlaneWaves.draw(magnetic, 400.0, 4)(grid.x, grid.y, grid.z))
        self.images: dict[str, Image] = {}
        for name in self.CONTRASTS:
            values = _magnetic(patient, name, coil, noise, magnetic)
            self.images[name] = Image.from_array(values, spacing, "a.u.", Header(modality="MR"))
        seen = patient if paired else self._patient(other, spacing, grid.shape)
        aligned = _radiological(seen, spacing, ct_noise, radiological, self.enhancement)
        self.displacement_mm = _displacement(moving, grid, misregistration_mm)
        moved = _moved(aligned, self.displacement_mm, spacing) if misregistration_mm else aligned
        for name, values in (("ct", moved), ("ct_aligned", aligned)):
            self.images[name] = Image.from_array(np.rint(values).astype(np.int16), spacing, "HU", Header(modality="CT"))
        self.image = self.images[self.CONTRASTS[0]]

        self.labels = {"tissue": _classes(patient.shares), "ct_tissue": _classes(seen.shares)}
        self.masks: dict[str, Mask] = {name: share >= 0.5 for name, share in patient.structures.items()}
        self.masks["bone"] = self.labels["tissue"] == BONE
        self.masks["cavities"] = (self.labels["tissue"] == AIR) & (patient.structures["body"] > 0.95)
        self.regions: dict[str, Mask] = {
            name: patient.shares[name] > 0.999 for name in ("fat", "muscle") if name in patient.shares
        }

    def _patient(self, rng: np.random.Generator, spacing: Point, shape: tuple[int, int, int]) -> Drawn:
        """Draw a random patient."""
        raise NotImplementedError


class HeadMRCT(_Pair):
    """A head without disease, from the base of the skull to the vertex, with orbits, sinuses and mastoid cells.

    The cerebrum is that of `ganatomy.phantoms.brain`; there is no cerebellum, and below the base of the skull only the
    face and muscles.

    Attributes:
        image: T1-weighted MR.
        images: "t1", "t2" and "flair", float32 in a.u.; "ct" and "ct_aligned", int16 HU. "ct" is moved as
            `displacement_mm` says, "ct_aligned" is not.
        masks: "body", "brain", "bone" (with its marrow) and "cavities" (air in the body), of the patient in MR and in
            its place.
        labels: "tissue" has 0 for air, 1 for fat, 2 for soft tissue and 3 for bone; "ct_tissue" the same of the patient
            in CT, before it is moved.
        regions: "fat" and "muscle", where there is nothing else.
        displacement_mm: way along slices, rows and columns from each voxel to the one of "ct_aligned" that "ct" shows
            there, (3, slices, rows, columns).
    """

    FIELD_OF_VIEW = 240.0
    CONTRASTS = ("t1", "t2", "flair")

    def __init__(
        self,
        seed: int,
        *,
        size: int = 128,
        slices: int = 24,
        distance_mm: float = 5.0,
        paired: bool = True,
        misregistration_mm: float = 0.0,
        noise: float = 0.02,
        ct_noise: float = 10.0,
        bias: float = 0.08,
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns over 240 mm.
            slices: number of slices, from below.
            distance_mm: distance between slices.
            paired: whether MR and CT show one patient; otherwise the CT is that of another one.
            misregistration_mm: mean length of the way by which "ct" is displaced, the larger part of it rigidly.
            noise: SD of the noise in either channel of MR, relative to the brightest tissue.
            ct_noise: SD of the noise of CT in HU.
            bias: SD of the logarithm of the coil's sensitivity.

        Raises:
            UserError: the size is impossible, or a noise or distance negative.
        """
        super().__init__(
            seed,
            size=size,
            slices=slices,
            distance_mm=distance_mm,
            paired=paired,
            misregistration_mm=misregistration_mm,
            noise=noise,
            ct_noise=ct_noise,
            bias=bias,
        )

    def _patient(self, rng: np.random.Generator, spacing: Point, shape: tuple[int, int, int]) -> Drawn:
        anatomy, cavities = Anatomy.draw(rng), _Cavities.draw(rng)
        parts = ceil(spacing[1] / FINEST)
        fine = Grid.centred(
            (shape[0], shape[1] * parts, shape[2] * parts),
            (spacing[0], spacing[1] / parts, spacing[2] / parts),
            anatomy.level,
        )
        shares, brain, body = _head(anatomy, cavities, fine, spacing[0])
        shares = {name: average(share, parts) for name, share in shares.items()}
        structures = {"body": average(body, parts), "brain": average(brain, parts)}
        mottle = PlaneWaves.draw(rng, 9.0, 12)
        grid = Grid.centred(shape, spacing)
        return Drawn(shares, structures, mottle(grid.x, grid.y, grid.z))


class ChestMRCT(_Pair):
    """An adult's chest at the height of the heart, in MR with bright blood and in CT with or without contrast medium.

    The anatomy is that of `ganatomy.phantoms.torso.ChestMR`.

    Attributes:
        image: T1-weighted MR.
        images: "t1" and "bssfp", float32 in a.u.; "ct" and "ct_aligned" as in `HeadMRCT`.
        masks: "body", "lungs", "heart", "myocardium", "vessels", "bone" and "cavities" (air and lungs), of the patient
            in MR and in its place; "ct_myocardium" of the patient in CT, before it is moved.
        labels: "tissue" and "ct_tissue" as in `HeadMRCT`, where lungs count as air; "heart" with 1 for myocardium and 2
            for blood in the heart, and "ct_heart" of the patient in CT, before it is moved.
        regions, displacement_mm: as in `HeadMRCT`.
    """

    FIELD_OF_VIEW = ChestMR.FIELD_OF_VIEW
    CONTRASTS = ("t1", "bssfp")

    def __init__(
        self,
        seed: int,
        *,
        size: int = 128,
        slices: int = 12,
        distance_mm: float = 5.0,
        paired: bool = True,
        misregistration_mm: float = 0.0,
        enhancement: float = 0.0,
        noise: float = 0.02,
        ct_noise: float = 15.0,
        bias: float = 0.1,
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns over 370 mm.
            slices: number of slices, from below.
            distance_mm: distance between slices.
            paired: whether MR and CT show one patient; otherwise the CT is that of another one.
            misregistration_mm: mean length of the way by which "ct" is displaced, the larger part of it rigidly.
            enhancement: by how many HU contrast medium raises the CT number of blood, 250 to 400 in angiography;
                myocardium gains a fifth of it.
            noise: SD of the noise in either channel of MR, relative to the brightest tissue.
            ct_noise: SD of the noise of CT in HU.
            bias: SD of the logarithm of the coil's sensitivity.

        Raises:
            UserError: the size is impossible, or a noise, distance or the enhancement negative.
        """
        if enhancement < 0:
            raise UserError(f"a chest whose blood is {-enhancement:g} HU darker for contrast medium cannot be drawn")
        self.enhancement = enhancement
        self._hearts: list[NDArray[np.uint8]] = []
        super().__init__(
            seed,
            size=size,
            slices=slices,
            distance_mm=distance_mm,
            paired=paired,
            misregistration_mm=misregistration_mm,
            noise=noise,
            ct_noise=ct_noise,
            bias=bias,
        )
        self.labels |= {"heart": self._hearts[0], "ct_heart": self._hearts[-1]}
        self.masks["ct_myocardium"] = self._hearts[-1] == 1

    def _patient(self, rng: np.random.Generator, spacing: Point, shape: tuple[int, int, int]) -> Drawn:
        parts = ceil(spacing[1] / FINEST_TORSO)
        fine = Grid.centred(
            (shape[0], shape[1] * parts, shape[2] * parts), (spacing[0], spacing[1] / parts, spacing[2] / parts)
        )
        canvas = _chest(thorax.Anatomy.draw(rng), fine, rng)
        shares = {name: average(canvas[name], parts) for name in TISSUES}
        structures = {name: average(share, parts) for name, share in canvas.organs.items()}
        structures["myocardium"] = shares["myocardium"]
        heart = np.where(structures["heart"] * shares["blood"] >= 0.5, 2, 0)
        self._hearts.append(np.where(shares["myocardium"] >= 0.5, 1, heart).astype(np.uint8))
        mottle = PlaneWaves.draw(rng, 12.0, 12)
        grid = Grid.centred(shape, spacing)
        return Drawn(shares, structures, mottle(grid.x, grid.y, grid.z))


class _Cavities(NamedTuple):
    """Sizes of the air-filled spaces of a head, relative to average ones, on the right and on the left."""

    frontal: tuple[float, float]
    maxillary: tuple[float, float]
    sphenoid: tuple[float, float]
    mastoid: tuple[float, float]
    deviation: float  # of the nasal septum to the left in mm
    cells: PlaneWaves  # function whose zeros are the walls between ethmoid and mastoid cells

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Cavities:
        def sides(low: float, high: float) -> tuple[float, float]:
            right, left = rng.uniform(low, high, 2)
            return float(right), float(left)

        return cls(
            sides(0.4, 1.3),
            sides(0.75, 1.15),
            sides(0.7, 1.2),
            sides(0.7, 1.2),
            float(rng.normal(0, 2.5)),
            PlaneWaves.draw(rng, 11.0, 12),
        )


class _Painting(dict[str, Array]):
    """Shares of tissues in each voxel, each of which replaces a part of those before."""

    def paint(self, name: str, share: Array) -> None:
        """Replace a share of each voxel by a tissue."""
        rows = [np.flatnonzero(share.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
        if not rows[0].size:
            return
        part = tuple(slice(int(there[0]), int(there[-1]) + 1) for there in rows)
        for other in self.values():
            other[part] *= 1 - share[part]
        self.setdefault(name, np.zeros(share.shape, np.float32))[part] += share[part]


def _head(anatomy: Anatomy, cavities: _Cavities, grid: Grid, thickness: float) -> tuple[dict[str, Array], Array, Array]:
    """Return the shares of tissues, of the brain and of the whole head."""
    x, y, z = grid.x, grid.y, grid.z
    head = _Painting(air=np.ones(grid.shape, np.float32))

    def fill(name: str, distance: Array, share: Array | float = 1.0) -> None:
        head.paint(name, np.asarray(np.broadcast_to(share * grid.coverage(distance), grid.shape), np.float32))

    # Under the widest height of the skull, the head stays as wide, with the face in front and the neck behind.
    hull = anatomy.hull(grid)
    chin = 1 - 0.22 * ramp(z, -25.0, -75.0)
    width, length = (anatomy.half[0] + 8) * chin, (anatomy.half[1] + 10) * chin
    lower = np.maximum(superellipse(x, y + 4, width, length, 2.3), z - 4)
    body = np.asarray(np.minimum(hull - 14, lower), np.float32)
    inside = grid.coverage(body)
    fill("skin", body)
    fill("fat", body + 2)
    fill("muscle", lower + 7 + 2 * cavities.cells(x, y, z))

    # The brain ends at the base of the skull, which steps down from the front to the back.
    base = _base(x, y)
    above, under = (np.clip(0.5 + step / np.float32(thickness), 0, 1) for step in (z - base, base - z))
    skull = _tissues(anatomy, grid, skull=True)
    skull["fat"] *= 0.5
    for name, share in skull.items():
        head.paint("csf" if name == "ventricles" else name, np.asarray(share * above, np.float32))
    brain = np.asarray(sum(head[name] for name in ("grey", "white", "csf")), np.float32)
    fill("bone", hull - 4, under * np.clip(0.5 + (z - base + BASE) / np.float32(thickness), 0, 1))

    beneath = np.asarray(np.maximum(z - base + (BASE + 1.5), body + 6), np.float32)
    for name, distance in _orbits(grid, beneath):
        fill(name, distance)
    for distance, wall in _spaces(cavities, grid, beneath, hull):
        fill("bone", np.maximum(distance - wall, body + 2))
        fill("air", distance)
    return head, brain, inside


def _base(x: Array, y: Array) -> Array:
    """Return the height of the floor of the anterior, middle and posterior fossa, with the sella in the middle."""
    side = np.abs(x)
    front, back = (
        ramp(np.asarray(y + slope * side, np.float32), *limits)
        for slope, limits in ((-0.15, (-40.0, -24.0)), (0.35, (24.0, 46.0)))
    )
    roofs = 7 * np.exp(-(((side - 30) / 16) ** 2)) + 0.15 * (-30 - y).clip(0, 60)
    sella = 12 * np.exp(-((x / 14) ** 2)) * front * (1 - back)
    bowls = 9 * np.exp(-(((side - 34) / 15) ** 2) - ((y + 4) / 20) ** 2) + 6 * np.exp(-((side / 30) ** 2)) * back
    return np.asarray(-16 + roofs * (1 - front) - 18 * front - 20 * back + sella - bowls, np.float32)


def _orbits(grid: Grid, beneath: Array) -> list[tuple[str, Array]]:
    """Return tissues of the orbits and the distances to them: bone around fat, with nerve, globe and lens in it."""
    x, y, z = np.abs(grid.x) - 31, grid.y, grid.z + 26
    cone = np.maximum(ellipsoid((x + 0.25 * (y + 60), y + 60, z), (18, 27, 16)), beneath)
    globe = ellipsoid((x, y + 73, z), (12, 12.5, 12))
    nerve = np.maximum(np.maximum(np.hypot(x + 0.3 * (y + 60), z) - 2.2, cone + 1), -62 - y)
    return [
        ("bone", cone - 1.5),
        ("fat", cone),
        ("white", np.asarray(nerve, np.float32)),
        ("muscle", globe),
        ("fluid", globe + 1.2),
        ("muscle", ellipsoid((x, y + 82, z), (4.5, 2.2, 4.5))),
    ]


def _spaces(cavities: _Cavities, grid: Grid, beneath: Array, hull: Array) -> list[tuple[Array, float]]:
    """Return the distances to the air-filled spaces, each with the thickness of bone around it."""
    x, y, z = grid.x, grid.y, grid.z
    side = np.abs(x)
    cells = cavities.cells(x, y, z)

    def sized(sizes: tuple[float, float]) -> Array:
        return np.where(x < 0, *sizes).astype(np.float32)

    def about(centre: Point, radii: Point, size: Array) -> Array:
        a, b, c = radii
        u, v, w = (np.asarray((axis - at) / size, np.float32) for axis, at in zip((side, y, z), centre, strict=True))
        scaled = ellipsoid((u, v, w), (a, b, c))
        return np.asarray(scaled * size, np.float32)

    outer = hull - 7.5
    frontal = about((13, -86, 4), (13, 7, 17), sized(cavities.frontal))
    frontal = np.maximum(np.maximum(frontal, 3 - hull), np.maximum(hull - 7, 0.8 - np.abs(x + 2)))
    ethmoid = np.maximum(np.maximum(side - 11, np.abs(y + 58) - 20), np.abs(z + 27) - 13)
    ethmoid = np.maximum(ethmoid, 0.7 - 2.2 * np.abs(cells))
    sphenoid = np.maximum(about((9, -24, -38), (9, 12, 10), sized(cavities.sphenoid)), 0.8 - side)
    maxillary = about((27, -62, -61), (13, 15, 14), sized(cavities.maxillary))
    nose = np.maximum(ellipsoid((x, y + 66, z + 55), (14, 32, 20)), 1.2 - np.abs(x - np.float32(cavities.deviation)))
    turbinate = np.hypot(side - 8, z + 60) - 3.5
    nose = np.maximum(np.maximum(nose, -turbinate), -(np.hypot(side - 7, z + 48) - 2.2))
    mastoid = np.maximum(about((53, 24, -36), (12, 15, 17), sized(cavities.mastoid)), 3.5 - hull)
    mastoid = np.maximum(np.maximum(mastoid, 0.9 - 2.5 * np.abs(cells)), outer + 3)
    canal = np.hypot(capsule(side, y, (52, 4), (90, 2)), z + 34) - 3.5
    pharynx = ellipsoid((x, y + 26, np.maximum(-56 - z, 0)), (11, 8, 60)) + np.maximum(z + 56, 0)
    return [
        (np.asarray(np.broadcast_to(distance, grid.shape), np.float32), wall)
        for distance, wall in (
            (frontal, 2.0),
            (np.maximum(ethmoid, beneath), 0.6),
            (np.maximum(sphenoid, beneath), 1.2),
            (np.maximum(maxillary, beneath), 1.2),
            (np.maximum(nose, beneath), 0.6),
            (mastoid, 1.0),
            (np.maximum(canal, 4 - hull), 1.5),
            (np.maximum(pharynx, beneath), 0.0),
        )
    ]


def _property(name: str) -> str:
    return LIKE.get(name, name)


def _magnetic(patient: Drawn, contrast: str, coil: Array, noise: float, rng: np.random.Generator) -> Array:
    """Return the MR image of a patient, with a coil's sensitivity and Rician noise."""
    signals = {name: float(SEQUENCES[contrast](MEASURED[FIELD][_property(name)])) for name in patient.shares}
    scale = BRIGHTEST / max(signals.values())
    clean = sum(np.float32(scale * signals[name]) * share for name, share in patient.shares.items())
    clean = coil * clean * (1 + np.float32(0.03) * patient.mottle)
    thermal = BRIGHTEST * noise * rng.standard_normal((2, *coil.shape), np.float32)
    return np.asarray(np.hypot(clean + thermal[0], thermal[1]), np.float32)


def _radiological(
    patient: Drawn, spacing: Point, noise: float, rng: np.random.Generator, enhancement: float = 0.0
) -> Array:
    """Return the CT of a patient in HU, whose blood may hold contrast medium."""
    gain = {"blood": enhancement, "myocardium": 0.2 * enhancement}
    clean = sum(
        np.float32(CT_NUMBERS[_property(name)].usual + gain.get(name, 0)) * share
        for name, share in patient.shares.items()
    )
    dense = 1 - patient.shares["air"]
    return ct_scan(np.asarray(clean + 4 * patient.mottle * dense, np.float32), spacing, noise, rng)


def ct_scan(hu: Array, spacing: Point, noise: float, rng: np.random.Generator) -> Array:
    """Return CT numbers with the point spread and the grained noise of a soft kernel, SD `noise` in HU."""
    seen = ndimage.gaussian_filter(hu, (0, BLUR / spacing[1], BLUR / spacing[2]))
    grained = np.float32(noise) * texture(rng, hu.shape, (1e9, *spacing[1:]), GRAIN)
    return np.asarray((seen + grained).clip(*HU_RANGE), np.float32)


def _classes(shares: Mapping[str, Array]) -> NDArray[np.uint8]:
    """Return the label map of the class that takes most of each voxel."""
    totals = np.zeros((4, *next(iter(shares.values())).shape), np.float32)
    for name, share in shares.items():
        totals[CLASSES.get(name, SOFT)] += share
    return np.asarray(totals.argmax(0), np.uint8)


def _displacement(rng: np.random.Generator, grid: Grid, mean: float) -> Array:
    """Return a displacement in mm of mean length `mean`, of which three quarters are rigid and the rest is smooth."""
    way = rng.normal(size=3)
    rigid = 3 * way / np.linalg.norm(way)
    bends = [PlaneWaves.draw(rng, 90.0, 6)(grid.x, grid.y, grid.z) / np.sqrt(3) for _ in range(3)]
    field = np.stack([one + bend for one, bend in zip(rigid, bends, strict=True)]).astype(np.float32)
    length = float(np.sqrt((field**2).sum(0)).mean())
    return np.asarray(field * np.float32(mean / length), np.float32)


def _moved(values: Array, displacement: Array, spacing: Point) -> Array:
    """Return the image whose voxels show what lies a displacement away; beyond its border it is continued."""
    places = np.stack(np.meshgrid(*map(np.arange, values.shape), indexing="ij")).astype(np.float32)
    places += displacement / np.asarray(spacing, np.float32)[:, None, None, None]
    return np.asarray(ndimage.map_coordinates(values, places, order=1, mode="nearest"), np.float32)
