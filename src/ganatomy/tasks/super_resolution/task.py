"""Coarse images and volumes to finer ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ganatomy.case import Volume
from ganatomy.errors import UserError
from ganatomy.game import Method, MethodConfig
from ganatomy.images.codecs import Codec, Window
from ganatomy.images.image import ComputedArray, Image
from ganatomy.physics.resolution import Coarsening, Factors
from ganatomy.tasks.restoration.task import Restoration
from ganatomy.tasks.synthesis.task import check_window
from ganatomy.tasks.translation.task import BEST, CONTENT, EDGES, MAE, PSNR, SSIM, likeness

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


class SuperResolution(Restoration):
    """Fine images are the target; a coarse version of each is simulated.

    Methods learn from patches of fine images and make them coarse themselves, since the two grids have no patches in
    common; where the coarse image has the grid of the fine one, patches are cut from both.

    Args:
        coarsening: how the coarse version comes about.
        codec: values of the fine images to the range of the networks.
        shown: what the codec's window is mapped to in coarse images.
        channels: of the images.
        dims: 2 for methods that see slices, 3 for volumes; the phantom then has slices as close as its pixels.
        phantom: name of the embedded one.
        parts: of the phantom, by role: the image, and a structure's mask.
        selection: the score that decides which weights are best.
    """

    name = "super-resolution"
    ability = "restore"
    given = "image"
    optional = ("mask",)
    source, product = "low", "image"

    directions: ClassVar[Mapping[str, str]] = {
        PSNR: "higher",
        SSIM: "higher",
        MAE: "lower",
        EDGES: "target",
        BEST: "lower",
    }

    def __init__(
        self,
        coarsening: Coarsening,
        codec: Window,
        shown: tuple[float, float],
        channels: int,
        dims: int,
        phantom: str,
        parts: Mapping[str, str],
        selection: str,
    ):
        self.coarsening, self.codec, self.shown, self.dims = coarsening, codec, shown, dims
        self.roles = ("image", "low") if coarsening.same_grid else ("image",)
        self.phantom, self.parts = phantom, parts
        self._channels, self._selection = channels, selection

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        size = size or PHANTOM_SIZE[self.dims]
        deep = {"slices": size // 2, "distance_mm": FIELD_OF_VIEW / size} if self.dims == 3 else {}
        return {"size": size, **deep}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return self.parts

    @property
    def codecs(self) -> Mapping[str, Codec]:
        return {"image": self.codec, "low": self.codec.model_copy(update={"to": self.shown})}

    @property
    def channels(self) -> Mapping[str, int]:
        return {"image": self._channels, "low": self._channels}

    @property
    def fingerprint(self) -> str:
        return f"{self.coarsening!r} {self._channels} {self.codec!r}"

    @property
    def selection(self) -> str:
        return self._selection

    def trainable(self, label: str | None, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
        return np.asarray((arrays["image"] > self.codec.low).mean(axis=(0, 2, 3)) >= CONTENT)

    def check(self, image: Image) -> None:
        if image.channels != self._channels:
            raise UserError(
                f"{image.header.label}: {image.channels} channels, but the system works with {self._channels}; "
                "give other images" + (f", or add --channels {image.channels} when training" if self.dims == 2 else "")
            )
        self.codec.check(image)
        if image.unit in (None, "a.u."):
            check_window(image, self.codec)

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        self.check(given["image"])
        image = self._divisible(given["image"])
        masks = {"mask": self._mask(given["mask"], given["image"])} if "mask" in given else {}
        if "low" not in given:
            return {"image": image, "low": self._coarse(image), **masks}
        self.check(given["low"])
        if given["low"].shape != image.shape:
            raise UserError(
                f"{given['low'].header.label}: {given['low'].shape} voxels, but its fine image "
                f"{image.header.label} has {image.shape}; give pairs on one grid"
            )
        return {"image": image, "low": given["low"], **masks}

    def _mask(self, mask: Image, image: Image) -> Image:
        """A mask on the grid of the fine image, above 0.5 inside."""
        check_mask(mask, image)
        return self._divisible(mask)

    def _coarse(self, image: Image) -> Image:
        """The coarse image in the place of the fine one, computed when it is read, from the slices that it takes."""
        scale, around = self.coarsening.scale, self.coarsening.neighbours
        slices, rows, columns = (extent // times for extent, times in zip(image.shape, scale, strict=True))

        @lru_cache(maxsize=1)
        def coarse(first: int, last: int) -> NDArray[np.float32]:
            fine = torch.from_numpy(image.slab(first * scale[0], last * scale[0]).astype(np.float32))
            return self.coarsening(fine).numpy()

        def slab(start: int, stop: int) -> NDArray[np.float32]:
            first = max(start - around, 0)
            return coarse(first, min(stop + around, slices))[:, start - first : stop - first]

        array = ComputedArray((image.channels, slices, rows, columns), np.float32, slab)
        return image.with_geometry(array, image.affine @ _middles(scale))

    def _divisible(self, image: Image) -> Image:
        """The image without the last slices, rows and columns that fill no coarse voxel.

        It remembers as many slices as a coarse one takes, which are then read from the disk but once.

        Raises:
            UserError: nothing is left.
        """
        scale, around = self.coarsening.scale, self.coarsening.neighbours
        slices, rows, columns = (extent - extent % times for extent, times in zip(image.shape, scale, strict=True))
        if not slices * rows * columns:
            times = " x ".join(str(factor) for factor in scale)
            raise UserError(f"{image.header.label}: {image.shape} voxels are too few to be {times} times coarser")

        @lru_cache(maxsize=min(scale[0] * (2 * around + 1), slices))
        def plane(index: int) -> NDArray[Any]:
            return image.slab(index, index + 1)[:, :, :rows, :columns]

        def slab(start: int, stop: int) -> NDArray[Any]:
            return np.concatenate([plane(index) for index in range(start, stop)], axis=1)

        return image.with_geometry(
            ComputedArray((image.channels, slices, rows, columns), image.dtype, slab), image.affine
        )

    def scores(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """How near and how sharp the finer image is."""
        return likeness(output, sample["image"], (self.codec.low, self.codec.high), spacing)


def parts_of(config: SuperResolutionConfig | VolumeConfig) -> dict[str, str]:
    """Of the phantom, by role."""
    return {"image": config.part, "mask": f"mask:{config.structure}"}


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
        patch, scale = self.config.patch_shape, self.coarsening.scale
        if any(extent % times for extent, times in zip(patch, scale, strict=True)):
            raise UserError(f"option patch_shape: {patch} are no multiples of {scale}; give others")

    @property
    @abstractmethod
    def coarsening(self) -> Coarsening:
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
        return SuperResolution(self.coarsening, codec, self.span, 1, self.dims, c.phantom, parts_of(c), selection)

    def restore(self, input: Tensor) -> Tensor:
        """Coarse volumes to fine ones, (N, 1, D, H, W), the margin smaller."""
        return self.generator(input, self.tiling.margin)  # type: ignore[no-any-return]
