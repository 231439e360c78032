"""Slices of a volume in several planes: their patches, and the fusion of what networks find in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ganatomy.game import Across, Stream
from ganatomy.images.frames import Plane

Fusion = Literal["vote", "mean"]
"""Rule by which views are fused: the share of views that find a region, or the mean of their probabilities."""
AXES: Mapping[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Plane of slices to the axis of an axial volume (slices, rows, columns) that runs across them."""


def plane_of(size: Sequence[int], view: Plane) -> tuple[int, int]:
    """Return rows and columns of the slices of an axial volume in a plane.

    Args:
        size: slices, rows and columns of the volume.
        view: plane of the slices.
    """
    first, second = (extent for axis, extent in enumerate(size) if axis != AXES[view])
    return first, second


def in_plane(stream: Stream, view: Plane) -> Stream:
    """Return a stream of the slices of a view, under its name.

    Args:
        stream: stream of patches (1, rows, columns) of that view.
        view: plane of the slices.
    """
    return replace(stream, name=view, place=Across(AXES[view]) if AXES[view] else stream.place)


def turned(array: NDArray[Any], view: Plane) -> NDArray[Any]:
    """Return an axial volume (channels, slices, rows, columns) with its slices in another plane."""
    return np.moveaxis(array, 1 + AXES[view], 1)


def turned_back(array: NDArray[Any], view: Plane) -> NDArray[Any]:
    """Return a volume whose slices are in another plane as an axial volume; the inverse of `turned`."""
    return np.moveaxis(array, 1, 1 + AXES[view])


def fuse(
    parts: Sequence[NDArray[np.float32]], inside: Callable[[NDArray[np.float32]], NDArray[np.bool_]], rule: Fusion
) -> NDArray[np.float32]:
    """Fuse the probabilities of several views.

    Args:
        parts: probabilities of the regions in each view, (regions, slices, rows, columns).
        inside: function that decides which voxels are in which region.
        rule: ``vote`` for the share of views that find a region, ``mean`` for the mean of their probabilities.

    Returns:
        Probabilities (regions, slices, rows, columns); those of a single view stay what they are. With a threshold of
        one half a vote of three views is that of the majority, and one of two views their union.
    """
    if len(parts) == 1:
        return parts[0]
    votes = parts if rule == "mean" else [inside(part) for part in parts]
    total = np.zeros(parts[0].shape, np.float32)
    for vote in votes:
        total += vote
    return total / np.float32(len(parts))
