"""Degradation models from fine to coarse images, and the interpolation that serves as baseline."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch import Tensor
from torch.nn.functional import interpolate

from ganatomy.physics.slices import (
    Profile,
    Window,
    decimated,
    gaussian_means,
    gaussian_reach,
    profile_sd,
    thick_slices,
    truncated,
)

Factors = tuple[int, int, int]
"""Factors of slices, rows and columns."""

SPLINE_REACH = 12
"""Samples on either side beyond which the weights of a cubic spline are below 1e-6."""


@dataclass(frozen=True)
class Degradation(ABC):
    """Degradation model: makes a coarse image from a fine one.

    Attributes:
        factors: fine voxels per coarse voxel along slices, rows and columns; a coarse voxel lies in the middle of its
            fine ones.
    """

    factors: Factors

    same_grid: ClassVar[bool] = False
    """Whether the coarse image is stored on the grid of the fine one."""
    interpolation: ClassVar[str] = "enlarged by cubic splines"
    """Description of the interpolation of `interpolated`, for reports."""

    @property
    def scale(self) -> Factors:
        """Fine voxels per voxel of the coarse image as it is stored, along slices, rows and columns."""
        return (1, 1, 1) if self.same_grid else self.factors

    @property
    def neighbours(self) -> int:
        """Number of neighbouring coarse slices per side on whose fine slices a coarse slice depends."""
        return 0

    @property
    def interpolated_from(self) -> int:
        """Number of neighbouring coarse slices per side on which `interpolated` depends."""
        return SPLINE_REACH if self.scale[0] > 1 else 0

    @property
    @abstractmethod
    def words(self) -> str:
        """Description of the degradation, for reports."""

    @abstractmethod
    def __call__(self, fine: Tensor) -> Tensor:
        """Return the coarse image; differentiable.

        Args:
            fine: (..., slices, rows, columns) in any unit; images without slices if the factor of slices is 1.

        Raises:
            ValueError: An extent is no multiple of its factor.
        """

    def interpolated(self, coarse: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate a coarse image (slices, rows, columns) to the fine grid, as a baseline without learning."""
        return np.asarray(zoom(coarse, self.scale, order=3, mode="nearest", grid_mode=True), np.float32)

    def windowed_sinc(self, coarse: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate a coarse image (slices, rows, columns) to the fine grid by Lanczos' windowed sinc."""
        return lanczos(coarse, self.scale)

    @property
    def _fewer(self) -> str:
        names = zip(self.factors, ("slices", "rows", "columns"), strict=True)
        return ", ".join(f"{times} times fewer {name}" for times, name in names if times > 1)


LANCZOS_LOBES = 3
"""Lobes on either side of the windowed sinc."""


def lanczos(coarse: NDArray[np.float32], factors: Factors) -> NDArray[np.float32]:
    """Enlarge an image by Lanczos interpolation, keeping the field of view; the edge is repeated.

    Duchon, Lanczos filtering in one and two dimensions, J. Appl. Meteorol. 18(8), 1979.

    Args:
        coarse: (slices, rows, columns).
        factors: new voxels per old one along slices, rows and columns.
    """
    fine = np.asarray(coarse, np.float32)
    for axis, times in enumerate(factors):
        if times == 1:
            continue
        extent = fine.shape[axis]
        places = (np.arange(extent * times) + 0.5) / times - 0.5
        found = np.floor(places).astype(int)[:, None] + np.arange(1 - LANCZOS_LOBES, LANCZOS_LOBES + 1)
        away = places[:, None] - found
        weights = np.sinc(away) * np.sinc(away / LANCZOS_LOBES)
        matrix = np.zeros((extent * times, extent))
        np.add.at(matrix, (np.arange(extent * times)[:, None], found.clip(0, extent - 1)), weights)
        matrix /= matrix.sum(axis=1, keepdims=True)
        fine = np.moveaxis(np.tensordot(matrix.astype(np.float32), fine, (1, axis)), 0, axis)
    return fine


@dataclass(frozen=True)
class Bicubic(Degradation):
    """Antialiased bicubic downsampling in the plane; values may overshoot slightly.

    Attributes:
        blur: SD in fine pixels of a Gaussian that is applied before; 0 for none.
    """

    blur: float = 0.0

    interpolation: ClassVar[str] = "enlarged by bicubic interpolation"

    @property
    def words(self) -> str:
        """Description of the degradation, for reports."""
        return f"{self._fewer}, after a Gaussian of SD {self.blur:g} pixels"

    def __call__(self, fine: Tensor) -> Tensor:
        """Blur and downsample every slice."""
        _, *factors = self.factors
        rows, columns = fine.shape[-2:]
        if self.factors[0] != 1 or rows % factors[0] or columns % factors[1]:
            raise ValueError(f"images of {rows}x{columns} pixels have no {self.factors} times coarser grid")
        smooth = fine
        for dim in (-2, -1) if self.blur else ():
            smooth = gaussian_means(smooth, 1, self.blur, dim)
        planes = smooth.reshape(-1, 1, rows, columns)
        low = interpolate(planes, (rows // factors[0], columns // factors[1]), mode="bicubic", antialias=True)
        return low.reshape(*fine.shape[:-2], *low.shape[-2:])

    def interpolated(self, coarse: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate bicubically, slice by slice."""
        return np.asarray(enlarged(torch.from_numpy(np.array(coarse))[:, None], self.scale[1:])[:, 0].numpy())


def enlarged(image: Tensor, factors: Sequence[int]) -> Tensor:
    """Enlarge images bicubically, keeping the field of view; differentiable.

    Args:
        image: (N, C, H, W).
        factors: new pixels per old one along rows and columns.
    """
    # With antialias=True torch uses the common cubic kernel (a = -0.5), which preserves linear ramps.
    return interpolate(image, scale_factor=tuple(map(float, factors)), mode="bicubic", antialias=True)


@dataclass(frozen=True)
class Decimation(Degradation):
    """Gaussian blur and sampling in the middle of the fine voxels of every coarse one.

    Attributes:
        blur: SD of the Gaussian in fine voxels, along axes with a factor above 1.
    """

    blur: float = 1.0

    @property
    def neighbours(self) -> int:
        """Number of neighbouring coarse slices per side on whose fine slices a coarse slice depends."""
        step = self.factors[0]
        return -(-gaussian_reach(step, self.blur) // step) if step > 1 else 0

    @property
    def words(self) -> str:
        """Description of the degradation, for reports."""
        return f"{self._fewer}, after a Gaussian of SD {self.blur:g} voxels"

    def __call__(self, fine: Tensor) -> Tensor:
        """Blur and sample."""
        return decimated(fine, self.factors, self.blur)


@dataclass(frozen=True)
class ThickSlices(Degradation):
    """Thick slices made of several thin ones, with unchanged pixels.

    Attributes:
        profile: slice profile; ``box`` averages, ``gaussian`` has the thickness as its full width at half maximum.
    """

    profile: Profile = "box"

    @property
    def neighbours(self) -> int:
        """Number of neighbouring coarse slices per side on whose fine slices a coarse slice depends."""
        step = self.factors[0]
        return -(-gaussian_reach(step, profile_sd(step)) // step) if self.profile == "gaussian" else 0

    @property
    def words(self) -> str:
        """Description of the degradation, for reports."""
        return f"{self._fewer}, each with a {self.profile} profile as thick as {self.factors[0]} fine ones"

    def __call__(self, fine: Tensor) -> Tensor:
        """Combine thin slices to thick ones."""
        if self.factors[1:] != (1, 1):
            raise ValueError(f"thicker slices have the same pixels, not {self.factors} times fewer")
        return thick_slices(fine, self.factors[0], self.profile)


@dataclass(frozen=True)
class Truncation(Degradation):
    """Truncation of k-space on the grid of the fine image, like a shorter MR scan with zero filling.

    Attributes:
        window: ``hann`` weights the kept part with a Hann window against ringing.
    """

    window: Window = "none"

    same_grid: ClassVar[bool] = True
    interpolation: ClassVar[str] = "as it is"

    @property
    def neighbours(self) -> int:
        """Number of neighbouring coarse slices per side on which a slice depends: all, if slices are truncated."""
        return sys.maxsize if self.factors[0] > 1 else 0

    @property
    def words(self) -> str:
        """Description of the degradation, for reports."""
        faded = " behind a Hann window" if self.window == "hann" else ""
        return f"innermost k-space with {self._fewer}{faded}, on the same grid"

    def __call__(self, fine: Tensor) -> Tensor:
        """Truncate k-space."""
        return truncated(fine, self.factors, self.window)

    def interpolated(self, coarse: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the coarse image unchanged, since it is on the fine grid already."""
        return coarse
