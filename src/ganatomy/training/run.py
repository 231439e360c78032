"""A training run from data to a folder anyone can read."""

from __future__ import annotations

import logging
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import yaml
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from safetensors.torch import save_file

from ganatomy import catalogue
from ganatomy.case import Sample
from ganatomy.data.batches import Batches, PatchDataset, Range, datasets, hold_out, usable
from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.game import Method, MethodConfig, Noise, Stage
from ganatomy.images.atomic import write_atomically, write_text
from ganatomy.inference.model import WEIGHTS, Model, build, check_device, load
from ganatomy.inference.runfile import read_run
from ganatomy.inference.validation import used, validate
from ganatomy.training.calibration import calibrate_run
from ganatomy.training.card import model_card
from ganatomy.training.derive import derived
from ganatomy.training.diagnostics import duality_gap, vector_field
from ganatomy.training.loop import Best, Diverged, Trainer, plan_rounds
from ganatomy.training.monitor import Bar, Monitor

CHECKPOINT = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"
DERIVED = "derived"
GAP_EVERY = 5
"""Validations from one look at the duality gap, which costs ten rounds per player, to the next."""
PATIENCE = timedelta(days=7)
"""How long processes wait for the first one, which prepares the cases."""

T = TypeVar("T")


class TrainConfig(BaseModel):
    """How to train, whatever the system."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int | None = Field(None, ge=1)  # rounds of the whole run, shared by its stages; none means the system's own
    seed: int = 0  # of weights, samples, noise and splits
    device: str = "auto"  # cpu, cuda, or auto
    processes: int = Field(1, ge=1)  # processes or GPUs that share every batch
    precision: Literal["32-true", "bf16-mixed"] = "32-true"  # penalties stay in 32 bits
    threads: int | None = None  # CPU threads per process
    workers: int = Field(0, ge=0)  # background processes that cut patches
    log_every: int = Field(10, ge=1)  # rounds between two lines in metrics.csv
    validate_every: int | None = Field(None, ge=1)  # rounds between validations; none: twenty a run, 25 rounds apart
    validation_slices: int = Field(12, ge=1)  # slices scored at each validation
    select: str | None = None  # score that decides the best weights; none means the system's own choice
    diagnose: bool = True  # take the game's vector field at validations
    false_positive_rate: float = Field(0.05, gt=0, lt=1)  # of healthy pixels and images, at a detector's thresholds


def train(
    system: str,
    out: Path,
    config: MethodConfig | None = None,
    data: DataConfig | None = None,
    options: TrainConfig | None = None,
    *,
    resume: bool = False,
    show: bool = False,
) -> Model:
    """Train a system into a run folder and return it with its best weights.

    Args:
        system: slug.
        out: run folder, made if necessary; must not hold a run unless ``resume``.
        config: numbers of the method; none means the paper's.
        data: images; none means the embedded phantom.
        options: how to train.
        resume: go on from the last checkpoint; everything else is taken from the run, but ``options.rounds`` if given.
        show: progress bar and messages on the terminal.

    Raises:
        UserError: anything that the user gave and cannot be used; the run folder is then not made or left as it was.
        Stopped: a signal asked to stop; the state is saved.
    """
    if resume:
        facts, data, options = continued(system, out, options.rounds if options else None)
    else:
        data, options = data or DataConfig(), options or TrainConfig()
        cls = catalogue.load(system)
        facts = {
            "system": catalogue.find(system).slug,
            "config": (config or cls.Config()).model_dump(mode="json"),
        }
        if (out / "run.yaml").exists():
            raise UserError(f"{out}: already holds a run; add --resume to go on, or choose another --out")
    fabric = launch(options)
    console = Console(stderr=True, quiet=not show or fabric.global_rank > 0, soft_wrap=True)
    torch.manual_seed(options.seed)
    method = build(facts)
    method.noise = Noise(options.seed, fabric.global_rank, fabric.world_size, fabric.device)
    return Run(method, facts, data, options, out, fabric, console, resume, show).go()


def continued(system: str, out: Path, rounds: int | None) -> tuple[dict[str, Any], DataConfig, TrainConfig]:
    """The facts of a run that is to go on, perhaps to another number of rounds.

    Raises:
        UserError: no run there, a damaged one, or one of another system.
    """
    facts = read_run(out)
    if facts["system"] != catalogue.find(system).slug:
        raise UserError(f"--out {out}: a run of {facts['system']}, not of {system}; resume it by its own name")
    try:
        facts["training"] = {**facts["training"], **({"rounds": rounds} if rounds else {})}
        data, options = DataConfig.model_validate(facts["data"]), TrainConfig.model_validate(facts["training"])
        complete = facts.keys() >= {"provenance", "rounds", "selection", "subjects", "validation"}
    except (KeyError, TypeError, ValidationError) as error:
        raise UserError(f"{out / 'run.yaml'}: damaged or not a run ({type(error).__name__}); restore it") from None
    if not complete:
        raise UserError(f"{out / 'run.yaml'}: damaged or not a run (something is missing); restore it")
    return facts, data, options


def launch(options: TrainConfig) -> Fabric:
    """Fabric for the device, precision and processes asked for, already launched.

    Raises:
        UserError: no such device.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    check_device(options.device)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    accelerator = options.device.partition(":")[0]
    strategy = DDPStrategy(timeout=PATIENCE) if options.processes > 1 else "auto"
    try:
        fabric = Fabric(
            accelerator=accelerator, devices=options.processes, precision=options.precision, strategy=strategy
        )
    except MisconfigurationException as error:
        raise UserError(f"--processes {options.processes}: {error}") from None
    fabric.launch()
    return fabric


def first_alone(fabric: Fabric, work: Callable[[], T]) -> T | None:
    """What only the first process does; the others wait, get None, and fail with it where it raises a UserError."""
    done, problem = None, None
    if fabric.global_rank == 0:
        try:
            done = work()
        except UserError as error:
            problem = error
    problem = fabric.broadcast(problem)
    if problem:
        raise problem
    return done


def check_stages(stages: Sequence[Stage]) -> None:
    """Refuse options with which no round could be played.

    Raises:
        UserError: no samples, or numbers that an optimiser does not take.
    """
    for stage in stages:
        if any(stream.batch_size < 1 or min(stream.patch) < 1 for stream in stage.streams_in_order):
            raise UserError("--batch-size and --patch: must be at least 1")
        for player in stage.players:
            try:
                player.optimizer(player.parameters())
            except ValueError as error:
                raise UserError(f"the optimiser of {player.name!r}: {error}") from None


class Run:
    """One training run: its data, its folder, and what happens between rounds."""

    def __init__(
        self,
        method: Method,
        facts: dict[str, Any],
        data: DataConfig,
        options: TrainConfig,
        out: Path,
        fabric: Fabric,
        console: Console,
        resume: bool,
        show: bool,
    ):
        self.method, self.data, self.options, self.out, self.fabric = method, data, options, out, fabric
        self.console, self.show, self.resume = console, show, resume
        self.task = method.task
        self.chief = fabric.global_rank == 0
        self.select = options.select or self.task.selection
        choices = [name for name, better in self.task.directions.items() if better != "target"]
        if self.select not in choices:
            raise UserError(f"--select {self.select}: choose from {', '.join(choices)}")
        self.best = Best(name=self.select, better=self.task.directions[self.select])
        self.rounds = plan_rounds(method.stages(), options.rounds)
        check_stages(method.stages())
        self.store = Store(self.task, data.cache)
        self.cases = discover(self.task, data, options.seed)
        self.train_ranges, self.val_ranges, problems = self._prepare()
        self.ranges = self.train_ranges
        self._check_roles()
        self.facts = facts if resume else self._describe(facts, problems)
        self.validate_every = options.validate_every or max(25, sum(self.rounds) // 20)

    def _prepare(self) -> tuple[list[Range], list[Range], list[str]]:
        """Training and validation slices; the first process simulates, the others wait and read."""
        wanted = [case for case in self.cases if case.split != "test"]
        with self.console.status("preparing cases") as status:

            def prepare() -> tuple[list[Sample], list[str]]:
                return self.store.get_all(
                    wanted, lambda case: status.update(f"preparing {case.name} (once; kept in {self.data.cache})")
                )

            cases, problems = first_alone(self.fabric, prepare) or prepare()
        training, validation = (
            usable(self.task, [sample for sample in cases if sample.case.split == split]) for split in ("train", "val")
        )
        if not training:
            raise UserError(
                f"no case can be used for training: {problems[0] if problems else 'all are kept for testing'}"
            )
        for problem in problems:
            self.console.print(f"[yellow]left out:[/] {problem}", highlight=False)
        if validation:
            return training, validation, problems
        return *hold_out(training), problems

    def _check_roles(self) -> None:
        """Refuse data that lack what a stage draws before anything is written; what is derived comes later.

        Raises:
            UserError: naming the roles that no training case has.
        """
        derived: set[str] = set()
        for stage in self.method.stages():
            derived |= set(stage.derive)
            if not derived:
                self._patches(stage, ())

    def _describe(self, facts: dict[str, Any], problems: Sequence[str]) -> dict[str, Any]:
        subjects: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        used = {item.sample.case.name for item in (*self.train_ranges, *self.val_ranges)}
        for case in self.cases:
            if (case.split == "test" or case.name in used) and case.subject not in subjects[case.split]:
                subjects[case.split].append(case.subject)
        return {
            **facts,
            "data": self.data.model_dump(mode="json"),
            "training": self.options.model_dump(mode="json"),
            "rounds": {stage.name: count for stage, count in zip(self.method.stages(), self.rounds, strict=True)},
            "subjects": subjects,
            "validation": "other subjects" if subjects["val"] else "slices held out of the training subjects",
            "selection": {"score": self.best.name, "better": self.best.better},
            "codecs": {role: codec.model_dump(mode="json") for role, codec in self.task.codecs.items()},
            "provenance": self.method.provenance(),
            "left_out": list(problems),
            "versions": {
                "ganatomy": version("ganatomy"),
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
        }

    def go(self) -> Model:
        """Train to the end."""
        state = self._load_checkpoint() if self.resume else None
        first_alone(self.fabric, self._make_folder)
        done = state["progress"]["round"] if state else 0
        self.monitor = Monitor(self.out if self.chief else None, self.options.log_every, done, self._mean)
        self.trainer = Trainer(
            self.method, self.fabric, self.rounds, self._open_stream, self.monitor, self._after_round
        )
        if state:
            self._take_up(state)
        else:
            self._fit()
        self.bar = Bar(sum(self.rounds), done, self.console, self.show and self.chief)
        try:
            self.trainer.fit()
        finally:
            self.bar.close()
            self.monitor.close()
        first_alone(self.fabric, self._calibrate)
        first_alone(self.fabric, self._write_card)
        return load(self.out, device=str(self.fabric.device))

    def _fit(self) -> None:
        """Numbers that are learned from training cases before the first round; every process learns the same."""
        self.method.fit(list({item.sample.case.name: item.sample for item in self.train_ranges}.values()))

    def _mean(self, values: torch.Tensor) -> torch.Tensor:
        """Over all processes, so that all of them see a loss that is not a number and stop together."""
        return self.fabric.all_reduce(values, reduce_op="mean") if self.fabric.world_size > 1 else values  # type: ignore[return-value]

    def _make_folder(self) -> None:
        """A new run's folder; in a resumed one only the plan may change, by getting longer."""
        try:
            (self.out / CHECKPOINT).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {self.out}: {error.strerror}; choose a folder you may write to") from None
        planned = {stage.name: count for stage, count in zip(self.method.stages(), self.rounds, strict=True)}
        if not self.resume:
            shutil.rmtree(self.out / DERIVED, ignore_errors=True)
        if not self.resume or self.facts["rounds"] != planned:
            self.facts["rounds"] = planned
            write_text(self.out / "run.yaml", yaml.safe_dump(self.facts, sort_keys=False, allow_unicode=True))

    def _load_checkpoint(self) -> dict[str, Any] | None:
        path = self.out / CHECKPOINT
        if not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UserError(
                f"{path}: damaged checkpoint ({type(error).__name__}); start again in another --out"
            ) from None
        system = state.get("system") if isinstance(state, dict) else None
        if system != self.facts["system"]:
            raise UserError(f"{path}: a checkpoint of {system}, but the run is of {self.facts['system']}")
        now, then = self.method.provenance(), self.facts["provenance"]
        if now != then:
            raise UserError(f"{self.out}: trained with {then}, but now there is {now}; make the same weights available")
        return state

    def _take_up(self, state: dict[str, Any]) -> None:
        try:
            self.trainer.load_state(state)
            self.monitor.load_state(state["monitor"])
            self.best = Best(**state["best"])
        except (KeyError, RuntimeError, TypeError) as error:
            raise UserError(
                f"{self.out / CHECKPOINT}: does not fit this run ({type(error).__name__}); start again in another --out"
            ) from None

    def _open_stream(self, stage: Stage, index: int, drawn: int) -> Batches:
        self.ranges = self._with_derived(stage)
        return Batches(
            self._patches(stage, (self.options.seed, index)),
            stage.streams_in_order,
            self.fabric.global_rank,
            self.fabric.world_size,
            drawn,
            self.options.workers,
            self.fabric.device,
        )

    def _patches(self, stage: Stage, seed: Sequence[int]) -> dict[str, PatchDataset]:
        roles = (*self.task.required, *stage.derive)
        return datasets(self.ranges, stage.streams_in_order, roles, self.method.dims, seed)

    def _with_derived(self, stage: Stage) -> list[Range]:
        """The training slices with what the stage derives, found again where the stage had begun before."""
        if not stage.derive:
            return self.train_ranges
        folder = self.out / DERIVED / stage.name

        def derive() -> list[Sample]:
            with self.trainer.averages.in_place(), used(self.method), self.console.status(f"deriving for {stage.name}"):
                return [derived(self.method, stage, case, folder, subjects) for case in cases]

        cases = list({item.sample.case.name: item.sample for item in self.train_ranges}.values())
        subjects = [sample.case.subject for sample in cases]
        more = {sample.case.name: sample for sample in first_alone(self.fabric, derive) or derive()}
        return [replace(item, sample=more[item.sample.case.name]) for item in self.train_ranges]

    def _after_round(self, trainer: Trainer, ending: bool) -> None:
        """Validate and save when it is time; every process comes here, the first one writes."""
        where = trainer.progress
        self.bar.update(where, self.monitor.latest, (self.best.name, *_losses(trainer)))
        due = ending or where.round % self.validate_every == 0
        if not (due or trainer.stopping):
            return
        if due:
            self.monitor.flush(where)
        heard = self.monitor.state()
        if not all(bool(torch.isfinite(p).all()) for p in self.method.parameters()):
            raise Diverged(
                f"round {where.round}: weights are no longer finite; the last checkpoint is intact: "
                "train in another --out with a lower --learning-rate"
            )
        first_alone(self.fabric, lambda: self._record(trainer, due, ending, heard))

    def _record(self, trainer: Trainer, due: bool, ending: bool, heard: dict[str, Any]) -> None:
        """Judge and save; a stop between two validations is saved only, to leave no trace in the run."""
        if due and self.options.diagnose:
            self._diagnose(trainer, ending)
        improved = due and trainer.stage.validated and self._validate(trainer)
        heard["latest"] = dict(self.monitor.latest)
        self._save(trainer, improved, heard)

    def _diagnose(self, trainer: Trainer, ending: bool) -> None:
        stage = trainer.stage
        dry = Batches(
            self._patches(stage, (self.options.seed, 10_000, trainer.progress.round)), stage.streams_in_order,
            device=self.fabric.device,
        )  # fmt: skip
        field = vector_field(self.method, stage, dry)
        found = {f"game/gradient norm of {name}": norm for name, norm in field.norms.items()}
        found["game/rotation"] = field.rotation
        if ending or trainer.progress.round % (GAP_EVERY * self.validate_every) == 0:
            gains = duality_gap(self.method, stage, dry)
            found |= {f"game/gain alone of {name}": gain for name, gain in gains.items()}
        self.monitor.record(trainer.progress, found)

    def _validate(self, trainer: Trainer) -> bool:
        """Score the inference weights; whether they are the best so far."""
        with trainer.averages.in_place():
            scores = validate(self.method, self.val_ranges, self.options.validation_slices, self.fabric.device)
        self.monitor.record(trainer.progress, {f"validation/{name}": value for name, value in scores.items()})
        self.monitor.latest |= scores
        score = scores.get(self.best.name, float("nan"))
        if not self.best.improved_by(score):
            return False
        self.best.score, self.best.round = score, trainer.progress.round
        return True

    def _save(self, trainer: Trainer, improved: bool, heard: dict[str, Any]) -> None:
        state = {**trainer.state(), "system": self.facts["system"], "best": vars(self.best), "monitor": heard}
        with trainer.averages.in_place():
            tensors = {
                name: value.detach().cpu().contiguous()
                for name, value in self.method.state_dict().items()
                if isinstance(value, torch.Tensor)
            }
            facts = {"system": self.facts["system"], "round": str(trainer.progress.round)}

            def write_weights(path: Path) -> None:
                save_file(tensors, path, metadata=facts)

            write_atomically(self.out / WEIGHTS["last"], write_weights)
            if improved or self.best.score is None:
                write_atomically(self.out / WEIGHTS["best"], write_weights)
        write_atomically(self.out / CHECKPOINT, lambda path: torch.save(state, path))
        if improved:
            write_atomically(self.out / BEST, lambda path: _link(self.out / CHECKPOINT, path))

    def _calibrate(self) -> None:
        with self.console.status("calibrating on validation cases"):
            calibrate_run(
                self.out,
                self.val_ranges,
                self.options.false_positive_rate,
                self.facts["validation"],
                str(self.fabric.device),
            )

    def _write_card(self) -> None:
        write_text(self.out / "card.md", model_card(self.facts, self.best, self.monitor.latest))


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name, without copying where the file system can."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _losses(trainer: Trainer) -> list[str]:
    names = [name for name in trainer.observer.latest if "/" in name]  # type: ignore[attr-defined]
    return [n for n in names if not n.startswith(("validation", "game")) and "norm" not in n and "score" not in n][:3]
