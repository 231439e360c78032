"""Measures of label maps: their definitions, their tables beside outputs, and how far they are from the truth."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from levels import SHAPE, SPACING, Levels, case, volume

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, Judgement, Scores, judge_of
from ganatomy.inference.model import Model
from ganatomy.inference.predictor import predictor_of
from ganatomy.reports.report import Report
from ganatomy.roles.tables import write_records
from ganatomy.tasks.segmentation.measures import (
    AREA_CUP_TO_DISC,
    EJECTION_FRACTION,
    HEAD_CIRCUMFERENCE,
    VERTICAL_CUP_TO_DISC,
    Measure,
    breadth,
    ejection_fraction,
    height,
)

EJECTED = Measure(
    "ejection fraction",
    ("cup",),
    lambda masks, spacing: np.count_nonzero(masks["cup"]) * math.prod(spacing),
    "Largest volume less the smallest one, divided by the largest",
    "%",
    1,
    lambda volumes: 100 * (max(volumes) - min(volumes)) / max(volumes),
    "cup volume",
    "mm³",
)


class Eyes(Levels):
    """A system that segments disc and cup, and declares measures of them."""

    own = (VERTICAL_CUP_TO_DISC, AREA_CUP_TO_DISC)

    def __init__(self, **values):
        super().__init__(**{"regions": {"disc": (1, 2), "cup": (2,)}, **values})

    @property
    def measures(self):
        return self.own


class Hearts(Eyes):
    own = (EJECTED,)


def box(rows, columns, slices=range(1, 4)):
    mask = np.zeros(SHAPE, bool)
    for at in slices:
        mask[at, slice(*rows), slice(*columns)] = True
    return mask


DISC, CUP = box((1, 6), (0, 5)), box((2, 5), (1, 3))


def of(disc, cup):
    return {"t1": 1000.0 * disc, "t2": 1000.0 * cup}


def judged(method, cases):
    judge = judge_of(method.task)
    entries = judge.with_references(judge.entry(Model(method), OUTPUT))
    rows = [row for one in cases for row in judge.score_case(entries, one)]
    return judge, Judgement(entries, cases, Scores([*rows, *judge.score_all(entries, cases, ())]))


def test_ratios_are_those_of_heights_and_areas_and_means_over_slices():
    masks = {"disc": DISC, "cup": CUP}
    assert VERTICAL_CUP_TO_DISC(masks, SPACING) == pytest.approx(3 / 5)
    assert AREA_CUP_TO_DISC(masks, SPACING) == pytest.approx(6 / 25)
    one = {"disc": DISC, "cup": CUP & (np.arange(SHAPE[0]) == 2)[:, None, None]}
    assert VERTICAL_CUP_TO_DISC(one, SPACING) == pytest.approx(3 / 5 / 3), "no cup in two of three slices with a disc"
    assert math.isnan(VERTICAL_CUP_TO_DISC({"disc": ~DISC & DISC, "cup": CUP}, SPACING))


def test_extents_reach_from_the_first_to_the_last_row_or_column():
    apart = np.zeros((1, 7, 6), bool)
    apart[0, 1, 2] = apart[0, 5, 3] = True
    assert (height(apart), breadth(apart)) == (5, 2)
    assert (height(apart & False), breadth(apart & False)) == (0, 0)


def test_measures_are_a_table_of_every_prediction():
    found = Model(Eyes())(**{role: volume(values) for role, values in of(DISC | CUP, CUP).items()})
    assert found.tables["measures"] == [
        {"measure": "vertical cup-to-disc ratio", "value": 0.6, "unit": ""},
        {"measure": "area cup-to-disc ratio", "value": 0.24, "unit": ""},
    ]
    nothing = Model(Eyes())(**{role: volume(values) for role, values in of(0.3 * DISC, 0.3 * CUP).items()})
    assert [row["value"] for row in nothing.tables["measures"]] == [None, None]
    assert predictor_of(Eyes()).tables == ("volumes", "labels", "measures")
    assert predictor_of(Levels()).tables == ("volumes", "labels")


def test_a_measure_of_regions_that_are_not_judged_is_left_out():
    assert [one.name for one in Eyes().task.measures] == ["vertical cup-to-disc ratio", "area cup-to-disc ratio"]
    assert Eyes(judged={"disc": (1, 2)}).task.measures == ()


def test_the_user_names_measures_for_systems_that_declare_none():
    heads = Levels(inputs=("t1",), regions={"head": (1,)}, measures=("head-circumference",)).task
    assert [one.name for one in heads.measures] == ["head circumference"]
    assert Eyes(measures=()).task.measures == ()
    with pytest.raises(UserError, match="--measures ejection-fraction: is computed from the regions ventricle; there"):
        Levels(measures=("ejection-fraction",)).build_task()
    with pytest.raises(UserError, match="--measures size: no such measure; there are cup-to-disc, cardiothoracic, "):
        Levels(measures=("size",)).build_task()


def test_the_head_circumference_is_that_of_an_ellipse_in_mm():
    rows, columns = np.mgrid[:200, :300]
    turned = np.deg2rad(25)
    along, across = (
        0.3 * (columns - 140) * np.cos(turned) + 0.5 * (rows - 95) * np.sin(turned),
        -0.3 * (columns - 140) * np.sin(turned) + 0.5 * (rows - 95) * np.cos(turned),
    )
    head = (along / 38) ** 2 + (across / 29) ** 2 <= 1
    head[0, :4] = True  # a speck, which does not count
    masks = {"head": np.stack([head & (along > 0), head])}
    angles = np.linspace(0, 2 * np.pi, 10001)
    around = np.hypot(np.diff(38 * np.cos(angles)), np.diff(29 * np.sin(angles))).sum()
    assert HEAD_CIRCUMFERENCE(masks, (2.0, 0.5, 0.3)) == pytest.approx(around, rel=2e-3)
    assert math.isnan(HEAD_CIRCUMFERENCE({"head": np.zeros((1, 4, 5), bool)}, (1.0, 1.0, 1.0)))


def test_a_subject_has_an_ejection_fraction_from_two_frames_on():
    heart = Levels(inputs=("t1",), regions={"ventricle": (1,)}, measures=("ejection-fraction",))
    predictor = predictor_of(heart)
    tables = [
        {"measures": [{"measure": "ventricular volume", "value": value, "unit": "ml"}]} for value in (80.0, None, 120.0)
    ]
    assert predictor.over_subjects and not predictor_of(Eyes()).over_subjects
    assert [(row["measure"], row["value"], row["unit"], row["cases"]) for row in predictor.of_subject(tables)] == [
        ("ejection fraction", 33.3, "%", 2),
        ("end-diastolic volume", 120.0, "ml", 2),
        ("end-systolic volume", 80.0, "ml", 2),
    ]
    assert predictor.of_subject(tables[:2]) == []


def test_errors_of_measures_are_scores_without_a_sign():
    method = Eyes()
    shorter = CUP & ~box((4, 5), (0, 6))
    truth = np.where(CUP, 2, DISC).astype(np.uint8)
    judge, judgement = judged(method, [case(method.task, **of(DISC, shorter), tumour=truth)])
    scores = judgement.scores.of_case("a", OUTPUT)
    assert scores["vertical cup-to-disc ratio"] == pytest.approx(2 / 5)
    assert scores["true vertical cup-to-disc ratio"] == pytest.approx(3 / 5)
    assert scores["vertical cup-to-disc ratio error"] == pytest.approx(1 / 5)
    assert scores["area cup-to-disc ratio error"] == pytest.approx(2 / 25)
    assert judge.named("area cup-to-disc ratio error").better == "lower"
    report = Report("t", "s")
    judge.illustrate(report, judgement)
    assert "output: vertical cup-to-disc ratio" in report.html() and "−0.20" in report.html()


def test_a_missing_region_counts_as_a_ratio_of_nothing_unless_the_truth_has_none():
    method = Eyes()
    truth = np.where(CUP, 2, DISC).astype(np.uint8)
    missed = case(method.task, "a", **of(0.3 * DISC, 0.3 * CUP), tumour=truth)
    absent = case(method.task, "b", **of(DISC, CUP), tumour=0 * truth)
    _, judgement = judged(method, [missed, absent])
    assert judgement.scores.of_case("a", OUTPUT)["vertical cup-to-disc ratio error"] == pytest.approx(3 / 5)
    assert "vertical cup-to-disc ratio error" not in judgement.scores.of_case("b", OUTPUT)


def test_unknown_voxels_do_not_count_for_measures():
    method = Eyes(unknown=(9,))
    truth = np.where(CUP, 2, DISC).astype(np.uint8)
    truth[:, 2] = 9
    _, judgement = judged(method, [case(method.task, **of(DISC, CUP), tumour=truth)])
    scores = judgement.scores.of_case("a", OUTPUT)
    assert scores["vertical cup-to-disc ratio"] == scores["true vertical cup-to-disc ratio"] == pytest.approx(2 / 5)


def test_a_measure_of_a_subject_is_taken_over_its_time_frames():
    method = Hearts()
    truth = np.where(CUP, 2, DISC).astype(np.uint8)
    smaller = np.where(CUP & box((2, 4), (0, 6)), 2, DISC).astype(np.uint8)
    frames = []
    for name, labels, cup in (("ed", truth, CUP), ("es", smaller, CUP & box((2, 3), (0, 6)))):
        one = case(method.task, name, **of(DISC, cup), tumour=labels)
        frames.append(replace(one, case=replace(one.case, subject="heart")))
    _, judgement = judged(method, frames)
    values, subjects = judgement.scores.values(OUTPUT, "ejection fraction error")
    assert subjects == ["heart"] and values == [pytest.approx(100 / 3)]
    assert judgement.scores.by_subject(OUTPUT, "true ejection fraction") == {"heart": pytest.approx(100 / 3)}
    found = Model(method)(**{role: volume(values) for role, values in of(DISC, CUP).items()})
    (row,) = found.tables["measures"]
    assert row == {"measure": "cup volume", "value": pytest.approx(CUP.sum() * 4.5), "unit": "mm³"}


def test_records_are_written_with_a_column_for_every_key(tmp_path):
    write_records(tmp_path / "t.csv", [{"measure": "a", "value": 0.25}, {"measure": "b", "value": None, "unit": "%"}])
    with (tmp_path / "t.csv").open(newline="") as stream:
        assert list(csv.DictReader(stream)) == [
            {"measure": "a", "value": "0.25", "unit": ""},
            {"measure": "b", "value": "", "unit": "%"},
        ]


def test_the_ejection_fraction_needs_two_frames_of_a_heart_that_holds_blood():
    assert ejection_fraction([60.0, 120.0, 90.0]) == pytest.approx(50)
    assert math.isnan(ejection_fraction([120.0])) and math.isnan(ejection_fraction([0.0, 0.0]))
    mask = np.zeros((4, 5, 6), bool)
    mask[1:3, 1:4, 2:4] = True
    assert EJECTION_FRACTION({"ventricle": mask}, (2.0, 3.0, 5.0)) == pytest.approx(12 * 30 / 1000), "ml"
