"""How translated images are judged: nearness to the true image, contrast, sharpness, and what is left of the input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ganatomy.case import Sample, Volume
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import (
    INPUT,
    OUTPUT,
    TARGET,
    Contender,
    Judgement,
    Row,
    Score,
    blocks,
    limits,
    middle_slice,
    side_by_side,
)
from ganatomy.images.codecs import Window
from ganatomy.inference.checks import DEPENDENCE, LIKENESS
from ganatomy.metrics.diversity import spectrum_ratio_db
from ganatomy.metrics.statistics import count
from ganatomy.reports.report import Outcome, Report
from ganatomy.reports.strip import comparison_strip, detail_boxes
from ganatomy.tasks.restoration.judge import RestorationJudge, role
from ganatomy.tasks.translation.task import CONTRAST, EDGES, INFORMATION, MAE, PSNR, SSIM

SHARPNESS_ERROR, SPECTRUM = "sharpness error", "spectrum distance"
FIDELITY, DETAIL, ANATOMY = "Fidelity", "Sharpness and texture", "Contrast and content"

BAND = (0.1, 0.5)
"""Spatial frequencies whose power is compared, cycles per pixel."""
KEPT = 0.5
"""Share of what the true image has in common with the input, below which an output has lost it (our choice)."""

QUIET = 1e-9
"""Part of the strongest frequencies' power under which nothing is compared: large smooth images have little detail."""

NEARNESS = (
    Score(PSNR, "higher", "dB", "Both images clipped to the window of the product, whose width is the data range.",
          FIDELITY),
    Score(SSIM, "higher", "", "As above; 11x11 Gaussian window, mean over 2D slices.", FIDELITY),
    Score(MAE, "lower", "", "Mean absolute error in the unit of the product, clipped as above.", FIDELITY),
    Score(EDGES, None, "", "Edge strength against the true image: 1 is as sharp, less is blurred.", DETAIL, 3),
    Score(SHARPNESS_ERROR, "lower", "", "Distance of the gradient ratio from 1.", DETAIL, 3),
    Score(SPECTRUM, "lower", "dB", "Root-mean-square distance of the radial power spectrum from the true one's, from "
          f"{BAND[0]:g} to {BAND[1]:g} cycles per pixel.", DETAIL),
)  # fmt: skip


class TranslationJudge(RestorationJudge):
    """Judges images of one kind that are made of another, against true ones where the patient has both."""

    scores: tuple[Score, ...] = (
        *NEARNESS,
        Score(
            CONTRAST, "higher", "", "Correlation with the true image within tissue; negative is inverted.", ANATOMY, 3
        ),
        Score(INFORMATION, None, "bits", "Of output and input within tissue; the true image's is the aim.", ANATOMY),
    )
    leading = (PSNR, SSIM, MAE, CONTRAST)
    plotted = (PSNR, CONTRAST)

    def references(self) -> tuple[Sequence[Contender], Sequence[Contender]]:
        """The input as if it were of the product's kind, window put on window, and the true product."""
        task = self.task
        low, high = self.window

        def shown(case: Sample, start: int, stop: int) -> Volume:
            source = case.role(task.source).codec
            assert isinstance(source, Window)
            product = Window(low=low, high=high, to=source.to)
            return np.asarray(product.decode(source.encode(case.slices(start, stop)[task.source])), np.float32)

        return [Contender(INPUT, shown, "shown in the window of the product")], [role(TARGET, task.product)]

    def score(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """The task's scores, and distances of sharpness and texture from those of the true image."""
        output, sample = self.worth_judging(output, sample)
        if not len(output):
            return {}
        scores = self.task.scores({self.task.product: output}, sample, spacing)
        if self.task.product in sample:
            low, high = self.window
            scores[SHARPNESS_ERROR] = abs(scores[EDGES] - 1)
            scores[SPECTRUM] = spectrum_distance(np.clip(output, low, high), sample[self.task.product].clip(low, high))
        named = {score.name for score in self.scores}
        return {name: value for name, value in scores.items() if name in named}

    @property
    def window(self) -> tuple[float, float]:
        """Values of the product that are shown and scored."""
        low, high = self.task.window(self.task.product)
        return low, high

    @property
    def unit(self) -> str:
        """Unit of the product; empty where it has none."""
        codec = self.task.roles[self.task.product].codec
        return (codec.unit if codec else None) or ""

    def score_case(
        self, contenders: Sequence[Contender], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every contender, block by block; without a true image by what the output has in common with the input.

        Raises:
            UserError: the case has nothing to start from.
        """
        if self.task.source not in case.arrays:
            raise UserError(f"no {self.task.source} image, so nothing to make {self.task.product} of")
        return super().score_case(self._present(contenders, case), case, advance)

    def _present(self, contenders: Sequence[Contender], case: Sample) -> list[Contender]:
        return [one for one in contenders if one.name != TARGET or self.task.product in case.arrays]

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Nearer to the true image than the input, by how much, and with which contrast."""
        nearness = judgement.scores.compare(OUTPUT, INPUT, self.named(PSNR))
        if nearness is None:
            return self._unpaired_verdict(judgement)
        relation = {
            "better": "is closer to the true image than the input is",
            "worse": "is farther from the true image than the input is",
            "undecided": "cannot be told from the input by its distance to the true image",
        }[nearness.outcome]
        sentence = f"The output {relation}: PSNR {limits(nearness.difference, 'dB', signed=True)}."
        subjects = nearness.difference.unit_of_resampling == "subject" and nearness.difference.n > 1
        alone = "" if subjects else " With a single subject this says nothing about other patients."
        contrast = judgement.scores.interval(OUTPUT, CONTRAST)
        if contrast is None:
            return sentence + alone, nearness.outcome
        if contrast.mean < 0:
            return f"The contrast is inverted: it correlates {limits(contrast)} with the true one.{alone}", "worse"
        return (
            f"{sentence} Within tissue it correlates {limits(contrast)} with the true image.{alone}",
            nearness.outcome,
        )

    def _unpaired_verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        shared = judgement.scores.interval(OUTPUT, INFORMATION)
        assert shared is not None
        sentence = f"No patient has a true {self.task.product} image, so nothing says whether the output is right."
        if not shared.mean >= DEPENDENCE:
            return f"{sentence} It has lost the anatomy of the input: {limits(shared, 'bits')} in common.", "worse"
        return f"{sentence} Within tissue it has {limits(shared, 'bits')} in common with the input.", "undecided"

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Strips of the median, worst and best case."""
        paired = bool(judgement.scores.by_case(OUTPUT, PSNR))
        for label, case in self.examples(judgement, PSNR if paired else INFORMATION).items():
            report.figure(self._strip(judgement, case), self._words(label, case, judgement, paired))

    def _strip(self, judgement: Judgement, case: Sample) -> Any:
        plane = middle_slice(case)
        found = side_by_side(self._present(judgement.contenders, case), case, plane, plane + 1)
        views = {name: image[0] for name, image in found.items()}
        scores = {name: judgement.scores.by_case(name, PSNR).get(case.case.name) for name in views}
        return comparison_strip(
            views,
            window=self.window,
            spacing_mm=case.spacing[1:],
            unit=self.unit,
            differences=(OUTPUT,),
            zooms=detail_boxes(views.get(TARGET, views[OUTPUT]), self.window, case.spacing[1:]),
            notes={
                name: f"PSNR {value:.1f} dB" for name, value in scores.items() if value is not None and name != TARGET
            },
        )

    def _words(self, label: str, case: Sample, judgement: Judgement, paired: bool) -> str:
        cases = count(len(judgement.cases), "case")
        which = "The only case" if label == "Only" else f"{label} of {cases} by {PSNR if paired else INFORMATION}"
        where = f"{which}: {case.case.name}, slice {middle_slice(case) + 1} of {case.shape[0]}."
        if not paired:
            return f"{where} There is no true image; look for tissues that changed places, vanished or appeared."
        return (
            f"{where} Differences on the right: red is too bright, blue too dark; whole structures there were made up "
            "or lost. Frames are magnified below."
        )

    def measured(self) -> dict[str, str]:
        """Windows, tissue and blocks."""
        low, high = self.window
        return {
            "Window and data range": f"{low:g} to {high:g} {self.unit}".rstrip()
            + ", outputs and true images clipped to it",
            "Channels": "averaged where there are several",
            "Unit of scoring": f"blocks of at most {blocks(10**6)[0][1]} slices, averaged over each subject; "
            "slices with next to nothing to see are left out",
            **self._tissue(),
        }

    def _tissue(self) -> dict[str, str]:
        if any(self.task.roles[name].adaptive for name in (self.task.source, self.task.product)):
            return {
                "Window": "of the median training case, since every image has a scale of its own",
                "Tissue": "where the input or the true image rises above what was dark in the median training case",
            }
        return {"Tissue": "where the input or the true image rises 5 % of its window above the lower end"}

    def caveats(self, judgement: Judgement) -> list[str]:
        """Inverted or lost contrast, phantoms, and what no score sees."""
        points = [*self._faults(judgement)]
        if any(not case.case.sources[next(iter(case.case.sources))].paths for case in judgement.cases):
            points.append(
                "The patients are procedural phantoms: this shows that a method works as its paper describes, not that "
                "it is fit for patients."
            )
        return [*points, self.warning]

    warning = (
        "A translated image shows what is likely, not what was there: a lesion may vanish or appear, and no score here "
        "sees it. Look at the differences, and at the cases."
    )

    def _faults(self, judgement: Judgement) -> list[str]:
        contrast, shared, true = (
            judgement.scores.interval(*which)
            for which in ((OUTPUT, CONTRAST), (OUTPUT, INFORMATION), (TARGET, INFORMATION))
        )
        points = []
        if contrast and contrast.mean < 0:
            points.append("The output's contrast is inverted: it correlates negatively with the true image.")
        elif contrast and contrast.mean < LIKENESS:
            points.append(
                f"The output hardly has the contrast of the true image: correlation {limits(contrast)} in tissue."
            )
        least = KEPT * true.mean if true else DEPENDENCE
        if shared and not shared.mean >= least:
            points.append(
                f"The output has lost anatomy: within tissue it has {limits(shared, 'bits')} in common with the input"
                + (f", the true image {limits(true, 'bits')}." if true else ".")
            )
        if not contrast:
            points.append(
                "Without true images of the same patients nobody can tell from the scores whether two tissues were "
                "exchanged: mutual information does not see which is bright."
            )
        return points


def spectrum_distance(output: Volume, true: Volume) -> float:
    """Root-mean-square distance of two radial power spectra in dB, in the band where detail lies; NaN where flat.

    Args:
        output: (slices, rows, columns).
        true: of the same shape.
    """
    if not np.ptp(true):
        return math.nan
    ratio = spectrum_ratio_db(true[:, None], output[:, None], QUIET)
    inside = (ratio.frequencies >= BAND[0]) & (ratio.frequencies <= BAND[1])
    return float(np.sqrt(np.mean(ratio.power[inside] ** 2)))
