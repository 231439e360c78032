"""Undersampled MR to what a complete scan would have shown."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from math import isfinite, log
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from ganatomy.case import Volume
from ganatomy.errors import UserError
from ganatomy.game import Batch, Method, MethodConfig, Stream
from ganatomy.images.codecs import Codec, IntensityCodec, PercentileWindow, Window
from ganatomy.images.framing import Framing
from ganatomy.images.image import ComputedArray, Image
from ganatomy.metrics.fidelity import psnr, ssim
from ganatomy.metrics.reconstruction import BANDS, band_errors, nmse, nrmse, snr
from ganatomy.metrics.sharpness import gradient_ratio
from ganatomy.physics.coils import (
    Encoding,
    adaptive_sensitivities,
    centre_width,
    combine,
    estimated_sensitivities,
    root_sum_of_squares,
    simulated_sensitivities,
)
from ganatomy.physics.consistency import consistent_with
from ganatomy.physics.fourier import as_channels, as_complex, ifft, magnitude, smooth_phase
from ganatomy.physics.sampling import Undersampling
from ganatomy.tasks.restoration.task import Restoration

RANGE = (0.0, 1.0)
"""Of the magnitudes of a prepared case, but for what lies above the percentile that becomes 1."""
PSNR, SSIM = "psnr[0,1]", "ssim[0,1]"
NMSE, NMSE_SQUARED, NRMSE, SNR = "nmse[norm ratio]", "nmse[squared ratio]", "nrmse[euclidean]", "snr"
EDGES, BEST = "gradient ratio[0,1]", "error+sharpness"
BLUNT = 0.01
"""Edges count as at least this strong, relative to the true ones."""

TISSUE = 0.05
"""Magnitude above which a pixel shows tissue (our choice)."""
CONTENT = 0.1
"""Share of a slice that must show tissue for the slice to be worth learning from, as in the code of DAGAN."""
COMPLETE = 0.75
"""Share of k-space beyond which raw data count as complete; scanners leave out corners and partial echoes."""

CoilImages = Callable[[int, int], tuple[Tensor, Tensor]]
"""Slices start to stop as every coil sees them, and the sensitivities of the coils; complex (slices, C, H, W)."""


class ReconstructionConfig(MethodConfig):
    """Which scans are reconstructed, and how they are simulated."""

    scan: Undersampling = Undersampling()  # which samples of k-space are measured, and with how much noise
    size: tuple[int, int] = (256, 256)  # rows and columns of image and k-space
    fit: Literal["contain", "cover"] = "contain"  # of images of another size: lie inside whole, or fill it
    phase: float = 0.0  # SD in rad of a smooth phase put on images; with 0 k-space is symmetric, easier than a real one
    coils: PositiveInt = 1  # receiver coils; simulated for images; raw data have as many, or are combined for 1
    sensitivities: Literal["estimated", "known"] = "estimated"  # of several coils: from the measured centre of k-space
    percentile: float = 100.0  # of a case's values, which becomes 1; 100 is the maximum
    phantom: str = "brain-mr"  # learned from where no data are given
    part: str = "t1"  # of the phantom: the image that is scanned
    structure: str = "white"  # of the phantom: what a segmenter should find in reconstructions, too


@dataclass(frozen=True)
class Scan:
    """What a method is shown of undersampled scans.

    Attributes:
        image: zero-filled, which is A* y, complex (N, 1, H, W).
        encoding: A, the scanner: its mask is bool (N, 1, H, W), sensitivities are complex (N, C, H, W) or None.
    """

    image: Tensor
    encoding: Encoding

    @classmethod
    def of(cls, input: Tensor) -> Scan:
        """The inverse of `packed`."""
        maps = as_complex(input[:, 3:]) if input.shape[1] > 3 else None
        return cls(as_complex(input[:, :2]), Encoding(input[:, 2:3] > 0.5, maps))

    @classmethod
    def measured(cls, kspace: Tensor, mask: Tensor, sensitivities: Tensor | None = None) -> Scan:
        """The scan of a k-space.

        Args:
            kspace: complex (N, C, H, W), zero where it is not measured.
            mask: bool (N, 1, H, W).
            sensitivities: of several coils; estimated from the measured centre where they are not given.
        """
        if kspace.shape[1] > 1 and sensitivities is None:
            parts = [
                estimated_sensitivities(one[None], centre_width(place[0]))
                for one, place in zip(kspace, mask, strict=True)
            ]
            sensitivities = torch.cat(parts)
        encoding = Encoding(mask, sensitivities)
        return cls(encoding.adjoint(kspace), encoding)

    @property
    def mask(self) -> Tensor:
        """Of the measured samples, bool (N, 1, H, W)."""
        return self.encoding.mask

    @property
    def packed(self) -> Tensor:
        """Real part, imaginary part, mask, and the parts of C sensitivities if there are any, (N, 3 [+ 2C], H, W)."""
        maps = self.encoding.sensitivities
        parts = [as_channels(self.image), self.mask.to(self.image.real.dtype)]
        return torch.cat([*parts, *([] if maps is None else [as_channels(maps)])], dim=1)

    def keep(self, image: Tensor) -> Tensor:
        """The image closest to a given one that agrees with what was measured; both complex (N, 1, H, W)."""
        return consistent_with(image, self.image, self.encoding)


class MRReconstruction(Restoration):
    """The magnitude of a complete scan is the target; the input is the same scan undersampled.

    Complete scans are magnitude images, whose k-space is simulated slice by slice after they are framed, or raw data.
    Both are divided by a percentile of the case. What a method is shown has three channels, so that it can keep to what
    was measured: real and imaginary part of the zero-filled image and the mask (1 where k-space is measured); and two
    more for the sensitivity of each of several coils.

    Args:
        config: of the method.
        phased: whether the method works with real and imaginary part, and not with the magnitude alone.
        selection: the score that decides which weights are best.
    """

    name = "mr-reconstruction"
    ability = "restore"
    given = "target"
    roles = ("input", "target", "phase")
    optional = ("mask",)
    phantom_subjects = 18  # with fewer, small networks learn the patients by heart

    directions: ClassVar[Mapping[str, str]] = {
        PSNR: "higher",
        SSIM: "higher",
        NMSE: "lower",
        NMSE_SQUARED: "lower",
        NRMSE: "lower",
        SNR: "higher",
        **{f"{band} error": "lower" for band in BANDS},
        EDGES: "target",
        BEST: "lower",
    }

    def __init__(self, config: ReconstructionConfig, phased: bool, selection: str = NMSE):
        self.scan, self.size, self.phased, self._selection = config.scan, config.size, phased, selection
        self.phase, self.coils, self._known = config.phase, config.coils, config.sensitivities == "known"
        self._fit, self._percentile = config.fit, config.percentile
        self.phantom, self._part, self._structure = config.phantom, config.part, config.structure

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or max(self.size)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {"target": self._part, "mask": f"mask:{self._structure}"}

    @property
    def codecs(self) -> Mapping[str, Codec]:
        relative = Window(low=0, high=1, to=RANGE, unit=None)
        return {"input": relative, "target": relative}

    @property
    def channels(self) -> Mapping[str, int]:
        return {"input": 3 if self.coils == 1 else 3 + 2 * self.coils}

    @property
    def fingerprint(self) -> str:
        coils = f"{self.coils} {self._known}" if self.coils > 1 else ""
        return f"{self.scan.model_dump_json()} {self.size} {self._fit} {self.phase} {self._percentile} {coils}"

    @property
    def selection(self) -> str:
        return self._selection

    @property
    def framing(self) -> Framing:
        return Framing(self.size, self._fit)

    def trainable(self, label: str | None, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_] | None:
        return np.asarray((arrays["target"] > TISSUE).mean(axis=(0, 2, 3)) >= CONTENT)

    def received(self, image: Image) -> Image:
        """Raw data as what a method is shown of them, before intensities are divided; other images as they are."""
        if image.header.kind != "kspace" or _received(image):
            return image
        self._check_size(image)
        coils = image.channels // 2

        def slab(start: int, stop: int) -> NDArray[np.float32]:
            kspace = _planes(image, start, stop)
            mask = (kspace != 0).any(1, keepdim=True)
            return Scan.measured(kspace, mask).packed.transpose(0, 1).numpy()

        channels = 3 if coils == 1 else 3 + 2 * coils
        return image.with_array(ComputedArray((channels, *image.shape), np.float32, slab))

    def visible(self, image: Image) -> Image:
        return image if image.channels == 1 else _magnitude(image)

    def check(self, image: Image) -> None:
        """Refuse an image that is no undersampled scan: raw data as received, a magnitude, or real and imaginary part
        as two channels.
        """
        raw = image.header.kind == "kspace"
        self._check_magnitude(image if image.channels == 1 else _magnitude(image), image.channels)
        if image.channels == 2:
            self._check_size(image)
        if self.phased and image.channels == 1:
            raise UserError(
                f"{image.header.label}: a magnitude, from which the measured k-space cannot be told; this system needs "
                "raw data, or the real and the imaginary part of the zero-filled image as two channels"
            )
        if self.phased and not raw and self.scan.redrawn:
            raise UserError(
                f"{image.header.label}: which samples were measured is not known, since this run draws a mask for "
                "every image; give raw data, or train with --no-redrawn for one mask"
            )

    def _check_size(self, image: Image) -> None:
        if image.shape[1:] != self.size:
            rows, columns = image.shape[1:]
            raise UserError(
                f"{image.header.label}: {rows} rows and {columns} columns, but this run's scan measures "
                f"{self.size[0]}x{self.size[1]}; complex images are not resized, train with --size {rows} {columns}"
            )

    def _check_magnitude(self, image: Image, channels: int) -> None:
        raw = image.header.kind == "kspace"
        if image.header.modality not in (None, "MR"):
            raise UserError(f"{image.header.label}: modality {image.header.modality}, but this system reconstructs MR")
        if not raw and channels > 2:
            raise UserError(f"{image.header.label}: {channels} channels (colour?); give magnitude images")
        self.codecs["target"].check(image)

    def bound(self, image: Image) -> tuple[Window, Window]:
        """The image's own percentile becomes 1, so that results go back to its unit."""
        bright = PercentileWindow(p_low=0, p_high=self._percentile).bind(self.visible(image)).high
        if bright <= 0:
            raise UserError(f"{image.header.label} has no value above 0: it is no magnitude image")
        relative = Window(low=0, high=bright, to=RANGE, unit=image.unit)
        return relative, relative

    def presented(self, values: NDArray[np.float32], codec: IntensityCodec) -> NDArray[np.float32]:
        """What a method is shown of raw data as received, of a complex or of a magnitude image."""
        if len(values) > 2:
            return np.concatenate([np.asarray(codec.encode(values[:2]), np.float32), values[2:]])
        seen = super().presented(values, codec)
        mask = self.scan.mask(self.size).numpy().astype(np.float32)
        missing = np.zeros((2 - len(seen), *seen.shape[1:]), np.float32)
        return np.concatenate([seen, missing, np.broadcast_to(mask, (1, *seen.shape[1:]))])

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        image = given["target"]
        if others := sorted(set(given) - {"target", "mask"}):
            raise UserError(
                f"{image.header.label}: give complete scans as target, perhaps with a mask; {', '.join(others)} "
                "is simulated"
            )
        shape, coil_images = self._measured(image) if image.header.kind == "kspace" else self._simulated(image, seed)

        @lru_cache(maxsize=1)
        def scanned(start: int, stop: int) -> Mapping[str, Tensor]:
            seen, known = coil_images(start, stop)
            kspace, mask = self.scan.acquire(seen, seed, start)
            scan = Scan.measured(kspace, mask, known if self._known and self.coils > 1 else None)
            maps = scan.encoding.sensitivities
            true = seen if maps is None else combine(seen, maps)
            return {
                "input": scan.packed,
                "target": true.abs() if maps is None else root_sum_of_squares(seen),
                "phase": true.angle(),
            }

        def slab(role: str, start: int, stop: int) -> NDArray[np.float32]:
            return scanned(start, stop)[role].transpose(0, 1).numpy()

        made = {
            role: shape.with_array(
                ComputedArray((self.channels.get(role, 1), *shape.shape), np.float32, partial(slab, role)), unit=None
            )
            for role in self.roles
        }
        return made | ({"mask": self._mask(given["mask"], image)} if "mask" in given else {})

    def _mask(self, mask: Image, image: Image) -> Image:
        """A mask as the scan is framed."""
        check_mask(mask, image)

        def inside(start: int, stop: int) -> NDArray[np.float32]:
            return (mask.slab(start, stop) > 0.5).astype(np.float32)

        return self.framing(mask.with_array(ComputedArray((1, *mask.shape), np.float32, inside)))

    def _simulated(self, image: Image, seed: int) -> tuple[Image, CoilImages]:
        """Coil images of a magnitude image, whose phase and coils are made up."""
        self._check_magnitude(image, image.channels)
        if image.channels != 1:
            raise UserError(f"{image.header.label}: {image.channels} channels; give magnitude images, or raw data")
        codec, framed = self.bound(image)[1], self.framing(image)
        maps = simulated_sensitivities(self.coils, self.size, seed) if self.coils > 1 else torch.ones(1, 1, 1, 1)

        def coil_images(start: int, stop: int) -> tuple[Tensor, Tensor]:
            true = torch.from_numpy(codec.encode(framed.slab(start, stop).astype(np.float32))).transpose(0, 1)
            seen = torch.polar(true, self._phases(seed, start, stop)) if self.phase else true
            return seen * maps, maps.expand(stop - start, -1, -1, -1)

        return framed, coil_images

    def _measured(self, image: Image) -> tuple[Image, CoilImages]:
        """Coil images of complete raw data."""
        self._check_size(image)
        coils = image.channels // 2
        if self.coils not in (1, coils):
            raise UserError(f"{image.header.label}: {coils} coils; train with --coils {coils}, or 1 to combine them")

        def complete_(start: int, stop: int) -> Tensor:
            kspace = _planes(image, start, stop)
            lines = (kspace != 0).any(1)
            if float(lines.float().mean()) < COMPLETE:
                raise UserError(
                    f"{image.header.label}: {float(lines.float().mean()):.0%} of k-space is measured; only complete "
                    "scans can be learned from or judged by, apply a trained run to this one"
                )
            return ifft(kspace)

        def magnitudes(start: int, stop: int) -> NDArray[np.float32]:
            return root_sum_of_squares(complete_(start, stop)).transpose(0, 1).numpy()

        bright = self.bound(image.with_array(ComputedArray((1, *image.shape), np.float32, magnitudes)))[1].high

        def coil_images(start: int, stop: int) -> tuple[Tensor, Tensor]:
            seen = complete_(start, stop) / bright
            maps = adaptive_sensitivities(seen) if coils > 1 else torch.ones_like(seen)
            return (combine(seen, maps), maps) if self.coils < coils else (seen, maps)

        return image, coil_images

    def _phases(self, seed: int, start: int, stop: int) -> Tensor:
        """Phase in rad of slices, (slices, 1, rows, columns)."""
        planes = [smooth_phase(self.size, seed + (number << 32), self.phase) for number in range(start, stop)]
        return torch.stack(planes)[:, None].angle()

    def scores(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Distances from the complete scan, whose percentile is 1; PSNR, SSIM and edges of values clipped to [0, 1]."""
        true = sample["target"]
        ours, theirs = np.clip(output, *RANGE), np.clip(true, *RANGE)
        errors, edges = band_errors(output, true), gradient_ratio(ours, theirs, spacing[1:])
        error = nmse(output, true, "norm ratio")
        scores = {
            PSNR: psnr(ours, theirs, window=RANGE),
            SSIM: ssim(ours, theirs, window=RANGE),
            NMSE: error,
            NMSE_SQUARED: nmse(output, true, "squared ratio"),
            NRMSE: nrmse(output, true),
            SNR: snr(output, true),
            **{f"{band} error": error for band, error in zip(BANDS, errors, strict=True)},
            EDGES: edges,
        }
        if isfinite(edges):
            scores[BEST] = error + abs(log(max(edges, BLUNT)))
        return scores


class Reconstructor(Method):
    """A method that reconstructs MR; its config is a `ReconstructionConfig` with an ``adversarial_weight``.

    Raises:
        UserError: the networks take no images of this size; k-space is never padded.
    """

    phased: ClassVar[bool] = True
    """Whether it works with real and imaginary part, and not with the magnitude alone."""

    def __init__(self, config: ReconstructionConfig):
        super().__init__(config)
        if any(extent % self.tiling.multiple for extent in config.size):
            rows, columns = config.size
            raise UserError(f"option size: {rows}x{columns}, but this system takes multiples of {self.tiling.multiple}")

    @abstractmethod
    def restore(self, input: Tensor) -> Tensor:
        """Scans (N, 3 [+ 2C], H, W), as `Scan.packed`, to magnitudes (N, 1, H, W); about [0, 1] both."""

    @property
    def adversarial(self) -> bool:
        """Whether anybody plays against the generator."""
        return bool(self.config.adversarial_weight)

    def build_task(self) -> MRReconstruction:
        return MRReconstruction(self.config, self.phased, BEST if self.adversarial else NMSE)

    def stream(self, batch_size: int) -> Stream:
        """Batches of whole slices, not flipped: the mask would no longer fit."""
        return Stream("samples", None, batch_size, (1, *self.config.size))

    def rescanned(self, image: Tensor, encoding: Encoding) -> Tensor:
        """What the method is shown of other images scanned alike, such as augmented ones.

        Args:
            image: real or complex (N, 1, H, W).
            encoding: the scanner.
        """
        kspace = encoding.forward(image)
        if self.config.scan.noise:
            drawn = as_complex(self.noise.normal(len(image), 2 * kspace.shape[1], *image.shape[2:]))
            kspace = kspace + encoding.mask * (self.config.scan.noise / 2) ** 0.5 * drawn
        return Scan(encoding.adjoint(kspace), encoding).packed


def complete(batch: Batch) -> Tensor:
    """The image of the complete scan, complex (N, 1, H, W)."""
    return torch.polar(batch["target"], batch["phase"])


def _received(image: Image) -> bool:
    """Whether raw data are a scan already: coils have two channels each, a scan has three more."""
    return image.channels % 2 == 1


def _planes(image: Image, start: int, stop: int) -> Tensor:
    """Slices of raw data, complex (slices, coils, rows, columns)."""
    return as_complex(torch.from_numpy(image.slab(start, stop).astype(np.float32)).transpose(0, 1))


def _magnitude(image: Image) -> Image:
    """The magnitude of a complex image, whose parts are the first two channels."""

    def slab(start: int, stop: int) -> NDArray[np.float32]:
        parts = torch.from_numpy(image.slab(start, stop)[:2].astype(np.float32))
        return magnitude(parts[None])[0].numpy()

    return image.with_array(ComputedArray((1, *image.shape), np.float32, slab))
