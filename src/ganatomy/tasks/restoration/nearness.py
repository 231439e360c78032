"""The judge of images with an intensity window against true images: fidelity, sharpness and texture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ganatomy.case import Sample, Volume
from ganatomy.errors import UserError
from ganatomy.evaluation.illustrations import DIFFERENCES, caption, in_colours, strip
from ganatomy.evaluation.judging import OUTPUT, TARGET, Entry, Judgement, Row, Score
from ganatomy.evaluation.remarks import BLOCKS, distance, phantoms
from ganatomy.images.codecs import Window, described
from ganatomy.metrics.colour import delta_e_2000
from ganatomy.metrics.diversity import spectrum_ratio_db
from ganatomy.reports.report import Outcome, Report
from ganatomy.tasks.restoration.judge import RestorationJudge
from ganatomy.tasks.restoration.likeness import EDGES, INFORMATION, MAE, PSNR, SSIM

SHARPNESS_ERROR, SPECTRUM = "sharpness error", "spectrum distance"
COLOURS = "colour difference"
FIDELITY, DETAIL = "Fidelity", "Sharpness and texture"

BAND = (0.1, 0.5)
"""Band of spatial frequencies whose power is compared, in cycles per pixel."""
UNITS_OF_PICTURES = ("", "a.u.")
"""Units of images whose three channels are red, green and blue."""
QUIET = 1e-9
"""Share of the largest power below which frequencies are not compared, since smooth images have little detail."""

NEARNESS = (
    Score(PSNR, "higher", "dB", "Both images clipped to the window of the true one, whose width is the data range.",
          FIDELITY),
    Score(SSIM, "higher", "", "As above; 11x11 Gaussian window, mean over 2D slices.", FIDELITY),
    Score(MAE, "lower", "", "Mean absolute error in the unit of the output, clipped as above.", FIDELITY),
    Score(EDGES, None, "", "Edge strength against the true image: 1 is as sharp, less is blurred.", DETAIL, 3),
    Score(SHARPNESS_ERROR, "lower", "", "Distance of the gradient ratio from 1.", DETAIL, 3),
    Score(SPECTRUM, "lower", "dB", "Root-mean-square distance of the radial power spectrum from the true one's, from "
          f"{BAND[0]:g} to {BAND[1]:g} cycles per pixel.", DETAIL),
)  # fmt: skip

COLOUR_DIFFERENCE = Score(
    COLOURS,
    "lower",
    "ΔE2000",
    "Mean over pixels; the window is taken for the range of sRGB. About 1 is just noticeable.",
    FIDELITY,
)


class NearnessJudge(RestorationJudge):
    """Judges images by their distance from true ones, clipped to the window of the output.

    Where no case has a true image, cases are ranked by the mutual information of output and input.
    """

    scores: tuple[Score, ...] = NEARNESS
    leading = (PSNR, SSIM, MAE, SPECTRUM)
    plotted = (PSNR, SPECTRUM)
    warning: ClassVar[str]
    """Caveat on errors that no score of this kind of task detects."""

    def __init__(self, task: Any, options: Any = None):
        super().__init__(task, options)
        if self.coloured:
            self.scores = (*self.scores, COLOUR_DIFFERENCE)

    @property
    def coloured(self) -> bool:
        """Whether outputs are pictures in colour: three channels without a physical unit."""
        return self.task.out_channels == 3 and self.unit in UNITS_OF_PICTURES

    def score(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Compute the task's scores, and distances of sharpness and texture from those of the true image."""
        output, sample = self.worth_judging(output, sample)
        if not len(output):
            return {}
        scores: dict[str, float] = self.task.scores({self.task.output: output}, sample, spacing)
        if self.task.output in sample:
            low, high = self.window
            scores[SHARPNESS_ERROR] = abs(scores[EDGES] - 1)
            scores[SPECTRUM] = spectrum_distance(np.clip(output, low, high), sample[self.task.output].clip(low, high))
            if self.coloured:
                shown = (in_colours(self.apart(one), (low, high)) for one in (output, sample[self.task.output]))
                scores[COLOURS] = delta_e_2000(*shown)
        return scores

    @property
    def window(self) -> tuple[float, float]:
        """Lowest and highest value of the output that are displayed and scored."""
        low, high = self.task.window(self.task.output)
        return low, high

    @property
    def unit(self) -> str:
        """Unit of the output; empty where it has none."""
        codec = self.task.roles[self.task.output].codec
        return (codec.unit if codec else None) or ""

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry in blocks of slices; without a true image by scores that need none.

        Raises:
            UserError: the case has no input image.
        """
        if self.task.input not in case.arrays:
            raise UserError(f"no {self.task.input} image, so nothing to make {self.task.output} of")
        return super().score_case(self.present(entries, case), case, advance)

    def present(self, entries: Sequence[Entry], case: Sample) -> list[Entry]:
        """Return the entries that exist for a case: all but the target where there is no true image."""
        return [one for one in entries if one.name != TARGET or self.task.output in case.arrays]

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether the output is nearer to the true image than the strongest reference, and by how much."""
        words, found = distance(self, judgement, PSNR, "the true image")
        return (words, found.outcome) if found else self.verdict_without_truth(judgement)

    def verdict_without_truth(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return the headline where no case has a true image."""
        return "No case has a true image, so nothing says whether the output is right.", "undecided"

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add strips of the median, worst and best case."""
        paired = bool(judgement.scores.by_case(OUTPUT, PSNR))
        by = PSNR if paired else INFORMATION
        look = (
            f"{DIFFERENCES} whole structures there were made up or lost. The still picture magnifies the frames."
            if paired
            else "There is no true image; look for tissues that changed places, vanished or appeared."
        )
        for label, case in self.examples(judgement, by).items():
            shown = self.present(judgement.entries, case)
            report.figure(
                strip(shown, case, judgement, PSNR, self.bound_to(case).window, self.unit, (OUTPUT,)),
                f"{caption(label, case, judgement, 'PSNR' if paired else INFORMATION)} {look}",
            )

    def measured(self) -> dict[str, str]:
        """Describe the window, the channels, the blocks, and what a kind of task adds."""
        return {
            "Window and data range": self._range(),
            "Channels": "where there are several, each is compared for itself: errors are means over all of them",
            "Unit of scoring": f"{BLOCKS}; slices with next to nothing to see are left out",
            **self.particulars(),
        }

    def _range(self) -> str:
        """Describe the range of values in which images are displayed and scored."""
        codec = self.task.roles[self.task.output].codec
        if not isinstance(codec, Window):
            return f"each true image's own range, {described(codec)}; it and the outputs are clipped to it"
        low, high = self.window
        return f"{low:g} to {high:g} {self.unit}".rstrip() + ", outputs and true images clipped to it"

    def particulars(self) -> dict[str, str]:
        """Describe how scores particular to a kind of task were measured, for the report's list of facts."""
        return {}

    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on the faults that were found, on phantoms, and on errors that no score detects."""
        return [*self.faults(judgement), *phantoms(judgement.cases), self.warning]

    def faults(self, judgement: Judgement) -> list[str]:
        """Return sentences on faults that the scores of this kind of task reveal."""
        return []


def spectrum_distance(output: Volume, true: Volume) -> float:
    """Compute the root-mean-square distance of two radial power spectra in dB, in the band of detail.

    Args:
        output: predicted image, (slices, rows, columns).
        true: true image of the same shape; the distance is NaN where it is constant.
    """
    if not np.ptp(true):
        return math.nan
    ratio = spectrum_ratio_db(true[:, None], output[:, None], QUIET)
    inside = (ratio.frequencies >= BAND[0]) & (ratio.frequencies <= BAND[1])
    return float(np.sqrt(np.mean(ratio.power[inside] ** 2)))
