"""Reader and writer of raster images without units: PNG, JPEG, TIFF, BMP, GIF, WebP; 8 or 16 bits, grey or colour."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageSequence

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image, RasterMeaning, Rescale
from ganatomy.images.parsing import check_size, parsing
from ganatomy.images.paths import replacing
from ganatomy.images.pixel_size import LARGEST, SMALLEST, PixelSize, of_picture, of_tiff

TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", *TIFF_SUFFIXES)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
"""Formats that Pillow may take a file for: PostScript in a file called .png would be handed to Ghostscript and run."""


@dataclass(frozen=True)
class _Stored:
    """Numbers of a file, as they are shown.

    Attributes:
        pixels: (channels, slices, rows, columns).
        size: size of the pixels, where the file states one.
        colours: whether the channels are colours of one picture, and opacity.
    """

    pixels: NDArray[Any]
    size: PixelSize | None = None
    colours: bool = False


def read_raster(path: Path, meaning: RasterMeaning, labels: bool = False) -> Image:
    """Read a raster image, or a TIFF whose pages are slices, with every bit of the file.

    Values are ``slope * stored + intercept``, integers while both are integral. Pixels lie as EXIF says that they are
    shown. Colour becomes 3 channels, a grey palette 1; a fourth channel is kept only where the image is transparent
    somewhere and `meaning` has no background. Time frames of a TIFF become channels. The size of pixels is that of
    `meaning`, else that of the file.

    Args:
        path: File.
        meaning: Physical values of the stored numbers; for label maps, only the pixel size.
        labels: Whether numbers are labels: palette indices stay as they are, an image of one bit holds 0 and 1, and
            equal colour channels become one.

    Raises:
        UserError: The file is damaged, has axes that are no image, or a label map is in colours.
    """
    with parsing(path, "a picture"):
        found = (_tiff if path.suffix.lower() in TIFF_SUFFIXES else _picture)(path, labels)
    stored = found.pixels
    if not stored.size:
        raise UserError(f"{path} holds no pixels (shape {stored.shape}): copy or export it again")
    if found.colours:
        stored = _without_opacity(stored, meaning.background)
    if labels:
        stored, meaning = _one_channel(path, stored), meaning.geometry
    rescale = Rescale(meaning.slope, meaning.intercept)
    ends = (int(stored.min()), int(stored.max())) if stored.dtype.kind in "iu" else (None, None)
    spacing, sized_by = (1.0, 1.0, 1.0), None
    if found.size:
        spacing, sized_by = found.size.spacing, None if meaning.pixel_mm else found.size.source
    if meaning.pixel_mm:
        spacing = (spacing[0], meaning.pixel_mm, meaning.pixel_mm)
    header = Header(
        kind="raster",
        paths=(path,),
        meaning=replace(meaning, pixel_mm=spacing[2]) if found.size else meaning,
        stored=stored.dtype,
        colours=found.colours and len(stored) > 1,
        sized_by=sized_by,
    )
    values = rescale.apply(stored, rescale.dtype(stored.dtype, *ends))
    return Image.from_array(values, spacing, meaning.unit, header)


def _picture(path: Path, labels: bool) -> _Stored:
    """Read all frames of a file with Pillow."""
    with Pillow.open(path, formats=FORMATS) as file:
        raw = file.tile[0].args if file.format == "PNG" and file.tile else ""
        size = of_picture(file)
        clear = file.info.get("transparency")
        if file.format == "GIF" and not path.read_bytes().rstrip(b"\0").endswith(b";"):
            raise UserError(f"{path} is truncated: a GIF ends with a semicolon; copy or export it again")
        pages: list[NDArray[Any]] = []
        # Further pictures of a photograph are previews and depths of the first one.
        count = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
        for frame in islice(ImageSequence.Iterator(file), count):
            pages.append(page(frame, labels))
            check_size(path, pages[0].nbytes * len(pages), compressed=True)
        if len(pages) != count:
            raise UserError(f"{path} is truncated: {len(pages)} of {count} frames; copy or export it again")
        # Pillow itself turns TIFF alone.
        orientation = 1 if file.format == "TIFF" else file.getexif().get(ORIENTATION, 1)
    stack = np.stack(pages, axis=1)
    if raw == "LA;16B":
        stack = _deep_grey(path)
    elif raw in ("RGB;16B", "RGBA;16B"):
        stack = _deep_colour(path, str(raw))
        stack = stack if clear is None else _with_opacity(stack, clear)
    stack = stack // _STEPS.get(str(raw), 1) if labels else stack
    return _upright(_Stored(stack, size, True), orientation)


ORIENTATION = 274
"""Tag of EXIF and TIFF that says how a picture is turned before it is shown."""


def _upright(stored: _Stored, orientation: Any) -> _Stored:
    """Turn and mirror a picture as it is shown, by the number of EXIF from 1 to 8; other values leave it as it is."""
    pixels, size = stored.pixels, stored.size
    if orientation in (5, 6, 7, 8):
        pixels, size = pixels.swapaxes(-2, -1), size and size.turned()
    flipped = {2: (-1,), 3: (-2, -1), 4: (-2,), 6: (-1,), 7: (-2, -1), 8: (-2,)}.get(orientation, ())
    return _Stored(np.flip(pixels, flipped), size, stored.colours)


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


_STEPS = {"L;2": 85, "L;4": 17}
"""Mode of greys in a PNG to the distance of neighbouring ones after Pillow scaled them to 8 bits."""


def _deep_grey(path: Path) -> NDArray[np.uint16]:
    """Read a 16-bit grey PNG with opacity, for which Pillow has no mode: its four bytes are those of four colours."""
    with Pillow.open(path, formats=FORMATS) as file:
        file.tile = [tile._replace(args="RGBA") for tile in file.tile]
        pairs = np.asarray(file).astype(np.uint16)
    return np.moveaxis(pairs[..., 0::2] * 256 + pairs[..., 1::2], -1, 0)[:, None]


def _with_opacity(colours: NDArray[Any], clear: Any) -> NDArray[Any]:
    """Return colours (channels, ...) with a channel of opacity, which is 0 where they are the one that is `clear`."""
    wanted = np.reshape(clear, (-1, *(1,) * (colours.ndim - 1)))
    opaque = (colours != wanted).any(axis=0, keepdims=True)
    return np.concatenate([colours, opaque * colours.dtype.type(np.iinfo(colours.dtype).max)])


def page(frame: Pillow.Image, labels: bool) -> NDArray[Any]:
    """Return one frame as (channels, rows, columns)."""
    if labels and frame.mode in ("P", "1"):
        return np.asarray(frame).astype(np.uint8)[None]
    clear = None
    if "transparency" in frame.info and frame.format == "PNG" and frame.mode == "P":
        frame = frame.convert("RGBA")
    elif "transparency" in frame.info and frame.format == "PNG" and not labels:
        # One grey or colour is transparent, told in the bits of the file; the tile is gone once pixels are loaded.
        tiles = getattr(frame, "tile", None)
        clear = np.multiply(frame.info["transparency"], _STEPS.get(str(tiles[0].args), 1) if tiles else 1)
    if frame.mode == "P":
        frame = frame.convert("RGB")
        red, green, blue = frame.split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            frame = red
    elif frame.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
        frame = frame.convert("L" if frame.mode == "1" else "RGB")
    pixels = np.asarray(frame)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    pixels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return pixels if clear is None else _with_opacity(pixels, clear)


def _tiff(path: Path, labels: bool) -> _Stored:
    """Read the first series of a TIFF."""
    # Files of some microscopes refer to other files beside them, which are not opened.
    with tifffile.TiffFile(path, _multifile=False, is_mmstack=False, is_ndtiff=False) as file:
        _check_pages(path, file)
        series = file.series[0]
        page: Any = series.keyframe
        packed = page.compression != 1 or page.bitspersample % 8 > 0
        check_size(path, prod(series.shape) * series.dtype.itemsize, compressed=packed)
        colourful = page.samplesperpixel > 1 and page.bitspersample > 8
        size, orientation = of_tiff(file, page), page.tags.valueof(ORIENTATION, default=1)
        palette = page.colormap if page.photometric == tifffile.PHOTOMETRIC.PALETTE and not labels else None
        try:
            pixels, axes = series.asarray(), series.axes
        except ValueError as error:  # Pillow may know compressions that tifffile does not
            if colourful:
                raise UserError(f"{path} cannot be read with all its bits ({error}): save it with deflate") from error
            return replace(_picture(path, labels), size=size)
    white = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    if pixels.dtype == np.bool_:
        pixels = (pixels ^ (white and labels)).astype(np.uint8) * np.uint8(1 if labels else 255)
    if white and pixels.dtype.kind == "u" and not labels:
        pixels = np.iinfo(pixels.dtype).max - pixels
    if palette is not None:
        pixels, axes = _coloured(pixels, palette), f"S{axes}"
    return _upright(_Stored(_ordered(path, pixels, axes), size, "S" in axes), orientation)


def _coloured(indices: NDArray[Any], colours: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return indices of a palette (3, colours) of 16 bits as 8-bit colours (3, ...), or (1, ...) where all are grey."""
    # Some programs write 8 bits where TIFF demands 16.
    bytes_ = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
    shown = np.asarray(bytes_[:, indices])
    return shown[:1] if (shown == shown[:1]).all() else shown


def _ordered(path: Path, pixels: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return the pixels of a TIFF as (channels, slices, rows, columns); time frames become channels.

    Args:
        path: file, for messages.
        pixels: array with one axis per letter.
        axes: letters of tifffile, such as TCZYX; I and Q are pages without a stated meaning, which are slices.

    Raises:
        UserError: several time frames have several channels, or there is an axis that is no part of an image.
    """
    extents = dict(zip(axes, pixels.shape, strict=True))
    strange = [axis for axis in axes if axis not in "TCSZIQYX" and extents[axis] > 1]
    if strange:
        raise UserError(f"{path} has an axis {strange[0]} of {extents[strange[0]]} images: save those of one alone")
    channels = [i for i, axis in enumerate(axes) if axis in "TCS"]
    if extents.get("T", 1) > 1 and prod(pixels.shape[i] for i in channels) > extents["T"]:
        raise UserError(
            f"{path} holds {extents['T']} time frames of several channels: save each frame, or channel, alone"
        )
    slices = [i for i, axis in enumerate(axes) if axis not in "TCSYX"]
    ordered = pixels.transpose(*channels, *slices, axes.index("Y"), axes.index("X"))
    counts = [prod(pixels.shape[i] for i in group) for group in (channels, slices)]
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
    if not (stored[1:] == stored[:1]).all():
        raise UserError(
            f"{path} is in colours, which are no labels: save it in grey, or with a palette whose indices are labels"
        )
    return stored[:1]


def _without_opacity(stored: NDArray[Any], background: float | None) -> NDArray[Any]:
    """Return colours without opacity where they are opaque everywhere, or are laid over a background."""
    if len(stored) not in (2, 4) or stored.dtype.kind != "u":
        return stored
    largest = np.iinfo(stored.dtype).max
    if background is None or (stored[-1] == largest).all():
        return stored[:-1] if (stored[-1] == largest).all() else stored
    if not 0 <= background <= largest:
        raise UserError(f"--backdrop {background:g} is no number from 0 to {largest}, which the pictures hold")
    opacity = stored[-1:] / largest
    return np.asarray(np.rint(opacity * stored[:-1] + (1 - opacity) * background), stored.dtype)


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
    if image.dtype.kind == "f" and meaning is None and not image.header.meaning.scales:
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
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    if _is_sized(image):
        # Pixels per metre are integers, which are good to 0.1 % for pixels below 2 mm.
        chunks.insert(1, (b"pHYs", struct.pack(">IIB", *(round(1000 / size) for size in image.spacing[:0:-1]), 1)))
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, body in chunks:
            checksum = zlib.crc32(name + body)
            file.write(struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum))


def write_tiff(path: Path, image: Image, meaning: RasterMeaning | None = None) -> None:
    """Write slices as pages of a TIFF in native precision, page by page; 3 channels as RGB, 4 as RGBA.

    Distances in mm, where they are known, are written as the resolution and in the description.
    """
    if image.channels not in (1, 3, 4):
        raise UserError(f"{path}: a TIFF page here has 1, 3 or 4 channels, not {image.channels}: choose .npy")
    meaning = meaning or image.header.meaning
    dtype = np.dtype(np.uint8) if image.dtype == np.bool_ else image.dtype
    if dtype.kind in "iu" and meaning.scales:
        dtype = np.dtype(np.uint16 if image.header.stored is None else image.header.stored)

    def pages() -> Any:
        for slab in image.slabs():
            for page in np.moveaxis(_stored(path, slab, meaning, dtype), 0, -1):
                yield np.ascontiguousarray(page if image.channels > 1 else page[..., 0])

    shape = (*image.shape, image.channels) if image.channels > 1 else image.shape
    photometric = "rgb" if image.channels > 1 else "minisblack"
    alpha = ["unassalpha"] if image.channels == 4 else None
    large = prod(shape) * dtype.itemsize > 2**32 - 2**25
    known: dict[str, Any] = {}
    if _is_sized(image):
        between, rows, columns = image.spacing
        known = {"resolution": (10 / columns, 10 / rows), "resolutionunit": "CENTIMETER"}
        known["metadata"] = {"spacing": between, "unit": "mm"}
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=large) as file:
        file.write(pages(), shape=shape, dtype=dtype, photometric=photometric, extrasamples=alpha, **known)


def _is_sized(image: Image) -> bool:
    """Return whether the distances of an image are mm that a resolution can state, and no numbers of pixels."""
    if image.header.kind in ("raster", "npy"):
        known = image.header.meaning.pixel_mm is not None
    else:
        known = image.header.kind != "array" or image.spacing != (1.0, 1.0, 1.0)
    return known and all(SMALLEST <= size <= LARGEST for size in image.spacing)


def _stored(path: Path, values: NDArray[Any], meaning: RasterMeaning, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the numbers to store for `values`, exactly or (real values in an integer file) to the nearest step."""
    if not meaning.scales and values.dtype == dtype:
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
