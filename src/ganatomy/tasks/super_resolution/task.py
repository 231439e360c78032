"""The task of super-resolution: predict fine images or volumes from coarse ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from ganatomy.case import Array, Better, Case, Preparation, Role, Sample, Scores, Volume, slab
from ganatomy.errors import UserError
from ganatomy.game import Method, MethodConfig
from ganatomy.images.augmentation import Augmentation, Changes, mild
from ganatomy.images.codecs import PercentileWindow, Window
from ganatomy.images.frames import Frame, Turn
from ganatomy.images.image import ComputedArray, Image, LazyArray
from ganatomy.physics.resolution import Degradation, Factors
from ganatomy.roles.expectations import CLOSE, Expectation
from ganatomy.roles.image import ImageOptions, ImageRole
from ganatomy.roles.labels import LabelRole
from ganatomy.tasks.restoration.likeness import BEST, EDGES, MAE, PSNR, SSIM, likeness
from ganatomy.tasks.restoration.task import CONTENT, Restoration

LOW = "low"
"""Name of the role of the coarse image."""
PHANTOM_SIZE: Mapping[int, int] = {2: 128, 3: 96}
"""Rows and columns of the embedded phantom, by the number of axes that networks see."""
FIELD_OF_VIEW = 200.0
"""Field of view of a volume of the phantom in mm."""


class SuperResolutionConfig(MethodConfig):
    """Options of super-resolution of slices: the degradation, the intensity scale, and the phantom."""

    factor: int = Field(4, ge=2, le=16)  # output pixels per input pixel along rows and columns, a power of two
    blur: float = 1.0  # SD of the Gaussian blur before subsampling, in pixels of the fine image (our choice)
    channels: int = 1  # number of channels of the images; 3 for colours
    window: tuple[float, float] | None = None  # values mapped to [-1, 1], coarse ones to [0, 1]; none: each image's own
    window_unit: str | None = "a.u."  # unit of the image values, such as HU
    phantom: str = "brain-mr"  # embedded phantom to learn from where no data are given
    part: str = "t1"  # image of the phantom to super-resolve
    structure: str = "white"  # structure of the phantom that a segmenter looks for in super-resolved images


class VolumeConfig(MethodConfig):
    """Options of super-resolution of volumes: the intensity scale and the phantom."""

    window: tuple[float, float] | None = None  # values mapped to the range of the networks; none: each image's own
    window_unit: str | None = "a.u."  # unit of the image values, such as HU
    phantom: str = "brain-mr"  # embedded phantom to learn from where no data are given
    part: str = "t1"  # image of the phantom to super-resolve
    structure: str = "white"  # structure of the phantom that a segmenter looks for in super-resolved images


def _thin(image: Image) -> str | None:
    """Describe axial slices that lie closer together than their pixels, as in a stack of another plane; else None."""
    slices, *pixels = (image.spacing[axis] for axis in Turn.to("axial", image.affine).axes)
    if slices >= (1 - CLOSE) * max(pixels):
        return None
    return f"its axial slices are {slices:.3g} mm apart, and their pixels {max(pixels):.3g} mm"


THICK = Expectation("a stack of axial slices that are thicker than their pixels", _thin)


class ResolutionPreparation(Preparation):
    """Preparation with simulated coarse images; fine images are cropped to whole coarse voxels."""

    degradation: str  # kind and parameters of the degradation model
    scale: Factors  # fine voxels per voxel of the coarse image

    def frame(self, image: Image, role: str) -> Frame:
        """Return the frame of an image; fine images are cropped by the voxels that fill no coarse voxel.

        Raises:
            UserError: the image is smaller than a coarse voxel.
        """
        frame = super().frame(image, role)
        if role == LOW:
            return frame
        slices, rows, columns = (extent - extent % times for extent, times in zip(frame.size, self.scale, strict=True))
        if not slices * rows * columns:
            times = " x ".join(str(factor) for factor in self.scale)
            raise UserError(f"{image.header.label}: {image.shape} voxels are too few to be {times} times coarser")
        return replace(frame, size=(slices, rows, columns))


class SuperResolution(Restoration):
    """Task of super-resolution: the target is a fine image, the input its simulated or acquired coarse version.

    Methods learn from patches of fine images and degrade them themselves, since the two grids differ. Where the coarse
    image has the grid of the fine one, patches are cut from both.

    Args:
        degradation: degradation model that simulates coarse images.
        codec: codec between values of the fine images and the range of the networks.
        shown: values to which the codec's window is mapped in coarse images.
        channels: number of channels of the images.
        dims: number of axes that networks see, 2 or 3; with 3, the phantom has isotropic voxels.
        phantom: name of the embedded phantom.
        parts: role to part of the phantom: the image, and the mask of a structure.
        selection: score that selects the best weights.
    """

    name = "super-resolution"
    judge = "ganatomy.tasks.super_resolution.judge:SuperResolutionJudge"
    given = "image"
    input, output = LOW, "image"

    directions: ClassVar[Mapping[str, Better]] = {
        PSNR: "higher",
        SSIM: "higher",
        MAE: "lower",
        EDGES: "target",
        BEST: "lower",
    }

    def __init__(
        self,
        degradation: Degradation,
        codec: Window | PercentileWindow,
        shown: tuple[float, float],
        channels: int,
        dims: int,
        phantom: str,
        parts: Mapping[str, str],
        selection: str,
    ):
        self.degradation, self.codec, self.dims = degradation, codec, dims
        self.phantom, self.parts, self._selection = phantom, parts, selection
        deep, *plane = degradation.scale
        self.expects = {LOW: (THICK,)} if deep > max(plane) else {}
        coarse = codec.model_copy(update={"to": shown})
        self.roles: Mapping[str, Role] = {
            "image": ImageRole("image", codec, width=channels),
            LOW: ImageRole(LOW, coarse, width=channels, optional=not degradation.same_grid),
            "mask": LabelRole("mask", any_two=True, optional=True),
        }

    @property
    def preparation(self) -> ResolutionPreparation:
        return ResolutionPreparation(degradation=repr(self.degradation), scale=self.degradation.scale)

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        size = size or PHANTOM_SIZE[self.dims]
        deep = {"slices": size // 2, "distance_mm": FIELD_OF_VIEW / size} if self.dims == 3 else {}
        return {"size": size, **deep}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return self.parts

    @property
    def selection(self) -> str:
        return self._selection

    def trainable(self, label: str | None, arrays: Mapping[str, Array]) -> NDArray[np.bool_]:
        return np.asarray((np.asarray(arrays["image"]) > self.above("image")).mean(axis=(0, 2, 3)) >= CONTENT)

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        if {"image", LOW} <= set(values) and not self.degradation.same_grid:
            raise UserError(
                f"{values[LOW].header.label}: this system makes its coarse images itself; give fine ones only"
            )
        return super().frame(values, case)

    def changes(self) -> Changes:
        """Return changes of the intensities of fine images, of which methods make the coarse ones after that.

        Movements, blur and noise would change the detail that is learned.
        """
        if self.degradation.same_grid:
            return Changes(
                Augmentation(),
                "its coarse images are simulated before training, and would not be those of changed ones",
            )
        if self.roles["image"].measured:
            return Changes(Augmentation(), "values of its images mean something, and movements would blur their detail")
        return Changes(mild(["image"], moved=False, smeared=False), "movements would blur the detail that is learned")

    def simulate(self, sample: Sample, seed: int) -> Sample:
        """Add the simulated coarse image, unless one was acquired.

        As many fine slices as a coarse slice needs are cached, so that each is read from the disk only once.
        """
        scale, around = self.degradation.scale, self.degradation.neighbours
        image, affine = sample.arrays["image"], sample.affines["image"]
        fine = _remembered(image, min(scale[0] * (2 * around + 1), image.shape[1]))
        low = sample.arrays.get(LOW, self._coarse(fine))
        arrays = {**sample.arrays, "image": fine, LOW: low}
        affines = {**sample.affines, LOW: affine @ _middles(scale)}
        order = [name for name in self.roles if name in arrays]
        return replace(sample, arrays={name: arrays[name] for name in order}, affines=affines)

    def _coarse(self, image: LazyArray) -> LazyArray:
        """Return the coarse version of a fine image, computed when it is read."""
        scale, around = self.degradation.scale, self.degradation.neighbours
        slices, rows, columns = (extent // times for extent, times in zip(image.shape[1:], scale, strict=True))

        @lru_cache(maxsize=1)
        def coarse(first: int, last: int) -> NDArray[np.float32]:
            fine = torch.from_numpy(image.slab(first * scale[0], last * scale[0]).astype(np.float32))
            return self.degradation(fine).numpy()

        def slab(start: int, stop: int) -> NDArray[np.float32]:
            first = max(start - around, 0)
            return coarse(first, min(stop + around, slices))[:, start - first : stop - first]

        return ComputedArray((image.shape[0], slices, rows, columns), np.float32, slab)

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Score fidelity and sharpness of the super-resolved image, see `likeness`."""
        return likeness(output["image"], sample["image"], self.window("image"), spacing)


def scale_of(config: SuperResolutionConfig | VolumeConfig, to: tuple[float, float]) -> Window | PercentileWindow:
    """Return the codec of fine images: the given window, or else that of the unit, or each image's percentiles.

    Args:
        config: options of the method.
        to: range of the networks.
    """
    codec = ImageOptions(window=config.window, unit=config.window_unit).codec(to, clip=True)
    assert isinstance(codec, Window | PercentileWindow)
    return codec


def parts_of(config: SuperResolutionConfig | VolumeConfig) -> dict[str, str]:
    """Return role to part of the phantom."""
    return {"image": config.part, "mask": f"mask:{config.structure}"}


def _remembered(array: Array, slices: int) -> LazyArray:
    """Return an array that caches the slices read last.

    Args:
        array: (channels, slices, rows, columns).
        slices: number of slices in the cache.
    """

    @lru_cache(maxsize=slices)
    def plane(index: int) -> NDArray[Any]:
        return slab(array, index, index + 1)

    def planes(start: int, stop: int) -> NDArray[Any]:
        return np.concatenate([plane(index) for index in range(start, stop)], axis=1)

    shape: Any = array.shape
    return ComputedArray(shape, array.dtype, planes)


def _middles(scale: Factors) -> NDArray[np.float64]:
    """Return the matrix from indices on the coarse grid to indices on the fine one."""
    matrix = np.diag([*(float(times) for times in scale), 1.0])
    matrix[:3, 3] = [(times - 1) / 2 for times in scale]
    return matrix


class VolumeResolver(Method):
    """Base class of super-resolution methods of volumes.

    Their configuration is a `VolumeConfig` with ``patch_shape`` and ``adversarial_weight``. Volumes are processed tile
    by tile with a margin around every tile, so that memory is bounded by the tile.

    Raises:
        UserError: the patches do not consist of whole coarse voxels.
    """

    dims = 3
    span: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    """Values to which the window is mapped, in coarse and in fine volumes."""
    generator: nn.Module
    """Network from coarse volumes (N, 1, D, H, W) and a margin in coarse voxels to fine volumes without the margin."""

    def __init__(self, config: MethodConfig):
        super().__init__(config)
        patch, scale = self.config.patch_shape, self.degradation.scale
        if any(extent % times for extent, times in zip(patch, scale, strict=True)):
            raise UserError(f"option patch_shape: {patch} are no multiples of {scale}; give others")

    @property
    @abstractmethod
    def degradation(self) -> Degradation:
        """Degradation model that simulates coarse volumes."""

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator; sharpness then counts in the score that selects weights."""
        return bool(self.config.adversarial_weight)

    def build_task(self) -> SuperResolution:
        c = self.config
        codec = scale_of(c, self.span)
        # The mean absolute error would weigh faint noise in the air around a head more than its detail.
        selection = BEST if self.adversarial else PSNR
        return SuperResolution(self.degradation, codec, self.span, 1, self.dims, c.phantom, parts_of(c), selection)

    def restore(self, input: Tensor) -> Tensor:
        """Super-resolve coarse volumes (N, 1, D, H, W); the output is smaller by the margin."""
        return self.generator(input, self.tiling.margin)  # type: ignore[no-any-return]
