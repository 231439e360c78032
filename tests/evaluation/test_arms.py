"""Tables and figures of arms, on made-up scores."""

from types import SimpleNamespace

import numpy as np
import pytest

from ganatomy.evaluation.arms import ArmScores, add_arms, label, of_one_seed
from ganatomy.evaluation.judging import INPUT, OUTPUT, Entry, Row, Score, Scores
from ganatomy.metrics.statistics import Interval
from ganatomy.reports.report import Report

SCORE = Score("psnr", "higher", "dB")


def scored(**tables):
    """Scores of arms with these tables (seeds, subjects), whose subjects are called a, b and c."""
    return Scores([
        Row(f"case {subject}", subject, (0, 1), name if name == INPUT else label(name, seed), {"psnr": value})
        for name, table in tables.items()
        for seed, line in enumerate(table)
        for subject, value in zip("abc", line, strict=True)
    ])  # fmt: skip


def test_a_table_holds_seeds_by_subjects_and_references_count_for_every_seed():
    scores = ArmScores(scored(plain=[[1, 2, 3], [4, 5, 7]], input=[[7, 8, 9]]), (0, 1))
    np.testing.assert_array_equal(scores.table("plain", "psnr"), [[1, 2, 3], [4, 5, 7]])
    np.testing.assert_array_equal(scores.table(INPUT, "psnr"), [[7, 8, 9], [7, 8, 9]])
    assert scores.by_subject("plain", "psnr") == {"a": 2.5, "b": 3.5, "c": 5.0}


def test_a_report_shows_the_means_of_all_arms_and_a_plot_of_each_score():
    page = Report("arms")
    judge = SimpleNamespace(named=lambda name: SCORE, resampled="subjects")
    scores = ArmScores(scored(plain=[[1, 2, 3], [3, 4, 5]], other=[[5, 6, 7], [6, 7, 8]]), (0, 1))
    seen = []

    def interval(table):
        seen.append(table.tolist())
        return Interval(float(table.mean()), 0.5, 9.5, table.shape[1])

    add_arms(page, judge, scores, ["plain", "other"], ["psnr"], interval)
    html = page.html()
    assert seen == [[[1, 2, 3], [3, 4, 5]], [[5, 6, 7], [6, 7, 8]]]
    assert "95 % intervals over subjects and seeds" in html and "dB" in html
    assert html.index("plain") < html.index("other")
    assert "psnr, one line per subject, averaged over the seeds." in html


def test_one_seed_is_shown_with_the_first_arm_as_the_output():
    scores = scored(plain=[[1, 2, 3], [3, 4, 5]], other=[[5, 6, 7], [6, 7, 8]], input=[[0, 0, 1]])
    entries = [Entry(name, None, None) for name in ("plain#0", "plain#1", "other#0", "other#1", INPUT)]
    found = of_one_seed(["plain", "other"], 1, entries, [], scores.rows)
    assert [one.name for one in found.entries] == [OUTPUT, "other", INPUT]
    assert found.scores.by_subject(OUTPUT, "psnr") == pytest.approx({"a": 3, "b": 4, "c": 5})
    assert found.scores.by_subject("other", "psnr") == pytest.approx({"a": 6, "b": 7, "c": 8})
