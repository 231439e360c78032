"""Coronary arteries: centre-lines with radii that run in the grooves of an ellipsoidal heart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.ndimage import gaussian_filter1d

from ganatomy.errors import UserError
from ganatomy.phantoms.shapes import Path, label_of

LABELS = ("LAD", "LCx", "RCA", "D1", "OM1", "PDA", "AM", "D2", "S1", "conus")

FINE = 0.25  # mm between the points that vessels are drawn with
LEFT_DOMINANT = 0.12  # share of patients with left dominance

# Axes from the middle of the base of the ventricles, in RAS+: towards the apex, and roughly the anterior groove.
TO_APEX = (-0.62, 0.55, -0.56)
TO_GROOVE = (-0.15, 0.75, 0.65)
HALF_AXES = (42.0, 46.0, 94.0)  # mm, of the ellipsoid: towards the groove, the left ventricle and the apex

# Positions on the heart are (depth, polar, azimuth). Depth is 1 at the epicardium and 0 in the middle. Polar is in
# degrees from the apex, with the plane of the valves at 90; below 0 it lies beyond the apex. Azimuth is in degrees
# around the long axis, from the anterior groove by way of the left ventricle. The first position of a branch is where
# it leaves its parent.
Place = tuple[float, float, float]


class Course(NamedTuple):
    """Course of a vessel in an average heart.

    Attributes:
        parent: vessel that it leaves; None for vessels that leave the aorta.
        places: positions along its course.
        shortest: share of the course after which it may end.
    """

    parent: str | None
    places: tuple[Place, ...]
    shortest: float


FORK = (0.9, 97, 24)  # position of the fork of the left main artery
RIGHT_ORIGIN = ((0.4, 101, -40), (0.7, 100, -46), (0.97, 96, -62), (1, 94, -90))
COURSES = {
    "LAD": Course(
        None,
        ((0.64, 101, 23), FORK, (1, 87, 8), (1, 70, 2), (1, 50, -2), (1, 30, 0), (1, 12, 2), (1, -14, 2)),
        0.72,
    ),
    "LCx": Course("LAD", (FORK, (1, 94, 40), (1, 94, 65), (1, 95, 90), (1, 92, 112), (1, 78, 126), (1, 60, 132)), 0.5),
    "RCA": Course(
        None,
        (
            *RIGHT_ORIGIN,
            (1, 94, -120),
            (1, 95, -150),
            (1, 95, -172),
            (1, 92, -190),
            (1, 80, -205),
            (1, 62, -212),
            (1, 50, -215),
        ),
        0.7,
    ),
    "D1": Course("LAD", ((1, 76, 4), (1, 64, 22), (1, 50, 38), (1, 34, 50)), 0.5),
    "OM1": Course("LCx", ((1, 95, 58), (1, 84, 70), (1, 66, 82), (1, 46, 92), (1, 30, 98)), 0.5),
    "PDA": Course("RCA", ((1, 95, -170), (1, 85, -173), (1, 66, -172), (1, 46, -172), (1, 30, -172)), 0.5),
    "AM": Course("RCA", ((1, 94, -86), (1, 82, -84), (1, 64, -78), (1, 44, -66)), 0.5),
    "D2": Course("LAD", ((1, 56, -1), (1, 46, 18), (1, 34, 36), (1, 20, 55)), 0.5),
    "S1": Course("LAD", ((1, 72, 2), (0.86, 64, 4), (0.7, 58, 3), (0.5, 52, 0)), 0.5),
    "conus": Course("RCA", ((0.7, 100, -46), (0.95, 94, -30), (1, 86, -18), (1, 74, -12)), 0.4),
}
"""Courses in right dominance: the posterior descending artery leaves the right coronary artery."""
LEFT_COURSES = COURSES | {
    "LCx": Course(
        "LAD",
        (
            FORK,
            (1, 94, 40),
            (1, 94, 65),
            (1, 95, 90),
            (1, 95, 120),
            (1, 95, 148),
            (1, 88, 162),
            (1, 74, 168),
            (1, 58, 170),
        ),
        0.8,
    ),
    "RCA": Course(None, (*RIGHT_ORIGIN, (1, 92, -108), (1, 82, -116), (1, 64, -120)), 0.7),
    "PDA": Course("LCx", ((1, 95, 148), (1, 95, 166), (1, 88, 182), (1, 70, 187), (1, 50, 188), (1, 34, 188)), 0.6),
}
"""Courses in left dominance: the posterior descending artery leaves the circumflex artery; the right one ends early."""


class Vessel(NamedTuple):
    """Centre-line of a vessel from its ostium at the aorta to its distal end, with the radius of its lumen.

    Attributes:
        name: name, such as "LAD".
        points: (n, 3) mm, RAS+: x to the patient's right, y to the front, z to the head.
        radii: (n,) mm.
    """

    name: str
    points: Path
    radii: Path

    @property
    def polyline(self) -> Path:
        """Points and radii as one array (n, 4) of x, y, z and r in mm."""
        return np.column_stack([self.points, self.radii])

    @property
    def length_mm(self) -> float:
        """Arc length of the polyline."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())


@dataclass(frozen=True)
class Heart:
    """Shape, pose and arterial calibre of a patient's heart.

    Attributes:
        half_axes: half axes of the epicardial ellipsoid, (3,) mm: towards the anterior groove, the left ventricle and
            the apex.
        axes: these directions as rows, (3, 3), orthonormal, RAS+.
        left_dominant: whether the posterior descending artery leaves the circumflex artery.
        left, right: radius in mm of the left main and the right coronary artery at the ostium.
        winding: sideways undulation of vessels relative to an average patient.
    """

    half_axes: Path
    axes: Path
    left_dominant: bool
    left: float
    right: float
    winding: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Draw a random adult."""
        size = rng.uniform(0.86, 1.12)
        half_axes = np.asarray(HALF_AXES) * size * rng.uniform(0.93, 1.07, 3)
        left_dominant = bool(rng.random() < LEFT_DOMINANT)
        calibre = 0.5 * (1 + size)
        return cls(
            half_axes=half_axes,
            axes=_turned_axes(rng.normal(0, 0.2, 3)),
            left_dominant=left_dominant,
            left=float(np.clip(calibre * rng.uniform(1.75, 2.4), 1.5, 2.5)),
            right=float(np.clip(calibre * rng.uniform(*((1.2, 1.5) if left_dominant else (1.5, 2.1))), 1.2, 2.4)),
            winding=rng.uniform(0.6, 1.3),
        )

    def positions(self, places: Path) -> Path:
        """Map positions on the heart (n, 3) to mm, RAS+ and relative to the middle of the base."""
        depth, polar, azimuth = places[:, 0], *np.radians(places[:, 1:]).T
        directions = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], 1)
        return np.asarray(depth[:, None] * directions * self.half_axes @ self.axes)

    def outwards(self, points: Path) -> Path:
        """Return unit normals (n, 3) of the ellipsoids through points in mm."""
        normals = points @ self.axes.T / self.half_axes**2
        return np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True) @ self.axes)


class CoronaryCentrelines:
    """Coronary arteries of one patient as centre-lines with radii, without an image.

    Ten consecutive seeds share a patient, and each selects one of its vessels. A vessel begins at its ostium in the
    aorta: branches share their parent's line and radii until close to where they leave it, as paths traced through a CT
    angiogram do. Positions are in RAS+ mm, relative to the middle of the base of the ventricles. "LAD" begins with the
    left main artery. Right dominance is usual, and about an eighth of the patients are left-dominant. The numbers are
    our choice, within what is usual in adults: vessels of 30 to 250 mm that taper from 1.2 to 2.5 mm at the ostium to
    about 0.5 mm.

    Attributes:
        LABELS: names of the vessels, in the order in which seeds select them: left anterior descending, circumflex and
            right coronary artery, first diagonal, first obtuse marginal, posterior descending, acute marginal, second
            diagonal, first septal and conus artery.
        SEEDS_PER_SUBJECT: number of consecutive seeds that share a patient.
        vessels: all vessels of the patient, in the order of `LABELS`; their arrays are read-only.
        vessel: vessel that the seed selects.
        label: name of this vessel.
        heart: heart of the patient.
    """

    LABELS: ClassVar[tuple[str, ...]] = LABELS
    SEEDS_PER_SUBJECT: ClassVar[int] = len(LABELS)

    def __init__(self, seed: int, *, step_mm: float = 0.5, label: str | None = None) -> None:
        """Draw the patient.

        Args:
            seed: seed; its tens determine the patient, its ones select the vessel.
            step_mm: arc length between points, rounded so that it divides a vessel's length.
            label: name of the vessel; None selects it by the seed.

        Raises:
            UserError: the vessel does not exist, or the step is not between 0.25 and 5 mm.
        """
        if not FINE <= step_mm <= 5:
            raise UserError(f"centre-lines cannot have points every {step_mm} mm: choose a step_mm from {FINE} to 5")
        self.label = label_of(seed, self.LABELS, label)
        self.heart, self.vessels = _patient(seed // self.SEEDS_PER_SUBJECT, step_mm)
        self.vessel = self.vessels[LABELS.index(self.label)]


@lru_cache(maxsize=4)
def _patient(number: int, step_mm: float) -> tuple[Heart, tuple[Vessel, ...]]:
    """Return heart and vessels of a patient with read-only arrays; cached, since several seeds share a patient."""
    whole, *single = np.random.default_rng(number).spawn(len(LABELS) + 1)
    heart = Heart.draw(whole)
    courses = LEFT_COURSES if heart.left_dominant else COURSES
    lines: dict[str, Path] = {}
    vessels = []
    for name, rng in zip(LABELS, single, strict=True):
        course = courses[name]
        if course.parent is None:
            lines[name] = _trunk(heart, course, rng, heart.left if name == "LAD" else heart.right)
        else:
            lines[name] = _branch(heart, course, rng, lines[course.parent])
        line = _even(lines[name], step_mm)
        line.setflags(write=False)
        vessels.append(Vessel(name, line[:, :3], line[:, 3]))
    return heart, tuple(vessels)


def _turned_axes(angles: Path) -> Path:
    """Return the axes of a heart that is rotated by small angles in radians about the axes of the body."""
    apex = np.asarray(TO_APEX) / np.linalg.norm(TO_APEX)
    groove = np.asarray(TO_GROOVE) - (np.asarray(TO_GROOVE) @ apex) * apex
    groove /= np.linalg.norm(groove)
    axes = np.stack([groove, np.cross(groove, apex), apex])
    for first, angle in enumerate(angles):
        i, j = (first + 1) % 3, (first + 2) % 3
        turn = np.eye(3)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        axes = axes @ turn.T
    return np.asarray(axes)


def _trunk(heart: Heart, course: Course, rng: np.random.Generator, ostium: float) -> Path:
    """Draw the line (n, 4) of a vessel that leaves the aorta with a given radius; a point every 0.25 mm."""
    points = _way(heart, course, rng)
    arc = FINE * np.arange(len(points), dtype=np.float64)
    last = rng.uniform(0.4, 0.65)
    if FORK in course.places:
        fork = arc[np.argmin(np.linalg.norm(points - heart.positions(np.asarray([FORK])), axis=1))]
        # By Murray's law two branches of equal size have 0.79 of the radius before them.
        after = ostium * rng.uniform(0.74, 0.84)
        knots = [(0.0, ostium), (0.8 * fork, 0.97 * ostium), (fork + 3, after)]
    else:
        knots = [(0.0, ostium)]
    return _with_radii(points, arc, knots, last, rng)


def _branch(heart: Heart, course: Course, rng: np.random.Generator, parent: Path) -> Path:
    """Draw the line (n, 4) of a vessel that shares its parent's line up to their fork; as fine as that line."""
    origin = heart.positions(np.asarray(course.places[:1]))
    fork = int(np.argmin(np.linalg.norm(parent[:, :3] - origin, axis=1)))
    points = _way(heart, course, rng, parent[max(fork - 4, 0) : fork + 1, :3])
    arc = FINE * np.arange(len(points), dtype=np.float64)
    last, before = rng.uniform(0.4, 0.6), parent[fork, 3]
    after = max(before * rng.uniform(0.65, 0.85), 1.1 * last)
    own = _with_radii(points, arc, [(0.0, before), (3.0, min(after, before))], last, rng)
    line = np.concatenate([parent[:fork], own])
    # Vessels leave one another at an angle, but the direction of the lumen changes over some millimetres.
    smooth = gaussian_filter1d(line, 2 / FINE, axis=0, mode="nearest")
    share = np.clip(1 - ((np.arange(len(line)) - fork) * FINE / 8) ** 2, 0, 1)[:, None] ** 2
    return _even(line + share * (smooth - line), FINE)


def _way(heart: Heart, course: Course, rng: np.random.Generator, before: Path | None = None) -> Path:
    """Draw points (n, 3) of a vessel's own course; a branch starts at the last of the points ``before`` (n, 3)."""
    places = np.asarray(course.places, float)
    places[1:, 1:] += rng.normal(0, 2, places[1:, 1:].shape)
    knots = heart.positions(places)
    ends: Any = "natural"
    if before is not None:
        knots[0] = before[-1]
    along = np.append(0, np.cumsum(np.sqrt(np.linalg.norm(np.diff(knots, axis=0), axis=1))))
    if before is not None:
        # A branch leaves halfway between its parent's direction and its own, as at a Y.
        chord = (knots[1] - knots[0]) / along[1]
        ahead = before[-1] - before[0]
        ends = ((1, 0.5 * chord + 0.5 * np.linalg.norm(chord) * ahead / np.linalg.norm(ahead)), (2, np.zeros(3)))
    points = _even(CubicSpline(along, knots, bc_type=ends)(np.linspace(0, along[-1], 1000)), FINE)
    points = points[: int(len(points) * rng.uniform(course.shortest, 1))]
    return _even(points + _winding(heart, points, rng), FINE)


def _winding(heart: Heart, points: Path, rng: np.random.Generator) -> Path:
    """Draw smooth displacements (n, 3) in mm from a straight course, mostly along the heart's surface."""
    arc = FINE * np.arange(len(points), dtype=np.float64)
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    outwards = heart.outwards(points)
    # Both vanish where the vessel comes straight out of the depth, so that no direction is sideways.
    up = outwards - (outwards * tangents).sum(1, keepdims=True) * tangents
    aside = np.cross(tangents, outwards)
    ramp = np.clip(arc / 10, 0, 1) ** 2
    waves = [_waves(arc, rng) for _ in range(2)]
    return np.asarray(heart.winding * ramp[:, None] * (waves[0][:, None] * aside + 0.4 * waves[1][:, None] * up))


def _waves(arc: Path, rng: np.random.Generator) -> Path:
    """Draw a sum of sines along a line, with greater amplitude for longer periods, in mm."""
    lengths = np.exp(rng.uniform(np.log(18), np.log(55), 5))
    phases = rng.uniform(0, 2 * np.pi, 5)
    return np.asarray((0.45 * (lengths / 20) ** 1.3 * np.sin(2 * np.pi * arc[:, None] / lengths + phases)).sum(1))


def _with_radii(
    points: Path, arc: Path, knots: Sequence[tuple[float, float]], last: float, rng: np.random.Generator
) -> Path:
    """Return points and radii (n, 4): through given radii at given arc lengths, then tapering to the last one."""
    start, radius = knots[-1]
    rest = arc[-1] - start
    # Tapering is faster at first, where most branches leave.
    middle = last + rng.uniform(0.35, 0.5) * (radius - last)
    places, radii = np.transpose([*knots, (start + 0.5 * rest, middle), (arc[-1], last)])
    uneven = 1 + 0.02 * np.clip(arc / 10, 0, 1) * _waves(arc, rng)
    return np.column_stack([points, PchipInterpolator(places, radii)(arc) * uneven])


def _even(line: NDArray[np.float64], step: float) -> Path:
    """Return the line (n, columns) with points at equal arc length of its first three columns, about `step` apart."""
    arc = np.append(0, np.cumsum(np.linalg.norm(np.diff(line[:, :3], axis=0), axis=1)))
    at = np.linspace(0, arc[-1], max(round(arc[-1] / step), 1) + 1)
    return np.stack([np.interp(at, arc, column) for column in line.T], 1)
