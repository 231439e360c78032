import math

import numpy as np
import pytest
from levels import SHAPE, SPACING, Levels, case, random_images

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, Judgement, Scores, judge_of
from ganatomy.inference.model import Model
from ganatomy.metrics.detection import roc_curve
from ganatomy.metrics.segmentation import score_region
from ganatomy.reports.report import Report
from ganatomy.tasks.segmentation.judge import (
    OBSERVER,
    THRESHOLD,
    SegmentationJudge,
    Threshold,
    _agreement,
    fit_thresholds,
    region_numbers,
)

CORNERS = float(np.linalg.norm(np.array(SHAPE) * SPACING))


def box(*ranges, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*one) for one in ranges)] = True
    return mask


WHOLE, CORE = box((1, 4), (1, 6), (1, 5)), box((2, 4), (2, 5), (2, 4))
TRUTH = (2 * WHOLE - CORE).astype(np.uint8)
"""1 in the core, 2 around it."""


def images(whole, core):
    return {"t1": 1000.0 * whole, "t2": 1000.0 * core}


def judged(cases, training=(), method=None, **values):
    method = method or Levels(**values)
    judge = judge_of(method.task)
    entries = judge.with_references(judge.entry(Model(method), OUTPUT))
    judge.learn(training)
    rows = [row for one in cases for row in judge.score_case(entries, one)]
    return judge, Judgement(entries, cases, Scores(rows))


def scores_of(judgement, method, name="a"):
    return next(row.scores for row in judgement.scores.rows if row.method == method and row.case == name)


def test_a_perfect_output_scores_perfectly_in_every_region():
    task = Levels().task
    _, judgement = judged([case(task, **images(WHOLE, CORE), tumour=TRUTH)])
    found = scores_of(judgement, OUTPUT)
    for region in ("", " whole", " core"):
        assert {found[f"{name}{region}"] for name in ("dice", "sensitivity", "precision")} == {1}
        assert {found[f"{name}{region}"] for name in ("hd95", "surface distance", "volume error")} == {0}
    assert found["size whole"] == found["true size whole"] == pytest.approx(4.5 * WHOLE.sum() / 1000)


def test_scores_of_regions_are_those_of_their_masks_and_means_are_over_regions():
    moved = np.roll(WHOLE, 1, axis=1)
    task = Levels().task
    _, judgement = judged([case(task, **images(moved | CORE, CORE & ~box((2, 3), (0, 7), (0, 6))), tumour=TRUTH)])
    found = scores_of(judgement, OUTPUT)
    want = score_region(moved | CORE, WHOLE, SPACING)
    assert found["dice whole"] == want.overlap.dice and found["precision whole"] == want.overlap.precision
    assert found["hd95 whole"] == want.surface.hd95 == 1 and found["surface distance whole"] == want.surface.average
    assert found["sensitivity core"] == 0.5 and found["precision core"] == 1
    assert found["volume error core"] == pytest.approx(4.5 * 6 / 1000)
    for name in ("dice", "sensitivity", "hd95", "volume error"):
        assert found[name] == pytest.approx((found[f"{name} whole"] + found[f"{name} core"]) / 2)


def test_regions_that_are_empty_on_one_side_are_as_far_as_the_corners():
    task, nothing = Levels().task, 0.3 * CORE
    judge, judgement = judged(
        [
            case(task, "missed", **images(WHOLE, nothing), tumour=TRUTH),
            case(task, "none", **images(WHOLE, nothing), tumour=2 * WHOLE.astype(np.uint8)),
            case(task, "found", **images(WHOLE, CORE), tumour=TRUTH),
        ]
    )
    missed, none = (scores_of(judgement, OUTPUT, name) for name in ("missed", "none"))
    assert missed["dice core"] == 0 and missed["hd95 core"] == missed["surface distance core"] == CORNERS
    assert missed["hd95"] == pytest.approx(CORNERS / 2) and missed["one is empty core"] == 1
    assert none["dice core"] == none["sensitivity core"] == none["precision core"] == 1 and none["hd95 core"] == 0
    assert all(math.isfinite(value) for row in judgement.scores.rows for value in row.scores.values())
    points = judge.caveats(judgement)
    assert any("core is absent from 1 of 3 cases" in point for point in points)
    assert any("output: 1 region of a case where only one" in point for point in points)
    assert not any("whole is absent" in point for point in points)


def test_what_is_unknown_or_out_of_the_field_of_view_does_not_count():
    config = {"regions": {"whole": (1, 2)}, "unknown": (4,), "field_of_view": "brain", "inputs": ("t1",)}
    task = Levels(**config).task
    truth, brain = TRUTH.copy(), ~box((0, 5), (0, 7), (0, 2))
    truth[1] = 4
    found = WHOLE & brain
    found[1] = False
    sample = case(task, t1=1000.0 * found, tumour=truth, brain=brain.astype(np.uint8))
    assert scores_of(judged([sample], **config)[1], OUTPUT)["dice"] == 1
    outside = case(task, t1=1000.0 * WHOLE, tumour=truth, brain=brain.astype(np.uint8))
    assert scores_of(judged([outside], **config)[1], OUTPUT)["dice"] == 1
    unmasked = case(task, t1=1000.0 * found, tumour=truth)
    assert scores_of(judged([unmasked], **config)[1], OUTPUT)["dice"] < 1


@pytest.mark.parametrize("brighter", [True, False])
def test_the_best_threshold_is_found_in_the_input_and_on_the_side_that_tells(brighter):
    task = Levels(inputs=("t2", "t1"), regions={"whole": (1, 2)}).task
    rng = np.random.default_rng(4)
    training = []
    for name, level in (("a", 300.0), ("b", 310.0)):
        inside, outside = (level + 1 + 600 * rng.random(SHAPE), level - 1 - 290 * rng.random(SHAPE))
        telling = np.where(brighter == WHOLE, inside, outside)
        training.append(case(task, name, t1=telling, t2=1000 * rng.random(SHAPE), tumour=TRUTH))
    found = fit_thresholds(task, training)["whole"]
    assert (found.role, found.brighter) == ("t1", brighter)
    values = [np.asarray(one.role("t1").encoded(np.asarray(one.arrays["t1"])))[0] for one in training]
    dice = np.mean([2 * (found(own) & WHOLE).sum() / (found(own).sum() + WHOLE.sum()) for own in values])
    assert found.dice == pytest.approx(dice, abs=0.02) and dice > 0.95
    assert str(found) == f"t1 {'≥' if brighter else '<'} {found.level:.2f}"


def test_every_level_has_the_dice_of_its_voxels():
    config = {"inputs": ("t1",), "regions": {"whole": (1, 2)}, "unknown": (4,)}
    task = Levels(**config).task
    truth = TRUTH.copy()
    truth[:, :, 4] = 4
    image = random_images("t1", seed=8)["t1"]
    sample = case(task, t1=image, tumour=truth)
    best = fit_thresholds(task, [sample])["whole"]
    known, true = truth != 4, np.isin(truth, (1, 2))
    every = []
    for level in np.unique(image):
        for side in (image >= level, image < level):
            hits, taken = (side & true & known).sum(), (side & known).sum()
            every.append(2 * hits / (taken + true.sum()))
    assert best.dice == pytest.approx(max(every), abs=0.02)


def test_the_threshold_is_what_a_run_must_beat():
    task = Levels().task
    training = [case(task, "t", **images(WHOLE, CORE), tumour=TRUTH)]
    good = [case(task, name, **images(WHOLE, CORE), tumour=TRUTH) for name in "abc"]
    judge, judgement = judged(good, training)
    assert scores_of(judgement, THRESHOLD)["dice"] == 1 and judge.reference == THRESHOLD
    headline, outcome = judge.verdict(judgement)
    assert outcome == "undecided" and "cannot be told from thresholds" in headline and "1.000 against 1.000" in headline
    dim = [case(task, name, t1=1000.0 * WHOLE + 600.0 * (~WHOLE), t2=700.0 * CORE + k * WHOLE, tumour=TRUTH)
           for k, name in enumerate("abc")]  # fmt: skip
    judge, judgement = judged(dim, [case(task, "t", t1=1000.0 * WHOLE + 600.0 * ~WHOLE, t2=700.0 * CORE, tumour=TRUTH)])
    headline, outcome = judge.verdict(judgement)
    assert outcome == "worse" and "agrees less" in headline


def test_without_training_cases_there_is_no_threshold():
    task = Levels().task
    judge, judgement = judged([case(task, **images(WHOLE, CORE), tumour=TRUTH)])
    assert judgement.scores.methods == [OUTPUT]
    assert judge.verdict(judgement)[0].startswith("Dice 1")
    assert judge.measured()["Thresholds"].startswith("none")


def test_a_second_observer_is_judged_where_there_is_one():
    config = {"observer": "reader"}
    task = Levels(**config).task
    reader = TRUTH * ~box((0, 2), (0, 7), (0, 6))
    cases = [
        case(task, "a", **images(WHOLE, CORE), tumour=TRUTH, reader=reader),
        case(task, "b", **images(WHOLE, CORE), tumour=TRUTH),
    ]
    _, judgement = judged(cases, **config)
    rows = [row for row in judgement.scores.rows if row.method == OBSERVER]
    assert [row.case for row in rows] == ["a"]
    assert rows[0].scores["sensitivity whole"] == pytest.approx(2 / 3) and rows[0].scores["dice core"] == 1


def test_a_case_without_a_label_map_is_left_out_with_a_reason():
    task = Levels().task
    with pytest.raises(UserError, match="no label map tumour"):
        judged([case(task, **images(WHOLE, CORE))])


def test_the_worst_case_and_its_worst_slice_come_first():
    task = Levels().task
    worse = WHOLE.copy()
    worse[3] = box((1, 2), (0, 7), (0, 6))[1]
    cases = [
        case(task, "good", **images(WHOLE, CORE), tumour=TRUTH),
        case(task, "bad", **images(worse, CORE), tumour=TRUTH),
        case(task, "poor", **images(WHOLE | box((1, 2), (0, 2), (0, 3)), CORE), tumour=TRUTH),
    ]
    judge, judgement = judged(cases, cases[:1])
    chosen = judge.examples(judgement)
    assert [(label, one.case.name) for label, one in chosen.items()] == [
        ("Worst", "bad"), ("Median", "poor"), ("Best", "good"),
    ]  # fmt: skip
    assert [judge._worst_slice(one, judgement) for one in chosen.values()][:2] == [3, 1]
    report = Report("t")
    judge.illustrate(report, judgement)
    assert "limits of agreement" in report.html() and report.html().count("95 % limits") == 1
    page = report.html()
    assert page.count("<img") == 4 and page.index("bad, slice 4 of 5") < page.index("poor, slice 2 of 5")


def test_one_region_has_no_scores_of_its_own():
    judge = judge_of(Levels(inputs=("t1",), regions={"lesion": (1, 2)}).task)
    assert isinstance(judge, SegmentationJudge)
    names = [score.name for score in judge.scores]
    assert names[:5] == ["dice", "iou", "sensitivity", "precision", "specificity"]
    assert names[5:9] == ["hd95", "surface distance", "surface dice", "volume error"]
    assert names[9:11] == ["roc area", "precision-recall area"]
    assert names[11:] == ["component sensitivity", "component precision", "components", "component error"]
    assert [score.group for score in judge.scores] == (
        ["Overlap"] * 5 + ["Surfaces and size"] * 4 + ["Voxels by probability"] * 2 + ["Components"] * 4
    )
    several = judge_of(Levels().task)
    assert {score.group for score in several.scores if score.name.endswith(" core")} == {
        "core: overlap", "core: surfaces and size", "core: voxels by probability", "core: components"
    }  # fmt: skip


def test_components_are_lesions_that_hang_together_by_corners():
    config = {"inputs": ("t1",), "regions": {"lesion": (1,)}, "unknown": (4,)}
    task, truth, found = Levels(**config).task, np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    truth[0, 0, 0] = truth[1, 1, 1] = truth[3, 5, 0] = truth[4, 2:4, 4] = 1  # three lesions, the first by a corner
    truth[4, 6, 4:] = 4
    found[1, 1, 1] = found[0, 4, 4] = found[2, 4, 4] = found[4, 3, 4:6] = found[4, 6, 5] = True  # two hit, two alone
    scores = scores_of(judged([case(task, t1=1000.0 * found, tumour=truth)], **config)[1], OUTPUT)
    assert (scores["component sensitivity"], scores["component precision"]) == (pytest.approx(2 / 3), 0.5)
    assert (scores["components"], scores["true components"], scores["component error"]) == (4, 3, 1)


def test_components_of_empty_regions_are_perfect_or_worthless():
    nothing, core, dim = np.zeros(SHAPE, np.uint8), {"t1": 1000.0 * CORE}, {"t1": 200.0 * CORE}
    config = {"inputs": ("t1",), "regions": {"lesion": (1, 2)}}
    task = Levels(**config).task
    cases = [
        case(task, "missed", **dim, tumour=TRUTH),
        case(task, "invented", **core, tumour=nothing),
        case(task, "neither", **dim, tumour=nothing),
    ]
    judgement = judged(cases, **config)[1]
    names = ("component sensitivity", "component precision", "component error")
    for name, expected in (("missed", (0, 0, 1)), ("invented", (0, 0, 1)), ("neither", (1, 1, 0))):
        assert tuple(scores_of(judgement, OUTPUT, name)[one] for one in names) == expected


def test_areas_rank_voxels_by_probability_and_for_thresholds_by_brightness():
    config = {"inputs": ("t1", "t2"), "regions": {"whole": (1, 2)}, "unknown": (4,)}
    task, rng = Levels(**config).task, np.random.default_rng(6)
    truth = WHOLE.astype(np.uint8)
    truth[0, :2] = 4
    shown = {"t1": 100 * WHOLE + 850 * rng.random(SHAPE), "t2": 1000 * rng.random(SHAPE)}
    sample = case(task, **shown, tumour=truth)
    _, judgement = judged([sample], [sample], **config)
    expected = roc_curve(shown["t1"], WHOLE, truth != 4)
    ours, theirs = (scores_of(judgement, name) for name in (OUTPUT, THRESHOLD))
    assert ours["roc area"] == theirs["roc area"] == pytest.approx(expected.auc, abs=1e-3)
    assert 0.5 < ours["roc area"] < 1 and 0 < ours["precision-recall area"] < 1


def test_a_region_that_is_not_there_has_no_areas_and_is_left_out_of_their_mean():
    task = Levels().task
    sample = case(task, **images(0.9 * WHOLE, 0.2 * CORE), tumour=2 * WHOLE.astype(np.uint8))
    found = scores_of(judged([sample])[1], OUTPUT)
    assert "roc area core" not in found and found["roc area"] == found["roc area whole"] == 1
    assert found["specificity core"] == 1


def test_probabilities_of_judged_regions_follow_from_those_that_are_learned():
    maps = np.array([0.1, 0.2, 0.3, 0.4], np.float32).reshape(4, 1, 1, 1)
    parts = {"background": (0,), "oedema": (2,), "rim": (4,), "core": (1,)}
    judged_regions = {"whole": (1, 2, 4), "core": (1,), "odd": (2, 4)}
    exclusive = Levels(regions=parts, judged=judged_regions, classes=True).task.ranked(maps)
    assert {name: round(float(value.item()), 6) for name, value in exclusive.items()} == {
        "whole": 0.9, "core": 0.4, "odd": 0.5
    }  # fmt: skip
    nested = Levels(regions={"whole": (1, 2), "core": (1,)}, judged={"core": (1,), "rim": (2,)}).task
    found = nested.ranked(maps[:2])
    assert set(found) == {"core"} and found["core"].item() == pytest.approx(0.2)


def test_voxels_of_all_cases_are_pooled_within_the_field_of_view():
    config = {"inputs": ("t1",), "regions": {"whole": (1, 2)}}
    task = Levels(**config).task
    # Within each case the region is brightest, but the second case is brighter altogether.
    dim = case(task, "dim", t1=300.0 * WHOLE + 50, tumour=WHOLE.astype(np.uint8))
    bright = case(task, "bright", t1=300.0 * WHOLE + 500, tumour=WHOLE.astype(np.uint8))
    judge, judgement = judged([dim, bright], **config)
    assert {scores_of(judgement, OUTPUT, name)["roc area"] for name in ("dim", "bright")} == {1}
    inside, outside = int(WHOLE.sum()), int((~WHOLE).sum())
    pooled = 1 - inside * outside / (2 * inside * 2 * outside)
    report = Report("t")
    judge.illustrate(report, judgement)
    page = report.html()
    assert "Voxels of all cases pooled" in page and f"{pooled:.3f}" in page


def test_the_tolerance_of_surfaces_is_an_option():
    moved = np.roll(WHOLE, 1, axis=2)
    task = Levels(inputs=("t1",), regions={"whole": (1, 2)}).task
    sample = case(task, t1=1000.0 * moved, tumour=WHOLE.astype(np.uint8))
    method, found = Levels(inputs=("t1",), regions={"whole": (1, 2)}), {}
    for tolerance in (1.0, 1.5):
        judge = judge_of(task, {"tolerance": tolerance})
        (row,) = judge.score_case([judge.entry(Model(method), OUTPUT)], sample)
        found[tolerance] = row.scores["surface dice"]
        assert f"within {tolerance:g} mm" in judge.measured()["Surface Dice"]
    assert found[1.0] < found[1.5] == 1


def test_runs_with_other_regions_are_not_judged_beside_each_other():
    judge = judge_of(Levels().task)
    with pytest.raises(UserError, match="has the regions lesion, but whole, core are judged"):
        judge.entry(Model(Levels(inputs=("t1",), regions={"lesion": (1,)})), "other")


def test_a_threshold_takes_its_level_in():
    values = np.array([0.2, 0.5, 0.7], np.float32)
    assert Threshold("t1", 0.5, True, 1.0)(values).tolist() == [False, True, True]
    assert Threshold("t1", 0.5, False, 1.0)(values).tolist() == [True, False, False]


def test_infinite_distances_are_replaced_and_others_are_not():
    nothing = np.zeros(SHAPE, bool)
    assert region_numbers(score_region(nothing, WHOLE, SPACING), 50.0)["hd95"] == 50
    assert region_numbers(score_region(np.roll(WHOLE, 1, 2), WHOLE, SPACING), 50.0)["hd95"] == 1.5


def test_sizes_agree_within_limits():
    bias, limits = _agreement([1.5, 2.0, 4.0], [1.0, 2.0, 3.0])
    assert bias == "+0.50" and limits == "−0.48 to +1.48"
    assert _agreement([1.5], [1.0])[1] == "–"


def test_kept_images_are_the_masks_of_every_region():
    task = Levels().task
    one = case(task, **images(WHOLE, CORE), tumour=TRUTH)
    judge, judgement = judged([one])
    found = judge.images(judgement.entries, one)
    assert set(found) == {f"{name} {region}" for name in (OUTPUT, "truth") for region in ("whole", "core")}
    for name, mask in (("whole", WHOLE), ("core", CORE)):
        assert np.array_equal(found[f"truth {name}"].numpy()[0], mask)
        assert np.array_equal(found[f"{OUTPUT} {name}"].numpy()[0], mask)
    assert found["truth whole"].spacing == pytest.approx(SPACING)
