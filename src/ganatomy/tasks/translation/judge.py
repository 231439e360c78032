"""The judge of image translation: fidelity to the true image, contrast, sharpness, and dependence on the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ganatomy.case import Sample, Volume
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Classical, Entry, Judgement, Score, limits
from ganatomy.evaluation.remarks import sentences
from ganatomy.inference.checks import DEPENDENCE, LIKENESS
from ganatomy.inference.predictor import decoding_role, encoded
from ganatomy.metrics.statistics import Interval
from ganatomy.reports.report import Outcome
from ganatomy.tasks.restoration.judge import role
from ganatomy.tasks.restoration.likeness import INFORMATION, MAE, PSNR, SSIM
from ganatomy.tasks.restoration.nearness import NEARNESS, NearnessJudge
from ganatomy.tasks.translation.maps import MOST_CASES, Fitted, Map, fit_maps
from ganatomy.tasks.translation.task import CONTRAST

ANATOMY = "Contrast and content"

KEPT = 0.5
"""Share of the true image's mutual information with the input, below which anatomy counts as lost (our choice)."""


class TranslationJudge(NearnessJudge):
    """Judges translated images, against true ones where the patient has both."""

    scores: tuple[Score, ...] = (
        *NEARNESS,
        Score(
            CONTRAST, "higher", "", "Correlation with the true image within tissue; negative is inverted.", ANATOMY, 3
        ),
        Score(INFORMATION, None, "bits", "Of output and input within tissue; the true image's is the aim.", ANATOMY),
    )
    leading = (PSNR, SSIM, MAE, CONTRAST)
    plotted = (PSNR, CONTRAST)
    warning = (
        "A translated image shows what is likely, not what was there: a lesion may vanish or appear, and no score here "
        "sees it. Look at the differences, and at the cases."
    )

    compares_with_training = True
    most_training_cases = MOST_CASES

    maps: Sequence[Fitted] = ()
    """Maps of values that were fitted to training images."""

    def learn(self, training: Sequence[Sample]) -> None:
        """Fit maps of values to training images."""
        self.maps = fit_maps(self.task, training)

    def classical(self) -> Sequence[Classical]:
        """Return the maps of values that were fitted to training images."""
        return [Classical(name, about, [("", self._mapped(one))]) for name, about, one in self.maps]

    def called(self, name: str) -> str:
        fitted = {"constant": "a constant image", "linear map": "the linear map", "monotone map": "the monotone map"}
        return fitted.get(name) or super().called(name)

    def _mapped(self, mapping: Map) -> Callable[..., Volume]:
        task, made = self.task, decoding_role(self.task, self.task.roles[self.task.output])

        def mapped(case: Sample, start: int, stop: int) -> Volume:
            values = made.decoded(mapping(encoded(case, task.inputs)(start, stop)))
            return np.asarray(values.reshape(-1, *values.shape[2:]))

        return mapped

    def present(self, entries: Sequence[Entry], case: Sample) -> list[Entry]:
        """Return the entries that exist for a case, with outputs on the scale of its true image."""

        task = self.task

        def placed(entry: Entry) -> Entry:
            if entry.name == TARGET:
                return entry
            run = entry.run
            return replace(entry, run=lambda one, start, stop: task.comparable(run(one, start, stop), one))

        return [placed(entry) for entry in super().present(entries, case)]

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the input mapped from its window to that of the output, and the true image."""
        task = self.task

        def shown(case: Sample, start: int, stop: int) -> Volume:
            given = case.slices(start, stop, task.out_channels)[task.input]
            if (contrasts := task.contrasts(case)) is None:
                first, last = task.window(task.output)
                return np.asarray(first + (given > 0) * (last - first), np.float32)
            source, wanted = contrasts
            return np.asarray(wanted.model_copy(update={"to": source.to}).decode(source.encode(given)), np.float32)

        return [Entry(INPUT, shown, "shown in the window of the output")], [
            role(TARGET, task.output, task.out_channels)
        ]

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether the output is nearer to the true image than the strongest reference, and its contrast."""
        words, outcome = super().verdict(judgement)
        contrast = judgement.scores.interval(OUTPUT, CONTRAST)
        if contrast is None:
            return words, outcome
        if contrast.mean < 0:
            return f"The contrast is inverted: it correlates {limits(contrast)} with the true one. {words}", "worse"
        return sentences(words, f"Within tissue it correlates {limits(contrast)} with the true image."), outcome

    def verdict_without_truth(self, judgement: Judgement) -> tuple[str, Outcome]:
        shared = judgement.scores.interval(OUTPUT, INFORMATION)
        assert shared is not None
        sentence = f"No patient has a true {self.task.output} image, so nothing says whether the output is right."
        if not shared.mean >= DEPENDENCE:
            return f"{sentence} It has lost the anatomy of the input: {_in_common(shared)}.", "worse"
        return f"{sentence} Within tissue it has {limits(shared, 'bits')} in common with the input.", "undecided"

    def particulars(self) -> dict[str, str]:
        if any(self.task.roles[name].adaptive for name in self.task.images):
            return {
                "Scale of the output": "each image has a scale of its own, so outputs are compared on that of the true "
                "image; without one, and in files, theirs is that of the median training case",
                "Tissue": "where the input or the true image rises 5 % of its own range above the lower end",
            }
        return {"Tissue": "where the input or the true image rises 5 % of its window above the lower end"}

    def faults(self, judgement: Judgement) -> list[str]:
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
                f"The output has lost anatomy: within tissue, {_in_common(shared)} with the input"
                + (f", the true image {limits(true, 'bits')}." if true else ".")
            )
        if not contrast:
            points.append(
                "Without true images of the same patients the scores cannot show whether two tissues were exchanged: "
                "mutual information does not depend on which is bright."
            )
        return points


def _in_common(shared: Interval) -> str:
    """Return in words what output and input have in common."""
    return f"{limits(shared, 'bits')} in common" if shared.n else "a constant, which has nothing in common"
