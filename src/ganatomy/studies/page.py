"""Report page of a study: pictures, curves over the share of annotations, the arms and their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from ganatomy.evaluation.arms import ArmScores, add_arms
from ganatomy.evaluation.judging import FEW, Judge, Judgement, Score
from ganatomy.metrics.statistics import FEWEST_RUNS, Interval, count, crossed_interval
from ganatomy.reports.report import Cell, Column, Report
from ganatomy.reports.style import STYLE, colours, new_figure, plain
from ganatomy.studies.comparison import Comparison
from ganatomy.training.arms import Arm, unknown_code


@rc_context(STYLE)
def curve_plot(curves: Mapping[str, Mapping[float, Interval]], score: Score) -> Figure:
    """Plot a score over the share of annotated subjects, one line per system.

    Args:
        curves: name of a system to share of annotated subjects to mean with its interval.
        score: score that is plotted.
    """
    figure = new_figure(6.4, 3.4)
    plot = figure.subplots()
    for name, colour in colours(curves).items():
        shares = sorted(curves[name])
        means = np.array([curves[name][share].mean for share in shares])
        limits = np.array([(curves[name][share].low, curves[name][share].high) for share in shares])
        reach = np.nan_to_num(np.abs(limits - means[:, None])).T
        at = [100 * share for share in shares]
        plot.errorbar(at, means, reach, color=colour, marker="o", markersize=5, capsize=3, label=name)
    direction = f", {score.better} is better" if score.better else ""
    plot.set_title(plain(f"{score.name}{f' ({score.unit})' if score.unit else ''}{direction}"))
    plot.set_xlabel("Annotated training subjects whose annotations were used (%)")
    plot.set_xticks([100 * share for share in sorted({share for curve in curves.values() for share in curve})])
    if len(curves) > 1:
        plot.legend()
    return figure


def curves_of(found: Comparison, arms: Sequence[Arm], score: str) -> dict[str, dict[float, Interval]]:
    """Return means of a score by system and share of annotations; systems with a single share are left out."""
    curves: dict[str, dict[float, Interval]] = {}
    for arm in arms:
        if arm.label_fraction is not None and arm.name in found.means[score]:
            system = arm.name.removesuffix(f"-{arm.label_fraction:g}")
            curves.setdefault(system, {})[arm.label_fraction] = found.means[score][arm.name]
    return {name: curve for name, curve in curves.items() if len(curve) > 1}


def compose(
    page: Report,
    judge: Judge,
    judgement: Judgement,
    found: Comparison,
    scores: ArmScores,
    arms: Sequence[Arm],
    facts: Mapping[str, Any],
) -> Report:
    """Add all sections below the headline to the page of a study.

    Args:
        page: page with its headline.
        judge: judge that scored the judgement.
        judgement: judgement of the first seed, and of the first fold where there are several.
        found: means and differences of all arms.
        scores: scores of all arms and seeds.
        arms: arms of the study.
        facts: facts of the study, as in ``results.json``.
    """
    names = [score.name for score in found.scores]
    leading = [name for name in judge.leading if name in names] or names[:1]
    fold = ", first fold" if facts["folds"] else ""
    page.section(f"Pictures (first seed{fold})").text(f"The pictures named output are those of {arms[0].name}.")
    judge.illustrate(page, judgement)
    curves = {name: curves_of(found, arms, name) for name in leading}
    if any(curves.values()):
        page.section("With fewer annotations")
        for name in leading:
            if curves[name]:
                page.figure(
                    curve_plot(curves[name], judge.named(name)),
                    f"{name} with annotations of a part of the training subjects; bars are 95 % intervals over "
                    f"{judge.resampled} and seeds.",
                )
    page.section("The arms")
    add_arms(page, judge, scores, list(found.means[leading[0]]), leading, crossed_interval)
    page.section("Differences")
    rows: list[list[Cell]] = [
        [one.arm, one.reference, one.score.name, one.interval, one.outcome or "–"] for one in found.differences
    ]
    columns = [Column(name) for name in ("arm", "against", "score", "difference", "the arm is")]
    page.table(rows, columns, caption="Paired by subject, with 95 % intervals over subjects and seeds.", sortable=True)
    page.measured(
        {
            "Intervals": f"of means: analysis of variance over {judge.resampled} and, crossed with them, seeds (Hillis "
            f"2007); of differences: Welch's t over seeds, with a component for {judge.resampled}",
            "Outcome": f"better or worse where neither the 95 % interval of the difference nor that over "
            f"{judge.resampled} alone contains zero and there are at least {FEWEST_RUNS} seeds",
            "Strongest simple method": ": ".join(filter(None, facts["reference"].values())),
            "Seeds": ", ".join(map(str, facts["seeds"])),
            "Tested on": f"every subject once, in {facts['folds']} folds" if facts["folds"] else "the same subjects",
            **{name: _told(arm) for name, arm in facts["arms"].items()},
            **judge.measured(),
            "Versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        }
    )
    points = caveats(found, facts)
    if judge.resampled != "subjects":
        points.append(
            f"Intervals are over {judge.resampled} and seeds: they show the uncertainty for these subjects, "
            "not how results differ between subjects."
        )
    return page.caveats([*points, *judge.caveats(judgement), *facts["problems"]])


def _told(arm: Mapping[str, Any]) -> str:
    """Return the facts about an arm on one line."""
    rounds = ", ".join(f"{stage} {rounds}" for stage, rounds in arm["rounds"].items())
    shown = f"{count(arm['training_subjects'], 'training subject')}"
    if arm["label_fraction"] is not None:
        shown += f", annotations of {arm['annotated_subjects']}"
    return "; ".join([arm["system"], shown, f"rounds {rounds}", f"{arm['weights']} weights"])


def caveats(found: Comparison, facts: Mapping[str, Any]) -> list[str]:
    """Return sentences on the limits of the study."""
    subjects, seeds = len(facts["test_subjects"]), len(facts["seeds"])
    points = [unknown_code(facts["of_unknown_code"])] if facts["of_unknown_code"] else []
    if subjects < FEW:
        points.append(f"Only {count(subjects, 'test subject')}: other subjects may well differ.")
    if seeds == 1:
        points.append("One seed: intervals cover subjects only, and another seed may reverse the result.")
    if seeds < FEWEST_RUNS:
        points.append(f"Not run enough for a verdict: that needs at least {FEWEST_RUNS} seeds.")
    if len(found.differences) > 1:
        points.append(
            f"{len(found.differences)} differences are reported without correction for their number: about one "
            "interval in twenty misses the true difference."
        )
    return points
