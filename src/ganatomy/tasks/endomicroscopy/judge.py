"""The judge of endomicroscopy super-resolution: fidelity, contrast, and consistency with the fibres' signals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ganatomy.case import Sample, Volume
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Classical, Entry, Judgement, Row, Score, limits
from ganatomy.metrics.contrast import total_scores
from ganatomy.reports.report import Outcome
from ganatomy.tasks.endomicroscopy.task import CONSISTENCY, CONTRAST_LOW, CONTRAST_TRUE
from ganatomy.tasks.restoration.judge import role
from ganatomy.tasks.restoration.likeness import INFORMATION, MAE, PSNR, SSIM
from ganatomy.tasks.restoration.nearness import NEARNESS, SPECTRUM, NearnessJudge, spectrum_distance

TOTAL = "total score"
VISIBILITY, EVIDENCE = "Contrast", "Agreement with the fibres"

RANKED: Mapping[str, Literal["higher", "lower"]] = {SSIM: "higher", CONTRAST_TRUE: "higher", CONTRAST_LOW: "higher"}
"""Scores of the total score; more contrast counts as better, even beyond that of the truth (our choice)."""

AMOUNTS = (-0.5, 0.5, 1.0)
"""Strengths of the unsharp mask: shares of the difference from the blurred copy that are added (our choice)."""
REACH = 0.5
"""SD of the blur of the unsharp mask relative to the pitch of the fibres (our choice)."""
CONTRADICTION = 0.25
"""Fibre error beyond which an output counts as contradicting its frame (our choice)."""


class FibreJudge(NearnessJudge):
    """Judges super-resolution of endomicroscopy trained without pairs, with the true image where it is known."""

    scores: tuple[Score, ...] = (
        *NEARNESS,
        Score(CONTRAST_TRUE, None, "", "Global contrast factor (Matkovic et al., 2005) minus that of the true image.",
              VISIBILITY),
        Score(CONTRAST_LOW, None, "", "The same minus that of the frame.", VISIBILITY),
        Score(TOTAL, "higher", "", "SSIM and both differences of contrast, each from 0 for the worst to 1 for the best "
              "of the methods in this table, averaged. More contrast counts as better, noise included.", VISIBILITY),
        Score(CONSISTENCY, "lower", "", "Mean difference between the means over the fibres' cells and what the fibres "
              "measured, in SDs of the frame.", EVIDENCE),
        Score(INFORMATION, None, "bits", "Of output and frame.", EVIDENCE),
    )  # fmt: skip
    leading = (SSIM, PSNR, MAE, CONSISTENCY)
    decisive = PSNR
    plotted = (SSIM, CONSISTENCY)
    warning = (
        "Detail finer than the fibres is likely, not seen: it may be wrong where it looks sharpest. An image that "
        "agrees with its fibres may still be one of many that do."
    )

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the unchanged frame, and the true image."""
        return [role(INPUT, self.task.input)], [role(TARGET, self.task.output)]

    def classical(self) -> Sequence[Classical]:
        """Return an unsharp mask, of which blurring by a negative amount is a special case."""
        sigma = REACH * self.task.bundle.pitch

        def run(amount: float) -> Callable[..., Volume]:
            def sharpened(case: Sample, start: int, stop: int) -> Volume:
                sample = case.slices(start, stop)
                return unsharp(sample["low"], sample["cells"] >= 0, sigma, amount)

            return sharpened

        about = f"classical, no training; adds a share of the difference from a copy blurred by {sigma:g} pixels"
        return (Classical("unsharp mask", about, [(f"share {amount:g}", run(amount)) for amount in AMOUNTS]),)

    def called(self, name: str) -> str:
        return "the frame" if name == INPUT else super().called(name)

    def score(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Compute the task's scores, and distances of sharpness and texture from those of the true image."""
        scores = super().score(output, sample, spacing)
        if self.task.output in sample:
            ours, true = (self.task.inner(image.clip(*self.window)) for image in (output, sample[self.task.output]))
            scores[SPECTRUM] = spectrum_distance(ours, true)
        return scores

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry in blocks of slices, and add the total scores of the whole case."""
        rows = super().score_case(entries, case, advance)
        return [*rows, *_totals(rows, case)]

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether the output is nearer to the true image than the frame, and its error at the fibres."""
        sentence, outcome = super().verdict(judgement)
        error = judgement.scores.interval(OUTPUT, CONSISTENCY)
        before = judgement.scores.interval(INPUT, CONSISTENCY)
        assert error is not None and before is not None
        return (
            f"{sentence} It departs from what the fibres measured by {limits(error)} SDs of the frame, the frame "
            f"itself by {limits(before)}.",
            "worse" if error.mean > CONTRADICTION else outcome,
        )

    def verdict_without_truth(self, judgement: Judgement) -> tuple[str, Outcome]:
        contrast = judgement.scores.interval(OUTPUT, CONTRAST_LOW)
        assert contrast is not None
        return (
            "No frame has a true image, so nothing says whether the output is right. The output's contrast factor "
            f"differs from the frame's by {limits(contrast, signed=True)}.",
            "undecided",
        )

    def particulars(self) -> dict[str, str]:
        bundle = self.task.bundle
        part = "the largest rectangle of the image's proportions in its round field of view"
        return {
            "Part of the image": f"{part}; agreement with the fibres all over it" if bundle.circular else "all of it",
            "Frames": f"where they are simulated: fibres {bundle.pitch:g} pixels apart, sensitivity varying by "
            f"{bundle.gain:.0%} and offset by {bundle.offset:.0%} of the window, interpolated between fibres",
        }

    def faults(self, judgement: Judgement) -> list[str]:
        error = judgement.scores.interval(OUTPUT, CONSISTENCY)
        if error is None or error.mean <= CONTRADICTION:
            return []
        return [
            f"The output contradicts its frame: it departs from what the fibres measured by {limits(error)} SDs, which "
            "is structure made up or lost."
        ]


def unsharp(image: Volume, field: NDArray[np.bool_], sigma: float, amount: float) -> Volume:
    """Sharpen an image by an unsharp mask whose blur leaves out pixels outside of the field of view.

    Args:
        image: slices, (slices, rows, columns).
        field: mask of the field of view, bool of the same shape.
        sigma: SD of the blur in pixels.
        amount: share of the difference from the blurred copy that is added.
    """
    blurred, seen = (
        gaussian_filter(np.asarray(part, np.float32), (0, sigma, sigma)) for part in (image * field, field)
    )
    difference = image - blurred / np.maximum(seen, np.finfo(np.float32).tiny)
    return np.asarray(np.where(field, image + amount * difference, image), np.float32)


def _totals(rows: Sequence[Row], case: Sample) -> list[Row]:
    """Compute the total score of each method on a case, relative to the other methods."""
    methods = list(dict.fromkeys(row.method for row in rows if row.method != TARGET))
    means = {
        method: {
            name: float(np.mean(found))
            for name in RANKED
            if (found := [row.scores[name] for row in rows if row.method == method and name in row.scores])
        }
        for method in methods
    }
    if len(methods) < 2:
        return []
    totals = total_scores(means, RANKED)
    whole = (0, case.shape[0])
    return [
        Row(case.case.name, case.case.subject, whole, method, {TOTAL: total})
        for method, total in totals.items()
        if math.isfinite(total)
    ]
