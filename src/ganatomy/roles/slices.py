"""What every slice of a volume has one of, such as its class or the pose of its probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ganatomy.errors import UserError
from ganatomy.images.frames import Frame

Item = TypeVar("Item")


def to_working_slices(items: Sequence[Item], frame: Frame | None, role: str) -> Sequence[Item]:
    """One item a slice of the source, in the order of the slices of the working grid.

    Args:
        items: in the order of the source.
        frame: of the volume; None where there is none.
        role: name to use in messages.

    Raises:
        UserError: there are not as many items as slices, or slices do not stay slices.
    """
    if frame is None:
        return items
    if len(items) != frame.source[0]:
        raise UserError(f"{role}: {len(items)} of them for {frame.source[0]} slices; give one for each")
    if not frame.slice_wise:
        raise UserError(
            f"{role}: given for every slice as it is stored, but this system cuts the volume into other slices; give "
            "volumes whose slices lie in its plane"
        )
    return items[::-1] if frame.turn.flipped[0] else items


def to_source_slices(items: Sequence[Item], frame: Frame | None) -> Sequence[Item]:
    """The inverse of `to_working_slices`."""
    return items[::-1] if frame is not None and frame.turn.flipped[0] else items
