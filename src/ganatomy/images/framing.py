"""Bringing images of any size to the one size a network knows, and results back to where they came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate, pad

from ganatomy.images.image import ComputedArray, Image

Fit = Literal["cover", "contain", "patches"]
"""The image fills the frame and what sticks out is cut off; all of it is inside and the rest is filled; or nothing is
resized and patches are cut at the image's own resolution."""


@dataclass(frozen=True)
class Framing:
    """A frame of one size for images of any size, in the plane or in space.

    Args:
        size: rows and columns, for volumes preceded by slices.
        fit: how an image of another shape gets into it.
        fill: value around a contained image.
    """

    size: tuple[int, ...]
    fit: Fit = "cover"
    fill: float = 0.0

    def __call__(self, image: Image) -> Image:
        """The image in the frame, on its own grid in the patient, float32; slice by slice where the frame is flat."""
        if self.fit == "patches" or self._inner(image) == self.size:
            return image
        volume = len(self.size) == 3
        slices, rows, columns = self.size if volume else (image.shape[0], *self.size)

        def slab(start: int, stop: int) -> NDArray[np.float32]:
            values = image.numpy() if volume else image.slab(start, stop)
            framed = self.into(values.astype(np.float32, copy=False))
            return framed[:, start:stop] if volume else framed

        array = ComputedArray((image.channels, slices, rows, columns), np.float32, slab, slices if volume else 1)
        return image.with_geometry(array, self._affine(image))

    def into(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(channels, slices, rows, columns) resized into the frame, averaged where it gets smaller."""
        scaled, before = self._place(values.shape[-len(self.size) :])
        return _moved(_resized(values, scaled), self.size, before, self.fill)

    def back(self, values: NDArray[np.float32], extents: tuple[int, ...], outside: float = 0.0) -> NDArray[np.float32]:
        """What was computed in the frame, on a grid of ``extents`` again; ``outside`` where the frame did not reach."""
        if self.fit == "patches" or extents == self.size:
            return values
        scaled, before = self._place(extents)
        return _resized(_moved(values, scaled, [-start for start in before], outside), extents)

    def _inner(self, image: Image) -> tuple[int, ...]:
        return image.shape[-len(self.size) :]

    def _place(self, extents: tuple[int, ...]) -> tuple[tuple[int, ...], list[int]]:
        """How large an image becomes, and where in the frame it begins; before it where it is cut off."""
        ratios = [old / new for old, new in zip(extents, self.size, strict=True)]
        scale = min(ratios) if self.fit == "cover" else max(ratios)
        scaled = tuple(max(1, round(extent / scale)) for extent in extents)
        return scaled, [(new - old) // 2 for new, old in zip(self.size, scaled, strict=True)]

    def _affine(self, image: Image) -> NDArray[np.float64]:
        """Index-to-world matrix of the framed image: pixel centres stay where they are in the patient."""
        extents = self._inner(image)
        to_old = np.eye(4)
        for axis, old, scaled, before in zip(range(3 - len(extents), 3), extents, *self._place(extents), strict=True):
            step = old / scaled
            to_old[axis, axis] = step
            to_old[axis, 3] = 0.5 * step - 0.5 - before * step
        return np.asarray(image.affine @ to_old)


def _moved(
    values: NDArray[np.float32], size: tuple[int, ...], before: Sequence[int], fill: float
) -> NDArray[np.float32]:
    """Cut off or filled up to ``size``, with so many pixels put before the first one along each axis."""
    margins = []
    for old, new, start in zip(*(reversed(part) for part in (values.shape[-len(size) :], size, before)), strict=True):
        margins += [start, new - old - start]
    return pad(torch.from_numpy(np.ascontiguousarray(values)), margins, value=fill).numpy()


def _resized(values: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    if values.shape[-len(size) :] == size:
        return values
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if len(size) == 2:
        return interpolate(tensor, size, mode="bilinear", antialias=True).numpy()
    smaller = all(new <= old for old, new in zip(values.shape[1:], size, strict=True))
    if smaller:
        return interpolate(tensor[None], size, mode="area")[0].numpy()
    return interpolate(tensor[None], size, mode="trilinear")[0].numpy()
