"""Means and paired differences of the arms of a study, over subjects crossed with seeds."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ganatomy.evaluation.arms import ArmScores
from ganatomy.evaluation.evaluate import plain
from ganatomy.evaluation.judging import Judge, Score, limits
from ganatomy.images.atomic import write_atomically
from ganatomy.metrics.statistics import (
    FEWEST_RUNS,
    Interval,
    RunsOutcome,
    contrast,
    crossed_interval,
    difference_interval,
)
from ganatomy.training.arms import Arm


@dataclass(frozen=True)
class Difference:
    """Difference of two arms in a score, paired by subject.

    Attributes:
        score: score that is compared.
        arm: name of the arm.
        reference: name of the arm that it is compared with.
        interval: mean of arm minus reference, with its 95 % interval.
        outcome: whether the arm is better or worse; None for a score without a better direction.
    """

    score: Score
    arm: str
    reference: str
    interval: Interval
    outcome: RunsOutcome | None

    @property
    def words(self) -> str:
        """Difference as a sentence."""
        amount = limits(self.interval, self.score.unit, signed=True)
        if self.outcome in ("better", "worse"):
            return f"{self.arm} is {self.outcome} than {self.reference} in {self.score.name}, by {amount}."
        few = self.interval.few
        told = {
            None: "",
            "undecided": f". {few.rstrip('.')}" if few else " and the two cannot be told apart",
            "not run enough": f", which is not run enough for a verdict: that needs at least {FEWEST_RUNS} seeds",
        }[self.outcome]
        return f"{self.score.name} of {self.arm} differs from that of {self.reference} by {amount}{told}."


@dataclass(frozen=True)
class Comparison:
    """Means and differences of all arms of a study.

    Attributes:
        scores: scores that at least one arm has.
        means: name of a score to name of an arm or baseline to its mean.
        differences: differences between arms, for every score.
        values: name of a score to name of an arm or baseline to subject to one value per seed.
    """

    scores: Sequence[Score]
    means: Mapping[str, Mapping[str, Interval]]
    differences: Sequence[Difference]
    values: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]

    def of_score(self, name: str) -> list[Difference]:
        """Return the differences in one score."""
        return [found for found in self.differences if found.score.name == name]


def pairs_of(arms: Sequence[Arm]) -> list[tuple[str, str]]:
    """Return pairs of arms to compare: each arm with the first one, and with the first one of its label fraction."""
    leaders: dict[float | None, str] = {}
    for arm in arms:
        leaders.setdefault(arm.label_fraction, arm.name)
    first = [(arm.name, arms[0].name) for arm in arms[1:]]
    alike = [(arm.name, leaders[arm.label_fraction]) for arm in arms if arm.name != leaders[arm.label_fraction]]
    return list(dict.fromkeys([*first, *alike]))


def compare_arms(judge: Judge, scores: ArmScores, arms: Sequence[Arm], simple: str | None = None) -> Comparison:
    """Compute means of all arms and baselines, and differences between arms, for every score.

    Args:
        judge: judge of the task, which defines the scores.
        scores: scores of all arms and seeds.
        arms: arms of the study; the others are compared with the first one.
        simple: name of the strongest simple method, which the first arm is compared with; None for no such comparison.
    """
    names = [arm.name for arm in arms]
    others = [method for method in scores.scores.methods if not method.startswith(tuple(f"{arm}#" for arm in names))]
    tables = {
        score.name: {name: scores.table(name, score.name) for name in (*others, *names)}
        for score in (*judge.scores, *judge.truths)
    }
    tables = {
        score: {name: table for name, table in found.items() if np.isfinite(table).any()}
        for score, found in tables.items()
    }
    known = [score for score in (*judge.scores, *judge.truths) if any(name in tables[score.name] for name in names)]
    differences = [
        difference_of(score, arm, reference, tables[score.name])
        for score in known
        for arm, reference in [*pairs_of(arms), *([(arms[0].name, simple)] if simple else [])]
        if arm in tables[score.name] and reference in tables[score.name]
    ]
    means = {one.name: {name: crossed_interval(table) for name, table in tables[one.name].items()} for one in known}
    values = {
        one.name: {
            name: dict(zip(scores.subjects, table.T.tolist(), strict=True)) for name, table in tables[one.name].items()
        }
        for one in known
    }
    return Comparison(known, means, differences, values)


def difference_of(score: Score, arm: str, reference: str, tables: Mapping[str, Any]) -> Difference:
    """Compute the difference of two arms in a score.

    Args:
        score: score that is compared.
        arm: name of the arm.
        reference: name of the arm that it is compared with.
        tables: name of an arm to its values, (seeds, subjects).
    """
    if score.better is None:
        return Difference(score, arm, reference, difference_interval(tables[arm], tables[reference]), None)
    found = contrast(tables[arm], tables[reference], better=score.better)
    return Difference(score, arm, reference, found.difference, found.outcome)


def tabulated(found: Comparison) -> dict[str, Any]:
    """Return means, differences and values as values that JSON can hold, for results.json."""
    return {
        score.name: {
            "unit": score.unit,
            "better": score.better,
            "what": score.note,
            "means": {name: asdict(interval) for name, interval in found.means[score.name].items()},
            "differences": [
                {"arm": one.arm, "reference": one.reference, "outcome": one.outcome, **asdict(one.interval)}
                for one in found.of_score(score.name)
            ],
            "values": plain(found.values[score.name]),
        }
        for score in found.scores
    }


COLUMNS = ("arm", "system", "label_fraction", "score", "unit", "better", "mean", "low", "high", "subjects")
AGAINST = ("reference", "difference", "difference_low", "difference_high", "outcome")


def write_table(path: Path, found: Comparison, arms: Sequence[Arm]) -> None:
    """Write table.csv: a line for every score, arm or baseline, and arm that it is compared with."""
    by_name = {arm.name: arm for arm in arms}

    def write(work: Path) -> None:
        with work.open("w", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream)
            lines.writerow([*COLUMNS, *AGAINST])
            for score in found.scores:
                for name, mean in found.means[score.name].items():
                    arm = by_name.get(name)
                    told = [arm.system.slug, arm.label_fraction or 1] if arm else ["", ""]
                    limit = [_cell(value) for value in (mean.mean, mean.low, mean.high)]
                    begun = [name, *told, score.name, score.unit, score.better or "", *limit, mean.n]
                    compared = [one for one in found.of_score(score.name) if one.arm == name]
                    for one in compared:
                        own = [_cell(value) for value in (one.interval.mean, one.interval.low, one.interval.high)]
                        lines.writerow([*begun, one.reference, *own, one.outcome or ""])
                    if not compared:
                        lines.writerow([*begun, *[""] * len(AGAINST)])

    write_atomically(path, write)


def _cell(value: float) -> str:
    return f"{value:.6g}" if np.isfinite(value) else ""
