"""Frames: the invertible transformation of an image from the grid of its source to the working grid of a system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.sparse import csr_array
from torch.nn.functional import interpolate, pad

from ganatomy.errors import UserError
from ganatomy.images.image import ComputedArray, Image, LazyArray

Plane = Literal["axial", "sagittal", "coronal", "stored"]
"""Plane of the slices of the working grid; ``stored`` keeps the orientation of the file."""
Fit = Literal["cover", "contain", "patches", "centre"]
"""Method by which an image is brought to a size: ``cover`` scales it to fill the size and crops it; ``contain`` scales
it to lie inside and pads it; ``patches`` keeps its own size, and patches are cut from it; ``centre`` keeps its pixels
and crops and pads it around its centre."""
Resampling = Literal["linear", "labels"]
"""Linear interpolation with anti-aliasing, or the most frequent label, for label maps."""
Triple = tuple[int, int, int]
"""Numbers for the three axes (slices, rows, columns)."""

DIRECTIONS: dict[Plane, tuple[tuple[int, int], ...]] = {
    "axial": ((2, 1), (1, -1), (0, -1)),
    "sagittal": ((0, -1), (2, -1), (1, -1)),
    "coronal": ((1, -1), (2, -1), (0, -1)),
}
"""World axis (x to the right, y to the front, z to the head) and its sign along which slices, rows and columns of a
plane increase: axial slices go up, rows go back and columns go left, as radiologists view them."""

_nib: Any = nibabel


@dataclass(frozen=True)
class Turn:
    """A permutation of the axes of a volume, followed by reversals; values of voxels do not change.

    Attributes:
        axes: for each working axis, the axis of the source.
        flipped: for each working axis, whether it is reversed.
    """

    axes: Triple = (0, 1, 2)
    flipped: tuple[bool, bool, bool] = (False, False, False)

    @classmethod
    def to(cls, plane: Plane, affine: NDArray[np.float64]) -> Turn:
        """Return the turn that brings a volume to a plane; for oblique volumes, to the nearest orientation.

        Args:
            plane: plane of the working grid.
            affine: (4, 4), indices (slice, row, column) to mm in RAS+.
        """
        if plane == "stored":
            return cls()
        closest = _nib.orientations.io_orientation(affine)
        axes, flipped = [], []
        for world, sign in DIRECTIONS[plane]:
            axis = int(np.flatnonzero(closest[:, 0] == world)[0])
            axes.append(axis)
            flipped.append(bool(closest[axis, 1] != sign))
        return cls((axes[0], axes[1], axes[2]), (flipped[0], flipped[1], flipped[2]))

    def shape(self, shape: Sequence[int]) -> Triple:
        """Return the shape (slices, rows, columns) after the axes have been permuted to the plane of the slices."""
        return shape[self.axes[0]], shape[self.axes[1]], shape[self.axes[2]]

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return (channels, slices, rows, columns) turned, as a view."""
        turned = values.transpose(0, *(1 + axis for axis in self.axes))
        return np.flip(turned, tuple(1 + axis for axis, flip in enumerate(self.flipped) if flip))

    def undo(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the inverse of `apply`, as a view."""
        back: NDArray[Any] = np.flip(values, tuple(1 + axis for axis, flip in enumerate(self.flipped) if flip))
        return back.transpose(0, *(1 + self.axes.index(axis) for axis in range(3)))

    def indices(self, shape: Sequence[int]) -> NDArray[np.float64]:
        """Return the matrix (4, 4) from indices after the turn to indices of the source, which has ``shape``."""
        matrix = np.zeros((4, 4))
        for working, (axis, flip) in enumerate(zip(self.axes, self.flipped, strict=True)):
            matrix[axis, working] = -1.0 if flip else 1.0
            matrix[axis, 3] = shape[axis] - 1 if flip else 0.0
        matrix[3, 3] = 1.0
        return matrix

    @property
    def slice_wise(self) -> bool:
        """Whether slices stay slices, so that a volume can be turned slab by slab."""
        return self.axes[0] == 0

    @property
    def identity(self) -> bool:
        """Whether nothing is turned."""
        return self == Turn()


@dataclass(frozen=True, eq=False)
class Frame:
    """The transformation between the grid of a source and the working grid: turn, resample, crop or pad.

    Attributes:
        source: (slices, rows, columns) of the source.
        affine: (4, 4) of the source, indices to mm in RAS+.
        turn: turn to the working plane.
        scaled: shape after resampling, along the working axes.
        size: shape of the working grid.
        before: voxels added before the first one of the resampled volume along each axis; negative where it is cropped.
        fill: value of voxels that the source does not reach, in its unit.
    """

    source: Triple
    affine: NDArray[np.float64]
    turn: Turn
    scaled: Triple
    size: Triple
    before: Triple = (0, 0, 0)
    fill: float = 0.0

    @classmethod
    def plan(
        cls,
        image: Image,
        plane: Plane = "axial",
        spacing: tuple[float, float, float] | None = None,
        size: Sequence[int] | None = None,
        fit: Fit = "cover",
        fill: float = 0.0,
        square: bool = True,
    ) -> Frame:
        """Return the frame of an image.

        Args:
            image: image, of which shape, affine and slice positions are used.
            plane: plane of the working grid.
            spacing: mm between slices, rows and columns of the working grid; None keeps the spacing of the source, or
                the spacing that follows from ``size``.
            size: (rows, columns), or for volumes (slices, rows, columns), or (columns,) for signals; None keeps the
                shape. With a ``spacing`` the volume is cropped and padded to it around its centre, without a second
                resampling.
            fit: method by which an image of other proportions is brought to the size, where no spacing is given; with
                ``patches`` it keeps its shape also where one is.
            fill: value with which images are padded.
            square: whether proportions are those in mm, so that pixels that are not square become square when an image
                is brought to a size; otherwise those in pixels.

        Raises:
            UserError: unevenly spaced slices cannot be cut in another plane, resampled, cropped or padded.
        """
        turn = Turn.to(plane, image.affine)
        if image.offsets is not None:  # the recorded positions of slices belong to their order
            turn = Turn(turn.axes, (False, *turn.flipped[1:]))
        turned = turn.shape(image.shape)
        steps = [round(image.spacing[axis], 9) for axis in turn.axes]
        scaled: Sequence[int] = turned
        if spacing is not None:
            scaled = [
                max(1, round(extent * step / wanted))
                for extent, step, wanted in zip(turned, steps, spacing, strict=True)
            ]
        elif size is not None and fit not in ("patches", "centre"):
            scaled = _fitted(turned, steps if square else (1, 1, 1), size, fit)
        final = list(scaled)
        if size is not None and fit != "patches":
            final[3 - len(size) :] = size
        before = [(new - old) // 2 for new, old in zip(final, scaled, strict=True)]
        frame = cls(image.shape, image.affine, turn, _triple(scaled), _triple(final), _triple(before), fill)
        if image.uneven and not frame.slice_wise:
            raise UserError(
                f"{image.header.label}: its slices are unevenly spaced, so it cannot be cut into {plane} slices or "
                "resampled; give a volume with even slices"
            )
        return frame

    @property
    def turned(self) -> Triple:
        """Shape of the source along the working axes."""
        return self.turn.shape(self.source)

    @property
    def resamples(self) -> bool:
        """Whether values are interpolated; otherwise the transformation and its inverse are exact."""
        return self.scaled != self.turned

    @property
    def identity(self) -> bool:
        """Whether the working grid is the grid of the source."""
        return self.turn.identity and self.scaled == self.size == self.source

    @property
    def slice_wise(self) -> bool:
        """Whether each slice of the working grid comes from exactly one slice of the source, without interpolation."""
        kept = self.source[0] == self.scaled[0] == self.size[0] and self.before[0] == 0
        return self.turn.slice_wise and kept

    @property
    def working_affine(self) -> NDArray[np.float64]:
        """Matrix (4, 4) from indices of the working grid to mm in RAS+; voxels keep their position in the patient."""
        to_turned = np.eye(4)
        for axis, (old, new, before) in enumerate(zip(self.turned, self.scaled, self.before, strict=True)):
            step = old / new
            to_turned[axis, axis] = step
            to_turned[axis, 3] = 0.5 * step - 0.5 - before * step
        return np.asarray(self.affine @ self.turn.indices(self.source) @ to_turned)

    def finer(self, scale: Triple) -> Frame:
        """Return the frame of an output with ``scale`` voxels for each voxel of the working grid, at its position."""
        own = [scale[self.turn.axes.index(axis)] for axis in range(3)]
        to_coarse = np.eye(4)
        for axis, factor in enumerate(own):
            to_coarse[axis, axis] = 1 / factor
            to_coarse[axis, 3] = (1 / factor - 1) / 2

        def times(part: Triple, factors: Sequence[int] = scale) -> Triple:
            return _triple([extent * factor for extent, factor in zip(part, factors, strict=True)])

        return Frame(
            times(self.source, own),
            np.asarray(self.affine @ to_coarse),
            self.turn,
            times(self.scaled),
            times(self.size),
            times(self.before),
            self.fill,
        )

    def into(self, image: Image, resampling: Resampling = "linear") -> Image:
        """Return the image on the working grid, read lazily, slab by slab where slices stay slices.

        Args:
            image: image of the shape that the frame was planned for.
            resampling: ``labels`` for label maps.
        """
        if image.shape != self.source:
            raise ValueError(f"a frame for {self.source} voxels is not one for {image.shape}")
        if self.identity:
            return image
        dtype = self._dtype(image.dtype, resampling)
        if _pads(self.scaled, self.size, self.before):
            dtype = _holding(dtype, self.fill)

        def there(slab: NDArray[Any]) -> NDArray[Any]:
            scaled, size = self._slabs(self.scaled, slab), self._slabs(self.size, slab)
            turned = _resized(self.turn.apply(slab), scaled, resampling)
            return _moved(turned.astype(dtype, copy=False), size, self.before, self.fill)

        array = _lazily(image.array, (image.channels, *self.size), dtype, there, self.slice_wise, self.turn.flipped[0])
        # Recorded positions of slices do not apply to slices that are cut or interpolated.
        image = image if self.slice_wise else replace(image, offsets=None)
        return image.with_geometry(array, self.working_affine)

    def back(
        self,
        values: NDArray[Any] | LazyArray,
        outside: float = 0.0,
        resampling: Resampling = "linear",
    ) -> NDArray[Any] | LazyArray:
        """Return values from the working grid on the grid of the source.

        Args:
            values: (channels, *size), in memory or lazy.
            outside: value of the voxels of the source that the working grid does not reach.
            resampling: ``labels`` for label maps.
        """
        if tuple(values.shape[1:]) != self.size:
            raise ValueError(f"a frame to {self.size} voxels takes none of {tuple(values.shape[1:])} back")
        if self.identity:
            return values
        dtype = self._dtype(np.dtype(values.dtype), resampling)
        if _pads(self.size, self.scaled, [-start for start in self.before]):
            dtype = _holding(dtype, outside)

        def back(slab: NDArray[Any]) -> NDArray[Any]:
            scaled, turned = self._slabs(self.scaled, slab), self._slabs(self.turned, slab)
            moved = _moved(slab.astype(dtype, copy=False), scaled, [-start for start in self.before], outside)
            return self.turn.undo(_resized(moved, turned, resampling))

        return _lazily(values, (values.shape[0], *self.source), dtype, back, self.slice_wise, self.turn.flipped[0])

    def _dtype(self, dtype: np.dtype[Any], resampling: Resampling) -> np.dtype[Any]:
        """Return the type of values that are brought to the other grid."""
        return np.dtype(np.float32) if self.resamples and resampling == "linear" else dtype

    def _slabs(self, extents: Triple, slab: NDArray[Any]) -> Triple:
        """Return the shape of the result of a slab: its own slices, where slices stay slices."""
        return (int(slab.shape[1]), *extents[1:]) if self.slice_wise else extents

    def indices(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points (n, 3) in mm, RAS+, to (slice, row, column) on the working grid."""
        inverse = np.linalg.inv(self.working_affine)
        return np.asarray(points @ inverse[:3, :3].T + inverse[:3, 3])

    def points(self, indices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map (slice, row, column) on the working grid to mm, RAS+; the inverse of `indices`."""
        affine = self.working_affine
        return np.asarray(indices @ affine[:3, :3].T + affine[:3, 3])


def _triple(values: Sequence[int]) -> Triple:
    slices, rows, columns = (int(value) for value in values)
    return slices, rows, columns


def _fitted(extents: Triple, steps: Sequence[float], size: Sequence[int], fit: Fit) -> list[int]:
    """Return the shape of an image that is scaled to a size with its proportions kept."""
    inner, sides = extents[3 - len(size) :], steps[3 - len(size) :]
    # Pixels that are not square become square; in units of the smallest side, equal sides keep exact numbers.
    lengths = [extent * (side / min(sides)) for extent, side in zip(inner, sides, strict=True)]
    ratios = [old / new for old, new in zip(lengths, size, strict=True)]
    scale = min(ratios) if fit == "cover" else max(ratios)
    return [*extents[: 3 - len(size)], *(max(1, round(length / scale)) for length in lengths)]


def _lazily(
    array: NDArray[Any] | LazyArray,
    shape: tuple[int, int, int, int],
    dtype: np.dtype[Any],
    function: Callable[[NDArray[Any]], NDArray[Any]],
    slice_wise: bool,
    reversed_slices: bool,
) -> LazyArray:
    """Return an array computed from another one, from the corresponding slices where slices stay slices, else all."""
    whole: list[NDArray[Any]] = []
    source = array if isinstance(array, LazyArray) else None

    def read(start: int, stop: int) -> NDArray[Any]:
        return source.slab(start, stop) if source else np.asarray(array)[:, start:stop]

    def slab(start: int, stop: int) -> NDArray[Any]:
        if slice_wise:
            slices = shape[1]
            first, last = (slices - stop, slices - start) if reversed_slices else (start, stop)
            return function(read(first, last))
        if not whole:
            whole.append(np.asarray(function(read(0, array.shape[1])), dtype))
        return whole[0][:, start:stop]

    thickness = (source.thickness if source else 1) if slice_wise else shape[1]
    return ComputedArray(shape, dtype, slab, thickness)


def _pads(old: Triple, new: Triple, before: Sequence[int]) -> bool:
    """Return whether voxels are added where a shape changes, with ``before`` of them before the first one."""
    return any(start > 0 or new > old + start for old, new, start in zip(old, new, before, strict=True))


def _holding(dtype: np.dtype[Any], number: float) -> np.dtype[Any]:
    """Return a type that also holds a number exactly: float32 where an integer type does not."""
    if dtype.kind not in "iu":
        return dtype
    limits = np.iinfo(dtype)
    fits = float(number).is_integer() and limits.min <= number <= limits.max
    return dtype if fits else np.dtype(np.float32)


def _moved(values: NDArray[Any], size: Triple, before: Sequence[int], fill: float) -> NDArray[Any]:
    """Crop or pad to ``size``, with ``before`` voxels added before the first one along each axis."""
    extents = values.shape[1:]
    if extents == size and not any(before):
        return values
    margins = []
    for old, new, start in zip(*(reversed(part) for part in (extents, size, before)), strict=True):
        margins += [start, new - old - start]
    if values.dtype.kind == "f":
        return pad(torch.from_numpy(np.array(values)), margins, value=fill).numpy()
    # torch cannot pad every integer type; NumPy can.
    crops = tuple(slice(max(-m, 0), None) for m in reversed(margins[::2]))
    ends = tuple(slice(None, -max(-m, 0) or None) for m in reversed(margins[1::2]))
    cropped = values[(slice(None), *crops)][(slice(None), *ends)]
    widths = [(max(a, 0), max(b, 0)) for a, b in zip(reversed(margins[::2]), reversed(margins[1::2]), strict=True)]
    return np.pad(cropped, [(0, 0), *widths], constant_values=np.asarray(fill).astype(values.dtype))


def _resized(values: NDArray[Any], size: Triple, resampling: Resampling) -> NDArray[Any]:
    """Resample (channels, slices, rows, columns) to another size, with averaging along axes that get shorter."""
    if values.shape[1:] == size:
        return values
    if resampling == "labels":
        return _voted(values, size)
    tensor = torch.from_numpy(np.array(values, np.float32))
    if tensor.shape[2:] != size[1:]:
        tensor = interpolate(tensor, size[1:], mode="bilinear", antialias=True)
    if tensor.shape[1] != size[0]:
        flat = tensor.flatten(2)[:, None]
        tensor = interpolate(flat, (size[0], flat.shape[3]), mode="bilinear", antialias=True)
        tensor = tensor[:, 0].reshape(len(values), *size)
    return tensor.numpy()


def _voted(labels: NDArray[Any], size: Triple) -> NDArray[Any]:
    """Resample labels: every new voxel gets the label with the largest share of it; in a tie the smaller label.

    Only the surroundings of each label are processed, so that hundreds of objects take little longer than one.
    """
    weights = [_weights(old, new) for old, new in zip(labels.shape[1:], size, strict=True)]
    result = np.empty((len(labels), *size), labels.dtype)
    for values, chosen in zip(labels, result, strict=True):
        found = np.unique(values)
        places = np.searchsorted(found, values).astype(np.int32)
        best = np.zeros(size, np.float32)
        for place, box in enumerate(find_objects(places + 1)):
            share, region = (places[box] == place).astype(np.float32), []
            for axis, (matrix, part) in enumerate(zip(weights, box, strict=True)):
                own = matrix[:, part]
                rows = np.flatnonzero(np.diff(own.indptr))
                region.append(slice(int(rows[0]), int(rows[-1]) + 1))
                share = _along(own[region[-1]], share, axis)
            here = tuple(region)
            better = share > best[here] + 1e-6
            best[here][better], chosen[here][better] = share[better], found[place]
    return result


@lru_cache(maxsize=64)
def _weights(old: int, new: int) -> Any:
    """Return the linear map from ``old`` values along an axis to ``new`` ones, sparse (new, old)."""
    matrix = torch.eye(old)[None, :, None]
    if new != old:
        matrix = interpolate(matrix, (1, new), mode="bilinear", antialias=True)
    return csr_array(matrix[0, :, 0].T.numpy())


def _along(matrix: Any, values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Apply a linear map along an axis."""
    moved = np.moveaxis(values, axis, 0)
    mapped = np.asarray(matrix @ moved.reshape(len(moved), -1)).reshape(-1, *moved.shape[1:])
    return np.moveaxis(mapped, 0, axis)
