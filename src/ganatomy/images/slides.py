"""Whole slides: pictures of several levels of magnification, of which regions are read in bounded memory.

Pyramidal TIFF is read by tifffile, tile by tile. Formats of scanners, and TIFF in compressions that tifffile does not
know, are read by OpenSlide, which the extra ``ganatomy[slides]`` installs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.sparse import csr_matrix

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image, RasterMeaning, Rescale
from ganatomy.images.parsing import check_size, parsing
from ganatomy.images.pixel_size import of_tiff

SUFFIXES = (".svs", ".ndpi", ".scn", ".bif", ".svslide")
"""Endings of slides of scanners that lie in one file."""
TIFF_SUFFIXES = (".tif", ".tiff")
MOST_PIXELS = 1 << 27
"""Most pixels of a level or region that is held as a whole, 400 MB in 8-bit colour and 1.6 GB as real numbers."""
STRIP = 1 << 24
"""Most pixels that are read at once where a level is read whole or made smaller, unless one row has more."""
ALIKE = 0.01
"""Largest difference of two sizes of pixels, as a part of them, that counts as none."""
_ORIENTATION = 274
_READABLE = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB)
_MISSING = (
    "is a whole slide that OpenSlide reads, which is not installed: install it with pip install 'ganatomy[slides]'"
)


class Level(NamedTuple):
    """One level of a slide.

    Attributes:
        rows: number of rows.
        columns: number of columns.
        pixel_mm: distances between rows and between columns in mm; None where the slide states none.
    """

    rows: int
    columns: int
    pixel_mm: tuple[float, float] | None

    def __str__(self) -> str:
        size = f"{self.columns} x {self.rows} pixels"
        return f"{size} of {self.pixel_mm[1] * 1000:.4g} µm" if self.pixel_mm else size


class Slide(ABC):
    """A slide that is open; a context manager that closes it.

    Attributes:
        path: file.
        levels: levels, the finest first.
        channels: number of channels; three are red, green and blue.
        dtype: type of the numbers.
        sized_by: entry of the file that gave the pixel size, for messages; None where it states none.
    """

    path: Path
    levels: tuple[Level, ...]
    channels: int
    dtype: np.dtype[Any]
    sized_by: str | None

    def region(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[Any]:
        """Return a region of a level, (channels, height, width).

        Args:
            level: number of the level, 0 for the finest.
            x: first column, counted in pixels of this level.
            y: first row, counted in pixels of this level.
            width: number of columns.
            height: number of rows.

        Raises:
            ValueError: the region does not lie within the level.
            UserError: the region is larger than `MOST_PIXELS`, or the file is damaged.
        """
        size = self.levels[level]
        if not (0 <= x < x + width <= size.columns and 0 <= y < y + height <= size.rows):
            raise ValueError(f"columns {x} to {x + width} and rows {y} to {y + height} are not within {size}")
        if width * height > MOST_PIXELS:
            raise UserError(f"{self.path}: a region of {width} x {height} pixels is too large; read it in parts")
        check_size(self.path, width * height * self.channels * self.dtype.itemsize, compressed=True)
        with parsing(self.path, "a whole slide"):
            return self._read(level, x, y, width, height)

    def thumbnail(self, longest: int = 512) -> NDArray[Any]:
        """Return the whole slide, (channels, rows, columns), with at most ``longest`` rows and columns.

        Every pixel is the average of the area that it covers, of the coarsest level that is no smaller.
        """
        finest = self.levels[0]
        shrink = max(1.0, max(finest.rows, finest.columns) / longest)
        rows, columns = (max(1, round(extent / shrink)) for extent in (finest.rows, finest.columns))
        fitting = [number for number, one in enumerate(self.levels) if one.rows >= rows and one.columns >= columns]
        return self.smaller(max(fitting), rows, columns)

    def background(self) -> NDArray[Any]:
        """Return an estimate of the colour of empty glass, (channels,).

        It is the median of the pixels that are brighter than the threshold of Otsu, 1979, of the thumbnail; black areas
        that were not scanned do not count.
        """
        from skimage.filters import threshold_otsu

        pixels = self.thumbnail().reshape(self.channels, -1)
        brightness = pixels.mean(0)
        pixels, brightness = pixels[:, brightness > 0], brightness[brightness > 0]
        if not brightness.size or brightness.min() == brightness.max():
            return np.asarray(pixels[:, 0] if pixels.size else np.zeros(self.channels), self.dtype)
        bright = brightness > threshold_otsu(brightness)  # type: ignore[no-untyped-call]
        return np.asarray(np.median(pixels[:, bright], axis=1), self.dtype)

    def whole(self, level: int) -> NDArray[Any]:
        """Return a whole level, (channels, rows, columns)."""
        size = self.levels[level]
        check_size(self.path, size.rows * size.columns * self.channels * self.dtype.itemsize, compressed=True)
        found = np.empty((self.channels, size.rows, size.columns), self.dtype)
        step = max(1, STRIP // size.columns)
        for first in range(0, size.rows, step):
            height = min(step, size.rows - first)
            found[:, first : first + height] = self.region(level, 0, first, size.columns, height)
        return found

    def smaller(self, level: int, rows: int, columns: int, labels: bool = False) -> NDArray[Any]:
        """Return a level with fewer pixels, (channels, rows, columns), of which few rows are held at a time.

        Args:
            level: number of the level.
            rows: number of rows, at most those of the level.
            columns: number of columns, at most those of the level.
            labels: whether the nearest number is taken instead of the average of an area.
        """
        size = self.levels[level]
        tall, wide = size.rows / rows, size.columns / columns
        found = np.empty((self.channels, rows, columns), self.dtype)
        step, across = max(1, int((STRIP / size.columns - 2) / tall)), _areas(0, columns, wide, 0, size.columns).T
        for first in range(0, rows, step):
            last = min(rows, first + step)
            top, bottom = int(first * tall), min(size.rows, int(np.ceil(last * tall)))
            part = self.region(level, 0, top, size.columns, bottom - top)
            if labels:
                ys = ((np.arange(first, last) + 0.5) * tall).astype(int) - top
                xs = ((np.arange(columns) + 0.5) * wide).astype(int)
                found[:, first:last] = part[:, ys][:, :, xs]
                continue
            for channel, plane in enumerate(part):
                mean = _areas(first, last, tall, top, bottom) @ plane.astype(np.float64) @ across
                found[channel, first:last] = np.rint(mean) if self.dtype.kind in "iu" else mean
        return found

    @abstractmethod
    def _read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[Any]:
        """Return a region that lies within the level, (channels, height, width)."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TiffSlide(Slide):
    """A pyramidal TIFF, of which the tiles of a region are decoded."""

    def __init__(self, path: Path, file: tifffile.TiffFile) -> None:
        self.path, self._file = path, file
        series = _pyramid(file)
        self._pages: list[Any] = [one.keyframe for one in series]
        first = self._pages[0]
        self.channels, self.dtype = int(first.samplesperpixel), np.dtype(first.dtype).newbyteorder("=")
        for page, one in zip(self._pages, series, strict=True):
            if len(one) != 1 or page.imagedepth > 1:
                raise UserError(f"{path}: its levels hold several planes each: save those of one plane alone")
            if np.prod(page.chunks) > MOST_PIXELS:
                raise UserError(
                    f"{path}: its pixels are stored in pieces of {page.chunks}, too large: save it in tiles"
                )
        size = of_tiff(file, first)
        self.sized_by = size.source if size else None
        rows, columns = first.imagelength, first.imagewidth
        self.levels = tuple(
            Level(
                page.imagelength,
                page.imagewidth,
                (size.spacing[1] * rows / page.imagelength, size.spacing[2] * columns / page.imagewidth)
                if size
                else None,
            )
            for page in self._pages
        )

    @staticmethod
    def reads(file: tifffile.TiffFile) -> bool:
        """Return whether the compression and the meaning of the numbers of all levels are known."""
        pages: list[Any] = [one.keyframe for one in _pyramid(file)]
        plain = [page.photometric in _READABLE and page.tags.valueof(_ORIENTATION, default=1) == 1 for page in pages]
        return all(plain) and _decodes(pages)

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[Any]:
        page = self._pages[level]
        tall, wide = page.chunks[:2]
        across, down = -(-page.imagewidth // wide), -(-page.imagelength // tall)
        planes = 1 if page.planarconfig == 1 else self.channels
        found = np.zeros((self.channels, height, width), self.dtype)
        for plane in range(planes):
            for row in range(y // tall, -(-(y + height) // tall)):
                for column in range(x // wide, -(-(x + width) // wide)):
                    tile = self._tile(page, (plane * down + row) * across + column)
                    if tile is None:  # no pixels are stored where there is nothing to see
                        continue
                    # Where the tile begins in the region, and the part of it that lies inside.
                    top, left = row * tall - y, column * wide - x
                    part = tile[:, max(0, -top) : height - top, max(0, -left) : width - left]
                    channels = slice(None) if planes == 1 else slice(plane, plane + 1)
                    rows = slice(max(0, top), max(0, top) + part.shape[1])
                    found[channels, rows, max(0, left) : max(0, left) + part.shape[2]] = part
        return found

    def _tile(self, page: Any, index: int) -> NDArray[Any] | None:
        """Return a tile or strip, (channels, rows, columns), cut where the level ends; None for an empty one."""
        place, size = page.dataoffsets[index], page.databytecounts[index]
        if not place and not size:
            return None
        stream = self._file.filehandle
        if not place or not size or place + size > stream.size:
            raise UserError(f"{self.path} is truncated or damaged: a tile does not lie in it; copy or export it again")
        stream.seek(place)
        data, _, shape = page.decode(stream.read(size), index, jpegtables=page.jpegtables)
        if data is None:
            return None
        return np.moveaxis(np.asarray(data)[0, : shape[1], : shape[2]], -1, 0)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ScannedSlide(Slide):
    """A slide that OpenSlide reads, in 8-bit colour; what was not scanned has the background that the file states."""

    def __init__(self, path: Path) -> None:
        try:
            import openslide
        except (ImportError, OSError) as error:  # the library itself may be missing, too
            raise UserError(f"{path} {_MISSING}") from error
        self.path, self.channels, self.dtype = path, 3, np.dtype(np.uint8)
        with parsing(path, "a whole slide"):
            self._slide = openslide.OpenSlide(path)
            stated = self._slide.properties
            height, width = (_micrometres(stated.get(f"openslide.mpp-{axis}")) for axis in "yx")
            self._backdrop = tuple(bytes.fromhex(stated.get("openslide.background-color", "FFFFFF")))
            self._factors = self._slide.level_downsamples
            sizes = self._slide.level_dimensions
        mm = None if height is None or width is None else (height, width)
        self.sized_by = None if mm is None else "the header of the slide"
        self.levels = tuple(
            Level(rows, columns, None if mm is None else (mm[0] * sizes[0][1] / rows, mm[1] * sizes[0][0] / columns))
            for columns, rows in sizes
        )

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[Any]:
        # OpenSlide counts in pixels of the finest level, and may read a pixel beside the one that is meant.
        place = (round(x * self._factors[level]), round(y * self._factors[level]))
        picture = self._slide.read_region(place, level, (width, height))
        shown = Pillow.new("RGBA", picture.size, (*self._backdrop, 255))
        shown.alpha_composite(picture)
        return np.moveaxis(np.asarray(shown)[..., :3], -1, 0)

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


def _areas(first: int, last: int, size: float, begin: int, end: int) -> Any:
    """Return a sparse matrix (last - first, end - begin) that averages pixels over the areas of larger ones.

    Args:
        first: number of the first larger pixel.
        last: number behind the last one.
        size: pixels in a larger one.
        begin: number of the first pixel.
        end: number behind the last one.
    """
    larger = np.arange(first, last)[:, None]
    pixels = (larger * size).astype(int) + np.arange(int(np.ceil(size)) + 1)
    shared = np.minimum(pixels + 1, (larger + 1) * size) - np.maximum(pixels, larger * size)
    shared = np.where(pixels < end, shared.clip(0), 0)
    rows, places = np.nonzero(shared)
    weights = shared / shared.sum(1, keepdims=True)
    return csr_matrix((weights[rows, places], (rows, pixels[rows, places] - begin)), (last - first, end - begin))


def _micrometres(text: str | None) -> float | None:
    """Return a number of micrometres in mm; None where there is none that could be the size of a pixel."""
    try:
        number = float(text or "") / 1000
    except ValueError:
        return None
    return number if 1e-6 < number < 1e3 else None


def _pyramid(file: tifffile.TiffFile) -> list[Any]:
    """Return the levels of the first picture of a TIFF: its own, and later ones that are the same, made smaller."""
    first, *others = file.series
    found = list(first.levels)
    for one in others:
        page, whole = one.keyframe, found[0].keyframe
        shrink = [whole.imagelength / max(1, page.imagelength), whole.imagewidth / max(1, page.imagewidth)]
        pixel = max(1 / max(1, page.imagelength), 1 / max(1, page.imagewidth))
        alike = (page.samplesperpixel, page.dtype) == (whole.samplesperpixel, whole.dtype)
        if page.is_reduced and alike and abs(shrink[0] / shrink[1] - 1) <= max(0.02, pixel):
            found.append(one)
    return sorted(found, key=lambda level: -int(level.keyframe.imagelength))


def _decodes(pages: list[Any]) -> bool:
    """Return whether tifffile knows the compression of pages without a further package."""
    try:
        return all(tifffile.TIFF.DECOMPRESSORS[page.compression] is not None or page.compression == 1 for page in pages)
    except KeyError:
        return False


def is_slide(path: Path, chosen: bool = True) -> bool:
    """Return whether a file is read as a whole slide: by its suffix, or a TIFF of several levels.

    Args:
        path: file.
        chosen: whether the user has chosen a level; otherwise a TIFF that can be held as a whole is an ordinary one,
            unless only OpenSlide knows its compression and its levels are pages.
    """
    name = path.name.lower()
    if not name.endswith(TIFF_SUFFIXES):
        return name.endswith(SUFFIXES)
    with parsing(path, "a picture"), _tiff(path) as file:
        if not file.series or file.series[0].keyframe.imagedepth > 1 or len(file.series[0]) > 1:
            return False
        page: Any = file.series[0].keyframe
        levels = [one.keyframe for one in _pyramid(file)]
        # Pillow knows more compressions, but takes levels that are pages for slices.
        pyramid = len(levels) > 1 and (chosen or (len(file.pages) > 1 and not _decodes(levels)))
        return pyramid or page.imagelength * page.imagewidth > MOST_PIXELS


@contextmanager
def _tiff(path: Path) -> Iterator[tifffile.TiffFile]:
    # Files of some microscopes refer to other files beside them, which are not opened.
    with tifffile.TiffFile(path, _multifile=False, is_mmstack=False, is_ndtiff=False) as file:
        yield file


@contextmanager
def open_slide(path: Path) -> Iterator[Slide]:
    """Open a whole slide.

    Raises:
        UserError: the file is damaged, no slide, or needs the extra ``ganatomy[slides]``.
    """
    if path.name.lower().endswith(TIFF_SUFFIXES):
        with parsing(path, "a whole slide"), _tiff(path) as file:
            if TiffSlide.reads(file):
                yield TiffSlide(path, file)
                return
    with ScannedSlide(path) as slide:
        yield slide


def read_slide(path: Path, meaning: RasterMeaning, labels: bool = False) -> Image:
    """Read a level of a slide, or all of it with pixels of a size that is asked for, as an image of one slice.

    Args:
        path: file.
        meaning: which level or size of pixels is read (``level``, ``mpp``), and physical values of the numbers.
        labels: whether numbers are labels, of which the nearest is taken instead of an average.

    Raises:
        UserError: the level does not exist, is finer than any that the slide holds, or is too large to be held; the
            slide is damaged or needs the extra ``ganatomy[slides]``.
    """
    with open_slide(path) as slide:
        level, rows, columns = _chosen(slide, meaning)
        size = slide.levels[level]
        whole = (rows, columns) == (size.rows, size.columns)
        stored = slide.whole(level) if whole else slide.smaller(level, rows, columns, labels)
        sized_by, stated = slide.sized_by, size.pixel_mm
    if labels and not (stored[1:] == stored[:1]).all():
        raise UserError(f"{path} is in colours, which are no labels: save it in grey")
    if labels:
        stored, meaning = stored[:1], meaning.geometry
    spacing = (1.0, 1.0, 1.0)
    if meaning.pixel_mm:
        spacing = (1.0, meaning.pixel_mm, meaning.pixel_mm)
    elif stated:
        spacing = (1.0, stated[0] * size.rows / rows, stated[1] * size.columns / columns)
    header = Header(
        kind="raster",
        paths=(path,),
        meaning=replace(meaning, pixel_mm=spacing[2]) if stated else meaning,
        stored=stored.dtype,
        colours=len(stored) > 1,
        sized_by=None if meaning.pixel_mm else sized_by,
    )
    rescale = Rescale(meaning.slope, meaning.intercept)
    ends = (int(stored.min()), int(stored.max())) if stored.dtype.kind in "iu" else (None, None)
    values = rescale.apply(stored, rescale.dtype(stored.dtype, *ends))[:, None]
    return Image.from_array(values, spacing, meaning.unit, header)


def _chosen(slide: Slide, meaning: RasterMeaning) -> tuple[int, int, int]:
    """Return the level that is read, and how many rows and columns are made of it."""
    path, levels = slide.path, slide.levels
    told = "; ".join(f"{number}: {one}" for number, one in enumerate(levels))
    if meaning.mpp is not None:
        if levels[0].pixel_mm is None:
            raise UserError(f"{path} states no size of its pixels, so give --level instead of --mpp ({told})")
        sizes = [1000 * (one.pixel_mm or (0.0, 0.0))[1] for one in levels]
        fitting = [number for number, size in enumerate(sizes) if size <= meaning.mpp * (1 + ALIKE)]
        if not fitting:
            raise UserError(f"{path}: --mpp {meaning.mpp:g} is finer than its finest level ({told})")
        level = max(fitting)
        size, shrink = levels[level], meaning.mpp / sizes[level]
        alike = abs(shrink - 1) <= ALIKE
        rows, columns = (
            (size.rows, size.columns)
            if alike
            else (max(1, round(size.rows / shrink)), max(1, round(size.columns / shrink)))
        )
    else:
        level = meaning.level or 0
        if level >= len(levels):
            raise UserError(f"{path} has no level {level}; there are {told}")
        rows, columns = levels[level].rows, levels[level].columns
    if rows * columns > MOST_PIXELS:
        raise UserError(
            f"{path}: {columns} x {rows} pixels are too many to be held as a whole; choose a coarser level with "
            f"--level ({told}), or a size of pixels in µm with --mpp"
        )
    return level, rows, columns
