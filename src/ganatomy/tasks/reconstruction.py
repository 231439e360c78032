"""Undersampled MR to what a complete scan would have shown."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.game import Batch, Method, MethodConfig, Sampling
from ganatomy.images.codecs import Codec, PercentileWindow, Window
from ganatomy.images.image import ComputedArray, Image
from ganatomy.metrics.fidelity import psnr, ssim
from ganatomy.metrics.reconstruction import BANDS, band_errors, nmse, nrmse, snr
from ganatomy.metrics.sharpness import gradient_ratio
from ganatomy.physics.fourier import as_channels, as_complex, magnitude, smooth_phase
from ganatomy.physics.sampling import Undersampling, undersample, zero_filled
from ganatomy.tasks.base import ImageToImage, Volume
from ganatomy.tasks.framing import Framing

RANGE = (0.0, 1.0)
"""Of the magnitudes of a prepared case, but for what lies above the percentile that becomes 1."""
PSNR, SSIM = "psnr[0,1]", "ssim[0,1]"
NMSE, NMSE_SQUARED, NRMSE, SNR = "nmse[norm ratio]", "nmse[squared ratio]", "nrmse[euclidean]", "snr"
EDGES = "gradient ratio[0,1]"

TISSUE = 0.05
"""Magnitude above which a pixel shows tissue (our choice)."""
CONTENT = 0.1
"""Share of a slice that must show tissue for the slice to be worth learning from, as in the code of DAGAN."""


class ReconstructionConfig(MethodConfig):
    """Which scans are reconstructed, and how they are simulated."""

    scan: Undersampling = Undersampling()  # which samples of k-space are measured, and with how much noise
    size: tuple[int, int] = (256, 256)  # rows and columns of image and k-space
    fit: Literal["contain", "cover"] = "contain"  # of images of another size: lie inside whole, or fill it
    phase: float = 0.0  # SD in rad of a smooth phase put on images; with 0 k-space is symmetric, easier than a real one
    percentile: float = 100.0  # of a case's values, which becomes 1; 100 is the maximum
    phantom: str = "brain-mr"  # learned from where no data are given
    part: str = "t1"  # of the phantom: the image that is scanned


class MRReconstruction(ImageToImage):
    """The magnitude of a complete scan is the target; the input is the same scan undersampled.

    K-space is simulated slice by slice from magnitude images, which are framed and divided by a percentile of the case
    first. What a method is shown has three channels, so that it can keep to what was measured: real and imaginary part
    of the zero-filled image, whose k-space is the measured one, and the mask (1 where k-space is measured).

    Args:
        config: of the method.
        phased: whether the method works with real and imaginary part, and not with the magnitude alone.
    """

    name = "mr-reconstruction"
    ability = "restore"
    given = "target"

    directions: ClassVar[Mapping[str, str]] = {
        PSNR: "higher",
        SSIM: "higher",
        NMSE: "lower",
        NMSE_SQUARED: "lower",
        NRMSE: "lower",
        SNR: "higher",
        **{f"{band} error": "lower" for band in BANDS},
        EDGES: "target",
    }
    selection = NMSE

    def __init__(self, config: ReconstructionConfig, phased: bool):
        self.scan, self.size, self.phased = config.scan, config.size, phased
        self._fit, self._phase, self._percentile = config.fit, config.phase, config.percentile
        self.phantom, self._part = config.phantom, config.part
        self.roles = ("input", "target", *(["phase"] if config.phase else []))

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or max(self.size)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {"target": self._part}

    @property
    def codecs(self) -> Mapping[str, Codec]:
        relative = Window(low=0, high=1, to=RANGE, unit=None)
        return {"input": relative, "target": relative}

    @property
    def channels(self) -> Mapping[str, int]:
        return {"input": 3}

    @property
    def fingerprint(self) -> str:
        return f"{self.scan.model_dump_json()} {self.size} {self._fit} {self._phase} {self._percentile}"

    @property
    def framing(self) -> Framing:
        return Framing(self.size, self._fit)

    def trainable(self, label: str | None, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_] | None:
        return np.asarray((arrays["target"] > TISSUE).mean(axis=(0, 2, 3)) >= CONTENT)

    def check(self, image: Image) -> None:
        """Refuse an image that is no undersampled scan: a magnitude, or real and imaginary part as two channels."""
        self._check_magnitude(_magnitude(image) if image.channels == 2 else image)
        if image.channels == 2 and image.shape[1:] != self.size:
            raise UserError(
                f"{image.header.label}: {image.shape[1:]} rows and columns, but this run's scan measures {self.size}; "
                "complex images are not resized, train with their --size"
            )
        if self.phased and image.channels != 2:
            raise UserError(
                f"{image.header.label}: a magnitude, from which the measured k-space cannot be told; this system needs "
                "the real and the imaginary part of the zero-filled image as two channels"
            )
        if self.phased and self.scan.redrawn:
            raise UserError(
                f"{image.header.label}: which samples were measured is not known, since this run draws a mask for "
                "every image; train with scan.redrawn false for one mask"
            )

    def _check_magnitude(self, image: Image) -> None:
        if image.header.modality not in (None, "MR"):
            raise UserError(f"{image.header.label}: modality {image.header.modality}, but this system reconstructs MR")
        if image.channels != 1:
            raise UserError(f"{image.header.label}: {image.channels} channels (colour?); give magnitude images")
        self.codecs["target"].check(image)

    def bound(self, image: Image) -> tuple[Window, Window]:
        """The image's own percentile becomes 1, so that results go back to its unit."""
        magnitudes = _magnitude(image) if image.channels == 2 else image
        bright = PercentileWindow(p_low=0, p_high=self._percentile).bind(magnitudes).high
        if bright <= 0:
            raise UserError(f"{image.header.label} has no value above 0: it is no magnitude image")
        relative = Window(low=0, high=bright, to=RANGE, unit=image.unit)
        return relative, relative

    def presented(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Real part, imaginary part and mask of a magnitude or a complex image, (3, slices, rows, columns)."""
        mask = self.scan.mask(self.size).numpy().astype(np.float32)
        missing = np.zeros((2 - len(values), *values.shape[1:]), np.float32)
        return np.concatenate([values, missing, np.broadcast_to(mask, (1, *values.shape[1:]))])

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        image = given["target"]
        if others := sorted(set(given) - {"target"}):
            raise UserError(
                f"{image.header.label}: give complete scans as target and nothing beside them; {', '.join(others)} "
                "is simulated"
            )
        self._check_magnitude(image)
        codec, framed = self.bound(image)[1], self.framing(image)

        @lru_cache(maxsize=1)
        def scanned(start: int, stop: int) -> Mapping[str, Tensor]:
            true = torch.from_numpy(codec.encode(framed.slab(start, stop).astype(np.float32))).transpose(0, 1)
            phase = self._phases(seed, start, stop)
            kspace, masks = self.scan.acquire(torch.polar(true, phase) if self._phase else true, seed, start)
            return {"input": packed(zero_filled(kspace), masks), "target": true, "phase": phase}

        def slab(role: str, start: int, stop: int) -> NDArray[np.float32]:
            return scanned(start, stop)[role].transpose(0, 1).numpy()

        return {
            role: framed.with_array(
                ComputedArray((self.channels.get(role, 1), *framed.shape), np.float32, partial(slab, role)), unit=None
            )
            for role in self.roles
        }

    def _phases(self, seed: int, start: int, stop: int) -> Tensor:
        """Phase in rad of slices, (slices, 1, rows, columns)."""
        if not self._phase:
            return torch.zeros(stop - start, 1, *self.size)
        planes = [smooth_phase(self.size, seed + (number << 32), self._phase) for number in range(start, stop)]
        return torch.stack(planes)[:, None].angle()

    def scores(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Distances from the complete scan, whose percentile is 1; PSNR, SSIM and edges of values clipped to [0, 1]."""
        true = sample["target"]
        ours, theirs = np.clip(output, *RANGE), np.clip(true, *RANGE)
        errors = band_errors(output, true)
        return {
            PSNR: psnr(ours, theirs, window=RANGE),
            SSIM: ssim(ours, theirs, window=RANGE),
            NMSE: nmse(output, true, "norm ratio"),
            NMSE_SQUARED: nmse(output, true, "squared ratio"),
            NRMSE: nrmse(output, true),
            SNR: snr(output, true),
            **{f"{band} error": error for band, error in zip(BANDS, errors, strict=True)},
            EDGES: gradient_ratio(ours, theirs, spacing[1:]),
        }


class Reconstructor(Method):
    """A method that reconstructs MR; its config is a `ReconstructionConfig` with an ``adversarial_weight``."""

    phased: ClassVar[bool] = True
    """Whether it works with real and imaginary part, and not with the magnitude alone."""

    @abstractmethod
    def restore(self, input: Tensor) -> Tensor:
        """Undersampled scans (N, 3, H, W), as `packed`, to magnitudes (N, 1, H, W); about [0, 1] both."""

    @property
    def adversarial(self) -> bool:
        """Whether anybody plays against the generator."""
        return bool(self.config.adversarial_weight)

    @property
    def task(self) -> MRReconstruction:
        return MRReconstruction(self.config, self.phased)

    def sampling(self, batch_size: int) -> Sampling:
        """Batches of whole slices, not flipped: the mask would no longer fit."""
        return Sampling(batch_size, (1, *self.config.size))

    def rescanned(self, image: Tensor, mask: Tensor) -> Tensor:
        """What the method is shown of other images scanned alike, such as augmented ones.

        Args:
            image: real or complex (N, 1, H, W).
            mask: bool (N, 1, H, W).
        """
        kspace = undersample(image, mask)
        if self.config.scan.noise:
            drawn = as_complex(self.noise.normal(len(image), 2, *image.shape[2:]))
            kspace = kspace + mask * (self.config.scan.noise / 2) ** 0.5 * drawn
        return packed(zero_filled(kspace), mask)


def packed(image: Tensor, mask: Tensor) -> Tensor:
    """What a method is shown: real part, imaginary part and mask, (N, 3, H, W).

    Args:
        image: zero-filled, complex (N, 1, H, W).
        mask: of the measured samples, bool (N, 1, H, W).
    """
    return torch.cat([as_channels(image), mask.to(image.real.dtype)], dim=1)


def unpacked(input: Tensor) -> tuple[Tensor, Tensor]:
    """Zero-filled image, complex (N, 1, H, W), and mask, bool of the same shape: the inverse of `packed`."""
    return as_complex(input[:, :2]), input[:, 2:] > 0.5


def complete(batch: Batch) -> Tensor:
    """The image of the complete scan, complex (N, 1, H, W)."""
    true = batch["target"]
    return torch.polar(true, batch["phase"]) if "phase" in batch else torch.complex(true, torch.zeros_like(true))


def _magnitude(image: Image) -> Image:
    """A complex image of two channels as its magnitude."""

    def slab(start: int, stop: int) -> NDArray[np.float32]:
        parts = torch.from_numpy(image.slab(start, stop).astype(np.float32))
        return magnitude(parts[None])[0].numpy()

    return image.with_array(ComputedArray((1, *image.shape), np.float32, slab))
