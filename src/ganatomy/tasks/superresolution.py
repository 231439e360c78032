"""Coarse images to finer ones."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.game import MethodConfig
from ganatomy.images.codecs import Codec, Window
from ganatomy.images.image import ComputedArray, Image
from ganatomy.physics.resolution import coarser
from ganatomy.tasks.base import ImageToImage, Volume
from ganatomy.tasks.synthesis import check_window
from ganatomy.tasks.translation import BEST, CONTENT, EDGES, MAE, PSNR, SSIM, likeness

PHANTOM_SIZE = 128
"""Rows and columns of the embedded phantom."""


class SuperResolutionConfig(MethodConfig):
    """What is made finer, and how its coarse version comes about."""

    factor: int = 4  # output pixels per input pixel along rows and columns, a power of two
    blur: float = (
        1.0  # Gaussian that the fine image is blurred with before it is sampled, SD in its pixels (our choice)
    )
    channels: int = 1  # of the images; 3 for colours
    window: tuple[float, float] = (0.0, 1200.0)  # values mapped to [-1, 1], coarse ones to [0, 1] (our choice)
    window_unit: str | None = "a.u."  # of these values, such as HU
    phantom: str = "brain-mr"  # learned from where no data are given
    part: str = "t1"  # of the phantom: the image that is made finer


class SuperResolution(ImageToImage):
    """Fine images are the target; a coarse version of each is simulated in the plane of the slices.

    Args:
        codec: values of the fine images to the range of the networks.
        factor: fine pixels per coarse pixel.
        blur: Gaussian before sampling, SD in fine pixels.
        channels: of the images.
        phantom: name of the embedded one.
        part: of the phantom.
        selection: the score that decides which weights are best.
    """

    name = "super-resolution"
    ability = "restore"
    roles = ("image",)
    given = "image"
    source, product = "low", "image"

    directions: ClassVar[Mapping[str, str]] = {
        PSNR: "higher",
        SSIM: "higher",
        MAE: "lower",
        EDGES: "target",
        BEST: "lower",
    }

    def __init__(self, codec: Window, factor: int, blur: float, channels: int, phantom: str, part: str, selection: str):
        self.codec, self.factor, self.blur, self.phantom, self.part = codec, factor, blur, phantom, part
        self._channels, self._selection = channels, selection

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or PHANTOM_SIZE}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {"image": self.part}

    @property
    def codecs(self) -> Mapping[str, Codec]:
        return {"image": self.codec, "low": self.codec.model_copy(update={"to": (0.0, 1.0)})}

    @property
    def channels(self) -> Mapping[str, int]:
        return {"image": self._channels, "low": self._channels}

    @property
    def fingerprint(self) -> str:
        return f"{self.factor} {self.blur} {self._channels} {self.codec!r}"

    @property
    def selection(self) -> str:
        return self._selection

    def trainable(self, label: str | None, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_] | None:
        return np.asarray((arrays["image"] > self.codec.low).mean(axis=(0, 2, 3)) >= CONTENT)

    def check(self, image: Image) -> None:
        if image.channels != self._channels:
            raise UserError(
                f"{image.header.label}: {image.channels} channels, but the system works with {self._channels}; "
                f"add --channels {image.channels} when training, or give other images"
            )
        self.codec.check(image)
        if image.unit in (None, "a.u."):
            check_window(image, self.codec)

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        self.check(given["image"])
        image = self._divisible(given["image"])
        slices, *plane = image.shape
        rows, columns = (extent // self.factor for extent in plane)

        def slab(start: int, stop: int) -> NDArray[np.float32]:
            fine = torch.from_numpy(image.slab(start, stop).astype(np.float32))
            return coarser(fine, self.factor, self.blur).numpy()

        low = ComputedArray((image.channels, slices, rows, columns), np.float32, slab)
        return {"image": image, "low": image.with_geometry(low, image.affine @ self._coarse)}

    @property
    def _coarse(self) -> NDArray[np.float64]:
        """Indices on the coarse grid to indices on the fine one."""
        matrix = np.diag([1.0, self.factor, self.factor, 1.0])
        matrix[1:3, 3] = (self.factor - 1) / 2
        return matrix

    def _divisible(self, image: Image) -> Image:
        """The image without the last rows and columns that fill no coarse pixel.

        Raises:
            UserError: nothing is left.
        """
        slices, rows, columns = image.shape
        rows, columns = rows - rows % self.factor, columns - columns % self.factor
        if not rows or not columns:
            raise UserError(f"{image.header.label}: {image.shape} voxels are too few to be {self.factor} times coarser")
        if (rows, columns) == image.shape[1:]:
            return image
        shape = (image.channels, slices, rows, columns)
        cut = ComputedArray(shape, image.dtype, lambda start, stop: image.slab(start, stop)[:, :, :rows, :columns])
        return image.with_geometry(cut, image.affine)

    def scores(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """How near and how sharp the finer image is."""
        return likeness(output, sample["image"], (self.codec.low, self.codec.high), spacing)
