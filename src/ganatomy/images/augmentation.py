"""Random changes of training patches by MONAI's transforms: movements of geometry and variations of intensities.

MONAI (https://monai.io, Apache 2.0) is imported when the first patch is changed, since the import takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

Interpolation = Literal["bilinear", "nearest"]
"""Interpolation between voxels: linear along every axis, or the value of the nearest voxel."""

CLOSE = 1e-3
"""Accuracy in voxels of the position of a point in a deformed patch."""
STEPS = 50
"""Largest number of iterations of the search for it, which does not converge where the deformation folds the patch."""


class Augmentation(BaseModel):
    """Options of random changes of training patches.

    Geometry moves all roles of a patch together: images are interpolated linearly, label maps and instance maps
    take the nearest voxel, points move along. A patch is cut wider before it is moved, so that its corners show the
    surrounding image; only beyond the edge of the image are its last voxels repeated. Angles and displacements are in
    degrees and mm of the patient, so that anisotropic voxels are not sheared. Patches of one slice are moved in their
    plane only. Nothing is mirrored here: which axes may be flipped depends on the anatomy, and is the option ``flips``
    of each system.

    Intensities of images change in the range of the networks, after their codec, so that 0.1 is a twentieth of a window
    that is mapped to [-1, 1]. They may leave this range.

    All numbers are limits of uniform distributions; with the defaults nothing is changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    move_share: float = Field(1.0, ge=0, le=1)  # share of the patches whose geometry is changed
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)  # degrees about the axes of slices (in plane), rows, columns
    scaling: float = Field(0.0, ge=0, lt=1)  # change of size: 0.1 for sizes from 0.9 to 1.1
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)  # shift along slices, rows and columns, as share of the patch
    elastic: float = Field(0.0, ge=0)  # SD in mm of smooth displacements along every axis
    elastic_smoothness: float = Field(10.0, gt=0)  # SD in mm of the Gaussian that smooths these displacements
    vary_share: float = Field(1.0, ge=0, le=1)  # share of the patches whose intensities are changed
    varied_images: tuple[str, ...] = ()  # names of the images whose intensities are changed; none means all
    vary_alike: bool = False  # whether all images of a patch are changed by the same numbers
    gamma: float = Field(1.0, ge=1)  # power of the intensities between their limits: 1.5 for powers of 1/1.5 to 1.5
    contrast: float = Field(0.0, ge=0, lt=1)  # change of the distances from the mean: 0.2 for factors of 0.8 to 1.2
    brightness: float = Field(0.0, ge=0)  # offset that is added or subtracted, in the range of the networks
    noise: float = Field(0.0, ge=0)  # SD of white noise, in the range of the networks

    @field_validator("rotation", "shift")
    @classmethod
    def _positive(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(value) < 0:
            raise ValueError("limits are at least 0")
        return value

    @property
    def moves(self) -> bool:
        """Whether geometry is changed."""
        return self.move_share > 0 and any((*self.rotation, self.scaling, *self.shift, self.elastic))

    @property
    def varies(self) -> bool:
        """Whether intensities are changed."""
        return self.vary_share > 0 and (self.gamma > 1 or any((self.contrast, self.brightness, self.noise)))

    def movement(self, rng: np.random.Generator, size: Sequence[int], spacing: Sequence[float]) -> Movement | None:
        """Draw a random movement; None where the patch is not moved.

        Args:
            rng: source of random numbers.
            size: slices, rows and columns of the largest patch that is moved.
            spacing: mm between slices, rows and columns.
        """
        if not self.moves or rng.random() >= self.move_share:
            return None
        axes = slice(1, 3) if size[0] == 1 else slice(0, 3)
        extents, steps = np.array(size[axes], np.float64), np.array(spacing[axes], np.float64)
        angles = np.deg2rad(rng.uniform(-1, 1, 3) * self.rotation)
        turn = rotation_matrix(angles if len(extents) == 3 else (angles[0], 0.0, 0.0))[axes, axes]
        scale = 1 + rng.uniform(-1, 1) * self.scaling
        matrix = (turn * steps) / steps[:, None] / scale
        offset = (rng.uniform(-1, 1, 3) * self.shift)[axes] * extents
        bend = self._bend(rng, extents.astype(int), steps) if self.elastic else None
        return Movement(matrix, offset, bend)

    def _bend(
        self, rng: np.random.Generator, extents: NDArray[np.int_], steps: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Draw smooth displacements in voxels, (axes, *extents)."""
        from scipy.ndimage import gaussian_filter

        reach = self.elastic_smoothness / steps
        noise = rng.standard_normal((len(extents), *extents))
        smooth = np.stack([gaussian_filter(part, reach, mode="reflect") for part in noise])
        left = np.prod([_smoothed(sd, extent) for sd, extent in zip(reach.tolist(), extents.tolist(), strict=True)])
        return np.asarray(smooth / left * self.elastic / steps.reshape(-1, *[1] * len(extents)))

    def vary(self, tensors: Mapping[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return images with randomly changed intensities.

        Args:
            tensors: name to image, (channels, ...), in the range of the networks; all of them are changed.
            rng: source of random numbers.
        """
        if not self.varies or rng.random() >= self.vary_share:
            return dict(tensors)
        changed, numbers = {}, self._numbers(rng)
        for name, tensor in tensors.items():
            changed[name] = _varied(tensor, *numbers, rng)
            numbers = numbers if self.vary_alike else self._numbers(rng)
        return changed

    def _numbers(self, rng: np.random.Generator) -> tuple[float, float, float, float]:
        """Draw the power, the factor about the mean, the offset, and the SD of the noise for one image."""
        power, factor, added = rng.uniform(-1, 1, 3)
        return self.gamma**power, 1 + self.contrast * factor, self.brightness * added, self.noise * rng.random()


@dataclass(frozen=True)
class Movement:
    """A map from the positions of a moved patch to the positions that its voxels are taken from.

    A voxel at ``y`` from the centre of a patch gets the value at ``matrix @ y + offset + bend(y)``; all in voxels along
    (slices,) rows and columns.

    Attributes:
        matrix: (axes, axes); two axes where the movement is within slices.
        offset: (axes).
        bend: displacements on the grid of the largest patch, (axes, *extents); None without elastic deformation.
    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    bend: NDArray[np.float64] | None = None

    @property
    def planar(self) -> bool:
        """Whether the movement is within slices."""
        return len(self.offset) == 2

    def reach(self, size: Sequence[int]) -> tuple[int, int, int]:
        """Return the voxels per side (slices, rows, columns) around a patch of this size that its movement needs."""
        half = (np.array(size[-len(self.offset) :], np.float64) - 1) / 2
        signs = np.stack(np.meshgrid(*[(-1, 1)] * len(half), indexing="ij"), -1).reshape(-1, len(half))
        far = np.abs((signs * half) @ self.matrix.T + self.offset).max(axis=0)
        if self.bend is not None:
            far += np.abs(self.bend).reshape(len(half), -1).max(axis=1)
        # A corner of the matrix' image may exceed the patch by rounding alone; half a voxel is not worth a wider cut.
        extra = np.maximum(np.ceil(far - half - 1e-6), 0).astype(int)
        slices, rows, columns = (0, *extra) if self.planar else extra
        return int(slices), int(rows), int(columns)

    def resample(self, patch: NDArray[np.float32], interpolation: Interpolation) -> NDArray[np.float32]:
        """Return a moved patch of unchanged size.

        Args:
            patch: (channels, slices, rows, columns), cut wider by `reach`.
            interpolation: linear, or the nearest voxel.
        """
        import torch
        from monai.transforms.spatial.array import AffineGrid, Resample

        axes = len(self.offset)
        # Slices that are moved in their plane become channels of one 2D image.
        flat = patch.reshape(-1, *patch.shape[-axes:])
        matrix = np.eye(axes + 1)
        matrix[:axes, :axes], matrix[:axes, axes] = self.matrix, self.offset
        grid, _ = AffineGrid(affine=torch.from_numpy(matrix), dtype=np.float64)(flat.shape[1:])
        places = torch.as_tensor(grid)
        if self.bend is not None:
            places[:axes] += torch.from_numpy(_widened(self.bend, flat.shape[1:]))
        moved = Resample(mode=interpolation, padding_mode="border")(torch.from_numpy(flat.copy()), places)
        return np.asarray(moved, np.float32).reshape(patch.shape)

    def nearest(self, patch: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return a moved map of integers of unchanged size and type, with the integer of the nearest voxel.

        Args:
            patch: (channels, slices, rows, columns), cut wider by `reach`.
        """
        # MONAI returns float32, which holds any index into a list of the integers, but not any integer.
        found, places = np.unique(patch, return_inverse=True)
        moved = self.resample(places.reshape(patch.shape).astype(np.float32), "nearest")
        return np.asarray(found[np.rint(moved).astype(np.intp)])

    def points(self, places: NDArray[np.float64], size: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the positions of points after their patch has been moved, in voxels.

        Args:
            places: (points, 3), slice, row and column, counted from the first voxel of the patch.
            size: slices, rows and columns of the patch.
        """
        axes = len(self.offset)
        centre = (np.array(size[-axes:], np.float64) - 1) / 2
        inverse, moved = np.linalg.inv(self.matrix), np.array(places, np.float64)
        aim = moved[:, -axes:] - centre - self.offset
        found = aim @ inverse.T
        for _ in range(STEPS if self.bend is not None else 0):
            before, found = found, (aim - self._bent(found)) @ inverse.T
            if np.abs(found - before).max(initial=0) < CLOSE:
                break
        moved[:, -axes:] = found + centre
        return moved

    def _bent(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the displacements at positions counted from the centre, (points, axes)."""
        from scipy.ndimage import map_coordinates

        assert self.bend is not None
        centre = (np.array(self.bend.shape[1:]) - 1) / 2
        return np.stack([map_coordinates(part, (places + centre).T, order=1, mode="nearest") for part in self.bend], 1)


def rotation_matrix(angles: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation (3, 3) of (slice, row, column) about the axes of slices, then rows, then columns, in radians.

    A positive angle about the axis of slices rotates rows towards columns.
    """
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", angles).as_matrix())


@lru_cache(maxsize=64)
def _smoothed(sd: float, extent: int) -> float:
    """Return the SD of white noise of variance 1 along an axis after a Gaussian filter with this SD in voxels."""
    from scipy.ndimage import gaussian_filter1d

    impulses = gaussian_filter1d(np.eye(extent), sd, axis=0, mode="reflect")
    return float(np.sqrt(np.mean(np.sum(impulses**2, axis=1))))


def _widened(bend: NDArray[np.float64], extents: Sequence[int]) -> NDArray[np.float64]:
    """Return displacements on the grid of a patch of another size with the same centre, continued beyond the edge."""
    for axis, extent in enumerate(extents, start=1):
        here = bend.shape[axis]
        first = (here - extent) // 2 if extent <= here else -((extent - here) // 2)
        bend = np.take(bend, np.clip(np.arange(first, first + extent), 0, here - 1), axis)
    return bend


def _varied(image: Tensor, power: float, factor: float, added: float, noise: float, rng: np.random.Generator) -> Tensor:
    """Return an image whose power, contrast, brightness and noise are changed, in this order."""
    from monai.transforms.intensity.array import (
        AdjustContrast,
        RandGaussianNoise,
        ScaleIntensityFixedMean,
        ShiftIntensity,
    )
    from monai.utils.type_conversion import convert_to_tensor

    steps: list[Callable[[Any], Any]] = []
    if power != 1:
        steps.append(AdjustContrast(power))
    if factor != 1:
        steps.append(ScaleIntensityFixedMean(factor=factor - 1))
    if added:
        steps.append(ShiftIntensity(added))
    if noise:
        adding = RandGaussianNoise(prob=1, std=noise, sample_std=False)
        adding.set_random_state(seed=int(rng.integers(2**32)))
        steps.append(adding)
    changed: Any = image
    for step in steps:
        changed = step(changed)
    plain: Tensor = convert_to_tensor(changed, track_meta=False)
    return plain
