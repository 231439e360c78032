"""The upper abdomen in CT: volumes with liver, focal lesions, other organs and bones, before or after contrast."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, Mask, Path, PlaneWaves, average, ellipsoid, ramp, texture
from ganatomy.phantoms.torso import (
    LIVER_BOX,
    PURE,
    TISSUES,
    Abdomen,
    AbdomenMR,
    Canvas,
    draw_abdomen,
    places_inside,
)

CT_NUMBERS: dict[str, tuple[float, float]] = {
    "air": (-1000, -1000),
    "skin": (25, 35),
    "fat": (-103, -100),
    "muscle": (54, 64),
    "bone": (650, 655),
    "marrow": (170, 185),
    "cartilage": (90, 95),
    "csf": (8, 9),
    "cord": (34, 38),
    "lung": (-850, -840),
    "blood": (42, 170),
    "myocardium": (46, 115),
    "liver": (60, 112),
    "bile": (6, 7),
    "spleen": (49, 122),
    "cortex": (33, 190),
    "medulla": (31, 165),
    "urine": (4, 12),
    "pancreas": (42, 98),
    "gland": (40, 75),
    "wall": (42, 85),
    "chyme": (16, 18),
    "stool": (-40, -38),
}
"""Tissue to its CT numbers in HU without contrast medium and in the portal-venous phase; typical of adults."""
CYST = (6.0, 8.0)
METASTASIS = (42.0, 66.0)
LIVER, LESION = 1, 2
FINEST = 4.0  # mm, largest edge of the pixels that coarser ones are averaged from
GRAIN = 1.2  # mm, correlation length of the noise of a soft kernel
GAP = 3.0  # mm between the border of the liver and the centre of a lesion


class AbdomenCT:
    """Axial slices through the whole liver of one patient per seed, with the anatomy of `AbdomenMR`.

    Patients differ in the phase of the scan: from none to all of the enhancement of the portal-venous phase. Livers
    have a part of their own of it, and about one in four is fatty. Lesions are metastases, which are irregular and a
    little darker than the enhanced liver, or cysts, which hold water.

    Attributes:
        image: CT with noise, float32 HU, (1, slices, size, size).
        images: `image` by its name, "ct".
        masks: "body"; "liver", vessels and lesions included; "lesion"; "spleen"; "kidneys"; "vessels", all blood; and
            "bone", marrow included.
        labels: "liver": 1 in the liver, 2 in its lesions, uint8.
        regions: "liver", parenchyma alone, and "muscle".
        enhancement: share of the enhancement of the portal-venous phase, 0 to 1.
        lesion_count: number of lesions of the patient, some of which may merge.
    """

    def __init__(
        self,
        seed: int,
        *,
        size: int = 128,
        slices: int = 48,
        distance_mm: float = 5.0,
        lesions: int | None = None,
        noise: float = 14.0,
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns over 320 mm.
            slices: number of slices, from below; 240 mm hold every liver.
            distance_mm: distance between slices.
            lesions: number of lesions; None draws from none to seven.
            noise: SD of the noise in HU of an average patient; it grows with the girth.

        Raises:
            UserError: the size is impossible, or the noise or number of lesions is negative.
        """
        if size < 8 or slices < 1 or not 0 < distance_mm <= 10 or noise < 0 or (lesions or 0) < 0:
            raise UserError(
                f"an abdomen of {slices} x {size} x {size} voxels, {distance_mm:g} mm apart, with noise {noise:g} HU "
                f"and {lesions} lesions cannot be drawn: give at least one slice of 8 x 8 pixels, and at most 10 mm "
                "between slices"
            )
        anatomical, scanner, pathological, physical = np.random.default_rng(seed).spawn(4)
        patient = replace(Abdomen.draw(anatomical), level=scanner.uniform(-5, 12))
        self.enhancement = float(np.clip(scanner.uniform(-0.15, 1.15), 0, 1))
        fatty = scanner.uniform(10, 40) if scanner.random() < 0.25 else scanner.uniform(-5, 5)

        pixel = AbdomenMR.FIELD_OF_VIEW / size
        parts = ceil(pixel / FINEST)
        fine = Grid.centred((slices, size * parts, size * parts), (distance_mm, pixel / parts, pixel / parts))
        canvas = draw_abdomen(patient, fine, anatomical)
        self.lesion_count = int(pathological.integers(0, 8)) if lesions is None else lesions
        metastases, cysts = _lesions(patient, canvas, pathological, self.lesion_count)

        values = {
            name: np.float32(plain + self.enhancement * (portal - plain))
            for name, (plain, portal) in {**CT_NUMBERS, "metastasis": METASTASIS, "cyst": CYST}.items()
        }
        values["liver"] -= np.float32(fatty)
        hu = np.zeros(fine.shape, np.float32)
        for name in TISSUES:
            hu += values[name] * canvas[name]
        for name, share in (("metastasis", metastases), ("cyst", cysts)):
            hu += share * (values[name] - hu)

        lesion = np.maximum(metastases, cysts)
        organs = {**canvas.organs, "lesion": lesion, "bone": canvas["bone"] + canvas["marrow"]}
        self.masks = {name: average(share, parts) >= 0.5 for name, share in organs.items()}
        self.masks["lesion"] &= self.masks["liver"]
        plain = {"liver": canvas["liver"] * (1 - lesion), "muscle": canvas["muscle"]}
        self.regions: dict[str, Mask] = {name: average(share, parts) > PURE for name, share in plain.items()}
        labels = np.where(self.masks["lesion"], LESION, np.where(self.masks["liver"], LIVER, 0))
        self.labels = {"liver": labels.astype(np.uint8)}

        spacing = (distance_mm, pixel, pixel)
        girth = float(np.sqrt(self.masks["body"].mean())) * AbdomenMR.FIELD_OF_VIEW / 210
        grained = np.float32(noise * girth) * texture(physical, (slices, size, size), (1e9, pixel, pixel), GRAIN)
        clean = average(hu, parts)
        self.image = Image.from_array(
            np.asarray(clean + grained, np.float32), spacing, unit="HU", header=Header(modality="CT")
        )
        self.images = {"ct": self.image}


def _lesions(patient: Abdomen, canvas: Canvas, rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Return the shares of every voxel of the liver that metastases and cysts take."""
    grid = canvas.grid
    shares: tuple[Array, Array] = (np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32))
    inside: Path = places_inside(rng, patient.livers, *LIVER_BOX, 400, GAP)
    for centre in inside[rng.integers(0, len(inside), count)]:
        cystic = rng.random() < 0.3
        radius = float(np.exp(rng.uniform(np.log(5), np.log(20))))
        radii = radius * rng.uniform(0.8, 1.2, 3)
        ragged = PlaneWaves.draw(rng, 1.5 * radius, 8)
        index = grid.window(centre - 1.8 * radius - 4, centre + 1.8 * radius + 4)
        part = grid.crop(index)
        if 0 in part.shape:
            continue
        x, y, z = (axis - np.float32(at) for axis, at in zip((part.x, part.y, part.z), centre, strict=True))
        distance = ellipsoid((x, y, z), (radii[0], radii[1], radii[2]))
        if cystic:
            share = grid.coverage(distance)
        else:
            share = ramp(np.asarray(distance + 0.1 * radius * ragged(x, y, z), np.float32), 1.5, -1.5)
        share = np.asarray(share * canvas.organs["liver"][index], np.float32)
        np.maximum(shares[cystic][index], share, out=shares[cystic][index])
    return shares
