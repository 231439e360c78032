"""Test of a claim: train every arm with every seed, score all on the same subjects, decide each part of the claim."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console

from ganatomy import catalogue
from ganatomy.claims.claim import Claim
from ganatomy.claims.code import claim_digest
from ganatomy.claims.decide import Reproduction, find_claim, overall
from ganatomy.claims.miniature import differences_from_paper
from ganatomy.claims.page import JudgedArms, markdown, write_report
from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.errors import UserError
from ganatomy.evaluation.arms import ArmScores, label
from ganatomy.evaluation.choosing import place, run_facts, seen_cases
from ganatomy.evaluation.evaluate import plain, versions
from ganatomy.evaluation.judging import Scores
from ganatomy.images.atomic import locked, make_folder, replacing_together, write_text
from ganatomy.inference.model import Model
from ganatomy.inference.runfile import RUN_FILE, RunFile, TrainConfig, read_run
from ganatomy.reports import terminal
from ganatomy.training.arms import (
    WEIGHTS_COMPARED,
    Arm,
    Run,
    check_runs,
    judge_models,
    pinned,
    runs_of,
    share,
    train_run,
    values_beside,
)
from ganatomy.training.series import finished

RESULTS = ("claim.json", "claim.md", "report.html")
"""Files of the results, the first of which tells whose they are."""
TIMES = "seconds.json"
"""File of the seconds that each run has been trained for."""
THREADS = 1
"""CPU threads of every training where none are given: results repeat only on the same number of threads."""


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
    retrain: bool = False,
) -> Reproduction:
    """Train every arm of a claim with every seed, score all on the same test subjects, and decide the claim.

    Args:
        slug: slug of the system.
        out: folder for runs and results; finished runs in it are used again, unfinished ones resumed.
        data: place of the images and how they are read; None means built-in phantoms.
        seeds: number of seeds, counted from 0.
        rounds: rounds of the proposed method; other arms get as many per stage. None means those of the preset.
        preset: name of the preset of every arm.
        options: options of the training; seed and rounds are set here. None means the defaults on `THREADS` threads.
        secret: file with the secret from which pseudonyms of subjects are made; None means the user's own.
        show: print progress on the terminal.
        retrain: train again what has been trained by other code than the present one, or by code that is not known;
            the old runs are kept beside the new ones.

    Raises:
        UserError: the system is unknown, has no claim or no test subject, or ``out`` holds other runs, or runs of other
            code without ``retrain``.
    """
    claim = find_claim(slug)
    arms = arms_of(claim, preset, rounds, on_phantom=data is None or data.data is None)
    task, pseudonyms = arms[0].method.task, Pseudonyms.of_user(secret)
    data = pinned(data or DataConfig(), task, pseudonyms)
    check_results(out, slug)
    make_folder(out)
    with locked(out):
        return _reproduce(claim, arms, out, data, seeds, preset, options, secret, show, retrain)


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
    retrain: bool,
) -> Reproduction:
    """Train and judge all arms, and write the results; the arguments are those of `reproduce`."""
    pseudonyms = Pseudonyms.of_user(secret)
    console, training = terminal.console(show), options or TrainConfig(threads=THREADS)
    # Code may change while this runs: the result is that of the code at its beginning.
    code, commit_at_first = claim_digest(claim, arms), commit()
    unknown = check_runs(runs_of(arms, range(seeds)), out, data, console, retrain=retrain)
    models = {run.label: _train_timed(run, out, data, training, console, secret) for run in runs_of(arms, range(seeds))}
    facts_of = {name: run_facts(model) for name, model in models.items()}
    groups = [
        _judged(group, models, data, seeds, pseudonyms, console)
        for group in (tuple(arm.name for arm in arms if arm.method.task.name == name) for name in _tasks(arms))
    ]
    group_of = {arm: group for group in groups for arm in group.arms}
    results = [group_of[part.first].checked(part) for part in claim.predicates]
    first = {arm: facts_of[label(arm, 0)] for arm in claim.arms}
    differences = differences_from_paper(claim, arms)
    subjects = sorted({case.case.subject for group in groups for case in group.judged.prepared})
    facts = {
        "data": groups[0].data,
        "preset": preset,
        "test_subjects": subjects,
        "resampled": " or ".join(dict.fromkeys(group.judged.judge.resampled for group in groups)),
        "references": {name: told for group in groups for name, told in group.references(claim).items()},
        "differences": differences,
        "threads": training.threads,
        "device": next(iter(models.values())).device,
        "hours": sum(_seconds(out).values()) / 3600,
        "code": None if unknown else code,
        "of_unknown_code": unknown,
        "commit": commit_at_first,
        **_facts(first, seeds),
    }
    verdict = overall(results, miniature=any(differences.values()))
    problems = [problem.written for group in groups for problem in group.judged.problems]
    found = Reproduction(claim, results, *verdict, facts, out, problems)
    with replacing_together(out, RESULTS) as work:
        write_text(work / "claim.json", json.dumps(plain(as_json(found)), indent=1) + "\n")
        write_text(work / "claim.md", markdown(found))
        write_report(found, groups, work)
    return found


def _tasks(arms: Sequence[Arm]) -> list[str]:
    """Return the kinds of task of all arms, that of the proposed method first."""
    return list(dict.fromkeys(arm.method.task.name for arm in arms))


def _judged(
    arms: tuple[str, ...],
    models: Mapping[str, Model],
    data: DataConfig,
    seeds: int,
    pseudonyms: Pseudonyms,
    console: Console,
) -> JudgedArms:
    """Judge all runs of the arms of one kind of task, and the references of that kind.

    Args:
        arms: names of the arms.
        models: name of every run to its model.
        data: place of the images and how they are read.
        seeds: number of seeds.
        pseudonyms: keyed by the secret of the user.
        console: terminal for progress.
    """
    own = {label(arm, seed): models[label(arm, seed)] for arm in arms for seed in range(seeds)}
    model = own[label(arms[0], 0)]
    task = model.method.task
    cases = [case for case in discover(task, data) if case.split == "test"]
    known, validation = (seen_cases(task, run_facts(model), pseudonyms, side) for side in ("train", "val"))
    labels = Labels([*cases, *known, *validation], pseudonyms)
    judged = judge_models(own, cases, known, validation, data.cache_folder, labels, console)
    return JudgedArms(arms, judged, ArmScores(Scores(judged.rows), range(seeds)), labels.place(place(data)))


def arms_of(claim: Claim, preset: str, rounds: int | None = None, *, on_phantom: bool = True) -> list[Arm]:
    """Return the arms of a claim, the proposed method first.

    Args:
        claim: claim to be tested.
        preset: name of the preset of every arm.
        rounds: rounds of the proposed method; others get the same share of their own, or as many where the claim says
            so. None means those of the preset.
        on_phantom: whether no data are given, so that the options of the claim's phantom hold.
    """
    arms, common = list[Arm](), claim.phantom if on_phantom else {}
    for name, own in claim.arms.items():
        system = catalogue.resolve(claim.system(name))
        kind = system.cls.Config
        # Arms of other systems take over what belongs to the kind of task, such as the size.
        alike = values_beside(arms[0].method, kind) if arms and system != arms[0].system else {}
        arms.append(Arm(name, system, kind.preset(preset, **{**alike, **common, **own})))
    proposed = arms[0].method
    whole = rounds or sum(stage.rounds for stage in proposed.stages())
    return [
        replace(arm, rounds=whole if arm.name in claim.as_long else share(rounds, arm.method, proposed)) for arm in arms
    ]


def _facts(runs: Mapping[str, RunFile], seeds: int) -> dict[str, Any]:
    """Return the facts about the runs of the first seed, by arm; runs of other seeds differ in the seed alone."""
    return {
        "seeds": seeds,
        "train_subjects": len(next(iter(runs.values())).split.train),
        "rounds": {arm: facts.rounds for arm, facts in runs.items()},
        "weights": WEIGHTS_COMPARED,
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


def _train_timed(
    run: Run, out: Path, data: DataConfig, options: TrainConfig, console: Console, secret: Path | None
) -> Model:
    """Train a run as `train_run` does, and add the seconds that this takes to those of earlier attempts."""
    folder = out / run.place
    if (folder / RUN_FILE).is_file() and finished(folder, read_run(folder)):
        return train_run(run, out, data, options, console, secret)
    begun, resumed = monotonic(), (folder / RUN_FILE).is_file()
    try:
        return train_run(run, out, data, options, console, secret)
    finally:
        known = _seconds(out)
        known[run.label] = (known.get(run.label, 0.0) if resumed else 0.0) + monotonic() - begun
        write_text(out / TIMES, json.dumps(known, indent=1) + "\n")


def _seconds(out: Path) -> dict[str, float]:
    """Return the seconds of training of every run so far; what is unreadable counts as nothing."""
    try:
        return {str(name): float(value) for name, value in json.loads((out / TIMES).read_text("utf-8")).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def commit() -> str | None:
    """Return the commit of the checkout that ganatomy is imported from, with ``+`` where files differ; else None."""
    here = Path(__file__)

    def told(*words: str) -> str:
        found = subprocess.run(["git", "-C", str(here.parent), *words], capture_output=True, text=True, check=True)
        return found.stdout.strip()

    try:
        told("ls-files", "--error-unmatch", here.name)  # a package installed within another checkout is no part of it
        return told("rev-parse", "--short=10", "HEAD") + "+" * bool(told("status", "--porcelain", "--", ".."))
    except (OSError, subprocess.CalledProcessError):
        return None
