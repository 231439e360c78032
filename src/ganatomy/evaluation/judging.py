"""The base class of judges, which compare methods on the same cases, and the scores they give."""

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
from ganatomy.images.image import Image
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
"""Number of slices scored together: it bounds the memory, and is enough for a noise spectrum."""

FEW = 6
"""Number of test subjects below which no exact test can reach p < 0.05."""

INPUT, OUTPUT, TARGET = "input", "output", "target"
RESERVED = (INPUT, OUTPUT, TARGET)


@dataclass(frozen=True)
class Score:
    """A score in the tables of a report.

    Args:
        name: name of the score with its variant, as in the task.
        better: direction of improvement; None where the value of the target is the aim.
        unit: unit of the score.
        note: definition of the score, for a footnote.
        group: heading of the table; scores of one group share a table.
        digits: number of decimals; None means enough to tell intervals apart.
    """

    name: str
    better: Literal["higher", "lower"] | None
    unit: str = ""
    note: str = ""
    group: str = ""
    digits: int | None = None

    @property
    def column(self) -> Column:
        """Column of the score in a table of several methods."""
        return Column(self.name, self.unit, self.better, self.digits, self.note)


@dataclass(frozen=True)
class Entry:
    """An entry of a judgement's table: a trained run, a baseline, or the unchanged input.

    Args:
        name: name of the entry in tables.
        run: function that the judge calls. For image-to-image tasks it takes a case, a first slice and one past the
            last, and returns (channels · slices, rows, columns) in physical units, channel after channel.
        about: description in one line.
    """

    name: str
    run: Callable[..., Any]
    about: str = ""


@dataclass(frozen=True)
class Classical:
    """A method without an adversary that is judged beside every run, and that the run must improve on.

    Args:
        name: name of the method in tables.
        about: description in one line.
        settings: settings to choose from on validation cases: description, and function as of `Entry.run`.
        entry: class of its entries, which takes the arguments of `Entry`.
    """

    name: str
    about: str
    settings: Sequence[tuple[str, Callable[..., Any]]]
    entry: Callable[[str, Callable[..., Any], str], Entry] = Entry


@dataclass(frozen=True)
class Row:
    """Scores of one method on a block of slices of one case.

    Attributes:
        case: name of the case.
        subject: name of its subject.
        slices: first slice and one past the last.
        method: name of the entry.
        scores: score to value.
    """

    case: str
    subject: str
    slices: tuple[int, int]
    method: str
    scores: Mapping[str, float]


class Scores:
    """All rows of a judgement, and statistics over its subjects.

    Args:
        rows: scores of all entries on all cases.
    """

    def __init__(self, rows: Sequence[Row]):
        self.rows = list(rows)

    @property
    def methods(self) -> list[str]:
        """Names of the methods in the order in which they were judged."""
        return list(dict.fromkeys(row.method for row in self.rows))

    @property
    def cases(self) -> dict[str, str]:
        """Name of every case to its subject."""
        return {row.case: row.subject for row in self.rows}

    def values(self, method: str, score: str) -> tuple[list[float], list[str]]:
        """Return the values of a score, one per block of slices, and the subject of each."""
        found = [row for row in self.rows if row.method == method and score in row.scores]
        return [row.scores[score] for row in found], [row.subject for row in found]

    def interval(self, method: str, score: str) -> Interval | None:
        """Return the mean over subjects with its interval; None where the method has no such score."""
        values, subjects = self.values(method, score)
        return bootstrap_mean(values, subjects) if values else None

    def mean(self, method: str, score: str) -> float:
        """Return the mean over subjects; NaN where the method has no such score."""
        found = self.interval(method, score)
        return found.mean if found else math.nan

    def by_subject(self, method: str, score: str) -> dict[str, float]:
        """Return the mean of a score for each subject."""
        return subject_means(*self.values(method, score))

    def by_case(self, method: str, score: str) -> dict[str, float]:
        """Return the mean of a score for each case."""
        found = [row for row in self.rows if row.method == method and score in row.scores]
        return subject_means([row.scores[score] for row in found], [row.case for row in found])

    def compare(self, first: str, second: str, score: Score) -> Comparison | None:
        """Compare two methods by a score; None where no direction is better or one of them lacks the score."""
        ours, subjects = self.values(first, score.name)
        theirs, _ = self.values(second, score.name)
        if score.better is None or not ours or len(ours) != len(theirs):
            return None
        return compare(
            ours, theirs, subjects, better=score.better, names=(first, second), metric=score.name, unit=score.unit
        )

    def against_others(self, score: Score) -> dict[str, Comparison]:
        """Compare the output with every other method except the target; returns method to comparison."""
        others = [method for method in self.methods if method not in (OUTPUT, TARGET)]
        found = {other: self.compare(OUTPUT, other, score) for other in others}
        return {other: comparison for other, comparison in found.items() if comparison}

    def of_case(self, case: str, method: str) -> dict[str, float]:
        """Return all scores of one case, averaged over its blocks of slices; NaN where no value is finite."""
        own = Scores([row for row in self.rows if row.case == case and row.method == method])
        names = dict.fromkeys(name for row in own.rows for name in row.scores)
        return {name: own.by_case(method, name).get(case, math.nan) for name in names}


@dataclass(frozen=True)
class Judgement:
    """The result of judging, from which verdicts and illustrations are made.

    Attributes:
        entries: all entries of the tables, references included.
        cases: prepared cases that were judged.
        scores: rows of all entries on all cases.
        reference: name of the entry that the run must improve on: the strongest without an adversary.
    """

    entries: Sequence[Entry]
    cases: Sequence[Sample]
    scores: Scores
    reference: str = INPUT

    @property
    def baselines(self) -> list[str]:
        """Names of the entries other than the input, the output and the target."""
        return [entry.name for entry in self.entries if entry.name not in RESERVED]


class Judge(ABC):
    """Base class of judges; every kind of task has one.

    Args:
        task: task of the run that is judged.
        options: options of the class ``Options``; None means its defaults.
    """

    scores: tuple[Score, ...]
    """Scores of cases or of parts of them, in the order of the table's columns."""
    truths: ClassVar[tuple[Score, ...]] = ()
    """Scores of whole phantoms, which need their ground truth."""
    leading: ClassVar[tuple[str, ...]]
    """Names of the most important scores; the first one ranks the cases."""
    decisive: ClassVar[str | None] = None
    """Name of the score of the verdict, by which references are ranked; None means the first leading one."""
    plotted: ClassVar[tuple[str, ...]]
    """Names of the scores that are plotted subject by subject."""
    reference: ClassVar[str] = INPUT
    """Name of the entry that a trained run must improve on where no stronger one is known."""
    resampled: ClassVar[str] = "subjects"
    """Units over which intervals are computed, in words."""
    image: ClassVar[str] = "slice"
    """Unit of the run times in words, one of which an entry makes at a time."""
    compares_with_training: ClassVar[bool] = False
    """Whether `learn` and `score_all` need the training cases of the runs."""
    most_training_cases: int | None = None
    """Largest number of training cases that are prepared for them; None means all."""

    tuned_together: ClassVar[bool] = False
    """Whether methods without an adversary are compared on whole validation cases, all of them together: the deciding
    score is one of `score_all`, which no single case or excerpt of it has."""

    keeps_images: ClassVar[bool] = False
    """Whether outputs are images of cases, which `images` returns."""

    Options: ClassVar[type[Options]] = Options
    """Options that the judge adds to ``evaluate``."""

    cache: Path | None = None
    """Folder of prepared cases, where a judge may store intermediate results; None stores nothing."""

    def __init__(self, task: Any, options: BaseModel | None = None):
        self.task = task
        self.options: Any = options or self.Options()

    @abstractmethod
    def entry(self, model: Model, name: str) -> Entry:
        """Return a trained run as an entry of the judgement.

        Args:
            model: trained run.
            name: name of the entry.
        """

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the reference entries of every judgement: those before the runs in a table, and those after them."""
        return (), ()

    def classical(self) -> Sequence[Classical]:
        """Return the methods without an adversary that are judged beside every run; called after `learn`."""
        return ()

    def called(self, name: str) -> str:
        """Return the words for an entry in sentences."""
        return f"the {name}" if name in RESERVED else name

    def with_references(self, *entries: Entry) -> list[Entry]:
        """Return the entries with the reference entries before and after them."""
        before, after = self.references()
        return [*before, *entries, *after]

    def learn(self, training: Sequence[Sample]) -> None:  # noqa: B027 - most judges need nothing
        """Learn what the scores need from the training cases of the runs, before any case is scored."""

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry on one case.

        Args:
            entries: entries to score.
            case: prepared case, read slab by slab.
            advance: called after each entry.
        """
        return []

    def score_all(self, entries: Sequence[Entry], cases: Sequence[Sample], training: Sequence[Sample]) -> list[Row]:
        """Score every entry on all cases together, for scores that are not defined for single cases.

        Args:
            entries: entries to score.
            cases: prepared test cases.
            training: prepared training cases of the run.
        """
        return []

    def images(self, entries: Sequence[Entry], case: Sample) -> Mapping[str, Image]:
        """Return the outputs of all entries on a case and what they are compared with, by name, on the working grid."""
        return {}

    @abstractmethod
    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return the headline of the report and the outcome of the main comparison."""

    @abstractmethod
    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add pictures and task-specific figures to the report."""

    @abstractmethod
    def measured(self) -> dict[str, str]:
        """Describe how the scores were measured, for the report's list of facts."""

    @abstractmethod
    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on the limits of the judgement for this task and these cases."""

    def named(self, name: str) -> Score:
        """Return the score of a name."""
        return next(score for score in (*self.scores, *self.truths) if score.name == name)


def deciding_score(judge: Judge) -> Score:
    """Return the score of the verdict, by which references are ranked."""
    return judge.named(judge.decisive or judge.leading[0])


def judge_class(task: Task) -> type[Judge]:
    """Return the class of the judge of a task."""
    found = task.judge
    cls: type[Judge] = attribute(found) if isinstance(found, str) else found
    return cls


def judge_of(task: Task, options: Mapping[str, Any] | None = None) -> Judge:
    """Return the judge of a task.

    Args:
        task: task of the run that is judged.
        options: option of the judge to value.

    Raises:
        UserError: the judge has no such option, or does not accept its value.
    """
    cls = judge_class(task)
    return cls(task, cls.Options.of(options or {}))


def side_by_side(entries: Sequence[Entry], case: Sample, start: int, stop: int) -> dict[str, Volume]:
    """Compute some slices with every entry, (slices, rows, columns), colours averaged; the target comes last."""
    made = {entry.name: entry.run(case, start, stop) for entry in entries}
    found = {name: grey(image.reshape(-1, stop - start, *image.shape[1:])) for name, image in made.items()}
    return {name: found[name] for name in sorted(found, key=lambda name: name == TARGET)}


def middle_slice(case: Sample) -> int:
    """Return the index of the middle slice of a case."""
    return case.shape[0] // 2


def about(model: Model) -> str:
    """Describe a run in one line."""
    return f"{model.facts.system}, trained in {model.folder}" if model.facts else type(model.method).__name__


def blocks(slices: int) -> list[tuple[int, int]]:
    """Divide a number of slices into blocks; returns the first slice and one past the last of each."""
    return [(start, min(start + BLOCK, slices)) for start in range(0, slices, BLOCK)]


def limits(interval: Interval, unit: str = "", *, signed: bool = False) -> str:
    """Format a mean with its unit and the limits of its interval."""
    digits, sign = significant_digits(interval.high - interval.low), "+" if signed else ""
    shown = f"{interval.mean:{sign}.{digits}f} {unit}".rstrip()
    if math.isfinite(interval.low):
        shown += f" ({interval.low:{sign}.{digits}f} to {interval.high:{sign}.{digits}f})"
    return minus(shown)
