"""Diffusion weights and directions that MR scanners state in attributes of their makers instead of DICOM's own."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

_OFFSET = 10**9
"""Number that newer scanners of GE add to b-values, as in 1000000750."""
_BLOCKS = range(0x10, 0x20)
"""Places at which makers claim their block of a group; a file has few of them, and the first are taken first."""


@dataclass(frozen=True)
class _Maker:
    """Where a maker states diffusion.

    Attributes:
        weight: creator, group and element of the b-value in s/mm², the first of the numbers there.
        directions: creators, groups and elements of the direction: one for three numbers, or one for each.
    """

    weight: tuple[str, int, int]
    directions: tuple[tuple[str, int, int], ...]


_MAKERS = (
    _Maker(("SIEMENS MR HEADER", 0x0019, 0x0C), (("SIEMENS MR HEADER", 0x0019, 0x0E),)),
    _Maker(("GEMS_PARM_01", 0x0043, 0x39), tuple(("GEMS_ACQU_01", 0x0019, element) for element in (0xBB, 0xBC, 0xBD))),
    _Maker(
        ("Philips Imaging DD 001", 0x2001, 0x03),
        tuple(("Philips MR Imaging DD 001", 0x2005, element) for element in (0xB0, 0xB1, 0xB2)),
    ),
)
_PLACES = {(group, element) for maker in _MAKERS for _, group, element in (maker.weight, *maker.directions)}
TAGS: tuple[int, ...] = tuple(
    sorted(
        {group << 16 | block for group, _ in _PLACES for block in _BLOCKS}
        | {group << 16 | block << 8 | element for group, element in _PLACES for block in _BLOCKS}
    )
)
"""Tags that have to be read for `diffusion_of`: blocks of the makers, wherever they lie, and their elements."""


def diffusion_of(file: Dataset) -> Mapping[str, Any]:
    """Return the b-value and the direction that a maker's attributes state, under the names of DICOM's own.

    An attribute counts only in a block that its maker claims, since other makers may use the same tags. A direction is
    returned only beside a b-value that is not 0; what is no number is not returned.

    Args:
        file: header, read with `TAGS`.
    """
    for maker in _MAKERS:
        numbers = _numbers(file, maker.weight)
        if not numbers:
            continue
        weight = numbers[0] % _OFFSET if maker.weight[0].startswith("GEMS") else numbers[0]
        found: dict[str, Any] = {"DiffusionBValue": weight}
        direction = [number for place in maker.directions for number in _numbers(file, place)]
        if weight and len(direction) == 3 and any(direction):
            found["DiffusionGradientOrientation"] = direction
        return found
    return {}


def _numbers(file: Dataset, place: tuple[str, int, int]) -> Sequence[float]:
    """Return the finite numbers of a maker's attribute; none where it is absent, or anything else."""
    creator, group, element = place
    for block in _BLOCKS:
        if str(_value(file, group << 16 | block) or "").strip() != creator:
            continue
        value = _value(file, group << 16 | block << 8 | element)
        try:
            numbers = _from_bytes(value) if isinstance(value, bytes) else np.atleast_1d(value).astype(float).tolist()
        except (TypeError, ValueError, struct.error):
            return ()
        return numbers if np.isfinite(numbers).all() else ()
    return ()


def _value(file: Dataset, tag: int) -> Any:
    """Return the value of a tag; the bytes of one whose type the file states wrongly, and None of an absent one."""
    if tag not in file:
        return None
    raw = file.get_item(tag)
    try:
        return file[tag].value
    except (ValueError, NotImplementedError):
        return raw.value if isinstance(raw, RawDataElement) else None


def _from_bytes(value: bytes) -> list[float]:
    """Return the numbers of an attribute of unknown type, which is text, or else a number of 4 or 8 bytes each."""
    try:
        return [float(part) for part in value.decode("ascii").strip(" \0").split("\\")]
    except ValueError:
        size, letter = (8, "d") if len(value) % 8 == 0 else (4, "f")
        return list(struct.unpack(f"<{len(value) // size}{letter}", value))
