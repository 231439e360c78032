"""Pages of the results of a claim: claim.md for the documentation, and report.html with pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganatomy import catalogue
from ganatomy.claims.claim import Claim, Predicate
from ganatomy.claims.decide import Reproduction, Result, check
from ganatomy.evaluation.arms import ArmScores, add_arms, of_one_seed
from ganatomy.evaluation.judging import FEW, Judgement, limits
from ganatomy.metrics.statistics import FEWEST_RUNS, count, crossed_interval
from ganatomy.reports.report import Report
from ganatomy.training.arms import Judged, unknown_code


@dataclass(frozen=True)
class JudgedArms:
    """The arms of a claim that are of one kind of task, judged on the same cases.

    Attributes:
        arms: names of the arms.
        judged: judge of their task, and entries, cases, rows and problems of all runs.
        scores: scores of all arms and seeds.
        data: place of the images, for people to read.
    """

    arms: tuple[str, ...]
    judged: Judged
    scores: ArmScores
    data: str

    @property
    def first_seed(self) -> Judgement:
        """The judgement of the first seed, with the first arm as the output, to illustrate it."""
        return of_one_seed(self.arms, 0, self.judged.entries, self.judged.prepared, self.judged.rows)

    def checked(self, predicate: Predicate) -> Result:
        """Test a predicate of one of the arms."""
        return check(predicate.against(self.judged.reference.name), self.scores, self.judged.judge)

    def references(self, claim: Claim) -> dict[str, str]:
        """Return the strongest method without training, and the tuned ones that a claim names, to how they were chosen.

        Args:
            claim: the claim.
        """
        named = {part.second for part in claim.predicates if part.first in self.arms}
        strongest = ": ".join(filter(None, self.judged.reference))
        about = {entry.name: entry.about for entry in self.judged.entries if entry.name in named and entry.about}
        return {f"strongest reference of {self.arms[0]}": strongest, **about}


ARROWS = {"higher": " ↑", "lower": " ↓"}
HEADINGS = ("claim", "score", "first", "second", "difference", "finding")


def cells(result: Result) -> list[str]:
    """Return the cells of a predicate's row, under `HEADINGS`."""
    predicate = result.predicate
    margin = f", margin {predicate.margin:g} {result.unit}".rstrip() if predicate.margin else ""
    return [
        predicate.words,
        predicate.score + ARROWS[result.better],
        f"{predicate.first}: {limits(result.first, result.unit)}",
        f"{predicate.second}: {limits(result.second, result.unit)}{margin}",
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
            *([f"Not tested: {found.claim.untested}", ""] if found.claim.untested else []),
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
        f"the other, else undecided; where there is a margin, the first one may be worse by so much. Below "
        f"{FEWEST_RUNS} runs of every arm nothing is decided."
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
        **facts["references"],
        "weights": f"{facts['weights']} of every arm",
        "device": f"{facts['device']}, {'all' if facts['threads'] is None else facts['threads']} "
        f"thread{'' if facts['threads'] == 1 else 's'}",
        "hours of training": f"{facts['hours']:.2f}",
        "code": f"`{facts['code']}`, commit {facts['commit'] or 'unknown'}"
        if facts["code"]
        else unknown_code(facts["of_unknown_code"]),
        "versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
    }
    return told | {arm: ", ".join(named.values()) for arm, named in facts["provenance"].items() if named}


def write_report(found: Reproduction, groups: Sequence[JudgedArms], folder: Path) -> None:
    """Write report.html with the verdict, pictures and scores of every kind of task into a folder."""
    facts, claim = found.facts, found.claim
    page = Report(
        f"{catalogue.resolve(claim.slug).title}: is the claim reproduced?",
        f"{facts['data']}, {count(facts['seeds'], 'seed')}, {count(len(facts['test_subjects']), 'test subject')}",
    )
    page.headline(found.sentence, found.outcome).text(claim.words)
    if claim.untested:
        page.text(f"Not tested: {claim.untested}")
    # The means of the arms have a table of their own further down.
    parts = [cells(result) for result in found.results]
    page.table([[row[0], row[1], *row[4:]] for row in parts], [HEADINGS[0], HEADINGS[1], *HEADINGS[4:]])
    for group in groups:
        page.section("Pictures (first seed)")
        page.text(f"The pictures named output are those of {group.arms[0]}.")
        judge = group.judged.judge
        judge.illustrate(page, group.first_seed)
        page.section("The arms")
        own = [predicate for predicate in claim.predicates if predicate.first in group.arms]
        reference = group.judged.reference.name
        before = [*[entry.name for entry in judge.references()[0]], reference]
        names = list(dict.fromkeys([*before, *[part.against(reference).second for part in own], *group.arms]))
        wanted = list(dict.fromkeys(predicate.score for predicate in own))
        add_arms(page, judge, group.scores, names, wanted, crossed_interval)
    page.measured(
        {
            "Claim": "written down in ganatomy.claims.sections before it was tested",
            "Finding": _rule(facts),
            **how_it_was_run(facts),
            **{name: text for group in groups for name, text in group.judged.judge.measured().items()},
        }
    )
    few = len(facts["test_subjects"]) < FEW
    points = (
        [f"Only {count(len(facts['test_subjects']), 'test subject')}: other subjects may well differ."] if few else []
    )
    points += [point for group in groups for point in group.judged.judge.caveats(group.first_seed)]
    page.caveats([*dict.fromkeys(points), *found.problems]).save(folder / "report.html")
