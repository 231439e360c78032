"""The strongest method without an adversary, which a run is compared with in its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ganatomy.case import Array, Sample, slab
from ganatomy.errors import Shortage, UserError
from ganatomy.evaluation.judging import Classical, Entry, Judge, Row, Score, Scores, deciding_score
from ganatomy.images.image import ComputedArray
from ganatomy.metrics.statistics import count

MOST_SUBJECTS, MOST_SLICES = 4, 8
"""Largest number of validation subjects, and of slices of each case, on which methods are compared (our choice)."""


class Reference(NamedTuple):
    """The entry that a run must improve on."""

    name: str
    """Name of the entry."""
    chosen: str
    """How it was chosen, in words."""


class Tuned(NamedTuple):
    """Methods without an adversary, each with the setting that is best on validation cases."""

    entries: list[Entry]
    """Entries of the classical methods, for the tables."""
    rows: list[Row]
    """Scores of all methods without an adversary on the validation cases."""
    subjects: int
    """Number of validation subjects."""


def tune(
    judge: Judge,
    classical: Sequence[Classical],
    others: Sequence[Entry],
    cases: Sequence[Sample],
    advance: Callable[[], None] = lambda: None,
) -> Tuned:
    """Choose the setting of every classical method on validation cases, and score the other methods on them.

    Args:
        judge: judge of the task, which has learned from the training cases.
        classical: methods without training or with few fitted numbers.
        others: further entries without an adversary, such as the unchanged input.
        cases: prepared validation cases; those that cannot be scored are left out.
        advance: called after each case.
    """
    named = {
        (method.name, number): method.entry(f"{method.name} {number}", run, told)
        for method in classical
        for number, (told, run) in enumerate(method.settings)
    }
    rows: list[Row] = []
    used: set[str] = set()
    scored: list[Sample] = []
    for case in cases:
        part = case if judge.tuned_together else excerpt(case)
        try:
            rows += judge.score_case([*others, *named.values()], part)
            used.add(case.case.subject)
            scored.append(part)
        except Shortage:
            raise
        except (UserError, ValueError):
            continue
        finally:
            advance()
    if judge.tuned_together and scored:
        rows += judge.score_all([*others, *named.values()], scored, ())
    scores, ranked = Scores(rows), deciding_score(judge)
    entries = []
    for method in classical:
        choices = [named[method.name, number] for number in range(len(method.settings))]
        best = strongest(scores, [one.name for one in choices], ranked) or choices[len(choices) // 2].name
        chosen = next(one for one in choices if one.name == best)
        found = f", the best of {len(choices)} settings on validation cases" if len(choices) > 1 and used else ""
        told = f"{method.about}; {chosen.about}{found}" if chosen.about else method.about
        entries.append(method.entry(method.name, chosen.run, told))
        rows = [replace(row, method=method.name) if row.method == best else row for row in rows]
    names = {entry.name for entry in (*others, *entries)}
    return Tuned(entries, [row for row in rows if row.method in names], len(used))


def excerpt(case: Sample) -> Sample:
    """Return the middle slices of a case, at most `MOST_SLICES`; the whole case where slices of its roles differ.

    Phantoms become cases without ground truth, which is known for whole phantoms only.
    """
    slices = case.shape[0]
    alone = replace(case, case=replace(case.case, sources={}))
    if slices <= MOST_SLICES or any(array.shape[1] != slices for array in case.arrays.values()):
        return alone
    first = (slices - MOST_SLICES) // 2

    def part(array: Array) -> ComputedArray:
        channels, _, rows, columns = array.shape
        return ComputedArray(
            (channels, MOST_SLICES, rows, columns),
            array.dtype,
            lambda start, stop: slab(array, first + start, first + stop),
        )

    moved = np.eye(4)
    moved[0, 3] = first
    return replace(
        alone,
        arrays={name: part(array) for name, array in case.arrays.items()},
        affines={name: affine @ moved for name, affine in case.affines.items()},
    )


def choose(judge: Judge, tuned: Tuned, names: Sequence[str], judged: Scores) -> Reference:
    """Choose the strongest of several methods without an adversary, before the judged cases are looked at.

    Where no validation case is at hand, the strongest on the judged cases themselves is taken, which favours it.

    Args:
        judge: judge of the task.
        tuned: scores of the methods on validation cases.
        names: names of the methods.
        judged: scores of all entries on the judged cases.
    """
    ranked = deciding_score(judge)
    there = [name for name in names if judged.values(name, ranked.name)[0]]
    if len(there) == 1:
        return Reference(there[0], "")
    if best := strongest(Scores(tuned.rows), there, ranked):
        return Reference(best, f"strongest of {count(len(there), 'method')} by {ranked.name} on validation cases")
    if best := strongest(judged, there, ranked):
        told = f"strongest of {count(len(there), 'method')} by {ranked.name} on the judged cases, which favours it"
        return Reference(best, f"{told}: no validation case is at hand")
    return Reference(judge.reference, "")


def strongest(scores: Scores, names: Sequence[str], score: Score) -> str | None:
    """Return the method whose mean over subjects is best; None where no method has a finite score.

    Args:
        scores: scores of the methods.
        names: names of the methods; of equal ones the first counts.
        score: score by which they are ranked.
    """
    means = {name: scores.mean(name, score.name) for name in names}
    finite = {name: mean for name, mean in means.items() if np.isfinite(mean)}
    if not finite:
        return None
    return (max if score.better == "higher" else min)(finite, key=lambda name: finite[name])
