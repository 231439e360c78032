"""The left ventricle in 3D echocardiography: volumes of a beating heart at the end of diastole and of systole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.optimize import brentq

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, Mask, Path, PlaneWaves, ellipsoid, label_of, ramp
from ganatomy.physics.ultrasound import Sector, attenuated, compressed, speckled

FIELD_OF_VIEW = 150.0  # mm along every axis
SECTOR = Sector(depth_mm=150.0, step_mm=1.0, half_angle=np.radians(38.0), beams=56)
SPREAD = (0.9, 0.9, 0.9)  # SD of pulse and beam, in samples
DYNAMIC_RANGE = 55.0  # dB
BLOOD, TISSUE, MUSCLE, PERICARDIUM = 0.012, 0.12, 0.3, 0.9
"""Amplitudes of echoes, relative to that which is white."""
FLOOR = 0.006  # amplitude of the noise


@dataclass(frozen=True)
class Heart:
    """A left ventricle whose cavity is half of an ellipsoid, from the mitral valve to the apex; mm and mm³.

    Attributes:
        apex: position of the apex (across, deep, aside), which hardly moves.
        axes: unit vectors (rows) across the ventricle, twice, and from base to apex.
        length: length of the cavity at the end of diastole.
        volume: volume of the cavity at the end of diastole.
        ejected: ejection fraction, 0 to 1.
        muscle: volume of the wall, which the heart keeps.
        oval: ratio of the width of the cavity along the first axis to that of a round one.
        relief: waves of the inner surface, which move along with it.
        mottle: waves of the echoes of the tissue around.
    """

    apex: Path
    axes: Path
    length: float
    volume: float
    ejected: float
    muscle: float
    oval: float
    relief: PlaneWaves
    mottle: PlaneWaves

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Heart:
        """Draw the heart of a random adult, healthy or failing."""
        tilt, turn = np.radians(rng.uniform(0, 16)), rng.uniform(0, 2 * np.pi)
        along = np.array([np.sin(tilt) * np.cos(turn), -np.cos(tilt), np.sin(tilt) * np.sin(turn)])
        first = np.cross(along, [np.cos(spin := rng.uniform(0, 2 * np.pi)), 0.0, np.sin(spin)])
        first /= np.linalg.norm(first)
        ejected = float(rng.uniform(0.25, 0.7))
        # Failing hearts are larger.
        volume = 1000 * float(rng.uniform(75, 120)) * (1 + 1.2 * max(0.0, 0.5 - ejected) / 0.25 * 0.5)
        return cls(
            apex=np.array([rng.uniform(-6, 6), rng.uniform(20, 30), rng.uniform(-6, 6)]),
            axes=np.stack([first, np.cross(along, first), along]),
            length=float(rng.uniform(72, 92)),
            volume=volume,
            ejected=ejected,
            muscle=1000 * float(rng.uniform(95, 150)),
            oval=float(rng.uniform(0.92, 1.08)),
            relief=PlaneWaves.draw(rng, 0.55, 10),
            mottle=PlaneWaves.draw(rng, 30.0, 8),
        )

    def phase(self, systole: bool) -> tuple[float, float, float]:
        """Return length and mean radius of the cavity, and the thickness of its wall, at either end of a beat."""
        length = self.length * (1 - 0.28 * self.ejected * systole)
        volume = self.volume * (1 - self.ejected * systole)
        radius = float(np.sqrt(1.5 * volume / (np.pi * length)))

        def missing(thickness: float) -> float:
            return 2 / 3 * np.pi * (radius + thickness) ** 2 * (length + thickness) - volume - self.muscle

        return length, radius, float(brentq(missing, 0.1, 80.0))


class BeatingVentricle:
    """A left ventricle seen from the apex by a matrix transducer, as a volume at one of two moments of a beat.

    Two consecutive seeds share a heart: even ones show the end of diastole, odd ones the end of systole. Slices are
    planes beside each other, rows are depths and columns lie across. The numbers are our choice, within what is usual
    in adults: ejection fractions of 0.25 to 0.7 and volumes of 75 to 190 ml at the end of diastole.

    Attributes:
        LABELS: moments, in the order in which seeds select them: "ed" and "es".
        SEEDS_PER_SUBJECT: number of consecutive seeds that share a heart.
        image: grey levels of 8 bits, uint8 (1, size, size, size), with speckle; 0 outside of the sector.
        images: `image` by its name, "echo".
        masks: "ventricle", the cavity with its papillary muscles, up to the mitral valve; "wall"; and "sector".
        regions: "blood", the inner part of the cavity.
        label: moment of the beat.
        volume: volume of the cavity in ml, apart from the relief of its surface.
        ejection_fraction: of the heart, 0 to 1.
    """

    LABELS: ClassVar[tuple[str, ...]] = ("ed", "es")
    SEEDS_PER_SUBJECT: ClassVar[int] = 2

    def __init__(self, seed: int, *, size: int = 64, label: str | None = None, quality: float | None = None) -> None:
        """Draw a volume.

        Args:
            seed: seed; half of it, rounded down, determines the heart.
            size: slices, rows and columns over 150 mm.
            label: moment of the beat; None selects it by the seed.
            quality: 1 for a clear volume, 0 for one of weak echoes, with haze and a shadow; None draws it.

        Raises:
            UserError: the volume is too small, the moment does not exist, or the quality is not from 0 to 1.
        """
        if size < 8 or not 0 <= (quality or 0) <= 1:
            raise UserError(
                f"an echocardiogram of {size} voxels a side with quality {quality} cannot be drawn: give at least 8 "
                "voxels, and a quality from 0 to 1"
            )
        self.label = label_of(seed, self.LABELS, label)
        anatomical, acquired, *moments = np.random.default_rng(seed // self.SEEDS_PER_SUBJECT).spawn(4)
        heart, systole = Heart.draw(anatomical), self.label == "es"
        physical = moments[systole]
        length, radius, thickness = heart.phase(systole)
        self.volume = float(2 / 3 * np.pi * radius**2 * length / 1000)
        self.ejection_fraction = heart.ejected

        clear = float(acquired.uniform(0.2, 1.0)) if quality is None else quality
        reach, *place = SECTOR.positions()
        shapes = _Shapes(heart, length, radius, thickness, (place[0], place[1], place[2]))
        echoes = _echoes(heart, shapes, reach, clear)
        loss = 0.5 + acquired.uniform(-0.12, 0.2) + _shadow(acquired, 1 - clear)
        envelope = speckled(attenuated(echoes, loss, SECTOR.step_mm, 0.5), physical, SPREAD)
        noise = speckled(np.full_like(echoes, FLOOR), physical, (0.5, 0.5, 0.5))
        levels = compressed(np.hypot(envelope, noise), DYNAMIC_RANGE)

        step = FIELD_OF_VIEW / size
        grid = Grid.centred((size,) * 3, (step,) * 3)
        whole = (grid.x, grid.y + np.float32(FIELD_OF_VIEW / 2), grid.z)
        values = np.rint(SECTOR.converted(levels, *whole)).astype(np.uint8)
        drawn = _Shapes(heart, length, radius, thickness, whole)
        self.masks: dict[str, Mask] = {
            "ventricle": np.asarray(drawn.cavity < 0),
            "wall": np.asarray((drawn.outside < 0) & (drawn.cavity >= 0)),
            "sector": SECTOR.converted(np.ones(SECTOR.shape, np.float32), *whole) > 0.5,
        }
        self.regions: dict[str, Mask] = {"blood": np.asarray(drawn.cavity < -0.4 * radius)}
        header = Header(modality="US")
        self.image = Image.from_array(values, (step, step, step), header=header)
        self.images = {"echo": self.image}


class _Shapes:
    """Distances to the parts of a heart at positions (across, deep, aside)."""

    def __init__(
        self, heart: Heart, length: float, radius: float, thickness: float, place: tuple[Array, Array, Array]
    ) -> None:
        base = heart.apex - length * heart.axes[2]
        x, y, z = (axis - np.float32(at) for axis, at in zip(place, base, strict=True))
        u, v, w = (np.asarray(a * x + b * y + c * z, np.float32) for a, b, c in heart.axes.astype(np.float32))
        wide, narrow = radius * heart.oval, radius / heart.oval
        self.place, self.along = (u, v, w), w
        relief = heart.relief(u / np.float32(radius), v / np.float32(radius), w / np.float32(length))
        smooth = ellipsoid((u, v, w), (wide, narrow, length)) + 0 * w
        self.cavity = np.maximum(smooth + np.float32(0.03 * radius) * relief, -w)
        outer = ellipsoid((u, v, w), (wide + thickness, narrow + thickness, length + thickness))
        self.outer = np.asarray(outer, np.float32)
        self.outside = np.maximum(self.outer, -w)
        slopes = [axis / np.float32(half**2) for axis, half in zip((u, v, w), (wide, narrow, length), strict=True)]
        self.normal = [axis / np.maximum(np.sqrt(sum(s**2 for s in slopes)), 1e-6) for axis in slopes]
        self.beam = [np.asarray(sum(row[k] * p for k, p in enumerate(place))) for row in heart.axes.astype(np.float32)]
        self.atrium = ellipsoid((u, v, w + np.float32(23)), (0.8 * radius + 4, 0.8 * radius + 4, 26))
        self.valve = np.maximum(np.abs(w + np.float32(1)) - np.float32(1.6), np.hypot(u, v) - np.float32(radius + 2))
        right = ellipsoid((u - np.float32(radius + thickness + 12), v, w - 8), (20, 30, 0.7 * length))
        self.right = np.maximum(right, -(self.outer - 2))
        self.papillary = np.minimum(*(self._papillary(turn, length, radius) for turn in (2.2, 4.2)))

    def _papillary(self, turn: float, length: float, radius: float) -> Array:
        u, v, w = self.place
        x, y = (np.float32(0.62 * radius * part) for part in (np.cos(turn), np.sin(turn)))
        return ellipsoid((u - x, v - y, w - np.float32(0.5 * length)), (0.17 * radius, 0.17 * radius, 0.22 * length))


def _echoes(heart: Heart, shapes: _Shapes, reach: Array, clear: float) -> Array:
    """Return the amplitudes of echoes of all samples of the sector."""
    facing = np.abs(sum(n * b for n, b in zip(shapes.normal, shapes.beam, strict=True))) / np.maximum(reach, 1)
    # Walls along the beam return little of it to the transducer.
    muscle = np.float32(MUSCLE) * (0.3 + 0.7 * clear + (0.7 - 0.7 * clear) * facing) * (0.55 + 0.45 * facing)
    around = np.float32(TISSUE) * np.clip(1 + 0.6 * heart.mottle(*shapes.place), 0.2, 2.5)
    amplitude = np.asarray(around + 0 * reach, np.float32)
    for distance, value in (
        (shapes.right - 4, muscle),
        (shapes.right, np.float32(BLOOD)),
        (np.abs(shapes.outer) - 1.3, np.float32(PERICARDIUM) * (0.2 + 0.8 * facing)),
        (shapes.outside, muscle),
        (shapes.atrium - 2.5, muscle),
        (shapes.atrium, np.float32(BLOOD)),
        (shapes.valve, np.float32(1.3 * MUSCLE)),
        (shapes.cavity, np.float32(BLOOD)),
        (np.maximum(shapes.papillary, shapes.cavity), 0.8 * muscle),
    ):
        share = ramp(np.asarray(distance, np.float32), 0.7, -0.7)
        amplitude += share * (value - amplitude)
    haze = np.float32(0.25 * (1.3 - clear)) * np.exp(-reach / np.float32(14))
    return np.asarray(amplitude + haze, np.float32)


def _shadow(rng: np.random.Generator, strength: float) -> Array:
    """Return the loss in dB per cm of a shadow that falls over the beams on one side of the sector."""
    turn, edge = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 0.95)
    angles = np.linspace(-1, 1, SECTOR.beams, dtype=np.float32)
    side = np.float32(np.cos(turn)) * angles[None, :, None] + np.float32(np.sin(turn)) * angles[None, None, :]
    return np.asarray(np.float32(0.9 * strength) * ramp(side, edge - 0.15, edge + 0.15), np.float32)
