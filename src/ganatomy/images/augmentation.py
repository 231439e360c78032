"""Random changes of training patches by MONAI's transforms: movements of geometry and variations of intensities.

MONAI (https://monai.io, Apache 2.0) is imported when the first patch is changed, since the import takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor

Interpolation = Literal["linear", "cubic", "nearest"]
"""Interpolation between voxels: linear along every axis, by cubic B-splines, or the value of the nearest voxel."""

WAVES = 3
"""Number of cosine waves that a field of uneven brightness is the sum of (our choice)."""

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
    that is mapped to [-1, 1]. They may leave this range, unless the codec clips. Contrast changes first, then the
    brightness that the coil or the lamp gives to a place, then sharpness, then noise, as in a scanner.

    All numbers are limits of uniform distributions; with the defaults nothing is changed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    move_share: float = Field(1.0, ge=0, le=1)  # share of the patches whose geometry is changed
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)  # degrees about the axes of slices (in plane), rows, columns
    scaling: float = Field(0.0, ge=0, lt=1)  # change of size: 0.1 for sizes from 0.9 to 1.1
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)  # shift along slices, rows and columns, as share of the patch
    elastic: float = Field(0.0, ge=0)  # SD in mm of smooth displacements along every axis
    elastic_smoothness: float = Field(10.0, gt=0)  # SD in mm of the Gaussian that smooths these displacements
    interpolation: Literal["linear", "cubic"] = "linear"  # of moved images; cubic is slower and keeps them sharper
    vary_share: float = Field(1.0, ge=0, le=1)  # share of the patches whose intensities are changed
    varied_images: tuple[str, ...] = ()  # names of the images whose intensities are changed; none means all
    measured_images: tuple[str, ...] = ()  # those of them whose values mean something (HU): only blur and noise change
    vary_alike: bool = False  # whether all images of a patch are changed by the same numbers
    gamma: float = Field(1.0, ge=1)  # power of the intensities between their limits: 1.5 for powers of 1/1.5 to 1.5
    contrast: float = Field(0.0, ge=0, lt=1)  # change of the distances from the mean: 0.2 for factors of 0.8 to 1.2
    brightness: float = Field(0.0, ge=0)  # offset that is added or subtracted, in the range of the networks
    bias: float = Field(1.0, ge=1)  # factor of a smooth field of uneven brightness: 1.3 for factors of 1/1.3 to 1.3
    blur: float = Field(0.0, ge=0)  # SD of a Gaussian blur along rows and columns, in voxels
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
        changed = self.gamma > 1 or self.bias > 1 or any((self.contrast, self.brightness, self.blur, self.noise))
        return self.vary_share > 0 and changed

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
        return Movement(matrix, offset, bend, self.interpolation)

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

    def vary(
        self,
        tensors: Mapping[str, Tensor],
        rng: np.random.Generator,
        dark: Mapping[str, float] = {},
        across: Sequence[float] = (),
    ) -> dict[str, Tensor]:
        """Return images with randomly changed intensities.

        Args:
            tensors: name to image, (channels, [[slices,] rows,] columns), in the range of the networks; all of them are
                changed.
            rng: source of random numbers.
            dark: name to the value, in the range of the networks, at which there is no signal, so that uneven
                brightness leaves it as it is; 0 where it is missing.
            across: voxels of a whole image along each axis, over which uneven brightness goes up or down about once;
                those of the patch where none are given.
        """
        if not self.varies or rng.random() >= self.vary_share:
            return dict(tensors)
        changed, numbers = {}, self._numbers(rng)
        for name, tensor in tensors.items():
            own = numbers if name not in self.measured_images else _Numbers(blur=numbers.blur, noise=numbers.noise)
            changed[name] = _varied(tensor, own, dark.get(name, 0.0), across or tensor.shape[1:], rng)
            numbers = numbers if self.vary_alike else self._numbers(rng)
        return changed

    def _numbers(self, rng: np.random.Generator) -> _Numbers:
        """Draw the numbers by which one image is changed."""
        power, factor, added = rng.uniform(-1, 1, 3)
        noise = self.noise * rng.random()
        return _Numbers(
            self.gamma**power,
            1 + self.contrast * factor,
            self.brightness * added,
            self.bias ** rng.random() if self.bias > 1 else 1.0,
            self.blur * rng.random() if self.blur else 0.0,
            noise,
            int(rng.integers(2**32)) if self.bias > 1 else 0,
        )

    def among(self, images: Sequence[str]) -> Augmentation:
        """Return these changes for a patch with some images only; ``varied_images`` must be named."""
        varied = tuple(name for name in self.varied_images if name in images)
        share = self.vary_share if varied else 0.0
        return self.model_copy(update={"varied_images": varied, "vary_share": share})

    @property
    def told(self) -> str:
        """Changes and their limits in words; empty where nothing is changed."""
        return "; ".join(
            filter(None, [self._told_moves if self.moves else "", self._told_varies if self.varies else ""])
        )

    @property
    def _told_moves(self) -> str:
        turned = f"turned by up to {max(self.rotation):g}°" if any(self.rotation) else ""
        scaled = f"enlarged or shrunk by up to {100 * self.scaling:g} %" if self.scaling else ""
        shifted = f"shifted by up to {100 * max(self.shift):g} % of the patch" if any(self.shift) else ""
        bent = f"bent by {self.elastic:g} mm (SD)" if self.elastic else ""
        return f"{100 * self.move_share:g} % of the patches are {_listed(turned, scaled, shifted, bent)}"

    @property
    def _told_varies(self) -> str:
        free = [name for name in self.varied_images if name not in self.measured_images]
        scale = [
            f"gamma up to {self.gamma:g}" if self.gamma > 1 else "",
            f"contrast by up to {100 * self.contrast:g} %" if self.contrast else "",
            f"brightness by up to {self.brightness:g}" if self.brightness else "",
            f"uneven brightness by a factor of up to {self.bias:g}" if self.bias > 1 else "",
        ]
        blur = f"blur of up to {self.blur:g} voxels (SD)" if self.blur else ""
        noise = f"noise of up to {self.noise:g} (SD, in the range of the networks)" if self.noise else ""
        told = _listed(*(scale if free or not self.varied_images else ()), blur, noise)
        if not told:
            return ""
        images = f"of {', '.join(self.varied_images)} " if self.varied_images else ""
        return f"intensities {images}change in {100 * self.vary_share:g} % of the patches: {told}"


def mild(
    varied: Sequence[str] = (),
    measured: Sequence[str] = (),
    *,
    moved: bool = True,
    smeared: bool = True,
    sharp: bool = True,
) -> Augmentation:
    """Return the changes that are added to small training sets: what another position or another scanner would do.

    The numbers are our choice. Half of the patches are moved, and half of them have other intensities, so that
    networks see unchanged ones, too.

    Args:
        varied: images whose intensities change; none where this is empty.
        measured: those of them whose values mean something, such as HU, so that only their blur and noise change.
        moved: whether geometry is changed.
        smeared: whether images are blurred and made noisy; not for images that a network learns to draw.
        sharp: whether moved images are interpolated by cubic splines, for images that a network learns to draw.
    """
    geometry: dict[str, Any] = {"rotation": (10.0, 5.0, 5.0), "scaling": 0.1, "shift": (0.05, 0.05, 0.05)}
    scale: dict[str, Any] = {"gamma": 1.4, "bias": 1.3} if set(varied) - set(measured) else {}
    sharpness: dict[str, Any] = {"blur": 1.0, "noise": 0.05} if smeared else {}
    return Augmentation(
        move_share=0.5,
        vary_share=0.5,
        interpolation="cubic" if sharp else "linear",
        varied_images=tuple(varied),
        measured_images=tuple(measured),
        **(geometry if moved else {}),
        **(scale | sharpness if varied else {}),
    )


class Changes(NamedTuple):
    """Random changes of training patches that leave the cases of a task true."""

    allowed: Augmentation
    """Changes, of which none may be left; ``varied_images`` are named where intensities change."""
    because: str = ""
    """Reason why there are no more of them, or why they are not usual, as a clause."""
    usual: bool = True
    """Whether they are made without being asked for, where data are few."""


class _Numbers(NamedTuple):
    """The numbers by which the intensities of one image are changed."""

    power: float = 1.0
    """Power of the intensities between their limits."""
    factor: float = 1.0
    """Factor about the mean."""
    added: float = 0.0
    """Offset."""
    bias: float = 1.0
    """Largest factor of uneven brightness."""
    blur: float = 0.0
    """SD of the blur in voxels."""
    noise: float = 0.0
    """SD of the noise."""
    seed: int = 0
    """Seed of the field of uneven brightness."""


@dataclass(frozen=True)
class Movement:
    """A map from the positions of a moved patch to the positions that its voxels are taken from.

    A voxel at ``y`` from the centre of a patch gets the value at ``matrix @ y + offset + bend(y)``; all in voxels along
    (slices,) rows and columns.

    Attributes:
        matrix: (axes, axes); two axes where the movement is within slices.
        offset: (axes).
        bend: displacements on the grid of the largest patch, (axes, *extents); None without elastic deformation.
        interpolation: interpolation of images.
    """

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    bend: NDArray[np.float64] | None = None
    interpolation: Interpolation = "linear"

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
            interpolation: how values between voxels are found. Values that splines bring beyond those of the patch are
                clipped to them.
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
        modes: Mapping[Interpolation, str | int] = {"linear": "bilinear", "cubic": 3, "nearest": "nearest"}
        edge = "nearest" if interpolation == "cubic" else "border"  # SciPy's and torch's words for one thing
        moved = Resample(mode=modes[interpolation], padding_mode=edge)(torch.from_numpy(flat.copy()), places)
        values = np.asarray(moved, np.float32).reshape(patch.shape)
        return np.clip(values, patch.min(), patch.max()) if interpolation == "cubic" else values

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


def uneven(
    shape: Sequence[int], across: Sequence[float], factor: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a random smooth field of factors between ``1 / factor`` and ``factor``, such as the bias field of a coil.

    Its logarithm is a sum of cosine waves of random directions and phases, with one half to one cycle across a whole
    image, so that a small patch of a large image is changed as that part of a scan would be.

    Args:
        shape: voxels of the patch along each axis.
        across: voxels of the whole image along each axis.
        factor: largest factor, at least 1.
        rng: source of random numbers.
    """
    places = np.stack(np.meshgrid(*[np.arange(extent) for extent in shape], indexing="ij"), -1) / np.array(across)
    waves, weights = np.zeros(tuple(shape)), rng.uniform(0.5, 1, WAVES)
    for weight in weights / weights.sum():
        direction = rng.standard_normal(len(shape))
        cycles = rng.uniform(0.5, 1) * direction / np.linalg.norm(direction)
        waves += weight * np.cos(2 * np.pi * (places @ cycles + rng.random()))
    return np.asarray(factor**waves, np.float32)


def _varied(image: Tensor, numbers: _Numbers, dark: float, across: Sequence[float], rng: np.random.Generator) -> Tensor:
    """Return an image whose power, contrast, brightness, evenness, sharpness and noise are changed, in this order."""
    from monai.transforms.intensity.array import (
        AdjustContrast,
        RandGaussianNoise,
        ScaleIntensityFixedMean,
        ShiftIntensity,
    )
    from monai.utils.type_conversion import convert_to_tensor

    steps: list[Callable[[Any], Any]] = []
    if numbers.power != 1:
        steps.append(AdjustContrast(numbers.power))
    if numbers.factor != 1:
        steps.append(ScaleIntensityFixedMean(factor=numbers.factor - 1))
    if numbers.added:
        steps.append(ShiftIntensity(numbers.added))
    if numbers.bias > 1:
        field = uneven(image.shape[1:], across, numbers.bias, np.random.default_rng(numbers.seed))
        steps.append(lambda values: dark + (values - dark) * image.new_tensor(field))
    if numbers.blur:
        steps.append(lambda values: _blurred(values, numbers.blur))
    if numbers.noise:
        adding = RandGaussianNoise(prob=1, std=numbers.noise, sample_std=False)
        adding.set_random_state(seed=int(rng.integers(2**32)))
        steps.append(adding)
    changed: Any = image
    for step in steps:
        changed = step(changed)
    plain: Tensor = convert_to_tensor(changed, track_meta=False)
    return plain


def _blurred(image: Any, sd: float) -> Tensor:
    """Return an image (channels, ..., rows, columns) after a Gaussian blur along rows and columns with SD in voxels."""
    import torch
    from scipy.ndimage import gaussian_filter

    axes = (0.0,) * (image.ndim - 2) + (sd, sd)
    return torch.from_numpy(gaussian_filter(np.asarray(image, np.float32), axes, mode="nearest"))


def _listed(*words: str) -> str:
    """Return the words that are not empty, with commas and an "and" between them."""
    told = [word for word in words if word]
    return " and ".join(filter(None, [", ".join(told[:-1]), *told[-1:]]))
