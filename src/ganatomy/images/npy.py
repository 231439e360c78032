"""Reader and writer of NumPy files with arrays ([[channels,] slices,] rows, columns)."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image, RasterMeaning, Rescale, write_planes
from ganatomy.images.parsing import check_size, parsing
from ganatomy.images.paths import replacing

SUFFIXES = (".npy",)


def open_npy(path: Path) -> NDArray[Any]:
    """Map the array of a NumPy file into memory; raises `UserError` where the file is damaged or something else."""
    with parsing(path, "an array of numbers"):
        array = np.lib.format.open_memmap(path, mode="r")
    if array.offset + array.nbytes != path.stat().st_size:
        raise UserError(f"{path} holds more than the array that its header states: save one array in a file")
    return array


def open_npz(path: Path) -> NpzFile:
    """Open an archive of NumPy arrays, whose arrays are read when they are asked for.

    Raises:
        UserError: the file is no archive, or an array declares more than the archive holds.
    """
    with parsing(path, "arrays of NumPy"):
        with ZipFile(path) as archive:
            entries = archive.infolist()
            check_size(path, sum(entry.file_size for entry in entries), compressed=True)
            for entry in entries:
                with archive.open(entry) as stream:
                    shape, _, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
                check_size(path, prod(shape) * dtype.itemsize, entry.file_size)
        arrays: NpzFile = np.load(path, allow_pickle=False)
        return arrays


_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(path: Path, meaning: RasterMeaning) -> Image:
    """Open an array of numbers, memory-mapped; it is read as a whole when `meaning` rescales it."""
    array = open_npy(path)
    if array.dtype.kind not in "biuf" or not 2 <= array.ndim <= 4 or 0 in array.shape:
        raise UserError(
            f"{path} has shape {array.shape} and type {array.dtype}; an image has 2 to 4 axes of real numbers"
        )
    rescale = Rescale(meaning.slope, meaning.intercept)
    if rescale != Rescale():
        array = rescale.apply(array, rescale.dtype(array.dtype))
    pixel = meaning.pixel_mm or 1.0
    header = Header(kind="npy", paths=(path,), meaning=meaning.geometry)
    return Image.from_array(array, (1.0, pixel, pixel), meaning.unit, header)


def write_npy(path: Path, image: Image) -> None:
    """Write (channels, slices, rows, columns) in native precision, slab by slab."""
    head = {
        "descr": np.lib.format.dtype_to_descr(image.dtype),
        "fortran_order": False,
        "shape": tuple(image.array.shape),
    }
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, head)
        write_planes(stream, image, image.dtype)
