"""Noisy MR slices of the head to what they were without the noise."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from ganatomy.case import Array, Better, Preparation, Role, Sample, Scores, Volume, label_of, slab
from ganatomy.errors import UserError
from ganatomy.images.codecs import Codec, body_above
from ganatomy.images.image import ComputedArray
from ganatomy.metrics.fidelity import psnr, rmse, ssim
from ganatomy.roles.image import ImageRole
from ganatomy.tasks.restoration.task import Restoration

PSNR, SSIM, RMSE = "psnr[head]", "ssim[head]", "rmse[head]"

FOREGROUND = 0.05
"""Part of the window above its lower end where the head begins (our choice)."""
CONTENT = 0.05
"""Share of a slice that the head must fill for the slice to be worth learning from (our choice)."""


class NoisePreparation(Preparation):
    """How noise is simulated."""

    snr: float  # mean of the head in a slice relative to the standard deviation of the noise there
    above: float | None  # value that the head lies above; none finds one in each volume


class MRDenoising(Restoration):
    """A slice is the target; the input is the slice with Gaussian noise inside of the head, simulated by its seed.

    Args:
        codec: values of both to the range of the network.
        snr: mean of the head in a slice relative to the standard deviation of the noise there.
        size: rows and columns of the phantom.
        phantom: name of the embedded one.
        part: of the phantom: the image that noise is added to.
        subjects: patients of the phantom.
        option: that sets the window of the codec.
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
        inside = head(target[0], self.above("target", FOREGROUND, target))
        return np.asarray(inside.mean(axis=(1, 2)) >= CONTENT)

    def simulate(self, sample: Sample, seed: int) -> Sample:
        if "input" in sample.arrays:
            raise UserError(
                f"{label_of(sample.values.get('target'))}: give clean slices as target and nothing beside them; input "
                "is simulated"
            )
        target = sample.arrays["target"]

        @lru_cache(maxsize=1)
        def above() -> float:
            # What is simulated must not depend on what was learned later.
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
        """A slice (rows, columns) with noise; an empty one as it is."""
        inside = head(plane[None], above)[0]
        if not inside.any():
            return plane
        drawn = np.random.default_rng(seed).standard_normal(plane.shape, np.float32)
        return np.asarray(plane + inside * drawn * (plane[inside].mean() / self.snr), np.float32)

    def head(self, image: Volume) -> NDArray[np.bool_]:
        """Where the head is in slices of the target, (slices, rows, columns)."""
        return head(image, self.above("target", FOREGROUND))

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Distances from the clean slices within the head; nothing is clipped, the window's width is the data range."""
        made, target, (low, high) = output["target"], sample["target"], self.window("target")
        inside = self.head(target)
        return {
            PSNR: psnr(made, target, high - low, mask=inside),
            SSIM: ssim(made, target, high - low, mask=inside),
            RMSE: rmse(made, target, inside),
        }


def head(image: Volume, above: float) -> NDArray[np.bool_]:
    """Where the head is, (slices, rows, columns): what is not dark, and all that it encloses in a slice.

    Args:
        image: (slices, rows, columns).
        above: value that it lies above.
    """
    return np.stack([binary_fill_holes(plane) for plane in np.asarray(image) > above])
