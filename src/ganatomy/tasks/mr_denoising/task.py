"""Noisy MR slices of the head to what they were without the noise."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from ganatomy.case import Volume
from ganatomy.errors import UserError
from ganatomy.images.codecs import Codec, Window
from ganatomy.images.image import ComputedArray, Image
from ganatomy.metrics.fidelity import psnr, rmse, ssim
from ganatomy.tasks.restoration.task import Restoration
from ganatomy.tasks.synthesis.task import check_window

PSNR, SSIM, RMSE = "psnr[head]", "ssim[head]", "rmse[head]"

FOREGROUND = 0.05
"""Part of the window above its lower end where the head begins (our choice)."""
CONTENT = 0.05
"""Share of a slice that the head must fill for the slice to be worth learning from (our choice)."""


class MRDenoising(Restoration):
    """A slice is the target; the input is the slice with Gaussian noise inside of the head, simulated by its seed.

    Args:
        codec: values of both to the range of the network.
        snr: mean of the head in a slice relative to the standard deviation of the noise there.
        size: rows and columns of the phantom.
        phantom: name of the embedded one.
        part: of the phantom: the image that noise is added to.
        subjects: patients of the phantom.
    """

    name = "mr-denoising"
    ability = "restore"
    roles = ("input", "target")
    given = "target"
    selection = RMSE

    directions: ClassVar[Mapping[str, str]] = {PSNR: "higher", SSIM: "higher", RMSE: "lower"}

    def __init__(self, codec: Window, snr: float, size: tuple[int, ...], phantom: str, part: str, subjects: int = 80):
        self.codec, self.snr, self.size = codec, snr, size
        self.phantom, self._part, self.phantom_subjects = phantom, part, subjects

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or max(self.size)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {"target": self._part}

    @property
    def codecs(self) -> Mapping[str, Codec]:
        return {"input": self.codec, "target": self.codec}

    @property
    def fingerprint(self) -> str:
        return f"{self.snr} {self.codec!r}"

    def trainable(self, label: str | None, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_] | None:
        return np.asarray(self.head(arrays["target"][0]).mean(axis=(1, 2)) >= CONTENT)

    def check(self, image: Image) -> None:
        if image.header.modality not in (None, "MR"):
            raise UserError(
                f"{image.header.label}: modality {image.header.modality}, but this system was trained on MR"
            )
        if image.channels != 1:
            raise UserError(f"{image.header.label}: {image.channels} channels (colour?); give grey images")
        self.codec.check(image)
        if image.unit in (None, "a.u."):
            check_window(image, self.codec)

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        target = given["target"]
        if others := sorted(set(given) - {"target"}):
            raise UserError(
                f"{target.header.label}: give clean slices as target and nothing beside them; {', '.join(others)} is "
                "simulated"
            )
        self.check(target)

        def slab(start: int, stop: int) -> NDArray[np.float32]:
            clean = target.slab(start, stop)[0].astype(np.float32)
            return np.stack([self._noisy(plane, [seed, start + i]) for i, plane in enumerate(clean)])[None]

        noisy = ComputedArray((1, *target.shape), np.float32, slab)
        return {"input": target.with_array(noisy), "target": target}

    def head(self, image: Volume) -> NDArray[np.bool_]:
        """Where the head is, (slices, rows, columns): what is not dark, and all that it encloses in a slice."""
        low, high = self.codec.low, self.codec.high
        bright = np.asarray(image) > low + FOREGROUND * (high - low)
        return np.stack([binary_fill_holes(plane) for plane in bright])

    def _noisy(self, plane: NDArray[np.float32], seed: list[int]) -> NDArray[np.float32]:
        """A slice (rows, columns) with noise; an empty one as it is."""
        inside = self.head(plane[None])[0]
        if not inside.any():
            return plane
        drawn = np.random.default_rng(seed).standard_normal(plane.shape, np.float32)
        return np.asarray(plane + inside * drawn * (plane[inside].mean() / self.snr), np.float32)

    def scores(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Distances from the clean slices within the head; nothing is clipped, the window's width is the data range."""
        target, width = sample["target"], self.codec.high - self.codec.low
        inside = self.head(target)
        return {
            PSNR: psnr(output, target, width, mask=inside),
            SSIM: ssim(output, target, width, mask=inside),
            RMSE: rmse(output, target, inside),
        }
