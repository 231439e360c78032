"""The task of low-dose CT denoising: predict routine-dose CT from low-dose CT."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from torch.nn.functional import pad

from ganatomy.case import Array, Better, Preparation, Role, Sample, Scores, Volume, slab
from ganatomy.game import Method
from ganatomy.images.augmentation import Augmentation, Changes
from ganatomy.images.codecs import Window
from ganatomy.images.image import ComputedArray
from ganatomy.metrics.fidelity import psnr, rmse, ssim
from ganatomy.metrics.regions import cut, homogeneous_regions
from ganatomy.metrics.texture import noise_power_spectrum, noise_sd, nps_distance
from ganatomy.physics.ct import LowDoseScan
from ganatomy.roles.image import ImageRole
from ganatomy.tasks.restoration.task import Restoration

ABDOMEN = (-160.0, 240.0)
AIR = -500.0
LOWEST = -1024.0
FIELD_OF_VIEW = 380.0
"""Side of the slices of the embedded phantom in mm."""
PHANTOM_SIZE = 256
"""Number of rows and of columns of the phantom."""
PHANTOM_SLICES = {2: (8, 12.0), 3: (32, 3.0)}
"""Number of slices of the phantom and mm between them, by the number of axes that networks see."""


def mostly_air(limit: float) -> Callable[[Mapping[str, Any]], bool]:
    """Return a function that accepts patches whose target has at most a given share of air."""
    return lambda patch: float(np.mean(patch["target"] < AIR)) <= limit


class DosePreparation(Preparation):
    """Preparation with a simulated low-dose scan."""

    scan: LowDoseScan  # simulates the low-dose scan of a routine-dose one, and both scans of a phantom


class CTDenoising(Restoration):
    """Task of low-dose CT denoising: the input is a low-dose scan, acquired or simulated, the target a routine scan.

    The role ``clean`` is a noise-free phantom, of which both scans are simulated.

    Args:
        scan: simulates the low-dose scan of a routine-dose one, and both scans of a phantom.
        codec: codec between HU and the range of the networks, for both roles.
        selection: score that selects the best weights.
        dims: number of axes that networks see, 2 or 3, which decides on the slices of the phantom.
    """

    name = "ct-denoising"
    judge = "ganatomy.tasks.ct_denoising.judge:DenoisingJudge"
    given = "target"
    phantom = "thorax-ct"

    directions: ClassVar[Mapping[str, Better]] = {
        "psnr[-160,240]": "higher",
        "ssim[-160,240]": "higher",
        "rmse": "lower",
        "rmse[-160,240]": "lower",
        "noise sd": "target",
        "texture error": "lower",
        "nps distance": "lower",
        "rmse+texture": "lower",
    }

    def __init__(self, scan: LowDoseScan, codec: Window, selection: str, dims: int):
        self.scan, self.dims = scan, dims
        self._selection = selection
        self.roles: Mapping[str, Role] = {
            "input": ImageRole("input", codec, modality="CT", option=None),
            "target": ImageRole("target", codec, modality="CT", option=None),
            "clean": ImageRole("clean", optional=True, checked=False),
        }

    @property
    def preparation(self) -> DosePreparation:
        return DosePreparation(scan=self.scan)

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        size = size or PHANTOM_SIZE
        slices, apart = PHANTOM_SLICES[self.dims]
        return {
            "size": size,
            "slices": slices,
            "spacing_mm": (apart, FIELD_OF_VIEW / size, FIELD_OF_VIEW / size),
        }

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {"clean": "image"}

    def usable(self, roles: Iterable[str]) -> bool:
        return bool({"target", "clean"} & set(roles))

    @property
    def selection(self) -> str:
        return self._selection

    def changes(self) -> Changes:
        """Return no changes, since they would change the noise that is learned."""
        return Changes(
            Augmentation(),
            "its scans differ in noise, which is smoothed wherever an image is moved by a part of a pixel",
        )

    def simulate(self, sample: Sample, seed: int) -> Sample:
        given = sample.arrays
        if "clean" in given:
            target = self._simulated(sample, given["clean"], self.scan.acquire, seed)
        else:
            target = _above_padding(given["target"])
        if "input" in given:
            low = _above_padding(given["input"])
        else:
            low = self._simulated(sample, target, self.scan.low_dose, seed)
        arrays = {"target": target, "input": low}
        affine = sample.affines[sample.first]
        return replace(sample, arrays=arrays, affines=dict.fromkeys(arrays, affine))

    def _simulated(self, sample: Sample, array: Any, scan: Callable[..., Any], seed: int) -> Array:
        _, *pixel_mm = sample.spacing

        @lru_cache(maxsize=1)
        def simulated(start: int, stop: int) -> Any:
            return scan(slab(array, start, stop)[0], tuple(pixel_mm), seed, first=start)[None]

        return _above_padding(ComputedArray(array.shape, np.float32, simulated))

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        made, target, low = output["target"], sample["target"], sample["input"]
        scores = {
            "psnr[-160,240]": psnr(made, target, window=ABDOMEN),
            "ssim[-160,240]": ssim(made, target, window=ABDOMEN),
            "rmse": rmse(made, target),
            "rmse[-160,240]": rmse(made, target, window=ABDOMEN),
        }
        boxes = homogeneous_regions(target, spacing[1:], count=2 * len(target))
        if boxes:
            wanted, got = cut(target, boxes), cut(made, boxes)
            scores["noise sd"] = noise_sd(got)
            scores["texture error"] = abs(noise_sd(got) / noise_sd(wanted) - 1)
            scores["nps distance"] = nps_distance(
                noise_power_spectrum(got, spacing[1:]), noise_power_spectrum(wanted, spacing[1:])
            )
            # The error relative to the input's plus the log ratio of noise levels: neither an output as noisy as the
            # input nor one without texture has the best score.
            relative = rmse(made, target) / max(rmse(low, target), 1e-6)
            scores["rmse+texture"] = relative + abs(np.log(noise_sd(got) / noise_sd(wanted)))
        return scores


def _above_padding(array: Any) -> Array:
    """Raise the scanner's padding, values below those of air, to the lowest CT number."""
    return ComputedArray(
        array.shape, np.float32, lambda start, stop: np.maximum(slab(array, start, stop).astype(np.float32), LOWEST)
    )


class CTDenoiser(Method):
    """Base class of low-dose CT denoisers; their configuration has ``scan`` and ``window``."""

    @property
    @abstractmethod
    def network_range(self) -> tuple[float, float]:
        """Values in the range of the networks to which the ends of the window are mapped."""

    @property
    @abstractmethod
    def adversarial(self) -> bool:
        """Whether there is a discriminator; texture then counts in the score that selects weights."""

    def inside(self, image: Tensor) -> Tensor:
        """Clip an image to the range of the networks, that of the window."""
        return image.clamp(*self.network_range)

    def generate(self, input: Tensor) -> Tensor:
        """Apply the generator to the clipped input; the output is smaller by the margin."""
        return self.generator(self.inside(input))  # type: ignore[no-any-return,operator]

    def restore(self, input: Tensor) -> Tensor:
        """Denoise low-dose images (N, 1, [D,] H, W); the output is smaller by the margin.

        Values outside of the window, such as bone or air, are kept and changed by the generator's correction.
        """
        lost = [-extent for extent in reversed(self.tiling.margin[3 - self.dims :]) for _ in range(2)]
        return self.generate(input) + pad(input - self.inside(input), lost)

    def build_task(self) -> CTDenoising:
        codec = Window(low=self.config.window[0], high=self.config.window[1], to=self.network_range, unit="HU")
        selection = "rmse+texture" if self.adversarial else "rmse"
        return CTDenoising(self.config.scan, codec, selection, self.dims)
