"""Trainings that are to be compared: several arms with several seeds, all judged on the same subjects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

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
from ganatomy.evaluation.evaluate import Problem, judge_cases
from ganatomy.evaluation.judging import Contender, Judge, Row
from ganatomy.game import Method, MethodConfig
from ganatomy.inference.model import Model, load
from ganatomy.inference.runfile import TrainConfig
from ganatomy.training.series import train_once

PHANTOMS = 18
"""Embedded patients where no data are given and the system does not want more; the last third is for testing."""


@dataclass(frozen=True)
class Arm:
    """One of several trainings that are compared.

    Attributes:
        name: of its folder.
        system: that is trained.
        config: of its method.
        rounds: of the whole run; none means the system's own.
        label_fraction: share of the annotated training subjects whose annotations are learned from; none means all.
    """

    name: str
    system: System
    config: MethodConfig
    rounds: int | None = None
    label_fraction: float | None = None

    @property
    def method(self) -> Method:
        """Its untrained method."""
        found: Method = self.system.cls.of(self.config)
        return found


@dataclass(frozen=True)
class Run:
    """One training of an arm.

    Attributes:
        arm: that is trained.
        seed: of the run.
        fold: of a cross-validation.
    """

    arm: Arm
    seed: int
    fold: Fold | None = None

    @property
    def place(self) -> Path:
        """Its folder in the one of all arms."""
        folder = Path(self.arm.name) / f"seed{self.seed}"
        return folder / f"fold{self.fold.number}" if self.fold else folder

    @property
    def label(self) -> str:
        """What it is called among the rows."""
        return label(self.arm.name, self.seed)


def runs_of(arms: Sequence[Arm], seeds: Sequence[int], folds: int | None = None) -> Iterator[Run]:
    """All trainings, one seed after another and one fold after another."""
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
    """Train one run, go on with it, or leave it as it is where it is finished.

    Args:
        run: to be trained.
        out: folder of all arms.
        data: images.
        options: how to train; seed and rounds are those of the run.
        console: for messages; a quiet one shows no progress either.
        secret: file with the secret that makes pseudonyms of subjects; none means the user's own.

    Returns:
        The trained model, on the CPU.

    Raises:
        UserError: as `train_once`.
        Stopped: a signal asked to stop; the state is saved.
    """
    folder, arm = out / run.place, run.arm
    fold = f", fold {run.fold.number}" if run.fold else ""
    console.print(f"[bold]{arm.name}, seed {run.seed}{fold}[/] in {folder}", highlight=False, soft_wrap=True)
    own = options.model_copy(update={"seed": run.seed, "rounds": arm.rounds})
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
    return load(folder, system=arm.system)


class Judged(NamedTuple):
    """What several runs did on the same cases."""

    contenders: list[Contender]
    prepared: list[Sample]
    rows: list[Row]
    problems: list[Problem]


def judge_models(
    judge: Judge,
    models: Mapping[str, Model],
    cases: Sequence[Case],
    known: Sequence[Case],
    store: Store,
    labels: Labels,
    console: Console,
) -> Judged:
    """Judge trained models side by side.

    Args:
        judge: of their task.
        models: by the names that they have among the rows.
        cases: that none of them was trained on.
        known: that they were trained on.
        store: of prepared cases.
        labels: by which cases and subjects are called in what is returned.
        console: for progress.

    Raises:
        UserError: no case could be judged.
    """
    contenders = judge.lineup(*[judge.contender(model, name) for name, model in models.items()])
    prepared, rows, problems = judge_cases(judge, contenders, cases, store, console, labels, known)
    if not rows:
        raise UserError(f"no case could be judged: {problems[0].told if problems else 'there is none'}")
    return Judged(contenders, prepared, rows, problems)


def pinned(data: DataConfig, task: Task, pseudonyms: Pseudonyms) -> DataConfig:
    """The data with its test subjects named, so that every seed is tested on the same ones.

    Args:
        data: images; subjects may be called by pseudonym.
        task: of the systems.
        pseudonyms: of the user.

    Raises:
        UserError: there are too few subjects to keep one for testing.
    """
    data = with_phantoms(data, task)
    found = find_cases(task, data)
    named = pseudonyms.named(data.test_subjects, [case.subject for case in found])
    data = data.model_copy(update={"test_subjects": named})
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
    """The data with a number of phantoms that suits a comparison, where they are phantoms and nobody says how many."""
    if data.data is None and data.phantom_subjects is None:
        return data.model_copy(update={"phantom_subjects": max(PHANTOMS, task.phantom_subjects)})
    return data


def share(rounds: int | None, method: Method, first: Method) -> int | None:
    """Rounds of an arm, such that every stage is as long as in the first arm.

    Args:
        rounds: of the first arm; none means its own.
        method: of the arm.
        first: method of the first arm.
    """
    if rounds is None:
        return None
    own, whole = (sum(stage.rounds for stage in one.stages()) for one in (method, first))
    return max(1, round(rounds * own / whole))
