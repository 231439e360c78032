"""Evaluation of a trained run on test cases, written as ``metrics.json``, ``cases.csv`` and ``report.html``."""

from __future__ import annotations

import csv
import json
import logging
import math
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress

from ganatomy import catalogue
from ganatomy.case import Case, Sample, Task
from ganatomy.catalogue import System
from ganatomy.data.cases import DataConfig
from ganatomy.data.contents import changes_of, content_of
from ganatomy.data.pseudonyms import Labels, Pseudonyms, shortened
from ganatomy.data.store import Store, tell_left_out
from ganatomy.errors import Notice, Shortage, UserError
from ganatomy.evaluation import keeping, sites
from ganatomy.evaluation.choosing import (
    choose_cases,
    place,
    recognising,
    run_facts,
    same_place,
    seen_cases,
    users_pseudonyms,
)
from ganatomy.evaluation.judging import OUTPUT, RESERVED, Entry, Judge, Judgement, Row, Scores, judge_of
from ganatomy.evaluation.page import compose
from ganatomy.evaluation.ratings import OPINION, read_ratings
from ganatomy.evaluation.references import MOST_SUBJECTS, Tuned, choose, tune
from ganatomy.evaluation.selection import doubtful_choice
from ganatomy.evaluation.timing import Clock, run_times, timed
from ganatomy.game import Method
from ganatomy.images.atomic import replacing_results, write_atomically, write_text
from ganatomy.images.paths import check_free
from ganatomy.inference.familiarity import unfamiliar
from ganatomy.inference.model import Model, Which, load
from ganatomy.inference.resolution import resolution
from ganatomy.inference.runfile import RUN_FILE, RunFile, is_run_of, read_run
from ganatomy.metrics.statistics import count
from ganatomy.reports import terminal
from ganatomy.reports.report import Report

log = logging.getLogger(__name__)

METRICS, CASES, REPORT = "metrics.json", "cases.csv", "report.html"
"""Files of an evaluation, the first being that by which its folder is recognised."""


@dataclass(frozen=True)
class Evaluation:
    """Results of the evaluation of a run.

    Attributes:
        out: folder with metrics.json, cases.csv and report.html.
        scores: all rows, and statistics over them.
        leading: names of the most important scores.
        headline: the verdict in words.
        problems: a line for every case that was left out.
    """

    out: Path
    scores: Scores
    leading: Sequence[str]
    headline: str
    problems: Sequence[str]


def evaluate(
    run: Path,
    data: DataConfig | None = None,
    against: Sequence[Path] = (),
    which: Which = "best",
    out: Path | None = None,
    *,
    ratings: Path | None = None,
    options: Mapping[str, Any] | None = None,
    secret: Path | None = None,
    names: bool = False,
    device: str = "cpu",
    show: bool = False,
    systems: Sequence[str | System] = (),
    keep_images: bool = False,
) -> Evaluation:
    """Evaluate a run on cases of subjects that it was not trained on.

    Results name subjects and cases by shortened pseudonyms, unless ``names`` is set.

    Args:
        run: run folder made by ``ganatomy train``.
        data: how to find and read images; None means the run's own data, whose recorded test subjects are then judged.
        against: other runs of the same task to compare with, in addition to a classical baseline where there is one.
        which: weights to use, ``best`` on the validation data or ``last``.
        out: folder for the results; None means ``RUN/evaluation``.
        ratings: file with ratings by human readers, see `read_ratings`.
        options: option of the judge to value.
        secret: file with the secret of the user who trained; None means the user's own. With another secret the
            training subjects of the run cannot be recognised, which the results then state.
        names: whether to write real names of subjects and cases.
        device: device of the networks, such as ``cuda``.
        show: whether to show a progress bar on the terminal.
        systems: systems of the runs, as ``file.py:Class`` or ``package.module:Class``; only needed for methods from
            outside that no installed package has registered.
        keep_images: whether to write the outputs, and what they are compared with, into the folder ``images``.

    Raises:
        UserError: a folder holds no run or a run of another task, no case can be judged, ratings name other cases, the
            judge does not have an option, or the results cannot be written.
    """
    named = systems_of([run, *against], systems)
    model = load(run, which, device, named[run])
    task = model.method.task
    judge = judge_of(task, options)
    if keep_images:
        keeping.check_keeping(judge)
    runs = load_others(against, task, which, device, named)
    facts, own = run_facts(model), data or run_facts(model).data
    pseudonyms = users_pseudonyms(secret)
    chosen = choose_cases(task, facts, data, pseudonyms)
    out = out or run / "evaluation"
    check_evaluation(out, model)
    others = [judge.entry(other, name) for name, other in runs.items()]
    known, validation = (seen_cases(task, facts, pseudonyms, side) for side in ("train", "val"))
    labels = Labels([*chosen.cases, *chosen.seen, *known, *validation], pseudonyms or Pseudonyms.passing(), names)
    console = terminal.console(show)
    store = Store(task, own.cache_folder)
    training = learn(judge, known, store, labels)
    tuned = tuned_references(judge, runs, validation, store, console, labels)
    clocks: dict[str, Clock] = {}
    compared = judge.entry(model, OUTPUT), *others, *tuned.entries
    entries = judge.with_references(*[timed(entry, clocks) for entry in compared])
    opinions: list[Row] = []
    if ratings:
        opinions = _opinions(ratings, chosen.cases, labels, [entry.name for entry in entries])
        judge.scores = (*judge.scores, OPINION)
    remarks = [*chosen.notes(labels), *changed_since(facts, own, chosen.cases, pseudonyms, store.folder, labels)]
    with replacing_results(out, (METRICS, CASES, REPORT, keeping.IMAGES)) as work:
        prepared, rows, problems = judge_cases(judge, entries, chosen.cases, store, console, labels, training)
        if not rows:
            raise UserError(f"no case could be judged: {problems[0].case}: {problems[0].told}")
        plain_runs = [name for name, other in runs.items() if not other.method.adversarial]
        simple = [*[entry.name for entry in (*judge.references()[0], *tuned.entries)], *plain_runs]
        reference = choose(judge, tuned, simple, Scores(rows))
        judgement = Judgement(entries, prepared, Scores([*rows, *opinions]), reference.name)
        judged = [case for case in chosen.cases if labels.cases[case.name] in {one.case.name for one in prepared}]
        unfair = [note for other in runs.values() for note in _unfair(other, model, judged, pseudonyms, labels)]
        places = sites.judged_sites(judgement, sites.learned_sites(facts, pseudonyms, labels))
        headline, outcome = sites.with_sites(judge, reference.name, places, *judge.verdict(judgement))
        unfair += learned_before(facts, judged, pseudonyms, labels)
        notes = [*remarks, *[problem.written for problem in problems]]
        missing = [*([] if plain_runs else lacking(model.method)), ONE_RUN]
        limits = [*unlike_training(task, prepared), *sites.notes(judge, reference.name, places), *missing]
        if which == "best" and (doubt := doubtful_choice(run, facts, task, short_names(facts, facts.split.val))):
            limits.insert(0, doubt)
        about = describe(model, which, own, judgement, labels, [*notes, *unfair, *limits])
        if keep_images:
            about["images"] = (
                f"{keeping.IMAGES}/, a folder for each case, on the working grid that scores were taken on"
            )
        about["run_time"] = run_times(clocks, model.device, judge.image)
        about["reference"] = {"name": reference.name, "chosen": reference.chosen}
        if places:
            about["sites"] = sites.as_facts(judge, reference.name, places)
        table = tabulate(judge, judgement.scores)
        write_text(work / METRICS, json.dumps(plain({**about, "headline": headline, **table}), indent=1) + "\n")
        write_cases(work / CASES, judgement.scores, {one: site.name for site in places for one in site.scores.cases})
        page = Report(
            f"{model.system.title if model.system else facts.system}: evaluation",
            f"{run} on {about['data']}, {count(len(about['subjects']), 'subject')}",
        ).headline(headline, outcome)
        if keep_images:
            keeping.keep_images(judge, judgement, work / keeping.IMAGES)
        compose(page, judge, judgement, model, about, places).save(work / REPORT)
    if not names and len(labels.sites) > 0:
        meant = ", ".join(f"{label} is {name}" for name, label in labels.sites.items())
        console.print(f"sites in the results: {meant}", markup=False, highlight=False, soft_wrap=True)
    return Evaluation(out, judgement.scores, judge.leading, headline, notes)


def changed_since(
    facts: RunFile, data: DataConfig, cases: Sequence[Case], pseudonyms: Pseudonyms | None, cache: Path, labels: Labels
) -> list[str]:
    """Return sentences on how test cases of the run's own data have changed since it began, and notify the user.

    Args:
        facts: run file.
        data: data of the cases.
        cases: cases that will be judged.
        pseudonyms: keyed by the secret of the user; None where there is no secret.
        cache: folder of prepared cases.
        labels: names of cases for the sentences.
    """
    known = recognising(pseudonyms, facts)
    if known is None or not same_place(data.data, facts.data.data):
        return []
    wanted = {known.subject(case.subject) for case in cases}
    if (data.test_subjects, data.hold_out_site) == (facts.data.test_subjects, facts.data.hold_out_site):
        wanted |= set(facts.split.test)
    recorded = {subject: own for subject, own in facts.cases.items() if subject in wanted}
    changes = changes_of(cases, recorded, known, lambda case: content_of(case, known, cache, data.data))
    if any(changes):
        warnings.warn(f"test cases are not those that the run began with ({changes})", Notice, stacklevel=3)
    return [
        *[f"{labels.cases[case.name]}: added since the run began" for case in changes.added],
        *[f"{label}: was there when the run began, and is not judged" for label in changes.missing],
        *[f"{labels.cases[case.name]}: its content or how it is read has changed" for case in changes.changed],
    ]


def _opinions(path: Path, cases: Sequence[Case], labels: Labels, entries: Sequence[str]) -> list[Row]:
    """Read ratings from a file that names cases by name or by label; the rows use labels."""
    subjects = {labels.cases[case.name]: labels.subjects[case.subject] for case in cases}
    called = {**{case.name: labels.cases[case.name] for case in cases}, **{label: label for label in subjects}}
    found = read_ratings(path, {name: subjects[label] for name, label in called.items()}, entries)
    return [replace(row, case=called[row.case]) for row in found]


def systems_of(folders: Sequence[Path], systems: Sequence[str | System]) -> dict[Path, System | None]:
    """Assign the systems that the user names to the runs; None where the run file suffices.

    Raises:
        UserError: a system does not exist or belongs to no run, or a folder holds no run.
    """
    named = [catalogue.resolve(system) for system in systems]
    runs = {folder: read_run(folder) for folder in folders}
    for system in named:
        if not any(is_run_of(facts, system) for facts in runs.values()):
            there = ", ".join(dict.fromkeys(facts.system for facts in runs.values()))
            raise UserError(f"--system {system.slug}: no run of it is judged, but of {there}")
    return {
        folder: next((system for system in named if is_run_of(facts, system)), None) for folder, facts in runs.items()
    }


def load_others(
    folders: Sequence[Path], task: Task, which: Which, device: str, named: Mapping[Path, System | None] = {}
) -> dict[str, Model]:
    """Load the runs to compare with, by the names of their entries.

    Args:
        folders: run folders.
        task: task that the runs must have.
        which: weights to use.
        device: device of the networks.
        named: run folder to the system that the user named for it.

    Raises:
        UserError: a folder holds no run, or one of another task.
    """
    found: dict[str, Model] = {}
    for folder in folders:
        model = load(folder, which, device, named.get(folder))
        if model.method.task.name != task.name:
            raise UserError(f"--against {folder}: does {model.method.task.name}, but the run does {task.name}")
        name = folder.resolve().name
        found[str(folder) if name in RESERVED or name in found else name] = model
    return found


def _unfair(
    other: Model, model: Model, cases: Sequence[Case], pseudonyms: Pseudonyms | None, labels: Labels
) -> Iterator[str]:
    """Yield sentences on reasons why the comparison with another run is unfair."""
    split = run_facts(other).split
    if (own := recognising(pseudonyms, run_facts(other))) is None:
        yield f"whether the run {other.folder} was trained on these cases cannot be checked: another secret"
    else:
        seen = {*split.train, *split.val}
        if common := {case.subject for case in cases if own.subject(case.subject) in seen}:
            named = ", ".join(sorted(labels.subjects[subject] for subject in common))
            yield f"the run {other.folder} was trained on {named}, which are judged here"
    if other.method.task.preparation != model.method.task.preparation:
        yield f"the run {other.folder} was trained for another simulated dose or geometry"


def learned_before(
    facts: RunFile, cases: Sequence[Case], pseudonyms: Pseudonyms | None, labels: Labels
) -> Iterator[str]:
    """Yield sentences on judged subjects that a run's initial weights were trained on.

    Args:
        facts: run file.
        cases: cases that are judged.
        pseudonyms: keyed by the secret of the user; None where there is no secret.
        labels: names of subjects for the sentences.
    """
    for one in (each for initial in facts.initial for each in initial.all):
        told = f"the initial weights of {one.player}, from a run of {one.system},"
        if pseudonyms is None or pseudonyms.fingerprint != one.secret:
            yield f"whether {told} were trained on these cases cannot be checked: another secret"
        elif common := {case.subject for case in cases if pseudonyms.subject(case.subject) in one.subjects}:
            named = ", ".join(sorted(labels.subjects[subject] for subject in common))
            yield f"{told} were trained on {named}, which are judged here"


def check_evaluation(out: Path, model: Model) -> None:
    """Refuse a folder that holds anything but an earlier evaluation of the same run.

    Raises:
        UserError: other files, or the evaluation of another run.
    """
    check_free(out, METRICS)
    if not (out / METRICS).exists():
        return
    try:
        told = json.loads((out / METRICS).read_text(encoding="utf-8"))
        judged = Path(told["run"]).resolve() if {"system", "task", "methods"} <= set(told) else None
    except (OSError, ValueError, KeyError, TypeError):
        judged = None
    if judged is None:
        raise UserError(f"--out {out}: {METRICS} there is not one of ganatomy evaluate; choose a new or empty folder")
    # The evaluation within a run belongs to it, also in a copy; a run that was moved leaves a path without one.
    mine = model.folder is None or model.folder.resolve() in (judged, out.resolve().parent)
    if not mine and (judged / RUN_FILE).is_file():
        raise UserError(f"--out {out}: holds the evaluation of {judged}; choose another folder for this run's")


def learn(judge: Judge, known: Sequence[Case], store: Store, labels: Labels) -> list[Sample]:
    """Let a judge learn from the training cases of the runs; returns them, where the judge compares with them.

    Args:
        judge: judge of the task.
        known: training cases of the runs.
        store: store of prepared cases.
        labels: names for cases and subjects in the result.
    """
    judge.cache = store.folder
    needed = known[: judge.most_training_cases] if judge.compares_with_training else ()
    training = [labels.sample(one) for one in store.get_all(needed)[0]]
    judge.learn(training)
    return training


def tuned_references(
    judge: Judge, runs: Mapping[str, Model], cases: Sequence[Case], store: Store, console: Console, labels: Labels
) -> Tuned:
    """Tune the classical methods of a judge on validation cases, and score all methods without an adversary on them.

    Args:
        judge: judge of the task, which has learned from the training cases.
        runs: further runs by the names of their entries; those that were trained without an adversary are scored.
        cases: validation cases.
        store: store of prepared cases.
        console: terminal for progress.
        labels: names for cases and subjects in the result.
    """
    classical, before = judge.classical(), judge.references()[0]
    if taken := {method.name for method in classical} & set(runs):
        raise UserError(f"--against {runs[taken.pop()].folder}: named like a method that is judged anyway; rename it")
    others = [judge.entry(model, name) for name, model in runs.items() if not model.method.adversarial]
    if not classical and len(others) + len(before) < 2:
        return Tuned([], [], 0)
    if not cases:
        return tune(judge, classical, [], [])
    subjects = sorted({case.subject for case in cases})[: None if judge.tuned_together else MOST_SUBJECTS]
    chosen = [case for case in cases if case.subject in subjects]
    with _bar(console) as bar:
        work = bar.add_task("choosing the strongest reference on validation cases", total=len(chosen))
        prepared = [labels.sample(one) for one in store.get_all(chosen)[0]]
        return tune(judge, classical, [*before, *others], prepared, lambda: bar.advance(work))


class Problem(NamedTuple):
    """The reason why a case was left out, in two wordings."""

    case: str
    """Name of the case, for the terminal."""
    told: str
    """Message for the terminal, which names files."""
    written: str
    """Message for results, which names the case by its label only."""


def judge_cases(
    judge: Judge,
    entries: Sequence[Entry],
    cases: Sequence[Case],
    store: Store,
    console: Console,
    labels: Labels,
    training: Sequence[Sample] = (),
) -> tuple[list[Sample], list[Row], list[Problem]]:
    """Prepare and score cases one by one, then all of them together; a case that fails does not stop the others.

    Args:
        judge: judge of the task.
        entries: entries to score.
        cases: test cases.
        store: store of prepared cases.
        console: terminal for progress and messages.
        labels: names for cases and subjects in the result.
        training: prepared training cases of the runs, from which the judge has learned.

    Returns:
        The prepared cases that were judged, the rows of all entries, and the cases that failed.
    """
    prepared: list[Sample] = []
    rows: list[Row] = []
    problems: list[Problem] = []
    with _bar(console) as bar:
        work = bar.add_task("judging", total=len(cases) * len(entries))
        judge.cache, clock = store.folder, terminal.Clock()
        for number, case in enumerate(cases, start=1):
            bar.update(work, description=f"judging {case.name}")
            try:
                ready = labels.sample(store.get(case))
                rows += judge.score_case(entries, ready, lambda: bar.advance(work))
                prepared.append(ready)
            except Shortage:
                raise
            except (UserError, ValueError) as error:
                problems.append(Problem(case.name, str(error), labels.told(str(error), case)))
            bar.update(work, completed=number * len(entries))
            if not console.is_terminal and clock.tells(number, len(cases)):
                log.info("%d of %d cases processed", number, len(cases))
        tell_left_out([(problem.case, problem.told) for problem in problems], len(cases))
        if prepared:
            bar.update(work, description="judging all together")
            rows += judge.score_all(entries, prepared, training)
    return prepared, rows, problems


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    with terminal.spoken(not console.quiet), terminal.bar(console) as bar:
        yield bar


def unlike_training(task: Task, cases: Sequence[Sample]) -> Iterator[str]:
    """Yield a sentence if intensities of judged cases are unlike those of all training cases."""
    strange = [case.case.name for case in cases if next(unfamiliar(task, case), None)]
    if strange:
        which = f"{strange[0]}, for example" if len(strange) > 1 else strange[0]
        cases_told = f"{len(strange)} of {count(len(cases), 'case')}"
        yield f"{cases_told} have intensities unlike those of all training cases ({which})"


ONE_RUN = (
    "one training run is judged: intervals are over test cases and say how good these weights are, not how good the "
    "method is; another seed gives other weights, and `ganatomy study` compares several runs"
)
"""Note on what a single run can and cannot show."""
NOT_COMPARED = (
    "the same network without its adversary was not compared: train it with --baseline, and name its run with --against"
)
"""Note on an adversarial run that no run without an adversary is judged beside."""


def lacking(method: Method) -> list[str]:
    """Return a note on the run that should be judged beside one of a method, if the method has such a baseline."""
    return [NOT_COMPARED] if method.adversarial and method.config.baseline else []


def short_names(facts: RunFile, subjects: Sequence[str]) -> list[str]:
    """Return the shortened pseudonyms of some subjects of a run, which differ among all its subjects."""
    short = shortened([one for side in facts.split.by_side.values() for one in side])
    return [short[one] for one in subjects]


def describe(
    model: Model, which: Which, data: DataConfig, judgement: Judgement, labels: Labels, notes: Sequence[str]
) -> dict[str, Any]:
    """Describe an evaluation so that its numbers can be compared with others, as values that JSON can hold.

    Training subjects are named by shortened pseudonyms.
    """
    facts = run_facts(model)
    return {
        "system": facts.system,
        "run": str(model.folder),
        "weights": which,
        "task": model.method.task.name,
        "data": labels.place(place(data)),
        "subjects": sorted({case.case.subject for case in judgement.cases}),
        "slices": sum(case.shape[0] for case in judgement.cases),
        "resolution": resolution(model.method.task.preparation, judgement.cases),
        "methods": {entry.name: entry.about for entry in judgement.entries},
        "notes": list(notes),
        "provenance": facts.provenance,
        "training": {
            "data": labels.place(place(facts.data)),
            "subjects": {side: short_names(facts, members) for side, members in facts.split.by_side.items()},
            "fold": facts.split.fold.model_dump() if facts.split.fold else None,
            "seed": facts.training.seed,
            "rounds": facts.rounds,
            "augmentation": facts.augmentation,
            "selection": facts.selection.model_dump(),
            "versions": facts.versions,
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {name: version(name) for name in ("ganatomy", "torch", "numpy", "scikit-image")}
    return {**found, "python": platform.python_version()}


def tabulate(judge: Judge, scores: Scores) -> dict[str, Any]:
    """Return intervals and comparisons of every score, and the scores of every case, as values that JSON can hold."""
    table = {}
    for score in (*judge.scores, *judge.truths):
        intervals = {method: scores.interval(method, score.name) for method in scores.methods}
        if any(intervals.values()):
            table[score.name] = {
                "unit": score.unit,
                "better": score.better,
                "what": score.note,
                "methods": {method: asdict(found) for method, found in intervals.items() if found},
                "comparisons": [
                    {"first": OUTPUT, "second": other, **asdict(found)}
                    for other, found in scores.against_others(score).items()
                ],
            }
    cases = [
        {
            "case": case,
            "subject": subject,
            "scores": {method: scores.of_case(case, method) for method in scores.methods},
        }
        for case, subject in scores.cases.items()
    ]
    return {"scores": table, "cases": cases}


def write_cases(path: Path, scores: Scores, sites: Mapping[str, str] = {}) -> None:
    """Write the scores of every case and method as a CSV file, one line each.

    Args:
        path: file.
        scores: rows of all cases.
        sites: case to site; a column where there are any.
    """
    names = list(dict.fromkeys(name for row in scores.rows for name in row.scores))

    def write(work: Path) -> None:
        with work.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
            lines = csv.writer(stream)
            lines.writerow(["case", "subject", *(["site"] if sites else []), "method", *names])
            for case, subject in scores.cases.items():
                for method in scores.methods:
                    found = scores.of_case(case, method)
                    own = [case, subject, *([sites.get(case, "")] if sites else [])]
                    lines.writerow([*own, method, *[_cell(found.get(name)) for name in names]])

    write_atomically(path, write)


def _cell(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def plain(value: Any) -> Any:
    """Convert a value for JSON: keys become text, and numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
