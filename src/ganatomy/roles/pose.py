"""Poses as a kind of role: position and orientation of a probe, a camera or a frame, per case or per slice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from ganatomy.case import Array, Openable, Role, cut
from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.images.parsing import parsing
from ganatomy.roles.slices import to_source_slices, to_working_slices
from ganatomy.roles.tables import file_source, number, read_json, read_records, write_rows

MATRIX = tuple(f"m{row}{column}" for row in range(3) for column in range(4))
"""Columns of a table that hold a matrix, row by row; its last row is 0 0 0 1."""
POSITION = ("x", "y", "z")
QUATERNION = ("qx", "qy", "qz", "qw")
"""Columns that hold a rotation as a quaternion, scalar last; its length may be any but 0."""
UPRIGHT = 1e-3
"""Largest difference of the last row of a matrix from 0 0 0 1."""


@dataclass(frozen=True, eq=False)
class Poses:
    """Poses in mm, one for each slice or frame, or one for all.

    Attributes:
        matrices: (n, 4, 4), from the coordinates of the probe or image to those of the patient or tracker; RAS+ where
            there is a patient.
        path: path of the file that the poses were read from, if any.
    """

    matrices: NDArray[np.float64]
    path: Path | None = None

    @property
    def label(self) -> str:
        """Name of the poses for messages: their file, where they have one."""
        return str(self.path or "the poses in memory")


@dataclass(frozen=True)
class PoseRole(Role):
    """A pose for every slice or frame, or one for the whole case: the first three rows of a 4 x 4 matrix in mm.

    Values are `Poses`, or arrays (4, 4) or (n, 4, 4). Prepared arrays are (12, slices, 1, 1) in the order of the slices
    of the working grid, (12, 1, 1, 1) where one pose applies to all: the matrix row by row, so that channels 3, 7 and
    11 are the position in mm.
    """

    kind: ClassVar[str] = "pose"
    on_grid: ClassVar[bool] = False
    suffix: ClassVar[str | None] = ".csv"

    @property
    def channels(self) -> int:
        """Number of channels: the 12 numbers of a 3 x 4 matrix."""
        return len(MATRIX)

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Return the source of the CSV or JSON file ``text``; see `read_poses`."""
        return file_source(folder / text, {".csv": read_poses, ".json": read_poses})

    def check(self, value: Any) -> None:
        """Refuse values that are no invertible matrices with the last row 0 0 0 1."""
        poses = as_poses(value)
        matrices = poses.matrices
        if matrices.ndim != 3 or matrices.shape[1:] != (4, 4) or not len(matrices):
            raise UserError(f"{poses.label}: shape {matrices.shape}, but poses are 4 x 4 matrices")
        if not np.isfinite(matrices).all() or np.abs(matrices[:, 3] - [0, 0, 0, 1]).max() > UPRIGHT:
            raise UserError(f"{poses.label}: the last row of a pose is 0 0 0 1, and all its numbers are finite")
        if (np.abs(np.linalg.det(matrices[:, :3, :3])) < 1e-12).any():
            raise UserError(f"{poses.label}: a pose whose axes lie in one plane; its rotation is damaged")

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return poses in the order of the working slices, float64 (12, slices or 1, 1, 1).

        Raises:
            UserError: there is neither one pose nor one for each slice.
        """
        matrices = as_poses(value).matrices
        rows = list(matrices) if len(matrices) == 1 else to_working_slices(list(matrices), frame, self.name)
        return np.stack([matrix[:3].ravel() for matrix in rows], axis=1)[:, :, None, None]

    def value(self, array: Array, frame: Frame | None, like: Any) -> Poses:
        """Return an array as poses in the order of the source's slices."""
        rows = np.asarray(array, np.float64)[:, :, 0, 0].T
        matrices = np.tile(np.eye(4), (len(rows), 1, 1))
        matrices[:, :3] = rows.reshape(-1, 3, 4)
        return Poses(np.stack(list(to_source_slices(list(matrices), frame if len(matrices) > 1 else None))))

    def stored(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type in which poses are stored: float64, so that no digits are lost."""
        return np.dtype(np.float64)

    def cut(self, array: Array, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """Return the poses of the slices of a block, (12, slices, 1, 1); the single pose where one applies to all."""
        poses = np.asarray(array)
        return poses if poses.shape[1] == 1 else cut(poses, (start[0], 0, 0), (size[0], 1, 1))

    def flip(self, patch: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
        """Return poses in reversed order; other axes are refused, since a pose fixes the position of every pixel."""
        if set(axes) - {0}:
            raise ValueError(f"slices with the pose {self.name} cannot be mirrored: its stream may flip axis 0 only")
        return super().flip(patch, axes)

    def quarter_turns(self, patch: NDArray[Any], turns: int) -> NDArray[Any]:
        """Refuse quarter turns, since a pose fixes the position of every pixel of a slice."""
        if turns % 4:
            raise ValueError(
                f"slices with the pose {self.name} cannot be turned: let their stream have no quarter turns"
            )
        return patch

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """Return the pose of a probe at a random position, in the shape of tensors: (12, [1, [1,]] 1)."""
        matrix = torch.eye(4)[:3].clone()
        matrix[:, 3] = 50 * torch.randn(3, generator=generator)
        return matrix.reshape(-1, *[1] * len(size))

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write a CSV file with the columns m00 to m23 and one row per pose."""
        write_rows(path, MATRIX, as_poses(value).matrices[:, :3].reshape(-1, len(MATRIX)))


def as_poses(value: Any) -> Poses:
    """Convert a bare array (4, 4) or (n, 4, 4) to poses."""
    if isinstance(value, Poses):
        return value
    matrices = np.asarray(value, np.float64)
    return Poses(matrices[None] if matrices.ndim == 2 else matrices)


def read_poses(path: Path) -> Poses:
    """Read poses from a CSV or JSON file with one row or entry per pose.

    - CSV with the columns ``m00`` to ``m23`` (rows of the matrix, mm), or ``x``, ``y``, ``z`` (mm) and the quaternion
      ``qx``, ``qy``, ``qz``, ``qw``; without the latter, positions only.
    - JSON: a matrix of 4 (or 3) rows of 4 numbers, a list of such, or a list of objects with the same keys as the
      columns.

    Raises:
        UserError: the file cannot be read, or holds no poses.
    """
    if path.suffix.lower() == ".csv":
        return _listed(path, read_records(path))
    content = read_json(path)
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list) or not content:
        raise UserError(f"{path}: poses are a matrix of 4 x 4 numbers, or a list of such")
    if all(isinstance(entry, dict) for entry in content):
        return _listed(path, content)
    with parsing(path, "poses, which are matrices of 4 x 4 numbers"):
        matrices = np.array(content, np.float64)
    matrices = matrices[None] if matrices.ndim == 2 else matrices
    if matrices.ndim != 3 or matrices.shape[1:] not in ((3, 4), (4, 4)):
        raise UserError(f"{path}: shape {matrices.shape}, but poses are 4 x 4 matrices")
    if matrices.shape[1] == 3:
        matrices = np.concatenate([matrices, np.tile([0.0, 0.0, 0.0, 1.0], (len(matrices), 1, 1))], axis=1)
    return Poses(matrices, path)


def _listed(path: Path, records: Sequence[Mapping[str, Any]]) -> Poses:
    """Return the poses of the rows of a table."""
    if not records:
        raise UserError(f"{path} holds no poses")
    return Poses(np.stack([_pose(path, record) for record in records]), path)


def _pose(path: Path, record: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the 4 x 4 pose that a row of a table holds, as a matrix or as a position and a quaternion."""
    matrix = np.eye(4)
    if set(MATRIX) <= set(record):
        matrix[:3] = np.reshape([number(record[name], f"{path}: {name}") for name in MATRIX], (3, 4))
        return matrix
    if not set(POSITION) <= set(record):
        raise UserError(
            f"{path} has the columns {', '.join(record)}: it needs {MATRIX[0]} to {MATRIX[-1]}, or "
            f"{', '.join(POSITION)} and perhaps {', '.join(QUATERNION)}"
        )
    matrix[:3, 3] = [number(record[name], f"{path}: {name}") for name in POSITION]
    if given := [name for name in QUATERNION if name in record]:
        if len(given) < len(QUATERNION):
            raise UserError(f"{path} has {', '.join(given)}: a quaternion is {', '.join(QUATERNION)}")
        turn = np.array([number(record[name], f"{path}: {name}") for name in QUATERNION])
        length = np.linalg.norm(turn)
        if not 0 < length < np.inf:
            raise UserError(f"{path}: a quaternion of length {length:g} is no rotation")
        matrix[:3, :3] = Rotation.from_quat(turn / length).as_matrix()
    return matrix
