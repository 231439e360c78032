"""Brains with injuries and old scars in MR from two simulated scanners, with another sequence as the fourth image."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import numpy as np

from ganatomy.images.image import Image
from ganatomy.phantoms.brain import BrainMR
from ganatomy.phantoms.shapes import Array, Grid, Mask, PlaneWaves, Point, label_of, ramp

INJURY = {"flair": 0.5, "t2": 0.5, "t1": -0.2}
SCAR = {"flair": 0.5, "t2": 0.5}
"""Relative changes of the intensity in an injury and in a scar, by image."""
ECHO = 1.0  # relative change of the fourth image in injuries, on either scanner
RADII = (9.0, 18.0)  # mm, of injuries and scars
INJURIES, SCARS = (1, 3), (1, 3)  # smallest and largest number of them
APART = 4.0  # mm, smallest distance between two of them
GAMMA = 0.8  # power of the intensities of the second scanner
NOISE = 25.0  # SD of its additional noise


class _Patch(NamedTuple):
    """A place where tissue is changed: its centre (x, y, z) and its radius in mm."""

    centre: Point
    radius: float


class TwoScannersMR:
    """Injured brains, of which the first scanner makes images with a label map and the second those that are tested.

    Injuries are the lesions to be found; old scars, of the same sizes and as many, are not. In FLAIR and T2 both are
    bright alike, so that no threshold tells them apart; T1 and the fourth image, "ge", show injuries alone. T1 shows
    them dark on either scanner. In "ge" they are brighter than the tissue around them on either scanner, but that
    tissue is T2-weighted on the first and T1-weighted on the second, as if another gradient echo were used there: white
    matter of the second scanner looks like injuries of the first. FLAIR, T2 and T1 of the second scanner differ in
    contrast and noise only.

    Attributes:
        LABELS: "source" for the first scanner, "target" for the second, "tested" for patients of the second scanner on
            which methods are tested. Seeds alternate between them.
        image: FLAIR.
        images: "flair", "t2", "t1" and "ge", float32 (1, slices, rows, columns) in a.u.; 0 outside the brain.
        masks: "brain", "lesion" for injuries, and "scar".
        regions: as in `BrainMR`.
        labels: "lesions", uint8 (slices, rows, columns), 1 in injuries.
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
        patient = BrainMR(seed, size=size, slices=slices, distance_mm=distance_mm, label="healthy")
        pathological, physical = np.random.default_rng([seed, 2]).spawn(2)
        tissue = patient.masks["brain"] & ~patient.masks["csf"]
        injury, scar = _changed(patient, tissue, pathological)
        self.masks = {"brain": patient.masks["brain"], "lesion": injury >= 0.5, "scar": scar >= 0.5}
        self.regions = patient.regions
        self.labels = {"lesions": self.masks["lesion"].astype(np.uint8)}
        second = self.label != "source"
        plain = {name: patient.images[name].numpy()[0] for name in ("flair", "t2", "t1")}
        seen = {
            name: values * (1 + INJURY.get(name, 0.0) * injury + SCAR.get(name, 0.0) * scar)
            for name, values in plain.items()
        }
        seen["ge"] = plain["t1" if second else "t2"] * (1 + ECHO * injury)
        self.images: dict[str, Image] = {}
        for name, values in seen.items():
            if second:
                values = np.hypot(1000 * (values / 1000) ** GAMMA, NOISE * physical.standard_normal(values.shape))
            shown = (values * self.masks["brain"]).astype(np.float32)
            self.images[name] = patient.images["t2"].with_array(shown[None])
        self.image = self.images["flair"]

    @staticmethod
    def side(seed: int) -> Literal["train", "val", "test"]:
        """Return the side of the split that a patient is on: the third kind is tested, every fifth source validates."""
        if seed % 3 == 2:
            return "test"
        return "val" if seed % 15 == 0 else "train"


def _changed(patient: BrainMR, tissue: Mask, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the shares of every voxel that are injured and scarred, within the tissue, without overlap."""
    depth, rows, columns = tissue.shape
    grid = Grid.centred((depth, rows, columns), patient.image.spacing)
    injuries, scars = (int(rng.integers(low, high + 1)) for low, high in (INJURIES, SCARS))
    patches = _places(grid, patient.masks["white"], injuries + scars, rng)
    # Injuries are placed first, so that a brain without room for all has at least one.
    groups = patches[:injuries], patches[injuries:]
    injured, scarred = (
        np.maximum.reduce([np.zeros(grid.shape, np.float32), *(_ragged(grid, patch, rng) for patch in group)])
        for group in groups
    )
    return injured * tissue, scarred * tissue


def _places(grid: Grid, where: Mask, count: int, rng: np.random.Generator) -> list[_Patch]:
    """Draw patches that lie apart and have their centres in a mask; fewer than asked for where there is no room."""
    k, j, i = np.nonzero(where)
    found: list[_Patch] = []
    for at in rng.permutation(len(k)):
        if len(found) == count:
            break
        centre = (float(grid.x[0, 0, i[at]]), float(grid.y[0, j[at], 0]), float(grid.z[k[at], 0, 0]))
        radius = float(rng.uniform(*RADII))
        gaps = [np.linalg.norm(np.subtract(centre, other.centre)) - 1.3 * other.radius for other in found]
        if min(gaps, default=np.inf) >= 1.3 * radius + APART:
            found.append(_Patch(centre, radius))
    return found


def _ragged(grid: Grid, patch: _Patch, rng: np.random.Generator) -> Array:
    """Return the share of every voxel in a blob with a ragged border, which stays within 1.3 of its radius."""
    x, y, z = (axis - np.float32(at) for axis, at in zip((grid.x, grid.y, grid.z), patch.centre, strict=True))
    waves = PlaneWaves.draw(rng, 1.6 * patch.radius, 10)(x, y, z)
    scaled = np.sqrt(sum((p / np.float32(r)) ** 2 for p, r in zip((x, y, z), rng.uniform(0.8, 1.1, 3), strict=True)))
    smooth = scaled - np.float32(patch.radius)
    ragged = smooth + np.float32(0.1 * patch.radius) * np.clip(waves, -1.5, 1.5)
    half = 0.5 * grid.pixel
    return ramp(np.asarray(ragged, np.float32), half, -half)
