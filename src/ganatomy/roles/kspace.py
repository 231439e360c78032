"""Raw MR data as a kind of role: k-space of one or several receiver coils, as it was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Array, Openable, Preparation, Role, mirrored, slab
from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.images.image import ComputedArray, Image
from ganatomy.images.kspace import moved_samples
from ganatomy.images.paths import replacing


@dataclass(frozen=True)
class KSpaceRole(Role):
    """K-space of MR slices, (2 * coils, slices, rows, columns): real and imaginary part of each coil in turn.

    Values are images of the kind ``kspace``. Rows and columns are frequencies, so nothing is interpolated or rotated:
    where a system works with another number of them, zeros are added around k-space or its outermost samples are
    removed, which keeps the field of view. Patches are whole slices.

    Attributes:
        coils: number of receiver coils.
    """

    coils: int = 1

    kind: ClassVar[str] = "kspace"
    suffix: ClassVar[str | None] = ".npy"

    @property
    def channels(self) -> int:
        """Number of channels: two for each coil."""
        return 2 * self.coils

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Return the source of the file of raw data ``text``: .h5, .mrd, .npy or .npz."""
        return read(folder / text)

    def check(self, value: Any) -> None:
        """Refuse images, and raw data with another number of coils."""
        label = value.header.label
        if value.header.kind != "kspace":
            raise UserError(f"{label}: an image, but {self.name} is raw MR data (.h5, .mrd, or complex .npy)")
        if value.channels != self.channels:
            raise UserError(f"{label}: {value.channels // 2} coils, but {self.name} has {self.coils}")

    def plan(self, value: Any, preparation: Preparation) -> Frame:
        """Return the frame from the stored grid to the one of the system, see `moved_samples`.

        Raises:
            UserError: the system works at another spacing, or with another number of slices.
        """
        frame = Frame.plan(value, "stored")
        wanted = None if preparation.fit == "patches" else preparation.size
        fits = wanted is None or len(wanted) < 3 or wanted[0] == value.shape[0]
        if preparation.spacing is not None or not fits:
            grid = f"{wanted} samples" if preparation.spacing is None else f"a spacing of {preparation.spacing} mm"
            raise UserError(
                f"{value.header.label}: raw data of {value.shape} samples cannot be brought to {grid}; reconstruct "
                "them first and give the image, or choose a size that fits"
            )
        if wanted is None:
            return frame
        size = (value.shape[0], wanted[-2], wanted[-1])
        return replace(frame, scaled=size, size=size)

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return the data with the rows and columns of the system, lazily; unchanged where it takes any number."""
        array: Array = value.array
        if frame is None or frame.identity:
            return array
        if not frame.turn.identity or frame.size[0] != value.shape[0]:
            raise ValueError("raw data are never resampled")
        rows, columns = frame.size[1:]
        shape = (value.channels, *frame.size)
        return ComputedArray(
            shape, np.float32, lambda start, stop: moved_samples(value.slab(start, stop), rows, columns)
        )  # fmt: skip

    def value(self, array: Array, frame: Frame | None, like: Any) -> Image:
        """Return an array as raw data with the size and the header of its source.

        Samples that the working grid does not reach are those of the source.
        """
        affine = np.eye(4) if frame is None else frame.affine
        if like is None:
            image = Image(array, affine, "a.u.")
            return replace(image, header=replace(image.header, kind="kspace", modality="MR"))
        _, rows, columns = like.shape
        reached = moved_samples(np.ones(array.shape[2:], np.float32), rows, columns) > 0

        def back(start: int, stop: int) -> NDArray[np.float32]:
            moved = moved_samples(slab(array, start, stop), rows, columns)
            return np.where(reached, moved, like.slab(start, stop))

        same = tuple(array.shape[2:]) == (rows, columns)
        placed = array if same else ComputedArray((array.shape[0], *like.shape), np.float32, back)
        given: Image = replace(like, array=placed)
        return given

    def cut(self, array: Array, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """Return whole slices, mirrored where the block reaches beyond the first or the last one."""
        _, slices, rows, columns = array.shape
        if (tuple(start[1:]), tuple(size[1:])) != ((0, 0), (rows, columns)):
            raise ValueError(
                f"a part of {size[1]} x {size[2]} samples of {self.name}, which has {rows} x {columns}: k-space is "
                "taken whole"
            )
        places = mirrored(np.arange(start[0], start[0] + size[0]), slices)
        return np.asarray(array if isinstance(array, np.ndarray) else np.asarray(array))[:, places]

    def flip(self, patch: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
        """Return the slices in reversed order; rows and columns are frequencies, which are not mirrored like pixels."""
        if set(axes) - {0}:
            raise ValueError(f"{self.name} is k-space, which cannot be mirrored: its stream may flip axis 0 only")
        return super().flip(patch, axes)

    def quarter_turns(self, patch: NDArray[Any], turns: int) -> NDArray[Any]:
        """Refuse quarter turns, since frequencies cannot be rotated like pixels."""
        if turns % 4:
            raise ValueError(f"{self.name} is k-space, which cannot be rotated: its stream must have no quarter turns")
        return patch

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write complex numbers (slices, coils, rows, columns) as a NumPy file, which can be read as raw data again.

        Raises:
            UserError: the suffix is another one, or the path cannot be written.
        """
        if path.suffix.lower() != ".npy":
            raise UserError(f"{path}: cannot write raw data as {path.suffix or 'a folder'}: choose .npy")
        parts = value.numpy().astype(np.float32)
        kspace = (parts[0::2] + 1j * parts[1::2]).astype(np.complex64)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, kspace.swapaxes(0, 1))

    def describe(self) -> dict[str, Any]:
        """Return the role as values that JSON can hold, with its number of coils."""
        return {**super().describe(), "coils": self.coils}
