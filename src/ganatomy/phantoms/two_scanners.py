"""Brains with lesions in MR from two simulated scanners, one of which has another sequence in place of the fourth."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from ganatomy.images.image import Image
from ganatomy.phantoms.brain import BrainMR
from ganatomy.phantoms.shapes import label_of

LESION = 0.6  # relative change of the fourth image in lesions: brighter on one scanner, darker on the other
GAMMA = 0.8  # power of the intensities of the second scanner
NOISE = 25.0  # SD of its additional noise


class _Injured(BrainMR):
    """Patients with one lesion in the scanned slices."""

    LABELS = ("sick",)
    DISEASES = ("tumour",)
    TUMOUR_RADIUS = (8, 18)


class TwoScannersMR:
    """Injured brains, of which the first scanner makes images with a label map and the second those that are tested.

    Seeds alternate between the scanners of `LABELS`. FLAIR, T2 and T1 of the second scanner have another contrast and
    more noise. The fourth image, "ge", is a T2-weighted one on which lesions are bright on the first scanner and dark
    on the second, as if a susceptibility-weighted image were used in place of a gradient echo.

    Attributes:
        LABELS: "source" for the first scanner, "target" for the second, "tested" for patients of the second scanner on
            which methods are tested.
        image: FLAIR.
        images: "flair", "t2", "t1" and "ge", float32 (1, slices, rows, columns) in a.u.; 0 outside the brain.
        masks: "brain" and "lesion".
        regions: as in `BrainMR`.
        labels: "lesions", uint8 (slices, rows, columns), 1 in lesions.
        label: one of `LABELS`.
    """

    LABELS: ClassVar[tuple[str, ...]] = ("source", "target", "tested")

    def __init__(
        self, seed: int, *, size: int = 48, slices: int = 32, distance_mm: float = 4.0, label: str | None = None
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns over 200 mm.
            slices: number of slices, from below.
            distance_mm: distance between slices.
            label: one of `LABELS`; None selects it by the seed.

        Raises:
            UserError: the label is unknown, or the size impossible.
        """
        self.label = label_of(seed, self.LABELS, label)
        patient = _Injured(seed, size=size, slices=slices, distance_mm=distance_mm)
        lesion = patient.masks["lesion"]
        self.masks = {name: patient.masks[name] for name in ("brain", "lesion")}
        self.regions = patient.regions
        self.labels = {"lesions": lesion.astype(np.uint8)}
        second = self.label != "source"
        echo = patient.healthy["t2"].numpy()[0] * (1 + (-LESION if second else LESION) * lesion)
        plain = {name: patient.images[name].numpy()[0] for name in ("flair", "t2", "t1")}
        rng = np.random.default_rng([seed, 2])
        self.images: dict[str, Image] = {}
        for name, values in {**plain, "ge": echo}.items():
            if second:
                values = np.hypot(1000 * (values / 1000) ** GAMMA, NOISE * rng.standard_normal(values.shape))
            seen = (values * self.masks["brain"]).astype(np.float32)
            self.images[name] = patient.images["t2"].with_array(seen[None])
        self.image = self.images["flair"]

    @staticmethod
    def side(seed: int) -> Literal["train", "val", "test"]:
        """Return the side of the split that a patient is on: the third kind is tested, every fifth source validates."""
        if seed % 3 == 2:
            return "test"
        return "val" if seed % 15 == 0 else "train"
