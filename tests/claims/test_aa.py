"""Verdicts on real equal arms: runs of one system that differ in their seeds only, recorded by scripts/aa_runs.py."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from ganatomy.metrics.statistics import contrast

RECORDED = json.loads((Path(__file__).parents[1] / "fixtures" / "aa.json").read_text(encoding="utf-8"))
TABLES = [(slug, score) for slug, scores in RECORDED.items() for score in scores]


def decided(table: np.ndarray, runs: int, most: int = 80) -> float:
    """Return the share of pairs of arms, of some runs each and none in both, that are called different."""
    numbers = range(len(table))
    pairs = [
        (first, second)
        for first in combinations(numbers, runs)
        for second in combinations([number for number in numbers if number not in first], runs)
        if first < second
    ]
    chosen = np.random.default_rng(0).permutation(len(pairs))[:most]
    outcomes = [contrast(table[list(pairs[i][0])], table[list(pairs[i][1])]).outcome for i in chosen]
    return sum(outcome in ("better", "worse") for outcome in outcomes) / len(outcomes)


def test_there_are_several_kinds_of_task_and_enough_runs() -> None:
    assert len(RECORDED) >= 4
    assert all(len(table) >= 10 for scores in RECORDED.values() for table in scores.values())


@pytest.mark.parametrize(("slug", "score"), TABLES)
def test_too_few_runs_decide_nothing(slug: str, score: str) -> None:
    table = np.array(RECORDED[slug][score])
    assert decided(table, 1, 10) == decided(table, 2, 10) == 0


def test_equal_arms_of_three_runs_are_called_different_in_at_most_a_tenth() -> None:
    """Over all systems and scores; pairs of one table share runs, so that a single table may exceed it by chance."""
    shares = [decided(np.array(RECORDED[slug][score]), 3) for slug, score in TABLES]
    assert np.mean(shares) <= 0.1


def test_single_runs_would_have_been_called_different() -> None:
    """The rule that takes runs for granted, a bootstrap over subjects alone, is what this guards against."""
    found = []
    for slug, score in TABLES:
        table = np.array(RECORDED[slug][score])
        for first, second in combinations(range(len(table)), 2):
            interval = contrast(table[[first]], table[[second]]).over_subjects
            found.append(interval.low > 0 or interval.high < 0)
    assert np.mean(found) > 0.25
