"""A training run: prepare the cases, train, validate, and write the run folder."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from rich.console import Console
from rich.markup import escape
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ganatomy import catalogue
from ganatomy.case import Case, Sample
from ganatomy.catalogue import System, source_of
from ganatomy.data.batches import Batches, PatchDataset, Range, check_validation, datasets, hold_out, usable
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.contents import Changes, changes_of, content_of, contents_of
from ganatomy.data.overview import prepared_items, sentences
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.data.splits import Fold, divide, recorded, some
from ganatomy.data.store import Store
from ganatomy.errors import Notice, UserError
from ganatomy.evaluation.choosing import place
from ganatomy.evaluation.selection import doubtful_choice
from ganatomy.game import Geometry, Method, MethodConfig, Noise, Stage
from ganatomy.images.atomic import locked, make_folder, write_atomically, write_text
from ganatomy.images.paths import check_free
from ganatomy.inference.model import (
    CALIBRATION,
    WEIGHTS,
    Model,
    build,
    build_run,
    check_device,
    check_weights,
    described,
    load,
    read_calibration,
    read_weights,
)
from ganatomy.inference.resolution import resolution
from ganatomy.inference.runfile import (
    RUN_FILE,
    RunFile,
    Selection,
    Sides,
    Which,
    digest_of,
    is_run_of,
    read_run,
    write_run,
)
from ganatomy.inference.runfile import TrainConfig as TrainConfig
from ganatomy.inference.validation import in_inference_mode, validate
from ganatomy.reports import terminal
from ganatomy.reports.measures import GAIN_ALONE, GRADIENT_NORM, ROTATION, Measure
from ganatomy.training.aids import prepare
from ganatomy.training.annotations import choose_annotated, learned_roles, without_annotations
from ganatomy.training.augmenting import Added, added, check_wish, with_changes
from ganatomy.training.calibration import calibrate_run
from ganatomy.training.card import model_card
from ganatomy.training.checkpoint import BEST, LAST, read_checkpoint
from ganatomy.training.code import training_digest
from ganatomy.training.derive import with_derived_roles
from ganatomy.training.diagnostics import duality_gap, vector_field
from ganatomy.training.initial import initialise
from ganatomy.training.loop import Best, Diverged, Trainer, plan_rounds
from ganatomy.training.monitor import EVENTS, METRICS, Bar, Forecast, Monitor, read_rows
from ganatomy.training.shapes import check_aids, check_turns

CARD, DERIVED = "card.md", "derived"
LONG_RUN = 3600.0
"""Seconds from which a user is told how long a run on a CPU will take (our choice)."""
GAP_EVERY = 5
"""Number of validations between two estimates of the duality gap, which costs ten rounds per player."""
PLANNED_FROM = 50
"""Largest number of training cases whose sizes a method plans its options from (our choice)."""
PATIENCE = timedelta(days=7)
"""Time that other processes wait for rank zero, which prepares the cases."""

ChangedData = Literal["refuse", "ignore"]
"""Reaction of a resumed run where cases were added, are missing or have other content than when it began."""

T = TypeVar("T")

log = logging.getLogger(__name__)


def train(
    system: str | System,
    out: Path,
    config: MethodConfig | None = None,
    data: DataConfig | None = None,
    options: TrainConfig | None = None,
    *,
    resume: bool = False,
    show: bool = False,
    secret: Path | None = None,
    fold: Fold | None = None,
    label_fraction: float | None = None,
    changed_data: ChangedData = "refuse",
) -> Model:
    """Train a system into a run folder and return it with its best weights.

    Args:
        system: the system, or a name that `catalogue.resolve` accepts.
        out: run folder, made if necessary; must not hold a run unless ``resume``.
        config: options of the method; None means those of its paper.
        data: how to find and read images; None means the embedded phantom.
        options: how to train.
        resume: continue from the last checkpoint. Everything is then taken from the run except ``options.rounds``,
            where given, and the folder of prepared cases.
        show: whether to show a progress bar and messages on the terminal.
        secret: file with the secret that makes pseudonyms of subjects; None means the user's own.
        fold: fold of a cross-validation whose subjects are kept for testing.
        label_fraction: share of the annotated training subjects whose annotations are learned from, drawn by the seed;
            None means all.
        changed_data: what to do with ``resume`` where the data have changed since the run began: refuse to go on, or
            ignore it, which leaves added cases out, goes on without missing ones and uses changed ones as they are.

    Raises:
        UserError: an option or the data cannot be used, or another process is writing into the run folder, which is
            then not made, or left as it was.
        Stopped: a signal asked to stop; the state is saved.
    """
    system, pseudonyms = catalogue.resolve(system), Pseudonyms.of_user(secret)
    if resume:
        facts = continued(system, out, pseudonyms, options.rounds if options else None)
        data = facts.data.model_copy(update={"cache": data.cache if data else None})
        split = facts.split
        request = Request(
            system, data, facts.training, split.fold, pseudonyms, facts, split.label_fraction, changed_data
        )
    else:
        facts = None
        request = Request(
            system, data or DataConfig(), options or TrainConfig(), fold, pseudonyms, None, label_fraction
        )
        check_new(out)
    with group_ended():
        fabric = launch(request.options)
        console = terminal.console(show and fabric.global_rank == 0)
        torch.manual_seed(request.options.seed)
        if facts:
            method = build_run(out, facts, system)
        else:
            method = build(system, (config or system.cls.Config()).model_dump(mode="json"))
        method.noise = Noise(request.options.seed, fabric.global_rank, fabric.world_size, fabric.device)
        with terminal.spoken(show and fabric.global_rank == 0):
            return Run(method, request, out, fabric, console, show).go()


@contextmanager
def group_ended() -> Iterator[None]:
    """End the group of processes that began within, whose threads abort an interpreter that ends before them."""

    def there() -> bool:
        return torch.distributed.is_available() and torch.distributed.is_initialized()

    before = there()
    try:
        yield
    finally:
        if there() and not before:
            torch.distributed.destroy_process_group()


def check_new(out: Path) -> None:
    """Refuse a folder for a new run that holds anything already.

    Raises:
        UserError: the folder holds a run or other things.
    """
    if (out / RUN_FILE).exists():
        raise UserError(f"{out}: already holds a run; add --resume to go on, or choose another --out")
    check_free(out)


class Request(NamedTuple):
    """Everything that determines a run: the system, its data, and how to train it."""

    system: System
    data: DataConfig
    options: TrainConfig
    fold: Fold | None
    """Fold of a cross-validation whose subjects are kept for testing."""
    pseudonyms: Pseudonyms
    facts: RunFile | None = None
    """Run file of a run that is resumed; None for a new run."""
    label_fraction: float | None = None
    """Share of the annotated training subjects whose annotations are learned from; none means all."""
    changed_data: ChangedData = "refuse"
    """Reaction to data that have changed since a run began that is resumed."""


def continued(system: System, out: Path, pseudonyms: Pseudonyms, rounds: int | None) -> RunFile:
    """Read the run file of a run that is resumed, with another number of rounds where one is given.

    Raises:
        UserError: the folder holds no run, a damaged one, one of another system, or one made with another secret.
    """
    facts = read_run(out)
    if not is_run_of(facts, system):
        raise UserError(f"--out {out}: a run of {facts.system}, not of {system.slug}; resume it by its own name")
    if facts.split.secret != pseudonyms.fingerprint:
        raise UserError(
            f"{out / RUN_FILE}: made with another secret, so which subjects it was trained on cannot be told; "
            "give the secret of the user who trained with --secret FILE"
        )
    return (
        facts.model_copy(update={"training": facts.training.model_copy(update={"rounds": rounds})}) if rounds else facts
    )


def launch(options: TrainConfig) -> Fabric:
    """Launch Lightning Fabric on the device, precision and processes of the options.

    Raises:
        UserError: the device does not exist.
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


def on_rank_zero(fabric: Fabric, work: Callable[[], T]) -> T | None:
    """Do work on rank zero alone and return its result; other processes wait and return None.

    Raises:
        UserError: the work raised it, in which case every process does.
    """
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
    """Refuse stages that cannot be trained.

    Raises:
        UserError: a batch or patch is empty, or an optimiser refuses its options.
    """
    for stage in stages:
        if any(stream.batch_size < 1 or min(stream.patch) < 1 for stream in stage.streams_in_order):
            raise UserError("--batch-size and --patch: must be at least 1")
        for player in stage.players:
            try:
                player.optimizer(player.parameters())
            except ValueError as error:
                raise UserError(f"the optimiser of {player.name!r}: {error}") from None


def is_small(config: MethodConfig) -> bool:
    """Return whether a configuration is mostly that of the preset ``small``, or there is no such preset."""
    kind = type(config)
    if "small" not in kind.presets:
        return True
    small, paper = kind.preset("small"), kind.preset("paper")
    changed = [name for name, value in small if getattr(paper, name) != value]
    return 2 * [getattr(config, name) == getattr(small, name) for name in changed].count(True) >= len(changed)


def without_names(data: DataConfig, cases: Sequence[Case], pseudonyms: Pseudonyms) -> DataConfig:
    """Return the data options with pseudonyms in place of the names of subjects and sites, as run files hold them.

    Args:
        data: options as the user gave them.
        cases: all cases found with them.
        pseudonyms: keyed by the secret of the user.
    """
    subjects = [case.subject for case in cases]
    named = {
        option: tuple(pseudonyms.subject(name) for name in pseudonyms.named(getattr(data, option), subjects))
        for option in ("test_subjects", "val_subjects")
    }
    sites = pseudonyms.named_sites(data.hold_out_site, [case.site for case in cases])
    named["hold_out_site"] = tuple(pseudonyms.site(name) for name in sites)
    return data.model_copy(update={**named, "cache": None})


class Run:
    """One training run: prepares the data, trains, and validates and saves between rounds.

    Args:
        method: untrained method.
        request: system, data and options.
        out: run folder.
        fabric: device, precision and processes.
        console: terminal for messages.
        show: whether to show a progress bar.
    """

    def __init__(self, method: Method, request: Request, out: Path, fabric: Fabric, console: Console, show: bool):
        self.method, self.request, self.out, self.fabric = method, request, out, fabric
        self.data, self.options, self.console, self.show = request.data, request.options, console, show
        self.task = method.task
        self.is_rank_zero = fabric.global_rank == 0
        self.unlike: list[str] = []

    def go(self) -> Model:
        """Train to the end and return the method with its best weights."""
        with ExitStack() as self.held:
            if self.request.facts:
                on_rank_zero(self.fabric, self._hold)
            self._check_options()
            self._prepare()
            self._plan()
            self._fit()
            on_rank_zero(self.fabric, self._calibrate)
            on_rank_zero(self.fabric, self._write_card)
            on_rank_zero(self.fabric, self._warn_of_choice)
        return load(self.out, device=str(self.fabric.device), system=self.request.system)

    def _hold(self) -> None:
        """Keep other processes from writing into the run folder until this one is done."""
        self.held.enter_context(locked(self.out))

    def _check_options(self) -> None:
        """Refuse unusable options before any case is prepared, which may take hours."""
        monitored = self.options.monitor or self.task.selection
        choices = [name for name, better in self.task.directions.items() if better != "target"]
        if monitored not in choices:
            raise UserError(f"--monitor {monitored}: choose from {', '.join(choices)}")
        self.best = Best(name=monitored, better=self.task.directions[monitored])
        check_stages(self.method.stages())
        self.method.check_sizes()
        check_wish(self.method, self.options.augment)
        check_turns(self.method)
        prepare(self.method, self.options.aids)
        check_aids(self.method, self.options.aids)
        self._initialise()

    def _initialise(self) -> None:
        """Give players the weights of other runs; a resumed run has all weights in its checkpoint."""
        facts = self.request.facts
        if facts and (self.out / LAST).is_file():
            return
        self.initial = initialise(self.method, self.options.sources, self.request.system)
        if facts and facts.initial != self.initial:
            raise UserError(
                f"{self.out}: a run that its initial weights come from was trained again; begin anew in another --out"
            )

    def _prepare(self) -> None:
        """Split the cases, bring them to the working grid, and check the training cases."""
        self.store = Store(self.task, self.data.cache_folder)
        self.cases = self._divided()
        self._adapt()
        self.labels = Labels(self.cases, self.request.pseudonyms)
        self.annotated: list[str] = []
        self.understood: list[str] = []
        self.train_ranges, self.val_ranges, self.left_out = self._prepared_ranges()
        self.ranges = self.train_ranges
        self.added = self._added()
        self._check_roles()
        self.resolution = resolution(self.task.preparation, self._samples())
        if self.is_rank_zero:
            self._announce()

    def _adapt(self) -> None:
        """Let the method plan options from the training cases; a resumed run keeps those that it began with."""
        if self.request.facts:
            return
        values = self.method.planned(self._geometries)
        if not values:
            return
        method = build(self.request.system, {**self.method.config.model_dump(mode="json"), **values})
        method.noise = self.method.noise
        self.method, self.task, self.store = method, method.task, Store(method.task, self.data.cache_folder)
        self._check_options()
        words = "; ".join(f"{name} {value}" for name, value in values.items())
        log.info("planned from the training cases: %s", words)

    def _geometries(self) -> list[Geometry]:
        """Return the geometries of training cases, of evenly chosen ones where there are many."""
        cases = [case for case in self.cases if case.split == "train"]
        chosen = [cases[place] for place in sorted({len(cases) * step // PLANNED_FROM for step in range(PLANNED_FROM)})]
        found = []
        with self.console.status("reading the sizes of training cases"):
            for case in chosen:
                # Cases that cannot be used are named when all are prepared.
                with suppress(UserError):
                    sample = self.store.framed(case)
                    found.append(Geometry(sample.shape, sample.spacing))
        if not found:
            raise UserError(f"{place(self.data)}: no training case can be read, so nothing can be planned")
        return found

    def _added(self) -> Added:
        """Return the random changes of training images; a resumed run keeps those that it began with."""
        if facts := self.request.facts:
            return Added(facts.augmented, facts.augmentation)
        subjects = {sample.case.subject for sample in self._samples()}
        return added(self.method, self.options.augment, len(subjects), own=self.data.data is not None)

    def _announce(self) -> None:
        """Say before the training what was understood, what networks see, and what stands in for something else."""
        for sentence in (*self.understood, *filter(None, [self.resolution, self.added.told])):
            log.info("%s", sentence)
        for name, value in self.method.provenance().items():
            if "substitute" in value:
                log.warning("%s: %s; results may be worse than with the real ones", name, value)
        for doubt in self.method.check_samples(list(self._samples())):
            log.warning("%s", doubt)

    def _plan(self) -> None:
        """Decide the number of rounds and the validation interval, and compose the run file."""
        self.rounds = plan_rounds(self.method.stages(), self.options.rounds)
        self.validate_every = self.options.validate_every or max(25, sum(self.rounds) // 20)
        if (then := self.request.facts) is None:
            self.facts = self._describe(self.left_out)
        else:
            left_out = tuple(dict.fromkeys((*then.left_out, *self.unlike)))
            code = then.code if then.code == self._code else None
            self.facts = then.model_copy(update={"left_out": left_out, "code": code})

    @property
    def _code(self) -> str:
        return training_digest(self.method, on_phantom=self.data.data is None)

    def _divided(self) -> list[Case]:
        """Return all cases with their sides of the split; a resumed run keeps the split that it began with."""
        cases, request = find_cases(self.task, self.data), self.request
        if request.facts is None:
            subjects = [case.subject for case in cases]
            test, val = (
                request.pseudonyms.named(names, subjects) for names in (self.data.test_subjects, self.data.val_subjects)
            )
            sites = request.pseudonyms.named_sites(self.data.hold_out_site, [case.site for case in cases])
            order = request.pseudonyms.site
            return divide(self.task, cases, test, val, self.options.seed, request.fold, sites, order)
        changes = on_rank_zero(self.fabric, lambda: self._changes(cases)) or self._changes(cases)
        self._tell(changes, Labels(cases, request.pseudonyms))
        added = {case.name for case in changes.added}
        known, _ = recorded(cases, request.facts.split.by_side, request.pseudonyms)
        sides = request.facts.split.by_side
        there = {case.split for case in known}
        if gone := [f"the {side} side" for side in ("train", "val") if sides[side] and side not in there]:
            raise UserError(f"{place(self.data)}: no case of {' and '.join(gone)} is left; put them back")
        return [case for case in known if case.name not in added]

    def _changes(self, cases: Sequence[Case]) -> Changes:
        assert self.request.facts is not None
        with self.console.status("comparing cases with those that the run began with"):
            return changes_of(cases, self.request.facts.cases, self.request.pseudonyms, self._content)

    def _content(self, case: Case) -> str:
        return content_of(case, self.request.pseudonyms, self.store.folder, self.data.data)

    def _tell(self, changes: Changes, labels: Labels) -> None:
        """Refuse data that have changed since the run began, or tell how where the user accepts that."""
        if not any(changes):
            return
        if self.request.changed_data == "refuse":
            raise UserError(
                f"{place(self.data)}: not the data that the run began with ({changes}); put them back, or add "
                "--changed-data ignore to leave out added cases and go on with the others as they are now"
            )
        log.warning("data have changed since the run began: %s", changes)
        self.unlike = [
            *[f"{labels.cases[case.name]}: added since the run began, not used" for case in changes.added],
            *[f"{label}: missing when the run was resumed" for label in changes.missing],
            *[f"{labels.cases[case.name]}: other content than when the run began" for case in changes.changed],
        ]

    def _prepared_ranges(self) -> tuple[list[Range], list[Range], list[str]]:
        """Prepare training and validation cases on rank zero, and read them in every process.

        Returns:
            Training slices, validation slices, and a line for each case that is left out. The lines name cases by
            label: files are named on the terminal only.
        """
        wanted = [case for case in self.cases if case.split != "test"]
        clock, places = terminal.Clock(), {id(case): place for place, case in enumerate(wanted, start=1)}
        with self.console.status("preparing cases") as status:

            def show(case: Case) -> None:
                where = f"{places[id(case)]} of {len(wanted)}"
                status.update(escape(f"preparing {case.name}, {where} (once; kept in {self.store.folder})"))
                if not self.console.is_terminal and clock.is_due():
                    log.info("preparing case %s (once; kept in %s)", where, self.store.folder)

            def prepare() -> tuple[list[Sample], list[tuple[Case, str]]]:
                return self.store.get_all(wanted, show)

            samples, problems = on_rank_zero(self.fabric, prepare) or prepare()
        learned = self._annotated([sample for sample in samples if sample.case.split == "train"])
        validated = [sample for sample in samples if sample.case.split == "val"]
        training, validation = (usable(self.task, part) for part in (learned, validated))
        if not training:
            raise UserError(
                f"no case can be used for training: {problems[0][1] if problems else 'all are kept for testing'}"
            )
        told = [self.labels.told(problem, case) for case, problem in problems]
        self.understood = sentences(list(prepared_items(self.cases, samples))) if self.data.data else []
        used = {item.sample.case.name for item in (*training, *validation)}
        there = [sample.case.name for sample in (*learned, *validated)]
        if idle := [name for name in there if name not in used]:
            words = f"{len(idle)} of {len(there)} cases have no slice that may be learned from: {some(idle)}"
            warnings.warn(words, Notice, stacklevel=2)
        if not validation:
            deep = max(stream.patch[0] for stage in self.method.stages() for stream in stage.streams_in_order)
            training, validation = hold_out(training, fewest=self.task.fewest_validation_images, deep=deep)
        check_validation(self.task, validation)
        return training, validation, told

    def _annotated(self, samples: list[Sample]) -> list[Sample]:
        """Remove the annotations that are not learned from; a resumed run keeps the choice that it began with."""
        request = self.request
        if request.label_fraction is None:
            return samples
        roles = learned_roles(self.method)
        if request.facts is None:
            self.annotated = choose_annotated(samples, roles, request.label_fraction, self.options.seed)
        else:
            subjects = {sample.case.subject for sample in samples}
            self.annotated = [
                one for one in subjects if request.pseudonyms.subject(one) in request.facts.split.annotated
            ]
        return without_annotations(self.task, samples, roles, self.annotated)

    def _check_roles(self) -> None:
        """Refuse data without the roles that the stages draw, before anything is written.

        Stages from the first deriving one on cannot be checked yet, since their roles do not exist.

        Raises:
            UserError: no training case has the roles of a stage; the message names them.
        """
        derived: set[str] = set()
        for stage in self.method.stages():
            derived |= set(stage.derive)
            if not derived:
                self._patches(stage, ())

    def _describe(self, problems: Sequence[str]) -> RunFile:
        pseudonyms, cls = self.request.pseudonyms, self.request.system.cls
        used = {item.sample.case.name for item in (*self.train_ranges, *self.val_ranges)}
        kept = [case for case in self.cases if case.split == "test" or case.name in used]

        def side(split: str) -> tuple[str, ...]:
            # Sorted, for the order of the cases would tell that of the names.
            return tuple(sorted({pseudonyms.subject(case.subject) for case in kept if case.split == split}))

        split = Sides(
            train=side("train"),
            val=side("val"),
            test=side("test"),
            secret=pseudonyms.fingerprint,
            fold=self.request.fold,
            label_fraction=self.request.label_fraction,
            annotated=tuple(sorted(pseudonyms.subject(one) for one in self.annotated)),
            sites=pseudonyms.sites_by_side(kept),
        )
        by_sites = bool(self.data.hold_out_site or (split.fold and split.fold.by == "sites"))
        return RunFile(
            system=self.request.system.slug,
            revision=cls.revision,
            source=source_of(cls),
            code=self._code,
            config=self.method.config.model_dump(mode="json"),
            roles=described(self.method),
            data=without_names(self.data, self.cases, pseudonyms),
            training=self.options,
            rounds=self._planned(),
            initial=self.initial,
            split=split,
            cases=on_rank_zero(self.fabric, self._contents) or {},
            augmentation=self.added.told,
            augmented=self.added.changes,
            resolution=self.resolution,
            validation=f"other subjects{' of the sites trained on' if by_sites else ''}"
            if split.val
            else "slices held out of the training subjects",
            selection=Selection(score=self.best.name, better="lower" if self.best.better == "lower" else "higher"),
            provenance=self.method.provenance(),
            left_out=tuple(problems),
            versions={
                "ganatomy": version("ganatomy"),
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
        )

    def _contents(self) -> dict[str, dict[str, str]]:
        with self.console.status("reading the content of all cases, to notice later changes"):
            return contents_of(self.cases, self.request.pseudonyms, self._content)

    def _planned(self) -> dict[str, int]:
        return {stage.name: count for stage, count in zip(self.method.stages(), self.rounds, strict=True)}

    def _fit(self) -> None:
        """Train all rounds, from the last checkpoint in a resumed run."""
        self.monitor = Monitor(self.out if self.is_rank_zero else None, self.options.log_every, self._mean)
        self.trainer = Trainer(
            self.method,
            self.fabric,
            self.rounds,
            self._open_stream,
            self.monitor,
            self._after_round,
            self.options.aids,
        )
        state = self._load_run() if self.request.facts else None
        new = not self.out.exists()
        done = self.trainer.progress.round
        on_rank_zero(self.fabric, self._make_folder)
        self.monitor.begin(done)
        clock = terminal.Clock()
        self.bar = Bar(sum(self.rounds), done, self.console, self.show and self.is_rank_zero, clock)
        self.forecast = Forecast(sum(self.rounds), done, clock)
        try:
            if state:
                on_rank_zero(self.fabric, lambda: self._restore_weights(state))
            else:
                self._learn_numbers()
            self.trainer.fit()
        except (UserError, RuntimeError, ValueError, ZeroDivisionError) as error:
            if self.request.facts or self.trainer.progress.round:
                raise
            self.monitor.close()
            if self.is_rank_zero:
                self._unmake_folder(new)
            # One of several processes may fail alone, and its own message must not be lost.
            if isinstance(error, UserError) or self.fabric.world_size > 1:
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{self.request.system.slug}: no round can be played with these options: {reason}"
            ) from error
        finally:
            self.bar.close()
            self.monitor.close()

    def _learn_numbers(self) -> None:
        """Fit the numbers that a method learns before the first round, identically in every process."""
        self.method.fit(list(self._samples()))

    def _samples(self) -> Iterable[Sample]:
        """Training cases, each of them once."""
        return {item.sample.case.name: item.sample for item in self.train_ranges}.values()

    def _mean(self, values: torch.Tensor) -> torch.Tensor:
        """Average values over all processes, so that a loss that is not finite stops all of them together."""
        return self.fabric.all_reduce(values, reduce_op="mean") if self.fabric.world_size > 1 else values  # type: ignore[return-value]

    def _make_folder(self) -> None:
        """Make the run folder and write the run file; in a resumed run only the planned rounds may change."""
        make_folder(self.out)
        if not self.request.facts:
            self._hold()
            check_new(self.out)
        make_folder((self.out / LAST).parent)
        self._write_facts(self._settled().model_copy(update={"rounds": self._planned()}))

    def _unmake_folder(self, new: bool) -> None:
        """Remove the files of a run that failed in its first round.

        Args:
            new: whether the folder did not exist before the run, so that it is removed, too.
        """
        for name in (RUN_FILE, METRICS):
            (self.out / name).unlink(missing_ok=True)
        for name in (str(LAST.parent), EVENTS, DERIVED):
            shutil.rmtree(self.out / name, ignore_errors=True)
        if new:
            shutil.rmtree(self.out, ignore_errors=True)

    def _settled(self) -> RunFile:
        """Return the run file after a kill: weights that were being written count if their digest matches."""
        there: dict[Which, str] = {}
        for which, digest in self.facts.writing.items():
            path = self.out / WEIGHTS[which]
            if path.is_file() and digest_of(read_weights(path)) == digest:
                there[which] = digest
        return self.facts.with_weights(there)

    def _write_facts(self, facts: RunFile) -> None:
        self.facts = facts
        write_run(self.out, facts)

    def _load_run(self) -> dict[str, Any] | None:
        """Read and check all files of a run that is resumed, before any is written; None without a checkpoint."""
        names = RUN_FILE, METRICS, CARD, CALIBRATION, *WEIGHTS.values()
        for file in (*map(Path, names), LAST, BEST):
            if (self.out / file).is_dir():
                raise UserError(f"{self.out / file}: a folder is in the way; remove it")
        for folder in (LAST.parent, Path(EVENTS), Path(DERIVED)):
            if (self.out / folder).exists() and not (self.out / folder).is_dir():
                raise UserError(f"{self.out / folder}: a file is in the way; remove it")
        for which, name in WEIGHTS.items():
            if (self.out / name).is_file():
                check_weights(self.out, self.facts, which, read_weights(self.out / name))
        read_calibration(self.out, "")
        read_rows(self.out / METRICS)
        if not (self.out / LAST).is_file():
            self._check_restart()
            return None
        state = read_checkpoint(self.out / LAST, self.facts.system)
        now, then = self.method.provenance(), self.facts.provenance
        if now != then:
            raise UserError(f"{self.out}: trained with {then}, but now there is {now}; make the same weights available")
        self._take_up(state)
        lost = not any((self.out / path).is_file() for path in (WEIGHTS["best"], BEST))
        if lost and self.best.score is not None:
            raise UserError(f"{self.out / WEIGHTS['best']}: lost, and so is its checkpoint {BEST}; restore one of them")
        return state

    def _check_restart(self) -> None:
        """Refuse to begin anew over weights that a lost checkpoint had led to.

        The first weights are written before the first checkpoint, so a run may have been killed in between; it then
        begins again and comes to the same weights.
        """
        first = min(self.validate_every, self.rounds[0])
        for name in WEIGHTS.values():
            if (path := self.out / name).is_file() and round_of(path) > first:
                raise UserError(
                    f"{self.out}: has weights of round {round_of(path)} but no {LAST}, without which training "
                    "cannot go on; train in another --out"
                )

    def _take_up(self, state: dict[str, Any]) -> None:
        try:
            self.trainer.load_state(state)
            self.monitor.load_state(state["monitor"])
            self.best = Best(**state["best"])
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.out / LAST}: does not fit this run ({type(error).__name__}); start again in another --out"
            ) from None

    def _restore_weights(self, last: Mapping[str, Any]) -> None:
        """Write weights anew, from their checkpoints, where their files were lost."""
        for which in WEIGHTS:
            if (self.out / WEIGHTS[which]).is_file():
                continue
            best = which == "best" and (self.out / BEST).is_file()
            state = read_checkpoint(self.out / BEST, self.facts.system) if best else last
            tensors = {
                name: value.detach().cpu().contiguous()
                for name, value in {**state["method"], **state["averages"]}.items()
                if isinstance(value, torch.Tensor)
            }
            self._write_weights(tensors, state["progress"]["round"], (which,))

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
        streams = with_changes(stage, roles, self.added.changes)
        return datasets(self.ranges, streams, roles, self.method.dims, seed)

    def _with_derived(self, stage: Stage) -> list[Range]:
        """Return the training slices with the roles that a stage derives, read from disk where it had begun before."""
        if not stage.derive:
            return self.train_ranges
        folder = self.out / DERIVED / stage.name

        def derive() -> list[Sample]:
            status = self.console.status(f"deriving for {stage.name}")
            with self.trainer.averages.in_place(), in_inference_mode(self.method), status:
                return [with_derived_roles(self.method, stage, sample, folder, subjects) for sample in labelled]

        samples = {item.sample.case.name: item.sample for item in self.train_ranges}
        subjects = [sample.case.subject for sample in samples.values()]
        # The folder is part of the run, so its names are labels.
        labelled = [
            replace(sample, case=replace(sample.case, name=self.labels.cases[name])) for name, sample in samples.items()
        ]
        made = on_rank_zero(self.fabric, derive) or derive()
        more = {name: replace(new, case=old.case) for (name, old), new in zip(samples.items(), made, strict=True)}
        return [replace(item, sample=more[item.sample.case.name]) for item in self.train_ranges]

    def _after_round(self, trainer: Trainer, ending: bool) -> None:
        """Validate and save when due; every process calls this and rank zero writes."""
        where = trainer.progress
        self.bar.update(where, _shown(self.monitor.latest, self.best.name))
        self._foretell(where.round)
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
        on_rank_zero(self.fabric, lambda: self._record(trainer, due, ending, heard))

    def _foretell(self, number: int) -> None:
        """Say once, as soon as it is known, how long a run on a CPU will take, where that is long."""
        seconds = self.forecast.after(number)
        if seconds is None or seconds < LONG_RUN or self.fabric.device.type != "cpu" or not self.is_rank_zero:
            return
        small = "" if is_small(self.method.config) else "; --preset small is for computers like this one"
        log.warning(
            "at the pace of the first rounds this training takes %s on this CPU%s", terminal.duration(seconds), small
        )

    def _record(self, trainer: Trainer, due: bool, ending: bool, heard: dict[str, Any]) -> None:
        """Diagnose, validate and save; a stop between two validations only saves, to leave no trace in the run."""
        if due and self.options.diagnose and trainer.stage.players:
            self._diagnose(trainer, ending)
        improved = due and trainer.stage.validated and self._validate(trainer)
        heard["latest"] = self.monitor.latest_by_name
        self._save(trainer, improved, heard)

    def _diagnose(self, trainer: Trainer, ending: bool) -> None:
        stage = trainer.stage
        dry = Batches(
            self._patches(stage, (self.options.seed, 10_000, trainer.progress.round)), stage.streams_in_order,
            device=self.fabric.device,
        )  # fmt: skip
        field = vector_field(self.method, stage, dry)
        found = {Measure("game", GRADIENT_NORM, name): norm for name, norm in field.norms.items()}
        found[ROTATION] = field.rotation
        if ending or trainer.progress.round % (GAP_EVERY * self.validate_every) == 0:
            gains = duality_gap(self.method, stage, dry)
            found |= {Measure("game", GAIN_ALONE, name): gain for name, gain in gains.items()}
        self.monitor.record(trainer.progress, found)

    def _validate(self, trainer: Trainer) -> bool:
        """Score the inference weights and return whether they are the best so far."""
        begun = perf_counter()
        with trainer.averages.in_place():
            scores = validate(self.method, self.val_ranges, self.options.validation_slices, self.fabric.device)
        self.monitor.record(
            trainer.progress,
            {Measure("validation", name): value for name, value in scores.items()}
            | {Measure("seconds", "validation"): perf_counter() - begun},
        )
        score = scores.get(self.best.name, float("nan"))
        if not self.best.improved_by(score):
            return False
        self.best.score, self.best.round = score, trainer.progress.round
        log.debug("round %d: the weights are the best so far, %s %.4g", self.best.round, self.best.name, score)
        return True

    def _save(self, trainer: Trainer, improved: bool, heard: dict[str, Any]) -> None:
        state = {**trainer.state(), "system": self.facts.system, "best": vars(self.best), "monitor": heard}
        with trainer.averages.in_place():
            tensors = {
                name: value.detach().cpu().contiguous()
                for name, value in self.method.state_dict().items()
                if isinstance(value, torch.Tensor)
            }
            best = improved or self.best.score is None
            self._write_weights(tensors, trainer.progress.round, ("last", "best") if best else ("last",))
        write_atomically(self.out / LAST, lambda path: torch.save(state, path))
        if improved:
            write_atomically(self.out / BEST, lambda path: _link(self.out / LAST, path))

    def _write_weights(self, tensors: Mapping[str, torch.Tensor], number: int, kinds: Sequence[Which]) -> None:
        """Write weights; a kill at any time leaves a run that loads.

        Args:
            tensors: weights by name.
            number: round in which they were reached.
            kinds: whether they are the last, the best, or both.
        """
        metadata = {"system": self.facts.system, "round": str(number)}
        digests = dict.fromkeys(kinds, digest_of(tensors))
        self._write_facts(self.facts.about_to_write(digests))
        for which in digests:
            write_atomically(self.out / WEIGHTS[which], lambda path: _save(path, tensors, metadata))
        self._write_facts(self.facts.with_weights(digests))

    def _calibrate(self) -> None:
        with self.console.status("calibrating on validation cases"):
            calibrate_run(
                self.out,
                self.val_ranges,
                self.options.false_positive_rate,
                self.facts.validation,
                str(self.fabric.device),
                self.request.system,
            )

    def _write_card(self) -> None:
        data = self.labels.place(str(self.data.data)) if self.data.data else "the embedded phantom"
        write_text(self.out / CARD, model_card(self.request.system, self.facts, data, self.best, self.monitor.latest))

    def _warn_of_choice(self) -> None:
        """Warn where nothing says that the best weights are better than others."""
        subjects = sorted({item.sample.case.subject for item in self.val_ranges})
        if told := doubtful_choice(self.out, self.facts, self.task, subjects):
            log.warning("%s", told)


def round_of(weights: Path) -> int:
    """Return the round after which a file of weights was written; 0 where it does not say."""
    try:
        with safe_open(weights, "pt") as file:
            return int((file.metadata() or {}).get("round", 0))
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{weights}: cannot be read as safetensors ({error}); train in another --out") from None


def _save(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights, readable by those who may read the folder; safetensors makes files for their owner only."""
    save_file(dict(tensors), path, metadata=dict(metadata))
    path.chmod(path.parent.stat().st_mode & 0o666)


def _link(source: Path, target: Path) -> None:
    """Make a hard link to a file, or a copy where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _shown(latest: Mapping[Measure, float], score: str) -> dict[str, float]:
    """Return the numbers beside the progress bar: the score that selects the best weights, and three losses."""
    wanted = {Measure("validation", score): score} | {
        measure: str(measure) for measure in [one for one in latest if one.kind == "loss"][:3]
    }
    return {name: latest[measure] for measure, name in wanted.items() if measure in latest}
