"""Coarse images and volumes to finer ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganatomy.case import Array, Better, Case, Preparation, Role, Sample, Scores, Volume, slab
from ganatomy.errors import UserError
from ganatomy.game import Method, MethodConfig
from ganatomy.images.codecs import Window
from ganatomy.images.frames import Frame, Turn
from ganatomy.images.image import ComputedArray, Image, LazyArray
from ganatomy.physics.resolution import Degradation, Factors
from ganatomy.roles.expectations import CLOSE, Expectation
from ganatomy.roles.image import ImageRole
from ganatomy.roles.labels import LabelRole
from ganatomy.tasks.restoration.likeness import BEST, EDGES, MAE, PSNR, SSIM, likeness
from ganatomy.tasks.restoration.task import CONTENT, Restoration

LOW = "low"
"""Role of the coarse image."""
PHANTOM_SIZE: Mapping[int, int] = {2: 128, 3: 96}
"""Rows and columns of the embedded phantom for methods that see slices, and for those that see volumes."""
FIELD_OF_VIEW = 200.0
"""Of a volume of it, mm."""


class SuperResolutionConfig(MethodConfig):
    """What is made finer, and how its coarse version comes about."""

    factor: int = 4  # output pixels per input pixel along rows and columns, a power of two
    blur: float = 1.0  # SD of a Gaussian before the fine image is sampled, in its pixels (our choice)
    channels: int = 1  # of the images; 3 for colours
    window: tuple[float, float] = (0.0, 1200.0)  # values mapped to [-1, 1], coarse ones to [0, 1] (our choice)
    window_unit: str | None = "a.u."  # of these values, such as HU
    phantom: str = "brain-mr"  # learned from where no data are given
    part: str = "t1"  # of the phantom: the image that is made finer
    structure: str = "white"  # of the phantom: what a segmenter should find in finer images, too


class VolumeConfig(MethodConfig):
    """What volumes are made finer."""

    window: tuple[float, float] = (0.0, 1200.0)  # values mapped to the range of the networks (our choice)
    window_unit: str | None = "a.u."  # of these values, such as HU
    phantom: str = "brain-mr"  # learned from where no data are given
    part: str = "t1"  # of the phantom: the image that is made finer
    structure: str = "white"  # of the phantom: what a segmenter should find in finer images, too


def _thin(image: Image) -> str | None:
    """Axial slices lie closer together than their pixels, as in a stack that was acquired in another plane."""
    slices, *pixels = (image.spacing[axis] for axis in Turn.to("axial", image.affine).axes)
    if slices >= (1 - CLOSE) * max(pixels):
        return None
    return f"its axial slices are {slices:.3g} mm apart, and their pixels {max(pixels):.3g} mm"


THICK = Expectation("a stack of axial slices that are thicker than their pixels", _thin)


class ResolutionPreparation(Preparation):
    """How coarse images are simulated; fine ones are cut to whole coarse voxels."""

    degradation: str  # its kind and numbers
    scale: Factors  # fine voxels for each voxel of the coarse image as it is shown

    def frame(self, image: Image, role: str) -> Frame:
        """The frame of an image, without the last slices, rows and columns of a fine one that fill no coarse voxel.

        Raises:
            UserError: nothing is left.
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
    """Fine images are the target; a coarse version of each is simulated.

    Methods learn from patches of fine images and make them coarse themselves, since the two grids have no patches in
    common; where the coarse image has the grid of the fine one, patches are cut from both.

    Args:
        degradation: how the coarse version comes about.
        codec: values of the fine images to the range of the networks.
        shown: what the codec's window is mapped to in coarse images.
        channels: of the images.
        dims: 2 for methods that see slices, 3 for volumes; the phantom then has slices as close as its pixels.
        phantom: name of the embedded one.
        parts: of the phantom, by role: the image, and a structure's mask.
        selection: the score that decides which weights are best.
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
        codec: Window,
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
        return np.asarray((np.asarray(arrays["image"]) > self.codec.low).mean(axis=(0, 2, 3)) >= CONTENT)

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        if {"image", LOW} <= set(values) and not self.degradation.same_grid:
            raise UserError(
                f"{values[LOW].header.label}: this system makes its coarse images itself; give fine ones only"
            )
        return super().frame(values, case)

    def simulate(self, sample: Sample, seed: int) -> Sample:
        """The sample with its coarse image, where none was acquired.

        It remembers as many fine slices as a coarse one takes, which are then read from the disk but once.
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
        """The coarse version of a fine image, computed when it is read, from the slices that it takes."""
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
        """How near and how sharp the finer image is."""
        return likeness(output["image"], sample["image"], (self.codec.low, self.codec.high), spacing)


def parts_of(config: SuperResolutionConfig | VolumeConfig) -> dict[str, str]:
    """Of the phantom, by role."""
    return {"image": config.part, "mask": f"mask:{config.structure}"}


def _remembered(array: Array, slices: int) -> LazyArray:
    """An array whose last so many slices are kept when they have been read."""

    @lru_cache(maxsize=slices)
    def plane(index: int) -> NDArray[Any]:
        return slab(array, index, index + 1)

    def planes(start: int, stop: int) -> NDArray[Any]:
        return np.concatenate([plane(index) for index in range(start, stop)], axis=1)

    shape: Any = array.shape
    return ComputedArray(shape, array.dtype, planes)


def _middles(scale: Factors) -> NDArray[np.float64]:
    """Indices on the coarse grid to indices on the fine one."""
    matrix = np.diag([*(float(times) for times in scale), 1.0])
    matrix[:3, 3] = [(times - 1) / 2 for times in scale]
    return matrix


class VolumeResolver(Method):
    """A method that makes volumes finer; its config is a `VolumeConfig` with ``patch_shape`` and
    ``adversarial_weight``.

    Volumes are restored tile by tile, so that memory is bounded by the tile: every tile comes with a margin, from
    which the generator takes what lies beyond.

    Raises:
        UserError: the patches hold no whole number of coarse voxels.
    """

    dims = 3
    span: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    """What the window is mapped to, in coarse and in fine volumes."""
    generator: nn.Module
    """Coarse volumes, (N, 1, D, H, W), to fine ones without a margin of so many coarse voxels per side."""

    def __init__(self, config: MethodConfig):
        super().__init__(config)
        patch, scale = self.config.patch_shape, self.degradation.scale
        if any(extent % times for extent, times in zip(patch, scale, strict=True)):
            raise UserError(f"option patch_shape: {patch} are no multiples of {scale}; give others")

    @property
    @abstractmethod
    def degradation(self) -> Degradation:
        """How coarse volumes come about."""

    @property
    def adversarial(self) -> bool:
        """Whether anybody plays against the generator; sharpness then counts when weights are chosen."""
        return bool(self.config.adversarial_weight)

    def build_task(self) -> SuperResolution:
        c = self.config
        codec = Window(low=c.window[0], high=c.window[1], to=self.span, unit=c.window_unit, clip=True)
        # By mean absolute error, faint noise in the air around a head would weigh more than its detail.
        selection = BEST if self.adversarial else PSNR
        return SuperResolution(self.degradation, codec, self.span, 1, self.dims, c.phantom, parts_of(c), selection)

    def restore(self, input: Tensor) -> Tensor:
        """Coarse volumes to fine ones, (N, 1, D, H, W), the margin smaller."""
        return self.generator(input, self.tiling.margin)  # type: ignore[no-any-return]
