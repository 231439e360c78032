"""How coarse images come about from fine ones, and what interpolation makes of them."""

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
"""Of slices, rows and columns."""

SPLINE_REACH = 12
"""Samples on either side beyond which the weights of a cubic spline are below 1e-6."""


@dataclass(frozen=True)
class Degradation(ABC):
    """How a coarse image comes about from a fine one.

    Attributes:
        factors: fine voxels that a coarse one stands for, along slices, rows and columns; it lies in their middle.
    """

    factors: Factors

    same_grid: ClassVar[bool] = False
    """Whether the coarse image is shown with as many voxels as the fine one has."""
    interpolation: ClassVar[str] = "enlarged by cubic splines"
    """How `interpolated` does it."""

    @property
    def scale(self) -> Factors:
        """Fine voxels for each voxel of the coarse image as it is shown."""
        return (1, 1, 1) if self.same_grid else self.factors

    @property
    def neighbours(self) -> int:
        """Coarse slices on either side whose fine ones a coarse slice depends on, too."""
        return 0

    @property
    def interpolated_from(self) -> int:
        """Coarse slices on either side that `interpolated` looks at, too."""
        return SPLINE_REACH if self.scale[0] > 1 else 0

    @property
    @abstractmethod
    def words(self) -> str:
        """What is done to the fine image, for a list of facts."""

    @abstractmethod
    def __call__(self, fine: Tensor) -> Tensor:
        """The coarse image, differentiable.

        Args:
            fine: (..., slices, rows, columns), in any unit; images without slices where these are left alone.

        Raises:
            ValueError: a size is no multiple of its factor.
        """

    def interpolated(self, coarse: NDArray[np.float32]) -> NDArray[np.float32]:
        """What a coarse image, (slices, rows, columns), looks like on the fine grid without any learning."""
        return np.asarray(zoom(coarse, self.scale, order=3, mode="nearest", grid_mode=True), np.float32)

    @property
    def _fewer(self) -> str:
        names = zip(self.factors, ("slices", "rows", "columns"), strict=True)
        return ", ".join(f"{times} times fewer {name}" for times, name in names if times > 1)


@dataclass(frozen=True)
class Bicubic(Degradation):
    """Cubic sampling in the plane with a kernel as wide as the new pixels; values may overshoot by a little.

    Attributes:
        blur: SD of a Gaussian before that, in fine pixels; 0 for none.
    """

    blur: float = 0.0

    interpolation: ClassVar[str] = "enlarged by bicubic interpolation"

    @property
    def words(self) -> str:
        """What is done to the fine image."""
        return f"{self._fewer}, after a Gaussian of SD {self.blur:g} pixels"

    def __call__(self, fine: Tensor) -> Tensor:
        """Sample every slice."""
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
        """Bicubic interpolation, slice by slice."""
        return np.asarray(enlarged(torch.from_numpy(np.array(coarse))[:, None], self.scale[1:])[:, 0].numpy())


def enlarged(image: Tensor, factors: Sequence[int]) -> Tensor:
    """Bicubic interpolation, every new pixel over the old one it stands for, differentiable.

    Args:
        image: (N, C, H, W).
        factors: new pixels per old one along rows and columns.
    """
    # With this switch torch takes the usual cubic kernel, which keeps ramps straight.
    return interpolate(image, scale_factor=tuple(map(float, factors)), mode="bicubic", antialias=True)


@dataclass(frozen=True)
class Decimation(Degradation):
    """Blurred and sampled in the middle of the voxels that a sample stands for.

    Attributes:
        blur: SD of the Gaussian in fine voxels, along axes with a factor above 1.
    """

    blur: float = 1.0

    @property
    def neighbours(self) -> int:
        """Coarse slices on either side that share fine ones."""
        step = self.factors[0]
        return -(-gaussian_reach(step, self.blur) // step) if step > 1 else 0

    @property
    def words(self) -> str:
        """What is done to the fine image."""
        return f"{self._fewer}, after a Gaussian of SD {self.blur:g} voxels"

    def __call__(self, fine: Tensor) -> Tensor:
        """Blur and sample."""
        return decimated(fine, self.factors, self.blur)


@dataclass(frozen=True)
class ThickSlices(Degradation):
    """Slices that are as thick as several fine ones, pixels unchanged.

    Attributes:
        profile: of a slice; ``box`` averages, ``gaussian`` has the thickness as its full width at half maximum.
    """

    profile: Profile = "box"

    @property
    def neighbours(self) -> int:
        """Coarse slices on either side that share fine ones."""
        step = self.factors[0]
        return -(-gaussian_reach(step, profile_sd(step)) // step) if self.profile == "gaussian" else 0

    @property
    def words(self) -> str:
        """What is done to the fine image."""
        return f"{self._fewer}, each with a {self.profile} profile as thick as {self.factors[0]} fine ones"

    def __call__(self, fine: Tensor) -> Tensor:
        """Join slices."""
        if self.factors[1:] != (1, 1):
            raise ValueError(f"thicker slices have the same pixels, not {self.factors} times fewer")
        return thick_slices(fine, self.factors[0], self.profile)


@dataclass(frozen=True)
class Truncation(Degradation):
    """The innermost part of k-space, shown on the grid of the fine image: a shorter MR scan filled up with zeros.

    Attributes:
        window: ``hann`` fades the kept part out towards its ends, against ringing.
    """

    window: Window = "none"

    same_grid: ClassVar[bool] = True
    interpolation: ClassVar[str] = "as it is"

    @property
    def neighbours(self) -> int:
        """Coarse slices on either side that share fine ones."""
        return sys.maxsize if self.factors[0] > 1 else 0

    @property
    def words(self) -> str:
        """What is done to the fine image."""
        faded = " behind a Hann window" if self.window == "hann" else ""
        return f"innermost k-space with {self._fewer}{faded}, on the same grid"

    def __call__(self, fine: Tensor) -> Tensor:
        """Cut k-space."""
        return truncated(fine, self.factors, self.window)

    def interpolated(self, coarse: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same, since there is nothing to enlarge."""
        return coarse
