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
    """Open a NIfTI file without reading its voxels; axes beyond the third become channels.

    int16 stays int16 when the file has no scaling; a unit written by `write_nifti` is understood.

    Raises:
        UserError: the file is damaged, or its affine is singular or not finite.
    """
    header = _read_header(path)
    with parsing(path, "NIfTI"):
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
        coded = header.get_qform(coded=True), header.get_sform(coded=True)
    # A matrix that the file does not use may be damaged; it is not written again.
    forms = [(form, int(code)) if form is not None and np.isfinite(form).all() else (None, 0) for form, code in coded]
    marked = re.search(r"unit=(\S+)", bytes(header["descrip"]).rstrip(b"\0").decode("latin-1"))
    return Image(
        NiftiArray(path, header),
        affine[:, [2, 1, 0, 3]],
        marked[1] if marked else None,
        Header(kind="nifti", paths=(path,), forms=tuple(forms)),
    )


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

    A compressed file has one open stream per channel, so that reading slabs in order decompresses no byte twice within
    a channel. Streams must be used by one thread of one process, because another would move the reading position.
    """

    def __init__(self, path: Path, header: Any) -> None:
        """Check the file against its header, which knows its layout."""
        with parsing(path, "NIfTI"):
            columns, rows, slices, *more = (*map(int, header.get_data_shape()), 1, 1)[: max(3, int(header["dim"][0]))]
            self._stored, self._offset = header.get_data_dtype(), int(header.get_data_offset())
            slope, intercept = header.get_slope_inter()
        self.shape = (prod(more), slices, rows, columns)
        self._path = path
        if self._stored.kind not in "iuf":
            raise UserError(f"{path} holds {self._stored} values; an image has real numbers")
        self._rescale = Rescale(1.0 if slope is None else slope, 0.0 if intercept is None else intercept)
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
                    self._fill(slab, start, [stream] * channels)
        return slab

    def _fill(self, slab: NDArray[Any], start: int, streams: list[BinaryIO]) -> None:
        """Read slices from `start` on, each channel from its stream."""
        _, slices, rows, columns = self.shape
        size, plane = slab[0].size * self._stored.itemsize, rows * columns * self._stored.itemsize
        for channel, stream in enumerate(streams):
            stream.seek(self._offset + (channel * slices + start) * plane)
            stored = np.frombuffer(stream.read(size), self._stored).reshape(slab[channel].shape)
            slab[channel] = self._rescale.apply(stored, self.dtype)
        # At the end of a compressed file, its checksum is compared.
        if start + slab.shape[1] == slices and streams[-1].read(1):
            raise UserError(f"{self._path} holds more voxels than its header states; convert the images again")

    def _opened(self) -> list[BinaryIO]:
        here = os.getpid(), threading.get_ident()
        if here not in self._streams:
            self._streams[here] = [cast(BinaryIO, gzip.GzipFile(self._path)) for _ in range(self.shape[0])]
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
        with _writing(temporary, compressed and image.channels == 1) as stream:
            header.write_to(stream)
            write_planes(stream, image, dtype)
        if compressed and image.channels > 1:
            _compress(temporary)


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
