"""Reader and writer of NumPy files with arrays ([[channels,] slices,] rows, columns)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image, RasterMeaning, Rescale, write_planes
from ganatomy.images.paths import replacing

SUFFIXES = (".npy",)


def read_npy(path: Path, meaning: RasterMeaning) -> Image:
    """Open an array of numbers, memory-mapped; it is read as a whole when `meaning` rescales it."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as an array of numbers: {error}") from error
    if array.dtype.kind not in "biuf" or not 2 <= array.ndim <= 4:
        raise UserError(
            f"{path} has shape {array.shape} and type {array.dtype}; an image has 2 to 4 axes of real numbers"
        )
    rescale = Rescale(meaning.slope, meaning.intercept)
    if rescale != Rescale():
        array = rescale.apply(array, rescale.dtype(array.dtype))
    pixel = meaning.pixel_mm or 1.0
    return Image.from_array(array, (1.0, pixel, pixel), meaning.unit, Header(kind="npy", paths=(path,)))


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
