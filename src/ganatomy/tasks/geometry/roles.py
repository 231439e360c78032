"""Roles that describe a vessel without an image: its centre-line with radii, its length, and its surface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Array, Held, Openable, Role
from ganatomy.errors import UserError
from ganatomy.images import polydata
from ganatomy.images.frames import Frame
from ganatomy.images.paths import replacing
from ganatomy.physics.centreline import Centreline, CentrelineCodec, Mesh
from ganatomy.roles.tables import file_source, number, read_npz, read_records, write_rows

AXES = ("x", "y", "z")
RADII = ("r", "radius", "maximuminscribedsphereradius")
"""Names that the column of radii may have, in lower case."""
JUMP_MM = 1.0
"""Smallest distance in mm between successive points at which a new line begins."""
JUMP_STEPS = 5.0
"""Smallest such distance as a multiple of the median step of the file; both limits must be exceeded."""
NUMBER = "#"
"""Separator between the name of a file and the number of one of its lines."""


@dataclass(frozen=True)
class CentrelineRole(Role):
    """Role of a vessel as its centre-line with radii, which networks see as a signal of fixed length.

    Values are `Centreline`, or arrays (n, 4) of x, y, z and radius in mm; arrays are signals (4, 1, 1, samples) of the
    codec. The position of the ostium is not encoded: generated vessels begin at the origin.

    Attributes:
        signals: codec between centre-lines and signals.
    """

    signals: CentrelineCodec = field(default_factory=CentrelineCodec)

    kind: ClassVar[str] = "centre-line"
    on_grid: ClassVar[bool] = False
    suffix: ClassVar[str | None] = ".csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".npz", *polydata.SUFFIXES)

    @property
    def channels(self) -> int:
        """Number of channels of a signal: x, y, z and the radius."""
        return 4

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Return the source of a file, see `read_centrelines`; ``FILE#2`` is its third line."""
        name, mark, place = text.rpartition(NUMBER)
        if not mark or not place.isdigit():
            return file_source(folder / text, dict.fromkeys(self.suffixes, read_centreline))
        file = file_source(folder / name, dict.fromkeys(self.suffixes, read_centrelines))
        return LineSource(file.path, int(place))

    def check(self, value: Any) -> None:
        """Refuse lines shorter than a step, and radii that are implausible in mm."""
        line = as_centreline(value)
        if line.length_mm < self.signals.step_mm:
            raise UserError(
                f"{self.name}: a centre-line of {line.length_mm:.3g} mm is shorter than one step of "
                f"{self.signals.step_mm:g} mm; leave it out, or check that it is given in mm"
            )
        middle = float(np.median(line.radii))
        if not self.signals.thinnest_mm <= middle <= 10 * self.signals.radius_mm:
            raise UserError(
                f"{self.name}: a median radius of {middle:.3g} mm; vessels between {self.signals.thinnest_mm:g} and "
                f"{10 * self.signals.radius_mm:g} mm can be learned from, so check that it is given in mm"
            )

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Encode a vessel as a signal, (4, 1, 1, samples), float32; longer vessels are cut off."""
        signal = self.signals.encode(as_centreline(value)).signal
        return signal.astype(np.float32)[:, None, None]

    def value(self, array: Array, frame: Frame | None, like: Any) -> Centreline:
        """Decode a signal to a centre-line that begins at the origin, or at the first point of ``like``."""
        line = self.signals.decode(np.asarray(array, np.float64).reshape(4, -1))
        return line if like is None else Centreline(line.points + as_centreline(like).points[0], line.radii)

    def flip(self, patch: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
        """Raise a ValueError, since vessels cannot be mirrored."""
        raise ValueError(f"{self.name} is a centre-line, which cannot be mirrored: let its stream have no flips")

    def quarter_turns(self, patch: NDArray[Any], turns: int) -> NDArray[Any]:
        """Raise a ValueError, since signals have no plane to rotate in."""
        raise ValueError(f"{self.name} is a centre-line, which has no plane: let its stream have no quarter turns")

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """Draw a signal of a random course and length, (4, samples)."""
        (samples,) = size
        turns = torch.cumsum(0.1 * torch.randn(3, samples, generator=generator), dim=1)
        directions = _unit(turns + torch.randn(3, 1, generator=generator))
        radii = 0.4 - 0.2 * torch.rand(1, 1, generator=generator) * torch.linspace(0, 1, samples)
        end = int(torch.randint(samples // 2, samples + 1, (), generator=generator))
        return torch.cat([directions, radii]) * (torch.arange(samples) < end)

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write a CSV file with the columns x, y, z and r in mm, or an NPZ file with ``points`` and ``radii``."""
        line = as_centreline(value)
        if path.suffix.lower() == ".npz":
            with replacing(path) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, points=line.points, radii=line.radii)
            return
        write_rows(path, (*AXES, RADII[0]), np.column_stack([line.points, line.radii]))

    def describe(self) -> dict[str, Any]:
        """Describe the role and its codec as values that JSON can hold."""
        codec = self.signals
        numbers = {"samples": codec.samples, "step_mm": codec.step_mm, "radius_mm": codec.radius_mm}
        return {**super().describe(), **numbers, "encoding": codec.encoding}


def _unit(vectors: Tensor) -> Tensor:
    """Normalise vectors (3, n) to length one."""
    unit: Tensor = vectors / torch.linalg.vector_norm(vectors, dim=0)
    return unit


@dataclass(frozen=True)
class LengthRole(Role):
    """Role of the length of a vessel, on which generators may be conditioned.

    Values and arrays (1, 1, 1, 1) are in mm, tensors (1,) in units of the longest vessel of a signal.

    Attributes:
        longest_mm: length that is encoded as 1.
    """

    longest_mm: float = 256.0

    kind: ClassVar[str] = "length"
    on_grid: ClassVar[bool] = False

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Read a number in mm."""
        return Held(number(text, self.name))

    def check(self, value: Any) -> None:
        """Refuse lengths that are not positive or exceed that of a signal."""
        if not 0 < value <= self.longest_mm:
            raise UserError(f"{self.name} {value:g}: give more than 0 and at most {self.longest_mm:g} mm")

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return an array of the length in mm, (1, 1, 1, 1)."""
        return np.full((1, 1, 1, 1), value, np.float32)

    def value(self, array: Array, frame: Frame | None, like: Any) -> float:
        """Return the length in mm."""
        return float(np.asarray(array).reshape(-1)[0])

    def cut(self, array: Array, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """Return the length of the whole vessel, whatever the patch."""
        return np.asarray(array)

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """Return the length in units of the longest vessel, (1,)."""
        return torch.from_numpy(self.encoded(patch).reshape(1))

    def encoded(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Convert lengths in mm to units of the longest vessel."""
        return np.asarray(values, np.float32) / np.float32(self.longest_mm)

    def decoded(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert lengths in units of the longest vessel to mm."""
        return np.asarray(tensor, np.float32) * np.float32(self.longest_mm)

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """Draw a random length, (1,)."""
        return 0.2 + 0.7 * torch.rand(1, generator=generator)


@dataclass(frozen=True)
class MeshRole(Role):
    """Role of the surface of a vessel, which is an output only."""

    kind: ClassVar[str] = "mesh"
    on_grid: ClassVar[bool] = False
    suffix: ClassVar[str | None] = ".stl"

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Raise a UserError, since surfaces are no inputs."""
        raise UserError(f"{text}: surfaces cannot be given; give centre-lines with radii")

    def check(self, value: Any) -> None:
        """Refuse values that are no meshes."""
        if not isinstance(value, Mesh):
            raise UserError(f"{self.name} {value!r} is no mesh")

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Raise a ValueError, since meshes are not prepared."""
        raise ValueError(f"{self.name} is a mesh, which is not prepared")

    def value(self, array: Array, frame: Frame | None, like: Any) -> Mesh:
        """Raise a ValueError, since meshes are made from centre-lines."""
        raise ValueError(f"{self.name} is a mesh, which is made of a centre-line by `tube_mesh`")

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write a binary STL file, or polydata of VTK, in mm and RAS+ coordinates."""
        if path.suffix.lower() not in (".stl", ".vtk"):
            raise UserError(f"{path}: meshes are written as .stl or .vtk")
        with replacing(path) as temporary:
            temporary.write_bytes(value.stl() if path.suffix.lower() == ".stl" else value.vtk())


@dataclass(frozen=True)
class PolygonRole(MeshRole):
    """Role of the surface of a vessel that is written as polydata of VTK."""

    suffix: ClassVar[str | None] = ".vtk"


@dataclass(frozen=True)
class LineSource:
    """Source of one of several centre-lines in a file.

    Attributes:
        path: file.
        place: index of the line in the file, from 0.
    """

    path: Path
    place: int

    @property
    def paths(self) -> tuple[Path, ...]:
        """Path of the file, as a tuple."""
        return (self.path,)

    def open(self) -> Centreline:
        """Read the line.

        Raises:
            UserError: the file has fewer lines.
        """
        lines = read_centrelines(self.path)
        if self.place >= len(lines):
            raise UserError(f"{self.path}{NUMBER}{self.place}: the file holds {len(lines)} lines, counted from 0")
        return lines[self.place]


def as_centreline(value: Any) -> Centreline:
    """Convert an array (n, 4) of x, y, z and radius in mm to a centre-line; centre-lines are returned as they are.

    Raises:
        UserError: the array has another shape, values that are not finite, or negative radii.
    """
    if isinstance(value, Centreline):
        return value
    rows = np.asarray(value, np.float64)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise UserError(f"a vessel of the shape {rows.shape}: give (points, 4), x, y, z and radius in mm")
    return _centreline(rows, "the vessel in memory")


def read_centreline(path: Path) -> Centreline:
    """Read the only centre-line of a file, see `read_centrelines`.

    Raises:
        UserError: the file cannot be read, or holds several lines.
    """
    lines = read_centrelines(path)
    if len(lines) > 1:
        raise UserError(
            f"{path} holds {len(lines)} lines; name one of them in a "
            f"manifest, {path.name}{NUMBER}0 to {path.name}{NUMBER}{len(lines) - 1}"
        )
    return lines[0]


def read_centrelines(path: Path) -> list[Centreline]:
    """Read all centre-lines of a file, in mm.

    - CSV: the columns x, y, z and r. Names may be in capitals, and the radius may be called ``radius`` or
      ``MaximumInscribedSphereRadius``, as in the Aneurisk data. A line ends where the next point is more than 1 mm
      away, and more than five times the median step.
    - NPZ: ``points`` (n, 3) and ``radii`` (n,) of one line.
    - VTK, ``.vtk`` or ``.vtp``: polydata with an array of radii under one of these names. Every line of the file is a
      line; a file without lines holds the points of one in their order. Coordinates are taken as they are.

    Raises:
        UserError: the file cannot be read, lacks a column, or holds invalid numbers.
    """
    if path.suffix.lower() in polydata.SUFFIXES:
        return _from_polydata(path)
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path)
        if not {"points", "radii"} <= arrays.keys():
            raise UserError(f"{path} holds {', '.join(arrays)}: it needs points (n, 3) and radii (n)")
        points, radii = arrays["points"], arrays["radii"]
        if (
            points.ndim != 2
            or points.shape[1] != 3
            or radii.shape != points.shape[:1]
            or points.dtype.kind not in "iuf"
        ):
            raise UserError(f"{path}: points {points.shape} and radii {radii.shape} instead of (n, 3) and (n)")
        return [_centreline(np.column_stack([points, radii]).astype(np.float64), str(path))]
    records = read_records(path)
    columns = list(records[0]) if records else []
    radius = next((name for name in RADII if name in columns), None)
    if radius is None or not set(AXES) <= set(columns):
        raise UserError(f"{path} has the columns {', '.join(columns) or '(none)'}: it needs x, y, z and r, in mm")
    rows = np.array(
        [
            [number(record[name], f"{path} row {line}, {name}") for name in (*AXES, radius)]
            for line, record in enumerate(records, start=2)
        ]
    )
    return [_centreline(part, str(path)) for part in np.split(rows, _starts(rows[:, :3]))]


def _from_polydata(path: Path) -> list[Centreline]:
    found = polydata.read_polydata(path)
    arrays = {name.lower(): values for name, values in found.arrays.items()}
    radius = next((name for name in RADII if name in arrays and arrays[name].ndim == 1), None)
    if radius is None or not len(found.points) or len(arrays[radius]) != len(found.points):
        there = ", ".join(found.arrays) or "none"
        raise UserError(
            f"{path}: {len(found.points)} points with the arrays {there}: it needs radii in mm, called radius or "
            "MaximumInscribedSphereRadius"
        )
    rows = np.column_stack([found.points, arrays[radius]])
    lines = [line for line in found.lines if len(line) > 1] or [np.arange(len(rows))]
    return [_centreline(rows[line], str(path)) for line in lines]


def _starts(points: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of the points at which a new line begins."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    moved = steps[steps > 0]
    usual = float(np.median(moved)) if moved.size else 0.0
    return np.flatnonzero(steps > max(JUMP_MM, JUMP_STEPS * usual)) + 1


def _centreline(rows: NDArray[np.float64], label: str) -> Centreline:
    try:
        return Centreline(rows[:, :3], rows[:, 3])
    except ValueError as error:
        raise UserError(f"{label}: {error}; repair or leave it out") from None
