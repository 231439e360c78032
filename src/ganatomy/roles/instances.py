"""Instance maps as a kind of role: every voxel has the number of the object that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from torch import Tensor

from ganatomy.case import Array, spatial
from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.roles.labels import LabelRole, MapRole

LARGEST = np.iinfo(np.uint32).max


@dataclass(frozen=True)
class InstanceRole(MapRole):
    """A map of any number of objects, such as cells or glands; 0 is the background.

    Numbers only identify objects: mirroring, rotation and resampling keep them, and a patch has the numbers of the
    whole image. Where a patch reaches beyond the edge, mirrored objects keep their numbers, too.
    """

    kind: ClassVar[str] = "instances"

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return the map on the working grid, uint16 where the type of the source has 8 or 16 bits, else uint32.

        Raises:
            UserError: a value is no number of an object; raised when the array is read.
        """
        narrow = value.dtype.kind in "biu" and value.dtype.itemsize <= 2
        label = value.header.label
        dtype = np.dtype(np.uint16 if narrow else np.uint32)
        return self.framed(value, frame, dtype, lambda values: self._numbers(values, label))

    def _numbers(self, values: NDArray[Any], label: str) -> NDArray[Any]:
        if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
            raise UserError(f"{label}: {self.name} holds numbers of objects, which are integers; this file has others")
        if values.size and not (values.min() >= 0 and values.max() <= LARGEST):
            raise UserError(
                f"{label}: {self.name} holds numbers of objects, from 0 to {LARGEST}; this file has "
                f"{values.min():g} to {values.max():g}"
            )
        return values

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """Return numbers of objects (1, [[slices,] rows,] columns), int64; float32 cannot represent all of them."""
        return spatial(torch.from_numpy(np.array(patch, np.int64)), dims)

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """Return random numbers of up to five objects."""
        return torch.randint(6, (1, *size), generator=generator)

    def overlay(self, array: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
        """Return the pixels of objects that touch another object or the background, as ``objects``."""
        numbers = np.asarray(array[0])
        edges = np.zeros(numbers.shape, bool)
        for axis in range(2):
            apart = np.diff(numbers, axis=axis) != 0
            first, second = (np.moveaxis(edges, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
            first |= np.moveaxis(apart, axis, 0)
            second |= np.moveaxis(apart, axis, 0)
        return {"objects": edges & (numbers > 0)}


INSIDE, EDGE = 1, 2
"""Labels of the voxels of objects: those inside, and those at the edge of an object where edges are a class."""


@dataclass(frozen=True)
class ObjectRole(LabelRole):
    """An instance map, which networks take as regions of its objects: label 1 is their inside, 2 their edge.

    The edge of an object are the voxels that an erosion in the plane by a square of 3 x 3 voxels removes, so that
    touching objects are apart without it; what a patch or an image cuts off is not eroded. Label 2 exists where a
    region has it; otherwise objects have label 1 as a whole. Arrays and predictions hold numbers of objects.
    """

    kind: ClassVar[str] = "instances"

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return the numbers of objects on the working grid, uint16 or uint32, as in `InstanceRole`."""
        return InstanceRole(self.name).array(value, frame)

    @property
    def segments(self) -> Mapping[int, str]:
        """Nothing, since objects have no names."""
        return {}

    @property
    def prepared_as(self) -> str:
        """Text with the kind alone, since all regions are made from the same numbers."""
        return f"{self.name}: {self.kind}"

    @property
    def has_edges(self) -> bool:
        """Whether a region consists of the edges of objects, or holds them beside their insides."""
        return any(EDGE in labels for labels in self.regions.values())

    def indicators(self, labels: NDArray[Any]) -> NDArray[np.float32]:
        """Convert numbers of objects (1, ..., rows, columns) to indicators of regions: 1 inside, 0 outside."""
        return super().indicators(self.classes(labels))

    def classes(self, numbers: NDArray[Any]) -> NDArray[np.uint8]:
        """Return label 1 inside of objects, 2 at their edges where these are a class, 0 elsewhere; same shape."""
        classes = (numbers > 0).astype(np.uint8)
        if self.has_edges:
            classes[edges(numbers)] = EDGE
        return classes

    def overlay(self, labels: NDArray[Any]) -> dict[str, NDArray[np.bool_]]:
        """Return the pixels of objects that touch another object or the background, as ``objects``."""
        return InstanceRole(self.name).overlay(labels)


def edges(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the voxels of objects with a neighbour of another number, diagonal ones included, in the same slice.

    Args:
        numbers: numbers of objects, (..., rows, columns); 0 is the background.
    """
    size = (*[1] * (numbers.ndim - 2), 3, 3)
    low, high = (filter_(numbers, size=size, mode="nearest") for filter_ in (minimum_filter, maximum_filter))
    return np.asarray((numbers > 0) & (low != high))
