"""DICOM files: what is one, its dataset, and whether its pixels can be there at all."""

from __future__ import annotations

import io
import zlib
from math import prod
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ganatomy.errors import Shortage, UserError
from ganatomy.images import jpeg
from ganatomy.images.parsing import check_size, fault, parsing

jpeg.register()

SUFFIXES = (".dcm", ".ima", ".dicom")
"""Endings of the names of DICOM files, which many have none of."""
# A root made from a UUID (PS3.5 B.2) needs no registration.
IMPLEMENTATION_UID = "2.25.327542966975912446904325834199825990013"
"""Implementation that the meta headers of files written by Ganatomy name."""
_UNCOMPRESSED = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
_PIXELS = b"\xe0\x7f\x10\0"
"""Tag of the pixels."""

LONGEST_HEADER = 16 << 20
"""Most bytes of the header of a deflated file; pydicom takes seconds for as many that are repeated."""
MOST_BLANK = 16
"""Most times that 8 zeros are read in a row; pydicom takes a minute for a header of 100 MB of zeros."""
MOST_FRAMES = 100_000
"""Most frames of one file that are read."""


class DicomStream(io.BufferedReader):
    """A file of which no more bytes are asked for than it has, since Python reserves memory for all that are asked for.

    Attributes:
        inflated: number of bytes of a deflated file once it is inflated; None for others.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._path, self.size = path, path.stat().st_size
        self.inflated: int | None = None
        self._blank = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes; of a deflated file only where it is small enough once it is inflated."""
        rest = max(self.size - self.tell(), 0)
        if size is not None and size >= 0:
            return self._not_blank(super().read(min(size, rest)))
        data = super().read(rest)  # pydicom reads all the rest only where it inflates it
        self.inflated = self._inflated(data)
        return data

    def _not_blank(self, data: bytes) -> bytes:
        """Return bytes unless as many elements without tag, length and content follow each other as no header has."""
        self._blank = self._blank + 1 if data == bytes(8) else 0
        if self._blank > MOST_BLANK:
            raise UserError(f"{self._path} is filled with zeros in the place of its header: copy or export it again")
        return data

    def _inflated(self, data: bytes) -> int:
        inflater, number, head = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
        while data and not inflater.eof:
            part = inflater.decompress(data, 1 << 20)
            number += len(part)
            check_size(self._path, number, compressed=True)
            head = head if _PIXELS in head else head[-len(_PIXELS) :] + part
            if number > LONGEST_HEADER and _PIXELS not in head:
                raise UserError(f"{self._path}: its header declares more than {LONGEST_HEADER} bytes; export it again")
            data = inflater.unconsumed_tail
        return number


def first_bytes(path: Path) -> bytes:
    """Return the first 132 bytes of a file, the preamble and the mark of DICOM; raises `UserError` where it cannot."""
    with parsing(path, "DICOM"), path.open("rb") as file:
        return file.read(132)


def is_dicom(path: Path) -> bool:
    """Return whether a file starts like DICOM: with its preamble, or else with a plausible first element.

    Raises:
        UserError: The file is empty, or cannot be read.
    """
    if reason := fault(path):
        raise UserError(reason)
    head = first_bytes(path)
    if head[128:] == b"DICM":
        return True
    if len(head) < 132:
        return False
    # Tags of group 2 (meta header) or 8 with a low element, in little-endian, or in big-endian with a type after it.
    little = head[:2] in (b"\x02\0", b"\x08\0") and head[2] <= 0x20 and head[3] == 0
    big = head[:2] in (b"\0\x02", b"\0\x08") and head[2] == 0 and head[3] <= 0x20
    return little or (big and head[4:6].isalpha() and head[4:6].isupper())


def read_file(path: Path, **options: Any) -> pydicom.FileDataset:
    """Read a whole DICOM file, including one without meta header."""
    with DicomStream(path) as stream:
        return read_stream(stream, **options)


def read_stream(stream: DicomStream, **options: Any) -> pydicom.FileDataset:
    """Read a DICOM file that is open, including one without meta header."""
    file = pydicom.dcmread(stream, force=True, **options)
    if "TransferSyntaxUID" not in file.file_meta:
        implicit, little = file.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        file.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return file


def series_of(path: Path) -> str | None:
    """Return the SeriesInstanceUID of a damaged file; None where it has none that can be read."""
    if fault(path):
        return None
    try:
        with parsing(path, "DICOM"):
            file = read_file(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            return str(file.get("SeriesInstanceUID") or "") or None
    except Shortage:
        raise
    except UserError:
        return None


def check_pixels(path: Path, file: pydicom.FileDataset, count: int, left: int) -> None:
    """Check the sizes that a header states, alone and against the bytes that are left for the pixels."""
    sizes = {name: int(file.get(name) or 1) for name in ("Rows", "Columns", "SamplesPerPixel")} | {
        "NumberOfFrames": count,
        "BitsAllocated": int(file.BitsAllocated),
    }
    stored = int(file.get("BitsStored") or file.BitsAllocated)
    impossible = (
        min(int(file.Rows), int(file.Columns), *sizes.values()) < 1
        or sizes["SamplesPerPixel"] not in (1, 3, 4)
        or count > MOST_FRAMES
        or not 1 <= stored <= sizes["BitsAllocated"]
    )
    if impossible:
        told = ", ".join(f"{name} {value}" for name, value in sizes.items())
        raise UserError(f"{path} states impossible sizes ({told}, BitsStored {stored}); copy or export it again")
    if not left:
        raise UserError(f"{path} is truncated: its header ends before the pixels; copy or export it again")
    compressed = file.file_meta.TransferSyntaxUID not in _UNCOMPRESSED
    bits = prod(sizes.values())
    if file.get("PhotometricInterpretation") == "YBR_FULL_422" and not compressed:
        bits = bits * 2 // 3  # neighbouring pixels share their colour
    check_size(path, (bits + 7) // 8, left, compressed=compressed)
