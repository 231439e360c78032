"""Chests and upper abdomens in FDG-PET and CT, with lesions whose uptake is known."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms import thorax
from ganatomy.phantoms.abdomen_ct import CT_NUMBERS
from ganatomy.phantoms.mr_ct import ct_scan
from ganatomy.phantoms.shapes import Array, Grid, Mask, Path, PlaneWaves, Point, average, ellipsoid, ramp, texture
from ganatomy.phantoms.torso import (
    LIVER_BOX,
    TISSUES,
    Abdomen,
    AbdomenMR,
    Canvas,
    ChestMR,
    _chest,
    draw_abdomen,
    places_inside,
)
from ganatomy.physics.ct_numbers import attenuation_at_511
from ganatomy.physics.pet import PetScanner, blurred, decayed

FINEST = 4.0  # mm, largest edge of the pixels that coarser ones are averaged from
FWHM = 5.5  # mm, point spread of the PET scanner
CORRELATED = 5.0  # mm, full width over which the noise of PET is correlated
DOSE_PER_KG = 4.0  # MBq of FDG
DELAY = 3600.0  # s from injection to scan
VIEWS, ITERATIONS, SUBSETS = 96, 2, 12

UPTAKE: Mapping[str, tuple[float, float]] = {
    "air": (0.0, 0.0),
    "skin": (0.4, 0.7),
    "fat": (0.2, 0.4),
    "muscle": (0.5, 0.9),
    "bone": (0.4, 0.8),
    "marrow": (0.9, 1.6),
    "cartilage": (0.5, 0.8),
    "csf": (0.2, 0.4),
    "cord": (1.2, 1.9),
    "lung": (0.3, 0.6),
    "blood": (1.3, 1.9),
    "myocardium": (1.5, 9.0),
    "liver": (1.8, 2.6),
    "bile": (0.4, 1.0),
    "spleen": (1.4, 2.1),
    "cortex": (2.0, 3.2),
    "medulla": (2.4, 4.0),
    "urine": (8.0, 30.0),
    "pancreas": (1.1, 1.7),
    "gland": (0.6, 1.2),
    "wall": (0.9, 2.0),
    "chyme": (0.5, 1.2),
    "stool": (0.5, 1.5),
}
"""Tissue to the range of its mean SUV an hour after injection, from which each patient's is drawn. Ranges are around
values that are often reported (Wang et al., Mol. Imaging Biol. 9:83-90, 2007, doi 10.1007/s11307-006-0075-y, and
others); the limits are our choice."""


class Lesion(NamedTuple):
    """A lesion: its number in the map, its place, size and uptake.

    Attributes:
        number: number of a tumour in `instances`, from 1; 0 for other lesions.
        centre: middle of its part in the slices, in mm to the left, back and head from the middle of the scan.
        radius: mean radius in mm.
        uptake: true SUV of its tissue.
        hot: whether it is a tumour; others are cysts of the liver and scars of the lung.
    """

    number: int
    centre: Point
    radius: float
    uptake: float
    hot: bool


class _PetCT:
    """PET and CT of a patient, from tissues and lesions that `_patient` draws."""

    FIELD_OF_VIEW: ClassVar[float]
    ORGAN: ClassVar[str]
    TUMOUR: ClassVar[tuple[float, float]]  # CT numbers of tumours in HU
    BENIGN: ClassVar[tuple[float, float, float, float]]  # CT numbers and SUV of other lesions
    ENHANCED: ClassVar[float]

    def __init__(
        self,
        seed: int,
        *,
        size: int = 128,
        slices: int = 24,
        distance_mm: float = 5.0,
        lesions: int | None = None,
        noise: float = 0.1,
        ct_noise: float = 12.0,
        counts: float | None = None,
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns over 320 mm of an abdomen and 370 mm of a chest.
            slices: number of slices, from below.
            distance_mm: distance between slices.
            lesions: number of lesions, hot or not; None draws from none to five.
            noise: SD of the noise of PET where the SUV is 2, relative to it; it grows with the root of the uptake.
            ct_noise: SD of the noise of CT in HU.
            counts: coincidences of each slice of an actual scan, which is simulated with attenuation, scatter and
                Poisson noise and reconstructed by OSEM, in place of `noise`; 1e6 are usual. It takes seconds a slice.

        Raises:
            UserError: the size is impossible, or a noise or number is negative.
        """
        if (
            size < 16
            or slices < 1
            or not 0 < distance_mm <= 10
            or min(noise, ct_noise, lesions or 0) < 0
            or (counts is not None and counts <= 0)
        ):
            raise UserError(
                f"PET and CT of {slices} x {size} x {size} voxels, {distance_mm:g} mm apart, with {lesions} lesions, "
                f"noise {noise:g} and {ct_noise:g} HU and {counts} counts cannot be drawn: give at least one slice of "
                "16 x 16 pixels, and at most 10 mm between slices"
            )
        anatomical, pathological, functional, radiological, physical = np.random.default_rng(seed).spawn(5)
        pixel = self.FIELD_OF_VIEW / size
        spacing = (distance_mm, pixel, pixel)
        parts = ceil(pixel / FINEST)
        fine = Grid.centred((slices, size * parts, size * parts), (distance_mm, pixel / parts, pixel / parts))
        canvas, places = self._patient(anatomical, pathological, fine)
        if lesions is None:
            lesions = int(pathological.integers(0, 6))
        drawn = _lesions(self, canvas, places, pathological, lesions)

        shares = {name: average(canvas[name], parts) for name in TISSUES}
        self.weight_kg = float(functional.uniform(52, 98))
        self.dose_mbq = DOSE_PER_KG * self.weight_kg
        uptake = {name: float(functional.uniform(*limits)) for name, limits in UPTAKE.items()}
        hu = np.zeros((slices, size, size), np.float32)
        suv = np.zeros_like(hu)
        for name, share in shares.items():
            plain, portal = CT_NUMBERS[name]
            hu += np.float32(plain + self.ENHANCED * (portal - plain)) * share
            suv += np.float32(uptake[name]) * share
        numbers = np.zeros(hu.shape, np.uint16)
        self.lesions: list[Lesion] = []
        cold: Mask = np.zeros(hu.shape, bool)
        grid = Grid.centred((slices, size, size), spacing)
        for radius, tissue, hot, share in drawn:
            part = average(share, parts)
            inside = part >= 0.5
            around = ndimage.binary_dilation(inside, iterations=2)
            if not inside.any() or (around & (cold | (numbers > 0))).any():
                continue  # outside of the slices, or too close to another one
            hu += part * (np.float32(tissue[0]) - hu)
            suv += part * (np.float32(tissue[1]) - suv)
            number = int(numbers.max()) + 1 if hot else 0
            numbers[inside] = number
            cold |= inside & (number == 0)
            x, y, z = (float((part * axis).sum() / part.sum()) for axis in (grid.x, grid.y, grid.z))
            self.lesions.append(Lesion(number, (x, y, z), radius, tissue[1], hot))

        self.uptake = suv
        self.instances: dict[str, NDArray[np.uint16]] = {"lesions": numbers}
        organs = {name: average(share, parts) >= 0.5 for name, share in canvas.organs.items()}
        self.masks: dict[str, Mask] = {
            "body": organs["body"],
            "organ": organs[self.ORGAN] | (numbers > 0) | cold,
            "lesions": numbers > 0,
            "benign": cold,
        }
        self.labels = {"lesions": (numbers > 0).astype(np.uint8)}
        self.regions: dict[str, Mask] = {
            name: (shares[name] > 0.999) & (numbers == 0) & ~cold for name in ("liver", "muscle", "blood")
        }
        seen_hu = ct_scan(hu, spacing, ct_noise, radiological)
        if counts is None:
            pet = _quick(suv, spacing, noise, physical)
        else:
            pet = _scanned(suv, hu, pixel, distance_mm, counts, physical)
        self.images = {
            "ct": Image.from_array(np.rint(seen_hu).astype(np.int16), spacing, "HU", Header(modality="CT")),
            "pet": Image.from_array(pet, spacing, "SUV", Header(modality="PT")),
        }
        self.image = self.images["ct"]

    @property
    def kbq_per_ml(self) -> float:
        """Activity concentration in kBq/mL at the time of the scan where the SUV is 1."""
        return float(decayed(self.dose_mbq, DELAY)) / self.weight_kg

    def _patient(
        self, anatomical: np.random.Generator, pathological: np.random.Generator, grid: Grid
    ) -> tuple[Canvas, Path]:
        """Draw a random patient, and places at which lesions may lie."""
        raise NotImplementedError


class ChestPetCT(_PetCT):
    """An adult's chest at the height of the heart with tumours and scars of the lungs; the CT is plain.

    The anatomy is that of `ganatomy.phantoms.torso.ChestMR`. Uptake of the myocardium differs widely between patients.

    Attributes:
        image: the CT.
        images: "ct", int16 HU, and "pet", float32 SUV, with point spread and noise.
        masks: "body"; "organ", the lungs; "lesions", tumours of high uptake; and "benign", lesions without.
        instances: "lesions", the number of each tumour, uint16 (slices, size, size).
        labels: "lesions", 1 in tumours.
        regions: "liver", "muscle" and "blood", where there is nothing else.
        lesions: all lesions of the slices, with their true uptake.
        uptake: SUV without point spread and noise, float32 (slices, size, size).
        weight_kg, dose_mbq: weight of the patient, and the dose that was injected an hour before the scan.
        kbq_per_ml: activity concentration where the SUV is 1.
    """

    FIELD_OF_VIEW = ChestMR.FIELD_OF_VIEW
    ORGAN = "lungs"
    TUMOUR, BENIGN, ENHANCED = (20.0, 50.0), (-60.0, 30.0, 0.5, 1.3), 0.0

    def _patient(
        self, anatomical: np.random.Generator, pathological: np.random.Generator, grid: Grid
    ) -> tuple[Canvas, Path]:
        anatomy = thorax.Anatomy.draw(anatomical)
        half = float(np.ptp(grid.z)) / 2
        level = anatomy.level
        places = places_inside(
            pathological, anatomy.lungs, (-130, -90, level - half), (130, 90, level + half), 900, 4.0
        )
        return _chest(anatomy, grid, anatomical), places


class LiverPetCT(_PetCT):
    """The upper abdomen with metastases and cysts of the liver; the CT is one of the portal-venous phase.

    The anatomy is that of `ganatomy.phantoms.torso.AbdomenMR`. Attributes are those of `ChestPetCT`; "organ" is the
    liver. Bowel, kidneys and stomach take up the tracer, too.
    """

    FIELD_OF_VIEW = AbdomenMR.FIELD_OF_VIEW
    ORGAN = "liver"
    TUMOUR, BENIGN, ENHANCED = (50.0, 80.0), (2.0, 14.0, 0.3, 0.9), 1.0

    def _patient(
        self, anatomical: np.random.Generator, pathological: np.random.Generator, grid: Grid
    ) -> tuple[Canvas, Path]:
        anatomy = Abdomen.draw(anatomical)
        low, high = (np.asarray(corner, np.float64) for corner in LIVER_BOX)
        half = float(np.ptp(grid.z)) / 2 / anatomy.size[2]
        low[2], high[2] = max(low[2], anatomy.level - half), min(high[2], anatomy.level + half)
        places = places_inside(pathological, anatomy.livers, _point(low), _point(high), 900, 4.0)
        return draw_abdomen(anatomy, grid, anatomical), places


def _point(values: NDArray[np.float64]) -> Point:
    x, y, z = values
    return float(x), float(y), float(z)


def _lesions(
    kind: _PetCT, canvas: Canvas, places: Path, rng: np.random.Generator, count: int
) -> list[tuple[float, tuple[float, float], bool, Array]]:
    """Return the radius of each lesion, its CT number and SUV, whether it is hot, and its share of every voxel."""
    grid, drawn = canvas.grid, []
    organ = canvas.organs[kind.ORGAN]
    chosen = places[rng.integers(0, len(places), count)] if len(places) else places
    for centre in chosen:
        hot = bool(rng.random() < 0.7)
        radius = float(np.exp(rng.uniform(np.log(5), np.log(17))))
        radii = radius * rng.uniform(0.8, 1.2, 3)
        ragged = PlaneWaves.draw(rng, 1.5 * radius, 8)
        uptake = float(np.exp(rng.uniform(np.log(4), np.log(13)))) if hot else float(rng.uniform(*kind.BENIGN[2:]))
        density = float(rng.uniform(*kind.TUMOUR)) if hot else float(rng.uniform(*kind.BENIGN[:2]))
        x, y, z = (axis - np.float32(at) for axis, at in zip((grid.x, grid.y, grid.z), centre, strict=True))
        distance = ellipsoid((x, y, z), (radii[0], radii[1], radii[2])) + 0.1 * radius * ragged(x, y, z)
        share = np.asarray(ramp(np.asarray(distance, np.float32), 1.5, -1.5) * organ, np.float32)
        drawn.append((radius, (density, uptake), hot, share))
    return drawn


def _quick(suv: Array, spacing: Point, noise: float, rng: np.random.Generator) -> Array:
    """Return the PET with point spread and correlated noise, whose variance is proportional to the uptake."""
    seen = blurred(suv, spacing, FWHM)
    grained = texture(rng, suv.shape, spacing, CORRELATED / 2.3548)
    return np.asarray(np.maximum(seen + noise * np.sqrt(2 * seen) * grained, 0), np.float32)


def _scanned(suv: Array, hu: Array, pixel: float, distance: float, counts: float, rng: np.random.Generator) -> Array:
    """Return the PET of every slice, scanned and reconstructed with the attenuation of the CT."""
    thick = blurred(suv, (distance, 1e9, 1e9), FWHM)
    scanner = PetScanner((suv.shape[1], suv.shape[2]), pixel, views=VIEWS, fwhm=FWHM)
    seen = np.zeros_like(suv)
    for number, (plane, density) in enumerate(zip(thick, hu, strict=True)):
        scan = scanner.acquire(plane, counts, rng, attenuation=attenuation_at_511(density), background=0.3)
        seen[number] = scanner.reconstruct(scan, ITERATIONS, SUBSETS)
    return blurred(seen, (1e9, pixel, pixel), CORRELATED)
