"""Prostate lesions in multiparametric MR: patches of T2, ADC and Ktrans of one patient per seed."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, PlaneWaves, ellipsoid, label_of, per_slice, ramp

LABELS = ("insignificant", "significant")

UNITS = {"t2": "a.u.", "adc": "1e-6 mm²/s", "ktrans": "1/min"}
"""Channels in order, with their units."""

RANGES = {"t2": (0.0, 500.0), "adc": (500.0, 2000.0), "ktrans": (0.0, 5.0)}
"""Range that the values of each channel are clipped to."""

# The order of tissues in the following constants is known; the numbers are our choice, by channel.
PERIPHERAL = {"t2": (310.0, 30.0), "adc": (1580.0, 90.0), "ktrans": (0.3, 0.08)}  # mean and SD among patients
TRANSITION = {"t2": -110.0, "adc": -280.0, "ktrans": 0.3}  # change from the peripheral zone
MILDEST = {"t2": -50.0, "adc": -170.0, "ktrans": 0.25}  # change by a lesion of severity 0
WORST = {"t2": -210.0, "adc": -930.0, "ktrans": 2.9}  # change by a lesion of severity 1
TEXTURE = {"t2": 22.0, "adc": 55.0, "ktrans": 0.06}  # SD within tissue
NOISE = {"t2": 9.0, "adc": 40.0, "ktrans": 0.05}  # SD of the noise
EDGE = {"t2": 0.7, "adc": 1.5, "ktrans": 1.2}  # mm over which borders are blurred to either side
RADII = (2.4, 6.0)  # mm, radius of lesions of severity 0 and 1


class ProstateLesion:
    """Patches around a lesion in the peripheral zone, some with the border of the transition zone.

    Significant lesions are darker in T2, restrict diffusion more, take up contrast medium faster and are larger; these
    properties are correlated, and the classes are close to each other. The slices are views of one patient, in each of
    which the lesion is rotated, shifted and deformed randomly.

    Attributes:
        LABELS: the classes, in the order in which seeds alternate between them.
        image: float32 (3, slices, size, size): T2 in a.u. (0 to 500), ADC in 1e-6 mm²/s (500 to 2000) and Ktrans in
            1/min (0 to 5); its unit is None, as there are three.
        images: "t2", "adc" and "ktrans", one channel each with its unit.
        masks: "lesion".
        regions: "tissue", peripheral zone beside the lesion.
        label: "insignificant" or "significant".
        severity: 0 to 1; above one half for significant lesions.
    """

    LABELS: ClassVar[tuple[str, ...]] = LABELS

    def __init__(
        self, seed: int, *, size: int = 16, slices: int = 8, label: str | None = None, noise: float = 1.0
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient; lesions of even ones are insignificant.
            size: rows and columns of 1 mm.
            slices: number of patches.
            label: "insignificant" or "significant"; None selects it by the seed.
            noise: SD of the noise relative to its default.

        Raises:
            UserError: the label is unknown or the size impossible.
        """
        if min(size, slices) < 1:
            raise UserError(f"patches of {slices} x {size} x {size} voxels cannot be drawn")
        self.label = label_of(seed, LABELS, label)
        rng = np.random.default_rng(seed)
        self.severity = (LABELS.index(self.label) + rng.uniform(0.08, 0.92)) / 2
        grid = Grid.centred((slices, size, size), (1.0, 1.0, 1.0))
        lesion, border = _lesion(rng, grid, self.severity), _zone(rng, grid)
        # Views of one patient are taken far apart in z, so that they have no detail in common.
        mottle, core = (PlaneWaves.draw(rng, length)(grid.x, grid.y, 40 * grid.z) for length in (7.0, 6.0))

        self.images: dict[str, Image] = {}
        for name, unit in UNITS.items():
            usual, spread = PERIPHERAL[name]
            severity = np.clip(self.severity + rng.normal(0, 0.08), 0, 1)
            change = MILDEST[name] + (WORST[name] - MILDEST[name]) * severity * (1 + 0.08 * core)
            values = usual + rng.normal(0, spread) + TEXTURE[name] * mottle * (-1 if name == "ktrans" else 1)
            inside, beyond = (ramp(shape, EDGE[name], -EDGE[name]) for shape in (lesion, border))
            values = values + TRANSITION[name] * beyond * (1 - inside) + change * inside
            values += noise * NOISE[name] * rng.standard_normal(grid.shape)
            clipped = values.clip(*RANGES[name]).astype(np.float32)
            self.images[name] = Image.from_array(clipped, unit=unit, header=Header(modality="MR"))
        channels = np.concatenate([image.numpy() for image in self.images.values()])
        self.image = Image.from_array(channels, header=Header(modality="MR"))
        self.masks = {"lesion": lesion < 0}
        self.regions = {"tissue": (lesion > 2) & (border > 2)}


def _lesion(rng: np.random.Generator, grid: Grid, severity: float) -> Array:
    """Return the distance to an irregular ellipse near the middle of each slice."""
    small, large = RADII
    radius = (small + (large - small) * severity) * rng.uniform(0.85, 1.15)
    shape = rng.uniform(0.7, 1.0)
    slices = grid.z.size
    turn, u0, v0 = (per_slice(rng, slices, -end, end) for end in (np.pi, 1.5, 1.5))
    scale = per_slice(rng, slices, 0.88, 1.12)
    x, y = (grid.x - u0) / scale, (grid.y - v0) / scale
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    ragged = PlaneWaves.draw(rng, 2.2 * radius, 8)(grid.x, grid.y, 40 * grid.z)
    return np.asarray(ellipsoid((along, across), (radius, shape * radius)) + 0.14 * radius * ragged, np.float32)


def _zone(rng: np.random.Generator, grid: Grid) -> Array:
    """Return the distance to the transition zone, which a wavy line separates from the peripheral zone."""
    turn = np.float32(rng.uniform(-np.pi, np.pi)) + per_slice(rng, grid.z.size, -0.5, 0.5)
    apart = np.float32(rng.uniform(3, 12)) + per_slice(rng, grid.z.size, -1, 1)
    wavy = PlaneWaves.draw(rng, 14.0, 6)(grid.x, grid.y, 40 * grid.z)
    return np.asarray(apart - (grid.x * np.cos(turn) + grid.y * np.sin(turn)) + wavy, np.float32)
