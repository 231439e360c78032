"""Size of the pixels of pictures, as files state it: resolution of PNG and TIFF, calibration of ImageJ, size in OME."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import tifffile
from PIL import Image as Pillow

MM = {
    **dict.fromkeys(("m", "meter", "metre"), 1e3),
    **dict.fromkeys(("inch", "in", '"'), 25.4),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", r"\u00B5m", "micron", "microns", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6),
}
"""Name of a unit of length, as programs write it, to mm."""
SCREENS = (72, 96, 100, 144, 192)
"""Pixels per inch of screens, which programs write into pictures of whatever size."""
SMALLEST, LARGEST = 1e-6, 1e3
"""Pixel sizes in mm beyond which a statement is an error and counts as none."""
_TIFF_UNITS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 1e-3}
"""TIFF's code of the unit of a resolution to mm; 1 is no unit."""


@dataclass(frozen=True)
class PixelSize:
    """Distances between neighbouring pixels that a file states.

    Attributes:
        spacing: mm between slices, rows and columns; 1 between slices where the file states none.
        source: entry of the file, for messages.
    """

    spacing: tuple[float, float, float]
    source: str

    def turned(self) -> PixelSize:
        """Return the distances after rows and columns have been exchanged."""
        slices, rows, columns = self.spacing
        return PixelSize((slices, columns, rows), self.source)


def of_picture(file: Pillow.Image) -> PixelSize | None:
    """Return the pixel size of an open picture; None where it states none, or the resolution of a screen.

    Only PNG is asked: in photographs the resolution belongs to the print.
    """
    if file.format != "PNG" or "dpi" not in file.info:
        return None
    columns, rows = file.info["dpi"]
    return _checked(_per(rows, 25.4), _per(columns, 25.4), source="the resolution of the PNG")


def of_tiff(file: tifffile.TiffFile, page: Any) -> PixelSize | None:
    """Return the pixel size of an open TIFF; None where it states none, or the resolution of a screen.

    Args:
        file: file, in which OME or ImageJ may have written its own header.
        page: first page of the image.
    """
    if file.is_ome:
        return _of_ome(file.ome_metadata or "")
    tags = {name: page.tags.get(name) for name in ("XResolution", "YResolution", "ResolutionUnit")}
    x, y, unit = (None if tag is None else tag.value for tag in tags.values())
    if file.is_imagej:
        header = file.imagej_metadata or {}
        mm = MM.get(str(header.get("unit", "")).strip(), 0.0)
        between = _number(header.get("spacing")) * mm
        return _checked(_per(_number(y), mm), _per(_number(x), mm), between, "the calibration of ImageJ")
    header = (file.shaped_metadata or ({},))[0] if file.is_shaped else {}
    between = _number(header.get("spacing")) * MM.get(str(header.get("unit", "")), 0.0)
    mm = _TIFF_UNITS.get(int(_number(unit)), 0.0)
    return _checked(_per(_number(y), mm), _per(_number(x), mm), between, "the resolution of the TIFF")


def _of_ome(text: str) -> PixelSize | None:
    pixels = next((one for one in ElementTree.fromstring(text).iter() if one.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None
    slices, rows, columns = (
        _number(pixels.get(f"PhysicalSize{axis}")) * MM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), 0.0)
        for axis in "ZYX"
    )
    return _checked(rows, columns, slices, "the header of OME")


def _checked(rows: float, columns: float, slices: float = 0.0, source: str = "") -> PixelSize | None:
    """Return distances that can be those of pixels; None for others."""
    if not all(SMALLEST <= size <= LARGEST for size in (rows, columns)):
        return None
    if any(abs(25.4 / columns - screen) < 0.05 for screen in SCREENS):
        return None
    return PixelSize((slices if SMALLEST <= slices <= LARGEST else 1.0, rows, columns), source)


def _per(resolution: float, mm: float) -> float:
    """Return the size of pixels of which there are ``resolution`` on a length; 0 where that is unknown."""
    return mm / resolution if resolution > 0 else 0.0


def _number(value: Any) -> float:
    """Return a number of a header, which may be a ratio; 0 where it is none."""
    try:
        return float(value[0]) / float(value[1]) if isinstance(value, tuple) else float(value)
    except (TypeError, ValueError, ZeroDivisionError, IndexError):
        return 0.0
