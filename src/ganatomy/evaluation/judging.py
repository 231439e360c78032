"""Judging methods side by side on the same cases, and what each kind of task brings to it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel

from ganatomy.case import Sample, Task, Volume, grey
from ganatomy.catalogue import attribute
from ganatomy.inference.model import Model
from ganatomy.inference.predictor import Options
from ganatomy.metrics.statistics import (
    Comparison,
    Interval,
    bootstrap_mean,
    compare,
    significant_digits,
    subject_means,
)
from ganatomy.reports.report import Column, Outcome, Report
from ganatomy.reports.style import minus

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
class Entry:
    """Something that does the task: a trained run, a classical method, or the input as it is.

    Args:
        name: heading of its column.
        run: what its judge calls; where an image is turned into another one, takes a case, a first slice and one past
            the last, and gives (channels · slices, rows, columns) in physical units, channel after channel.
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

    def mean(self, method: str, score: str) -> float:
        """Mean over subjects; NaN where the method has no such score."""
        found = self.interval(method, score)
        return found.mean if found else math.nan

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

    def against_others(self, score: Score) -> dict[str, Comparison]:
        """The output against every other method but the target."""
        others = [method for method in self.methods if method not in (OUTPUT, TARGET)]
        found = {other: self.compare(OUTPUT, other, score) for other in others}
        return {other: comparison for other, comparison in found.items() if comparison}

    def of_case(self, case: str, method: str) -> dict[str, float]:
        """Every score of one case, averaged over its blocks of slices; NaN where none is finite."""
        own = Scores([row for row in self.rows if row.case == case and row.method == method])
        names = dict.fromkeys(name for row in own.rows for name in row.scores)
        return {name: own.by_case(method, name).get(case, math.nan) for name in names}


@dataclass(frozen=True)
class Judgement:
    """What a judge needs to illustrate: who was judged on what, and how they did."""

    entries: Sequence[Entry]
    cases: Sequence[Sample]
    scores: Scores

    @property
    def baselines(self) -> list[str]:
        """Methods beside the input and the output."""
        return [entry.name for entry in self.entries if entry.name not in RESERVED]


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
    """The entry that a trained run must beat to be of use."""
    resampled: ClassVar[str] = "subjects"
    """What the rows stand for, over which intervals are taken."""
    compares_with_training: ClassVar[bool] = False
    """Whether ``learn`` and ``score_all`` look at what the runs were trained on."""

    Options: ClassVar[type[Options]] = Options
    """Choices that the judge adds to ``evaluate``."""

    cache: Path | None = None
    """Folder of prepared cases, where a judge may keep what takes long to compute; None means nowhere."""

    def __init__(self, task: Any, options: BaseModel | None = None):
        self.task = task
        self.options: Any = options or self.Options()

    @abstractmethod
    def entry(self, model: Model, name: str) -> Entry:
        """A trained run, ready to be judged."""

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """What every run is compared with: named before it, and after it."""
        return (), ()

    def classical(self) -> Entry | None:
        """A method without training, so that there is always something to be compared with."""
        return None

    def with_references(self, *entries: Entry) -> list[Entry]:
        """These entries with the references around them."""
        before, after = self.references()
        return [*before, *entries, *after]

    def learn(self, training: Sequence[Sample]) -> None:  # noqa: B027 - most judges need nothing
        """Take what scores need from the cases that the runs were trained on, before any case is scored."""

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry on one case.

        Args:
            entries: each sees the same.
            case: read slab by slab.
            advance: called after each entry.
        """
        return []

    def score_all(self, entries: Sequence[Entry], cases: Sequence[Sample], training: Sequence[Sample]) -> list[Row]:
        """Score every entry on all cases together, where single cases do not tell.

        Args:
            entries: each sees the same.
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


def judge_class(task: Task) -> type[Judge]:
    """The class of the judge of a task."""
    found = task.judge
    cls: type[Judge] = attribute(found) if isinstance(found, str) else found
    return cls


def judge_of(task: Task, options: Mapping[str, Any] | None = None) -> Judge:
    """The judge of a task.

    Args:
        task: names the class of its judge.
        options: that the judge has, by name.

    Raises:
        UserError: this judge has no such options, or they do not take such values.
    """
    cls = judge_class(task)
    return cls(task, cls.Options.of(options or {}))


def side_by_side(entries: Sequence[Entry], case: Sample, start: int, stop: int) -> dict[str, Volume]:
    """What every entry makes of some slices, (slices, rows, columns), colours averaged; the target last."""
    made = {entry.name: entry.run(case, start, stop) for entry in entries}
    found = {name: grey(image.reshape(-1, stop - start, *image.shape[1:])) for name, image in made.items()}
    return {name: found[name] for name in sorted(found, key=lambda name: name == TARGET)}


def middle_slice(case: Sample) -> int:
    """The slice in the middle of a case."""
    return case.shape[0] // 2


def about(model: Model) -> str:
    """A run in one line."""
    return f"{model.facts.system}, trained in {model.folder}" if model.facts else type(model.method).__name__


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
