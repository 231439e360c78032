"""Index of the voxels of a label, so that patches can be centred on them without a search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Array, slab

MOST_VOXELS = 2**18
"""Largest number of voxels of a label in an index; of more voxels, evenly spaced ones are kept."""


@dataclass(frozen=True)
class LabelIndex:
    """Positions of the voxels of one label in a range of slices of a case.

    Attributes:
        places: flat indices into (slices, rows, columns), ascending.
        shape: shape of the range, (slices, rows, columns).
    """

    places: NDArray[np.int64]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.places)

    def voxel(self, number: int) -> tuple[int, int, int]:
        """Return slice, row and column of a voxel, by its number in the index."""
        slices, rows, columns = np.unravel_index(self.places[number], self.shape)
        return int(slices), int(rows), int(columns)


def label_index(array: Array, label: int | tuple[int, ...], start: int, stop: int) -> LabelIndex:
    """Return the index of the voxels of a label, or of several labels, in a range of slices.

    Args:
        array: label map, (1, slices, rows, columns).
        label: label of the voxels, or labels of one class.
        start: first slice of the range; slices of the index are counted from it.
        stop: one past the last slice.
    """
    _, _, rows, columns = array.shape
    places = [
        np.flatnonzero(np.isin(slab(array, at, at + 1)[0, 0], label)) + (at - start) * rows * columns
        for at in range(start, stop)
    ]
    found = np.concatenate(places) if places else np.zeros(0, np.int64)
    some = found[np.linspace(0, len(found) - 1, min(len(found), MOST_VOXELS)).astype(np.int64)] if len(found) else found
    return LabelIndex(some.astype(np.int64), (stop - start, rows, columns))
