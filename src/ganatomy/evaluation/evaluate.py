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
from ganatomy.data.cases import DataConfig
from ganatomy.data.pseudonyms import Labels, Pseudonyms, shortened
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.evaluation.choosing import choose_cases, place, recognising, run_facts, seen_cases, users_pseudonyms
from ganatomy.evaluation.curves import read_metrics, training_curves
from ganatomy.evaluation.figures import paired_plot
from ganatomy.evaluation.judging import (
    FEW,
    OUTPUT,
    RESERVED,
    TARGET,
    Contender,
    Judge,
    Judgement,
    Row,
    Score,
    Scores,
    judge_of,
    limits,
)
from ganatomy.evaluation.ratings import OPINION, read_ratings
from ganatomy.evaluation.report import Cell, Column, Report
from ganatomy.evaluation.statistics import Comparison, count
from ganatomy.evaluation.style import title
from ganatomy.images.atomic import write_atomically, write_text
from ganatomy.inference.model import Model, Which, load


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
    baselines: Sequence[Path] = (),
    which: Which = "best",
    out: Path | None = None,
    *,
    ratings: Path | None = None,
    options: Mapping[str, Any] | None = None,
    secret: Path | None = None,
    names: bool = False,
    device: str = "cpu",
    show: bool = False,
) -> Evaluation:
    """Judge a run on cases that it has not seen.

    Subjects and cases are called by shortened pseudonyms in everything that is written, unless ``names``.

    Args:
        run: folder made by ``ganatomy train``.
        data: images; none means the run's own, whose recorded test subjects are then judged.
        baselines: other runs of the same task to compare with, beside a classical method if there is one.
        which: weights, ``best`` on the validation data or ``last``.
        out: folder for the results, ``RUN/evaluation`` unless given.
        ratings: what human readers said of the cases, as `read_ratings` takes it.
        options: that the judge of this kind of task has, by name.
        secret: file with the secret of the user who trained; none means the user's own. With another one it cannot be
            told which subjects the run has seen, which is then said.
        names: write real names of subjects and cases.
        device: where networks run, such as ``cuda``.
        show: a progress bar on the terminal.

    Raises:
        UserError: no run there, no case to judge, a baseline of another task, ratings of other cases, options that
            the judge does not have, or nowhere to write.
    """
    model = load(run, which, device)
    task = model.method.task
    judge = judge_of(task, options)
    rivals = load_baselines(baselines, task, which, device)
    classical = judge.classical()
    facts, own = run_facts(model), data or run_facts(model).data
    pseudonyms = users_pseudonyms(secret)
    chosen = choose_cases(task, facts, data, pseudonyms)
    out = writable(out or run / "evaluation")
    others = [judge.contender(rival, name) for name, rival in rivals.items()] + ([classical] if classical else [])
    contenders = judge.lineup(judge.contender(model, OUTPUT), *others)
    known = seen_cases(task, facts, pseudonyms)
    labels = Labels([*chosen.cases, *chosen.seen, *known], pseudonyms or Pseudonyms.passing(), names)
    opinions: list[Row] = []
    if ratings:
        opinions = _opinions(ratings, chosen.cases, labels, [contender.name for contender in contenders])
        judge.scores = (*judge.scores, OPINION)
    console = Console(stderr=True, quiet=not show)
    store = Store(task, own.cache_folder)
    prepared, rows, problems = judge_cases(judge, contenders, chosen.cases, store, console, labels, known)
    if not rows:
        raise UserError(f"no case could be judged: {problems[0].told}")
    judgement = Judgement(contenders, prepared, Scores([*rows, *opinions]))
    judged = [case for case in chosen.cases if labels.cases[case.name] in {one.case.name for one in prepared}]
    unfair = [note for rival in rivals.values() for note in _unfair(rival, model, judged, pseudonyms, labels)]
    headline, outcome = judge.verdict(judgement)
    notes = [*chosen.notes(labels), *[problem.written for problem in problems]]
    about = describe(model, which, own, judgement, labels, [*notes, *unfair])
    table = tabulate(judge, judgement.scores)
    write_text(out / "metrics.json", json.dumps(plain({**about, "headline": headline, **table}), indent=1) + "\n")
    write_cases(out / "cases.csv", judgement.scores)
    page = Report(
        f"{catalogue.find(facts.system).title}: evaluation",
        f"{run} on {about['data']}, {count(len(about['subjects']), 'subject')}",
    ).headline(headline, outcome)
    compose(page, judge, judgement, model, about).save(out / "report.html")
    return Evaluation(out, judgement.scores, judge.leading, headline, notes)


def _opinions(path: Path, cases: Sequence[Case], labels: Labels, contenders: Sequence[str]) -> list[Row]:
    """Ratings of cases, which the file calls by their names or by their labels, under their labels."""
    subjects = {labels.cases[case.name]: labels.subjects[case.subject] for case in cases}
    called = {**{case.name: labels.cases[case.name] for case in cases}, **{label: label for label in subjects}}
    found = read_ratings(path, {name: subjects[label] for name, label in called.items()}, contenders)
    return [replace(row, case=called[row.case]) for row in found]


def load_baselines(folders: Sequence[Path], task: Task, which: Which, device: str) -> dict[str, Model]:
    """Runs to compare with, by a name of their own.

    Raises:
        UserError: no run there, or one of another task.
    """
    found: dict[str, Model] = {}
    for folder in folders:
        model = load(folder, which, device)
        if model.method.task.name != task.name:
            raise UserError(f"--baseline {folder}: does {model.method.task.name}, but the run does {task.name}")
        name = folder.resolve().name
        found[str(folder) if name in RESERVED or name in found else name] = model
    return found


def _unfair(
    rival: Model, model: Model, cases: Sequence[Case], pseudonyms: Pseudonyms | None, labels: Labels
) -> Iterator[str]:
    """What a reader must know before comparing with a baseline run."""
    split = run_facts(rival).split
    if (own := recognising(pseudonyms, run_facts(rival))) is None:
        yield f"whether the baseline {rival.folder} was trained on these cases cannot be checked: another secret"
    else:
        seen = {*split.train, *split.val}
        if common := {case.subject for case in cases if own.subject(case.subject) in seen}:
            named = ", ".join(sorted(labels.subjects[subject] for subject in common))
            yield f"the baseline {rival.folder} was trained on {named}, which are judged here"
    if rival.method.task.preparation != model.method.task.preparation:
        yield f"the baseline {rival.folder} was trained for another simulated dose or geometry"


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
    contenders: Sequence[Contender],
    cases: Sequence[Case],
    store: Store,
    console: Console,
    labels: Labels,
    known: Sequence[Case] = (),
) -> tuple[list[Sample], list[Row], list[Problem]]:
    """Prepare and score cases one by one, then all together; a bad one is named and does not stop the others.

    Args:
        judge: of the task.
        contenders: who is judged.
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
        work = bar.add_task("judging", total=len(cases) * len(contenders))
        judge.cache = store.folder
        training = [labels.sample(one) for one in store.get_all(known if judge.compares_with_training else ())[0]]
        judge.learn(training)
        for number, case in enumerate(cases, start=1):
            bar.update(work, description=f"judging {case.name}")
            try:
                ready = labels.sample(store.get(case))
                rows += judge.score_case(contenders, ready, lambda: bar.advance(work))
                prepared.append(ready)
            except (UserError, ValueError) as error:
                problems.append(Problem(f"{case.name}: {error}", labels.told(str(error), case)))
                console.print(f"[yellow]left out:[/] {problems[-1].told}", highlight=False)
            bar.update(work, completed=number * len(contenders))
        if prepared:
            bar.update(work, description="judging all together")
            rows += judge.score_all(contenders, prepared, training)
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
        "methods": {contender.name: contender.about for contender in judgement.contenders},
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
                    for other, found in compared(scores, score).items()
                ],
            }
    cases = [
        {
            "case": case,
            "subject": subject,
            "scores": {method: _case_scores(scores, case, method) for method in scores.methods},
        }
        for case, subject in scores.cases.items()
    ]
    return {"scores": table, "cases": cases}


def compared(scores: Scores, score: Score) -> dict[str, Comparison]:
    """The output against every other method but the target."""
    others = [method for method in scores.methods if method not in (OUTPUT, TARGET)]
    found = {other: scores.compare(OUTPUT, other, score) for other in others}
    return {other: comparison for other, comparison in found.items() if comparison}


def _case_scores(scores: Scores, case: str, method: str) -> dict[str, float]:
    own = Scores([row for row in scores.rows if row.case == case and row.method == method])
    names = dict.fromkeys(name for row in own.rows for name in row.scores)
    return {name: own.by_case(method, name).get(case, math.nan) for name in names}


def write_cases(path: Path, scores: Scores) -> None:
    """A line per case and method."""
    names = list(dict.fromkeys(name for row in scores.rows for name in row.scores))

    def write(work: Path) -> None:
        with work.open("w", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream)
            lines.writerow(["case", "subject", "method", *names])
            for case, subject in scores.cases.items():
                for method in scores.methods:
                    found = _case_scores(scores, case, method)
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


def compose(report: Report, judge: Judge, judgement: Judgement, model: Model, facts: Mapping[str, Any]) -> Report:
    """The page below its headline: pictures, numbers, training, how it was measured."""
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
    add_cases(report, judge, scores)
    add_training(report, model)
    report.measured(_measured(judge, judgement, facts))
    return report.caveats(_caveats(judge, judgement, facts))


def add_summary(report: Report, judge: Judge, scores: Scores) -> None:
    """All methods, all scores of the task, with intervals, a table per group of scores."""
    for group in dict.fromkeys(score.group for score in judge.scores):
        members = [score for score in judge.scores if score.group == group]
        columns = [Column("method"), *[score.column for score in members]]
        rows: list[list[Cell]] = [
            [title(method), *[scores.interval(method, score.name) for score in members]] for method in scores.methods
        ]
        shown = [row for row in rows if any(row[1:])]
        if shown:
            report.table(
                shown, columns, caption=f"{group}: means over {judge.resampled}, with 95 % intervals".lstrip(": ")
            )


def add_comparisons(report: Report, judge: Judge, scores: Scores) -> None:
    """The output against every other method, score by score."""
    rows: list[list[Cell]] = []
    for score in judge.scores:
        for other, found in compared(scores, score).items():
            tested = f"{found.p:.2g}" if found.p is not None else None
            fraction = f"{found.improved} of {count(found.difference.n, found.difference.unit_of_resampling)}"
            amount = limits(found.difference, score.unit, signed=True)
            rows.append([f"{score.name} against {other}", amount, found.outcome, fraction, tested])
    if rows:
        columns = ["output", "difference", "verdict", "better in", "p (Wilcoxon)"]
        report.table(rows, columns, caption="The output compared, subject by subject; undecided if zero is inside.")


def add_cases(report: Report, judge: Judge, scores: Scores) -> None:
    """The output's scores case by case."""
    shown = [judge.named(name) for name in judge.leading]
    columns = [Column("case"), Column("subject"), *[Column(s.name, s.unit, None, s.digits) for s in shown]]
    rows: list[list[Cell]] = []
    for case, subject in scores.cases.items():
        found = _case_scores(scores, case, OUTPUT)
        rows.append([case, subject, *[found.get(score.name) for score in shown]])
    report.section("Case by case")
    report.table(
        rows, columns, caption="Scores of the output, all of them in cases.csv; click a heading to sort.", sortable=True
    )


GAME = (
    "Training is a game: every player descends its own loss. The gradient norm of a player says how hard it is still "
    "pushed; one that falls to nothing while the other's grows has lost its teacher. The rotation is the angle between "
    "the players' joint gradient and its own change along itself: near 0° all descend one landscape, at 90° they "
    "circle around each other, above 90° they drive apart. The gain alone is what a player's own loss falls by when "
    "it alone goes on for ten steps: near zero for all of them is as near to an equilibrium as these players come, a "
    "large one names the player that lags behind, and their sum approximates the duality gap."
)


def add_training(report: Report, model: Model) -> None:
    """Curves of the run, and what its game looked like, where they were kept."""
    path = (model.folder or Path()) / "metrics.csv"
    if not path.is_file() or not (curves := read_metrics(path)):
        return
    report.section("How it was trained")
    report.figure(
        training_curves(curves), "Losses per player, gradient norms, the game's rotation, and validation scores."
    )
    if "game/rotation" in curves:
        angles = curves["game/rotation"][1]
        last = angles[-max(1, len(angles) // 4) :].mean()
        report.text(GAME, f"In the last quarter of this run the rotation was {last:.0f}° on average.")


def _measured(judge: Judge, judgement: Judgement, facts: Mapping[str, Any]) -> dict[str, str]:
    training, selection = facts["training"], facts["training"]["selection"]
    rounds = ", ".join(f"{name} {number}" for name, number in training["rounds"].items())
    return {
        "Data": f"{facts['data']}: {count(len(facts['subjects']), 'test subject')} ({', '.join(facts['subjects'])}), "
        f"{count(len(judgement.cases), 'case')}, {count(facts['slices'], 'slice')}",
        **judge.measured(),
        "Compared with": "; ".join(f"{name}: {about}" for name, about in facts["methods"].items() if about),
        "Intervals and tests": f"95 %, bootstrap over {judge.resampled}; Wilcoxon signed-rank over them, not adjusted "
        "for the number of scores",
        "Trained on": f"{training['data']}, {count(len(training['subjects']['train']), 'subject')}, seed "
        f"{training['seed']}, rounds: {rounds}",
        "Weights": f"{facts['weights']}; the best are chosen on validation data by {selection['score']} "
        f"({selection['better']} is better)",
        **{title(name): value for name, value in facts["provenance"].items()},
        "Versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
    }


def _caveats(judge: Judge, judgement: Judgement, facts: Mapping[str, Any]) -> list[str]:
    points = judge.caveats(judgement)
    if (number := len(facts["subjects"])) < FEW:
        points.insert(0, f"Only {count(number, 'test subject')}: intervals are wide, and other patients may differ.")
    points += [f"{title(name)}: {value}." for name, value in facts["provenance"].items() if "substitute" in value]
    return points + [title(note) + "." for note in facts["notes"]]
