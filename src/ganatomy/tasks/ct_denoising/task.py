"""Low-dose CT to routine-dose CT."""

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
"""Side of the slices of the embedded phantom, mm."""
PHANTOM_SIZE = 256
"""Rows and columns of it."""
PHANTOM_SLICES = {2: (8, 12.0), 3: (32, 3.0)}
"""Its slices and the mm between them, for methods that see slices and for those that see volumes."""


def mostly_air(limit: float) -> Callable[[Mapping[str, Any]], bool]:
    """Accept patches whose target holds at most this share of air."""
    return lambda patch: float(np.mean(patch["target"] < AIR)) <= limit


class DosePreparation(Preparation):
    """How the low-dose partner of a scan is simulated."""

    scan: LowDoseScan  # simulates the partner of a routine-dose scan, and both of a phantom


class CTDenoising(Restoration):
    """A routine-dose scan is the target; its low-dose partner, acquired or simulated, is the input.

    A noise-free phantom is ``clean``: both of its scans are simulated.

    Args:
        scan: simulates the partner of a routine-dose scan, and both of a phantom.
        codec: HU to the network's range, for both roles.
        selection: the score that decides which weights are best.
        dims: 2 for methods that see slices, 3 for volumes; the phantom is then a scan of few or of adjacent slices.
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
            # Remaining error relative to the input's, plus how far the noise is from that of a routine scan:
            # neither leaving the noise nor wiping out the texture wins.
            relative = rmse(made, target) / max(rmse(low, target), 1e-6)
            scores["rmse+texture"] = relative + abs(np.log(noise_sd(got) / noise_sd(wanted)))
        return scores


def _above_padding(array: Any) -> Array:
    """A CT with the scanner's padding, values that no tissue has, raised to the lowest CT number."""
    return ComputedArray(
        array.shape, np.float32, lambda start, stop: np.maximum(slab(array, start, stop).astype(np.float32), LOWEST)
    )


class CTDenoiser(Method):
    """A method whose task is low-dose CT denoising; its config has ``scan`` and ``window``."""

    @property
    @abstractmethod
    def network_range(self) -> tuple[float, float]:
        """Values of the networks that the ends of the window are mapped to."""

    @property
    @abstractmethod
    def adversarial(self) -> bool:
        """Whether anybody plays against the generator; texture then counts when weights are chosen."""

    def inside(self, image: Tensor) -> Tensor:
        """Clip an image to the range that the networks see, that of the window."""
        return image.clamp(*self.network_range)

    def generate(self, input: Tensor) -> Tensor:
        """The generator's output for what it sees of the input, the margin smaller."""
        return self.generator(self.inside(input))  # type: ignore[no-any-return,operator]

    def restore(self, input: Tensor) -> Tensor:
        """Low-dose to denoised, (N, 1, [D,] H, W), the margin smaller.

        What lies outside of the window, bone or air, keeps its own values plus the generator's correction.
        """
        lost = [-extent for extent in reversed(self.tiling.margin[3 - self.dims :]) for _ in range(2)]
        return self.generate(input) + pad(input - self.inside(input), lost)

    def build_task(self) -> CTDenoising:
        codec = Window(low=self.config.window[0], high=self.config.window[1], to=self.network_range, unit="HU")
        selection = "rmse+texture" if self.adversarial else "rmse"
        return CTDenoising(self.config.scan, codec, selection, self.dims)
