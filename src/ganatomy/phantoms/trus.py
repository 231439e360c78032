"""The prostate in trans-rectal ultrasound: transversal frames with points on its border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, Mask, Path, PlaneWaves, ellipsoid, ramp, turned
from ganatomy.physics.ultrasound import Fan, attenuated, compressed, speckled
from ganatomy.roles.points import Points

FIELD_OF_VIEW = 80.0  # mm along rows and columns
PROBE = 44.0  # mm from the middle of the frame to the axis of the probe, which lies behind the prostate
FAN = Fan(radius_mm=9.0, depth_mm=80.0, step_mm=0.5, half_angle=np.radians(62.0), beams=128)
SPREAD = (0.9, 0.9)  # SD of pulse and beam, in samples
DYNAMIC_RANGE = 55.0  # dB
FLUID, MUSCLE, GLAND, INNER, FAT, WALL, CAPSULE, STONE = 0.006, 0.035, 0.11, 0.06, 0.22, 0.35, 0.45, 1.5
"""Amplitudes of echoes, relative to that which is white."""
FLOOR = 0.006  # amplitude of the noise
ANGLES = 720  # vertices of an outline
SIX = ("anterior", "left anterior", "left posterior", "posterior", "right posterior", "right anterior")
"""Names of six points on the border, from the front clockwise in the frame, whose right side is the patient's left."""


@dataclass(frozen=True)
class Gland:
    """A prostate; lengths in mm. Its outlines are stars around the middle of every level.

    Attributes:
        half: half width and half depth in its middle.
        waves: complex amplitudes of 2, 3, ... periods of the radius around the outline, relative to it.
        groove: relative depth of the groove of the hinder border in its middle.
        inner: size of the transition zone relative to the gland.
        mottle: waves of the echoes of the transition zone.
        stones: position (x, y) relative to the half axes, and radius in mm, of calcifications.
    """

    half: tuple[float, float]
    waves: np.ndarray[tuple[int], np.dtype[np.complex128]]
    groove: float
    inner: float
    mottle: PlaneWaves
    stones: Path

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Gland:
        """Draw the gland of a random man; larger ones have larger transition zones."""
        grown = rng.uniform()
        width, order = rng.uniform(20, 24) + 5 * grown, np.arange(2, 7)
        parts = rng.standard_normal((2, len(order))) * 0.035 * (2 / order)
        count = rng.integers(0, 6)
        angles = np.radians(rng.uniform(-60, 60, count)) + np.where(rng.random(count) < 0.5, 0, np.pi)
        reach = rng.uniform(0.35, 0.7, count)
        places = np.stack([reach * np.cos(angles), reach * np.sin(angles) + 0.1, rng.uniform(0.4, 1.2, count)], 1)
        return cls(
            half=(width, width * (rng.uniform(0.58, 0.68) + 0.14 * grown)),
            # The real part is symmetric about the front, and the sides of a gland differ less than glands do.
            waves=parts[0] + 0.4j * parts[1],
            groove=float(rng.uniform(0.0, 0.14)),
            inner=float(rng.uniform(0.5, 0.58) + 0.14 * grown),
            mottle=PlaneWaves.draw(rng, 9.0, 10),
            stones=places,
        )

    def radius(self, angles: Path, level: float) -> Path:
        """Return the radius in mm at angles from the front, clockwise in the frame.

        Args:
            angles: angles in radians.
            level: from -1 at the base to 1 at the apex.
        """
        size = 1 - 0.16 * (level - 0.1) ** 2 - 0.2 * max(level, 0.0) ** 2
        a, b = size * self.half[0], size * self.half[1]
        round_ = 1 / np.sqrt((np.sin(angles) / a) ** 2 + (np.cos(angles) / b) ** 2)
        swing = sum((wave * np.exp(1j * n * angles)).real for n, wave in enumerate(self.waves, 2))
        behind = np.exp(-0.5 * ((np.mod(angles, 2 * np.pi) - np.pi) / 0.35) ** 2)
        # The hinder border is flat, with a groove in its middle.
        flat = 0.1 * np.maximum(-np.cos(angles), 0) ** 2
        return np.asarray(round_ * (1 + swing - self.groove * behind - flat))


class ProstateTRUS:
    """Transversal frames of prostates by a rectal probe with a curved array, four levels of each gland.

    Four consecutive seeds share a gland: they show levels from the base to the apex, with the probe held a little
    differently each time. Columns go to the patient's left and rows to the back, where the probe lies. The gland has a
    peripheral zone, a mottled transition zone and calcifications with shadows; its front border lies far from the probe
    and is faint. The numbers are our choice, within what is usual in adults.

    Attributes:
        SEEDS_PER_SUBJECT: number of consecutive seeds that share a gland.
        image: grey levels of 8 bits, uint8 (1, 1, size, size), with speckle; 0 outside of the sector.
        images: `image` by its name, "us".
        masks: "prostate" and "sector".
        regions: "transition zone".
        points: "border", points where rays from the centre of the gland at equal angles meet its border, from the front
            clockwise in the frame, in mm; named by `SIX` where there are six, else "0", "1" and so on.
    """

    SEEDS_PER_SUBJECT: ClassVar[int] = 4

    def __init__(self, seed: int, *, size: int = 96, count: int = 6, quality: float | None = None) -> None:
        """Draw a frame.

        Args:
            seed: seed; a quarter of it, rounded down, determines the gland.
            size: rows and columns over 80 mm.
            count: number of points on the border.
            quality: 1 for a clear frame, 0 for one with weak borders, haze and shadows; None draws it.

        Raises:
            UserError: the frame is too small, there are fewer than three points, or the quality is not from 0 to 1.
        """
        if size < 16 or count < 3 or not 0 <= (quality or 0) <= 1:
            raise UserError(
                f"a frame of {size} pixels a side with {count} points and quality {quality} cannot be drawn: give at "
                "least 16 pixels, at least 3 points, and a quality from 0 to 1"
            )
        subject, number = divmod(seed, self.SEEDS_PER_SUBJECT)
        anatomical, *views = np.random.default_rng(subject).spawn(1 + self.SEEDS_PER_SUBJECT)
        gland, rng = Gland.draw(anatomical), views[number]
        level = float(-0.75 + 0.5 * number + rng.uniform(-0.15, 0.15))
        turn = float(np.radians(rng.uniform(-9, 9)))
        centre = (float(rng.uniform(-5, 5)), PROBE - FAN.radius_mm - 5 - gland.half[1] + float(rng.uniform(-3, 1)))
        clear = float(rng.uniform(0.15, 1.0)) if quality is None else quality

        across, deep = FAN.positions()
        seen = _Shapes(gland, level, turn, centre, across, np.float32(PROBE) - deep)
        echoes = _echoes(gland, seen, deep, clear)
        loss = 0.5 + rng.uniform(-0.1, 0.15) + seen.stones_loss + _gas(rng, 1 - clear)
        envelope = speckled(attenuated(echoes, loss, FAN.step_mm, 0.5), rng, SPREAD)
        noise = speckled(np.full_like(echoes, FLOOR), rng, (0.5, 0.5))
        levels = compressed(np.hypot(envelope, noise), DYNAMIC_RANGE)

        step = FIELD_OF_VIEW / size
        grid = Grid.centred((1, size, size), (1.0, step, step))
        place = (grid.x, np.float32(PROBE) - grid.y)
        values = np.rint(FAN.converted(levels, *place)).astype(np.uint8)
        drawn = _Shapes(gland, level, turn, centre, grid.x + 0 * grid.y, grid.y + 0 * grid.x)
        self.masks: dict[str, Mask] = {
            "prostate": np.asarray(drawn.outside < 0),
            "sector": FAN.converted(np.ones(FAN.shape, np.float32), *place) > 0.5,
        }
        self.regions: dict[str, Mask] = {"transition zone": np.asarray(drawn.inner < -1)}
        header = Header(modality="US")
        self.image = Image.from_array(values, (1.0, step, step), header=header)
        self.images = {"us": self.image}
        names = SIX if count == len(SIX) else tuple(map(str, range(count)))
        to_mm = self.image.affine
        found = {}
        for name, (x, y) in zip(names, on_border(drawn.outline, count), strict=True):
            row, column = ((along - float(first)) / step for along, first in ((y, grid.y.min()), (x, grid.x.min())))
            at = to_mm[:3, :3] @ (0.0, row, column) + to_mm[:3, 3]
            found[name] = (float(at[0]), float(at[1]), float(at[2]))
        self.points = {"border": Points(found)}


def on_border(outline: Path, count: int) -> Path:
    """Return where rays at equal angles from the centroid of an outline meet it, from the front clockwise, (count, 2).

    Args:
        outline: vertices (x, y), y to the back; seen from the centroid each direction meets it once.
        count: number of points.
    """
    following = np.roll(outline, -1, 0)
    cross = outline[:, 0] * following[:, 1] - following[:, 0] * outline[:, 1]
    centre = ((outline + following) * cross[:, None]).sum(0) / (3 * cross.sum())
    x, y = (outline - centre).T
    angles, radii = np.arctan2(x, -y), np.hypot(x, y)
    wanted = 2 * np.pi * np.arange(count) / count
    order = np.argsort(angles)
    found = np.interp(wanted, angles[order], radii[order], period=2 * np.pi)
    return np.asarray(centre + found[:, None] * np.stack([np.sin(wanted), -np.cos(wanted)], 1))


class _Shapes:
    """Distances to the parts of a frame at positions (x, y) in mm, y to the back."""

    def __init__(
        self, gland: Gland, level: float, turn: float, centre: tuple[float, float], x: Array, y: Array
    ) -> None:
        angles = np.linspace(0, 2 * np.pi, ANGLES, endpoint=False)
        radii = gland.radius(angles, level)
        u, v = turned(x - np.float32(centre[0]), y - np.float32(centre[1]), turn)
        apart, at = np.hypot(u, v), np.arctan2(u, -v)
        border = np.interp(at, angles, radii, period=2 * np.pi)
        slope = np.interp(at, angles, np.gradient(radii, angles), period=2 * np.pi) / np.maximum(border, 1e-3)
        self.outside: Array = np.asarray((apart - border) / np.sqrt(1 + slope**2), np.float32)
        c, s = np.cos(turn), np.sin(turn)
        a, b = radii * np.sin(angles), -radii * np.cos(angles)
        self.outline: Path = np.stack([centre[0] + c * a - s * b, centre[1] + s * a + c * b], 1)
        wide, high = (gland.inner * half * (1 - 0.25 * max(level, 0)) for half in gland.half)
        self.inner = np.asarray(
            np.maximum(ellipsoid((u, v + np.float32(0.28 * gland.half[1])), (wide, high)), self.outside + 1), np.float32
        )
        self.urethra = ellipsoid((u, v + np.float32(0.1 * gland.half[1])), (2.0, 2.6))
        self.bladder = ellipsoid((u, v + np.float32(1.05 * gland.half[1] + 14)), (26.0, 13.0)) + 30 * max(
            level + 0.5, 0
        )
        self.levator = np.abs(np.abs(u) - np.float32(gland.half[0] + 7)) - np.float32(2.5)
        self.rectum = np.hypot(x, y - np.float32(PROBE)) - np.float32(FAN.radius_mm)
        # How much a border faces the beam: the radial direction of the gland against that from the probe.
        beam_x, beam_y = x, y - np.float32(PROBE)
        along = (x - centre[0]) * beam_x + (y - centre[1]) * beam_y
        self.facing = np.abs(along) / np.maximum(apart * np.hypot(beam_x, beam_y), 1e-3)
        self.place = (u, v)
        half = gland.half
        self.stones = [
            (np.hypot(u - half[0] * sx, v - half[1] * sy) - np.float32(radius)) for sx, sy, radius in gland.stones
        ]
        self.stones_loss = np.asarray(sum((6.0 * (stone < 0.3) for stone in self.stones), 0 * self.outside), np.float32)


def _echoes(gland: Gland, shapes: _Shapes, deep: Array, clear: float) -> Array:
    """Return the amplitudes of echoes of all samples of the fan."""
    u, v = shapes.place
    facing = np.asarray(shapes.facing, np.float32)
    mottle = np.clip(1 + 0.55 * gland.mottle(u, v, 0.0), 0.25, 2.5)
    contrast = np.float32(0.35 + 0.65 * clear)
    around = np.float32(FAT) * contrast * np.clip(1 + 0.5 * gland.mottle(v, u, 20.0), 0.2, 2.5) + np.float32(
        GLAND * (1 - contrast)
    )
    amplitude = np.asarray(around, np.float32)
    capsule = np.float32(CAPSULE) * (0.15 + 0.85 * facing**2) * contrast
    for distance, value in (
        (shapes.levator, np.float32(MUSCLE)),
        (shapes.bladder, np.float32(FLUID)),
        (np.abs(shapes.rectum - 2.0) - 0.7, np.float32(MUSCLE)),
        (shapes.rectum - 1.0, np.float32(WALL)),
        (np.abs(shapes.outside) - 0.6, capsule),
        (shapes.outside + 0.6, np.float32(GLAND)),
        (shapes.inner, np.float32(INNER) * mottle),
        (shapes.urethra, np.float32(0.4 * INNER)),
        *((stone, np.float32(STONE)) for stone in shapes.stones),
    ):
        share = ramp(np.asarray(distance, np.float32), 0.5, -0.5)
        amplitude += share * (value - amplitude)
    haze = np.float32(0.3 * (1.2 - clear)) * np.exp(-np.maximum(-shapes.rectum, shapes.rectum) / np.float32(7))
    return np.asarray(amplitude + haze, np.float32)


def _gas(rng: np.random.Generator, strength: float) -> Array:
    """Return the loss in dB per cm behind gas between probe and wall, which shades beams at one side."""
    at, width = rng.uniform(-1, 1), rng.uniform(0.08, 0.25)
    beams = np.linspace(-1, 1, FAN.beams, dtype=np.float32)
    return np.asarray(np.float32(1.6 * strength) * ramp(np.abs(beams - np.float32(at)), width, 0.4 * width), np.float32)
