"""The report of an evaluation below its headline: illustrations, tables, training curves, and how it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganatomy.evaluation.judging import FEW, OUTPUT, TARGET, Judge, Judgement, Scores, limits
from ganatomy.evaluation.sites import Site, add_sites
from ganatomy.inference.model import Model
from ganatomy.metrics.statistics import FEWEST_SUBJECTS, Interval, count
from ganatomy.reports.curves import read_metrics, training_curves
from ganatomy.reports.figures import paired_plot
from ganatomy.reports.measures import ROTATION
from ganatomy.reports.report import Cell, Column, Report
from ganatomy.reports.style import title


def compose(
    report: Report,
    judge: Judge,
    judgement: Judgement,
    model: Model,
    facts: Mapping[str, Any],
    sites: Sequence[Site] = (),
) -> Report:
    """Add everything below the headline to a report.

    Args:
        report: report to add to.
        judge: judge of the task.
        judgement: entries, cases and scores.
        model: run that was judged.
        facts: description of the evaluation, see `ganatomy.evaluation.evaluate.describe`.
        sites: sites of the judged cases, where they are known.
    """
    scores = judgement.scores
    judge.illustrate(report, judgement)
    report.section("The numbers")
    add_summary(report, judge, scores)
    for name in judge.plotted:
        found = {method: scores.by_subject(method, name) for method in scores.methods if method != TARGET}
        if all(found.values()):
            score = judge.named(name)
            report.figure(
                paired_plot(found, metric=name, unit=score.unit, better=score.better),
                f"{name}, one line per subject; diamonds are means with their 95 % intervals.",
            )
    add_comparisons(report, judge, scores)
    add_run_times(report, facts["run_time"])
    add_sites(report, judge, judgement.reference, sites)
    add_cases(report, judge, scores)
    add_training(report, model)
    report.measured(_measured(judge, judgement, facts))
    return report.caveats(_caveats(judge, judgement, facts))


def add_summary(report: Report, judge: Judge, scores: Scores) -> None:
    """Add a table of all methods for every group of scores, with intervals."""
    for group in dict.fromkeys(score.group for score in judge.scores):
        members = [score for score in judge.scores if score.group == group]
        columns = [Column("method"), *[score.column for score in members]]
        rows: list[list[Cell]] = [
            [title(method), *[_defined(scores, method, score.name) for score in members]] for method in scores.methods
        ]
        shown = [row for row in rows if any(row[1:])]
        if shown:
            report.table(
                shown, columns, caption=f"{group}: means over {judge.resampled}, with 95 % intervals".lstrip(": ")
            )
    if left := undefined(judge, scores):
        report.text(f"Left out, since they are not defined: {left}.")


def _defined(scores: Scores, method: str, score: str) -> Interval | None:
    """Return the mean of a score with its interval; None where it is defined in no case."""
    found = scores.interval(method, score)
    return found if found and found.n else None


def undefined(judge: Judge, scores: Scores) -> str:
    """Return in words which scores of which methods are defined in no case, such as the contrast of a constant."""
    by_methods: dict[tuple[str, ...], list[str]] = {}
    for score in judge.scores:
        lacking = [
            method for method in scores.methods if (found := scores.interval(method, score.name)) and not found.n
        ]
        if lacking:
            by_methods.setdefault(tuple(lacking), []).append(score.name)
    return "; ".join(f"{listed(names)} of {listed(methods)}" for methods, names in by_methods.items())


def listed(words: Sequence[str]) -> str:
    """Return words with commas, and ``and`` before the last one."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def add_comparisons(report: Report, judge: Judge, scores: Scores) -> None:
    """Add a table that compares the output with every other method, score by score."""
    rows: list[list[Cell]] = []
    for score in judge.scores:
        for other, found in scores.against_others(score).items():
            if not found.difference.n:
                continue  # the score of one of the two is undefined everywhere, such as the contrast of a constant
            tested = f"{found.p:.2g}" if found.p is not None else None
            fraction = f"{found.improved} of {count(found.difference.n, found.difference.unit_of_resampling)}"
            amount = limits(found.difference, score.unit, signed=True)
            rows.append([f"{score.name} against {other}", amount, found.outcome, fraction, tested])
    if rows:
        columns = ["output", "difference", "verdict", "better in", "p (Wilcoxon)"]
        rule = f"undecided if zero is inside, or with fewer than {FEWEST_SUBJECTS} subjects"
        report.table(rows, columns, caption=f"The output compared, subject by subject; {rule}.")


def add_run_times(report: Report, facts: Mapping[str, Any]) -> None:
    """Add a table of the run times of all methods, see `ganatomy.evaluation.timing.run_times`."""
    image = facts["image"]
    rows: list[list[Cell]] = [
        [title(name), f"{found['seconds']:g}", str(found["images"])] for name, found in facts["methods"].items()
    ]
    columns = ["method", f"seconds per {image}", f"{image}s"]
    report.table(rows, columns, caption=f"Run time: wall-clock time per {image} {_where(facts)}")


def _where(facts: Mapping[str, Any]) -> str:
    """Return in words where run times were measured."""
    threads = count(facts["threads"], "CPU thread")
    return f"on {threads}" if facts["device"] == "cpu" else f"with networks on {facts['device']} and {threads}"


def add_cases(report: Report, judge: Judge, scores: Scores) -> None:
    """Add a table of the output's leading scores, case by case."""
    shown = [judge.named(name) for name in judge.leading]
    columns = [Column("case"), Column("subject"), *[Column(s.name, s.unit, None, s.digits) for s in shown]]
    rows: list[list[Cell]] = []
    for case, subject in scores.cases.items():
        found = scores.of_case(case, OUTPUT)
        rows.append([case, subject, *[found.get(score.name) for score in shown]])
    report.section("Case by case")
    report.table(
        rows, columns, caption="Scores of the output, all of them in cases.csv; click a heading to sort.", sortable=True
    )


GAME = (
    "Adversarial training is a game in which every player descends its own loss. A generator whose gradient norm "
    "vanishes while that of its discriminator grows no longer learns from it. The rotation is the angle between the "
    "players' joint gradient and the change of this gradient along itself: near 0° all players descend one common "
    "loss, at 90° they rotate around an equilibrium, above 90° they diverge from it. The gain alone is the decrease of "
    "a player's own loss when it alone is trained for ten more steps: near an equilibrium it is close to zero for "
    "every player, a large one belongs to the player that lags behind, and the sum approximates the duality gap."
)
"""Explanation of the diagnostic curves, as it stands in reports."""


def add_training(report: Report, model: Model) -> None:
    """Add the training curves and diagnostics of a run, where its ``metrics.csv`` exists."""
    path = (model.folder or Path()) / "metrics.csv"
    if not path.is_file() or not (curves := read_metrics(path)):
        return
    report.section("How it was trained")
    report.figure(
        training_curves(curves),
        "Losses per player, gradient norms, the game's rotation, validation scores, and seconds per round.",
    )
    if ROTATION in curves:
        angles = curves[ROTATION][1]
        last = angles[-max(1, len(angles) // 4) :].mean()
        report.text(GAME, f"In the last quarter of this run the rotation was {last:.0f}° on average.")


def _measured(judge: Judge, judgement: Judgement, facts: Mapping[str, Any]) -> dict[str, str]:
    training, selection, reference = facts["training"], facts["training"]["selection"], facts["reference"]
    rounds = ", ".join(f"{name} {number}" for name, number in training["rounds"].items())
    return {
        "Data": f"{facts['data']}: {count(len(facts['subjects']), 'test subject')} ({', '.join(facts['subjects'])}), "
        f"{count(len(judgement.cases), 'case')}, {count(facts['slices'], 'slice')}",
        **judge.measured(),
        "Run time": f"{_where(facts['run_time'])}, from the prepared case to the output in its unit, while scores were "
        "taken; the first of several calls is left out",
        **({"Verdict against": f"{reference['name']}, {reference['chosen']}"} if reference["chosen"] else {}),
        "Compared with": "; ".join(f"{name}: {about}" for name, about in facts["methods"].items() if about),
        "Intervals and tests": f"95 %, bootstrap over {judge.resampled}; Wilcoxon signed-rank over them, not adjusted "
        "for the number of scores",
        "Trained on": f"{training['data']}, {count(len(training['subjects']['train']), 'subject')}, seed "
        f"{training['seed']}, rounds: {rounds}",
        **({"Augmentation": training["augmentation"]} if training.get("augmentation") else {}),
        **({"Images": facts["images"]} if "images" in facts else {}),
        **({"Resolution": facts["resolution"]} if facts.get("resolution") else {}),
        "Weights": f"{facts['weights']}; the best are chosen on validation data by {selection['score']} "
        f"({selection['better']} is better)",
        **{title(name): value for name, value in facts["provenance"].items()},
        "Versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
    }


def _caveats(judge: Judge, judgement: Judgement, facts: Mapping[str, Any]) -> list[str]:
    points = judge.caveats(judgement)
    if (number := len(facts["subjects"])) < FEW:
        points.insert(0, f"Only {count(number, 'test subject')}: intervals are wide, and other patients may differ.")
    if facts.get("resolution"):
        points.append(title(facts["resolution"]) + ".")
    points += [f"{title(name)}: {value}." for name, value in facts["provenance"].items() if "substitute" in value]
    return points + [title(note) + "." for note in facts["notes"]]
