"""Instance maps as a kind of role: every voxel has the number of the object that it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Array, spatial
from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.roles.labels import MapRole

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
