"""A fetus for ultrasound, seen from poses that are known: freehand sweeps of a probe over one phantom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ganatomy.errors import UserError
from ganatomy.images.image import Image
from ganatomy.phantoms.shapes import Array, Mask
from ganatomy.physics.ultrasound import Fan, attenuated, compressed, envelope_of, pulse_sd
from ganatomy.roles.pose import Poses

FRAME_MM = (108.0, 144.0)
"""Height and width of a frame."""
FAN = Fan(radius_mm=45.0, depth_mm=100.0, step_mm=0.8, half_angle=np.radians(28.0), beams=84)
MEGAHERTZ = 3.5
DYNAMIC_RANGE = 55.0  # dB
FLOOR = 0.004  # amplitude of the noise of the receiver
CELL_MM = 0.6  # distance of scatterers
TILE = 64  # scatterers along an edge of the block that fills space
HANDS_MM = 82.0
"""Distance of the surface that the probe lies on from the axis of the fetus."""


@dataclass(frozen=True)
class Part:
    """An ellipsoid of tissue, in mm and in degrees.

    Attributes:
        name: name of the structure.
        centre: position.
        radii: lengths of the half axes.
        echo: amplitude of its echoes, relative to white.
        loss: loss one way in dB per cm and MHz.
        turn: rotation about the z axis.
    """

    name: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    echo: float
    loss: float
    turn: float = 0.0


PARTS = (
    Part("placenta", (20.0, 74.0, -25.0), (55.0, 15.0, 45.0), 0.32, 0.5),
    Part("body", (28.0, 0.0, 0.0), (52.0, 33.0, 31.0), 0.26, 0.5, 6.0),
    Part("spine", (26.0, -22.0, 2.0), (46.0, 4.0, 4.0), 0.9, 6.0, 6.0),
    Part("liver", (24.0, 9.0, -10.0), (18.0, 18.0, 15.0), 0.16, 0.5, 20.0),
    Part("stomach", (34.0, 8.0, 15.0), (10.0, 8.0, 7.0), 0.012, 0.002, -25.0),
    Part("heart", (0.0, 6.0, 7.0), (11.0, 9.0, 9.0), 0.07, 0.3, 40.0),
    Part("bladder", (66.0, 8.0, 1.0), (6.0, 6.0, 5.0), 0.012, 0.002),
    Part("skull", (-46.0, 4.0, 0.0), (38.0, 30.0, 28.0), 0.95, 4.5, -12.0),
    Part("brain", (-46.0, 4.0, 0.0), (35.6, 27.6, 25.6), 0.12, 0.4, -12.0),
    Part("midline", (-46.0, 4.0, 0.0), (30.0, 22.0, 1.2), 0.5, 0.5, -12.0),
    Part("cavum", (-58.0, 7.0, 0.0), (7.0, 4.0, 5.0), 0.012, 0.002, -12.0),
    Part("ventricle", (-38.0, 0.0, 11.0), (13.0, 5.0, 4.0), 0.012, 0.002, 15.0),
    Part("thigh", (82.0, 22.0, 22.0), (26.0, 12.0, 12.0), 0.24, 0.5, 35.0),
    Part("femur", (83.0, 23.0, 22.0), (19.0, 2.6, 2.6), 0.95, 6.0, 35.0),
)
"""Parts of the fetus and its placenta; a later one lies inside of or over the earlier ones."""
WALL, FLUID = 0.22, 0.004
"""Echoes of the wall around, and of the fluid."""
LANDMARKS = ("stomach", "heart", "bladder", "cavum", "ventricle", "femur")
"""Structures whose centres in a frame are landmarks, in the order of their labels from 1."""


class FetusSweep:
    """A short sweep of a curved probe over a fetus, which is the same for all seeds; a seed is another sweep.

    Coordinates are those of the phantom in mm: x from head to feet, y from the back to the probe, z to the left side.
    A pose maps coordinates of a frame (mm from its centre: along columns, along rows downwards, and 0) to these.
    Scatterers are fixed in space, so that equal poses give equal speckle. Bones throw shadows. Sizes are within those
    of the second trimester; all numbers are our choice.

    Attributes:
        image: frames of 8 bits, uint8 (1, frames, rows, columns); 0 outside of the fan.
        images: `image` by its name, "image".
        poses: `ganatomy.roles.pose.Poses` of the frames, by the name "pose".
        labels: "landmarks": the structures of `LANDMARKS` in every frame, labels from 1 in their order.
        masks: every structure of `PARTS` by its name, and "fan".
        regions: "fluid" around the fetus.
    """

    LANDMARKS: ClassVar[tuple[str, ...]] = LANDMARKS

    def __init__(self, seed: int, *, size: int = 120, frames: int = 12) -> None:
        """Draw a sweep.

        Args:
            seed: seed of the path of the probe.
            size: rows; there are 4/3 as many columns.
            frames: number of frames.

        Raises:
            UserError: there are too few rows, or no frames.
        """
        if size < 12 or frames < 1:
            raise UserError(f"{frames} frames of {size} rows cannot be drawn: give at least 12 rows and one frame")
        rows, columns = size, round(size * FRAME_MM[1] / FRAME_MM[0])
        spacing = FRAME_MM[0] / rows, FRAME_MM[1] / columns
        matrices = sweep(np.random.default_rng(seed), frames)
        y = (np.arange(rows, dtype=np.float32)[:, None] - (rows - 1) / 2) * np.float32(spacing[0])
        x = (np.arange(columns, dtype=np.float32)[None] - (columns - 1) / 2) * np.float32(spacing[1])
        shown, inside = [], []
        fan = FAN.converted(np.ones(FAN.shape, np.float32), x, _deep(y)) > 0.5
        for matrix in matrices:
            shown.append(np.rint(frame(matrix, x, y)))
            inside.append(structures(_moved(matrix, *np.broadcast_arrays(x, y))))
        where = np.stack(inside) * fan
        self.image = Image.from_array(np.stack(shown).astype(np.uint8)[None], (1.0, *spacing))
        self.images = {"image": self.image}
        self.poses = {"pose": Poses(matrices)}
        numbers = {part.name: number for number, part in enumerate(PARTS, 1)}
        self.masks: dict[str, Mask] = {name: where == number for name, number in numbers.items()}
        self.masks["fan"] = np.broadcast_to(fan, where.shape)
        labels = np.zeros(where.shape, np.uint8)
        for label, name in enumerate(LANDMARKS, 1):
            labels[self.masks[name]] = label
        self.labels = {"landmarks": labels}
        self.regions = {"fluid": (np.stack(inside) == 0) & fan}


def sweep(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Return the poses of a freehand sweep, (frames, 4, 4), from one random pose within a cone to another one."""

    def pose() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        place = np.array([rng.uniform(-58, 78), 0.0, rng.uniform(-14, 14)])
        # Turned about the beam, tilted across the frame, and rocked within it.
        angles = np.array([rng.uniform(-35, 35), rng.uniform(-14, 14), rng.uniform(-14, 14)])
        return place, angles

    (place, angles), (last, others) = pose(), pose()
    # A sweep is short: it ends on the way to the other pose.
    last, others = place + 0.35 * (last - place), angles + 0.5 * (others - angles)
    share = np.linspace(0, 1, frames)[:, None] if frames > 1 else np.zeros((1, 1))
    return np.stack(
        [
            probe_pose(*row)
            for row in np.concatenate([place + share * (last - place), angles + share * (others - angles)], 1)
        ]
    )


def probe_pose(x: float, y: float, z: float, turn: float, tilt: float, rock: float) -> NDArray[np.float64]:
    """Return the pose (4, 4) of a frame whose probe is on the surface above a point of the axis.

    Args:
        x: position along the fetus in mm.
        y: height above the surface of the phantom in mm.
        z: position across it.
        turn: rotation about the beam in degrees.
        tilt: inclination across the frame.
        rock: inclination within the frame.
    """
    # Columns along x, rows against y, and the normal of the frame.
    upright = np.array([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]]).T
    turned = Rotation.from_euler("YXZ", [turn, tilt, rock], degrees=True).as_matrix()
    matrix = np.eye(4)
    matrix[:3, :3] = turned @ upright
    matrix[:3, 3] = np.array([x, HANDS_MM + y, z]) + matrix[:3, 1] * FRAME_MM[0] / 2
    return matrix


def structures(points: tuple[Array, Array, Array]) -> NDArray[np.uint8]:
    """Return the number of the structure at every point, from 1 in the order of `PARTS`; 0 in fluid and wall."""
    found = np.zeros(points[0].shape, np.uint8)
    for number, part in enumerate(PARTS, 1):
        cosine, sine = np.cos(np.radians(part.turn)), np.sin(np.radians(part.turn))
        x, y, z = (axis - np.float32(middle) for axis, middle in zip(points, part.centre, strict=True))
        along, across = cosine * x + sine * y, cosine * y - sine * x
        a, b, c = part.radii
        found[(along / a) ** 2 + (across / b) ** 2 + (z / c) ** 2 < 1] = number
    return found


def frame(matrix: NDArray[np.float64], x: Array, y: Array) -> Array:
    """Return the grey levels from 0 to 255 of a frame at positions in mm from its centre; both broadcast."""
    across, deep = FAN.positions()
    points = _moved(matrix, across, deep - _apex())
    where = structures(points)
    echoes = np.array([FLUID, *(part.echo for part in PARTS)], np.float32)[where]
    losses = np.array([0.002, *(part.loss for part in PARTS)], np.float32)[where] * np.float32(MEGAHERTZ)
    wall = (where == 0) & (np.abs(points[1]) > 58 + 6 * np.sin(points[0] / 17) + 5 * np.cos(points[2] / 13))
    echoes[wall], losses[wall] = WALL, 0.5 * MEGAHERTZ
    amplitude = attenuated(echoes, losses, FAN.step_mm, 0.3 * MEGAHERTZ)
    cells = [np.floor(axis / CELL_MM).astype(np.intp) % TILE for axis in points]
    scattered = amplitude * scatterers()[:, cells[0], cells[1], cells[2]]
    spread = pulse_sd(MEGAHERTZ) / FAN.step_mm, 0.9
    noise = np.random.default_rng(0).standard_normal((2, *amplitude.shape), np.float32) * np.float32(FLOOR)
    levels = compressed(envelope_of(scattered + noise, spread), DYNAMIC_RANGE)
    return FAN.converted(levels, x, _deep(y))


@cache
def scatterers() -> Array:
    """Return the scatterers of a block that fills space, complex and normal: (2, `TILE`, `TILE`, `TILE`)."""
    draw = np.random.default_rng(86).standard_normal((2, TILE, TILE, TILE), np.float32)
    return np.asarray(draw / np.float32(np.sqrt(2)), np.float32)


def _apex() -> float:
    """Return the distance of the centre of a frame from the axis of the array in mm."""
    return FAN.radius_mm * float(np.cos(FAN.half_angle)) + FRAME_MM[0] / 2


def _deep(y: Array) -> Array:
    return np.asarray(y + np.float32(_apex()), np.float32)


def _moved(matrix: NDArray[np.float64], x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Return the positions in space of positions in a frame."""
    rows = matrix[:3].astype(np.float32)
    first, second, third = (row[0] * x + row[1] * y + row[3] for row in rows)
    return first, second, third
