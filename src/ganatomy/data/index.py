"""Where the voxels of a label are: an index from which patches can be centred on it without searching."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Array, slab

MOST = 2**18
"""Voxels of a label that an index holds; of more, evenly spaced ones stand for all."""


@dataclass(frozen=True)
class LabelIndex:
    """Places of the voxels of one label in some slices of a case.

    Attributes:
        places: flat indices into (slices, rows, columns), ascending.
        shape: (slices, rows, columns).
    """

    places: NDArray[np.int64]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.places)

    def voxel(self, number: int) -> tuple[int, int, int]:
        """Slice, row and column of a voxel by its number in the index."""
        slices, rows, columns = np.unravel_index(self.places[number], self.shape)
        return int(slices), int(rows), int(columns)


def label_index(array: Array, label: int, start: int, stop: int) -> LabelIndex:
    """Index the voxels of a label.

    Args:
        array: label map, (1, slices, rows, columns).
        label: whose voxels are wanted.
        start: first slice that is looked at; the index counts from it.
        stop: one past the last.
    """
    _, _, rows, columns = array.shape
    places = [
        np.flatnonzero(slab(array, at, at + 1)[0, 0] == label) + (at - start) * rows * columns
        for at in range(start, stop)
    ]
    found = np.concatenate(places) if places else np.zeros(0, np.int64)
    some = found[np.linspace(0, len(found) - 1, min(len(found), MOST)).astype(np.int64)] if len(found) else found
    return LabelIndex(some.astype(np.int64), (stop - start, rows, columns))
