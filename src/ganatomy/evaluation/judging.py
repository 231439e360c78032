"""Judging methods side by side on the same cases, and what each kind of task brings to it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Literal

import numpy as np

from ganatomy.data.cases import Case
from ganatomy.data.store import PreparedCase
from ganatomy.errors import UserError
from ganatomy.evaluation.report import Column, Outcome, Report
from ganatomy.evaluation.statistics import (
    Comparison,
    Interval,
    bootstrap_mean,
    compare,
    significant_digits,
    subject_means,
)
from ganatomy.evaluation.style import minus
from ganatomy.inference.model import Model
from ganatomy.inference.prepared import restore_slices, sample_slices, tiler_of
from ganatomy.tasks.base import ImageToImage, Task, Volume

JUDGES: dict[str, str] = {
    "ct-denoising": "ganatomy.tasks.ct_denoising.judge:DenoisingJudge",
    "synthesis": "ganatomy.tasks.synthesis.judge:SynthesisJudge",
    "anomaly-detection": "ganatomy.tasks.anomaly_detection.judge:DetectionJudge",
    "translation": "ganatomy.tasks.translation.judge:TranslationJudge",
    "mr-denoising": "ganatomy.tasks.mr_denoising.judge:MRDenoisingJudge",
    "super-resolution": "ganatomy.tasks.super_resolution.judge:SuperResolutionJudge",
    "endomicroscopy": "ganatomy.tasks.endomicroscopy.judge:FibreJudge",
    "mr-reconstruction": "ganatomy.tasks.mr_reconstruction.judge:ReconstructionJudge",
}
"""Name of each task, and where its judge is defined."""

BLOCK = 8
"""Slices scored together: bounds the memory, and lets a noise spectrum be taken over several slices."""

FEW = 6
"""With fewer test subjects than this, no exact test can reach p < 0.05."""

INPUT, OUTPUT, TARGET = "input", "output", "target"
RESERVED = (INPUT, OUTPUT, TARGET)


@dataclass(frozen=True)
class Score:
    """A number of the tables.

    Args:
        name: with its variant, as the task names it.
        better: the direction of improvement; none where the target's value is the aim.
        unit: of the number.
        note: what was computed, for a footnote.
        group: scores of one group share a table.
        digits: decimals; enough to tell intervals apart unless given.
    """

    name: str
    better: Literal["higher", "lower"] | None
    unit: str = ""
    note: str = ""
    group: str = ""
    digits: int | None = None

    @property
    def column(self) -> Column:
        """Its column in a table of several methods."""
        return Column(self.name, self.unit, self.better, self.digits, self.note)


@dataclass(frozen=True)
class Contender:
    """Something that does the task: a trained run, a classical method, or the input as it is.

    Args:
        name: heading of its column.
        run: what its judge calls; where an image is turned into another one, takes a case, a first slice and one past
            the last, and gives (slices, rows, columns) in physical units.
        about: one line that says what it is.
    """

    name: str
    run: Callable[..., Any]
    about: str = ""


@dataclass(frozen=True)
class Row:
    """Scores of one method on a block of slices of one case."""

    case: str
    subject: str
    slices: tuple[int, int]
    method: str
    scores: Mapping[str, float]


class Scores:
    """All rows of a judgement, and the statistics over its subjects."""

    def __init__(self, rows: Sequence[Row]):
        self.rows = list(rows)

    @property
    def methods(self) -> list[str]:
        """In the order in which they were judged."""
        return list(dict.fromkeys(row.method for row in self.rows))

    @property
    def cases(self) -> dict[str, str]:
        """Case name to subject."""
        return {row.case: row.subject for row in self.rows}

    def values(self, method: str, score: str) -> tuple[list[float], list[str]]:
        """A value per block of slices that has the score, and the subject of each."""
        found = [row for row in self.rows if row.method == method and score in row.scores]
        return [row.scores[score] for row in found], [row.subject for row in found]

    def interval(self, method: str, score: str) -> Interval | None:
        """Mean over subjects; None where the method has no such score."""
        values, subjects = self.values(method, score)
        return bootstrap_mean(values, subjects) if values else None

    def by_subject(self, method: str, score: str) -> dict[str, float]:
        """Mean of each subject."""
        return subject_means(*self.values(method, score))

    def by_case(self, method: str, score: str) -> dict[str, float]:
        """Mean of each case."""
        found = [row for row in self.rows if row.method == method and score in row.scores]
        return subject_means([row.scores[score] for row in found], [row.case for row in found])

    def compare(self, first: str, second: str, score: Score) -> Comparison | None:
        """The first method against the second; None where no direction is better or one lacks the score."""
        ours, subjects = self.values(first, score.name)
        theirs, _ = self.values(second, score.name)
        if score.better is None or not ours or len(ours) != len(theirs):
            return None
        return compare(
            ours, theirs, subjects, better=score.better, names=(first, second), metric=score.name, unit=score.unit
        )


@dataclass(frozen=True)
class Judgement:
    """What a judge needs to illustrate: who was judged on what, and how they did."""

    contenders: Sequence[Contender]
    cases: Sequence[PreparedCase]
    scores: Scores

    @property
    def rivals(self) -> list[str]:
        """Methods beside the input and the output."""
        return [contender.name for contender in self.contenders if contender.name not in RESERVED]


class Judge(ABC):
    """How the methods of one kind of task are judged.

    Args:
        task: of the run that is judged.
    """

    scores: tuple[Score, ...]
    """Of cases or parts of them, in the order of the table's columns."""
    truths: ClassVar[tuple[Score, ...]] = ()
    """Of whole phantoms, whose truth is known."""
    leading: ClassVar[tuple[str, ...]]
    """Names of the scores that are named first; the very first one ranks the cases."""
    plotted: ClassVar[tuple[str, ...]]
    """Names of the scores that are drawn subject by subject."""
    reference: ClassVar[str] = INPUT
    """The contender that a trained run must beat to be of use."""
    resampled: ClassVar[str] = "subjects"
    """What the rows stand for, over which intervals are taken."""
    compares_with_training: ClassVar[bool] = False
    """Whether ``learn`` and ``score_all`` look at what the runs were trained on."""

    def __init__(self, task: Any):
        self.task = task

    @abstractmethod
    def contender(self, model: Model, name: str) -> Contender:
        """A trained run, ready to be judged."""

    def references(self) -> tuple[Sequence[Contender], Sequence[Contender]]:
        """What every run is compared with: named before it, and after it."""
        return (), ()

    def classical(self) -> Contender | None:
        """A method without training, so that there is always something to be compared with."""
        return None

    def lineup(self, *contenders: Contender) -> list[Contender]:
        """These contenders with the references around them."""
        before, after = self.references()
        return [*before, *contenders, *after]

    def learn(self, training: Sequence[PreparedCase]) -> None:  # noqa: B027 - most judges need nothing
        """Take what scores need from the cases that the runs were trained on, before any case is scored."""

    def score_case(
        self, contenders: Sequence[Contender], case: PreparedCase, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every contender on one case.

        Args:
            contenders: each sees the same.
            case: read slab by slab.
            advance: called after each contender.
        """
        return []

    def score_all(
        self, contenders: Sequence[Contender], cases: Sequence[PreparedCase], training: Sequence[PreparedCase]
    ) -> list[Row]:
        """Score every contender on all cases together, where single cases do not tell.

        Args:
            contenders: each sees the same.
            cases: to be judged on.
            training: what the run was trained on, to compare with.
        """
        return []

    @abstractmethod
    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """The headline in plain words."""

    @abstractmethod
    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add pictures and task-specific figures to the report."""

    @abstractmethod
    def measured(self) -> dict[str, str]:
        """How the scores were measured, for the report's list of facts."""

    @abstractmethod
    def caveats(self, judgement: Judgement) -> list[str]:
        """What to be careful about with this task and these cases."""

    def named(self, name: str) -> Score:
        """The score of this name."""
        return next(score for score in (*self.scores, *self.truths) if score.name == name)


class ImageJudge(Judge):
    """Judges methods that turn an image into another one, block of slices by block of slices."""

    @abstractmethod
    def score(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Scores of a block of slices."""

    def sample(self, case: PreparedCase, start: int, stop: int) -> dict[str, Volume]:
        """What slices of a case are scored with."""
        return sample_slices(case, start, stop)

    def worth_judging(self, output: Volume, sample: Mapping[str, Volume]) -> tuple[Volume, dict[str, Volume]]:
        """The slices worth learning from, perhaps none: an empty one is reproduced perfectly by leaving it empty, and
        errors relative to nothing say nothing.

        Args:
            output: (slices, rows, columns).
            sample: roles of the same slices; those with another number of slices are left out.
        """
        roles = {name: sample[name][None] for name in (self.task.source, self.task.product) if name in sample}
        shown = self.task.trainable(None, roles)
        if shown is None:
            return output, dict(sample)
        return output[shown], {name: part[shown] for name, part in sample.items() if len(part) == len(shown)}

    def examples(self, judgement: Judgement, score: str | None = None) -> dict[str, PreparedCase]:
        """Median, worst and best case of the output, each once, by the very first of the leading scores or another."""
        ranked = judgement.scores.by_case(OUTPUT, score or self.leading[0])
        names = sorted(ranked, key=lambda name: ranked[name])
        prepared = {case.case.name: case for case in judgement.cases}
        chosen: dict[str, PreparedCase] = {}
        for label, name in (("Median", names[(len(names) - 1) // 2]), ("Worst", names[0]), ("Best", names[-1])):
            if all(case.case.name != name for case in chosen.values()):
                chosen[label] = prepared[name]
        return chosen if len(names) > 1 else {"Only": prepared[names[0]]}

    def truth(self, case: Case) -> Any:
        """The phantom behind a case, or None."""
        return None

    def score_truth(self, output: Volume, case: PreparedCase, truth: Any) -> dict[str, float]:
        """Scores of a whole phantom."""
        return {}

    def contender(self, model: Model, name: str) -> Contender:
        """A trained run, ready to be judged."""
        return trained(model, name)

    def references(self) -> tuple[Sequence[Contender], Sequence[Contender]]:
        """The input as it is, and the target, for scores that are no distance from it."""
        return [role(INPUT, self.task.source)], [role(TARGET, self.task.product)]

    def score_case(
        self, contenders: Sequence[Contender], case: PreparedCase, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every contender, block by block; phantoms once more as a whole against their truth."""
        truth = self.truth(case.case)
        rows = []
        for contender in contenders:
            kept = {score.name for score in self.scores if score.better is None or contender.name != TARGET}
            outputs = []
            for start, stop in blocks(case.shape[0]):
                output = contender.run(case, start, stop)
                scores = self.score(output, self.sample(case, start, stop), case.spacing)
                found = {name: value for name, value in scores.items() if name in kept}
                rows.append(Row(case.case.name, case.case.subject, (start, stop), contender.name, found))
                if truth is not None:
                    outputs.append(output)
            if truth is not None:
                known = self.score_truth(np.concatenate(outputs), case, truth)
                rows.append(Row(case.case.name, case.case.subject, (0, case.shape[0]), contender.name, known))
            advance()
        return rows


def judge_of(task: Task) -> Judge:
    """The judge of a task.

    Raises:
        UserError: this kind of task cannot be judged yet.
    """
    if task.name not in JUDGES:
        raise UserError(f"{task.name}: cannot be evaluated yet; there are {', '.join(JUDGES)}")
    module, _, attribute = JUDGES[task.name].partition(":")
    judge: Judge = getattr(import_module(module), attribute)(task)
    return judge


def role(name: str, played: str | None = None) -> Contender:
    """A role of the cases as a contender, such as the input left as it is."""
    return Contender(name, lambda case, start, stop: sample_slices(case, start, stop)[played or name])


def trained(model: Model, name: str) -> Contender:
    """A trained run that turns images into others, as a contender."""
    task = model.method.task
    assert isinstance(task, ImageToImage)
    tiler = tiler_of(model.method, model.device)
    return Contender(name, lambda case, start, stop: restore_slices(tiler, task, case, start, stop), about(model))


def side_by_side(contenders: Sequence[Contender], case: PreparedCase, start: int, stop: int) -> dict[str, Volume]:
    """What every contender makes of some slices, the target last."""
    found = {contender.name: contender.run(case, start, stop) for contender in contenders}
    return {name: found[name] for name in sorted(found, key=lambda name: name == TARGET)}


def middle_slice(case: PreparedCase) -> int:
    """The slice in the middle of a case."""
    return case.shape[0] // 2


def about(model: Model) -> str:
    """A run in one line."""
    return f"{model.facts['system']}, trained in {model.folder}"


def blocks(slices: int) -> list[tuple[int, int]]:
    """A case's slices in blocks."""
    return [(start, min(start + BLOCK, slices)) for start in range(0, slices, BLOCK)]


def limits(interval: Interval, unit: str = "", *, signed: bool = False) -> str:
    """A mean with its unit and its limits, as text."""
    digits, sign = significant_digits(interval.high - interval.low), "+" if signed else ""
    shown = f"{interval.mean:{sign}.{digits}f} {unit}".rstrip()
    if math.isfinite(interval.low):
        shown += f" ({interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f})"
    return minus(shown)
