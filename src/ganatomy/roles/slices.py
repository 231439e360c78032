"""Reordering of data with one item per slice, such as classes or poses, between source and working grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ganatomy.errors import UserError
from ganatomy.images.frames import Frame

Item = TypeVar("Item")


def to_working_slices(items: Sequence[Item], frame: Frame | None, role: str) -> Sequence[Item]:
    """Return items of a volume's slices in the order of the slices of the working grid.

    Args:
        items: one item per slice, in the order of the source.
        frame: frame of the volume; None where there is none.
        role: name of the role, for messages.

    Raises:
        UserError: the numbers of items and slices differ, or the working grid has other slices than the source.
    """
    if frame is None:
        return items
    if len(items) != frame.source[0]:
        raise UserError(f"{role}: {len(items)} values for {frame.source[0]} slices; give one for each")
    if not frame.slice_wise:
        raise UserError(
            f"{role}: given for every slice as it is stored, but this system cuts the volume into other slices; give "
            "volumes whose slices lie in its plane"
        )
    return items[::-1] if frame.turn.flipped[0] else items


def to_source_slices(items: Sequence[Item], frame: Frame | None) -> Sequence[Item]:
    """Return items of the working grid's slices in the order of the source; the inverse of `to_working_slices`."""
    return items[::-1] if frame is not None and frame.turn.flipped[0] else items
