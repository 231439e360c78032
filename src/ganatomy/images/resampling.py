"""Resampling of images to the grid of another image."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import ComputedArray, Image


def resampled_to(image: Image, grid: Image, labels: bool = False) -> Image:
    """Resample an image to the grid of another one, by trilinear interpolation; 0 beyond its edges.

    Args:
        image: image with any number of channels; read as a whole when the first slice is read.
        grid: image whose shape and affine are used.
        labels: whether the value of the nearest voxel is taken, as label maps need.
    """
    matrix = np.linalg.inv(image.affine) @ grid.affine
    held: list[NDArray[Any]] = []
    dtype = image.dtype if labels else np.dtype(np.float32)

    def slab(start: int, stop: int) -> NDArray[Any]:
        if not held:
            held.append(image.numpy())
        offset: Any = matrix[:3, 3] + matrix[:3, 0] * start
        shape = (stop - start, *grid.shape[1:])
        order: Any = 0 if labels else 1
        channels: list[Any] = [channel if labels else channel.astype(np.float32) for channel in held[0]]
        moved = [ndimage.affine_transform(one, matrix[:3, :3], offset, shape, order=order) for one in channels]
        return np.stack(moved).astype(dtype, copy=False)

    array = ComputedArray((image.channels, *grid.shape), dtype, slab)
    return Image(array, grid.affine, image.unit, image.header, grid.offsets)


def on_one_grid(values: Mapping[str, Any], reference: str, labels: Collection[str] = ()) -> dict[str, Any]:
    """Resample all images of a case to the grid of one of them.

    Args:
        values: role to value.
        reference: role whose grid is used.
        labels: roles that are label maps, which take the label of the nearest voxel.

    Raises:
        UserError: the reference is missing in the case, or is no image.
    """
    if not isinstance(values.get(reference), Image):
        raise UserError(f"--resample-to {reference}: no such image here; there are {', '.join(values)}")
    grid = values[reference]
    return {
        name: resampled_to(value, grid, name in labels)
        if isinstance(value, Image) and not same_grid(value, grid)
        else value
        for name, value in values.items()
    }


def same_grid(first: Image, second: Image) -> bool:
    """Return whether the voxels of two images lie at equal positions, to a thousandth of a voxel."""
    close = 1e-3 * min(first.spacing)
    return first.shape == second.shape and bool(np.allclose(first.affine, second.affine, atol=close, rtol=0))


def with_known_pixels(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a case, in which pictures of unknown pixel size take that of one with as many pixels.

    Photographs often state a resolution, and masks that were drawn on them none. Sizes that differ by less than 1 %, as
    those of PNG do by rounding, become equal; others are left as they are.

    Args:
        values: role to value.
    """
    pictures = {
        name: value
        for name, value in values.items()
        if isinstance(value, Image) and value.header.kind in ("raster", "npy")
    }
    known = [picture for picture in pictures.values() if picture.header.meaning.pixel_mm is not None]
    return {**values, **{name: _sized_like(picture, known) for name, picture in pictures.items()}}


def _sized_like(picture: Image, known: Sequence[Image]) -> Image:
    """Return a picture with the pixel size of the first known one that it may share."""
    unknown = picture.header.meaning.pixel_mm is None
    for other in known:
        if picture.shape == other.shape and (unknown or np.allclose(picture.affine, other.affine, rtol=0.01, atol=0)):
            meaning = replace(picture.header.meaning, pixel_mm=other.header.meaning.pixel_mm)
            return replace(picture, affine=other.affine, header=replace(picture.header, meaning=meaning))
    return picture
