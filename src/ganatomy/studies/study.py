"""Studies: train several arms alike with several seeds, score them together, and continue a study that was stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ganatomy import catalogue
from ganatomy.case import Case, Task
from ganatomy.catalogue import System
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.data.splits import Fold, divide
from ganatomy.errors import UserError
from ganatomy.evaluation.arms import ArmScores, of_one_seed
from ganatomy.evaluation.choosing import place, run_facts, seen_cases
from ganatomy.evaluation.evaluate import plain, versions
from ganatomy.evaluation.judging import Judge, Scores, limits
from ganatomy.game import MethodConfig
from ganatomy.images.atomic import replacing_together, write_text
from ganatomy.inference.model import Model
from ganatomy.inference.runfile import TrainConfig, read_run
from ganatomy.metrics.statistics import count
from ganatomy.reports import terminal
from ganatomy.reports.report import Outcome, Report
from ganatomy.studies.comparison import Comparison, compare_arms, tabulated, write_table
from ganatomy.studies.page import compose
from ganatomy.studies.plan import RESULTS, StudyFile, arms_of, open_folder
from ganatomy.training.arms import (
    WEIGHTS_COMPARED,
    Arm,
    Judged,
    Run,
    check_runs,
    judge_models,
    pinned,
    runs_of,
    train_run,
    with_phantoms,
)
from ganatomy.training.run import without_names

ARMS = Path("arms")
"""Folder of the runs in the folder of a study."""


@dataclass(frozen=True)
class Study:
    """Results of a study.

    Attributes:
        out: folder with study.yaml, results.json, table.csv, report.html and the runs in ``arms``.
        arms: arms of the study, the studied system first.
        found: means and differences.
        leading: name of the score in the headline.
        headline: verdict in sentences.
        outcome: outcome of the first arm against those with as many annotations; None where there are no others.
        problems: one line for every case that was left out.
    """

    out: Path
    arms: Sequence[Arm]
    found: Comparison
    leading: str
    headline: str
    outcome: Outcome | None
    problems: Sequence[str]


def study(
    system: str | System,
    out: Path,
    config: MethodConfig | None = None,
    data: DataConfig | None = None,
    options: TrainConfig | None = None,
    *,
    label_fraction: Sequence[float] = (),
    against: Sequence[str] = (),
    folds: int | None = None,
    seeds: int = 3,
    preset: str = "paper",
    secret: Path | None = None,
    show: bool = False,
    retrain: bool = False,
) -> Study:
    """Train a system with fewer annotations, its baseline or other systems under equal conditions, and compare them.

    Called again with the same settings, it keeps finished runs and continues an unfinished one.

    Args:
        system: system that is studied, or its name as for `catalogue.resolve`.
        out: folder of the study: new, empty, or of the same study.
        config: configuration of the method; None means that of ``preset``.
        data: place of the images; None means built-in phantoms.
        options: options of the training of every arm; its seed is the first one, its rounds are those of the system.
        label_fraction: shares of the annotated training subjects whose annotations are used, one arm for each; smaller
            shares are subsets of larger ones.
        against: names of other systems with the same roles, or ``baseline``, the system without the adversary.
        folds: number of folds of a cross-validation, which tests every subject once for each seed; None means that one
            part of the subjects is kept for testing.
        seeds: number of seeds.
        preset: name of the preset of the other systems.
        secret: file with the secret from which pseudonyms of subjects are made; None means the user's own.
        show: print progress on the terminal.
        retrain: train again what has been trained by other code than the present one, or by code that is not known;
            the old runs are kept beside the new ones.

    Raises:
        UserError: a setting is invalid, the folder holds another study or other files, or runs of other code without
            ``retrain``, or as for `train`.
        Stopped: a signal asked to stop; the same call continues.
    """
    system, options = catalogue.resolve(system), options or TrainConfig()
    config = config or system.cls.Config.preset(preset)
    check_numbers(seeds, folds)
    arms = arms_of(system, config, options.rounds, against, label_fraction, preset)
    task, pseudonyms = arms[0].method.task, Pseudonyms.of_user(secret)
    data, cases = settled_data(task, data or DataConfig(), folds, options.seed, pseudonyms)
    wanted = StudyFile(
        system=system.slug,
        config=config.model_dump(mode="json"),
        preset=preset,
        data=without_names(data, cases, pseudonyms),
        training=options,
        label_fraction=tuple(sorted(label_fraction)),
        against=tuple(against),
        folds=folds,
        seeds=seeds,
        secret=pseudonyms.fingerprint,
    )
    open_folder(out, wanted)
    console, labels = terminal.console(show), Labels(cases, pseudonyms)
    numbers = range(options.seed, options.seed + seeds)
    judged: list[Judged] = []
    runs = list(runs_of(arms, numbers, folds))
    unknown = check_runs(runs, out / ARMS, data, console, retrain=retrain)
    for group in groups_of(runs):
        models = {run.label: train_run(run, out / ARMS, data, options, console, secret) for run in group}
        judged.append(judge_group(models, cases, data, pseudonyms, labels, console))
    scores = ArmScores(Scores([row for one in judged for row in one.rows]), numbers)
    judge, reference = judged[0].judge, judged[0].reference
    found = compare_arms(judge, scores, arms, reference.name)
    leading, headline, outcome = verdict(judge, found, arms)
    problems = list(dict.fromkeys(problem.written for one in judged for problem in one.problems))
    facts = {
        "study": wanted.model_dump(mode="json"),
        "task": task.name,
        "data": labels.place(place(data)),
        "headline": headline,
        "outcome": outcome,
        "seeds": list(numbers),
        "folds": folds,
        "test_subjects": sorted({one.case.subject for part in judged for one in part.prepared}),
        "arms": {arm.name: facts_of(arm, out, numbers, folds) for arm in arms},
        "of_unknown_code": unknown,
        "reference": {"name": reference.name, "chosen": reference.chosen},
        "problems": problems,
        "versions": versions(),
    }
    subtitle = [facts["data"], count(seeds, "seed"), count(len(facts["test_subjects"]), "test subject")]
    page = Report(f"{system.title}: study", ", ".join(subtitle)).headline(headline, outcome)
    names = [arm.name for arm in arms]
    shown = of_one_seed(names, numbers[0], judged[0].entries, judged[0].prepared, judged[0].rows)
    with replacing_together(out, RESULTS) as work:
        write_text(work / "results.json", json.dumps(plain({**facts, "scores": tabulated(found)}), indent=1) + "\n")
        write_table(work / "table.csv", found, arms)
        compose(page, judge, shown, found, scores, arms, facts).save(work / "report.html")
    return Study(out, arms, found, leading, headline, outcome, problems)


def check_numbers(seeds: int, folds: int | None) -> None:
    """Check the numbers of seeds and folds.

    Raises:
        UserError: a number is too small; the message names the option.
    """
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: at least one is needed")
    if folds is not None and folds < 2:
        raise UserError(f"--folds {folds}: give at least 2 folds")


def settled_data(
    task: Task, data: DataConfig, folds: int | None, seed: int, pseudonyms: Pseudonyms
) -> tuple[DataConfig, list[Case]]:
    """Return the data of every arm, with fixed test subjects unless there are folds, and their cases.

    Raises:
        UserError: there is no usable image, there are too few subjects, or test subjects are given together with folds.
    """
    if folds is None:
        data = pinned(data, task, pseudonyms)
        return data, find_cases(task, data)
    data = with_phantoms(data, task)
    cases = find_cases(task, data)
    divide(task, cases, data.test_subjects, data.val_subjects, seed, Fold(number=0, of=folds), data.hold_out_site)
    return data, cases


def groups_of(runs: Sequence[Run]) -> list[list[Run]]:
    """Group runs by their test subjects: all together, or by seed and fold where there are folds."""
    groups: dict[Any, list[Run]] = {}
    for run in runs:
        groups.setdefault((run.seed, run.fold.number) if run.fold else None, []).append(run)
    return list(groups.values())


def judge_group(
    models: Mapping[str, Model],
    cases: Sequence[Case],
    data: DataConfig,
    pseudonyms: Pseudonyms,
    labels: Labels,
    console: Console,
) -> Judged:
    """Score runs that have the same test subjects on these subjects.

    Args:
        models: name of a run among the rows to its model.
        cases: all cases of the study.
        data: place of the images.
        pseudonyms: pseudonyms of the user.
        labels: labels of all cases.
        console: console for progress.

    Raises:
        UserError: no case could be scored.
    """
    first = next(iter(models.values()))
    facts, task = run_facts(first), first.method.task
    tested = [replace(case, split="test") for case in cases if pseudonyms.subject(case.subject) in facts.split.test]
    known, validation = (seen_cases(task, facts, pseudonyms, side) for side in ("train", "val"))
    return judge_models(models, tested, known, validation, data.cache_folder, labels, console)


def verdict(judge: Judge, found: Comparison, arms: Sequence[Arm]) -> tuple[str, str, Outcome | None]:
    """Return the leading score, the verdict on it in sentences, and the outcome of the first arm.

    The outcome is never ``better`` where the first arm is not better than the strongest simple method, too.

    Args:
        judge: judge of the task, which names the leading scores.
        found: means and differences.
        arms: arms of the study.
    """
    names = [score.name for score in found.scores]
    leading = next((name for name in judge.leading if name in names), names[0])
    differences = found.of_score(leading)
    if not differences:
        means = found.means[leading][arms[0].name]
        return leading, f"{leading} of {arms[0].name}: {limits(means, judge.named(leading).unit)}.", None
    alike = {arm.name for arm in arms[1:] if arm.label_fraction == arms[0].label_fraction}
    outcomes = [one.outcome for one in differences if one.arm in alike and one.reference == arms[0].name]
    outcome: Outcome | None = None
    if outcomes:
        outcome = "undecided"
        if "better" in outcomes:
            outcome = "worse"
        elif all(one == "worse" for one in outcomes):
            outcome = "better"
    by_name = {arm.name: arm for arm in arms}
    simple = [one for one in differences if one.reference not in by_name]
    if outcome == "better" and any(one.outcome != "better" for one in simple):
        outcome = "worse" if any(one.outcome == "worse" for one in simple) else "undecided"
    told = [
        one.words
        for one in differences
        if one in simple or differ_in_one_thing(by_name[one.arm], by_name[one.reference])
    ]
    return leading, " ".join(told), outcome


def differ_in_one_thing(arm: Arm, other: Arm) -> bool:
    """Return whether two arms have equally many annotations, or the same system and configuration."""
    return arm.label_fraction == other.label_fraction or (arm.system, arm.config) == (other.system, other.config)


def facts_of(arm: Arm, out: Path, seeds: Sequence[int], folds: int | None) -> dict[str, Any]:
    """Return the facts about the runs of an arm; numbers are those of its first run.

    Args:
        arm: arm of the study.
        out: folder of the study.
        seeds: seeds of its runs.
        folds: number of folds, or None.
    """
    runs = [ARMS / run.place for run in runs_of([arm], seeds, folds)]
    first = read_run(out / runs[0])
    return {
        "system": arm.system.slug,
        "label_fraction": arm.label_fraction,
        "training_subjects": len(first.split.train),
        "annotated_subjects": len(first.split.annotated) if arm.label_fraction is not None else None,
        "rounds": first.rounds,
        "weights": WEIGHTS_COMPARED,
        "provenance": first.provenance,
        "runs": [run.as_posix() for run in runs],
    }
