"""Meaning of the stored numbers of a DICOM frame: type, map to values and unit, as its header states them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from ganatomy.images.image import Rescale

Get = Callable[..., Any]
"""Returns the value of an attribute of a frame by its keyword, or the second argument where the header has none."""

FLOATS: dict[str, np.dtype[Any]] = {
    "FloatPixelData": np.dtype(np.float32),
    "DoubleFloatPixelData": np.dtype(np.float64),
}
"""Attributes that hold real pixels, and their types; all others hold integers in PixelData."""
NO_RESCALE = "no rescale"
_PET_UNITS = {"BQML": "Bq/mL", "GML": "SUV"}
_DOSE_UNITS = {"GY": "Gy"}
_UCUM = {"[hnsf'U]": "HU", "Bq/ml": "Bq/mL", "{SUVbw}g/ml": "SUV"}
"""Units of measurement codes that are called otherwise here."""
_NO_UNITS = ("", "1", "{ratio}", "US")


@dataclass(frozen=True)
class Values:
    """Meaning of the stored numbers of a frame.

    Attributes:
        stored: Type of the decoded pixels, after the lookup table if there is one, with the (lowest, highest) value
            that the header allows.
        channels: Number of colours, or 1.
        rescale: Map from decoded pixels to values.
        unit: Unit of the values; None where the header states none.
        stated: Attributes that state the map, in words.
        table: Whether a Modality LUT is applied to the pixels.
        palette: Whether the pixels are indices of a palette of colours.
        ignored: Unit of a Real World Value Mapping that is not applied; None where there is none.
    """

    stored: tuple[np.dtype[Any], int, int]
    channels: int = 1
    rescale: Rescale = field(default_factory=Rescale)
    unit: str | None = None
    stated: str = NO_RESCALE
    table: bool = False
    palette: bool = False
    ignored: str | None = None

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the values of decoded pixels."""
        return self.rescale.apply(pixels, self.rescale.dtype(*self.stored))


def values_of(top: Mapping[str, Any], get: Get, pixels: str, modality: str | None) -> Values:
    """Return what the pixels of a frame mean.

    How they are shown (MONOCHROME1, windows, presentation tables) changes no value.

    Args:
        top: attributes at the top of the file, by keyword.
        get: attributes of the frame.
        pixels: attribute that holds the pixels.
        modality: modality of the file.
    """
    if top.get("PhotometricInterpretation") == "PALETTE COLOR":
        return Values((np.dtype(np.uint8), 0, 255), 3, palette=True)
    channels = int(top.get("SamplesPerPixel") or 1)
    if tables := top.get("ModalityLUTSequence"):
        bits = 16 if int(tables[0].LUTDescriptor[2]) > 8 else 8
        kind = str(tables[0].get("ModalityLUTType") or "")
        unit = (kind if kind not in _NO_UNITS else None) or _unit(modality, get, stated=False)
        return Values((np.dtype(f"u{bits // 8}"), 0, 2**bits - 1), channels, Rescale(), unit, "a Modality LUT", True)
    stored = (FLOATS[pixels], 0, 0) if pixels in FLOATS else _integers(top, get)
    rescale, stated = _rescale(get, modality)
    unit, mapping = _unit(modality, get, stated=stated != NO_RESCALE), _real_world(get)
    ignored = None
    if mapping and unit is None:
        rescale, unit, stated = *mapping, "a Real World Value Mapping"
    elif mapping and mapping[1] != unit:
        ignored = mapping[1]
    return Values(stored, channels, rescale, unit or ("a.u." if modality == "MR" else None), stated, ignored=ignored)


def _integers(top: Mapping[str, Any], get: Get) -> tuple[np.dtype[Any], int, int]:
    bits, signed = int(get("BitsStored", top["BitsAllocated"])), int(get("PixelRepresentation", 0))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return np.dtype(f"{'i' if signed else 'u'}{max(top['BitsAllocated'] // 8, 1)}"), low, high


def _rescale(get: Get, modality: str | None) -> tuple[Rescale, str]:
    """Return the map that the header states, and the attributes that state it."""
    if modality == "RTDOSE":
        scaling = get("DoseGridScaling")
        return (Rescale(), NO_RESCALE) if scaling is None else (Rescale(float(scaling)), "DoseGridScaling")
    stated = [name for name in ("RescaleSlope", "RescaleIntercept") if get(name) is not None]
    slope, intercept = float(get("RescaleSlope", 1.0)), float(get("RescaleIntercept", 0.0))
    return Rescale(slope, intercept), " and ".join(stated) or NO_RESCALE


def _unit(modality: str | None, get: Get, stated: bool) -> str | None:
    """Return the unit that the header states; `stated` tells whether it states a map to values in this unit."""
    if modality == "CT":
        # Dual-energy maps are CT, too, and state their quantity (PS3.3 C.11.1.1.2); "US" is unspecified.
        kind = str(get("RescaleType", "HU"))
        return None if not stated or get("RescaleIntercept") is None else "HU" if kind == "US" else kind
    if modality == "PT":
        units, kind = str(get("Units", "")), str(get("SUVType", "") or "BW")
        # Uptake by lean body mass and others is not comparable with that by body weight.
        return f"SUV {kind}" if units == "GML" and kind != "BW" else _PET_UNITS.get(units, units) or None
    if modality == "RTDOSE":
        return _DOSE_UNITS.get(str(get("DoseUnits", ""))) if stated else None
    kind = str(get("RescaleType", ""))
    return kind if modality != "MR" and stated and kind not in _NO_UNITS else None


def _real_world(get: Get) -> tuple[Rescale, str] | None:
    """Return the map and unit of the only linear Real World Value Mapping that states a unit; None without one."""
    items = [item for item in get("RealWorldValueMappingSequence") or [] if item.get("RealWorldValueSlope") is not None]
    if len(items) != 1:
        return None
    codes = items[0].get("MeasurementUnitsCodeSequence") or [pydicom.Dataset()]
    code = str(codes[0].get("CodeValue") or "")
    rescale = Rescale(float(items[0].RealWorldValueSlope), float(items[0].get("RealWorldValueIntercept") or 0))
    return None if code in _NO_UNITS else (rescale, _UCUM.get(code, code))


def in_colours(pixels: NDArray[Any], file: pydicom.Dataset) -> NDArray[np.uint8]:
    """Return the colours of palette indices, (..., 3), of 8 bits whatever the palette has.

    The high byte of a palette of 16 bits is used, unless the palette holds 8-bit numbers in 16 bits.
    """
    table = apply_color_lut(np.arange(2 ** int(file.BitsAllocated), dtype=pixels.dtype), file)
    table = table >> 8 if table.max() > np.iinfo(np.uint8).max else table
    colours: NDArray[np.uint8] = table.astype(np.uint8)[pixels]
    return colours


def through_table(pixels: NDArray[Any], file: pydicom.Dataset) -> NDArray[Any]:
    """Return stored numbers after the Modality LUT of a file."""
    table = file.ModalityLUTSequence[0]
    entries, first, bits = table.LUTDescriptor
    table.LUTDescriptor = [entries, first, 16 if bits > 8 else 8]  # some state 12 bits, which are stored as 16
    return apply_modality_lut(pixels, file)
