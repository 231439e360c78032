"""Reader and writer of raster images without units: PNG, JPEG, TIFF, BMP and GIF of 8 or 16 bits, grey or colour."""

from __future__ import annotations

import struct
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageSequence

from ganatomy.errors import UserError
from ganatomy.images.image import NO_MEANING, Header, Image, RasterMeaning, Rescale
from ganatomy.images.parsing import check_size, parsing
from ganatomy.images.paths import replacing

TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", *TIFF_SUFFIXES)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF")
"""Formats that Pillow may take a file for: PostScript in a file called .png would be handed to Ghostscript and run."""


def read_raster(path: Path, meaning: RasterMeaning, labels: bool = False) -> Image:
    """Read a raster image, or a TIFF whose pages are slices, with every bit of the file.

    Values are ``slope * stored + intercept``, integers while both are integral. Colour becomes 3 channels, a grey
    palette 1; a fourth channel is kept only where the image is transparent somewhere.

    Args:
        path: File.
        meaning: Physical values of the stored numbers; for label maps, only the pixel size.
        labels: Whether numbers are labels: palette indices stay as they are, an image of one bit holds 0 and 1, and
            equal colour channels become one.

    Raises:
        UserError: The file is damaged, or a label map is in colours.
    """
    with parsing(path, "a picture"):
        stored = (_tiff if path.suffix.lower() in TIFF_SUFFIXES else _picture)(path, labels)
    if not stored.size:
        raise UserError(f"{path} holds no pixels (shape {stored.shape}): copy or export it again")
    stored = _without_opaque_alpha(stored)
    if labels:
        stored, meaning = _one_channel(path, stored), RasterMeaning(pixel_mm=meaning.pixel_mm)
    rescale = Rescale(meaning.slope, meaning.intercept)
    ends = (int(stored.min()), int(stored.max())) if stored.dtype.kind in "iu" else (None, None)
    pixel = meaning.pixel_mm or 1.0
    header = Header(kind="raster", paths=(path,), meaning=meaning, stored=stored.dtype)
    values = rescale.apply(stored, rescale.dtype(stored.dtype, *ends))
    return Image.from_array(values, (1.0, pixel, pixel), meaning.unit, header)


def _picture(path: Path, labels: bool) -> NDArray[Any]:
    """Read all frames as (channels, slices, rows, columns)."""
    with Pillow.open(path, formats=FORMATS) as file:
        raw = file.tile[0].args if file.format == "PNG" and file.tile else ""
        if raw in ("RGB;16B", "RGBA;16B"):
            return _deep_colour(path, str(raw))
        if raw == "LA;16B":
            raise UserError(f"{path} is 16-bit grey with transparency, which would lose bits: save it without")
        if file.format == "GIF" and not path.read_bytes().rstrip(b"\0").endswith(b";"):
            raise UserError(f"{path} is truncated: a GIF ends with a semicolon; copy or export it again")
        pages: list[NDArray[Any]] = []
        for frame in ImageSequence.Iterator(file):
            pages.append(_page(frame, labels))
            check_size(path, pages[0].nbytes * len(pages), compressed=True)
        count = getattr(file, "n_frames", 1)
        if len(pages) != count:
            raise UserError(f"{path} is truncated: {len(pages)} of {count} frames; copy or export it again")
    stack = np.stack(pages, axis=1)
    # Pillow scales greys of 2 and 4 bits to 8 bits.
    return stack // {"L;2": 85, "L;4": 17}.get(str(raw), 1) if labels else stack


def _deep_colour(path: Path, raw: str) -> NDArray[np.uint16]:
    """Read a 16-bit colour PNG, for which Pillow has no mode.

    Pillow keeps the more significant byte of each number, or the other one if it takes the file as little-endian; both
    are read and combined.
    """
    halves = []
    for order in (raw, raw.replace("16B", "16L")):
        with Pillow.open(path, formats=FORMATS) as file:
            file.tile = [tile._replace(args=order) for tile in file.tile]
            halves.append(np.asarray(file).astype(np.uint16))
    return np.moveaxis(halves[0] * 256 + halves[1], -1, 0)[:, None]


def _page(frame: Pillow.Image, labels: bool) -> NDArray[Any]:
    """Return one frame as (channels, rows, columns)."""
    if labels and frame.mode in ("P", "1"):
        return np.asarray(frame).astype(np.uint8)[None]
    if frame.mode == "P":
        frame = frame.convert("RGB")
        red, green, blue = frame.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            frame = red
    elif frame.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
        frame = frame.convert("L" if frame.mode == "1" else "RGB")
    pixels = np.asarray(frame)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _tiff(path: Path, labels: bool) -> NDArray[Any]:
    """Read the first series of a TIFF as (channels, slices, rows, columns)."""
    # Files of some microscopes refer to other files beside them, which are not opened.
    with tifffile.TiffFile(path, _multifile=False, is_mmstack=False, is_ndtiff=False) as file:
        _check_pages(path, file)
        series = file.series[0]
        page: Any = series.keyframe
        packed = page.compression != 1 or page.bitspersample % 8 > 0
        check_size(path, prod(series.shape) * series.dtype.itemsize, compressed=packed)
        colourful = page.samplesperpixel > 1 and page.bitspersample > 8
        try:
            if page.photometric == tifffile.PHOTOMETRIC.PALETTE and not labels:
                return _picture(path, labels)
            pixels, axes = series.asarray(), series.axes
        except ValueError as error:  # Pillow may know compressions that tifffile does not
            if colourful:
                raise UserError(f"{path} cannot be read with all its bits ({error}): save it with deflate") from error
            return _picture(path, labels)
    white = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    if pixels.dtype == np.bool_:
        pixels = (pixels ^ (white and labels)).astype(np.uint8) * np.uint8(1 if labels else 255)
    if white and pixels.dtype.kind == "u" and not labels:
        pixels = np.iinfo(pixels.dtype).max - pixels
    colours = [i for i, axis in enumerate(axes) if axis in "CS"]
    slices = [i for i, axis in enumerate(axes) if axis not in "CSYX"]
    ordered = pixels.transpose(*colours, *slices, axes.index("Y"), axes.index("X"))
    counts = [prod(pixels.shape[i] for i in group) for group in (colours, slices)]
    return ordered.reshape(*counts, *ordered.shape[-2:])


def _check_pages(path: Path, file: tifffile.TiffFile) -> None:
    """Refuse a TIFF whose pages are not all there, or are no stack; tifffile reads those that it finds.

    Raises:
        UserError: the last page leads on to one that cannot be read, pages differ, or belong to other files.
    """
    number, place = len(file.pages), file.pages.next_page_offset
    file.filehandle.seek(place or 0)
    following = file.filehandle.read(file.tiff.offsetsize)
    if place and following.strip(b"\0"):
        raise UserError(f"{path} is truncated or damaged behind page {number}: copy or export it again")
    first, *others = file.series
    if file.is_ome and (first.kind != "ome" or None in list(first)):
        raise UserError(f"{path}: not all pages that its OME header names lie in this file: save them as one file")
    if first.kind in ("generic", "uniform", "shaped") and not all(one.keyframe.is_reduced for one in others):
        shapes = ", ".join(str(one.shape) for one in file.series[:4])
        raise UserError(f"{path} holds pages of different kinds ({shapes}): save those of one image alone")


def _one_channel(path: Path, stored: NDArray[Any]) -> NDArray[Any]:
    """Return the label map of an image whose channels are all equal.

    Raises:
        UserError: The channels differ.
    """
    if not (stored == stored[:1]).all():
        raise UserError(
            f"{path} is in colours, which are no labels: save it in grey, or with a palette whose indices are labels"
        )
    return stored[:1]


def _without_opaque_alpha(stored: NDArray[Any]) -> NDArray[Any]:
    if len(stored) in (2, 4) and stored.dtype.kind == "u" and (stored[-1] == np.iinfo(stored.dtype).max).all():
        return stored[:-1]
    return stored


def write_png(path: Path, image: Image, meaning: RasterMeaning | None = None) -> None:
    """Write one slice of 1 to 4 channels as PNG of 8 or 16 bits, whichever the image or its source has.

    Raises `UserError` for a volume, for real numbers without a meaning that maps them, and for values that
    the bits cannot hold: nothing is clipped.
    """
    slices, rows, columns = image.shape
    if slices != 1 or image.channels > 4:
        raise UserError(
            f"{path}: a PNG holds 1 slice of at most 4 channels, not {slices} of {image.channels}: "
            "choose .tif or .nii.gz"
        )
    if image.dtype.kind == "f" and meaning is None and image.header.meaning == NO_MEANING:
        raise UserError(
            f"{path}: a PNG holds no real numbers: choose .tif or .nii.gz, or say with a slope and an "
            "intercept what its integers mean"
        )
    stored_as = image.dtype if image.header.stored is None else image.header.stored
    deep = stored_as not in (np.dtype(np.uint8), np.dtype(np.bool_))
    pixels = _stored(path, image.numpy(), meaning or image.header.meaning, np.dtype(np.uint16 if deep else np.uint8))
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[image.channels]
    scanlines = np.moveaxis(pixels[:, 0], 0, -1).astype(pixels.dtype.newbyteorder(">")).reshape(rows, -1)
    bytes_ = scanlines.view(np.uint8)
    # Differences between rows (PNG's filter 2) compress much better than the rows themselves.
    differences = np.diff(bytes_, axis=0, prepend=np.zeros_like(bytes_[:1]))
    filtered = np.insert(differences, 0, 2, axis=1)
    head = struct.pack(">IIBBBBB", columns, rows, 16 if deep else 8, colour, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, body in chunks:
            checksum = zlib.crc32(name + body)
            file.write(struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum))


def write_tiff(path: Path, image: Image, meaning: RasterMeaning | None = None) -> None:
    """Write slices as pages of a TIFF in native precision, page by page; 3 channels as RGB, 4 as RGBA."""
    if image.channels not in (1, 3, 4):
        raise UserError(f"{path}: a TIFF page here has 1, 3 or 4 channels, not {image.channels}: choose .npy")
    meaning = meaning or image.header.meaning
    dtype = np.dtype(np.uint8) if image.dtype == np.bool_ else image.dtype
    if dtype.kind in "iu" and (meaning.slope, meaning.intercept) != (1.0, 0.0):
        dtype = np.dtype(np.uint16 if image.header.stored is None else image.header.stored)

    def pages() -> Any:
        for slab in image.slabs():
            for page in np.moveaxis(_stored(path, slab, meaning, dtype), 0, -1):
                yield np.ascontiguousarray(page if image.channels > 1 else page[..., 0])

    shape = (*image.shape, image.channels) if image.channels > 1 else image.shape
    photometric = "rgb" if image.channels > 1 else "minisblack"
    alpha = ["unassalpha"] if image.channels == 4 else None
    large = prod(shape) * dtype.itemsize > 2**32 - 2**25
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=large) as file:
        file.write(pages(), shape=shape, dtype=dtype, photometric=photometric, extrasamples=alpha)


def _stored(path: Path, values: NDArray[Any], meaning: RasterMeaning, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the numbers to store for `values`, exactly or (real values in an integer file) to the nearest step."""
    if (meaning.slope, meaning.intercept) == (1.0, 0.0) and values.dtype == dtype:
        return values
    stored = (values.astype(np.float64) - meaning.intercept) / meaning.slope
    if dtype.kind == "f":
        return stored.astype(dtype)
    whole = np.rint(stored)
    limits = np.iinfo(dtype)
    if not (np.isfinite(whole).all() and limits.min <= whole.min() and whole.max() <= limits.max):
        raise UserError(
            f"{path}: values from {values.min():g} to {values.max():g} do not fit {limits.bits}-bit integers "
            f"from {limits.min} (with slope {meaning.slope:g}, intercept {meaning.intercept:g}): choose "
            ".nii.gz, or another slope and intercept"
        )
    if values.dtype.kind in "iu" and np.abs(stored - whole).max() > 1e-9:
        raise UserError(f"{path}: a slope of {meaning.slope:g} would round the values: choose .nii.gz or slope 1")
    return whole.astype(dtype)
