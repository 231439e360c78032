import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from made import Rods

from ganatomy import phantoms
from ganatomy.case import Case
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, Judgement, Scores, judge_of
from ganatomy.evaluation.sets import REAL
from ganatomy.inference.predictor import predictor_of
from ganatomy.reports.report import Report
from ganatomy.tasks.geometry.judge import (
    COPIES,
    COVERAGE,
    CROSSING,
    KERNEL,
    LENGTH_ERROR,
    SHAPE,
    SHAPE_MODEL,
    TOLD,
    GeometryJudge,
    VesselRequest,
    VesselSet,
    halves,
    sampler,
    vessels,
)
from ganatomy.tasks.geometry.task import VESSEL

FIRST_TEST = 60


def samples(task, seeds):
    found = []
    for seed in seeds:
        case = Case(f"case{seed:03d}", f"patient{seed // 10}", "test", {})
        found.append(
            task.simulate(
                task.frame({VESSEL: phantoms.part(phantoms.make("coronary-centrelines", seed), "vessel")}, case), 0
            )
        )
    return found


@pytest.fixture(scope="module")
def judged():
    """A judge that has compared rods with real vessels, and its inputs."""
    method = Rods(Rods.Config(condition="length", step_mm=4.0)).eval()
    judge = judge_of(method.task)
    training, cases = samples(method.task, range(FIRST_TEST)), samples(method.task, range(FIRST_TEST, FIRST_TEST + 60))
    judge.learn(training)
    entries = judge.with_references(sampler(predictor_of(method), OUTPUT))
    return judge, Judgement(entries, cases, Scores(judge.score_all(entries, cases, training)))


def mean(judgement, name, score):
    return judgement.scores.interval(name, score).mean


def test_halves_share_no_patient():
    pool = VesselSet(np.zeros((11, 4, 8), np.float32), tuple("aaaabbbbbcc"))
    first, second = halves(pool, np.random.default_rng(2), 100)
    assert len(first) == len(second) >= 4 and not set(first.subjects) & set(second.subjects)
    few = halves(pool, np.random.default_rng(2), 3)
    assert [len(one) for one in few] == [3, 3]
    alone = halves(VesselSet(pool.signals, ("a",) * 11), np.random.default_rng(2), 100)
    assert [len(one) for one in alone] == [5, 5]


def test_vessels_are_thinned_by_the_seed():
    task = Rods().task
    some = vessels(samples(task, range(5)), 3)
    assert some.signals.shape == (3, 4, 64) and len(set(some.subjects)) == 1
    assert len(vessels([], 3)) == 0


def test_everybody_is_judged_by_every_score(judged):
    judge, judgement = judged
    assert isinstance(judge, GeometryJudge) and judge.leading[0] == SHAPE
    assert judgement.scores.methods == [SHAPE_MODEL, OUTPUT, REAL]
    names = {score.name for score in judge.scores}
    assert LENGTH_ERROR in names
    for name in judgement.scores.methods:
        rows = [row for row in judgement.scores.rows if row.method == name]
        assert len(rows) == 5 and all(names <= set(row.scores) for row in rows), name
        assert all(np.isfinite(value) for row in rows for value in row.scores.values())


def test_real_vessels_are_nearest_then_the_shape_model_then_rods(judged):
    _, judgement = judged
    for score in (SHAPE, KERNEL, TOLD):
        real, model, rods = (mean(judgement, name, score) for name in (REAL, SHAPE_MODEL, OUTPUT))
        assert real < rods and model < rods, score
    assert mean(judgement, REAL, SHAPE) < mean(judgement, SHAPE_MODEL, SHAPE)
    assert mean(judgement, REAL, COVERAGE) > mean(judgement, SHAPE_MODEL, COVERAGE) > mean(judgement, OUTPUT, COVERAGE)
    assert mean(judgement, REAL, COPIES) < 0.15 and mean(judgement, OUTPUT, CROSSING) == 0


def test_who_listens_makes_what_was_asked_for(judged):
    judge, judgement = judged
    assert mean(judgement, OUTPUT, LENGTH_ERROR) < 0.03, "a step at most"
    assert mean(judgement, REAL, LENGTH_ERROR) > 0.2 < mean(judgement, SHAPE_MODEL, LENGTH_ERROR)
    words, outcome = judge.verdict(judgement)
    assert outcome == "worse" and "off what was asked for" in words and "standard deviations" in words


def test_copies_and_repetitions_are_seen():
    method = Rods(Rods.Config(step_mm=4.0)).eval()
    judge = judge_of(method.task)
    training, cases = samples(method.task, range(40)), samples(method.task, range(FIRST_TEST, FIRST_TEST + 60))
    judge.learn(training)
    copier = sampler(predictor_of(method), OUTPUT)

    def copies(wanted):
        return judge.known.take(np.arange(wanted.count))

    def repeats(wanted):
        return VesselSet(
            judge.known.signals[:1].repeat(wanted.count, axis=0) * np.linspace(1, 1.001, wanted.count)[:, None, None]
        )

    for run, told in ((copies, "look copied"), (repeats, "collapsed")):
        entries = judge.with_references(replace(copier, run=run))
        judgement = Judgement(entries, cases, Scores(judge.score_all(entries, cases, training)))
        assert all(LENGTH_ERROR not in row.scores for row in judgement.scores.rows), "nobody was asked for a length"
        words, outcome = judge.verdict(judgement)
        assert told in words and outcome == "worse"
        assert any(told in point for point in judge.caveats(judgement))


def test_too_few_vessels_are_refused():
    task = Rods().task
    with pytest.raises(UserError, match="3 test vessels cannot be halved"):
        judge_of(task).score_all([], samples(task, range(3)), [])


def test_four_vessels_can_be_judged():
    task = Rods(Rods.Config(step_mm=4.0)).task
    judge = judge_of(task)
    training = samples(task, range(3))
    judge.learn(training)
    rows = judge.score_all(judge.with_references(), samples(task, range(FIRST_TEST, FIRST_TEST + 4)), training)
    assert all(np.isfinite(value) for row in rows for value in row.scores.values())


def test_without_training_vessels_the_other_half_teaches_the_shape_model():
    task = Rods(Rods.Config(step_mm=4.0)).task
    judge = judge_of(task)
    judge.learn([])
    cases = samples(task, range(40))
    rows = judge.score_all(judge.with_references(), cases, [])
    assert {row.method for row in rows} == {SHAPE_MODEL, REAL} and COPIES not in rows[0].scores
    wanted = VesselRequest(7, 0, np.ones(7), vessels(cases, 20))
    assert len(judge.references()[0][0].run(wanted)) == 7


def test_the_report_shows_vessels(judged, tmp_path):
    judge, judgement = judged
    report = Report("vessels")
    judge.illustrate(report, judgement)
    assert (report.save(tmp_path / "report.html") or tmp_path / "report.html").stat().st_size > 100_000
    text = (tmp_path / "report.html").read_text()
    assert text.count("<figure") == 6 and "lengths that were asked for" in text
    assert judge.measured()["Numbers"].startswith("5 resamplings, each of 30 real")
