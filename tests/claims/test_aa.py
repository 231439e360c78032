"""Verdicts on real equal arms: runs of one system that differ in their seeds only, recorded by scripts/aa_runs.py."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from ganatomy.metrics.statistics import contrast

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("aa_runs", ROOT / "scripts" / "aa_runs.py")
assert _spec and _spec.loader
aa_runs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(aa_runs)

RECORDED = json.loads(aa_runs.RESULT.read_text(encoding="utf-8"))
TABLES = [(slug, score) for slug, scores in RECORDED.items() for score in scores]
FEW = 80
"""Number of pairs that are tried here, of those that the page counts."""


def test_there_are_several_kinds_of_task_and_enough_runs() -> None:
    assert len(RECORDED) >= 4
    assert all(len(table) >= 10 for scores in RECORDED.values() for table in scores.values())


@pytest.mark.parametrize(("slug", "score"), TABLES)
def test_too_few_runs_decide_nothing(slug: str, score: str) -> None:
    table = np.array(RECORDED[slug][score])
    assert aa_runs.decided(table, 1, 10) == aa_runs.decided(table, 2, 10) == 0


def test_equal_arms_of_three_runs_are_called_different_in_at_most_a_tenth() -> None:
    """Over all systems and scores; pairs of one table share runs, so that a single table may exceed it by chance."""
    shares = [aa_runs.decided(np.array(RECORDED[slug][score]), 3, FEW) for slug, score in TABLES]
    assert np.mean(shares) <= 0.1


def test_single_runs_would_have_been_called_different() -> None:
    """The rule that takes runs for granted, a bootstrap over subjects alone, is what this guards against."""
    assert np.mean([aa_runs.apart(np.array(RECORDED[slug][score])) for slug, score in TABLES]) > 0.25


def test_arms_that_differ_are_counted() -> None:
    """Six runs, three of which are far from the others: one of ten ways to deal them tells them apart for certain."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.1, (6, 8)) + np.array([[0.0], [0], [0], [50], [50], [50]])
    assert contrast(scores[:3], scores[3:]).outcome in ("better", "worse")
    assert aa_runs.decided(scores, 3, 400) == pytest.approx(0.1)
    assert aa_runs.apart(scores) >= 9 / 15


def test_the_table_of_the_page_is_printed_by_the_script() -> None:
    """Of one system, for the counts take seconds."""
    lines = (ROOT / "docs" / "results" / "aa.md").read_text(encoding="utf-8").splitlines()
    head, rule, *rows = aa_runs.table({"gan": RECORDED["gan"]}).splitlines()
    place = lines.index(head)
    assert lines[place + 1] == rule and rows == [line for line in lines if line.startswith("| gan |")]
    assert len([line for line in lines[place + 2 :] if line.startswith("|")]) == len(TABLES)
