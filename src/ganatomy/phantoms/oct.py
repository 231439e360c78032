"""The macula in optical coherence tomography: B-scans of one eye per seed, healthy or with fluid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Mask, PlaneWaves, label_of

DISEASES = ("subretinal", "cystic", "both")

WIDTH, DEPTH, APART = 6.0, 900.0, 0.12  # mm across a B-scan, µm in depth, mm between scans
ANCHOR = 0.72  # depth of the pigment epithelium, as a share of the imaged depth
RESOLUTION = 6.0  # µm, smallest blur of the boundaries between layers
CORRELATION = 0.65  # pixels, SD of the blur that correlates neighbouring speckles

LAYERS = {
    "vitreous": 10.0,
    "nerve fibres": 180.0,
    "ganglion cells": 122.0,
    "inner nuclei": 72.0,
    "outer plexus": 126.0,
    "outer nuclei": 52.0,
    "inner segments": 88.0,
    "ellipsoids": 205.0,
    "outer segments": 105.0,
    "subretinal space": 12.0,
    "pigment epithelium": 225.0,
    "choroid": 125.0,
}
"""Layer, from the front, to its brightness on a display of 0 to 255; ganglion cells and inner plexus are one layer.
Order and relative brightness follow Staurenghi et al. (Ophthalmology 121(8), 2014, doi 10.1016/j.ophtha.2014.02.023);
the numbers are our choice."""

OEDEMA = 0.9  # mm around a cyst in which its layer is swollen
FLUID, FOCUS = 12.0, 235.0  # brightness


@dataclass(frozen=True)
class Anatomy:
    """Anatomy that differs between eyes; lengths in mm."""

    fovea: tuple[float, float]  # position of the fovea, across and along the scans
    pit: float  # radius of the foveal pit
    thickness: float  # thickness of all layers, relative to an average eye
    nasal: float  # 1 if the optic nerve, where the layer of its fibres is thick, lies to the right; -1 to the left
    tilt: float  # rise of the retina from left to right
    curvature: float  # depth of its middle below its ends
    swings: tuple[PlaneWaves, ...]  # variations of the layers' thickness
    choroid: PlaneWaves
    vessels: tuple[tuple[float, float, float, float], ...]  # position, drift from scan to scan, radius, darkness

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Anatomy:
        """Draw a random adult eye."""
        near = rng.uniform
        sides = [side for side in (-1, 1) for _ in range(rng.integers(1, 4))]
        return cls(
            fovea=(near(-0.7, 0.7), near(-0.4, 0.4)),
            pit=near(0.3, 0.45),
            thickness=near(0.9, 1.12),
            nasal=float(rng.choice([-1, 1])),
            tilt=near(-0.1, 0.1),
            curvature=near(0.02, 0.14),
            swings=tuple(PlaneWaves.draw(rng, 1.6, 8) for _ in LAYERS),
            choroid=PlaneWaves.draw(rng, (0.4, 0.13, 0.4), 16),
            vessels=tuple((side * near(0.8, 2.9), near(-0.5, 0.5), near(0.03, 0.07), near(0.4, 0.7)) for side in sides),
        )

    def thicknesses(self, x: Array, z: Array) -> dict[str, Array]:
        """Return the thickness in µm of each layer of a healthy retina at positions in mm, (slices, 1, columns)."""
        across, along = x - np.float32(self.fovea[0]), z - np.float32(self.fovea[1])
        distance = np.hypot(across, along)
        pit = np.exp(-0.5 * (distance / self.pit) ** 2)
        rim = np.exp(-0.5 * ((distance - 2.6 * self.pit) / (1.5 * self.pit)) ** 2)
        fibres = 14 + 9 * np.clip(distance - 0.6, 0, 3) * (1 + 0.6 * self.nasal * np.tanh(across))
        flat = np.zeros_like(pit)
        usual = {
            "nerve fibres": fibres * (1 - 0.85 * pit),
            "ganglion cells": (50 + 34 * rim) * (1 - 0.94 * pit**0.7),
            "inner nuclei": (30 + 9 * rim) * (1 - 0.9 * pit**0.8),
            "outer plexus": 25 * (1 - 0.55 * pit),
            "outer nuclei": 60 + 42 * pit,
            "inner segments": 24 + 4 * pit,
            "ellipsoids": flat + 17,
            "outer segments": 18 + 12 * pit,
            "subretinal space": flat,
            "pigment epithelium": flat + 24,
        }
        return {
            name: np.asarray(self.thickness * value * (1 + 0.09 * swing(x, 0, z)), np.float32)
            for (name, value), swing in zip(usual.items(), self.swings, strict=False)
        }

    def epithelium(self, x: Array, z: Array) -> Array:
        """Return the depth in µm of the front of the pigment epithelium, with the tilt of the eye."""
        slope = self.tilt * x / WIDTH - self.curvature * (2 * x / WIDTH) ** 2 + 0.05 * self.curvature * np.sin(9 * z)
        return np.asarray(ANCHOR * DEPTH + 1000 * slope, np.float32)


@dataclass(frozen=True)
class Blob:
    """An ellipsoid of fluid or of a bright focus in the retina."""

    centre: tuple[float, float]  # mm across and along the scans
    half: tuple[float, float, float]  # half axes: mm across, mm along, µm in depth
    place: str  # layer that the centre lies in the middle of

    def bump(self, x: Array, z: Array, spread: float = 1.0) -> Array:
        """Return the square of its half height, relative to the maximum, (slices, 1, columns); 0 beside it."""
        u, v = (x - self.centre[0]) / (spread * self.half[0]), (z - self.centre[1]) / (spread * self.half[1])
        return np.asarray(np.maximum(1 - u**2 - v**2, 0), np.float32)


class RetinalOCT:
    """B-scans through a macula: slices are scans, rows run in depth, columns across.

    Sick eyes have subretinal fluid, which lifts the layers before it, or cysts in the inner and outer nuclear layers,
    which swell them, or both; and bright foci. Some of their scans are free of these.

    Attributes:
        LABELS: the classes, in the order in which seeds alternate between them.
        image: float32 (1, slices, rows, columns), 0 to 255 a.u., with shadows of vessels and multiplicative speckle.
        images: `image` by its name, "oct".
        healthy: "oct" of this eye with unchanged speckle before the disease.
        masks: "retina" (to the back of the pigment epithelium), "fluid", "foci", "lesion" (both), and "altered", all
            voxels that the disease changes: lesions and the layers that they displace.
        regions: "vitreous" and "outer nuclei".
        label: "healthy" or "sick".
        disease: "subretinal", "cystic" or "both"; None for healthy eyes.
        anatomy: anatomy of the eye.
    """

    LABELS: ClassVar[tuple[str, ...]] = ("healthy", "sick")

    def __init__(
        self,
        seed: int,
        *,
        size: int = 128,
        slices: int = 12,
        label: str | None = None,
        disease: str | None = None,
        flatten: bool = True,
        looks: float = 20.0,
    ) -> None:
        """Draw the eye.

        Args:
            seed: seed of the eye; even ones are healthy.
            size: rows over 0.9 mm, and columns over 6 mm.
            slices: number of scans, 0.12 mm apart, around the fovea.
            label: "healthy" or "sick"; None selects it by the seed.
            disease: "subretinal", "cystic" or "both", for a sick eye; None selects it by the seed.
            flatten: whether the pigment epithelium is moved to one row everywhere.
            looks: number of scans that are averaged; the SD of the speckle is the mean divided by its root.

        Raises:
            UserError: the label or disease is unknown, or the size or number of looks impossible.
        """
        if min(size, slices) < 1 or looks <= 0:
            raise UserError(f"a retina of {slices} x {size} x {size} voxels and {looks} looks cannot be drawn")
        if disease not in (None, *DISEASES):
            raise UserError(f"there is no disease {disease!r}: choose one of {', '.join(DISEASES)}")
        self.label = label_of(seed, self.LABELS, label)
        self.disease = (disease or DISEASES[seed // 2 % 3]) if self.label == "sick" else None
        anatomical, pathological, optical = np.random.default_rng(seed).spawn(3)
        self.anatomy = Anatomy.draw(anatomical)
        fluid, foci = _lesions(pathological, self.anatomy, self.disease, slices)

        sound = _Scan(self.anatomy, size, slices, flatten, [], [])
        sick = _Scan(self.anatomy, size, slices, flatten, fluid, foci)
        speckle = _speckle(optical, sound.values.shape, looks)
        spacing = (APART, DEPTH / 1000 / size, WIDTH / size)
        self.image, before = (
            Image.from_array((scan.values * speckle).clip(0, 255), spacing, "a.u.", Header(modality="OPT"))
            for scan in (sick, sound)
        )
        self.images, self.healthy = {"oct": self.image}, {"oct": before}
        foci_mask = sick.retina & (sick.foci >= 0.5)
        fluid_mask = sick.retina & (sick.fluid >= 0.5) & ~foci_mask
        lesion = fluid_mask | foci_mask
        self.masks: dict[str, Mask] = {
            "retina": sick.retina,
            "fluid": fluid_mask,
            "foci": foci_mask,
            "lesion": lesion,
            "altered": lesion | (sick.values != sound.values),
        }
        self.regions = sick.regions


class _Scan:
    """Layers of an eye with given lesions, without speckle; depths in µm from the front edge of the image."""

    def __init__(
        self, anatomy: Anatomy, size: int, slices: int, flatten: bool, fluid: list[Blob], foci: list[Blob]
    ) -> None:
        pixel = DEPTH / size
        self.x = (((np.arange(size) + 0.5) / size - 0.5) * WIDTH).astype(np.float32)[None, None]
        self.z = ((np.arange(slices) - (slices - 1) / 2) * APART).astype(np.float32)[:, None, None]
        self.depth = ((np.arange(size) + 0.5) * pixel).astype(np.float32)[None, :, None]
        self.blur = np.float32(max(pixel, RESOLUTION))
        self.anatomy = anatomy

        layers = anatomy.thicknesses(self.x, self.z)
        for name in layers:
            squares = (self.swelling(blob) ** 2 for blob in fluid if blob.place == name)
            layers[name] += np.sqrt(sum(squares, np.float32(0)))
        self.epithelium = anatomy.epithelium(0 * self.x if flatten else self.x, 0 * self.z if flatten else self.z)
        self.fronts = self.stack(layers)
        self.values = self.layered()
        self.fluid = self.within("subretinal space")
        self.foci = np.zeros_like(self.values)
        for blobs, share, brightness in ((fluid, self.fluid, FLUID), (foci, self.foci, FOCUS)):
            for blob in blobs:
                if blob.place != "subretinal space":
                    np.maximum(share, self.inside(blob), out=share)
            self.values += share * (brightness - self.values)
        self.values *= self.shadows()
        front, back = self.fronts["nerve fibres"], self.fronts["choroid"]
        self.retina = (self.depth >= front) & (self.depth < back)
        self.regions = {
            "vitreous": np.broadcast_to(self.depth < front - 60, self.values.shape),
            "outer nuclei": (self.within("outer nuclei") > 0.99) & (self.fluid == 0) & (self.foci == 0),
        }

    def swelling(self, blob: Blob) -> Array:
        """Return the swelling of a blob's layer in µm: under a dome its height, around a cyst more widely."""
        if blob.place == "subretinal space":
            return blob.half[2] * blob.bump(self.x, self.z)
        return 1.6 * blob.half[2] * blob.bump(self.x, self.z, max(1.5, OEDEMA / blob.half[0])) ** 2

    def stack(self, layers: dict[str, Array]) -> dict[str, Array]:
        """Return the depth of the front of each layer, stacked up from the pigment epithelium."""
        front, fronts = self.epithelium, {"pigment epithelium": self.epithelium}
        for name in [name for name in reversed(layers) if name not in fronts]:
            front = fronts[name] = front - layers[name]
        fronts["choroid"] = self.epithelium + layers["pigment epithelium"]
        return {name: fronts[name] for name in LAYERS if name in fronts}

    def reach(self, front: Array) -> Array:
        """Return the share of each pixel behind a boundary."""
        return np.asarray(np.clip(0.5 + (self.depth - front) / self.blur, 0, 1), np.float32)

    def within(self, layer: str) -> Array:
        """Return the share of each pixel in a layer."""
        names = list(self.fronts)
        return self.reach(self.fronts[layer]) - self.reach(self.fronts[names[names.index(layer) + 1]])

    def inside(self, blob: Blob) -> Array:
        """Return the share of each pixel in a blob, whose centre follows that of its layer."""
        names = list(self.fronts)
        front, back = (self.fronts[names[names.index(blob.place) + step]] for step in (0, 1))
        middle: Array = (front + back) / np.float32(2)
        half: Array = np.float32(blob.half[2]) * np.sqrt(blob.bump(self.x, self.z))
        return self.reach(middle - half) - self.reach(middle + half)

    def layered(self) -> Array:
        """Return the brightness of the layers."""
        behind = self.depth - self.fronts["choroid"]
        vascular = 1 + 0.3 * self.anatomy.choroid(self.x, behind / 1000, self.z)
        choroid = LAYERS["choroid"] * np.exp(-np.maximum(behind, 0) / 160) * np.clip(vascular, 0.3, 1.6)
        values = np.full(behind.shape, LAYERS["vitreous"], np.float32)
        before: float = LAYERS["vitreous"]
        for name, front in self.fronts.items():
            values += self.reach(front) * ((choroid if name == "choroid" else LAYERS[name]) - before)
            before = LAYERS[name]
        return values

    def shadows(self) -> Array:
        """Return the transmission of the vessels among the nerve fibres."""
        light = np.ones((1, 1, 1), np.float32)
        for place, drift, radius, darkness in self.anatomy.vessels:
            across = (self.x - place - drift * self.z) / max(radius, 0.5 * WIDTH / self.x.size)
            light = light * (1 - np.float32(darkness) * np.exp(-0.5 * across**2))
        return 1 - self.reach(self.fronts["ganglion cells"]) * (1 - light)


def _lesions(
    rng: np.random.Generator, anatomy: Anatomy, disease: str | None, slices: int
) -> tuple[list[Blob], list[Blob]]:
    """Draw fluid and bright foci, in some of the scans."""
    if disease is None:
        return [], []
    near = rng.uniform
    span = slices * APART
    middle = near(-0.35, 0.35) * span
    fluid = []
    if disease != "cystic":
        place = anatomy.fovea[0] + near(-0.6, 0.6), middle
        fluid.append(Blob(place, (near(0.6, 1.4), near(0.2, 0.32) * span, near(70, 190)), "subretinal space"))
    if disease != "subretinal":
        for layer in rng.choice(["inner nuclei", "outer nuclei"], rng.integers(3, 10)):
            place = anatomy.fovea[0] + near(-1.2, 1.2), middle + near(-0.12, 0.12) * span
            fluid.append(Blob(place, (near(0.09, 0.28), near(0.1, 0.2) * span, near(16, 48)), str(layer)))
    foci = [
        Blob(
            (anatomy.fovea[0] + near(-1.5, 1.5), middle + near(-0.2, 0.2) * span),
            (near(0.05, 0.1), near(0.06, 0.09), near(9, 16)),
            str(layer),
        )
        for layer in rng.choice(["inner nuclei", "outer plexus", "outer nuclei"], rng.integers(4, 15))
    ]
    return fluid, foci


def _speckle(rng: np.random.Generator, shape: tuple[int, ...], looks: float) -> Array:
    """Draw factors of mean 1 and SD looks^-½, gamma distributed but for the correlation of neighbours."""
    sigma = (0, CORRELATION, CORRELATION)
    impulse = np.zeros((1, 9, 9))
    impulse[0, 4, 4] = 1
    power = float((ndimage.gaussian_filter(impulse, sigma) ** 2).sum())
    grains = rng.standard_gamma(looks * power, shape, np.float32) / np.float32(looks * power)
    return np.asarray(ndimage.gaussian_filter(grains, sigma, mode="wrap"), np.float32)
