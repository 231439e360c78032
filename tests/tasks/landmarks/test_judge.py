"""The judge of landmarks: scores of cases, the baseline of mean positions, and the page."""

import numpy as np
import pytest
from spots import Spots, case

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, Judgement, Scores, judge_of
from ganatomy.inference.model import Model
from ganatomy.reports.report import Report
from ganatomy.tasks.landmarks.judge import MEAN


@pytest.fixture
def judged():
    method = Spots()
    judge = judge_of(method.task)
    training = [case(method.task, "t", there=("top", "middle")), case(method.task, "u")]
    judge.learn(training)
    # In the second case the middle is found two slices, 60 mm, too low, and nearer to the bottom.
    cases = [case(method.task, "a"), case(method.task, "b", shifted={"middle": (2, 3, 1)})]
    entries = judge.with_references(judge.entry(Model(method), OUTPUT))
    rows = [row for one in cases for row in judge.score_case(entries, one)]
    return judge, Judgement(entries, cases, Scores(rows), MEAN)


def test_scores_of_a_case_are_rates_and_distances(judged):
    _, judgement = judged
    rows = {(row.method, row.case): row.scores for row in judgement.scores.rows}
    assert rows[OUTPUT, "a"]["identification rate"] == 1 and rows[OUTPUT, "a"]["error"] == 0
    missed = rows[OUTPUT, "b"]
    assert missed["identification rate"] == pytest.approx(2 / 3) and missed["error"] == pytest.approx(20)
    assert missed["identification rate upper"] == 0.5


def test_the_baseline_puts_landmarks_where_they_are_on_average(judged):
    judge, judgement = judged
    found = np.asarray(judge.mean).reshape(3, 4)
    assert found[:, 3].tolist() == [1, 1, 1] and found[1].tolist() == [4, 3, 1, 1]
    assert judgement.scores.mean(MEAN, "identification rate") == 1


def test_without_training_cases_there_is_no_baseline():
    method = Spots()
    judge = judge_of(method.task)
    judge.learn([])
    entries = judge.with_references(judge.entry(Model(method), OUTPUT))
    assert {row.method for row in judge.score_case(entries, case(method.task))} == {OUTPUT}


def test_the_page_tells_rates_distances_and_the_rule(judged):
    judge, judgement = judged
    words, outcome = judge.verdict(judgement)
    assert words.startswith("The output identifies") and "mm" in words and outcome in ("worse", "undecided")
    report = Report("Landmarks")
    judge.illustrate(report, judgement)
    report.measured(judge.measured()).caveats(judge.caveats(judgement))
    page = report.html()
    assert "Worst of 2 cases by identification rate: b" in page and "closer than 20 mm" in page
    assert "names are shifted" in page and page.count("<img") >= 2


def test_cases_without_landmarks_and_runs_of_others_are_refused():
    method = Spots()
    judge = judge_of(method.task)
    with pytest.raises(UserError, match="but top, middle, bottom are judged"):
        judge.entry(Model(Spots(names=("left",), parts={})), OUTPUT)
    bare = case(method.task)
    bare = type(bare)(bare.case, {"mr": bare.arrays["mr"]}, bare.affines, bare.roles)
    with pytest.raises(UserError, match="a: no spots to compare with"):
        judge.score_case([], bare)
