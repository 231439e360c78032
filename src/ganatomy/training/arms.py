"""Arms of a comparison: several systems or configurations, trained with several seeds and judged on the same cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel
from rich.console import Console

from ganatomy.case import Case, Sample, Task
from ganatomy.catalogue import System
from ganatomy.data.cases import DataConfig, discover, find_cases
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.data.splits import Fold
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.evaluation.arms import label
from ganatomy.evaluation.choosing import place
from ganatomy.evaluation.evaluate import Problem, judge_cases, learn, tuned_references
from ganatomy.evaluation.judging import Entry, Judge, Row, Scores, judge_of
from ganatomy.evaluation.references import Reference, choose
from ganatomy.game import Method, MethodConfig, RolesConfig
from ganatomy.inference.model import Model, load
from ganatomy.inference.runfile import TrainConfig, Which
from ganatomy.training.series import check_code, train_once

WEIGHTS_COMPARED: Which = "last"
"""Weights of every arm that are compared. Those of the last round are chosen by the same rule for all arms, while the
best ones on validation data are chosen by scores that differ between systems with and without an adversary."""
PHANTOMS = 18
"""Number of phantom subjects where no data are given, unless the task needs more; the last third is for testing."""


@dataclass(frozen=True)
class Arm:
    """One of several systems or configurations that are compared.

    Attributes:
        name: name of the arm and of its folder.
        system: system to train.
        config: options of its method.
        rounds: rounds of a whole run; None means the system's own.
        label_fraction: share of the annotated training subjects whose annotations are learned from; None means all.
    """

    name: str
    system: System
    config: MethodConfig
    rounds: int | None = None
    label_fraction: float | None = None

    @property
    def method(self) -> Method:
        """An untrained method of the arm."""
        found: Method = self.system.cls.of(self.config)
        return found


@dataclass(frozen=True)
class Run:
    """One training run of an arm.

    Attributes:
        arm: arm to train.
        seed: seed of the run.
        fold: fold of a cross-validation.
    """

    arm: Arm
    seed: int
    fold: Fold | None = None

    @property
    def place(self) -> Path:
        """Folder of the run, relative to that of all arms."""
        folder = Path(self.arm.name) / f"seed{self.seed}"
        return folder / f"fold{self.fold.number}" if self.fold else folder

    @property
    def label(self) -> str:
        """Name of the run in tables."""
        return label(self.arm.name, self.seed)


def runs_of(arms: Sequence[Arm], seeds: Sequence[int], folds: int | None = None) -> Iterator[Run]:
    """Iterate over all runs of all arms, by seed, then by fold, then by arm."""
    parts = [None] if folds is None else [Fold(number=number, of=folds) for number in range(folds)]
    return (Run(arm, seed, fold) for seed, fold, arm in product(seeds, parts, arms))


def train_run(
    run: Run,
    out: Path,
    data: DataConfig,
    options: TrainConfig,
    console: Console,
    secret: Path | None = None,
) -> Model:
    """Train a run of an arm, resume it where it is unfinished, or load it where it is finished.

    Args:
        run: run to train.
        out: folder of all arms.
        data: how to find and read images.
        options: how to train; seed and rounds are replaced by those of the run.
        console: terminal for messages; a quiet one shows no progress either.
        secret: file with the secret that makes pseudonyms of subjects; None means the user's own.

    Returns:
        The trained model with the weights of `WEIGHTS_COMPARED`, on the CPU.

    Raises:
        UserError: any reason of `train_once`.
        Stopped: a signal asked to stop; the state is saved.
    """
    folder, arm = out / run.place, run.arm
    fold = f", fold {run.fold.number}" if run.fold else ""
    console.print(f"{arm.name}, seed {run.seed}{fold} in {folder}", style="bold", markup=False, highlight=False)
    # What auto adds depends on the system and on the number of subjects, but arms are to be trained alike.
    augment = "none" if options.augment == "auto" else options.augment
    own = options.model_copy(update={"seed": run.seed, "rounds": arm.rounds, "augment": augment})
    train_once(
        arm.system,
        folder,
        arm.config,
        data,
        own,
        show=not console.quiet,
        secret=secret,
        fold=run.fold,
        label_fraction=arm.label_fraction,
    )
    return load(folder, WEIGHTS_COMPARED, system=arm.system)


def check_runs(runs: Iterable[Run], out: Path, data: DataConfig, console: Console, *, retrain: bool) -> list[str]:
    """Compare the code that runs of arms have been trained by with the present one, before they are used again.

    Args:
        runs: all runs that will be used.
        out: folder of all arms.
        data: how to find and read images.
        console: terminal for messages.
        retrain: move runs of other or unknown code aside, so that they are trained again.

    Returns:
        Places of the runs, relative to ``out``, that are used though their code is not known.

    Raises:
        UserError: a run was trained by other code, and is not to be trained again.
    """
    methods: dict[str, Method] = {}
    folders = dict[Path, Method]()
    for run in runs:
        if run.arm.name not in methods:
            methods[run.arm.name] = run.arm.method
        folders[out / run.place] = methods[run.arm.name]
    unknown = check_code(folders, data, lambda told: console.print(told, markup=False), retrain=retrain)
    return [folder.relative_to(out).as_posix() for folder in unknown]


def unknown_code(runs: Sequence[str]) -> str:
    """Return a sentence on runs whose code is not known.

    Args:
        runs: places of these runs, at least one.
    """
    return f"Trained by code that is not known, maybe older than the present one: {', '.join(runs)}."


class Judged(NamedTuple):
    """Scores of several models on the same cases.

    Attributes:
        judge: judge of their task, with what the first model has learned of scales.
        entries: the models and their references.
        prepared: judged cases.
        rows: scores of every entry on every case.
        problems: cases that could not be judged.
        reference: strongest method without training or with few fitted numbers, chosen on validation cases.
    """

    judge: Judge
    entries: list[Entry]
    prepared: list[Sample]
    rows: list[Row]
    problems: list[Problem]
    reference: Reference


def judge_models(
    models: Mapping[str, Model],
    cases: Sequence[Case],
    known: Sequence[Case],
    validation: Sequence[Case],
    cache: Path,
    labels: Labels,
    console: Console,
) -> Judged:
    """Judge several trained models, the references, and tuned classical methods on the same cases.

    Args:
        models: name in the table to model.
        cases: cases that no model was trained on.
        known: cases that the models were trained on.
        validation: cases that classical methods are tuned on, and the reference is chosen on.
        cache: folder of prepared cases.
        labels: names for cases and subjects in the result.
        console: terminal for progress.

    Raises:
        UserError: no case could be judged.
    """
    judge = judge_of(next(iter(models.values())).method.task)
    store = Store(judge.task, cache)
    training = learn(judge, known, store, labels)
    tuned = tuned_references(judge, {}, validation, store, console, labels)
    entries = judge.with_references(*[judge.entry(model, name) for name, model in models.items()], *tuned.entries)
    prepared, rows, problems = judge_cases(judge, entries, cases, store, console, labels, training)
    if not rows:
        raise UserError(f"no case could be judged: {problems[0].told if problems else 'there is none'}")
    simple = [entry.name for entry in (*judge.references()[0], *tuned.entries)]
    return Judged(judge, entries, prepared, rows, problems, choose(judge, tuned, simple, Scores(rows)))


def pinned(data: DataConfig, task: Task, pseudonyms: Pseudonyms) -> DataConfig:
    """Return the data options with fixed test subjects, so that every seed is tested on the same ones.

    Args:
        data: how to find and read images; subjects may be given by pseudonym.
        task: task of the systems.
        pseudonyms: keyed by the secret of the user.

    Raises:
        UserError: there are too few subjects to keep one for testing.
    """
    data = with_phantoms(data, task)
    found = find_cases(task, data)
    named = pseudonyms.named(data.test_subjects, [case.subject for case in found])
    data = data.model_copy(update={"test_subjects": named})
    if data.hold_out_site:
        sites = pseudonyms.named_sites(data.hold_out_site, [case.site for case in found])
        return data.model_copy(update={"hold_out_site": sites})
    if named or {case.split for case in found} != {"train"}:
        return data
    if data.data is None:
        subjects = sorted({case.subject for case in found})
        return data.model_copy(update={"test_subjects": tuple(subjects[-max(1, len(subjects) // 3) :])})
    test = {case.subject for case in discover(task, data) if case.split == "test"}
    if not test:
        raise UserError(f"{place(data)}: one subject only; others are needed to test on")
    return data.model_copy(update={"test_subjects": tuple(sorted(test))})


def with_phantoms(data: DataConfig, task: Task) -> DataConfig:
    """Return the data options with enough phantom subjects for a comparison, unless a number or data are given."""
    if data.data is None and data.phantom_subjects is None:
        return data.model_copy(update={"phantom_subjects": max(PHANTOMS, task.phantom_subjects)})
    return data


def shared_values(config: MethodConfig, kind: type[MethodConfig]) -> dict[str, Any]:
    """Return the values of a configuration that another system for the same kind of task takes over.

    These are the fields of the most general configuration class that both extend, such as roles, regions and sizes,
    and the simulation; networks and optimisers remain those of each system.

    Args:
        config: configuration of a system.
        kind: class of the other system's configuration.
    """
    general = (BaseModel, MethodConfig, RolesConfig)
    common = [cls for cls in kind.__mro__ if cls not in general and issubclass(cls, MethodConfig)]
    shared = [cls for cls in common if isinstance(config, cls)]
    names = set(shared[-1].model_fields) if shared else set()
    fields = type(config).model_fields
    for name, info in kind.model_fields.items():
        simulated = isinstance(getattr(config, name, None), BaseModel)
        if simulated and name in fields and fields[name].annotation == info.annotation:
            names.add(name)
    values = {name: getattr(config, name) for name in fields if name in names}
    if "roles" in values:
        values["roles"] = {name: options.model_dump() for name, options in values["roles"].items()}
    return values


def values_beside(first: Method, kind: type[MethodConfig]) -> dict[str, Any]:
    """Return the values with which another system is compared with a method, on images that are prepared alike.

    These are the values that both share, those with which the other system is compared, and the embedded phantom of the
    method, where the other system lets it be chosen.

    Args:
        first: method with which the other system is compared.
        kind: class of the other system's configuration.
    """
    values = {**shared_values(first.config, kind), **kind.compared}
    embedded = getattr(first.task, "embedded", None)
    if embedded is not None and "embedded" in kind.model_fields:
        values["embedded"] = embedded
    return values


def share(rounds: int | None, method: Method, first: Method) -> int | None:
    """Return the rounds of an arm, such that it is trained for the same share of its own rounds as the first arm.

    Args:
        rounds: rounds of the first arm; None means its own.
        method: method of the arm.
        first: method of the first arm.
    """
    if rounds is None:
        return None
    own, whole = (sum(stage.rounds for stage in one.stages()) for one in (method, first))
    return max(1, round(rounds * own / whole))
