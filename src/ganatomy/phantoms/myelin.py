"""Brains in quantitative MR and in PET of myelin: four maps, from which the binding of [11C]PiB can be predicted."""

from __future__ import annotations

from math import ceil
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.brain import FIELD_OF_VIEW, FINEST, Anatomy, _affected, _lesions, _tissues
from ganatomy.phantoms.shapes import Array, Grid, Mask, PlaneWaves, average, label_of, texture
from ganatomy.physics.pet import blurred

FWHM = 3.0  # mm, point spread of a PET scanner for brains
RADII = (6.0, 17.0)  # mm, radii of tumours, of which there are none here
LESION, WHITE, OTHER = 1, 2, 3  # values of the label map of regions

NONSPECIFIC, SPECIFIC = 0.75, 0.85
"""Distribution volume ratio of tissue without myelin, and what complete myelin adds to it (our choice)."""


class MyelinMRPet:
    """The cerebrum of a person with or without multiple sclerosis, in four MR maps and one PET image of myelin.

    Lesions have lost between 10 and 95 % of their myelin, and the white matter around them up to 16 %. Each map also
    depends on something else than myelin: magnetisation transfer on inflammation and the transmitted field, fractional
    anisotropy on fibres that cross, diffusivities on the loss of axons and on oedema. So several tell more than one.

    All numbers are typical orders of magnitude at 3 T and our choice; the binding is linear in myelin, as for [11C]PiB.

    Attributes:
        LABELS: the classes, in the order in which seeds alternate between them.
        image: the magnetisation transfer ratio.
        images: "mtr" in %; "fa" from 0 to 1; "rd" and "ad", radial and axial diffusivity in µm²/ms; "flair" in a.u.;
            and "dvr", distribution volume ratio of PET. All float32 (1, slices, size, size), 0 outside of the brain.
        masks: "brain", "white", "grey", "csf" and "lesion".
        labels: "regions" has 1 in lesions, 2 in white matter that looks normal, and 3 in the rest of the brain.
        regions: "white" and "grey", where there is nothing else.
        myelin: true content of myelin from 0 to 1, float32 (slices, size, size).
        demyelinated: share of its myelin that each voxel's white matter has lost, 0 to 1.
        label: "healthy" or "sick".
    """

    LABELS: ClassVar[tuple[str, ...]] = ("healthy", "sick")

    def __init__(
        self,
        seed: int,
        *,
        size: int = 96,
        slices: int = 24,
        distance_mm: float = 3.0,
        label: str | None = None,
        noise: float = 0.04,
    ) -> None:
        """Draw the person.

        Args:
            seed: seed of the person; even ones are healthy.
            size: rows and columns over 200 mm.
            slices: number of slices, from below.
            distance_mm: distance between slices.
            label: "healthy" or "sick"; None selects it by the seed.
            noise: SD of the noise of maps and PET relative to their values in white matter.

        Raises:
            UserError: the label is unknown, the size impossible, or the noise negative.
        """
        if size < 16 or slices < 1 or not 0 < distance_mm <= 10 or noise < 0:
            raise UserError(
                f"a brain of {slices} x {size} x {size} voxels, {distance_mm:g} mm apart, with noise {noise:g} cannot "
                "be drawn: give at least one slice of 16 x 16 pixels, and at most 10 mm between slices"
            )
        self.label = label_of(seed, self.LABELS, label)
        anatomical, pathological, biological, physical = np.random.default_rng(seed).spawn(4)
        anatomy = Anatomy.draw(anatomical)
        pixel = FIELD_OF_VIEW / size
        spacing = (distance_mm, pixel, pixel)
        parts = ceil(pixel / FINEST)
        fine = Grid.centred(
            (slices, size * parts, size * parts), (distance_mm, pixel / parts, pixel / parts), anatomy.level
        )
        tissues = _tissues(anatomy, fine, skull=False)
        found = _lesions(anatomy, fine, pathological, "ms" if self.label == "sick" else None, RADII)
        shares = {name: average(share, parts) for name, share in _affected(tissues, found).items()}
        grid = Grid.centred((slices, size, size), spacing, anatomy.level)
        white, grey = shares["white"], shares["grey"]
        plaque = shares.get("plaque", np.zeros_like(white))
        fluid = shares["csf"] + shares["ventricles"]

        def field(wavelength: float) -> Array:
            return PlaneWaves.draw(biological, wavelength, 10)(grid.x, grid.y, grid.z)

        sick = self.label == "sick"
        # Neighbouring lesions share a degree of damage, which differs from one end of the brain to the other.
        damage = np.clip(0.55 + 0.3 * field(45.0), 0.1, 0.95).astype(np.float32)
        diffuse = np.float32(biological.uniform(0.02, 0.08) if sick else 0) * np.clip(1 + 0.5 * field(30.0), 0, 2)
        maturity = 1 + 0.08 * field(60.0)
        oedema, axons = np.clip(0.5 + 0.35 * field(35.0), 0, 1), np.clip(0.8 + 0.2 * field(40.0), 0.3, 1)
        crossing = np.clip(0.35 + 0.3 * field(28.0), 0, 0.9)
        transmitted = 1 + 0.07 * field(120.0)
        self.demyelinated = np.asarray(
            np.where(white + plaque > 0.02, (plaque * damage + white * diffuse) / np.maximum(white + plaque, 0.02), 0),
            np.float32,
        )
        self.myelin = np.asarray(
            (maturity * (0.9 * white * (1 - diffuse) + 0.9 * plaque * (1 - damage)) + 0.3 * grey).clip(0, 1), np.float32
        )

        brain: Mask = white + grey + plaque + fluid >= 0.5
        solid = white + grey + plaque
        maps = {
            "mtr": transmitted * (12 * solid + 38 * self.myelin - 10 * plaque * oedema + 1.5 * fluid),
            "fa": white * (0.62 - 0.3 * crossing) * (0.75 + 0.25 * self.myelin)
            + plaque * (0.42 - 0.2 * crossing) * axons * (0.6 + 0.4 * self.myelin)
            + 0.14 * grey
            + 0.05 * fluid,
            "rd": white * (1.05 - 0.6 * self.myelin + 0.08 * crossing)
            + plaque * (1.15 - 0.6 * self.myelin + 0.3 * oedema)
            + 0.75 * grey
            + 2.9 * fluid,
            "ad": white * (1.35 - 0.25 * crossing)
            + plaque * (1.2 - 0.35 * (1 - axons) + 0.35 * oedema)
            + 0.9 * grey
            + 3.0 * fluid,
            "flair": 430 * white + 520 * grey + plaque * (820 + 180 * oedema) + 40 * fluid,
        }
        typical = {"mtr": 45.0, "fa": 0.5, "rd": 0.5, "ad": 1.25, "flair": 430.0}
        self.images: dict[str, Image] = {}
        for name, clean in maps.items():
            noisy = clean + np.float32(noise * typical[name]) * physical.standard_normal(grid.shape, np.float32)
            values = np.where(brain, np.maximum(noisy, 0), 0).astype(np.float32)
            unit = {"mtr": "%", "rd": "µm²/ms", "ad": "µm²/ms", "flair": "a.u."}.get(name)
            self.images[name] = Image.from_array(values, spacing, unit, Header(modality="MR"))
        binding = NONSPECIFIC * solid + SPECIFIC * self.myelin + 0.3 * fluid
        seen = blurred(binding, spacing, FWHM)
        grained = texture(physical, grid.shape, spacing, FWHM / 2.3548)
        values = np.where(brain, seen * (1 + 1.5 * noise * grained), 0).astype(np.float32)
        self.images["dvr"] = Image.from_array(values, spacing, None, Header(modality="PT"))
        self.image = self.images["mtr"]

        lesion: Mask = brain & (plaque >= 0.5)
        largest = np.stack([grey, white + plaque, fluid]).argmax(0)
        self.masks: dict[str, Mask] = {"brain": brain, "lesion": lesion}
        self.masks |= {name: brain & (largest == number) for number, name in enumerate(("grey", "white", "csf"))}
        regions = np.where(self.masks["white"] & (plaque < 0.05), WHITE, OTHER)
        self.labels: dict[str, NDArray[np.uint8]] = {
            "regions": np.where(brain, np.where(lesion, LESION, regions), 0).astype(np.uint8)
        }
        self.regions: dict[str, Mask] = {"white": white > 0.9, "grey": grey > 0.9}
