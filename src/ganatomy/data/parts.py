"""Parts of files as sources: half of a picture, a picture of an archive, a volume of a series; and their names.

A manifest names a part behind ``#``: ``pair.png#left half``, ``pathmnist.npz#train 17``, ``bold#temporal position 3``,
``cine.nii.gz#frame 4``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Openable
from ganatomy.data.layouts import title_of
from ganatomy.errors import UserError
from ganatomy.images.archives import archive_of, is_archive
from ganatomy.images.files import Source, find
from ganatomy.images.image import NO_MEANING, Header, Image, RasterMeaning, Rescale
from ganatomy.images.npy import open_npz
from ganatomy.images.parsing import exists, parsing

Which = Literal["left half", "right half"]
MARK = "#"
"""Character between the path of a file and the part of it."""
HALVES: tuple[Which, Which] = ("left half", "right half")
SIDES = ("train", "val", "test")
LARGEST = 4 << 30
"""Bytes of an array that is read into memory as a whole."""


@dataclass(frozen=True)
class Half:
    """The left or the right half of a picture that holds two images side by side.

    Attributes:
        source: the whole picture.
        place: which half it is.
    """

    source: Source
    place: Which

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its file."""
        return self.source.paths

    @property
    def meaning(self) -> RasterMeaning:
        """Physical values of the numbers in the file."""
        return self.source.meaning

    def open(self) -> Image:
        """Return the half.

        Raises:
            UserError: the picture cannot be read, or has an odd number of columns.
        """
        image = self.source.open()
        columns = image.shape[2]
        if columns % 2:
            raise UserError(f"{self.paths[0]}: {columns} columns, which are not two halves of equal width")
        kept = slice(columns // 2) if self.place == HALVES[0] else slice(columns // 2, None)
        return image.with_geometry(np.ascontiguousarray(image.numpy()[..., kept]), image.affine)


@dataclass(frozen=True)
class Picture:
    """One image of a MedMNIST archive.

    Attributes:
        path: the archive.
        side: ``train``, ``val`` or ``test``.
        number: number of the image on this side, from 0.
        meaning: physical values of the numbers.
    """

    path: Path
    side: str
    number: int
    meaning: RasterMeaning = NO_MEANING

    @property
    def paths(self) -> tuple[Path, ...]:
        """The archive."""
        return (self.path,)

    @property
    def place(self) -> str:
        """Side and number in words."""
        return f"{self.side} {self.number}"

    def open(self) -> Image:
        """Return the image; colours become three channels, and a third axis of another length slices.

        Raises:
            UserError: the archive cannot be read, or has no such image.
        """
        images = array_of(self.path, f"{self.side}_images")
        if self.number >= len(images):
            raise UserError(f"{self.path}: {len(images)} images of {self.side}; there is no number {self.number}")
        stored = images[self.number]
        if stored.dtype.kind not in "buif" or not 2 <= stored.ndim <= 4:
            raise UserError(f"{self.path}: {self.side}_images has shape {images.shape} and type {images.dtype}")
        colours = is_colour(images.shape)
        if colours:
            stored = np.moveaxis(stored, -1, 0)
            stored = stored if stored.ndim == 4 else stored[:, None]
        rescale = Rescale(self.meaning.slope, self.meaning.intercept)
        ends = (int(stored.min()), int(stored.max())) if stored.dtype.kind in "iu" else (None, None)
        values = rescale.apply(stored, rescale.dtype(stored.dtype, *ends))
        header = Header(kind="raster", paths=(self.path,), meaning=self.meaning, stored=stored.dtype, colours=colours)
        pixel = self.meaning.pixel_mm or 1.0
        return Image.from_array(values, (1.0 if stored.ndim == 2 or colours else pixel, pixel, pixel),
                                self.meaning.unit, header)  # fmt: skip


def is_colour(shape: Sequence[int]) -> bool:
    """Return whether an array (images, ...) holds colours: its last axis is short, and not that of a volume."""
    return len(shape) >= 4 and shape[-1] in (3, 4) and shape[-2] > 4


def array_of(path: Path, name: str) -> NDArray[Any]:
    """Return an array of a NumPy archive, which is kept in memory for the next call.

    Raises:
        UserError: the archive is damaged, lacks the array, or holds one that is too large for memory.
    """
    state = path.stat()
    return _array(path, name, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2)
def _array(path: Path, name: str, size: int, time: int) -> NDArray[Any]:
    with open_npz(path) as arrays, parsing(path, "arrays of NumPy"):
        if name not in arrays.files:
            raise UserError(f"{path} holds no {name}; there are {', '.join(sorted(arrays.files))}")
        declared = arrays.zip.getinfo(f"{name}.npy").file_size if arrays.zip else 0
        if declared > LARGEST:
            raise UserError(
                f"{path}: {name} takes {declared >> 30} GiB, which is not read into memory; save its images as PNG"
            )
        return np.asarray(arrays[name])


def in_parts(path: Path) -> tuple[Path, str]:
    """Return the file or folder that a cell of a manifest names, and the part of it; no part where there is none.

    A file whose own name holds the mark is taken as a whole.
    """
    text = str(path)
    if exists(path):
        return path, ""
    for place in (found.start() for found in re.finditer(MARK, text)):
        if exists(Path(text[:place])):
            return Path(text[:place]), text[place + 1 :].strip()
    return path, ""


def open_part(path: Path, part: str, meaning: RasterMeaning, uneven: bool = False) -> Openable:
    """Return the source of a part of a file or folder.

    Args:
        path: file or folder.
        part: part of it, as in a manifest.
        meaning: physical values of the numbers.
        uneven: whether series may lack slices.

    Raises:
        UserError: there is no such part.
    """
    side, _, number = part.rpartition(" ")
    if side in SIDES and number.isdecimal() and path.suffix.lower() == ".npz":
        return Picture(path, side, int(number), meaning)
    found = find(path, meaning=meaning, uneven=uneven)
    if len(found) == 1 and part in HALVES:
        return Half(found[0], HALVES[HALVES.index(part)])
    return volume_of(found, path, part)


def volume_of(found: Sequence[Source], path: Path, part: str) -> Source:
    """Return the volume, series or time frame among the images of a path that a part names.

    Args:
        found: images of the path.
        path: file or folder, for the message.
        part: part of it, as in a manifest.

    Raises:
        UserError: there is no such part.
    """
    side, _, number = part.rpartition(" ")
    if len(found) == 1 and side == "frame" and number.isdecimal():
        return replace(found[0], frame=int(number))
    fitting = [one for one in found if part in names_of(one)]
    if len(fitting) != 1:
        there = ", ".join(sorted({repr(names_of(one)[0]) for one in found if names_of(one)}))
        told = f"{len(fitting)} images are called" if fitting else "there is no"
        raise UserError(f"{path}{MARK}{part}: {told} {part!r}; it holds {there or 'one image without parts'}")
    return fitting[0]


def names_of(source: Source) -> list[str]:
    """Return the names by which a manifest tells a volume or series from others in one place, the shortest first."""
    if not source.frames:
        return []
    series = source.frames[0].series
    known = [source.volume or "", title_of(source), f"{series} {source.volume}" if source.volume else series]
    # A path that ends with a slash or holds two does not read back as it was written.
    return [name for name in known if name and str(Path(name)) == name]


def cell_of(source: Openable) -> tuple[Path, str] | None:
    """Return the path and the part by which a manifest names a source; None for a source without files.

    Raises:
        UserError: no name tells the source from others in its place.
    """
    paths = tuple(dict.fromkeys(map(archive_of, source.paths)))
    if not paths:
        return None
    place, part = paths[0], str(getattr(source, "place", "") or "")
    if not isinstance(source, Source):
        return place, part
    part = "" if source.frame is None else f"frame {source.frame}"
    if len(paths) > 1:
        place = source.folder
    if not (source.kind == "dicom" or is_archive(place)):
        return place, part
    there = find(place, meaning=source.meaning, uneven=source.uneven)
    if len(there) == 1 and set(there[0].paths) == set(source.paths):
        return place, part
    for name in names_of(source):
        if [one.paths for one in there if name in names_of(one)] == [source.paths]:
            return place, name
    raise UserError(
        f"{place} holds other images, too, and no name tells this one from them; move its files to a folder "
        "of their own"
    )
