"""Low-dose CT to routine-dose CT."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from torch.nn.functional import pad

from ganatomy.errors import UserError
from ganatomy.game import Method
from ganatomy.images.codecs import Codec, Window
from ganatomy.images.image import ComputedArray, Image
from ganatomy.metrics.fidelity import psnr, rmse, ssim
from ganatomy.metrics.regions import cut, homogeneous_regions
from ganatomy.metrics.texture import noise_power_spectrum, noise_sd, nps_distance
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.base import ImageToImage, Volume

ABDOMEN = (-160.0, 240.0)
AIR = -500.0
LOWEST = -1024.0
FIELD_OF_VIEW = 380.0
"""Of the embedded phantom, mm."""
PHANTOM_SIZE = 256
"""Rows and columns of it."""


def mostly_air(limit: float) -> Callable[[Mapping[str, Any]], bool]:
    """Accept patches whose target holds at most this share of air."""
    return lambda patch: float(np.mean(patch["target"] < AIR)) <= limit


class CTDenoising(ImageToImage):
    """A routine-dose scan is the target; its low-dose partner, acquired or simulated, is the input.

    Args:
        scan: simulates the partner of a routine-dose scan, and both of a phantom.
        codec: HU to the network's range, for both roles.
        selection: the score that decides which weights are best.
        dims: 2 for methods that see slices, 3 for volumes; the phantom is then a scan of few or of adjacent slices.
    """

    name = "ct-denoising"
    ability = "restore"
    roles = ("input", "target")
    given = "target"
    phantom = "thorax-ct"

    directions: ClassVar[Mapping[str, str]] = {
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
        self.scan, self.codec, self.dims = scan, codec, dims
        self._selection = selection

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        size = size or PHANTOM_SIZE
        slices, apart = (8, 12.0) if self.dims == 2 else (32, 3.0)
        return {
            "size": size,
            "slices": slices,
            "spacing_mm": (apart, FIELD_OF_VIEW / size, FIELD_OF_VIEW / size),
        }

    @property
    def codecs(self) -> Mapping[str, Codec]:
        return {"input": self.codec, "target": self.codec}

    @property
    def fingerprint(self) -> str:
        return self.scan.model_dump_json()

    @property
    def selection(self) -> str:
        return self._selection

    def check(self, image: Image) -> None:
        if image.header.modality not in (None, "CT"):
            raise UserError(
                f"{image.header.label}: modality {image.header.modality}, but this system was trained on CT"
            )
        if image.channels != 1:
            raise UserError(
                f"{image.header.label}: {image.channels} channels (colour?), but CT has one; give grey images"
            )
        self.codec.check(image)

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        images = dict(given)
        if "clean" in images:
            images["target"] = self._simulated(images.pop("clean"), self.scan.acquire, seed)
        else:
            for image in images.values():
                self.check(image)
        images["target"] = _above_padding(images["target"])
        if "input" not in images:
            images["input"] = self._simulated(images["target"], self.scan.low_dose, seed)
        images["input"] = _above_padding(images["input"])
        if images["input"].shape != images["target"].shape:
            raise UserError(
                f"{images['input'].header.label}: {images['input'].shape} voxels, but its target "
                f"{images['target'].header.label} has {images['target'].shape}; give pairs on one grid"
            )
        return images

    def _simulated(self, image: Image, scan: Callable[..., Any], seed: int) -> Image:
        _, *pixel_mm = image.spacing

        @lru_cache(maxsize=1)
        def slab(start: int, stop: int) -> Any:
            return scan(image.slab(start, stop)[0], tuple(pixel_mm), seed, first=start)[None]

        return image.with_array(ComputedArray((1, *image.shape), np.float32, slab), unit="HU")

    def scores(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        target, low = sample["target"], sample["input"]
        scores = {
            "psnr[-160,240]": psnr(output, target, window=ABDOMEN),
            "ssim[-160,240]": ssim(output, target, window=ABDOMEN),
            "rmse": rmse(output, target),
            "rmse[-160,240]": rmse(output, target, window=ABDOMEN),
        }
        boxes = homogeneous_regions(target, spacing[1:], count=2 * len(target))
        if boxes:
            wanted, got = cut(target, boxes), cut(output, boxes)
            scores["noise sd"] = noise_sd(got)
            scores["texture error"] = abs(noise_sd(got) / noise_sd(wanted) - 1)
            scores["nps distance"] = nps_distance(
                noise_power_spectrum(got, spacing[1:]), noise_power_spectrum(wanted, spacing[1:])
            )
            # Remaining error relative to the input's, plus how far the noise is from that of a routine scan:
            # neither leaving the noise nor wiping out the texture wins.
            relative = rmse(output, target) / max(rmse(low, target), 1e-6)
            scores["rmse+texture"] = relative + abs(np.log(noise_sd(got) / noise_sd(wanted)))
        return scores


def _above_padding(image: Image) -> Image:
    """The image with the scanner's padding, values no tissue has, raised to the lowest CT number."""
    array = ComputedArray(
        (1, *image.shape), np.float32, lambda a, b: np.maximum(image.slab(a, b).astype(np.float32), LOWEST)
    )
    return image.with_array(array)


class CTDenoiser(Method):
    """A method whose task is low-dose CT denoising; its config has ``scan`` and ``window``."""

    @property
    @abstractmethod
    def network_range(self) -> tuple[float, float]:
        """What the window's ends are mapped to."""

    @property
    @abstractmethod
    def adversarial(self) -> bool:
        """Whether anybody plays against the generator; texture then counts when weights are chosen."""

    def inside(self, image: Tensor) -> Tensor:
        """What the networks see: values of the window, the rest cut off."""
        return image.clamp(*self.network_range)

    def generate(self, input: Tensor) -> Tensor:
        """The generator's output for what it sees of the input, the margin smaller."""
        return self.generator(self.inside(input))  # type: ignore[no-any-return,operator]

    def restore(self, input: Tensor) -> Tensor:
        """Low-dose to denoised, (N, 1, [D,] H, W), the margin smaller.

        What lies outside of the window, bone or air, keeps its own values plus the generator's correction.
        """
        lost = [-extent for extent in reversed(self.margin[3 - self.dims :]) for _ in range(2)]
        return self.generate(input) + pad(input - self.inside(input), lost)

    @property
    def task(self) -> CTDenoising:
        codec = Window(low=self.config.window[0], high=self.config.window[1], to=self.network_range, unit="HU")
        selection = "rmse+texture" if self.adversarial else "rmse"
        return CTDenoising(self.config.scan, codec, selection, self.dims)
