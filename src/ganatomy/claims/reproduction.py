"""Test of a claim: train every arm with every seed, score all on the same subjects, decide each part of the claim."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ganatomy import catalogue
from ganatomy.claims.claim import Claim
from ganatomy.claims.decide import Result, check, find_claim, overall
from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.evaluation.arms import ArmScores, add_arms, label, of_one_seed
from ganatomy.evaluation.choosing import place, run_facts, seen_cases
from ganatomy.evaluation.evaluate import plain, versions
from ganatomy.evaluation.judging import FEW, Judge, Judgement, Scores, judge_of, limits
from ganatomy.images.atomic import locked, make_folder, replacing_together, write_text
from ganatomy.inference.runfile import RunFile, TrainConfig
from ganatomy.metrics.statistics import count, crossed_interval
from ganatomy.reports import terminal
from ganatomy.reports.report import Outcome, Report
from ganatomy.training.arms import Arm, judge_models, pinned, runs_of, share, train_run

RESULTS = ("claim.json", "claim.md", "report.html")
"""Files of the results, the first of which tells whose they are."""


@dataclass(frozen=True)
class Reproduction:
    """Results of testing a claim.

    Attributes:
        claim: the claim that was tested.
        results: result of each predicate.
        sentence: overall verdict.
        outcome: overall verdict as an outcome, which decides the colour of the headline.
        facts: data, subjects, seeds, rounds and versions.
        out: folder with claim.json, claim.md, report.html and the runs.
        problems: one line for every case that was left out.
    """

    claim: Claim
    results: Sequence[Result]
    sentence: str
    outcome: Outcome
    facts: Mapping[str, Any]
    out: Path
    problems: Sequence[str]


def reproduce(
    slug: str,
    out: Path,
    data: DataConfig | None = None,
    *,
    seeds: int = 3,
    rounds: int | None = None,
    preset: str = "small",
    options: TrainConfig | None = None,
    secret: Path | None = None,
    show: bool = False,
) -> Reproduction:
    """Train every arm of a claim with every seed, score all on the same test subjects, and decide the claim.

    Args:
        slug: slug of the system.
        out: folder for runs and results; finished runs in it are used again, unfinished ones resumed.
        data: place of the images and how they are read; None means built-in phantoms.
        seeds: number of seeds, counted from 0.
        rounds: rounds of the proposed method; other arms get as many per stage. None means those of the preset.
        preset: name of the preset of every arm.
        options: options of the training; seed and rounds are set here.
        secret: file with the secret from which pseudonyms of subjects are made; None means the user's own.
        show: print progress on the terminal.

    Raises:
        UserError: the system is unknown, has no claim or no test subject, or ``out`` holds other runs.
    """
    claim = find_claim(slug)
    arms = arms_of(claim, preset, rounds, on_phantom=data is None or data.data is None)
    task, pseudonyms = arms[0].method.task, Pseudonyms.of_user(secret)
    data = pinned(data or DataConfig(), task, pseudonyms)
    check_results(out, slug)
    make_folder(out)
    with locked(out):
        return _reproduce(claim, arms, out, data, seeds, preset, options, secret, show)


def check_results(out: Path, slug: str) -> None:
    """Refuse a folder with files of the names of the results, unless they are those of an earlier test of the claim.

    Raises:
        UserError: the files are not known to be results.
    """
    there = [name for name in RESULTS if (out / name).exists()]
    try:
        own = not there or json.loads((out / RESULTS[0]).read_text(encoding="utf-8"))["system"] == slug
    except (OSError, ValueError, KeyError, TypeError):
        own = False
    if not own:
        raise UserError(f"--out {out}: {there[0]} there is not one of this claim; choose a new or empty folder")


def _reproduce(
    claim: Claim,
    arms: Sequence[Arm],
    out: Path,
    data: DataConfig,
    seeds: int,
    preset: str,
    options: TrainConfig | None,
    secret: Path | None,
    show: bool,
) -> Reproduction:
    """Train and judge all arms, and write the results; the arguments are those of `reproduce`."""
    task, pseudonyms = arms[0].method.task, Pseudonyms.of_user(secret)
    console, training = terminal.console(show), options or TrainConfig()
    models = {run.label: train_run(run, out, data, training, console, secret) for run in runs_of(arms, range(seeds))}
    judge, store = judge_of(task), Store(task, data.cache_folder)
    cases = [case for case in discover(task, data) if case.split == "test"]
    facts_of = {name: run_facts(model) for name, model in models.items()}
    known = seen_cases(task, next(iter(facts_of.values())), pseudonyms)
    labels = Labels([*cases, *known], pseudonyms)
    entries, prepared, rows, problems = judge_models(judge, models, cases, known, store, labels, console)
    scores = ArmScores(Scores(rows), range(seeds))
    results = [check(predicate, scores, judge) for predicate in claim.predicates]
    first = {arm: facts_of[label(arm, 0)] for arm in claim.arms}
    subjects = sorted({case.case.subject for case in prepared})
    facts = {
        "data": labels.place(place(data)),
        "preset": preset,
        "test_subjects": subjects,
        "resampled": judge.resampled,
        **_facts(first, seeds),
    }
    found = Reproduction(claim, results, *overall(results), facts, out, [problem.written for problem in problems])
    with replacing_together(out, RESULTS) as work:
        write_text(work / "claim.json", json.dumps(plain(as_json(found)), indent=1) + "\n")
        write_text(work / "claim.md", markdown(found))
        write_report(found, judge, of_one_seed([*claim.arms], 0, entries, prepared, rows), scores, work)
    return found


def arms_of(claim: Claim, preset: str, rounds: int | None = None, *, on_phantom: bool = True) -> list[Arm]:
    """Return the arms of a claim, the proposed method first.

    Args:
        claim: claim to be tested.
        preset: name of the preset of every arm.
        rounds: rounds of the proposed method; other arms get as many per stage. None means those of the preset.
        on_phantom: whether no data are given, so that the options of the claim's phantom hold.
    """
    arms, common = [], claim.phantom if on_phantom else {}
    for name, own in claim.arms.items():
        system = catalogue.resolve(claim.system(name))
        arms.append(Arm(name, system, system.cls.Config.preset(preset, **{**common, **own})))
    proposed = arms[0].method
    return [replace(arm, rounds=share(rounds, arm.method, proposed)) for arm in arms]


def _facts(runs: Mapping[str, RunFile], seeds: int) -> dict[str, Any]:
    """Return the facts about the runs of the first seed, by arm; runs of other seeds differ in the seed alone."""
    return {
        "seeds": seeds,
        "train_subjects": len(next(iter(runs.values())).split.train),
        "rounds": {arm: facts.rounds for arm, facts in runs.items()},
        "selection": {arm: facts.selection.score for arm, facts in runs.items()},
        "provenance": {arm: facts.provenance for arm, facts in runs.items()},
        "versions": versions(),
    }


def as_json(found: Reproduction) -> dict[str, Any]:
    """Return all results as values that JSON can hold, for claim.json."""
    return {
        "system": found.claim.slug,
        "claim": found.claim.words,
        "verdict": found.sentence,
        "results": [asdict(result) for result in found.results],
        **found.facts,
        "problems": list(found.problems),
    }


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
            "Arrows point to the better side. Means with 95 % intervals from an analysis of variance over "
            f"{facts['resampled']} crossed with seeds: a part is reproduced where the interval of the difference lies "
            "on the claimed side of zero, not reproduced where it lies on the other, else undecided.",
            "",
            f"Data: {facts['data']}; {count(facts['train_subjects'], 'training subject')}, "
            f"{count(len(facts['test_subjects']), 'test subject')}, {count(facts['seeds'], 'seed')}, preset "
            f"{facts['preset']}. Rounds: {_rounds(facts)}. Weights chosen by "
            f"{', '.join(f'{name} ({arm})' for arm, name in facts['selection'].items())}.",
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
    arms = [*before, *claim.arms]
    wanted = list(dict.fromkeys(predicate.score for predicate in claim.predicates))
    add_arms(page, judge, scores, arms, wanted, crossed_interval)
    page.measured(
        {
            "Claim": "written down in ganatomy.claims.sections before it was tested",
            "Finding": "reproduced where the 95 % interval of the difference lies on the claimed side of zero, not "
            "reproduced where it lies on the other side, undecided where it contains zero",
            "Intervals": f"analysis of variance over {judge.resampled} and, crossed with them, seeds (Hillis 2007)",
            "Rounds": _rounds(facts),
            "Weights chosen by": ", ".join(f"{arm}: {name}" for arm, name in facts["selection"].items()),
            **judge.measured(),
            **{arm: ", ".join(named.values()) for arm, named in facts["provenance"].items() if named},
            "Versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        }
    )
    few = len(facts["test_subjects"]) < FEW
    points = (
        [f"Only {count(len(facts['test_subjects']), 'test subject')}: other subjects may well differ."] if few else []
    )
    page.caveats([*points, *judge.caveats(judgement), *found.problems]).save(folder / "report.html")
