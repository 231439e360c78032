"""The heart in short-axis MR: stacks of slices from the mitral valve to the apex, one of which may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, Mask, PlaneWaves, label_of, ramp, turned

FIELD_OF_VIEW = 90.0  # mm along rows and columns, around the left ventricle
BLOOD, MUSCLE, FAT, LUNG, LIVER, WALL = 900.0, 300.0, 720.0, 70.0, 420.0, 480.0
"""Intensities of a balanced steady-state sequence in a.u.; their order is realistic, the numbers are our choice."""
NOISE = 60.0  # SD of the noise in each of both channels, a.u.
LAYERS = 3  # layers of a slice that are averaged over its thickness
THICKNESS = 0.8  # thickness of a slice relative to the distance of slices
APEX_DIRECTION = np.array([-0.55, 0.62, -0.56])
"""Direction from the base of the left ventricle to its apex, in mm to the patient's right, front and head (RAS+)."""
BASAL, MIDDLE, APICAL = "basal", "middle", "apical"
"""Classes of slices: the highest slice of the left ventricle, the lowest one, and those between."""


@dataclass(frozen=True)
class Heart:
    """Left and right ventricle at the end of diastole; lengths in mm, angles in radians.

    Attributes:
        length: length of the left cavity from the valves to the apex.
        radius: radius of the left cavity at the base.
        thickness: thickness of the wall.
        turn: direction of the septum as seen from the left ventricle.
        outflow: direction of the outflow tract.
        open: half of the angle over which the outflow tract opens the wall at the valves.
        closed: depth below the valves at which the wall has closed.
        leaflet: contrast of the leaflets of the mitral valve, 0 to 1.
        hanging: depth to which they hang.
        right: size of the right ventricle, relative to the left one.
        place: centre of the left ventricle (x, y).
        tilt: shift (x, y) of the centre from base to apex.
        papillary: height of the middle of the papillary muscles, 0 at the valves and 1 at the apex.
        trabeculae: waves of the inner surface.
        mottle: waves of the tissue around.
    """

    length: float
    radius: float
    thickness: float
    turn: float
    outflow: float
    open: float
    closed: float
    leaflet: float
    hanging: float
    right: float
    place: tuple[float, float]
    tilt: tuple[float, float]
    papillary: float
    trabeculae: PlaneWaves
    mottle: PlaneWaves

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Heart:
        """Draw the heart of a random adult, healthy or failing."""
        large = rng.uniform(0, 1)
        turn = float(np.pi + rng.uniform(-0.6, 0.6))
        return cls(
            length=float(74 + 22 * large + rng.uniform(-4, 4)),
            radius=float(20 + 8 * large + rng.uniform(-2, 2)),
            thickness=float(rng.uniform(7.5, 12.5)),
            turn=turn,
            outflow=turn + float(rng.uniform(0.5, 0.9)),
            open=float(rng.uniform(0.15, 0.7)),
            closed=float(rng.uniform(6, 16)),
            leaflet=float(rng.uniform(0, 0.5)),
            hanging=float(rng.uniform(4, 22)),
            right=float(rng.uniform(0.85, 1.2)),
            place=(float(rng.uniform(-5, 5)), float(rng.uniform(-5, 5))),
            tilt=(float(rng.uniform(-5, 5)), float(rng.uniform(-4, 4))),
            papillary=float(rng.uniform(0.38, 0.55)),
            trabeculae=PlaneWaves.draw(rng, 13.0, 12),
            mottle=PlaneWaves.draw(rng, 26.0, 8),
        )


class ShortAxisMR:
    """A stack of short-axis slices through the left ventricle of one patient per seed, at the end of diastole.

    The basal slice is the first one below the valves, where the outflow tract opens the wall, and the apical slice the
    last one that cuts the cavity. In a third of the stacks the basal slice is missing, in another the apical one, as
    when a scan was planned too short. Slices are stored from base to apex or from apex to base; only their positions in
    the patient tell which.

    Attributes:
        label: ``complete``, ``no base`` or ``no apex``.
        image: float32 (1, slices, size, size) in a.u., with oblique axes in the patient.
        images: the same image as ``mr``.
        classes: ``slices`` with the class of every slice, in the order of the image.
        heights: distance of every slice below the valves in mm, in the order of the image.
        masks: ``cavity`` and ``muscle`` of the left ventricle, ``right`` for the cavity of the right one.
        regions: ``blood``, well inside of the left cavity.
    """

    LABELS: ClassVar[tuple[str, ...]] = ("complete", "no base", "no apex")

    def __init__(self, seed: int, *, size: int = 64, label: str | None = None) -> None:
        """Draw a stack.

        Args:
            seed: seed of the patient.
            size: rows and columns over 90 mm.
            label: which slices are missing; None selects it by the seed.

        Raises:
            UserError: the image is too small, or there is no such label.
        """
        if size < 16:
            raise UserError(f"a short-axis stack of {size} rows and columns cannot be drawn: give at least 16")
        self.label = label_of(seed, self.LABELS, label)
        anatomical, planned, physical = np.random.default_rng(seed).spawn(3)
        heart = Heart.draw(anatomical)
        distance = float(planned.choice([8.0, 9.0, 10.0]))
        first = float(planned.uniform(0.05, 0.85)) * distance
        heights = np.arange(first, heart.length - 3.0, distance)
        words = [BASAL, *[MIDDLE] * (len(heights) - 2), APICAL]
        kept = slice(self.label == "no base", len(heights) - (self.label == "no apex"))
        heights, words = heights[kept], words[kept]

        step = FIELD_OF_VIEW / size
        layers = (np.arange(LAYERS) - (LAYERS - 1) / 2) / LAYERS * THICKNESS * distance
        plane = Grid.centred((1, size, size), (distance, step, step))
        deep = (heights[:, None] + layers).reshape(-1, 1, 1).astype(np.float32)
        values, inside = _drawn(heart, Grid(plane.x, plane.y, deep, step))
        shares = {name: _thick(share, len(heights)) for name, share in inside.items()}
        image = _measured(_thick(values, len(heights)), physical, plane, heights)

        order = slice(None, None, -1 if planned.random() < 0.5 else 1)
        affine = _oblique(planned, heights[order], (size, size), step)
        self.heights: NDArray[np.float64] = heights[order].copy()
        self.classes = {"slices": tuple(words[order])}
        self.masks: dict[str, Mask] = {name: share[order] > 0.5 for name, share in shares.items()}
        self.regions: dict[str, Mask] = {"blood": shares["blood"][order] > 0.999}
        del self.masks["blood"]
        self.image = Image(np.ascontiguousarray(image[order])[None], affine, "a.u.", Header(modality="MR"))
        self.images = {"mr": self.image}


def _drawn(heart: Heart, grid: Grid) -> tuple[Array, dict[str, Array]]:
    """Return intensities and the shares of the ventricles at heights ``grid.z`` below the valves."""
    down = grid.z / np.float32(heart.length)
    x = grid.x - np.float32(heart.place[0]) - down * np.float32(heart.tilt[0])
    y = grid.y - np.float32(heart.place[1]) - down * np.float32(heart.tilt[1])
    relief = heart.trabeculae(x, y, grid.z)
    mottle = heart.mottle(grid.x, grid.y, grid.z)
    angle = np.arctan2(y, x)

    def sector(direction: float) -> Array:
        """Return the angle from a direction, 0 to pi."""
        return np.asarray(np.abs((angle - direction + np.pi) % (2 * np.pi) - np.pi), np.float32)

    bulge = np.sqrt(np.maximum(1 - down**2, 1e-4))
    apart = np.hypot(x, y)
    radius = np.float32(heart.radius) * bulge
    # The wall is thinner at the apex and at the base.
    thick = np.float32(heart.thickness) * (0.72 + 0.28 * ramp(down, 0.0, 0.25)) * (1 - 0.35 * ramp(down, 0.8, 1.0))
    cavity = apart - radius + np.float32(0.05) * radius * relief * ramp(down, 0.1, 0.4)
    outside = apart - radius - thick
    # Below the valves the wall is open towards the aorta; the gap closes downwards.
    gap = np.float32(heart.open) * ramp(grid.z, heart.closed, 0.0)
    opening = np.where(gap > 0.02, apart * (sector(heart.outflow) - gap), np.float32(99))
    tract = np.maximum(opening, apart - radius - thick - 6)

    u, v = turned(x, y, heart.turn)
    across = np.float32(heart.radius) * heart.right * np.sqrt(np.maximum(1 - (down / 0.86) ** 2, 1e-4))
    right = np.hypot((u - np.float32(0.62) * (radius + thick)) / np.float32(1.15), v / np.float32(1.3)) - across
    right = np.where(down < 0.86, np.maximum(right, 1.5 - outside), np.float32(99))
    right_wall = np.where(down < 0.86, np.maximum(right - 3.2, -outside), np.float32(99))
    muscles = [
        np.hypot(x - np.float32(0.58) * radius * np.cos(turn), y - np.float32(0.58) * radius * np.sin(turn))
        - np.float32(0.2) * radius * ramp(np.abs(down - heart.papillary), 0.32, 0.18)
        for turn in (heart.turn + 2.3, heart.turn - 2.3)
    ]
    papillary = np.where(np.abs(down - heart.papillary) < 0.32, np.minimum(*muscles), np.float32(99))
    sac = np.minimum(outside, right_wall) - 2.5

    lung = ramp(mottle + (grid.x - grid.y) / np.float32(45), -0.2, 0.2)
    liver = ramp(grid.y + 6 * mottle, 26.0, 31.0) * ramp(down, 0.1, 0.45)
    values = np.float32(FAT) + (LUNG - FAT) * lung
    values = values + liver * (LIVER - values)
    values = values + ramp(-grid.y - grid.x + 5 * mottle, 58.0, 64.0) * (WALL - values)
    shares = {name: grid.coverage(shape) for name, shape in (("cavity", cavity), ("right", right))}
    painted: tuple[tuple[Array, float], ...] = (
        (grid.coverage(sac), FAT),
        (grid.coverage(right_wall), MUSCLE),
        (shares["right"], BLOOD),
        (grid.coverage(outside), MUSCLE),
        (grid.coverage(tract), BLOOD),
        (shares["cavity"], BLOOD),
        (grid.coverage(papillary) * shares["cavity"], MUSCLE),
    )
    for share, tissue in painted:
        values = values + share * (tissue - values)
    # Leaflets of the mitral valve hang into the highest slices.
    leaflet = np.abs(apart - np.float32(0.55) * radius) - np.float32(1.1)
    seen = (
        grid.coverage(leaflet)
        * ramp(grid.z, heart.hanging, 0.3 * heart.hanging)
        * (sector(heart.outflow + np.pi) < 1.9)
    )
    values = values - np.float32(heart.leaflet) * seen * (values - MUSCLE)
    shares["muscle"] = grid.coverage(outside) * (1 - shares["cavity"]) * (1 - grid.coverage(tract))
    shares["blood"] = grid.coverage(cavity + 4) * (1 - grid.coverage(papillary - 2)) * (1 - grid.coverage(leaflet - 1))
    return np.asarray(values, np.float32), shares


def _thick(values: Array, slices: int) -> Array:
    """Average the layers of every slice."""
    return np.asarray(values.reshape(slices, LAYERS, *values.shape[1:]).mean(axis=1), np.float32)


def _measured(values: Array, rng: np.random.Generator, plane: Grid, heights: NDArray[np.float64]) -> Array:
    """Return what a surface coil measures: an uneven sensitivity, a gain of its own for every scan, and noise."""
    near = PlaneWaves.draw(rng, 220.0, 4)
    sensitivity = np.exp(np.float32(0.22) * near(plane.x, plane.y, heights.reshape(-1, 1, 1)))
    flow = 1 + np.float32(0.04) * rng.standard_normal((len(heights), 1, 1)).astype(np.float32)
    real, imaginary = rng.normal(0, NOISE, (2, *values.shape)).astype(np.float32)
    magnitude = np.hypot(values * sensitivity * flow + real, imaginary)
    return np.asarray(magnitude * np.float32(rng.uniform(0.7, 1.5)), np.float32)


def _oblique(
    rng: np.random.Generator, heights: NDArray[np.float64], shape: tuple[int, int], step: float
) -> NDArray[np.float64]:
    """Return the affine (4, 4) of slices at some heights, whose normal is the long axis of the heart."""
    normal = APEX_DIRECTION + rng.normal(0, 0.12, 3)
    normal /= np.linalg.norm(normal)
    # Columns run from the septum to the left side, rows downwards.
    columns = np.array([-1.0, -1.0, 0.0]) - normal * (normal @ np.array([-1.0, -1.0, 0.0]))
    columns /= np.linalg.norm(columns)
    rows = np.cross(normal, columns)
    rows *= np.sign(-rows[2]) or 1.0
    spacing = heights[1] - heights[0]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = spacing * normal, step * rows, step * columns
    base = np.array([-25.0, 15.0, 10.0]) + rng.uniform(-15, 15, 3)
    middle = step * (rows * (shape[0] - 1) + columns * (shape[1] - 1)) / 2
    affine[:3, 3] = base + heights[0] * normal - middle
    return affine
