"""Recordings over time, such as a beating heart, whose time frames become cases of one subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ganatomy.case import Case
from ganatomy.errors import Shortage, UserError
from ganatomy.images.image import Image
from ganatomy.images.paths import safe_name, unique_name

ALL = "all"


def parse_frames(texts: Sequence[str]) -> dict[str, int] | None:
    """Parse time frames to a mapping from name to number; None where all frames are wanted.

    Args:
        texts: ``all``, or numbers from 0, or ``NAME=NUMBER`` such as ``ed=0``.

    Raises:
        UserError: a text has another form, or two frames have one name.
    """
    if list(texts) == [ALL]:
        return None
    found: dict[str, int] = {}
    for text in texts:
        name, mark, number = text.rpartition("=")
        if not number.isdecimal() or (mark and safe_name(name, default="") != (name or None)):
            raise UserError(f"--frames {text!r}: give all, numbers from 0, or NAME=NUMBER such as ed=0 es=9")
        if (name or number) in found:
            raise UserError(
                f"--frames {text!r}: there is a frame {name or number} already; give every frame its own name"
            )
        found[name or number] = int(number)
    return found


def in_frames(cases: Sequence[Case], texts: Sequence[str]) -> list[Case]:
    """Return every case once for each of its time frames, named CASE_FRAME.

    A file with a single time frame, such as a label map drawn in one frame only, is used with all of them.

    Args:
        cases: cases whose images may hold time frames as channels.
        texts: texts as typed, see `parse_frames`.

    Raises:
        UserError: a recording does not have a time frame, or images of one case have different numbers of frames.
    """
    wanted = parse_frames(texts)
    found = [_in_frames(case, wanted) for case in cases]
    # A case as it is keeps its name, which that of a time frame of another case may equal.
    taken = {case.name.casefold() for case, own in zip(cases, found, strict=True) if own[0] is case}
    return [
        one if one is case else replace(one, name=unique_name(one.name, taken))
        for case, own in zip(cases, found, strict=True)
        for one in own
    ]


def _in_frames(case: Case, wanted: dict[str, int] | None) -> list[Case]:
    try:
        counts = {role: frames_of(source) for role, source in case.sources.items()}
    except Shortage:
        raise
    except UserError:
        return [case]  # the reason is told when the case is prepared
    several = {role: count for role, count in counts.items() if count > 1}
    if len(set(several.values())) > 1:
        told = ", ".join(f"{role} {count}" for role, count in several.items())
        raise UserError(f"{case.name}: its images hold different numbers of time frames: {told}")
    total = next(iter(several.values()), 1)
    chosen = wanted if wanted is not None else {str(number): number for number in range(total)}
    if beyond := [name for name, number in chosen.items() if number >= total]:
        held = f"{total} time frames" if several else "1 time frame"
        raise UserError(f"{case.name}: {held}, numbered from 0; there is no {beyond[0]}")
    if not several:
        return [case]
    return [
        replace(
            case,
            name=f"{case.name}_{name}",
            frame=name,
            sources={
                role: replace(source, frame=number) if role in several else source  # type: ignore[type-var]
                for role, source in case.sources.items()
            },
        )
        for name, number in chosen.items()
    ]


def frames_of(source: Any) -> int:
    """Return the number of time frames in a source: its channels, unless they are colours; 1 for DICOM and raw data."""
    if getattr(source, "kind", None) not in ("nifti", "itk", "mgh", "npy", "raster"):
        return 1
    value = source.open()
    return value.channels if isinstance(value, Image) and not value.header.colours else 1
