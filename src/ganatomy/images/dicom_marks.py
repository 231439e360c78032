"""Volumes of one DICOM series, told apart by echoes, b-values, phases, time and other marks of their frames."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

from pydicom.datadict import dictionary_description, keyword_for_tag

from ganatomy.images.dicom_values import Get

MARKS: Mapping[str, tuple[str, ...]] = {
    "temporal position": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "echo": ("EchoNumbers",),
    "echo time": ("EffectiveEchoTime", "EchoTime"),
    "b-value": ("DiffusionBValue",),
    "direction": ("DiffusionGradientOrientation",),
    "inversion time": ("InversionTimes", "InversionTime"),
    "flip angle": ("FlipAngle",),
    "phase": ("NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime", "TriggerTime"),
    "respiratory phase": ("NominalPercentageOfRespiratoryPhase", "RespiratoryCyclePosition"),
    "type": ("FrameType", "ImageType"),
    "component": ("ComplexImageComponent",),
    "kernel": ("ConvolutionKernel",),
    "tube voltage": ("KVP",),
    "stack": ("StackID",),
    "acquisition": ("AcquisitionNumber",),
    "time": ("FrameReferenceTime", "FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime", "ContentTime"),
}
"""Marks that tell volumes of one series apart, in the order in which they are tried, and their attributes."""
_SPATIAL = ("ImagePositionPatient", "InStackPositionNumber", "SliceLocation", "StackID", "ReferencedSegmentNumber")
"""Dimensions of multi-frame files that tell slices of one volume apart, or segments."""
_GENERAL = ("acquisition", "time")
"""Marks that may change within a volume, too, and are tried after the others and their combinations."""
_RANKED = ("phase", "time")
"""Marks that are told by their order at each place where they differ from slice to slice."""
_NUMBERED = ("direction", "time")
"""Marks whose values mean nothing to a reader, and are numbered."""
_UNITS = {"echo time": " ms", "inversion time": " ms", "flip angle": " degrees", "tube voltage": " kV"}


def marks_of(top: Mapping[str, Any], get: Get) -> dict[str, Hashable]:
    """Return what may tell a frame from others at its position: `MARKS`, then the dimensions of a multi-frame file."""
    found: dict[str, Hashable] = {}
    for name, keywords in MARKS.items():
        stated = next((value for keyword in keywords if (value := get(keyword)) is not None), None)
        if stated is not None:
            found[name] = _comparable(stated)
    directions = get("DiffusionGradientDirectionSequence")
    if directions and "DiffusionGradientOrientation" in directions[0]:
        found["direction"] = _comparable(directions[0].DiffusionGradientOrientation)
    numbers = several(get("DimensionIndexValues"))
    for item, number in zip(top.get("DimensionIndexSequence") or [], numbers, strict=False):
        keyword = keyword_for_tag(item.get("DimensionIndexPointer", 0))
        if keyword and keyword not in _SPATIAL:
            found.setdefault(dictionary_description(keyword).lower(), int(number))
    return found


def _comparable(value: Any) -> Hashable:
    """Return a value that can be compared: a number of 6 digits, a text, or a tuple of these."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return float(f"{float(value):.6g}")
    return tuple(_comparable(one) for one in value)


def several(value: Any) -> Sequence[Any]:
    """Return the values of an attribute that may have one, several or none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str | int | float) else tuple(value)


def volumes_of(marks: Sequence[Mapping[str, Hashable]], places: Sequence[int]) -> dict[str | None, list[int]]:
    """Return the volumes that frames belong to, in order of what tells them apart.

    Args:
        marks: of each frame, what may tell it from others at its place, by name.
        places: of each frame, a number that is equal for frames at one place.

    Returns:
        Words for each volume to the indices of its frames; None to all frames where there is one volume, or where
        nothing tells several apart.
    """
    most = max(Counter(places).values())
    told = _telling(marks, places, most) if most > 1 else None
    if told is None:
        return {None: list(range(len(places)))}
    names, keys = told
    members: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        members[key].append(index)
    distinct = sorted(members, key=lambda key: [_order(value) for value in key])
    volumes: dict[str | None, list[int]] = {}
    for number, key in enumerate(distinct, start=1):
        words = _words(names, key, distinct, number)
        volumes[words if words not in volumes else f"{words}, {number}"] = members[key]
    return volumes


def _telling(
    marks: Sequence[Mapping[str, Hashable]], places: Sequence[int], most: int
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]] | None:
    """Return the marks that tell the volumes of a series apart, and their values for every frame; None without any.

    Each volume has at most one frame at a place, and there are as many volumes as frames at one place.
    """
    known = dict.fromkeys([*MARKS, *(name for own in marks for name in own)])
    columns = {name: [own.get(name) for own in marks] for name in known}
    varying = [name for name, values in columns.items() if 1 < len(set(values)) <= most]
    special = [name for name in varying if name not in _GENERAL]
    diffusion = [tuple(name for name in ("b-value", "direction") if name in varying)]
    others = (names for chosen in (special, varying) for size in (1, 2, 3) for names in combinations(chosen, size))
    for names in chain(filter(None, diffusion), others):
        keys = list(zip(*(columns[name] for name in names), strict=True))
        if len(set(keys)) == most and len(set(zip(keys, places, strict=True))) == len(marks):
            return names, keys
    for name in _RANKED:
        ranks = _ranks(columns[name], places, most)
        if ranks:
            return (name,), ranks
    return None


def _ranks(values: Sequence[Any], places: Sequence[int], most: int) -> list[tuple[Any, ...]] | None:
    """Return the order from 1 of every frame among those at its place; None where values are missing or equal."""
    if None in values:
        return None
    inside: dict[int, list[Any]] = defaultdict(list)
    for value, place in zip(values, places, strict=True):
        inside[place].append(value)
    if any(len(set(own)) < most for own in inside.values()):
        return None
    order = {
        place: {value: rank for rank, value in enumerate(sorted(own, key=_order), start=1)}
        for place, own in inside.items()
    }
    return [(float(order[place][value]),) for value, place in zip(values, places, strict=True)]


def _order(value: Any) -> tuple[bool, str, Any]:
    """Return a key by which values of any kind are sorted, absent ones first."""
    return value is not None, type(value).__name__, 0 if value is None else value


def _words(names: Sequence[str], key: Sequence[Any], distinct: Sequence[Sequence[Any]], number: int) -> str:
    """Return what tells one volume from the others."""
    parts = []
    for name, value, column in zip(names, key, zip(*distinct, strict=True), strict=True):
        if value is None:
            continue
        if name in _NUMBERED:
            values = sorted({one for one in column if one is not None}, key=_order)
            parts.append(f"{name} {values.index(value) + 1}")
        elif isinstance(value, tuple) and all(isinstance(one, str) for one in value):
            shared = set.intersection(*(set(one) for one in column if one is not None))
            parts.append(f"{name} {' '.join(one for one in value if one not in shared) or number}")
        else:
            told = f"{value:g}" if isinstance(value, float) else value
            parts.append(f"{name} {told}{_UNITS.get(name, '')}")
    return ", ".join(parts) or f"no {names[0]}"
