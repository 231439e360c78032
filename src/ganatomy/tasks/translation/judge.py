"""The judge of image translation: fidelity to the true image, contrast, sharpness, and dependence on the input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ganatomy.case import Sample, Volume, grey
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Classical, Entry, Judgement, Row, Score, limits
from ganatomy.evaluation.remarks import sentences
from ganatomy.inference.checks import DEPENDENCE, LIKENESS
from ganatomy.inference.predictor import Options, decoding_role, encoded
from ganatomy.metrics.classification import auc_values
from ganatomy.metrics.statistics import Interval, bland_altman
from ganatomy.reports.report import Cell, Outcome, Report
from ganatomy.tasks.classification.judge import per_case
from ganatomy.tasks.restoration.judge import RestorationJudge, role
from ganatomy.tasks.restoration.likeness import INFORMATION, MAE, PSNR, SSIM
from ganatomy.tasks.restoration.nearness import NEARNESS, NearnessJudge
from ganatomy.tasks.translation.angiograms import ANGIOGRAM
from ganatomy.tasks.translation.finding import AREA as TASK_AREA
from ganatomy.tasks.translation.finding import MOST_TRAINING_CASES, STEPS, FindingNetwork, area_score, has_finding
from ganatomy.tasks.translation.maps import HISTOGRAMS, MOST_CASES, NORMALISATIONS, Fitted, Map, fit_maps
from ganatomy.tasks.translation.physical import FALSE, FOUND, INVENTED, LOST, QUANTITIES, SLOPE, SPREAD, Physical
from ganatomy.tasks.translation.task import CONTRAST

ANATOMY = "Contrast and content"

KEPT = 0.5
"""Share of the true image's mutual information with the input, below which anatomy counts as lost (our choice)."""


LEAST_SLOPE, MOST_WRONG, MOST_FALSE, MOST_SPREAD = 0.9, 0.1, 0.5, 0.5
"""Slope of CT numbers below which, and share of bone or lesions, number of false lesions, and share of hot voxels that
are cold in truth above which, the report warns (our choice)."""


class TranslationOptions(Options):
    """Label maps by which angiographies and outputs in a physical unit are judged; roles of the run that is judged."""

    lesions: str | None = None  # label map of lesions or vessels; none means the first label map that is no output
    organ: str | None = None  # label map of the organ in which they are sought; none means the second one


class TranslationJudge(NearnessJudge):
    """Judges translated images, against true ones where the patient has both.

    Outputs in HU are also compared by tissue, and outputs in SUV by their lesions, see `physical`; angiographies by
    their vessels, see `angiograms`.

    Raises:
        UserError: an option names a role that is no label map.
    """

    Options = TranslationOptions

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

    def __init__(self, task: Any, options: Any = None):
        super().__init__(task, options)
        quantity = ANGIOGRAM if task.angiogram else QUANTITIES.get(self.unit)
        self.physical = quantity if task.out_channels == 1 else None
        if self.physical:
            self.scores = (*self.scores, *self.physical.scores)
        self.network = FindingNetwork(task.output, task.finding) if task.finding else None
        if self.network:
            self.scores = (*self.scores, area_score(task.finding))
            self.most_training_cases = MOST_TRAINING_CASES
        there = [name for name in task.label_maps if name not in task.outputs]
        chosen = (self.options.lesions, self.options.organ)
        for option, name in zip(("--lesions", "--organ"), chosen, strict=True):
            if name and name not in there:
                raise UserError(f"{option} {name}: no label map of this run; it has {', '.join(there) or 'none'}")
        if any(chosen) and not self.physical:
            units = " or ".join(QUANTITIES)
            raise UserError(f"--lesions, --organ: only angiographies and outputs in {units} are judged by label maps")
        self.marks = tuple(own or usual for own, usual in zip(chosen, [*there, None, None][:2], strict=True))

    def learn(self, training: Sequence[Sample]) -> None:
        """Fit maps of values to training images, and train the network that looks for the finding."""
        self.maps = fit_maps(self.task, training[:MOST_CASES])
        if self.network:
            self.network.learn(training)

    def classical(self) -> Sequence[Classical]:
        """Return the maps of values that were fitted to training images."""
        return [Classical(name, about, [("", self._mapped(one))]) for name, about, one in self.maps]

    def called(self, name: str) -> str:
        fitted = {"constant": "a constant image", "linear map": "the linear map", "monotone map": "the monotone map"}
        fitted |= {"tissue classes": "the mean of each class of tissue", "nearest image": "the nearest training image"}
        fitted |= {one: f"{one}'s normalisation" for one in NORMALISATIONS if one != HISTOGRAMS}
        return fitted.get(name) or super().called(name)

    def _mapped(self, mapping: Map) -> Callable[..., Volume]:
        task, made = self.task, decoding_role(self.task, self.task.roles[self.task.output])

        def mapped(case: Sample, start: int, stop: int) -> Volume:
            values = made.decoded(mapping(encoded(case, task.inputs)(start, stop)))
            return np.asarray(values.reshape(-1, *values.shape[2:]))

        return mapped

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry in blocks of slices, and those in a physical unit also over the whole case."""
        if self.physical is None or self.task.output not in case.arrays:
            return super().score_case(entries, case, advance)
        if self.task.input not in case.arrays:
            raise UserError(f"no {self.task.input} image, so nothing to make {self.task.output} of")
        rows: list[Row] = []
        true = grey(np.asarray(case.arrays[self.task.output]))
        lesions, organ = (grey(np.asarray(case.arrays[name])) if name in case.arrays else None for name in self.marks)
        for entry in self.present(entries, case):
            made: list[Volume] = []

            def kept(one: Sample, start: int, stop: int, entry: Entry = entry, made: list[Volume] = made) -> Volume:
                made.append(entry.run(one, start, stop))
                return made[-1]

            rows += RestorationJudge.score_case(self, [replace(entry, run=kept)], case, advance)
            if entry.name in (INPUT, TARGET):
                continue
            found = self.physical.compute(np.concatenate(made), true, lesions, organ, case.spacing)
            rows.append(Row(case.case.name, case.case.subject, (0, case.shape[0]), entry.name, found))
        return rows

    def score_all(self, entries: Sequence[Entry], cases: Sequence[Sample], training: Sequence[Sample]) -> list[Row]:
        """Score what a network finds in the outputs of every entry, over all slices of all cases together."""
        if self.network is None or self.network.network is None:
            return []
        known = [case for case in cases if {self.task.finding, self.task.input} <= set(case.arrays)]
        truth = [has_finding(case.arrays[self.task.finding], case.shape[0]) for case in known]
        if not truth or len(np.unique(np.concatenate(truth))) < 2:
            return []
        owner = np.repeat(np.arange(len(known)), [len(one) for one in truth])
        rows = []
        for entry in entries:
            if entry.name == TARGET and any(self.task.output not in case.arrays for case in known):
                continue
            found = np.concatenate([self.network.probabilities(case, entry.run) for case in known])
            values = auc_values(np.stack([1 - found, found], axis=1), np.concatenate(truth))
            by_case = per_case(values, owner, [case.case.subject for case in known])
            rows += [
                Row(known[at].case.name, known[at].case.subject, (0, known[at].shape[0]), entry.name, {TASK_AREA: one})
                for at, one in by_case.items()
            ]
        return rows

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
        words = sentences(words, self._told(judgement))
        contrast = judgement.scores.interval(OUTPUT, CONTRAST)
        if contrast is None:
            return words, outcome
        if inverted(contrast):
            return f"The contrast is inverted: it correlates {limits(contrast)} with the true one. {words}", "worse"
        return sentences(words, f"Within tissue it correlates {limits(contrast)} with the true image."), outcome

    def _told(self, judgement: Judgement) -> str:
        """Return a sentence on physical scores of the output and of the reference; empty without such scores."""
        parts = []
        for name in self.physical.told if self.physical else ():
            unit = self.named(name).unit
            found = [judgement.scores.interval(one, name) for one in (OUTPUT, judgement.reference)]
            if found[0] and math.isfinite(found[0].mean):
                against = f" against {limits(found[1])}" if found[1] and math.isfinite(found[1].mean) else ""
                parts.append(f"{name} {limits(found[0], unit)}{against}")
        told = "; ".join(parts)
        return f"{told[:1].upper()}{told[1:]}." if told else ""

    def verdict_without_truth(self, judgement: Judgement) -> tuple[str, Outcome]:
        shared = judgement.scores.interval(OUTPUT, INFORMATION)
        assert shared is not None
        sentence = f"No patient has a true {self.task.output} image, so nothing says whether the output is right."
        if not shared.mean >= DEPENDENCE:
            return f"{sentence} It has lost the anatomy of the input: {_in_common(shared)}.", "worse"
        return f"{sentence} Within tissue it has {limits(shared, 'bits')} in common with the input.", "undecided"

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add strips of cases, and the limits of agreement of physical values over patients."""
        super().illustrate(report, judgement)
        if self.physical and (rows := agreement_rows(self.physical, judgement, self.named)):
            report.table(
                rows,
                ["difference from the true image", "unit", "bias", "SD", "lower limit", "upper limit", "patients"],
                caption="Limits of agreement over patients: bias ± 1.96 SD (Bland and Altman). A new patient's "
                "difference is expected between them.",
            )

    def particulars(self) -> dict[str, str]:
        found = {
            "Network of the finding": f"a small classifier of {self.task.finding}, trained for {STEPS} updates on the "
            f"true images of up to {MOST_TRAINING_CASES} training cases, with mirroring, and then frozen"
        }
        return {**self._scale(), **(self.physical.facts if self.physical else {}), **(found if self.network else {})}

    def _scale(self) -> dict[str, str]:
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
        if contrast and inverted(contrast):
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
        points += self._physical_faults(judgement)
        if not contrast:
            points.append(
                "Without true images of the same patients the scores cannot show whether two tissues were exchanged: "
                "mutual information does not depend on which is bright."
            )
        return points

    def _physical_faults(self, judgement: Judgement) -> list[str]:
        """Return sentences on CT numbers with too little contrast, and on structures that were lost or invented."""
        points = []
        for name, worst, told in FAULTS:
            found = judgement.scores.interval(OUTPUT, name)
            if found and math.isfinite(found.mean) and worst(found.mean):
                points.append(told.format(limits(found)))
        return points


def inverted(contrast: Interval) -> bool:
    """Whether a correlation is negative: its whole interval, or its mean where there are too few subjects for one."""
    return contrast.high < 0 if math.isfinite(contrast.high) else contrast.mean < 0


def agreement_rows(physical: Physical, judgement: Judgement, named: Callable[[str], Score]) -> list[list[Cell]]:
    """Return rows of the output's mean differences, with their SD and limits over patients, and number of patients."""
    rows: list[list[Cell]] = []
    for name in physical.agreement:
        values = [one for one in judgement.scores.by_subject(OUTPUT, name).values() if math.isfinite(one)]
        if len(values) > 1:
            told, score = bland_altman(values, np.zeros(len(values))), named(name)
            numbers = [round(one, score.digits or 2) for one in (told.bias, told.sd, told.lower, told.upper)]
            rows.append([name, score.unit, *numbers, told.n])
    return rows


FAULTS: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    (SLOPE, lambda slope: slope < LEAST_SLOPE, "CT numbers differ less than the true ones do: slope {}."),
    (LOST, lambda share: share > MOST_WRONG, "Bone was lost: of its voxels, a share of {} is none in the output."),
    (INVENTED, lambda share: share > MOST_WRONG, "Bone was invented: a share of {} of the output's is none in truth."),
    (FOUND, lambda share: share < 1 - MOST_WRONG, "Lesions were lost: a share of {} of them takes up enough tracer."),
    (
        SPREAD,
        lambda share: share > MOST_SPREAD,
        "Uptake was invented: a share of {} of the hot voxels is cold in truth.",
    ),
    (FALSE, lambda number: number > MOST_FALSE, "Lesions were invented: {} hot parts per case touch no lesion."),
)
"""Score, whether its mean is a fault, and the sentence on it."""


def _in_common(shared: Interval) -> str:
    """Return in words what output and input have in common."""
    return f"{limits(shared, 'bits')} in common" if shared.n else "a constant, which has nothing in common"
