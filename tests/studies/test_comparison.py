"""Statistics of arms, on made-up scores."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.evaluation.arms import ArmScores, label
from ganatomy.evaluation.judging import INPUT, Row, Scores, judge_of
from ganatomy.studies.comparison import compare_arms, pairs_of, write_table
from ganatomy.studies.page import caveats, curve_plot, curves_of
from ganatomy.studies.study import differ_in_one_thing, verdict
from ganatomy.training.arms import Arm

PSNR, SD = "psnr[-160,240]", "noise sd error"
SYSTEM = catalogue.resolve("wgan-vgg")
CONFIG = SYSTEM.cls.Config.preset("small", variant="cnn-mse")
SEEDS, SUBJECTS = 3, 8


@pytest.fixture(scope="module")
def judge():
    return judge_of(SYSTEM.cls.of(CONFIG).task)


def arm(name, fraction=None):
    return Arm(name, SYSTEM, CONFIG, None, fraction)


def compared(judge, score=PSNR, **tables):
    """Arms with these tables (seeds, subjects); ``input`` has one line."""
    rows = [
        Row(f"case{j}", f"subject{j}", (0, 1), INPUT if name == INPUT else label(name, seed), {score: value})
        for name, table in tables.items()
        for seed, line in enumerate(np.atleast_2d(table))
        for j, value in enumerate(line)
    ]
    arms = [arm(name) for name in tables if name != INPUT]
    return compare_arms(judge, ArmScores(Scores(rows), range(SEEDS)), arms), arms


def trained(rng, mean=30.0):
    """Scores of one arm: subjects differ, seeds differ, and each subject fares differently with each seed."""
    return mean + rng.normal(0, 0.5, (SEEDS, 1)) + rng.normal(0, 0.3, (SEEDS, SUBJECTS))


def test_an_arm_is_rarely_told_apart_from_itself_with_other_seeds(judge):
    rng, tries, apart = np.random.default_rng(2), 80, 0
    for _ in range(tries):
        subjects = rng.normal(0, 3, SUBJECTS)
        found, _ = compared(judge, a=subjects + trained(rng), b=subjects + trained(rng))
        (one,) = found.of_score(PSNR)
        assert (one.interval.low <= 0 <= one.interval.high) == (one.outcome == "undecided")
        apart += one.outcome != "undecided"
    assert apart / tries < 0.1


def test_a_difference_is_found_in_its_direction(judge):
    rng = np.random.default_rng(3)
    subjects, low = rng.normal(0, 3, SUBJECTS), trained(rng)
    found, arms = compared(judge, a=subjects + low, b=subjects + low + 4, input=subjects + 20)
    (one,) = found.of_score(PSNR)
    assert (one.arm, one.reference, one.outcome) == ("b", "a", "better")
    assert one.interval.mean == pytest.approx(4) and "b is better than a in psnr[-160,240], by +4" in one.words
    assert found.means[PSNR][INPUT].mean == pytest.approx(np.mean(subjects + 20))
    assert verdict(judge, found, arms)[2] == "worse", "another arm is better than the first"
    worse, arms = compared(judge, SD, a=subjects + low, b=subjects + low + 4)
    assert worse.of_score(SD)[0].outcome == "worse" and verdict(judge, worse, arms)[2] == "better"


def test_arms_meet_the_first_one_and_the_first_with_as_few_annotations():
    arms = [arm("a-1", 1.0), arm("b-1", 1.0), arm("a-0.1", 0.1), arm("b-0.1", 0.1)]
    expected = [("b-1", "a-1"), ("a-0.1", "a-1"), ("b-0.1", "a-1"), ("b-0.1", "a-0.1")]
    assert pairs_of(arms) == expected


def test_the_headline_speaks_of_arms_that_differ_in_one_thing():
    other = catalogue.resolve("sagan-ct")
    beside = Arm("b-1", other, other.cls.Config.preset("small"), None, 1.0)
    assert differ_in_one_thing(arm("a-1", 1.0), arm("a-0.1", 0.1)) and differ_in_one_thing(beside, arm("a-1", 1.0))
    assert not differ_in_one_thing(beside, arm("a-0.1", 0.1))
    assert not differ_in_one_thing(arm("a-1", 1.0), replace(arm("a-0.1", 0.1), config=SYSTEM.cls.Config()))


def test_subjects_without_a_score_are_left_out_and_counted(judge, tmp_path):
    rng = np.random.default_rng(4)
    table = trained(rng)
    holes = table.copy()
    holes[1, 2] = np.nan
    found, arms = compared(judge, a=table, b=holes - 4)
    (one,) = found.of_score(PSNR)
    assert one.interval.n == SUBJECTS - 1 and one.interval.excluded == 1 and one.interval.mean == pytest.approx(-4)
    write_table(tmp_path / "table.csv", found, arms)
    with (tmp_path / "table.csv").open() as stream:
        rows = {row["arm"]: row for row in csv.DictReader(stream)}
    assert rows["b"]["subjects"] == str(SUBJECTS - 1) and rows["b"]["reference"] == "a" and not rows["a"]["reference"]
    assert rows["b"]["outcome"] == "worse" and float(rows["b"]["difference"]) == pytest.approx(-4)


def test_a_curve_has_a_point_for_every_share(judge):
    rng = np.random.default_rng(5)
    arms = [arm("a-1", 1.0), arm("b-1", 1.0), arm("a-0.1", 0.1), arm("b-0.1", 0.1)]
    found, _ = compared(judge, **{one.name: trained(rng, 30 + 5 * one.label_fraction) for one in arms})
    curves = curves_of(found, arms, PSNR)
    assert {name: sorted(curve) for name, curve in curves.items()} == {"a": [0.1, 1.0], "b": [0.1, 1.0]}
    assert curves["a"][1.0] == found.means[PSNR]["a-1"]
    lines = curve_plot(curves, judge.named(PSNR)).axes[0].lines
    drawn = [line.get_ydata() for line in lines if len(line.get_xdata()) == 2 and list(line.get_xdata()) == [10, 100]]
    means = [[curves[name][share].mean for share in (0.1, 1.0)] for name in "ab"]
    assert any(np.allclose(drawn_line, means[0]) for drawn_line in drawn)
    assert any(np.allclose(drawn_line, means[1]) for drawn_line in drawn)
    assert curves_of(found, arms[:2], PSNR) == {}, "one share is no curve"


def test_few_subjects_seeds_and_many_looks_are_said(judge):
    rng = np.random.default_rng(6)
    found, _ = compared(judge, a=trained(rng), b=trained(rng), c=trained(rng))
    facts = {"test_subjects": ["s"] * 4, "seeds": [0], "arms": {}, "of_unknown_code": ["arms/a/seed0"]}
    told = " ".join(caveats(found, facts))
    assert "Only 4 test subjects" in told and "One seed" in told and "2 differences" in told and "Not run" in told
    assert "code that is not known, maybe older than the present one: arms/a/seed0." in told
    enough = {**facts, "test_subjects": ["s"] * 9, "seeds": [0, 1, 2], "of_unknown_code": []}
    assert caveats(compared(judge, a=trained(rng))[0], enough) == []


def test_a_difference_of_too_few_seeds_is_no_verdict(judge):
    rng = np.random.default_rng(7)
    low = rng.normal(0, 0.3, (2, SUBJECTS))
    rows = [
        Row(f"case{j}", f"subject{j}", (0, 1), label(name, seed), {PSNR: low[seed, j] + shift})
        for name, shift in (("a", 0), ("b", 4))
        for seed in range(2)
        for j in range(SUBJECTS)
    ]
    arms = [arm("a"), arm("b")]
    found = compare_arms(judge, ArmScores(Scores(rows), range(2)), arms)
    (one,) = found.of_score(PSNR)
    assert one.outcome == "not run enough" and "needs at least 3 seeds" in one.words
    assert verdict(judge, found, arms)[2] == "undecided"


@pytest.mark.parametrize(("lead", "outcome"), [(4.0, "better"), (0.0, "undecided"), (-4.0, "worse")])
def test_an_arm_that_wins_must_also_beat_the_strongest_simple_method(judge, lead, outcome):
    rng = np.random.default_rng(8)
    subjects, low = rng.normal(0, 3, SUBJECTS), trained(rng) * 0.2
    lines = {label(one, seed): low[seed] - shift for one, shift in (("a", 0), ("b", 6)) for seed in range(SEEDS)}
    lines["plain"] = low.mean(axis=0) - lead
    rows = [
        Row(f"case{j}", f"subject{j}", (0, 1), name, {PSNR: value})
        for name, line in lines.items()
        for j, value in enumerate(subjects + line)
    ]
    arms = [arm("a"), arm("b")]
    found = compare_arms(judge, ArmScores(Scores(rows), range(SEEDS)), arms, "plain")
    assert [(one.arm, one.reference) for one in found.of_score(PSNR)] == [("b", "a"), ("a", "plain")]
    _, told, overall = verdict(judge, found, arms)
    assert overall == outcome and "plain" in told
