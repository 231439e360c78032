"""``ganatomy train SYSTEM --out RUN``."""

import dataclasses
import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import tyro
from pydantic import BaseModel

from ganatomy import catalogue
from ganatomy.api import configured, named_by_data, repeated
from ganatomy.catalogue import System
from ganatomy.cli import complain, speaks
from ganatomy.cli.options import (
    check_prefixes,
    leading,
    names_of_roles,
    parse,
    peek,
    peek_all,
    settled,
    ungrouped,
    with_groups,
    with_roles,
)
from ganatomy.data.cases import DataConfig
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.data.splits import SITES
from ganatomy.data.wanted import layouts_for, manifest_for, wanted
from ganatomy.errors import UserError
from ganatomy.evaluation.choosing import same_place
from ganatomy.game import Aids, MethodConfig, RolesConfig
from ganatomy.inference.model import build
from ganatomy.inference.runfile import InitialSource, RunFile, is_run_of, read_run
from ganatomy.training.loop import Stopped
from ganatomy.training.run import ChangedData, TrainConfig, train
from ganatomy.training.series import fold_of, train_folds

log = logging.getLogger(__name__)

HELP = """usage: ganatomy train SYSTEM --out RUN [--data FOLDER] [--preset small] [--rounds N] [...]

Trains a system and writes the run folder RUN: its weights, curves, model card, and run.yaml with everything needed to
repeat the run. --data names a folder of DICOM series, NIfTI files or pictures, or a CSV manifest; without it the system
trains on its built-in phantom. --preset small suits a workstation without a GPU.

SYSTEM is a name that `ganatomy list` shows, or a method of your own as FILE.py:CLASS or MODULE:CLASS.
`ganatomy train SYSTEM --help` shows all options of a system."""


@dataclasses.dataclass
class Choice:
    """Run folder, preset and folds."""

    out: Path
    """Run folder to create."""
    preset: str = "paper"
    """Named configuration: `paper` follows the paper, `small` suits a workstation without a GPU."""
    baseline: bool = False
    """Train the same network without the adversary, as a baseline to compare with."""
    config: Path | None = None
    """run.yaml of another run, whose options are repeated; options on the command line take precedence."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint, with its own options; only --rounds may differ."""
    changed_data: ChangedData = "refuse"
    """With --resume, where cases were added, are missing or have changed since the run began: refuse to go on, or
    ignore it, which leaves added cases out, goes on without missing ones and uses changed ones as they are."""
    folds: int | Literal["sites"] | None = None
    """Number of folds of a cross-validation, or `sites` to leave out one site of the data at a time: one run per fold
    in OUT/fold0, OUT/fold1, ...; none means one run."""
    fold: int | None = None
    """With --folds: train only this fold, counted from 0, into OUT."""
    secret: Path | None = None
    """File with the secret from which pseudonyms of subjects are made; none means your own, created on first use."""


def run(arguments: Sequence[str]) -> int:
    """Train a system, or all folds of a cross-validation."""
    name = leading(arguments, "train", "system", "train SYSTEM --out RUN", HELP)
    if name is None:
        return 0
    system = catalogue.resolve(name)
    options = read_options(system, arguments[1:])
    choice: Choice = options.general
    if choice.fold is not None and choice.folds is None:
        raise UserError(f"--fold {choice.fold}: give --folds, too, the number of folds")
    several = choice.folds is not None and choice.fold is None
    if choice.resume and not several:
        facts = read_run(choice.out)
        if is_run_of(facts, system):
            check_same(options, arguments[1:], facts)
    elif choice.changed_data != "refuse":
        raise UserError(f"--changed-data {choice.changed_data}: is for a run that is resumed; add --resume")
    try:
        best = _train_folds(system, options) if several else _train(system, options)
    except Stopped as stop:
        again = "the same command" if several else f"ganatomy train {name} --out {choice.out} --resume"
        return complain(
            f"stopped after round {stop.round} and saved; go on with: {again}",
            128 + (stop.signal_number or signal.SIGINT),
        )
    if speaks():
        run = choice.out / "fold0" if several else choice.out
        done = f"{'all' if choice.folds == SITES else choice.folds} folds are done" if several else "done"
        again = f" --system {name}" if ":" in name else ""
        print(f"{choice.out}: {done}; weights are the best by {best}. Judge them: ganatomy evaluate {run}{again}")
    return 0


def _train(system: System, options: Any) -> str:
    """Train one run, and return the name of the score that selected its weights."""
    choice: Choice = options.general
    fold = None
    if choice.folds is not None and not choice.resume:  # a resumed run has its own
        fold = fold_of(system, options.method, options.data, choice.fold or 0, choice.folds)
    model = train(
        system,
        choice.out,
        options.method,
        options.data,
        options.training,
        resume=choice.resume,
        show=True,
        secret=choice.secret,
        fold=fold,
        changed_data=choice.changed_data,
    )
    return model.facts.selection.score if model.facts else ""


def _train_folds(system: System, options: Any) -> str:
    """Train all folds, and return the name of the score that selected their weights."""
    choice: Choice = options.general
    models = train_folds(
        system,
        choice.out,
        choice.folds or 0,
        options.method,
        options.data,
        options.training,
        show=True,
        secret=choice.secret,
    )
    return models[0].facts.selection.score if models[0].facts else ""


def check_same(options: Any, arguments: Sequence[str], facts: RunFile) -> None:
    """Refuse options given for a run that is resumed which differ from its own, since they would have no effect.

    Args:
        options: all parsed options.
        arguments: arguments of the command, which tell what was given.
        facts: run file of the run.

    Raises:
        UserError: an option differs; the message names it and the value of the run.
    """
    given = {word.removeprefix("--").partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--")}
    given |= {name.removeprefix("no_") for name in given}
    fold, method = facts.split.fold, options.method
    if given & {"preset", "baseline", "config"}:
        given |= set(_flat(method))
    wanted = {**_flat(options.data), **_flat(options.training), **_flat(method), **vars(options.general)}
    own = {**_flat(facts.data), **_flat(facts.training), **_flat(type(method).preset("paper", **facts.config))}
    if "config" in given:
        given |= wanted.keys()
    own |= {"folds": fold.folds if fold else None, "fold": fold.number if fold else None}
    for name in sorted((given & own.keys()) - {"rounds", "cache"}):
        if not _equal(name, wanted[name], own[name], options.general.secret):
            raise UserError(
                f"--{name.replace('_', '-')}: a resumed run keeps its own options ({name}: {own[name]}); leave it out, "
                "or train in another --out"
            )


def _flat(config: BaseModel) -> dict[str, Any]:
    """Return the values of a configuration by the names of their options."""
    found: dict[str, Any] = {}
    for name, value in config:
        if isinstance(value, Aids):
            found |= {f"{name}.{option}": one for option, one in value}
        elif isinstance(value, BaseModel):
            found |= _flat(value)
        elif name == "roles" and isinstance(config, RolesConfig):
            found |= {f"{role}.{option}": one for role, own in value.items() for option, one in _flat(own).items()}
        else:
            found[name] = value
    return found


def _equal(name: str, wanted: Any, own: Any, secret: Path | None) -> bool:
    """Whether an option means what a run was made with; a run names subjects and sites by pseudonym."""
    if name == "data":
        return same_place(wanted, own)
    if name == "init_from":
        return [_resolved(word) for word in wanted] == [_resolved(word) for word in own]
    if name not in ("test_subjects", "val_subjects", "hold_out_site"):
        return bool(wanted == own)
    pseudonyms = Pseudonyms.of_user(secret)
    of = pseudonyms.site if name == "hold_out_site" else pseudonyms.subject
    return len(wanted) == len(own) and all(
        any(full == of(one) or full.startswith(one) for full in own) for one in wanted
    )


def _resolved(word: str) -> InitialSource:
    """Return a source of initial weights with the full path of its run."""
    source = InitialSource.parse(word)
    return source._replace(run=source.run.resolve())


def read_options(
    system: System,
    arguments: Sequence[str],
    choice: type[Any] = Choice,
    command: str = "train {system}",
    about: str = "Train {title}.",
) -> Any:
    """Parse all options of a system: those of its preset or run.yaml, overridden by the command line.

    Args:
        system: system to be trained.
        arguments: arguments after the name of the system.
        choice: dataclass of the options that the command adds; its first field is the output folder, which is required.
        command: command as it is typed, for messages and the help; ``{system}`` stands for the system.
        about: first sentence of the help; ``{title}`` stands for the title of the system.

    Raises:
        UserError: an option is unknown, or a value is invalid.
    """
    cls = system.cls
    early = peek(arguments, "preset", "config", "baseline")
    base: dict[str, Any] = {}
    data, training, fold = DataConfig(), TrainConfig(), None
    if early.get("config"):
        base, data, training, fold = repeated(Path(early["config"]), system)
    names = names_of_roles(cls.Config, arguments)
    images = _images(data, arguments)
    found = named_by_data(cls.Config, early.get("preset", "paper"), {**base, **names}, images)
    for name, values in found.items():
        log.info("--%s %s: the images in %s", name.replace("_", "-"), " ".join(values), images.data)
    names |= found
    method = configured(cls.Config, early.get("preset", "paper"), "baseline" in early, base, names)
    check_prefixes(method, arguments)
    options, defaults = with_roles(method)
    training_options, training_defaults = with_groups(training)
    kind = dataclasses.make_dataclass(
        "Options",
        [("general", choice), ("data", DataConfig), ("training", training_options), ("method", options)],
        namespace={"__doc__": about.format(title=system.title) + _roles(system, method, arguments)},
    )
    chosen = choice(tyro.MISSING, **({"folds": fold.folds, "fold": fold.number} if fold else {}))
    program = f"ganatomy {command.format(system=system.slug)}"
    parsed: Any = parse(kind, arguments, program, kind(chosen, data, training_defaults, defaults))
    parsed.training = ungrouped(TrainConfig, parsed.training)
    parsed.method = settled(cls.Config, parsed.method)
    return parsed


def _roles(system: System, method: MethodConfig, arguments: Sequence[str]) -> str:
    """Return the roles of a system for its help, with the names that were given; nothing where no help is asked for."""
    if not {"-h", "--help"} & set(arguments):
        return ""
    task = build(system, method.model_dump(mode="json")).task
    rows = [f"{row.name}: {row.what} (needed: {row.needed})" for row in wanted(task)]
    manifest = [f"`{line}`" for line in manifest_for(task)[:2]]
    return (
        f"\n\nRoles of a case in --data: {'; '.join(rows)}.\n\nA manifest that would do has the lines "
        f"{' and '.join(manifest)}. --data also takes {'; '.join(layouts_for(task)[:-1])}."
    )


def _images(data: DataConfig, arguments: Sequence[str]) -> DataConfig:
    """Return ``data`` with the options given for the place and the roles of the images, read before all others."""
    given = peek_all(arguments, "data", "roles", "series")
    places = [Path(value) for value in given.pop("data", [])[:1]]
    names = {name: tuple(values) for name, values in given.items()}
    return data.model_copy(update={**names, **({"data": places[0]} if places else {})})
