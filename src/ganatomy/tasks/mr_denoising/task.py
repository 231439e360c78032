"""The task of MR denoising: predict noise-free slices of the head from noisy ones."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from ganatomy.case import Array, Better, Preparation, Role, Sample, Scores, Volume, label_of, slab
from ganatomy.errors import UserError
from ganatomy.images.augmentation import Augmentation, Changes
from ganatomy.images.codecs import Codec, body_above
from ganatomy.images.image import ComputedArray
from ganatomy.metrics.fidelity import psnr, rmse, ssim
from ganatomy.roles.image import ImageRole
from ganatomy.tasks.restoration.task import Restoration

PSNR, SSIM, RMSE = "psnr[head]", "ssim[head]", "rmse[head]"

FOREGROUND = 0.05
"""Share of the window above its lower end at which the head begins (our choice)."""
CONTENT = 0.05
"""Share of a slice that the head must fill for the slice to be learned from (our choice)."""


class NoisePreparation(Preparation):
    """Preparation with simulated noise."""

    snr: float  # mean of the head in a slice relative to the standard deviation of the noise there
    above: float | None  # value above which the head lies; none determines it for each volume


class MRDenoising(Restoration):
    """Task of MR denoising: the target is a slice, the input the same slice with Gaussian noise inside of the head.

    Args:
        codec: codec between values and the range of the networks, for both roles.
        snr: mean of the head in a slice relative to the standard deviation of the noise there.
        size: rows and columns of the phantom.
        phantom: name of the embedded phantom.
        part: image of the phantom to which noise is added.
        subjects: number of phantom subjects.
        option: name of the option that sets the window of the codec, for messages.
    """

    name = "mr-denoising"
    judge = "ganatomy.tasks.mr_denoising.judge:MRDenoisingJudge"
    given = "target"
    selection = RMSE

    directions: ClassVar[Mapping[str, Better]] = {PSNR: "higher", SSIM: "higher", RMSE: "lower"}

    def __init__(
        self,
        codec: Codec,
        snr: float,
        size: tuple[int, ...],
        phantom: str,
        part: str,
        subjects: int = 80,
        option: str = "--window",
    ):
        self.snr, self.size = snr, size
        self.phantom, self._part, self.phantom_subjects = phantom, part, subjects
        self.roles: Mapping[str, Role] = {
            name: ImageRole(name, codec, modality="MR", option=option) for name in ("input", "target")
        }

    @property
    def preparation(self) -> NoisePreparation:
        adaptive = self.roles["target"].adaptive
        return NoisePreparation(snr=self.snr, above=None if adaptive else self.above("target", FOREGROUND))

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or max(self.size)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {"target": self._part}

    def trainable(self, label: str | None, arrays: Mapping[str, Array]) -> NDArray[np.bool_] | None:
        target = np.asarray(arrays["target"])
        inside = head(target[0], self.above("target", FOREGROUND))
        return np.asarray(inside.mean(axis=(1, 2)) >= CONTENT)

    def changes(self) -> Changes:
        """Return no changes, since they would change the noise that is learned."""
        return Changes(
            Augmentation(),
            "its images differ in noise, which is smoothed wherever an image is moved by a part of a pixel",
        )

    def simulate(self, sample: Sample, seed: int) -> Sample:
        if "input" in sample.arrays:
            raise UserError(
                f"{label_of(sample.values.get('target'))}: give clean slices as target and nothing beside them; input "
                "is simulated"
            )
        target = sample.arrays["target"]

        @lru_cache(maxsize=1)
        def above() -> float:
            # Prepared cases must not depend on statistics that are fitted later.
            given = self.preparation.above
            return body_above(np.asarray(target)) if given is None else given

        def noisy(start: int, stop: int) -> NDArray[np.float32]:
            clean = slab(target, start, stop)[0].astype(np.float32)
            planes = [self._noisy(plane, above(), [seed, start + i]) for i, plane in enumerate(clean)]
            return np.stack(planes)[None]

        shape: Any = target.shape
        made = {"input": ComputedArray(shape, np.float32, noisy), "target": target}
        return replace(sample, arrays=made, affines=dict.fromkeys(made, sample.affines["target"]))

    def _noisy(self, plane: NDArray[np.float32], above: float, seed: list[int]) -> NDArray[np.float32]:
        """Add noise to the head in a slice (rows, columns); slices without head are returned unchanged."""
        inside = head(plane[None], above)[0]
        if not inside.any():
            return plane
        drawn = np.random.default_rng(seed).standard_normal(plane.shape, np.float32)
        return np.asarray(plane + inside * drawn * (plane[inside].mean() / self.snr), np.float32)

    def head(self, image: Volume) -> NDArray[np.bool_]:
        """Return the mask of the head in slices of the target, (slices, rows, columns)."""
        return head(image, self.above("target", FOREGROUND))

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Compute PSNR, SSIM and RMSE within the head, without clipping and with the window's width as data range."""
        made, target, (low, high) = output["target"], sample["target"], self.window("target")
        inside = self.head(target)
        return {
            PSNR: psnr(made, target, high - low, mask=inside),
            SSIM: ssim(made, target, high - low, mask=inside),
            RMSE: rmse(made, target, inside),
        }


def head(image: Volume, above: float) -> NDArray[np.bool_]:
    """Return the mask of the head, (slices, rows, columns): bright pixels, with holes filled slice by slice.

    Args:
        image: slices, (slices, rows, columns).
        above: value above which the head lies.
    """
    return np.stack([binary_fill_holes(plane) for plane in np.asarray(image) > above])
