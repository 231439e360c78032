"""Tables and figures of arms: systems or configurations trained with several seeds, judged on the same subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Sample
from ganatomy.evaluation.judging import OUTPUT, Entry, Judge, Judgement, Row, Scores
from ganatomy.metrics.statistics import Interval
from ganatomy.reports.figures import paired_plot
from ganatomy.reports.report import Cell, Column, Report


class ArmScores:
    """Scores of all arms and seeds on the same subjects.

    Args:
        scores: rows whose methods are named ``arm#seed``; references such as ``input`` count for every seed.
        seeds: seeds of the arms.
    """

    def __init__(self, scores: Scores, seeds: Sequence[int]):
        self.scores, self.seeds = scores, seeds

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects in the order of the rows."""
        return list(dict.fromkeys(row.subject for row in self.scores.rows))

    def table(self, arm: str, score: str) -> NDArray[np.float64]:
        """Return a score as an array (seeds, subjects), NaN where a subject has no such score."""
        known = self.scores.methods
        methods = [label(arm, seed) if label(arm, seed) in known else arm for seed in self.seeds]
        found = [self.scores.by_subject(method, score) for method in methods]
        return np.array([[means.get(subject, np.nan) for subject in self.subjects] for means in found])

    def by_subject(self, arm: str, score: str) -> dict[str, float]:
        """Return the mean of a score over the seeds for each subject."""
        return dict(zip(self.subjects, self.table(arm, score).mean(axis=0).tolist(), strict=True))


def label(arm: str, seed: int) -> str:
    """Return the name of an arm trained with a seed, as in the rows."""
    return f"{arm}#{seed}"


def of_one_seed(
    arms: Sequence[str], seed: int, entries: Sequence[Entry], prepared: Sequence[Sample], rows: Sequence[Row]
) -> Judgement:
    """Return the judgement of a single seed, with the first arm as the output, to illustrate it.

    Args:
        arms: names of the arms in order.
        seed: seed to show.
        entries: entries of all arms and seeds, and the references.
        prepared: judged cases.
        rows: rows of all entries.
    """
    first, *others = arms
    names = {label(first, seed): OUTPUT, **{label(arm, seed): arm for arm in others}}
    runs = tuple(f"{arm}#" for arm in arms)
    names |= {one.name: one.name for one in entries if not one.name.startswith(runs)}
    shown = [replace(one, name=names[one.name]) for one in entries if one.name in names]
    own = [replace(row, method=names[row.method]) for row in rows if row.method in names]
    return Judgement(shown, prepared, Scores(own))


def add_arms(
    page: Report,
    judge: Judge,
    scores: ArmScores,
    arms: Sequence[str],
    wanted: Sequence[str],
    interval: Callable[[NDArray[np.float64]], Interval],
) -> None:
    """Add a table of the means of all arms to a report, and a plot of every score by subject.

    Args:
        page: report.
        judge: judge with the definitions of the scores.
        scores: scores of all arms.
        arms: names of the arms and of the references, in order.
        wanted: names of the scores.
        interval: computes the interval of a table (seeds, subjects).
    """
    columns = [Column("arm"), *[judge.named(name).column for name in wanted]]
    rows: list[list[Cell]] = [[arm, *[interval(scores.table(arm, name)) for name in wanted]] for arm in arms]
    page.table(rows, columns, caption=f"Means with 95 % intervals over {judge.resampled} and seeds.")
    for name in wanted:
        score = judge.named(name)
        found: Mapping[str, Mapping[str, float]] = {arm: scores.by_subject(arm, name) for arm in arms}
        page.figure(
            paired_plot(found, metric=name, unit=score.unit, better=score.better),
            f"{name}, one line per subject, averaged over the seeds.",
        )
