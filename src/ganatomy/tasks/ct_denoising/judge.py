"""The judge of low-dose CT denoising: fidelity, noise texture, and ground truth of phantoms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ganatomy.case import Case, Sample, Volume
from ganatomy.data.cases import PhantomSource
from ganatomy.evaluation.illustrations import DIFFERENCES, caption, strip
from ganatomy.evaluation.judging import (
    INPUT,
    OUTPUT,
    TARGET,
    Classical,
    Judgement,
    Score,
    Scores,
    blocks,
    middle_slice,
    side_by_side,
)
from ganatomy.evaluation.remarks import BLOCKS, UNSEEN, distance, phantoms, sentences
from ganatomy.metrics.agatston import agatston, risk_class, weighted_kappa
from ganatomy.metrics.regions import Box, Region, compare_regions, cut, homogeneous_regions, region_statistics
from ganatomy.metrics.sharpness import Point, gradient_ratio
from ganatomy.metrics.texture import noise_power_spectrum, noise_sd
from ganatomy.reports.figures import nps_plot, profile_plot, region_plot
from ganatomy.reports.report import Column, Outcome, Report
from ganatomy.reports.style import minus, title
from ganatomy.tasks.ct_denoising.task import ABDOMEN
from ganatomy.tasks.restoration.classical import denoisers
from ganatomy.tasks.restoration.judge import RestorationJudge

PSNR, SSIM, RMSE, TEXTURE = "psnr[-160,240]", "ssim[-160,240]", "rmse", "noise sd error"
NPS, EDGES = "nps distance", "gradient ratio[-160,240]"

FIDELITY, NOISE, CONTENT, CALCIUM = "Fidelity", "Noise", "Sharpness and CT numbers", "Calcium"

PROFILE_MM = 120.0
"""Length of the plotted profile in mm."""

LEAST_NOISE = 1.0
"""Lower limit of the measured noise in HU."""


def measured_noise(image: Volume, spacing_mm: tuple[float, float]) -> float:
    """Measure the standard deviation of the noise in flat soft tissue in HU, at least `LEAST_NOISE`.

    Args:
        image: slices in HU, (slices, rows, columns).
        spacing_mm: mm between rows and between columns.
    """
    boxes = homogeneous_regions(image, spacing_mm, count=2 * len(image))
    return max(noise_sd(cut(image, boxes)) if boxes else 0.0, LEAST_NOISE)


class DenoisingJudge(RestorationJudge):
    """Judges low-dose CT against routine-dose CT of the same patients."""

    scores = (
        Score(PSNR, "higher", "dB", "Both images clipped to -160 to 240 HU, data range 400 HU.", FIDELITY),
        Score(SSIM, "higher", "", "As above; 11x11 Gaussian window, mean over 2D slices.", FIDELITY),
        Score(RMSE, "lower", "HU", "Root-mean-square error over all pixels, nothing clipped.", FIDELITY),
        Score("rmse[-160,240]", "lower", "HU", "Both images clipped to -160 to 240 HU.", FIDELITY),
        Score("noise sd", None, "HU", "In flat soft tissue, without its trend; the target's is the aim.", NOISE),
        Score(TEXTURE, "lower", "HU", "Distance of that SD from the target's.", NOISE),
        Score(NPS, "lower", "dB", "Root-mean-square distance of the noise power spectrum from the target's.", NOISE),
        Score(EDGES, None, "", "Edge strength against the target: 1 is as sharp, less is blurred.", CONTENT, 3),
        Score("sharpness error", "lower", "", "Distance of the gradient ratio from 1.", CONTENT, 3),
        Score("mean shift", "lower", "HU", "Distance of means in flat soft tissue from the target's.", CONTENT),
        Score("correlation", None, "", "Of output and input pixels; negative would be inverted contrast.", CONTENT, 3),
    )  # fmt: skip
    truths = (
        Score("agatston", None, "", "Calcium in the coronary arteries.", CALCIUM),
        Score("agatston error", "lower", "", "Distance from the score of the noise-free phantom.", CALCIUM),
        Score("risk class error", "lower", "classes", "Distance from the true class (limits 10, 100, 1000).", CALCIUM),
        Score("region mean error", "lower", "HU", "Means in uniform regions against the routine-dose scan."),
        Score("region sd error", "lower", "HU", "SDs in uniform regions against the routine-dose scan."),
    )  # fmt: skip
    leading = (PSNR, SSIM, RMSE, TEXTURE)
    plotted = (PSNR, TEXTURE)

    def score(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Compute the task's scores, and scores of over-smoothing, shifted CT numbers and inverted contrast."""
        target, low = sample["target"], sample["input"]
        scores: dict[str, float] = self.task.scores({self.task.output: output}, sample, spacing)
        # Edges against air are a hundred times steeper than those within soft tissue and would dominate them.
        scores[EDGES] = gradient_ratio(np.clip(output, *ABDOMEN), np.clip(target, *ABDOMEN), spacing[1:])
        scores["sharpness error"] = abs(scores[EDGES] - 1)
        scores["correlation"] = _correlation(output, low)
        if boxes := homogeneous_regions(target, spacing[1:], count=2 * len(target)):
            wanted, got = cut(target, boxes), cut(output, boxes)
            scores[TEXTURE] = abs(noise_sd(got) - noise_sd(wanted))
            scores["mean shift"] = float(np.mean(np.abs(got.mean(axis=(1, 2)) - wanted.mean(axis=(1, 2)))))
        return scores

    def truth(self, case: Case) -> Any:
        """Return the ground truth of a phantom; None for other cases."""
        source = case.sources.get("clean")
        return source.truth() if isinstance(source, PhantomSource) else None

    def score_truth(self, output: Volume, case: Sample, truth: Any) -> dict[str, float]:
        """Score calcium and uniform regions against the phantom and its routine-dose scan."""
        found = agatston(output, case.spacing, truth.masks["coronaries"]).score
        regions = compare_regions(output, case.slices(0, case.shape[0])["target"], truth.regions)
        return {
            "agatston": found,
            "agatston error": abs(found - truth.agatston),
            "risk class error": abs(risk_class(found) - risk_class(truth.agatston)),
            "region mean error": float(np.mean([abs(region.bias) for region in regions])) if regions else math.nan,
            "region sd error": float(np.mean([abs(r.output.sd - r.reference.sd) for r in regions]))
            if regions
            else math.nan,
        }

    def classical(self) -> Sequence[Classical]:
        """Return classical denoisers, which measure the noise in the input's own flat soft tissue."""

        def noisy(case: Sample, start: int, stop: int) -> tuple[Volume, list[float]]:
            image = case.slices(start, stop)[INPUT]
            return image, [measured_noise(image, case.spacing[1:])] * len(image)

        return denoisers(noisy, "the noise in the input's own flat soft tissue")

    def called(self, name: str) -> str:
        return "the low-dose input" if name == INPUT else super().called(name)

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether the output is nearer to routine dose than the strongest reference, and which noise is."""
        words, found = distance(self, judgement, PSNR, "the routine-dose scan")
        assert found is not None
        return sentences(words, self._texture(judgement, judgement.reference)), found.outcome

    def _texture(self, judgement: Judgement, baseline: str) -> str:
        """Return a sentence on whether the output or a baseline has noise nearer to that of routine dose."""
        scores = judgement.scores
        ours, theirs, wanted = (scores.interval(name, "noise sd") for name in (OUTPUT, baseline, TARGET))
        found = scores.compare(OUTPUT, baseline, self.named(TEXTURE))
        if found is None or not ours or not theirs or not wanted:
            return ""
        relation = {
            "better": f"Its noise is nearer to that of routine dose than the noise left by {baseline}",
            "worse": f"Its noise is farther from that of routine dose than the noise left by {baseline}",
            "undecided": f"Whether its noise or that of {baseline} is nearer to routine dose is open",
        }[found.outcome]
        return (
            f"{relation}: SD {ours.mean:.1f} against {theirs.mean:.1f} HU, where routine dose has {wanted.mean:.1f} HU."
        )

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add strips of the median, worst and best case, and profile, noise spectra and regions of the median case."""
        examples = self.examples(judgement)
        for label, case in examples.items():
            report.figure(
                strip(judgement.entries, case, judgement, PSNR, ABDOMEN, "HU", fitted=False),
                f"{caption(label, case, judgement, 'PSNR')} {DIFFERENCES} a good output leaves noise "
                "there, no anatomy. The still picture magnifies the frames.",
            )
        median = next(iter(examples.values()))
        views = side_by_side(judgement.entries, median, *_middle_block(median))
        spacing = median.spacing[1:]
        plane = len(views[TARGET]) // 2
        boxes = homogeneous_regions(views[TARGET], spacing, count=2 * len(views[TARGET]))
        report.section("A closer look")
        report.figure(
            profile_plot(
                {name: np.clip(image[plane], *ABDOMEN) for name, image in views.items()},
                *_segment(views[TARGET][plane], spacing),
                window=ABDOMEN,
                spacing_mm=spacing,
            ),
            f"CT numbers within the window along the line, {median.case.name}. A good output follows the routine-dose "
            "scan: edges as steep, plateaus at the same height, neither the input's jitter nor a ruler-straight line.",
        )
        if boxes:
            report.figure(
                nps_plot({name: noise_power_spectrum(cut(image, boxes), spacing) for name, image in views.items()}),
                "Noise power spectra in flat soft tissue. The area under a curve is the amount of noise, its place how "
                "coarse the noise is. A curve far below the target's means over-smoothed tissue; one moved to the left "
                "means a blotchy, plastic look.",
            )
        regions, where = self._regions(median, boxes)
        if regions:
            report.figure(
                region_plot({name: region_statistics(image, regions) for name, image in views.items()}),
                f"Mean and standard deviation in {where}, {median.case.name}. Means should not move: a few HU can turn "
                "a cyst into a lesion. Standard deviations should reach the black line, not zero.",
            )
        if any(judgement.scores.interval(OUTPUT, score.name) for score in self.truths):
            self._truth_table(report, judgement)

    def _regions(self, case: Sample, boxes: Sequence[Box]) -> tuple[Mapping[str, Region], str]:
        """Return the regions to compare in the middle block of a case, and their description."""
        truth = self.truth(case.case)
        if truth is not None:
            start, stop = _middle_block(case)
            masks = {name: np.asarray(mask)[start:stop] for name, mask in truth.regions.items()}
            return {name: mask for name, mask in masks.items() if mask.sum() > 1}, "the phantom's uniform regions"
        return {f"region {i}": box for i, box in enumerate(boxes[:4], start=1)}, "the flattest soft tissue"

    def _truth_table(self, report: Report, judgement: Judgement) -> None:
        """Add a table of the scores against noise-free phantoms."""
        known = {case.case.name: self.truth(case.case) for case in judgement.cases}
        truth = [phantom.agatston for phantom in known.values() if phantom is not None]
        calcium = any(truth) or any(
            any(judgement.scores.values(name, "agatston")[0]) for name in judgement.scores.methods
        )
        shown = [score for score in self.truths if calcium or score.group != CALCIUM]
        report.section("Against the phantom's truth")
        columns = [Column("method"), *[replace(score.column, better=None) for score in shown]]
        rows = [
            [title(name), *[judgement.scores.interval(name, score.name) for score in shown]]
            for name in judgement.scores.methods
        ]
        report.table(rows, columns)
        if not calcium:
            return
        kappas = risk_agreement(
            judgement.scores, {name: phantom.agatston for name, phantom in known.items() if phantom is not None}
        )
        if kappas:
            agreement = ", ".join(f"{method} {kappa:.2f}" for method, kappa in kappas.items())
            report.text(f"Agreement with the true risk classes, linearly weighted kappa: {agreement}.")
        report.text(
            f"The noise-free phantoms have Agatston scores of {', '.join(f'{score:.0f}' for score in truth)}. Noise "
            "counts as calcium where it rises above 130 HU, smoothing loses small lesions; the target's row shows how "
            "exact a routine-dose scan is."
        )

    def measured(self) -> dict[str, str]:
        """Describe windows, regions and blocks."""
        low, high = ABDOMEN
        return {
            "Window and data range": minus(f"{low:g} to {high:g} HU where a score says so; PSNR and SSIM use its width")
            + ", 400 HU, as data range",
            "Mask": "none: every pixel of every slice counts, air included",
            "Flat tissue": "boxes of 20 mm with the least gradient in the routine-dose scan, two per slice",
            "Unit of scoring": BLOCKS,
        }

    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on simulated dose, on phantoms, and on inverted contrast or shifted CT numbers."""
        points = phantoms(judgement.cases, " and both of their scans are simulated")
        if not points and any(INPUT not in case.case.sources for case in judgement.cases):
            points.append(
                "The low dose is simulated from routine-dose images: real scanners add effects that are not modelled."
            )
        correlation = judgement.scores.interval(OUTPUT, "correlation")
        shift = judgement.scores.interval(OUTPUT, "mean shift")
        if correlation and correlation.mean < 0:
            points.insert(0, "The output's contrast is inverted: it correlates negatively with the input.")
        if shift and shift.mean > 5:
            points.append(f"CT numbers of soft tissue move by {shift.mean:.1f} HU on average; do not read them off.")
        return [*points, UNSEEN]


def risk_agreement(scores: Scores, truth: Mapping[str, float]) -> dict[str, float]:
    """Compute the weighted kappa of each method's risk classes with the true ones; empty if all cases have one class.

    Args:
        scores: scores with the Agatston score of every case.
        truth: case to the Agatston score of the noise-free phantom.
    """
    if len({risk_class(score) for score in truth.values()}) < 2:
        return {}
    wanted = [risk_class(score) for score in truth.values()]
    found = {method: scores.by_case(method, "agatston") for method in scores.methods}
    return {
        method: weighted_kappa([risk_class(own[case]) for case in truth], wanted)
        for method, own in found.items()
        if truth.keys() <= own.keys()
    }


def _middle_block(case: Sample) -> tuple[int, int]:
    """Return the block of slices around the middle of a case."""
    return next(block for block in blocks(case.shape[0]) if block[0] <= middle_slice(case) < block[1])


def _segment(image: npt.NDArray[Any], spacing_mm: tuple[float, float]) -> tuple[Point, Point]:
    """Return the ends of a line of 120 mm along a row, through the flattest soft tissue or else through the centre."""
    rows, columns = image.shape
    box = next(iter(homogeneous_regions(image, spacing_mm, count=1)), Box(0, 0, rows, columns))
    half = PROFILE_MM / 2 / spacing_mm[1]
    row, middle = box.row + box.rows // 2, box.column + box.columns / 2
    return (row, max(middle - half, 0.0)), (row, min(middle + half, columns - 1.0))


def _correlation(output: Volume, low: Volume) -> float:
    """Compute Pearson's correlation of images clipped to the window; NaN where one of them is constant."""
    first, second = (np.clip(image, *ABDOMEN).ravel().astype(np.float64) for image in (output, low))
    if not first.std() or not second.std():
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])
