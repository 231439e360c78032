"""The judge of MR reconstruction: fidelity to the complete scan, errors by frequency, and data consistency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pywt
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Sample, Volume, slab
from ganatomy.evaluation.illustrations import DIFFERENCES, caption, most_to_see, strip
from ganatomy.evaluation.judging import (
    INPUT,
    OUTPUT,
    TARGET,
    Classical,
    Entry,
    Judgement,
    Score,
    side_by_side,
)
from ganatomy.evaluation.remarks import BLOCKS, distance, phantoms, sentences
from ganatomy.metrics.reconstruction import BANDS, LIMITS
from ganatomy.physics.consistency import consistency_residual
from ganatomy.reports.report import Outcome, Report
from ganatomy.reports.style import STYLE, colour_bar, new_figure, show_image
from ganatomy.tasks.mr_reconstruction.scan import RANGE, Scan
from ganatomy.tasks.mr_reconstruction.task import (
    CONTENT,
    EDGES,
    NMSE,
    NMSE_SQUARED,
    NRMSE,
    PSNR,
    SNR,
    SSIM,
)
from ganatomy.tasks.restoration.judge import role
from ganatomy.tasks.restoration.semantics import SEMANTICS, SemanticJudge

SHARPNESS_ERROR, RESIDUAL = "sharpness error", "data-consistency residual"
LOW, MID, HIGH = (f"{band} error" for band in BANDS)
FIDELITY, FREQUENCIES, EVIDENCE = "Fidelity", "Frequencies and sharpness", "Agreement with the measurement"

TV_STEPS = 100
"""Number of steps of total variation; three times as many change PSNR by less than 0.1 dB."""
TV_STEP, TV_WEIGHT = 0.35, 0.1
"""Primal and dual step size, at most 1/√8, and weight of the variation, which only scales the steps."""
WAVELET, WAVELET_STEPS, WAVELET_SHIFTS = "db4", 60, 4
"""Wavelet, number of steps, and number of shifts along each axis (our choice)."""
THRESHOLDS = (0.003, 0.01, 0.03)
"""Thresholds that are tried on validation cases, relative to the brightest pixel (our choice)."""
SHOWN_TO = "shown "
"""Prefix of the names of the input's channels among the arrays with which slices are scored."""
CONTRADICTION = 0.01
"""Data-consistency residual beyond that of the noise that deserves a warning (our choice)."""
SHOWN = 0.1
"""Residual per pixel, in image units, that is drawn brightest (our choice)."""


def total_variation(scan: Scan) -> Tensor:
    """Reconstruct the data-consistent image with the least total variation, complex (N, 1, H, W).

    Compressed sensing as by Lustig, Donoho & Pauly, Magn. Reson. Med. 58(6), 2007, doi 10.1002/mrm.21391, with
    isotropic variation that wraps around the edges, by the primal-dual algorithm of Chambolle & Pock, J. Math. Imaging
    Vis. 40, 2011, doi 10.1007/s10851-010-0251-1. The measured samples are kept exactly, so no weight has to be tuned.
    """
    image = leading = scan.image
    dual = torch.zeros(2, *image.shape, dtype=image.dtype)
    for _ in range(TV_STEPS):
        dual = dual + TV_STEP * torch.stack([leading.roll(-1, axis) - leading for axis in (2, 3)])
        dual = dual / (dual.abs().square().sum(0).sqrt() / TV_WEIGHT).clamp_min(1)
        slope = sum(part.roll(1, axis) - part for part, axis in zip(dual, (2, 3), strict=True))
        moved = scan.keep(image - TV_STEP * slope)
        image, leading = moved, 2 * moved - image
    return image


def sparse_wavelets(scan: Scan, threshold: float) -> Tensor:
    """Reconstruct the data-consistent image by iterative soft thresholding of its wavelet coefficients.

    Lustig, Donoho & Pauly as above, with the projection onto the measured samples after every step; the transform is
    shifted by turns, so that blocks leave no edges (cycle spinning: Coifman & Donoho, 1995).

    Args:
        scan: measured samples.
        threshold: size of the coefficients that become 0, relative to the largest magnitude of a pixel.

    Returns:
        Complex image (N, 1, H, W).
    """
    image = scan.image
    limits = threshold * image.abs().amax(dim=(2, 3), keepdim=True).numpy()
    for step in range(WAVELET_STEPS):
        shift = (step % WAVELET_SHIFTS, step // WAVELET_SHIFTS % WAVELET_SHIFTS)
        moved = image.roll(shift, (2, 3)).numpy()
        sparse = np.stack([shrunken(one[0], float(limit.item())) for one, limit in zip(moved, limits, strict=True)])
        image = scan.keep(torch.from_numpy(sparse[:, None]).to(image.dtype).roll([-by for by in shift], (2, 3)))
    return image


def shrunken(image: NDArray[np.complex64], limit: float) -> NDArray[np.complex64]:
    """Reduce the magnitudes of the wavelet coefficients of an image (H, W) by a limit; coarse ones are left."""
    if not limit:
        return image  # an empty slice, of which pywt would make NaN
    found = pywt.wavedec2(image, WAVELET, mode="periodization", level=pywt.dwt_max_level(min(image.shape), WAVELET))
    details = [tuple(pywt.threshold(part, limit, mode="soft") for part in level) for level in found[1:]]
    whole = pywt.waverec2([found[0], *details], WAVELET, mode="periodization")
    rows, columns = image.shape
    return np.asarray(whole[:rows, :columns], image.dtype)


@dataclass(frozen=True)
class Measurement:
    """The measured k-space of some slices, with the phase of the complete scan."""

    scan: Scan
    """Undersampled scan of the slices."""
    phase: Tensor
    """Phase of the complete scan in rad, (slices, 1, rows, columns), which magnitude images lack."""

    @classmethod
    def of(cls, sample: Mapping[str, Volume]) -> Measurement:
        """Return the measurement of slices from the arrays of `ReconstructionJudge.sample`."""
        shown = [sample[name] for name in sorted(sample) if name.startswith(SHOWN_TO)]
        input = torch.from_numpy(np.stack(shown, axis=1).astype(np.float32))
        return cls(Scan.of(input), torch.from_numpy(np.array(sample["phase"], np.float32))[:, None])

    def complex(self, magnitude: Volume) -> Tensor:
        """Combine magnitudes (slices, rows, columns) with the phase of the complete scan."""
        return torch.polar(torch.from_numpy(np.array(magnitude, np.float32))[:, None].clamp_min(0), self.phase)

    def consistency_residual(self, magnitude: Volume) -> float:
        """Compute the data-consistency residual of an image relative to the measurement, averaged over slices."""
        return float(consistency_residual(self.complex(magnitude), self.scan.image, self.scan.encoding).mean())

    def residual_map(self, magnitude: Volume) -> NDArray[np.float32]:
        """Compute the change of every pixel that makes an image data-consistent, (slices, rows, columns)."""
        image = self.complex(magnitude)
        return (self.scan.keep(image) - image).abs()[:, 0].numpy()


class ReconstructionJudge(SemanticJudge):
    """Judges images reconstructed from an undersampled scan against those of the complete one."""

    scores = (
        Score(PSNR, "higher", "dB", "Both images clipped to [0, 1], data range 1.", FIDELITY),
        Score(SSIM, "higher", "", "As above; 11x11 Gaussian window, mean over 2D slices.", FIDELITY),
        Score(NMSE, "lower", "", "‖x̂ − x‖ / ‖x‖ of every slice, averaged, as DAGAN's NMSE.", FIDELITY),
        Score(NMSE_SQUARED, "lower", "", "‖x̂ − x‖² / ‖x‖² of a block of slices, as fastMRI's NMSE.", FIDELITY),
        Score(NRMSE, "lower", "", "‖x̂ − x‖ / ‖x‖ of a block of slices.", FIDELITY),
        Score(SNR, "higher", "dB", "20 log₁₀ of ‖x‖ / ‖x̂ − x‖ of a block of slices, as GANCS's SNR.", FIDELITY),
        Score(LOW, "lower", "", f"Relative error of k-space up to {LIMITS[0]:.3f} cycles per pixel.", FREQUENCIES),
        Score(MID, "lower", "", f"From there to {LIMITS[1]:.3f} cycles per pixel.", FREQUENCIES),
        Score(HIGH, "lower", "", "Beyond; 1 is as far off as an image without these frequencies.", FREQUENCIES),
        Score(EDGES, None, "", "Edge strength against the target: 1 is as sharp, less is blurred.", FREQUENCIES, 3),
        Score(SHARPNESS_ERROR, "lower", "", "Distance of the gradient ratio from 1.", FREQUENCIES, 3),
        Score(RESIDUAL, None, "", "Share of the measured k-space that the image contradicts, given the phase of the "
              "complete scan. What agrees as a complex image may depart as a magnitude; the target's is the noise.",
              EVIDENCE, 3),
        *SEMANTICS,
    )  # fmt: skip
    leading = (PSNR, SSIM, NMSE, RESIDUAL)
    plotted = (PSNR, HIGH)

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the magnitude of the zero-filled scan, and that of the complete one."""

        def zero_filled(case: Sample, start: int, stop: int) -> Volume:
            return np.asarray(Measurement.of(self.sample(case, start, stop)).scan.image.abs()[:, 0].numpy())

        return [Entry(INPUT, zero_filled, "zeros in place of what was not measured")], [role(TARGET)]

    def classical(self) -> Sequence[Classical]:
        """Return compressed sensing with total variation and with wavelets."""

        def run(solve: Callable[[Scan], Tensor]) -> Callable[..., Volume]:
            def restored(case: Sample, start: int, stop: int) -> Volume:
                scan = Measurement.of(self.sample(case, start, stop)).scan
                return np.asarray(solve(scan).abs()[:, 0].numpy())

            return restored

        return (
            Classical(
                "total variation",
                "classical, no training; least variation among the images that have the measured samples, "
                f"{TV_STEPS} steps of a primal-dual algorithm",
                [("", run(total_variation))],
            ),
            Classical(
                "wavelets",
                "classical, no training; few wavelet coefficients and the measured samples, "
                f"{WAVELET_STEPS} steps of soft thresholding",
                [
                    (f"threshold {share:g} of the brightest", run(partial(sparse_wavelets, threshold=share)))
                    for share in THRESHOLDS
                ],
            ),
        )

    def sample(self, case: Sample, start: int, stop: int) -> dict[str, Volume]:
        """Return target and phase of some slices, and the channels of the input one by one."""
        shown = slab(case.arrays["input"], start, stop)
        kept = {name: values for name, values in case.slices(start, stop).items() if name != "input"}
        return {**kept, **{f"{SHOWN_TO}{number:03d}": values for number, values in enumerate(shown)}}

    def score(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Compute the task's scores, the sharpness error, the data-consistency residual, and the semantic scores."""
        output, sample = self.worth_judging(output, sample)
        if not len(output):
            return {}
        scores: dict[str, float] = self.task.scores({self.task.output: output}, sample, spacing)
        scores[SHARPNESS_ERROR] = abs(scores[EDGES] - 1)
        scores[RESIDUAL] = Measurement.of(sample).consistency_residual(output)
        return scores | self.interpreted(output, sample)

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether the output is nearer to the complete scan than the strongest reference, and its residual."""
        words, found = distance(self, judgement, PSNR, "the complete scan")
        assert found is not None
        residual = judgement.scores.interval(OUTPUT, RESIDUAL)
        told = f"Its data-consistency residual is {100 * residual.mean:.1f} % of what was measured." if residual else ""
        return sentences(words, told), found.outcome

    def called(self, name: str) -> str:
        return "the zero-filled image" if name == INPUT else super().called(name)

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add strips of the median, worst and best case, and maps of the residual of the median case."""
        examples = self.examples(judgement)
        for label, case in examples.items():
            report.figure(
                strip(judgement.entries, case, judgement, PSNR, RANGE),
                f"{caption(label, case, judgement, 'PSNR')} The input is the zero-filled scan. {DIFFERENCES} "
                "edges there are detail that was lost or made up. The still picture magnifies the frames.",
            )
        median = next(iter(examples.values()))
        report.section("What was measured, and what was not")
        report.figure(
            self._residuals(judgement, median),
            f"The mask, {median.case.name}: white samples of k-space were measured. Beside it, by how much each pixel "
            f"would have to change for the image to have these samples; white is {SHOWN:g} or more. Bright places are "
            "at odds with the measurement. Dark ones agree, but detail that was not measured may be wrong there, too.",
        )

    @rc_context(STYLE)
    def _residuals(self, judgement: Judgement, case: Sample) -> Figure:
        plane = most_to_see(case)
        seen = Measurement.of(self.sample(case, plane, plane + 1))
        views = side_by_side(judgement.entries, case, plane, plane + 1)
        maps = {name: seen.residual_map(image)[0] for name, image in views.items() if name not in (INPUT, TARGET)}
        figure = new_figure(3 * (1 + len(maps)), 3.3)
        first, *others = figure.subplots(1, 1 + len(maps), squeeze=False)[0]
        show_image(first, seen.scan.mask[0, 0].numpy(), (0, 1), None)
        first.set_title("K-space mask")
        for axes, (name, image) in zip(others, maps.items(), strict=True):
            show_image(axes, image, (0, SHOWN), case.spacing[1:], "magma")
            colour_bar(axes, SHOWN)
            axes.set_title(f"Residual of {name}" if name != OUTPUT else "Residual of the output")
        return figure

    def measured(self) -> dict[str, str]:
        """Describe the scan, the intensities and the blocks."""
        scan, size = self.task.scan, self.task.size
        coils = f"{self.task.coils} coils" if self.task.coils > 1 else "one coil"
        return {
            "Scan": f"simulated, {coils}: pattern {scan.pattern}, {scan.fraction:.0%} asked for, "
            f"{float(scan.mask(size).float().mean()):.1%} of k-space measured, "
            + ("a mask for every image" if scan.redrawn else "one mask for all images"),
            "Intensities": "divided by the case's own brightest ones before the scan, so 1 is the same for all cases",
            **self.told,
            "Unit of scoring": f"{BLOCKS}; slices with tissue in less than {CONTENT:.0%} of the pixels are left out",
        }

    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on simulated k-space, on phantoms, and on inconsistency with the measurement."""
        points = []
        if not all(_raw(case) for case in judgement.cases):
            phase = (
                "with an artificial phase: a scanner's own is harder."
                if self.task.phase
                else "without phase: half of it follows from the other half by symmetry, which flatters every method."
            )
            coils = f"{self.task.coils} made-up coils" if self.task.coils > 1 else "a single coil"
            points.append(f"K-space is simulated from magnitude images, for {coils}, {phase}")
        points += phantoms(judgement.cases)
        ours, noise = (judgement.scores.interval(name, RESIDUAL) for name in (OUTPUT, TARGET))
        if ours and noise and ours.mean > noise.mean + CONTRADICTION:
            points.append(
                f"The output contradicts what was measured: its data-consistency residual is {ours.mean:.1%}, that of "
                f"the complete scan {noise.mean:.1%}."
            )
        points.append(
            "What was not measured is filled with what is likely: a lesion may vanish or appear, and no score here "
            "sees it. Look at the differences, and at the cases."
        )
        return points


def _raw(case: Sample) -> bool:
    """Whether a case comes from raw data."""
    return getattr(case.case.sources.get("target"), "kind", None) == "kspace"
