import json
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_detector import Template, patient

from ganatomy.claims.claim import Predicate
from ganatomy.claims.decide import check
from ganatomy.data.batches import Range
from ganatomy.errors import UserError
from ganatomy.evaluation.arms import ArmScores, label
from ganatomy.evaluation.evaluate import plain, tabulate
from ganatomy.evaluation.judging import OUTPUT, Judgement, Scores, judge_of
from ganatomy.evaluation.page import compose
from ganatomy.inference.model import Model
from ganatomy.metrics.detection import auc, delong
from ganatomy.metrics.statistics import bootstrap_mean
from ganatomy.reports.report import Report
from ganatomy.tasks.anomaly_detection.judge import (
    ALARMS,
    BEST_DICE,
    DICE,
    HEALTHY_ERROR,
    IMAGE_AUC,
    INTENSITY,
    LESIONS,
    PIXEL_AUC,
    PRECISION,
    RESIDUAL,
    SENSITIVITY,
    SPECIFICITY,
    ZSCORE,
    jackknifed_areas,
    unseen,
)
from ganatomy.tasks.anomaly_detection.predictor import Calibration

COHORT = [patient(f"p{number}", sick=number % 2 == 1) for number in range(8)]


def model(calibrated=True, **config):
    made = Model(Template(Template.Config(**config)))
    if calibrated:
        cases = [patient(f"v{number}", split="val") for number in range(6)]
        ranges = [Range(case, 0, 3) for case in cases]
        made.calibration = made.predictor().calibrate(ranges, 0.05, "other subjects")
    return made


def judged(cases=COHORT, arms=None, **config):
    arms = arms or {OUTPUT: model(**config)}
    judge = judge_of(next(iter(arms.values())).method.task)
    entries = judge.with_references(*[judge.entry(made, name) for name, made in arms.items()])
    rows = [row for case in cases for row in judge.score_case(entries, case)]
    rows += judge.score_all(entries, cases, [])
    return judge, Judgement(entries, cases, Scores(rows))


def mean(judgement, name, method=OUTPUT):
    return judgement.scores.interval(method, name).mean


def test_a_detector_that_knows_health_beats_brightness():
    judge, judgement = judged()
    assert mean(judgement, PIXEL_AUC) == pytest.approx(1.0, abs=1e-6)
    # Brightness puts 16 pixels of bone before the lesion, in each of 3 slices.
    bone = 16 * 3 / (144 * 3 - 12)
    assert mean(judgement, PIXEL_AUC, INTENSITY) == pytest.approx(1 - bone, abs=1e-6)
    assert mean(judgement, BEST_DICE) == 1 and mean(judgement, PRECISION) == pytest.approx(1)
    assert mean(judgement, IMAGE_AUC) == 1
    assert mean(judgement, HEALTHY_ERROR) == pytest.approx(15 * np.sqrt(2 / np.pi), rel=0.1)
    assert mean(judgement, RESIDUAL) == pytest.approx(15 * np.sqrt(2 / np.pi), rel=0.1)
    assert judgement.scores.interval(INTENSITY, RESIDUAL) is None
    words, outcome = judge.verdict(judgement)
    assert outcome == "better"
    assert words.startswith("The method tells what is abnormal better than brightness alone: pixel AUC 1.000")
    assert "Image AUC 1.000 (1.000 to 1.000) over 24 images, 4 of them abnormal" in words
    assert "threshold that 5% of healthy pixels reach, Dice is" in words


def test_the_threshold_gives_what_it_promises():
    _, judgement = judged()
    assert mean(judgement, SENSITIVITY) == mean(judgement, LESIONS) == 1
    assert mean(judgement, SPECIFICITY) == pytest.approx(0.95, abs=0.02)
    healthy = next(row.scores for row in judgement.scores.rows if row.case == "p0" and row.method == OUTPUT)
    assert SPECIFICITY in healthy and ALARMS in healthy and DICE not in healthy and PIXEL_AUC not in healthy


def test_specks_are_removed_before_findings_are_counted():
    _, raw = judged()
    _, clean = judged(smallest=6)
    assert mean(raw, ALARMS) > 2 > mean(clean, ALARMS)
    assert mean(clean, SENSITIVITY) == 1 and mean(clean, DICE) > mean(raw, DICE)


def test_the_verdict_names_the_stronger_of_both_simple_baselines():
    judge, judgement = judged()
    better, _ = sorted((INTENSITY, ZSCORE), key=lambda name: -mean(judgement, PIXEL_AUC, name))
    words, _ = judge.verdict(replace(judgement, reference=better))
    assert f"than {judge.called(better)}: pixel AUC 1.000" in words
    assert f"against {mean(judgement, PIXEL_AUC, better):.3f}" in words
    one = judge.references()[0][1].run(COHORT[1])
    inside = judge.task.scaled(COHORT[1], 0, 3)
    image, tissue = inside["image"], inside["tissue"] > 0
    np.testing.assert_allclose(
        one.map[tissue], np.abs(image - np.median(image[tissue]))[tissue] / image[tissue].std(), rtol=1e-4
    )


def test_a_detector_worse_than_brightness_is_told_so_first():
    judge, judgement = judged(residual="dark")
    words, outcome = judge.verdict(judgement)
    assert outcome == "worse" and words.startswith("Brightness alone tells what is abnormal better than the method")


def test_without_calibration_nothing_is_called():
    judge, judgement = judged(arms={OUTPUT: model(calibrated=False)})
    for name in (DICE, SENSITIVITY, SPECIFICITY, LESIONS, ALARMS):
        assert judgement.scores.interval(OUTPUT, name) is None
    assert mean(judgement, PIXEL_AUC) == pytest.approx(1.0)
    words, _ = judge.verdict(judgement)
    assert "Dice" not in words
    assert "no calibrated thresholds" in " ".join(judge.caveats(judgement))


def test_cases_without_masks_are_judged_as_images_only():
    cases = [patient(f"p{number}", sick=number % 2 == 1, slices=1, masked=False) for number in range(10)]
    judge, judgement = judged(cases)
    assert judgement.scores.interval(OUTPUT, PIXEL_AUC) is None
    assert mean(judgement, IMAGE_AUC) == 1
    assert mean(judgement, IMAGE_AUC, INTENSITY) == 1
    words, outcome = judge.verdict(judgement)
    assert outcome == "undecided" and words.startswith("The method cannot be told from brightness alone: image AUC")
    page = Report("t")
    judge.illustrate(page, judgement)
    assert "Most abnormal case" in page.html() and "Least abnormal case" in page.html()


def unlabelled(name, **options):
    sample = patient(name, masked=False, **options)
    return replace(sample, case=replace(sample.case, label=None))


def test_no_rate_is_printed_for_cases_whose_truth_nobody_knows():
    cases = [unlabelled(f"p{number}", sick=number % 2 == 1) for number in range(6)]
    judge, judgement = judged(cases)
    for name in (PIXEL_AUC, IMAGE_AUC, DICE, SENSITIVITY, SPECIFICITY, LESIONS, ALARMS, RESIDUAL):
        assert judgement.scores.interval(OUTPUT, name) is None
    words, outcome = judge.verdict(judgement)
    assert outcome == "undecided" and "nobody knows what is abnormal in them" in words
    assert "6 of 6 cases have neither mask nor label" in " ".join(judge.caveats(judgement))
    page = Report("t")
    judge.illustrate(page, judgement)
    assert "Most abnormal case" in page.html() and "specificity" not in page.html()


def test_unknown_cases_beside_known_ones_change_no_rate():
    _, alone = judged(COHORT)
    strange = [unlabelled("u"), patient("s", sick=True, masked=False)]
    judge, together = judged([*COHORT, *strange])
    for name in (PIXEL_AUC, IMAGE_AUC, DICE, SENSITIVITY, SPECIFICITY, ALARMS):
        assert mean(together, name) == mean(alone, name)
    assert "Image AUC 1.000 (1.000 to 1.000) over 24 images" in judge.verdict(together)[0]
    task = Template().task
    assert task.image_truth(strange[1], volumes=False) is None, "which slices show the lesion is not known"
    assert task.image_truth(strange[1], volumes=True).tolist() == [True]


def test_the_share_of_false_alarms_on_unseen_data_is_told():
    judge, judgement = judged()
    words = " ".join(judge.caveats(judgement))
    assert re.search(r"not found on, [3-8]\.\d% of the healthy pixels .* \(cross-validation over 6 subjects\)", words)
    lone = Calibration(1.0, 1.0, 0.05, 9, 9, 1, "")
    assert "is not known" in unseen(lone)


def test_a_case_without_numbers_is_left_out_for_all():
    judge = judge_of(Template().task)
    entries = judge.with_references(judge.entry(model(calibrated=False, gain=1e39), OUTPUT))
    with pytest.raises(UserError, match="output gives no numbers"):
        judge.score_case(entries, COHORT[1])
    assert not any(entry.evidence for entry in entries)


def test_a_single_patient_is_said_to_be_one():
    judge, judgement = judged([patient("a", sick=True)])
    words, outcome = judge.verdict(judgement)
    assert outcome == "undecided" and words.startswith("One test subject: no comparison can be decided. Pixel AUC is")
    assert "for brightness alone, difference" in words and "told from" not in words
    page = Report("t")
    judge.illustrate(page, judgement)
    assert "Only case" in page.html()


def test_one_kind_of_images_says_nothing():
    judge, judgement = judged([patient("a"), patient("b")])
    assert judgement.scores.interval(OUTPUT, IMAGE_AUC) is None
    words, outcome = judge.verdict(judgement)
    assert outcome == "undecided" and words.startswith("Nothing can be said")
    judge.illustrate(Report("t"), judgement)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(1, 3), st.integers(0, 10_000))
def test_jackknife_values_have_the_area_as_mean(subjects, images, seed):
    rng = np.random.default_rng(seed)
    abnormal = rng.random(subjects * images) < 0.5
    scores = (rng.normal(size=abnormal.size) + abnormal).astype(np.float32)
    names = [f"s{index // images}" for index in range(abnormal.size)]
    values = jackknifed_areas(scores, abnormal, names)
    if abnormal.all() or not abnormal.any():
        assert values == {}
        return
    assert np.nanmean(list(values.values())) == pytest.approx(auc(scores, abnormal))


def test_jackknife_intervals_are_delongs_where_subjects_have_one_image():
    rng = np.random.default_rng(0)
    abnormal = np.arange(120) % 3 == 0
    scores = (rng.normal(size=120) + abnormal).astype(np.float32)
    values = jackknifed_areas(scores, abnormal, [str(index) for index in range(120)])
    ours, theirs = bootstrap_mean(list(values.values())), delong(scores, abnormal)
    assert ours.mean == pytest.approx(theirs.value)
    assert ours.high - ours.low == pytest.approx(theirs.high - theirs.low, rel=0.05)


def test_many_images_of_a_subject_narrow_nothing():
    rng = np.random.default_rng(1)
    abnormal = np.arange(30) % 2 == 0
    scores = (rng.normal(size=30) + abnormal).astype(np.float32)
    names = [str(index) for index in range(30)]
    once = bootstrap_mean(list(jackknifed_areas(scores, abnormal, names).values()))
    thrice = jackknifed_areas(np.tile(scores, 3), np.tile(abnormal, 3), names * 3)
    again = bootstrap_mean(list(thrice.values()))
    assert (again.low, again.high) == pytest.approx((once.low, once.high), abs=1e-6)


@pytest.mark.parametrize("score", [PIXEL_AUC, IMAGE_AUC])
def test_claims_can_be_tested(score):
    arms = {
        f"{arm}#{seed}": model(residual=sign) for seed in (0, 1, 2) for arm, sign in (("a", "bright"), ("b", "dark"))
    }
    judge, judgement = judged(arms=arms)
    assert label("a", 1) in arms
    result = check(Predicate("a finds more", score, "a", "b"), ArmScores(judgement.scores, (0, 1, 2)), judge)
    assert result.finding == "reproduced" and result.first.mean == pytest.approx(1.0)
    again = check(Predicate("b finds more", score, "b", INTENSITY), ArmScores(judgement.scores, (0, 1, 2)), judge)
    assert again.difference.mean == pytest.approx(again.first.mean - again.second.mean)


def test_the_whole_page_can_be_made(tmp_path):
    judge, judgement = judged(arms={OUTPUT: model(), "baseline": model(residual="dark")})
    training = {"data": "toys", "subjects": {"train": []}, "seed": 0, "rounds": {}}
    training["selection"] = {"score": "residual", "better": "lower"}
    facts = {"subjects": ["p0"], "slices": 24, "data": "toys", "weights": "best", "training": training, "notes": []}
    facts["run_time"] = {"device": "cpu", "threads": 1, "image": "slice", "methods": {}}
    facts |= {"methods": {}, "provenance": {}, "versions": {}, "reference": {"name": INTENSITY, "chosen": ""}}
    page = compose(Report("t"), judge, judgement, Model(Template(), folder=tmp_path), facts).html()
    for words in (
        "Best case",
        "Median case",
        "Worst case",
        "Youden",
        "calibrated",
        "Wilson",
        "rest on 18 healthy images",
    ):
        assert words in page
    table = json.loads(json.dumps(plain(tabulate(judge, judgement.scores)), allow_nan=False))
    assert table["scores"][IMAGE_AUC]["methods"][OUTPUT]["mean"] == 1
    assert [found["second"] for found in table["scores"][PIXEL_AUC]["comparisons"]] == [INTENSITY, ZSCORE, "baseline"]


def test_kept_images_are_maps_healthy_images_findings_and_the_truth():
    judge, judgement = judged(COHORT[:2])
    sick = COHORT[1]
    found = {name: image.numpy()[0] for name, image in judge.images(judgement.entries, sick).items()}
    assert set(found) == {
        *("image", "truth", f"{INTENSITY} map", f"{ZSCORE} map"),
        *(f"{OUTPUT} {part}" for part in ("map", "healthy", "called abnormal")),
    }
    assert np.array_equal(found["truth"], judge.truth(sick)) and found["truth"].any()
    assert found["output map"][found["truth"] > 0].min() > found["output map"][found["truth"] == 0].max()
    assert found["output called abnormal"].dtype == np.uint8 and found["image"].shape == sick.shape
