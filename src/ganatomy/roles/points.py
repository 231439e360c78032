"""Named points in mm, such as anatomical landmarks, of which some may be missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Array, Openable, Role
from ganatomy.errors import UserError
from ganatomy.images.augmentation import Movement
from ganatomy.images.frames import Frame
from ganatomy.images.image import LPS_TO_RAS
from ganatomy.roles.tables import file_source, number, read_json, read_records, write_json, write_rows

Place = tuple[float, float, float]
Places = Literal["mm", "voxels"]
"""Unit of coordinates: mm in the patient, RAS+; or slice, row and column on the grid of the source."""

COORDINATES: dict[Places, tuple[str, str, str]] = {"mm": ("x", "y", "z"), "voxels": ("slice", "row", "column")}
NEEDED: dict[Places, frozenset[str]] = {"mm": frozenset("xyz"), "voxels": frozenset({"row", "column"})}
"""Columns that a file must have; the slice may be missing, since a 2D image has one slice, 0."""
MARKUPS = ".mrk.json"
"""Suffix of markups of 3D Slicer."""
SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
"""Schema of markups, which 3D Slicer looks for."""
NAMES = ("name", "label", "point")
"""Columns that may hold the name of a point."""


@dataclass(frozen=True, eq=False)
class Points(Mapping[str, Place]):
    """Coordinates of named points; a mapping from the names of the points that are present.

    Attributes:
        places: name to coordinates.
        unit: unit of the coordinates.
        path: path of the file that the points were read from, if any.
        certainty: name to how certain a point that was found is; empty for points that were given.
    """

    places: Mapping[str, Place]
    unit: Places = "mm"
    path: Path | None = None
    certainty: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Place:
        return self.places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def label(self) -> str:
        """Name of the points for messages: their file, where they have one."""
        return str(self.path or "the points in memory")


@dataclass(frozen=True, eq=False)
class Film:
    """Points of every frame of a film.

    Attributes:
        frames: points of each frame, in order.
    """

    frames: tuple[Points, ...]


@dataclass(frozen=True)
class PointsRole(Role):
    """Points with fixed names, some of which a case may lack.

    Values are `Points`, or mappings from names to (x, y, z) in mm, RAS+. Prepared arrays are (points, 1, 1, 4): slice,
    row and column on the working grid, and 1 for a point that is present; all four are 0 for one that is missing.
    Patches hold three more numbers, the size of the patch in slices, rows and columns, which mirroring needs. Points
    outside of a patch keep their coordinates, which are then negative or beyond its size.

    Attributes:
        points: names, in the order of the tensor.
        swaps: pairs of names that are exchanged where a patch is mirrored from left to right, such as
            ``{"left eye": "right eye"}``. They are for symmetric anatomy; where it is not symmetric, as in the heart,
            patches should not be mirrored along this axis at all. Along the other axes points keep their names.
        lateral: axis of a patch (0 slices, 1 rows, 2 columns) that runs between the left and the right of the body:
            columns of axial and coronal slices, slices of sagittal ones. Patches are mirrored before they are rotated.
        closed: whether a closed curve goes through the points in their order, as 3D Slicer then draws it.
    """

    points: tuple[str, ...] = ()
    swaps: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    lateral: int = field(default=2, kw_only=True)
    closed: bool = field(default=False, kw_only=True)

    kind: ClassVar[str] = "points"
    on_grid: ClassVar[bool] = False
    suffix: ClassVar[str | None] = ".csv"

    def __post_init__(self) -> None:
        if strange := [name for pair in self.swaps.items() for name in pair if name not in self.points]:
            raise ValueError(f"{self.name} swaps {strange[0]!r}, which is none of its points")

    @property
    def channels(self) -> int:
        """Number of channels: one for each point."""
        return len(self.points)

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Return the source of the CSV or JSON file ``text``; see `read_points`."""
        return file_source(folder / text, {".csv": read_points, ".json": read_points})

    def check(self, value: Any) -> None:
        """Refuse names that are no points of this role, and coordinates that are not three finite numbers."""
        label = getattr(value, "label", "the points in memory")
        for name, place in value.items():
            if name not in self.points:
                raise UserError(
                    f"{label}: no point of {self.name} is called {name!r}; there are {', '.join(self.points)}"
                )
            if place is not None and not (np.shape(place) == (3,) and np.isfinite(place).all()):
                raise UserError(f"{label}: {name} has the coordinates {place}; give three numbers")

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return the points on the working grid, float64 (points, 1, 1, 4).

        Raises:
            UserError: the image that the points lie in is missing.
        """
        if frame is None:
            raise UserError(f"{self.name}: points need the image that they lie in; give it, too")
        array = np.zeros((len(self.points), 1, 1, 4))
        there = [place for place, name in enumerate(self.points) if value.get(name) is not None]
        places = np.array([value[self.points[place]] for place in there], np.float64).reshape(-1, 3)
        if getattr(value, "unit", "mm") == "voxels":
            places = places @ frame.affine[:3, :3].T + frame.affine[:3, 3]
        array[there, 0, 0, :3] = frame.indices(places)
        array[there, 0, 0, 3] = 1
        return array

    def value(self, array: Array, frame: Frame | None, like: Any) -> Points | Film:
        """Return the points that are present, in mm, or in voxels of the source where ``like`` is in voxels.

        A point is present where its fourth number is above one half. An array of several frames,
        (points, frames, 1, 4), becomes a film.
        """
        if frame is None:
            raise ValueError("points need the frame of the image that they lie in")
        if array.shape[1] > 1:
            whole = np.asarray(array, np.float64)
            return Film(tuple(self._points(whole[:, n], frame, like) for n in range(whole.shape[1])))
        return self._points(np.asarray(array, np.float64), frame, like)

    def _points(self, array: NDArray[np.float64], frame: Frame, like: Any) -> Points:
        rows = array.reshape(len(self.points), -1)
        places = frame.points(rows[:, :3])
        unit: Places = getattr(like, "unit", "mm")
        if unit == "voxels":
            inverse = np.linalg.inv(frame.affine)
            places = places @ inverse[:3, :3].T + inverse[:3, 3]
        found = {
            name: (float(place[0]), float(place[1]), float(place[2]))
            for name, place, there in zip(self.points, places, rows[:, 3], strict=True)
            if there > 0.5
        }
        return Points(found, unit)

    def stored(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type in which points are stored: float64, so that no digits are lost."""
        return np.dtype(np.float64)

    def cut(self, array: Array, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """Return points relative to the first voxel of a block, (points, 1, 1, 7), with the size of the block."""
        whole = np.asarray(array, np.float64)
        extents = np.broadcast_to(np.asarray(size, np.float64), (*whole.shape[:3], 3))
        there = whole[..., 3:4]
        return np.concatenate([(whole[..., :3] - np.asarray(start)) * there, there, extents], axis=3)

    def flip(self, patch: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
        """Return the points of a mirrored patch; names of left and right are exchanged where these sides are."""
        matrix = np.eye(4)
        for axis in axes:
            matrix[axis, axis], matrix[axis, 3] = -1, self._extents(patch)[axis] - 1
        mirrored = self.moved(patch, matrix)
        if self.lateral not in axes or not self.swaps:
            return mirrored
        others = {**self.swaps, **{other: one for one, other in self.swaps.items()}}
        return mirrored[[self.points.index(others.get(name, name)) for name in self.points]]

    def quarter_turns(self, patch: NDArray[Any], turns: int) -> NDArray[Any]:
        """Return the points of a patch rotated in its plane by a multiple of 90 degrees, as by `numpy.rot90`."""
        for _ in range(turns % 4):
            slices, rows, columns = self._extents(patch)
            matrix = np.array([[1, 0, 0, 0], [0, 0, -1, columns - 1], [0, 1, 0, 0], [0, 0, 0, 1]], np.float64)
            patch = self.moved(patch, matrix, (slices, columns, rows))
        return patch

    def move(self, patch: NDArray[Any], movement: Movement) -> NDArray[Any]:
        """Return the points of a patch that was moved at random; the names stay."""
        result, there = np.array(patch, np.float64), patch[..., 3] > 0
        result[there, :3] = movement.points(result[there, :3], self._extents(patch))
        return result

    def moved(
        self, patch: NDArray[Any], matrix: NDArray[np.float64], size: Sequence[float] | None = None
    ) -> NDArray[Any]:
        """Return the points of a patch under an affine map of its voxels.

        Args:
            patch: patch from `cut`.
            matrix: (4, 4), maps old indices (slice, row, column) to new ones.
            size: size of the new patch; None where it does not change.
        """
        result = np.array(patch, np.float64)
        result[..., :3] = (patch[..., :3] @ matrix[:3, :3].T + matrix[:3, 3]) * patch[..., 3:4]
        if size is not None:
            result[..., 4:] = size
        return result

    def _extents(self, patch: NDArray[Any]) -> NDArray[np.float64]:
        if patch.shape[-1] != 7:
            raise ValueError("points are mirrored, turned and moved in patches, which know their size: cut one first")
        return np.asarray(patch[0, 0, 0, 4:], np.float64)

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """Return points (points, 1 + dims), float32: [[slice,] row,] column, and 1 for present points, else 0."""
        return torch.from_numpy(np.array(patch.reshape(len(patch), -1)[:, 3 - dims : 4], np.float32))

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """Return random points inside of ``size``, all of which are present."""
        places = torch.rand(len(self.points), len(size), generator=generator) * torch.tensor([n - 1.0 for n in size])
        return torch.cat([places, torch.ones(len(self.points), 1)], dim=1)

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write the points that are present, with their certainty where it is known.

        CSV files have one row for each point: name, x, y, z or name, slice, row, column; JSON files have a list of
        objects with these names; ``.mrk.json`` are markups of 3D Slicer in LPS+. Points of a film have the number of
        their frame, too, from 1; markups hold one list for each frame.

        Raises:
            UserError: markups are asked for of points in voxels, or the path cannot be written.
        """
        lists = value.frames if isinstance(value, Film) else (value,)
        if path.name.lower().endswith(MARKUPS):
            content: Any = {"@schema": SCHEMA, "markups": [self._markup(path, own, n) for n, own in _counted(value)]}
            write_json(path, content)
            return
        unit: Places = getattr(lists[0], "unit", "mm")
        records = []
        for frame, own in _counted(value):
            certain: Mapping[str, float] = getattr(own, "certainty", {})
            for name, place in own.items():
                if place is None:
                    continue
                record = {} if frame is None else {"frame": frame}
                record |= {"name": name, **dict(zip(COORDINATES[unit], place, strict=True))}
                records.append(record | ({"certainty": float(certain[name])} if name in certain else {}))
        if path.suffix.lower() == ".json":
            write_json(path, records)
            return
        names = dict.fromkeys(("name", *COORDINATES[unit])) if not records else dict.fromkeys(records[0])
        write_rows(path, tuple(names), [[record.get(name) for name in names] for record in records])

    def _markup(self, path: Path, points: Any, frame: int | None) -> dict[str, Any]:
        """Return a list of markups of 3D Slicer."""
        if getattr(points, "unit", "mm") != "mm":
            raise UserError(f"{path}: markups of 3D Slicer need points in mm; write a CSV file")
        certain: Mapping[str, float] = getattr(points, "certainty", {})
        controls = [
            {
                "id": str(number),
                "label": name,
                "description": f"certainty {certain[name]:.4f}" if name in certain else "",
                "position": [float(one) for one in LPS_TO_RAS @ np.array(place, np.float64)],
                "selected": True,
                "locked": False,
                "visibility": True,
                "positionStatus": "defined",
            }
            for number, (name, place) in enumerate(points.items(), 1)
            if place is not None
        ]
        return {
            "type": "ClosedCurve" if self.closed else "Fiducial",
            "name": self.name if frame is None else f"{self.name} {frame}",
            "coordinateSystem": "LPS",
            "coordinateUnits": "mm",
            "controlPoints": controls,
        }

    @property
    def prepared_as(self) -> str:
        """Text with the names of the points in order, which is that of the rows of arrays."""
        return f"{super().prepared_as} {list(self.points)}"

    def describe(self) -> dict[str, Any]:
        """Return the role as values that JSON can hold, with its points."""
        return {**super().describe(), "points": list(self.points), "swaps": dict(self.swaps)}


@dataclass(frozen=True)
class JsonPointsRole(PointsRole):
    """Points that are written as JSON."""

    suffix: ClassVar[str | None] = ".points.json"  # the note of an output has the suffix .json


@dataclass(frozen=True)
class MarkupPointsRole(PointsRole):
    """Points that are written as markups of 3D Slicer."""

    suffix: ClassVar[str | None] = ".mrk.json"


def _counted(value: Any) -> list[tuple[int | None, Any]]:
    """Return the points of every frame with its number from 1; None for points of no film."""
    return list(enumerate(value.frames, 1)) if isinstance(value, Film) else [(None, value)]


def read_points(path: Path) -> Points:
    """Read points from a CSV or JSON file.

    - CSV with the columns ``name`` and ``x``, ``y``, ``z`` (mm, RAS+), or ``row``, ``column`` and perhaps ``slice``
      (voxels of the image, from 0). A row with empty coordinates marks a missing point.
    - JSON: an object from names to three numbers in mm (null: missing), or a list of objects with the same keys as
      the columns; or markups of 3D Slicer, in which points that are not defined count as missing.

    Raises:
        UserError: the file cannot be read, or names a point twice.
    """
    if path.suffix.lower() == ".csv":
        return _points(path, read_records(path))
    content = read_json(path)
    if isinstance(content, dict) and "markups" in content:
        return _markups(path, content)
    if isinstance(content, dict):
        content = [{"name": name, **_coordinates(path, name, place)} for name, place in content.items()]
    if not (isinstance(content, list) and all(isinstance(entry, dict) for entry in content)):
        raise UserError(f"{path}: points are an object from names to three numbers, or a list of objects with a name")
    return _points(path, content)


def _coordinates(path: Path, name: str, place: Any) -> dict[str, Any]:
    if place is None:
        return dict.fromkeys(COORDINATES["mm"])
    if not isinstance(place, list) or len(place) != 3:
        raise UserError(f"{path}: {name} has the coordinates {place}; give three numbers")
    return dict(zip(COORDINATES["mm"], place, strict=True))


def _points(path: Path, records: Sequence[Mapping[str, Any]]) -> Points:
    columns = set(records[0]) if records else {"name", "x", "y", "z"}
    title = next((name for name in NAMES if name in columns), None)
    unit = next((unit for unit, needed in NEEDED.items() if needed <= columns), None)
    if title is None or unit is None:
        raise UserError(
            f"{path} has the columns {', '.join(sorted(columns))}: it needs name, x, y, z (mm) or name, row, column "
            "(voxels)"
        )
    found: dict[str, Place] = {}
    seen: set[str] = set()
    for record in records:
        name = str(record.get(title, ""))
        if name in seen:
            raise UserError(f"{path} names the point {name} twice")
        seen.add(name)
        cells = [record.get(axis, 0 if axis == "slice" else None) for axis in COORDINATES[unit]]
        if all(cell in ("", None) for cell in (cells if unit == "mm" else cells[1:])):
            continue
        first, second, third = (number(cell, f"{path}: {name}") for cell in cells)
        found[name] = (first, second, third)
    return Points(found, unit, path)


def _markups(path: Path, content: Mapping[str, Any]) -> Points:
    found: dict[str, Place] = {}
    try:
        for markup in content["markups"]:
            turn = LPS_TO_RAS if markup.get("coordinateSystem", "LPS") == "LPS" else np.eye(3)
            for point in markup["controlPoints"]:
                if point.get("positionStatus", "defined") != "defined":
                    continue
                if point["label"] in found:
                    raise UserError(f"{path} names the point {point['label']} twice")
                x, y, z = (float(value) for value in turn @ np.array(point["position"], np.float64))
                found[point["label"]] = (x, y, z)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UserError(f"{path} cannot be read as markups of 3D Slicer: {error!r}") from error
    return Points(found, "mm", path)
