"""Judging a trained run on test cases: metrics.json, cases.csv, and a report with pictures first."""

from __future__ import annotations

import csv
import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ganatomy import catalogue
from ganatomy.case import Case, Sample, Task
from ganatomy.catalogue import System
from ganatomy.data.cases import DataConfig
from ganatomy.data.pseudonyms import Labels, Pseudonyms, shortened
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.evaluation.choosing import choose_cases, place, recognising, run_facts, seen_cases, users_pseudonyms
from ganatomy.evaluation.judging import OUTPUT, RESERVED, Entry, Judge, Judgement, Row, Scores, judge_of
from ganatomy.evaluation.page import compose
from ganatomy.evaluation.ratings import OPINION, read_ratings
from ganatomy.images.atomic import write_atomically, write_text
from ganatomy.inference.model import Model, Which, load
from ganatomy.inference.runfile import is_run_of, read_run
from ganatomy.metrics.statistics import count
from ganatomy.reports.report import Report


@dataclass(frozen=True)
class Evaluation:
    """How a run did.

    Attributes:
        out: folder with metrics.json, cases.csv and report.html.
        scores: all rows, and statistics over them.
        leading: names of the scores that matter most.
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
) -> Evaluation:
    """Judge a run on cases that it has not seen.

    Subjects and cases are called by shortened pseudonyms in everything that is written, unless ``names``.

    Args:
        run: folder made by ``ganatomy train``.
        data: images; none means the run's own, whose recorded test subjects are then judged.
        against: other runs of the same task to compare with, beside a classical method if there is one.
        which: weights, ``best`` on the validation data or ``last``.
        out: folder for the results, ``RUN/evaluation`` unless given.
        ratings: what human readers said of the cases, as `read_ratings` takes it.
        options: that the judge of this kind of task has, by name.
        secret: file with the secret of the user who trained; none means the user's own. With another one it cannot be
            told which subjects the run has seen, which is then said.
        names: write real names of subjects and cases.
        device: where networks run, such as ``cuda``.
        show: a progress bar on the terminal.
        systems: of the runs, which must be named where they are methods from outside that no installed package has
            registered, as ``file.py:Class`` or ``package.module:Class``.

    Raises:
        UserError: no run there, no case to judge, a run of another task, ratings of other cases, options that
            the judge does not have, or nowhere to write.
    """
    named = systems_of([run, *against], systems)
    model = load(run, which, device, named[run])
    task = model.method.task
    judge = judge_of(task, options)
    runs = load_others(against, task, which, device, named)
    classical = judge.classical()
    facts, own = run_facts(model), data or run_facts(model).data
    pseudonyms = users_pseudonyms(secret)
    chosen = choose_cases(task, facts, data, pseudonyms)
    out = writable(out or run / "evaluation")
    others = [judge.entry(other, name) for name, other in runs.items()] + ([classical] if classical else [])
    entries = judge.with_references(judge.entry(model, OUTPUT), *others)
    known = seen_cases(task, facts, pseudonyms)
    labels = Labels([*chosen.cases, *chosen.seen, *known], pseudonyms or Pseudonyms.passing(), names)
    opinions: list[Row] = []
    if ratings:
        opinions = _opinions(ratings, chosen.cases, labels, [entry.name for entry in entries])
        judge.scores = (*judge.scores, OPINION)
    console = Console(stderr=True, quiet=not show)
    store = Store(task, own.cache_folder)
    prepared, rows, problems = judge_cases(judge, entries, chosen.cases, store, console, labels, known)
    if not rows:
        raise UserError(f"no case could be judged: {problems[0].told}")
    judgement = Judgement(entries, prepared, Scores([*rows, *opinions]))
    judged = [case for case in chosen.cases if labels.cases[case.name] in {one.case.name for one in prepared}]
    unfair = [note for other in runs.values() for note in _unfair(other, model, judged, pseudonyms, labels)]
    headline, outcome = judge.verdict(judgement)
    notes = [*chosen.notes(labels), *[problem.written for problem in problems]]
    about = describe(model, which, own, judgement, labels, [*notes, *unfair])
    table = tabulate(judge, judgement.scores)
    write_text(out / "metrics.json", json.dumps(plain({**about, "headline": headline, **table}), indent=1) + "\n")
    write_cases(out / "cases.csv", judgement.scores)
    page = Report(
        f"{model.system.title if model.system else facts.system}: evaluation",
        f"{run} on {about['data']}, {count(len(about['subjects']), 'subject')}",
    ).headline(headline, outcome)
    compose(page, judge, judgement, model, about).save(out / "report.html")
    return Evaluation(out, judgement.scores, judge.leading, headline, notes)


def _opinions(path: Path, cases: Sequence[Case], labels: Labels, entries: Sequence[str]) -> list[Row]:
    """Ratings of cases, which the file calls by their names or by their labels, under their labels."""
    subjects = {labels.cases[case.name]: labels.subjects[case.subject] for case in cases}
    called = {**{case.name: labels.cases[case.name] for case in cases}, **{label: label for label in subjects}}
    found = read_ratings(path, {name: subjects[label] for name, label in called.items()}, entries)
    return [replace(row, case=called[row.case]) for row in found]


def systems_of(folders: Sequence[Path], systems: Sequence[str | System]) -> dict[Path, System | None]:
    """The system that is named for each run, None where its run file suffices.

    Raises:
        UserError: no such system or no run there, or a system that none of the runs is of.
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
    """Runs to compare with, by a name of their own.

    Args:
        folders: of the runs.
        task: that they must do.
        which: weights.
        device: where networks run.
        named: folder to the system that the user named for it.

    Raises:
        UserError: no run there, or one of another task.
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
    """Sentences on what makes the comparison with another run unfair."""
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


def writable(out: Path) -> Path:
    """The folder, made if necessary.

    Raises:
        UserError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}; choose a folder you may write to") from None
    return out


class Problem(NamedTuple):
    """Why a case was left out."""

    told: str
    """On the terminal, where files are named."""
    written: str
    """In results, which name the case by its label."""


def judge_cases(
    judge: Judge,
    entries: Sequence[Entry],
    cases: Sequence[Case],
    store: Store,
    console: Console,
    labels: Labels,
    known: Sequence[Case] = (),
) -> tuple[list[Sample], list[Row], list[Problem]]:
    """Prepare and score cases one by one, then all together; a bad one is named and does not stop the others.

    Args:
        judge: of the task.
        entries: who is judged.
        cases: to be judged on.
        store: of prepared cases.
        console: for progress.
        labels: by which cases and subjects are called in what is returned.
        known: cases that the runs were trained on, prepared where the judge compares with them.
    """
    prepared: list[Sample] = []
    rows: list[Row] = []
    problems: list[Problem] = []
    with _bar(console) as bar:
        work = bar.add_task("judging", total=len(cases) * len(entries))
        judge.cache = store.folder
        training = [labels.sample(one) for one in store.get_all(known if judge.compares_with_training else ())[0]]
        judge.learn(training)
        for number, case in enumerate(cases, start=1):
            bar.update(work, description=f"judging {case.name}")
            try:
                ready = labels.sample(store.get(case))
                rows += judge.score_case(entries, ready, lambda: bar.advance(work))
                prepared.append(ready)
            except (UserError, ValueError) as error:
                problems.append(Problem(f"{case.name}: {error}", labels.told(str(error), case)))
                console.print(f"[yellow]left out:[/] {problems[-1].told}", highlight=False)
            bar.update(work, completed=number * len(entries))
        if prepared:
            bar.update(work, description="judging all together")
            rows += judge.score_all(entries, prepared, training)
    return prepared, rows, problems


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    columns = TextColumn("[bold]{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console) as bar:
        yield bar


def describe(
    model: Model, which: Which, data: DataConfig, judgement: Judgement, labels: Labels, notes: Sequence[str]
) -> dict[str, Any]:
    """Everything one must know to compare the numbers with others; subjects of training by shortened pseudonyms."""
    facts = run_facts(model)
    short = shortened([one for side in facts.split.by_side.values() for one in side])
    return {
        "system": facts.system,
        "run": str(model.folder),
        "weights": which,
        "task": model.method.task.name,
        "data": labels.place(place(data)),
        "subjects": sorted({case.case.subject for case in judgement.cases}),
        "slices": sum(case.shape[0] for case in judgement.cases),
        "methods": {entry.name: entry.about for entry in judgement.entries},
        "notes": list(notes),
        "provenance": facts.provenance,
        "training": {
            "data": labels.place(place(facts.data)),
            "subjects": {side: [short[one] for one in members] for side, members in facts.split.by_side.items()},
            "fold": facts.split.fold.model_dump() if facts.split.fold else None,
            "seed": facts.training.seed,
            "rounds": facts.rounds,
            "selection": facts.selection.model_dump(),
            "versions": facts.versions,
        },
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    found = {name: version(name) for name in ("ganatomy", "torch", "numpy", "scikit-image")}
    return {**found, "python": platform.python_version()}


def tabulate(judge: Judge, scores: Scores) -> dict[str, Any]:
    """Intervals and comparisons of every score, and the numbers of every case."""
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


def write_cases(path: Path, scores: Scores) -> None:
    """A line per case and method."""
    names = list(dict.fromkeys(name for row in scores.rows for name in row.scores))

    def write(work: Path) -> None:
        with work.open("w", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream)
            lines.writerow(["case", "subject", "method", *names])
            for case, subject in scores.cases.items():
                for method in scores.methods:
                    found = scores.of_case(case, method)
                    lines.writerow([case, subject, method, *[_cell(found.get(name)) for name in names]])

    write_atomically(path, write)


def _cell(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.6g}"


def plain(value: Any) -> Any:
    """The value as JSON knows it: numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
