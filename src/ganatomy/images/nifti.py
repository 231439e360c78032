"""Reader and writer of NIfTI files, streamed along slices. Indices (i, j, k) become (column, row, slice)."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import threading
import zlib
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel
import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image, LazyArray, Rescale, write_planes
from ganatomy.images.paths import replacing

SUFFIXES = (".nii", ".nii.gz")

nib: Any = nibabel  # its types are incomplete, and wrong for headers


def read_nifti(path: Path) -> Image:
    """Open a NIfTI file without reading its voxels; axes beyond the third become channels.

    int16 stays int16 when the file has no scaling; a unit written by `write_nifti` is understood.

    Raises:
        UserError: the file is damaged, or its affine is singular or not finite.
    """
    try:
        file = nib.load(path)
    except (OSError, ValueError, EOFError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise UserError(f"{path} cannot be read as NIfTI: {error}") from error
    marked = re.search(r"unit=(\S+)", bytes(file.header["descrip"]).rstrip(b"\0").decode("latin-1"))
    affine = np.asarray(file.affine, dtype=np.float64)
    if not (np.isfinite(affine).all() and np.linalg.matrix_rank(affine[:3, :3]) == 3):
        raise UserError(
            f"{path}: its affine places no voxels in space (it is singular or not finite); "
            "correct the qform or sform, or convert the images again"
        )
    forms = file.header.get_qform(coded=True), file.header.get_sform(coded=True)
    return Image(
        NiftiArray(path, file.dataobj),
        affine[:, [2, 1, 0, 3]],
        marked[1] if marked else None,
        Header(kind="nifti", paths=(path,), forms=tuple((form, int(code)) for form, code in forms)),
    )


class NiftiArray(LazyArray):
    """Lazy array of the voxels of a NIfTI file, read from one open stream per channel.

    Reading the slabs of a compressed file in order therefore decompresses no byte twice within a channel. Streams must
    be used by one thread of one process, because another would move the reading position.
    """

    def __init__(self, path: Path, proxy: Any) -> None:
        """Check the file of nibabel's `ArrayProxy`, which knows its layout."""
        columns, rows, slices, *more = (*proxy.shape, 1, 1, 1)[: max(3, len(proxy.shape))]
        self.shape = (prod(more), slices, rows, columns)
        self._path, self._stored, self._offset = path, proxy.dtype, proxy.offset
        if self._stored.kind not in "iuf":
            raise UserError(f"{path} holds {self._stored} values; an image has real numbers")
        self._rescale = Rescale(float(proxy.slope), float(proxy.inter))
        self.dtype = self._rescale.dtype(self._stored)
        self._compressed = path.name.lower().endswith(".gz")
        self._streams: dict[tuple[int, int], list[BinaryIO]] = {}
        expected = self._offset + prod(self.shape) * self._stored.itemsize
        if not self._compressed and path.stat().st_size < expected:
            raise UserError(f"{path} is truncated: {path.stat().st_size} of {expected} bytes; copy it again")

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices `start` to `stop`; raises `UserError` when the file is damaged."""
        channels, slices, rows, columns = self.shape
        start, stop, _ = slice(start, stop).indices(slices)
        slab = np.empty((channels, max(stop - start, 0), rows, columns), self.dtype)
        size = slab[0].size * self._stored.itemsize
        try:
            streams = self._opened()
            for channel in range(channels):
                stream = streams[channel % len(streams)]
                before = (channel * slices + start) * rows * columns
                stream.seek(self._offset + before * self._stored.itemsize)
                stored = np.frombuffer(stream.read(size), self._stored).reshape(slab[channel].shape)
                slab[channel] = self._rescale.apply(stored, self.dtype)
        except (OSError, ValueError, EOFError, zlib.error) as error:
            raise UserError(f"{self._path} is truncated or damaged: {error}") from error
        return slab

    def _opened(self) -> list[BinaryIO]:
        here = os.getpid(), threading.get_ident()
        if here not in self._streams:
            number = self.shape[0] if self._compressed else 1
            self._streams[here] = [_open(self._path, "rb", self._compressed) for _ in range(number)]
        return self._streams[here]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_streams": {}}


def write_nifti(path: Path, image: Image) -> None:
    """Write NIfTI-1 slab by slab, with the unit in `descrip` and the geometry as qform and sform.

    Raises `UserError` when slices are unevenly spaced, which NIfTI cannot express.
    """
    if image.uneven:
        raise UserError(
            f"{image.header.label} has unevenly spaced slices, which NIfTI cannot express: write a DICOM folder instead"
        )
    dtype = _storable(image.dtype)
    header = _header(image, dtype)
    compressed = path.name.lower().endswith(".gz")
    with replacing(path) as temporary:
        with _open(temporary, "wb", compressed and image.channels == 1) as stream:
            header.write_to(stream)
            write_planes(stream, image, dtype)
        if compressed and image.channels > 1:
            _compress(temporary)


def _compress(path: Path) -> None:
    packed = path.with_name(f"{path.name}.gz")
    try:
        with path.open("rb") as source, _open(packed, "wb", compressed=True) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        packed.replace(path)
    finally:
        packed.unlink(missing_ok=True)


def _open(path: Path, mode: str, compressed: bool) -> BinaryIO:
    # On CT, level 1 takes a quarter of the time of level 6 and 2 % more space.
    opened = gzip.open(path, mode, compresslevel=1) if compressed else path.open(mode)  # noqa: SIM115
    return cast(BinaryIO, opened)


def _storable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype == np.bool_:
        return np.dtype(np.uint8)
    if dtype == np.float16:
        return np.dtype(np.float32)
    return dtype.newbyteorder("=")


def _header(image: Image, dtype: np.dtype[Any]) -> Any:
    slices, rows, columns = image.shape
    affine = image.affine[:, [2, 1, 0, 3]]
    header = nib.Nifti1Header()
    header.set_data_dtype(dtype)
    sizes = (columns, rows, slices, image.channels)
    if max(sizes) > 32767:
        raise UserError(f"{image.header.label} is too large for NIfTI ({max(sizes)} > 32767): write .npy instead")
    header.set_data_shape(sizes if image.channels > 1 else sizes[:3])
    header.set_xyzt_units("mm")
    header.set_slope_inter(1, 0)
    if image.unit:
        header["descrip"] = f"unit={image.unit}".encode("latin-1", "replace")
    for (form, code), put in zip(_forms(image, affine), (header.set_qform, header.set_sform), strict=True):
        put(form, code)
    header["vox_offset"] = header.single_vox_offset
    return header


def _forms(image: Image, affine: NDArray[np.float64]) -> tuple[tuple[NDArray[np.float64] | None, int], ...]:
    """Return qform and sform, each with its code: those of the file while they still hold, else both the affine.

    A qform cannot express shear, and is left out where there is any.
    """
    if image.header.forms:
        (qform, qcode), (sform, scode) = image.header.forms
        best = sform if scode else qform if qcode else None
        if best is not None and np.allclose(best, affine, atol=1e-5):
            return image.header.forms
    probe = nib.Nifti1Header()
    probe.set_qform(affine, 1)
    sheared = not np.allclose(probe.get_qform(), affine, atol=1e-3)
    return (None if sheared else affine, 0 if sheared else 1), (affine, 1)
