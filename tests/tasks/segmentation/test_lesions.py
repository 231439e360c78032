"""Lesions that are detected by segmentation: predictor, table and judge."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest
from levels import SHAPE, Levels, case, volume

from ganatomy.case import slab
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, Judgement, Scores, judge_of
from ganatomy.inference.model import Model
from ganatomy.inference.predictor import predictor_of
from ganatomy.reports.report import Report
from ganatomy.tasks.segmentation.detecting import (
    LEFT_EMPTY,
    LESION_DICE,
    LESION_SENSITIVITY,
    SMOOTHED,
    LesionOptions,
    false_name,
    found_name,
    lesion_numbers,
)
from ganatomy.tasks.segmentation.lesions import LesionConfig, LesionDetector


class Spots(LesionDetector):
    """A detector whose inputs are the probabilities of organ and lesion, in thousandths."""

    criteria = ("iou 0.5", "centre")

    class Config(LesionConfig):
        role_defaults: ClassVar = {"inputs": {"window": (0.0, 1000.0)}}

        inputs: tuple[str, ...] = ("t1", "t2")
        labels: str = "organs"
        regions: Mapping[str, tuple[int, ...]] = {"organ": (1, 2), "lesion": (2,)}

    segment, stages = Levels.segment, Levels.stages

    def __init__(self, **values):
        super().__init__(self.Config.preset("paper", **values))
        self.seen = []


def box(*ranges):
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*one) for one in ranges)] = True
    return mask


ORGAN = box((0, 5), (0, 7), (0, 6)) & ~box((0, 1), (6, 7), (0, 1))
LARGE, SMALL = box((1, 4), (0, 3), (0, 3)), box((4, 5), (5, 7), (5, 6))
TRUTH = ORGAN.astype(np.uint8) + (LARGE | SMALL)


def images(lesions):
    """Return probabilities in thousandths, which are not the same everywhere."""
    return {"t1": 1000.0 * ORGAN, "t2": np.asarray(lesions, float) * 1000 + box((0, 1), (0, 1), (5, 6))}


def applied(lesions, **values):
    return Model(Spots(**values))(**{role: volume(one) for role, one in images(lesions).items()})


def judged(cases, training=(), **values):
    method = Spots(**values)
    judge = judge_of(method.task)
    judge.learn(training)
    entries = judge.with_references(judge.entry(Model(method), OUTPUT))
    rows = [row for one in cases for row in judge.score_case(entries, one)]
    return judge, Judgement(entries, cases, Scores(rows))


def test_every_lesion_is_a_row_with_size_place_and_probability_the_surest_first():
    probability = np.where(LARGE, 0.7, np.where(SMALL, 0.9, 0.1))
    probability[2, 1, 1] = 0.8
    found = applied(probability)
    small, large = found.tables["lesions"]
    assert [row["lesion"] for row in (small, large)] == [1, 2]
    assert (large["voxels"], small["voxels"]) == (27, 2)
    assert large["mm3"] == pytest.approx(27 * 4.5) and (large["slice"], large["row"], large["column"]) == (2, 1, 1)
    assert [small[f"{end}_{axis}"] for axis in ("row", "column") for end in ("first", "last")] == [5, 6, 5, 5]
    assert (large["highest_probability"], large["mean_probability"]) == (
        0.8,
        pytest.approx((26 * 0.7 + 0.8) / 27, abs=1e-4),
    )
    assert applied(0 * probability).tables["lesions"] == []
    assert predictor_of(Spots()).tables[0] == "lesions"


def test_small_components_and_all_but_one_become_background():
    both = LARGE | SMALL
    labels = {
        name: applied(both, **options).outputs["organs"].numpy()[0]
        for name, options in {
            "all": {},
            "small": {"smallest_lesion": 3},
            "share": {"smallest_share": 0.05},  # of 42 pixels
            "largest": {"kept": "largest"},
            "central": {"kept": "central"},
        }.items()
    }
    np.testing.assert_array_equal(labels["all"], TRUTH)
    for name in ("small", "share", "largest", "central"):
        np.testing.assert_array_equal(labels[name] == 2, LARGE, err_msg=name)
    model = Model(Spots(smallest_lesion=3))
    again = predictor_of(model.method, options=LesionOptions(smallest_lesion=0))
    sample = case(model.method.task, **images(both))
    assert (slab(again.predict(sample).arrays["organs"], 0, SHAPE[0]) == 2).sum() == both.sum()


def test_lesions_are_counted_by_every_criterion():
    shifted = np.roll(LARGE, 1, 1)
    scores = lesion_numbers(shifted, LARGE | SMALL, ("iou 0.5", "centre"))
    assert scores[found_name("iou 0.5")] == scores[found_name("centre")] == 0.5
    assert scores[false_name("iou 0.5")] == 0 and scores["iou 0.5: true"] == 2
    assert scores[LESION_DICE] == pytest.approx(2 * 18 / (27 + 29))
    assert scores[LESION_SENSITIVITY] == pytest.approx(18 / 29) and LEFT_EMPTY not in scores
    nothing = lesion_numbers(LARGE, LARGE & False, ("centre",))
    assert nothing[LEFT_EMPTY] == 0 and nothing[false_name("centre")] == 1 and found_name("centre") not in nothing
    assert lesion_numbers(LARGE & False, LARGE & False, ())[LEFT_EMPTY] == 1


def test_the_judge_tells_lesions_apart_and_pools_all_cases():
    task = Spots().task
    cases = [
        case(task, "both", **images(LARGE | SMALL), organs=TRUTH),
        case(task, "one", **images(LARGE), organs=TRUTH),
        case(task, "alarm", **images(SMALL), organs=ORGAN.astype(np.uint8)),
        case(task, "free", **images(0 * LARGE), organs=ORGAN.astype(np.uint8)),
    ]
    judge, judgement = judged(cases)
    values = {name: judgement.scores.by_case(OUTPUT, name) for name in (LESION_DICE, LEFT_EMPTY, found_name("centre"))}
    assert values[LESION_DICE] == {"both": 1, "one": pytest.approx(54 / 56)}
    assert values[LEFT_EMPTY] == {"alarm": 0, "free": 1} and values[found_name("centre")] == {"both": 1, "one": 0.5}
    told, _ = judge.verdict(judgement)
    assert told.endswith("It finds 3 of 4 lesions (iou 0.5), with 0.25 false positives per case.")
    report = Report("t", "s")
    judge.illustrate(report, judgement)
    text = report.html()
    assert "3 of 4" in text and "2 of 2" in text and "0.50 ± 0.50" in text
    assert judge.measured()["Criteria"].startswith("iou 0.5: its IoU with")


def test_cases_of_several_classes_are_counted_apart():
    from dataclasses import replace

    task = Spots().task
    cases = [case(task, name, **images(LARGE), organs=TRUTH) for name in ("a", "b")]
    cases = [
        replace(one, case=replace(one.case, label=label)) for one, label in zip(cases, ("dark", "pale"), strict=True)
    ]
    judge, judgement = judged(cases)
    rows = list(judge._counts_of(judgement, OUTPUT))
    assert [row[:3] for row in rows] == [
        [name, criterion, counts]
        for name, counts in ((OUTPUT, "2 of 4"), (f"{OUTPUT}, dark", "1 of 2"), (f"{OUTPUT}, pale", "1 of 2"))
        for criterion in ("iou 0.5", "centre")
    ]


def test_without_a_lesion_in_any_case_nothing_is_decided():
    task = Spots().task
    judge, judgement = judged([case(task, **images(0 * LARGE), organs=ORGAN.astype(np.uint8))])
    assert judge.verdict(judgement) == (
        "No test case has a lesion, so that only false alarms can be counted.",
        "undecided",
    )


def test_the_threshold_of_smoothed_inputs_suppresses_noise():
    task, rng = Spots().task, np.random.default_rng(3)
    bright = box((0, 5), (1, 6), (1, 5))
    truth = ORGAN.astype(np.uint8) + bright

    def noisy(name):
        return case(task, name, t1=1000.0 * ORGAN, t2=500 + 150.0 * bright + rng.normal(0, 120, SHAPE), organs=truth)

    judge, _ = judged([], [noisy(name) for name in "abcd"])
    (method,) = judge.classical()
    assert method.name == SMOOTHED and len(method.settings) == 6
    one = noisy("e")
    dices = [
        lesion_numbers(run(one, 0, SHAPE[0])[judge.place], bright, ())[LESION_DICE]
        for run in (method.settings[0][1], judge._threshold)
    ]
    assert dices[0] > dices[1] + 0.03
    assert judged([])[0].classical() == []


def test_the_region_of_lesions_must_be_there():
    with pytest.raises(UserError, match=r"--lesion-region spot: no such region; --regions has organ, lesion"):
        Spots(lesion_region="spot").task  # noqa: B018
    with pytest.raises(UserError, match=r"--lesion-region lesion: no such region; --judged has organ"):
        Spots(judged={"organ": (1, 2)}).task  # noqa: B018
