"""The task of MR reconstruction: predict the image of a complete scan from undersampled k-space."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from math import isfinite, log
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AliasChoices, PositiveInt
from torch import Tensor

from ganatomy.case import Array, Better, Case, Preparation, Role, Sample, Scores, Volume, check_alignment, slab
from ganatomy.errors import Notice, UserError
from ganatomy.game import Batch, Method, MethodConfig, Stream
from ganatomy.images.augmentation import Augmentation, Changes
from ganatomy.images.codecs import Window
from ganatomy.images.frames import Frame
from ganatomy.images.image import ComputedArray, Image
from ganatomy.metrics.fidelity import psnr, ssim
from ganatomy.metrics.reconstruction import BANDS, band_errors, nmse, nrmse, snr
from ganatomy.metrics.sharpness import gradient_ratio
from ganatomy.physics.coils import (
    Encoding,
    adaptive_sensitivities,
    combine,
    root_sum_of_squares,
    simulated_sensitivities,
)
from ganatomy.physics.fourier import as_complex, smooth_phase
from ganatomy.physics.sampling import Undersampling
from ganatomy.roles.image import ImageRole
from ganatomy.roles.labels import LabelRole
from ganatomy.tasks.mr_reconstruction.grids import Grids
from ganatomy.tasks.mr_reconstruction.scan import (
    RANGE,
    RELATIVE,
    MagnitudeRole,
    Scan,
    ScanRole,
    complete_images,
    is_raw,
    planes_of,
)
from ganatomy.tasks.restoration.task import Restoration

PSNR, SSIM = "psnr[0,1]", "ssim[0,1]"
NMSE, NMSE_SQUARED, NRMSE, SNR = "nmse[norm ratio]", "nmse[squared ratio]", "nrmse[euclidean]", "snr"
EDGES, BEST = "gradient ratio[0,1]", "error+sharpness"
BLUNT = 0.01
"""Lower limit of the gradient ratio in ``error+sharpness``."""

TISSUE = 0.05
"""Magnitude above which a pixel shows tissue (our choice)."""
CONTENT = 0.1
"""Share of a slice that must show tissue for the slice to be learned from, as in the code of DAGAN."""

AUGMENTED = AliasChoices("augmented", "augment")
"""Names of the option of systems that change complete images before they are undersampled; the second is older."""

CoilImages = Callable[[int, int], tuple[Tensor, Tensor]]
"""Function that returns coil images of slices start to stop on the grid of the scan, and the sensitivities on that of
the networks; both complex (slices, C, H, W)."""


class ReconstructionConfig(MethodConfig):
    """Options of MR reconstruction: the undersampling, the size, the coils and the phantom."""

    scan: Undersampling = Undersampling()  # sampling pattern and noise of the measured k-space
    size: tuple[int, int] = (256, 256)  # rows and columns of image and k-space
    fit: Literal["contain", "cover"] = "contain"  # how images of another size get to it: fit inside it, or fill it
    phase: float = 0.0  # SD in rad of a smooth phase added to images; without it k-space is unrealistically symmetric
    coils: PositiveInt = 1  # number of receiver coils, simulated for images; raw data are combined for 1
    sensitivities: Literal["estimated", "known"] = "estimated"  # coil sensitivities: estimated from the centre, or true
    percentile: float = 100.0  # percentile of a case's values that is scaled to 1; 100 is the maximum
    phantom: str = "brain-mr"  # embedded phantom to learn from where no data are given
    part: str = "t1"  # image of the phantom that is scanned
    structure: str = "white"  # structure of the phantom that a segmenter looks for in reconstructions


class ScanPreparation(Preparation):
    """Preparation with a simulated undersampled scan."""

    scan: Undersampling  # sampling pattern and noise
    phase: float  # SD in rad of the phase added to images
    coils: int  # number of simulated receiver coils
    known: bool  # whether the true sensitivities are used and not estimated ones
    percentile: float  # percentile of a case's magnitudes by which it is divided


class MRReconstruction(Restoration):
    """Task of MR reconstruction: the target is the magnitude of a complete scan, the input the same scan undersampled.

    Complete scans are raw data, or magnitude images whose k-space is simulated slice by slice on the working grid. Raw
    data of another size are undersampled as they were measured, then padded or cropped in k-space (`Grids`). Both kinds
    are divided by a percentile of the case. The input of a method has three channels, which allow data consistency:
    real and imaginary part of the zero-filled image, and the mask (1 where k-space is measured). With several coils
    there are two more channels for the sensitivity of each coil.

    Args:
        config: configuration of the method.
        phased: whether the method needs real and imaginary part, not the magnitude alone.
        selection: score that selects the best weights.
    """

    name = "mr-reconstruction"
    predictors: ClassVar = {"restore": "ganatomy.tasks.mr_reconstruction.predictor:ReconstructionPredictor"}
    judge = "ganatomy.tasks.mr_reconstruction.judge:ReconstructionJudge"
    given = "target"
    phantom_subjects = 18  # small networks overfit to fewer

    directions: ClassVar[Mapping[str, Better]] = {
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
        self.scan, self.size, self._fit, self._selection = config.scan, config.size, config.fit, selection
        self.phase, self.coils, self._known = config.phase, config.coils, config.sensitivities == "known"
        self.phantom, self._part, self._structure = config.phantom, config.part, config.structure
        self._percentile = config.percentile
        asked: dict[str, Any] = {"extents": config.size, "coils": config.coils, "percentile": config.percentile}
        self._shown = ScanRole("input", scan=config.scan, phased=phased, **asked)
        self.roles: Mapping[str, Role] = {
            "input": self._shown,
            "target": MagnitudeRole("target", **asked),
            "phase": ImageRole("phase"),
            "mask": LabelRole("mask", any_two=True, optional=True),
        }

    @property
    def preparation(self) -> ScanPreparation:
        return ScanPreparation(
            size=self.size,
            fit=self._fit,
            scan=self.scan,
            phase=self.phase,
            coils=self.coils,
            known=self._known,
            percentile=self._percentile,
        )

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or max(self.size)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {"target": self._part, "mask": f"mask:{self._structure}"}

    @property
    def selection(self) -> str:
        return self._selection

    def trainable(self, label: str | None, arrays: Mapping[str, Array]) -> NDArray[np.bool_]:
        return np.asarray((np.asarray(arrays["target"]) > TISSUE).mean(axis=(0, 2, 3)) >= CONTENT)

    def visible(self, sample: Sample) -> Image:
        """Return the magnitude of the scan."""
        return self._shown.visible(sample.values["input"])

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        if "target" in values:
            image = values["target"]
            if others := sorted({"input", "phase"} & set(values)):
                raise UserError(
                    f"{image.header.label}: give complete scans as target, perhaps with a mask; {', '.join(others)} "
                    "is simulated"
                )
            if "mask" in values and is_raw(image):  # which do not say where they lie
                mask = replace(values["mask"], affine=image.affine)
                without = {name: value for name, value in values.items() if name != "mask"}
                return self._with_mask(super().frame(without, case), mask)
        return super().frame(values, case)

    def _with_mask(self, sample: Sample, mask: Image) -> Sample:
        """Return the sample of raw data with a mask of their own grid, which is brought to the working grid."""
        image, frame, role = sample.values["target"], sample.frames["target"], self.roles["mask"]
        role.check(mask)
        stored = {"target": image, "mask": mask}
        check_alignment(stored, {name: Frame.plan(value, "stored") for name, value in stored.items()})
        return replace(
            sample,
            arrays={**sample.arrays, "mask": role.array(mask, frame)},
            affines={**sample.affines, "mask": frame.working_affine},
            frames={**sample.frames, "mask": frame},
            values={**sample.values, "mask": mask},
        )

    def changes(self) -> Changes:
        """Return no changes, since the scans of changed images would have to be simulated anew."""
        return Changes(
            Augmentation(), "its scans are simulated before training, and would not be those of changed images"
        )

    def simulate(self, sample: Sample, seed: int) -> Sample:
        """Simulate the undersampled scan of a sample.

        Intensities are divided by the percentile of the case first, so that the noise level is relative to it.
        """
        target = sample.arrays["target"]
        coil_images = self._measured(sample) if target.shape[0] > 1 else self._simulated(sample, seed)
        _, slices, *own = target.shape
        grids = Grids((own[0], own[1]), self.size)
        if grids.crops:
            warnings.warn(grids.loss, Notice, stacklevel=2)

        @lru_cache(maxsize=1)
        def scanned(start: int, stop: int) -> Mapping[str, Tensor]:
            seen, known = coil_images(start, stop)
            # On the grid of the file, so that the acceleration and the full centre are those of its own lines.
            kspace, mask = self.scan.acquire(seen, seed, start)
            kspace, mask, seen = grids.kspace(kspace), grids.mask(mask), grids.image(seen)
            scan = Scan.measured(kspace, mask, known if self._known and self.coils > 1 else None)
            maps = scan.encoding.sensitivities
            true = seen if maps is None else combine(seen, maps)
            return {
                "input": scan.packed,
                "target": true.abs() if maps is None else root_sum_of_squares(seen),
                "phase": true.angle(),
            }

        def computed(role: str, start: int, stop: int) -> NDArray[np.float32]:
            return scanned(start, stop)[role].transpose(0, 1).numpy()

        made: dict[str, Array] = {
            name: ComputedArray((self.roles[name].channels, slices, *self.size), np.float32, partial(computed, name))
            for name in ("input", "target", "phase")
        }
        arrays = {**made, **{name: array for name, array in sample.arrays.items() if name not in made}}
        return replace(
            sample,
            arrays=arrays,
            affines=dict.fromkeys(arrays, sample.affines["target"]),
            numbers=dict.fromkeys(("input", "target"), RELATIVE.model_dump(mode="json")),
        )

    def _simulated(self, sample: Sample, seed: int) -> CoilImages:
        """Simulate coil images of a magnitude image, with artificial phase and sensitivities."""
        array, role = sample.arrays["target"], sample.role("target")
        maps = simulated_sensitivities(self.coils, self.size, seed) if self.coils > 1 else torch.ones(1, 1, 1, 1)

        def coil_images(start: int, stop: int) -> tuple[Tensor, Tensor]:
            true = torch.from_numpy(role.encoded(slab(array, start, stop))).transpose(0, 1)
            seen = torch.polar(true, self._phases(seed, start, stop)) if self.phase else true
            return seen * maps, maps.expand(stop - start, -1, -1, -1)

        return coil_images

    def _measured(self, sample: Sample) -> CoilImages:
        """Return coil images of complete raw data."""
        array, value, codec = sample.arrays["target"], sample.values["target"], sample.role("target").codec
        assert isinstance(codec, Window)
        coils, bright, grids = array.shape[0] // 2, codec.high, self._shown.grids(value)

        def coil_images(start: int, stop: int) -> tuple[Tensor, Tensor]:
            seen = complete_images(planes_of(slab(array, start, stop)), value) / bright
            if self.coils < coils:
                maps = adaptive_sensitivities(seen)
                return combine(seen, maps), maps
            return seen, adaptive_sensitivities(grids.image(seen)) if coils > 1 else torch.ones_like(seen)

        return coil_images

    def _phases(self, seed: int, start: int, stop: int) -> Tensor:
        """Simulate the phase of slices in rad, (slices, 1, rows, columns)."""
        planes = [smooth_phase(self.size, seed + (number << 32), self.phase) for number in range(start, stop)]
        return torch.stack(planes)[:, None].angle()

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Score the distance from the complete scan; PSNR, SSIM and gradient ratio clip values to [0, 1]."""
        made, true = output["target"], sample["target"]
        ours, theirs = np.clip(made, *RANGE), np.clip(true, *RANGE)
        errors, edges = band_errors(made, true), gradient_ratio(ours, theirs, spacing[1:])
        error = nmse(made, true, "norm ratio")
        scores = {
            PSNR: psnr(ours, theirs, window=RANGE),
            SSIM: ssim(ours, theirs, window=RANGE),
            NMSE: error,
            NMSE_SQUARED: nmse(made, true, "squared ratio"),
            NRMSE: nrmse(made, true),
            SNR: snr(made, true),
            **{f"{band} error": error for band, error in zip(BANDS, errors, strict=True)},
            EDGES: edges,
        }
        if isfinite(edges):
            scores[BEST] = error + abs(log(max(edges, BLUNT)))
        return scores


class Reconstructor(Method):
    """Base class of MR reconstruction methods.

    Their configuration is a `ReconstructionConfig` with an ``adversarial_weight``.

    Raises:
        UserError: the networks do not accept images of this size.
    """

    phased: ClassVar[bool] = True
    """Whether the method needs real and imaginary part, not the magnitude alone."""

    def __init__(self, config: ReconstructionConfig):
        super().__init__(config)
        if any(extent % self.tiling.multiple for extent in config.size):
            rows, columns = config.size
            raise UserError(f"option size: {rows}x{columns}, but this system takes multiples of {self.tiling.multiple}")

    @abstractmethod
    def restore(self, input: Tensor) -> Tensor:
        """Reconstruct magnitudes (N, 1, H, W) from scans (N, 3 [+ 2C], H, W), see `Scan.packed`; both about [0, 1]."""

    def complex_image(self, input: Tensor) -> Tensor:
        """Reconstruct complex images (N, 1, H, W) from scans, so that an image can be brought to another grid.

        A method that predicts magnitudes alone gives them the phase of the zero-filled image.

        Args:
            input: scans (N, 3 [+ 2C], H, W), see `Scan.packed`.
        """
        return torch.polar(self.restore(input).float(), Scan.of(input).image.angle())

    @property
    def predicts_phase(self) -> bool:
        """Whether `complex_image` has a phase of its own, and not that of the zero-filled image."""
        return type(self).complex_image is not Reconstructor.complex_image

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator."""
        return bool(self.config.adversarial_weight)

    def build_task(self) -> MRReconstruction:
        return MRReconstruction(self.config, self.phased, BEST if self.adversarial else NMSE)

    def stream(self, batch_size: int) -> Stream:
        """Return a stream of whole slices without flips, after which the mask would no longer match."""
        return Stream("samples", None, batch_size, (1, *self.config.size))

    def rescanned(self, image: Tensor, encoding: Encoding) -> Tensor:
        """Simulate the input of the method for other images with the same encoding, such as augmented ones.

        Args:
            image: images, real or complex (N, 1, H, W).
            encoding: encoding operator of the scanner.
        """
        kspace = encoding.forward(image)
        if self.config.scan.noise:
            drawn = as_complex(self.noise.normal(len(image), 2 * kspace.shape[1], *image.shape[2:]))
            kspace = kspace + encoding.mask * (self.config.scan.noise / 2) ** 0.5 * drawn
        return Scan(encoding.adjoint(kspace), encoding).packed


def complete(batch: Batch) -> Tensor:
    """Return the image of the complete scan, complex (N, 1, H, W)."""
    return torch.polar(batch["target"], batch["phase"])
