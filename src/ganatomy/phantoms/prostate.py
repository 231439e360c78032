"""Prostates in multi-parametric MR: patches around a lesion, and whole glands with lesions on three scanners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, PlaneWaves, ellipsoid, label_of, per_slice, ramp, turned

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


@dataclass(frozen=True)
class Scanner:
    """A scanner with its coil and protocol (our choice of numbers).

    Attributes:
        gain: T2-weighted signal of a tissue of relative signal 1, in a.u.
        noise: SD of the noise, relative to the signal of such a tissue.
        high_b: strongest diffusion weighting in s/mm².
        blur: mm, SD of the point spread of echo-planar images.
        shift: mm, greatest displacement of echo-planar images beside the gas of the rectum.
        reach: mm over which the sensitivity of the coil falls; None for coils outside of the body, which see all alike.
    """

    gain: float
    noise: float
    high_b: float
    blur: float
    shift: float
    reach: float | None = None


SCANNERS: dict[str, Scanner] = {
    "3 T": Scanner(gain=420.0, noise=0.020, high_b=1500.0, blur=0.8, shift=1.0),
    "1.5 T": Scanner(gain=230.0, noise=0.030, high_b=1400.0, blur=1.2, shift=0.7),
    "1.5 T endorectal": Scanner(gain=300.0, noise=0.015, high_b=1000.0, blur=1.0, shift=1.6, reach=32.0),
}
"""Scanners by name, between which seeds alternate."""

FIELD_OF_VIEW = 96.0  # mm
# Signal in T2-weighted images, relative, and apparent diffusion coefficient in 1e-6 mm²/s; the order of tissues is
# known, the numbers are our choice.
FAT, MUSCLE, WALL = (0.80, 250.0), (0.22, 1250.0), (0.35, 1300.0)
CENTRAL, RIM = (0.42, 1330.0), (0.85, 1720.0)
GAS = (0.0, 0.0)
LESIONS = {"aggressive": (0.5, 1.0), "indolent": (0.05, 0.4)}
"""Kind of lesion to the range of its severity."""
DARKER = (0.12, 0.55)  # share of the T2 signal that a lesion of severity 0 and 1 lacks
DENSER = (180.0, 950.0)  # 1e-6 mm²/s by which its diffusion is lower
SIZES = (3.0, 8.5)  # mm, its radius


class ProstateMR:
    """Multi-parametric MR of a prostate with its zones, and perhaps lesions: T2-weighted, ADC and high-b diffusion.

    Two thirds of the patients have aggressive lesions, one to three; more than half have indolent ones, which are
    smaller, fainter, and belong to their zone. Nodules of the transition zone and patches of inflammation are dark,
    too. The ADC is computed from noisy images with and without diffusion weighting, so that it is noisy where the
    signal is weak. Seeds alternate between three scanners, which differ in the scale of their images, noise, diffusion
    weighting, sharpness, distortion beside the rectum, and in the sensitivity of the coil.

    Attributes:
        SITES: names of the scanners.
        image: T2-weighted image.
        images: "t2w" and "dwi" in a.u., and "adc" in 1e-6 mm²/s, which as in most files is stated nowhere, float32
            (1, slices, size, size).
        masks: "gland", "transition", "peripheral", "lesion" for the aggressive lesions, and "indolent".
        labels: "prostate", uint8: 1 transition zone, 2 peripheral zone, 3 aggressive lesion, which replaces its zone.
        regions: "muscle".
        site: name of the scanner.
    """

    SITES: ClassVar[tuple[str, ...]] = tuple(SCANNERS)

    def __init__(
        self, seed: int, *, size: int = 128, slices: int = 12, distance_mm: float = 3.0, lesions: int | None = None
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns over 96 mm.
            slices: number of slices around the middle of the prostate.
            distance_mm: distance between slices.
            lesions: number of aggressive lesions; None draws it.

        Raises:
            UserError: the size is impossible, or the number of lesions is negative.
        """
        if min(size, slices) < 1 or distance_mm <= 0 or (lesions is not None and lesions < 0):
            raise UserError(f"a prostate of {slices} x {size} x {size} voxels with {lesions} lesions cannot be drawn")
        self.site = self.SITES[seed % len(self.SITES)]
        patient, physical = np.random.default_rng(seed).spawn(2)
        pixel = FIELD_OF_VIEW / size
        grid = Grid.centred((slices, size, size), (distance_mm, pixel, pixel))
        gland = _Gland.draw(patient)
        number = int(patient.choice([0, 1, 2, 3], p=[0.33, 0.42, 0.17, 0.08]))
        kinds = ["aggressive"] * (number if lesions is None else lesions) + ["indolent"] * int(patient.integers(0, 3))
        signal, diffusion = gland.tissue(patient, grid)
        outer, inner = gland.outer(grid), gland.inner(grid)
        found = {kind: np.zeros(grid.shape, np.bool_) for kind in LESIONS}
        for kind in kinds:
            severity = patient.uniform(*LESIONS[kind])
            lesion = np.maximum(gland.lesion(patient, grid, severity), outer)
            inside = ramp(lesion, 0.9, -0.9)
            core = 1 + 0.1 * PlaneWaves.draw(patient, 6.0)(grid.x, grid.y, grid.z)
            darker, denser = (float(np.interp(severity, (0, 1), ends)) for ends in (DARKER, DENSER))
            signal = signal * (1 - darker * core * inside)
            diffusion = diffusion - denser * core * inside
            found[kind] |= lesion < 0
        found["indolent"] &= ~found["aggressive"]
        self.masks = {
            "gland": outer < 0,
            "transition": (inner < 0) & (outer < 0),
            "peripheral": (outer < 0) & (inner >= 0),
            "lesion": found["aggressive"],
            "indolent": found["indolent"],
        }
        labels = np.zeros(grid.shape, np.uint8)
        for label, name in enumerate(("transition", "peripheral", "lesion"), 1):
            labels[self.masks[name]] = label
        self.labels = {"prostate": labels}
        self.regions = {"muscle": gland.side(grid) > 3}

        made = _scanned(SCANNERS[self.site], physical, grid, np.maximum(signal, 0), np.maximum(diffusion, 150))
        spacing = (distance_mm, pixel, pixel)
        header = Header(modality="MR")
        units = {"t2w": "a.u.", "adc": None, "dwi": "a.u."}
        self.images = {
            name: Image.from_array(made[name], spacing, unit=unit, header=header) for name, unit in units.items()
        }
        self.image = self.images["t2w"]


@dataclass(frozen=True)
class _Gland:
    """Anatomy of a prostate; lengths in mm, y to the back, the middle of the gland at the origin.

    Attributes:
        radii: of the gland along x, y and z.
        share: size of the transition zone relative to the gland.
        forward: distance by which its middle lies in front of the gland's.
        rectum: (x, y) of the middle of the rectum, and its radius.
        muscles: distance of the muscles of the pelvic wall from the midline.
    """

    radii: tuple[float, float, float]
    share: float
    forward: float
    rectum: tuple[float, float, float]
    muscles: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Gland:
        near = rng.uniform
        radii = near(22, 28), near(16, 21), near(17, 22)
        rectum = near(6.5, 11)
        return cls(radii, near(0.55, 0.74), near(3, 5), (near(-4, 4), radii[1] + rectum + 3.5, rectum), near(33, 38))

    def outer(self, grid: Grid) -> Array:
        """Return the distance to the capsule, which is flattened towards the rectum."""
        y = np.where(grid.y > 0, grid.y * np.float32(1.12), grid.y)
        return ellipsoid((grid.x, y, grid.z), self.radii)

    def inner(self, grid: Grid) -> Array:
        """Return the distance to the transition zone."""
        a, b, c = (radius * self.share for radius in self.radii)
        return ellipsoid((grid.x, grid.y + np.float32(self.forward), grid.z), (a, 0.95 * b, 1.1 * c))

    def side(self, grid: Grid) -> Array:
        """Return the depth within the muscles of the pelvic wall, negative outside of them."""
        return np.asarray(np.abs(grid.x) - self.muscles + 0.004 * (grid.y + 8) ** 2 + 0 * grid.z, np.float32)

    def tissue(self, rng: np.random.Generator, grid: Grid) -> tuple[Array, Array]:
        """Draw the T2 signal, relative, and the diffusion in 1e-6 mm²/s of a prostate without lesions."""
        x, y, radius = self.rectum
        rectum = np.asarray(np.hypot(grid.x - x, (grid.y - y) * 1.25) - radius + 0 * grid.z, np.float32)
        outer, inner = self.outer(grid), self.inner(grid)
        mottle, coarse = (PlaneWaves.draw(rng, length)(grid.x, grid.y, grid.z) for length in (5.0, 11.0))
        parts = (
            (FAT, None),
            (MUSCLE, -self.side(grid)),
            (WALL, rectum - 3.0),
            (GAS, rectum),
            (RIM, outer),
            (CENTRAL, np.maximum(inner, outer)),
        )
        signal, diffusion = (np.full(grid.shape, FAT[place], np.float32) for place in (0, 1))
        for (bright, free), distance in parts[1:]:
            inside = ramp(np.asarray(distance), 0.6, -0.6)
            signal, diffusion = signal + (bright - signal) * inside, diffusion + (free - diffusion) * inside
        # The capsule is a thin dark line.
        signal = signal * (1 - 0.5 * np.exp(-((outer / 0.7) ** 2)))
        gland = ramp(outer, 0.5, -0.5)
        inflamed = gland * ramp(inner, -0.5, 0.5) * ramp(coarse, 0.7, 1.8)
        signal = signal * (1 + gland * 0.07 * mottle) * (1 - 0.28 * inflamed)
        diffusion = diffusion * (1 + gland * 0.04 * mottle) - 190 * inflamed
        for _ in range(int(rng.integers(2, 6))):
            nodule = self._nodule(rng, grid)
            inside, shell = ramp(nodule, 0.5, -0.5) * ramp(inner, 0.5, -0.5), np.exp(-((nodule / 0.6) ** 2))
            bright, free = rng.uniform(-0.3, 0.55), rng.uniform(-280, 260)
            signal = signal * (1 + bright * inside - 0.3 * shell * ramp(inner, 0.5, -0.5))
            diffusion = diffusion + free * inside
        return np.asarray(signal, np.float32), np.asarray(diffusion, np.float32)

    def _nodule(self, rng: np.random.Generator, grid: Grid) -> Array:
        """Return the distance to a round nodule of hyperplasia in the transition zone."""
        turn, out, up = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.6), rng.uniform(-0.6, 0.6)
        a, b, c = (radius * self.share for radius in self.radii)
        x, y, z = out * a * np.cos(turn), out * b * np.sin(turn) - self.forward, up * c
        radius = rng.uniform(2.5, 5.5)
        return ellipsoid((grid.x - x, grid.y - y, grid.z - z), (radius, radius, 1.2 * radius))

    def lesion(self, rng: np.random.Generator, grid: Grid, severity: float) -> Array:
        """Return the distance to an irregular lesion, three of four in the peripheral zone."""
        radius = float(np.interp(severity, (0, 1), SIZES)) * rng.uniform(0.85, 1.15)
        a, b, c = self.radii
        up = rng.uniform(-0.55, 0.55)
        around = np.sqrt(1 - up**2)
        if rng.random() < 0.75:
            turn, out = rng.uniform(-0.25, np.pi + 0.25), 0.5 * (1 + self.share) * rng.uniform(0.92, 1.08)
            forward = 0.3 * self.forward
        else:
            turn, out, forward = rng.uniform(np.pi, 2 * np.pi), self.share * rng.uniform(0.2, 0.8), self.forward
        x, y, z = out * a * around * np.cos(turn), out * b * around * np.sin(turn) / 1.06 - forward, up * c
        lean = turn + np.pi / 2
        along, across = turned(grid.x - np.float32(x), grid.y - np.float32(y), lean)
        flat = rng.uniform(0.6, 0.95)
        shape = ellipsoid(
            (along, across, grid.z - np.float32(z)), (radius, flat * radius, rng.uniform(0.8, 1.2) * radius)
        )
        return np.asarray(
            shape + 0.16 * radius * PlaneWaves.draw(rng, 2.2 * radius, 8)(grid.x, grid.y, grid.z), np.float32
        )


def _scanned(
    scanner: Scanner, rng: np.random.Generator, grid: Grid, signal: Array, diffusion: Array
) -> dict[str, Array]:
    """Return T2-weighted image, ADC and high-b image of a scanner, (slices, rows, columns) each."""
    field = PlaneWaves.draw(rng, (90.0, 90.0, 200.0), 6)(grid.x, grid.y, grid.z)
    sensitivity = 1 + 0.08 * field
    if scanner.reach is not None:
        # A coil in the rectum, behind the gland, sees what is near to it.
        apart = np.hypot(grid.x, grid.y - np.float32(30.0)) + 0 * grid.z
        sensitivity = sensitivity * (0.35 + 2.1 * np.exp(-((apart / scanner.reach) ** 2)))
    gain, sd = scanner.gain * rng.uniform(0.8, 1.25), scanner.noise * rng.uniform(0.8, 1.3)

    def measured(values: Array, noise: float) -> Array:
        parts = noise * rng.standard_normal((2, *values.shape), np.float32)
        return np.asarray(np.hypot(values + parts[0], parts[1]), np.float32)

    t2w = gain * measured(signal * sensitivity, sd)
    # Fat is suppressed, and the rest less T2-weighted.
    plain = (0.35 + 0.65 * signal) * (diffusion > 400) * (signal > 0.05) + 0.04
    weighted = plain * np.exp(-scanner.high_b * 1e-6 * diffusion)
    plain, weighted = (_echo_planar(scanner, grid, np.asarray(one, np.float32)) for one in (plain, weighted))
    first, second = (measured(one * sensitivity, sd) for one in (plain, weighted))
    held = first > 4 * sd
    adc = np.where(held, np.log(first / np.maximum(second, 1e-3)) / scanner.high_b * 1e6, 0).clip(0, 3500)
    return {"t2w": t2w, "adc": adc.astype(np.float32), "dwi": np.asarray(0.8 * gain * second, np.float32)}


def _echo_planar(scanner: Scanner, grid: Grid, values: Array) -> Array:
    """Return images blurred and shifted towards the rectum, as the gas there distorts echo-planar images."""
    blurred = ndimage.gaussian_filter(values, (0, scanner.blur / grid.pixel, scanner.blur / grid.pixel))
    rows = np.arange(blurred.shape[1], dtype=np.float32)
    near = np.exp(-(((grid.y[0, :, 0] - 22) / 14) ** 2)) * scanner.shift / grid.pixel
    moved = ndimage.map_coordinates(
        blurred,
        np.meshgrid(np.arange(blurred.shape[0]), rows - near, np.arange(blurred.shape[2]), indexing="ij"),
        order=1,
        mode="nearest",
    )
    return np.asarray(moved, np.float32)
