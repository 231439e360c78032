"""Pages of the results of a claim: claim.md for the documentation, and report.html with pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ganatomy import catalogue
from ganatomy.claims.decide import Reproduction, Result
from ganatomy.evaluation.arms import ArmScores, add_arms
from ganatomy.evaluation.judging import FEW, Judge, Judgement, limits
from ganatomy.metrics.statistics import FEWEST_RUNS, count, crossed_interval
from ganatomy.reports.report import Report

ARROWS = {"higher": " ↑", "lower": " ↓"}
HEADINGS = ("claim", "score", "first", "second", "difference", "finding")


def cells(result: Result) -> list[str]:
    """Return the cells of a predicate's row, under `HEADINGS`."""
    predicate = result.predicate
    return [
        predicate.words,
        predicate.score + ARROWS[result.better],
        f"{predicate.first}: {limits(result.first, result.unit)}",
        f"{predicate.second}: {limits(result.second, result.unit)}",
        limits(result.difference, result.unit, signed=True),
        result.finding,
    ]


def markdown(found: Reproduction) -> str:
    """Return the results as a Markdown page for the documentation."""
    facts = found.facts
    return "\n".join(
        [
            f"# {catalogue.resolve(found.claim.slug).title}: is the claim reproduced?",
            "",
            f"**Claim.** {found.claim.words}",
            "",
            f"**{found.sentence}**",
            "",
            f"| {' | '.join(HEADINGS)} |",
            "|" + "---|" * len(HEADINGS),
            *[f"| {' | '.join(cells(result))} |" for result in found.results],
            "",
            f"Arrows point to the better side. {_rule(facts)}",
            "",
            "| how it was run | |",
            "|---|---|",
            *[f"| {name} | {value} |" for name, value in how_it_was_run(facts).items()],
            *[f"\nLeft out: {problem}." for problem in found.problems],
            "",
        ]
    )


def _rounds(facts: Mapping[str, Any]) -> str:
    """Return the rounds of every arm and stage as text."""
    return "; ".join(
        f"{arm}: {', '.join(f'{stage} {rounds}' for stage, rounds in stages.items())}"
        for arm, stages in facts["rounds"].items()
    )


def _rule(facts: Mapping[str, Any]) -> str:
    """Return the rule by which parts of a claim are decided."""
    return (
        f"Means have 95 % intervals over {facts['resampled']} and training runs. A part is reproduced where the "
        f"interval of the difference (Welch's t over runs, with a component for {facts['resampled']}) and a bootstrap "
        f"interval over {facts['resampled']} alone lie on the claimed side of zero, not reproduced where both lie on "
        f"the other, else undecided. Below {FEWEST_RUNS} runs of every arm nothing is decided."
    )


def how_it_was_run(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what a reader must know to judge and to repeat the test: name to description."""
    told = {
        "data": f"{facts['data']}; {count(facts['train_subjects'], 'training subject')}, "
        f"{count(len(facts['test_subjects']), 'test subject')}",
        "runs of every arm": f"{facts['seeds']}, with the seeds 0 to {facts['seeds'] - 1}",
        "preset": facts["preset"],
        "rounds": _rounds(facts),
    }
    for arm, options in facts["differences"].items():
        values = ", ".join(f"`{name}` {ours} ({paper})" for name, (ours, paper) in options.items())
        told[f"{arm}, options (the paper's)"] = values or "those of the paper"
    told |= {
        "strongest reference": ": ".join(filter(None, facts["reference"].values())),
        "weights": f"{facts['weights']} of every arm",
        "device": f"{facts['device']}, {'all' if facts['threads'] is None else facts['threads']} "
        f"thread{'' if facts['threads'] == 1 else 's'}",
        "hours of training": f"{facts['hours']:.2f}",
        "code": f"`{facts['code']}`, commit {facts['commit'] or 'unknown'}",
        "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
    }
    return told | {arm: ", ".join(named.values()) for arm, named in facts["provenance"].items() if named}


def write_report(found: Reproduction, judge: Judge, judgement: Judgement, scores: ArmScores, folder: Path) -> None:
    """Write report.html with the verdict, pictures and scores into a folder."""
    facts, claim = found.facts, found.claim
    page = Report(
        f"{catalogue.resolve(claim.slug).title}: is the claim reproduced?",
        f"{facts['data']}, {count(facts['seeds'], 'seed')}, {count(len(facts['test_subjects']), 'test subject')}",
    )
    page.headline(found.sentence, found.outcome).text(claim.words)
    # The means of the arms have a table of their own further down.
    parts = [cells(result) for result in found.results]
    page.table([[row[0], row[1], *row[4:]] for row in parts], [HEADINGS[0], HEADINGS[1], *HEADINGS[4:]])
    page.section("Pictures (first seed)")
    page.text(f"The pictures named output are those of {next(iter(claim.arms))}.")
    judge.illustrate(page, judgement)
    page.section("The arms")
    before = [entry.name for entry in judge.references()[0]]
    arms = list(dict.fromkeys([*before, facts["reference"]["name"], *claim.arms]))
    wanted = list(dict.fromkeys(predicate.score for predicate in claim.predicates))
    add_arms(page, judge, scores, arms, wanted, crossed_interval)
    page.measured(
        {
            "Claim": "written down in ganatomy.claims.sections before it was tested",
            "Finding": _rule(facts),
            **how_it_was_run(facts),
            **judge.measured(),
        }
    )
    few = len(facts["test_subjects"]) < FEW
    points = (
        [f"Only {count(len(facts['test_subjects']), 'test subject')}: other subjects may well differ."] if few else []
    )
    page.caveats([*points, *judge.caveats(judgement), *found.problems]).save(folder / "report.html")
