"""The judge of classes: scores of cases and of all together, references, and the page."""

import numpy as np
import pytest
from shades import SLICED, Shades, case

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, Judgement, Scores, judge_of
from ganatomy.evaluation.references import choose, tune
from ganatomy.inference.model import Model
from ganatomy.metrics.statistics import bootstrap_mean
from ganatomy.reports.report import Report
from ganatomy.tasks.classification.judge import FREQUENCIES, LINEAR, per_case
from ganatomy.tasks.classification.linear import LogisticRegression, PixelModel

LEVELS = [10, 20, 30, 70, 40, 90, 80, 35, 60]
LABELS = ["dark", "dark", "dark", "dark", "dark", "bright", "bright", "bright", None]


def cases_of(task, prefix, levels=LEVELS, labels=LABELS):
    return [
        case(task, [one] * 5, label, name=f"{prefix}{at}", subject=f"{prefix}{at // 2}")
        for at, (one, label) in enumerate(zip(levels, labels, strict=True))
    ]


@pytest.fixture
def judged():
    method = Shades()
    judge = judge_of(method.task)
    judge.learn(cases_of(method.task, "t"))
    validation, cases = cases_of(method.task, "v")[:-1], cases_of(method.task, "c")[:-1]
    tuned = tune(judge, judge.classical(), judge.references()[0], validation)
    entries = judge.with_references(judge.entry(Model(method), OUTPUT), *tuned.entries)
    rows = [row for one in cases for row in judge.score_case(entries, one)] + judge.score_all(entries, cases, [])
    scores = Scores(rows)
    reference = choose(judge, tuned, [FREQUENCIES, LINEAR], scores)
    return judge, Judgement(entries, cases, scores, reference.name), tuned


def test_scores_are_those_of_all_cases_together_with_subjects_as_units(judged):
    judge, judgement, _ = judged
    # Called bright: 70 of the dark ones, and 90 and 80 of the bright ones.
    found = {score.name: judgement.scores.interval(OUTPUT, score.name) for score in judge.scores}
    assert found["sensitivity"].mean == pytest.approx(2 / 3) and found["specificity"].mean == pytest.approx(4 / 5)
    assert found["balanced accuracy"].mean == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found["AUC"].mean == pytest.approx(13 / 15)
    assert found["AUC"].n == 4, "two cases of a subject count together"
    assert found["balanced accuracy"].low < found["balanced accuracy"].mean < found["balanced accuracy"].high
    first = next(row for row in judgement.scores.rows if row.method == OUTPUT and "Brier score" in row.scores)
    certain = first.scores["probability of the truth"]
    assert first.scores["Brier score"] == pytest.approx(2 * (1 - certain) ** 2)


def test_frequencies_tell_nothing_and_the_linear_model_is_the_reference(judged):
    _, judgement, tuned = judged
    assert judgement.reference == LINEAR and tuned.subjects == 4
    assert judgement.scores.mean(FREQUENCIES, "balanced accuracy") == pytest.approx(0.5)
    assert judgement.scores.mean(FREQUENCIES, "AUC") == pytest.approx(0.5)
    truth = judgement.scores.by_case(FREQUENCIES, "probability of the truth")
    assert truth["c0"] == pytest.approx(5 / 8) and truth["c7"] == pytest.approx(3 / 8)
    assert "the best of 6 settings on validation cases" in next(e.about for e in tuned.entries if e.name == LINEAR)
    # Trained on equal levels, it can do what the system does.
    assert judgement.scores.mean(LINEAR, "AUC") == pytest.approx(13 / 15)


def test_a_case_without_a_class_is_left_out(judged):
    judge, judgement, _ = judged
    with pytest.raises(UserError, match="c8: no label to compare with"):
        judge.score_case(judgement.entries, cases_of(judge.task, "c")[-1])


def test_the_page_shows_the_worst_first_curves_calibration_and_confusion(judged):
    judge, judgement, _ = judged
    words, outcome = judge.verdict(judgement)
    assert (
        words.startswith("The output classifies cases about as well as logistic regression") and outcome == "undecided"
    )
    report = Report("a")
    judge.illustrate(report, judgement)
    html = report.html()
    for told in ("the lowest first", "DeLong", "2 of 3 (0.667", "4 of 5 (0.800", "Confusion of output, cases",
                 "expected calibration error", "called bright"):  # fmt: skip
        assert told in html, told
    assert judge._worst(judgement.entries[1], judgement.cases)[0].title.startswith("c3, slice 3\ndark 0.3")
    assert any("only 3 cases of the class bright" in one for one in judge.caveats(judgement))
    assert judge.measured()["Classes"] == "dark, bright, of every case"


def test_slices_and_cases_of_stacks_are_scored():
    method = Shades(**SLICED, end="basal")
    judge = judge_of(method.task)
    words = [["basal", "middle", "middle", "middle", "apical"], ["middle", "middle", "middle", "middle", "apical"]]
    whole = case(method.task, [90, 20, 20, 60, 20], words=words[0], name="w")
    short = case(method.task, [60, 20, 20, 20, 20], words=words[1], name="s")
    judge.learn([whole, short])
    entries = judge.with_references(judge.entry(Model(method), OUTPUT))
    rows = [row for one in (whole, short) for row in judge.score_case(entries, one)]
    scores = Scores(rows + judge.score_all(entries, [whole, short], []))
    assert scores.mean(OUTPUT, "sensitivity") == pytest.approx(1)
    assert scores.mean(OUTPUT, "specificity") == pytest.approx(7 / 9)
    assert scores.mean(OUTPUT, "complete found") == pytest.approx(1)
    assert scores.mean(OUTPUT, "no basal slice found") == pytest.approx(0)
    assert scores.mean(OUTPUT, "balanced accuracy of cases") == pytest.approx(0.5)
    assert scores.mean(OUTPUT, "AUC of cases") == pytest.approx(1)
    report = Report("a")
    judgement = Judgement(entries, [whole, short], scores, FREQUENCIES)
    judge.illustrate(report, judgement)
    assert "Confusion of output, whole cases" in report.html() and "true no basal slice" in report.html()


def test_three_classes_have_areas_of_their_own():
    method = Shades(classes=("a", "b", "c"))
    judge = judge_of(method.task)
    cases = [
        case(method.task, [one] * 5, label, name=f"{label}{one}")
        for label, one in zip("abcabc", range(0, 90, 15), strict=True)
    ]
    judge.learn(cases)
    entries = judge.with_references(judge.entry(Model(method), OUTPUT))
    rows = [row for one in cases for row in judge.score_case(entries, one)] + judge.score_all(entries, cases, [])
    judgement = Judgement(entries, cases, Scores(rows), FREQUENCIES)
    assert {"balanced accuracy", "AUC"} <= {name for row in rows for name in row.scores} and len(judge.scores) == 4
    report = Report("a")
    judge.illustrate(report, judgement)
    assert "called c" in report.html()


def test_runs_of_other_classes_are_refused():
    judge = judge_of(Shades().task)
    with pytest.raises(UserError, match="finds a, b, c, but dark, bright are judged"):
        judge.entry(Model(Shades(classes=("a", "b", "c"))), OUTPUT)


def test_values_of_cases_average_to_those_of_all():
    values, number = np.array([1.0, 0, 0, 4, 2, 7]), np.array([0, 0, 1, 2, 3, 3])
    found = per_case(values, number, ["p", "p", "q", "r"])
    interval = bootstrap_mean(list(found.values()), ["p", "p", "q", "r"])
    assert interval.mean == pytest.approx(values.mean()) and interval.n == 3


def test_logistic_regression_has_the_slope_of_the_likelihood():
    rng = np.random.default_rng(3)
    features = np.concatenate([rng.normal(size=(3000, 1)), np.ones((3000, 1))], axis=1)
    truth = (rng.random(3000) < 1 / (1 + np.exp(-(0.5 + 2 * features[:, 0])))).astype(np.int64)
    model = LogisticRegression.fit(features, truth, 2, 0.01)
    slope = (model.weights[:, 1] - model.weights[:, 0]) / np.r_[model.scale, 1]
    assert slope[0] == pytest.approx(2, rel=0.1) and slope[1] == 0, "a constant feature has no weight"
    assert np.abs(model.probabilities(features)[:, 1].mean() - truth.mean()) < 1e-3


def test_a_greater_penalty_pulls_probabilities_to_the_frequencies():
    task = Shades().task
    training = cases_of(task, "t")[:-1]
    free, bound = (PixelModel(task, training, 4, penalty)(training[5]).case[1] for penalty in (0.1, 1000.0))
    assert free > 0.8 and bound == pytest.approx(3 / 8, abs=0.1)
