"""Reader and writer of NIfTI files, streamed along slices. Indices (i, j, k) become (column, row, slice)."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image, LazyArray, Rescale, write_planes
from ganatomy.images.parsing import check_size, parsing
from ganatomy.images.paths import replacing

SUFFIXES = (".nii", ".nii.gz")

nib: Any = nibabel  # its types are incomplete, and wrong for headers


def read_nifti(path: Path) -> Image:
    """Open a NIfTI file without reading its voxels; colours and axes beyond the third become channels.

    int16 stays int16 when the file has no scaling; a unit written by `write_nifti` is understood. Distances in metres
    or micrometres, as the header may state them, become mm.

    Raises:
        UserError: the file is damaged, or its affine is singular or not finite.
    """
    header = _read_header(path)
    with parsing(path, "NIfTI"):
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        coded = header.get_qform(coded=True), header.get_sform(coded=True)
    mm = scale_in_mm(header)
    # A matrix that the file does not use may be damaged; it is not written again.
    forms = [
        (_scaled(form, mm), int(code)) if form is not None and np.isfinite(form).all() else (None, 0)
        for form, code in coded
    ]
    array = NiftiArray(path, header)
    return Image(
        array,
        _scaled(affine, mm)[:, [2, 1, 0, 3]],
        unit_of(header),
        Header(kind="nifti", paths=(path,), forms=tuple(forms), colours=array.colours > 1),
    )


def scale_in_mm(header: Any) -> float:
    """Return the unit of distances of a header of nibabel in mm; 1 for formats that state none."""
    return _MM.get(int(header["xyzt_units"]) & 7, 1.0) if isinstance(header, nib.Nifti1Header) else 1.0


def unit_of(header: Any) -> str | None:
    """Return the unit of the values that `write_nifti` writes into a header; None where there is none."""
    if not isinstance(header, nib.Nifti1Header):
        return None
    found = re.search(r"unit=(\S+)", bytes(header["descrip"]).rstrip(b"\0").decode("latin-1"))
    return found[1] if found else None


def _scaled(affine: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """Return an affine to coordinates that are multiplied by a factor."""
    return affine * [[factor], [factor], [factor], [1.0]]


_MM = {1: 1000.0, 2: 1.0, 3: 0.001}
"""Code of a unit of length in a header (metre, millimetre, micrometre) to mm; without a unit, numbers are mm."""


def _read_header(path: Path) -> Any:
    """Read the header of a NIfTI-1 or NIfTI-2 file, without its extensions.

    Raises:
        UserError: the file is no NIfTI, or its header holds no sizes or distances.
    """
    with parsing(path, "NIfTI"):
        with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as stream:
            kind = _KINDS.get(stream.read(4))
            if kind is None:
                raise ValueError("it does not begin with the size of a header")
            stream.seek(0)
            raw = stream.read(kind.template_dtype.itemsize)
        with nib.imageglobals.LoggingOutputSuppressor():
            header, stated = kind(raw), kind(raw, check=False)
    if header["magic"].item() != header.single_magic:
        raise UserError(f"{path} says that its voxels lie in another file: save both as one .nii file")
    number, sizes = int(stated["dim"][0]), [int(size) for size in stated["dim"][1:]]
    if not 1 <= number <= 7 or min(sizes[:number]) < 1:
        raise UserError(f"{path}: its header states {number} axes of {sizes} voxels; convert the images again")
    # Only without a matrix, distances place the voxels; nibabel would replace 0 by 1.
    steps = np.asarray(stated["pixdim"][1 : 1 + min(number, 3)], np.float64)
    if int(header["sform_code"]) <= 0 and not (np.isfinite(steps) & (steps > 0)).all():
        raise UserError(f"{path}: its header states voxels of {steps.tolist()} mm; convert the images again")
    if 3000 <= int(header["intent_code"]) < 3100:
        raise UserError(f"{path} is CIFTI, which holds values of a surface and no image")
    return header


_KINDS: dict[bytes, Any] = {
    size.to_bytes(4, order): kind
    for size, kind in ((348, nib.Nifti1Header), (540, nib.Nifti2Header))
    for order in ("little", "big")
}
"""First four bytes of a file, the size of its header, to nibabel's class of headers."""


class NiftiArray(LazyArray):
    """Lazy array of the voxels of a NIfTI file, which is opened for every slab, or stays open where it is compressed.

    A compressed file has one open stream per volume, so that reading slabs in order decompresses no byte twice within
    a volume. Streams must be used by one thread of one process, because another would move the reading position.

    Attributes:
        colours: number of colours of a voxel, which lie side by side in the file and become channels; 1 where a voxel
            is one number.
    """

    def __init__(self, path: Path, header: Any) -> None:
        """Check the file against its header, which knows its layout."""
        with parsing(path, "NIfTI"):
            columns, rows, slices, *more = (*map(int, header.get_data_shape()), 1, 1)[: max(3, int(header["dim"][0]))]
            self._stored, self._offset = header.get_data_dtype(), int(header.get_data_offset())
            slope, intercept = header.get_slope_inter()
        self.colours = len(self._stored.names or "-")
        self.shape = (prod(more) * self.colours, slices, rows, columns)
        self._path = path
        if self.colours > 1 and prod(more) > 1:
            raise UserError(f"{path} holds {prod(more)} volumes in colours: save each of them as a file of its own")
        self._rescale = Rescale(1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
        if self.colours > 1:  # a voxel is one byte for each colour, to which no scaling applies
            self._stored, self._rescale = np.dtype(np.uint8), Rescale()
        if self._stored.kind not in "iuf":
            raise UserError(f"{path} holds {self._stored} values; an image has real numbers")
        self.dtype = self._rescale.dtype(self._stored)
        self._compressed = path.name.lower().endswith(".gz")
        self._streams: dict[tuple[int, int], list[BinaryIO]] = {}
        size = prod(self.shape) * self._stored.itemsize
        check_size(path, self._offset + size, compressed=self._compressed)

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices `start` to `stop`; raises `UserError` when the file is damaged."""
        channels, slices, rows, columns = self.shape
        start, stop, _ = slice(start, stop).indices(slices)
        slab = np.empty((channels, max(stop - start, 0), rows, columns), self.dtype)
        with parsing(self._path, "NIfTI"):
            if self._compressed:
                self._fill(slab, start, self._opened())
            else:
                with self._path.open("rb") as stream:
                    self._fill(slab, start, [stream] * (channels // self.colours))
        return slab

    def _fill(self, slab: NDArray[Any], start: int, streams: list[BinaryIO]) -> None:
        """Read slices from `start` on, each volume from its stream."""
        _, slices, rows, columns = self.shape
        plane = rows * columns * self.colours * self._stored.itemsize
        for number, stream in enumerate(streams):
            volume = slab[number * self.colours : (number + 1) * self.colours]
            stream.seek(self._offset + (number * slices + start) * plane)
            stored = np.frombuffer(stream.read(slab.shape[1] * plane), self._stored)
            voxels = np.moveaxis(stored.reshape(*volume.shape[1:], self.colours), -1, 0)
            volume[:] = self._rescale.apply(voxels, self.dtype)
        # At the end of a compressed file, its checksum is compared.
        if start + slab.shape[1] == slices and streams[-1].read(1):
            raise UserError(f"{self._path} holds more voxels than its header states; convert the images again")

    def _opened(self) -> list[BinaryIO]:
        here = os.getpid(), threading.get_ident()
        if here not in self._streams:
            volumes = self.shape[0] // self.colours
            self._streams[here] = [cast(BinaryIO, gzip.GzipFile(self._path)) for _ in range(volumes)]
        return self._streams[here]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_streams": {}}


def write_nifti(path: Path, image: Image) -> None:
    """Write NIfTI-1 slab by slab, with the unit in `descrip` and the geometry in mm as qform, sform and pixdim.

    Where the distance of pixels is not known, numbers of pixels take the place of mm, and the header states no unit.
    Colours of 8 bits become RGB24 or RGBA32, other channels the fourth axis.

    Raises `UserError` when slices are unevenly spaced, which NIfTI cannot express.
    """
    if image.uneven:
        raise UserError(
            f"{image.header.label} has unevenly spaced slices, which NIfTI cannot express: write a DICOM folder instead"
        )
    dtype = _storable(image.dtype)
    colours = image.header.colours and dtype == np.uint8 and image.channels in (3, 4)
    header = _header(image, _COLOURS[image.channels] if colours else dtype, 1 if colours else image.channels)
    compressed = path.name.lower().endswith(".gz")
    seeks = image.channels > 1 and not colours
    with replacing(path) as temporary:
        with _writing(temporary, compressed and not seeks) as stream:
            header.write_to(stream)
            if colours:
                stream.writelines(np.moveaxis(slab, 0, -1).tobytes() for slab in image.slabs())
            else:
                write_planes(stream, image, dtype)
        if compressed and seeks:
            _compress(temporary)


def as_nibabel(image: Image) -> Any:
    """Return a `nibabel.Nifti1Image` with the header that `write_nifti` writes; 8-bit colours are the fourth axis.

    Raises:
        UserError: the slices are unevenly spaced.
    """
    if image.uneven:
        raise UserError(f"{image.header.label} has unevenly spaced slices, which NIfTI cannot express")
    dtype = _storable(image.dtype)
    values = image.numpy().astype(dtype, copy=False).transpose(3, 2, 1, 0)
    values = values if image.channels > 1 else values[..., 0]
    return nib.Nifti1Image(values, image.affine[:, [2, 1, 0, 3]], _header(image, dtype, image.channels), dtype=dtype)


_COLOURS = {3: np.dtype([(name, np.uint8) for name in "RGB"]), 4: np.dtype([(name, np.uint8) for name in "RGBA"])}
"""Number of colours, opacity among them, to the type of a voxel."""


def _compress(path: Path) -> None:
    packed = path.with_name(f"{path.name}.gz")
    try:
        with path.open("rb") as source, _writing(packed, compressed=True) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        packed.replace(path)
    finally:
        packed.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path, compressed: bool) -> Iterator[BinaryIO]:
    with path.open("wb") as stream:
        if compressed:
            # On CT, level 1 takes a quarter of the time of level 6 and 2 % more space. Without the name of a temporary
            # file and the time in its header, equal images are equal files.
            with gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        else:
            yield stream


def _storable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    if dtype == np.float16:
        return np.dtype(np.float32)
    return dtype.newbyteorder("=")


def _header(image: Image, dtype: np.dtype[Any], volumes: int) -> Any:
    slices, rows, columns = image.shape
    affine = image.affine[:, [2, 1, 0, 3]]
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    sizes = (columns, rows, slices, volumes)
    if max(sizes) > 32767:
        raise UserError(f"{image.header.label} is too large for NIfTI ({max(sizes)} > 32767): write .npy instead")
    header.set_data_shape(sizes if volumes > 1 else sizes[:3])
    header.set_xyzt_units("mm" if image.header.scaled else None)
    header.set_slope_inter(1, 0)
    if image.unit:
        header["descrip"] = f"unit={image.unit}".encode("latin-1", "replace")
    # Readers take distances from pixdim, whatever the codes; a qform sets its own, which are those of its matrix.
    header["pixdim"][1:4] = np.linalg.norm(affine[:3, :3], axis=0)
    for (form, code), put in zip(_forms(image, affine), (header.set_qform, header.set_sform), strict=True):
        put(form, code)
    header["vox_offset"] = header.single_vox_offset
    return header


def _forms(image: Image, affine: NDArray[np.float64]) -> tuple[tuple[NDArray[np.float64] | None, int], ...]:
    """Return qform and sform, each with its code: those of the file while they still hold, else both the affine.

    A file with neither has no origin, and readers agree on one as long as distances alone place the voxels. On another
    grid, such as a part of its volume, both have the code of coordinates that are aligned to another file, as have
    pictures and other images whose place in the scanner is not known. A qform cannot express shear, and is left out
    where there is any.
    """
    code = 1 if image.header.placed else 2
    if image.header.forms:
        (qform, qcode), (sform, scode) = image.header.forms
        best = sform if scode else qform if qcode else _unplaced(image, affine)
        if best is not None and _close(best, affine, image.shape):
            return image.header.forms
        code = max(scode, qcode) or 2
    probe = nib.Nifti1Header()
    probe.set_qform(affine, 1)
    sheared = not _close(probe.get_qform(), affine, image.shape)
    return (None if sheared else affine, 0 if sheared else code), (affine, code)


def _unplaced(image: Image, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine of a file that states distances alone, from the voxel (column, row, slice)."""
    header = nib.Nifti1Header()
    header.set_data_shape(image.shape[::-1])
    header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    return np.asarray(header.get_base_affine())


def _close(one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, int, int]) -> bool:
    """Return whether two affines place all voxels of a volume alike, to a hundredth of the smallest distance."""
    corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*shape[::-1], 1)
    smallest = np.linalg.norm(other[:3, :3], axis=0).min()
    return bool(np.abs((one - other) @ corners.T).max() < 0.01 * smallest)
