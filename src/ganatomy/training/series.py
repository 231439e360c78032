"""Series of runs of one system, such as the folds of a cross-validation; finished runs are not trained again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from ganatomy import catalogue
from ganatomy.catalogue import System
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.data.splits import SITES, Fold, sites_of
from ganatomy.errors import UserError
from ganatomy.game import Method, MethodConfig
from ganatomy.images.atomic import locked
from ganatomy.inference.model import WEIGHTS, Model, build, load
from ganatomy.inference.runfile import RUN_FILE, RunFile, TrainConfig, is_run_of, read_run
from ganatomy.training.code import training_digest
from ganatomy.training.run import train, without_names

log = logging.getLogger(__name__)

DECIDING = {"rounds", "seed", "monitor", "augment", "init_from", "aids"}
"""Options of training that change what is learned; others change how long it takes, or how it is watched."""


def train_folds(
    system: str | System,
    out: Path,
    count: int | Literal["sites"],
    config: MethodConfig | None = None,
    data: DataConfig | None = None,
    options: TrainConfig | None = None,
    *,
    show: bool = False,
    secret: Path | None = None,
) -> list[Model]:
    """Train every fold of a cross-validation into ``out/fold0``, ``out/fold1`` and so on, one after another.

    A second call leaves finished folds as they are and resumes an unfinished one.

    Args:
        system: the system, or a name that `catalogue.resolve` accepts.
        out: folder of the folds.
        count: number of folds, at least 2, into which subjects are dealt by the seed of ``options``; or ``sites``, for
            a fold for each site that the data name.
        config: options of the method; None means those of its paper.
        data: how to find and read images; None means the embedded phantom.
        options: how to train.
        show: whether to show a progress bar and messages on the terminal.
        secret: file with the secret that makes pseudonyms of subjects; None means the user's own.

    Raises:
        UserError: any reason of `train`, fewer subjects than folds, fewer than two sites, or a folder that holds
            another run.
        Stopped: a signal asked to stop; the state is saved.
    """
    if count != SITES and count < 2:
        raise UserError(f"--folds {count}: give at least 2 folds")
    system = catalogue.resolve(system)
    config = config or system.cls.Config()
    plan = data or DataConfig(), options or TrainConfig()
    parts = [fold_of(system, config, plan[0], 0, count)]
    parts += [parts[0].model_copy(update={"number": number}) for number in range(1, parts[0].of)]
    method = system.cls.of(config)
    check_code({out / f"fold{number}": method for number in range(len(parts))}, plan[0], log.warning)
    return [
        train_once(system, out / f"fold{number}", config, *plan, show, secret, fold)
        for number, fold in enumerate(parts)
    ]


def fold_of(system: System, config: MethodConfig, data: DataConfig, number: int, count: int | Literal["sites"]) -> Fold:
    """Return a fold of a cross-validation.

    Args:
        system: system to train.
        config: options of its method.
        data: how to find images, whose sites are counted where they are the folds.
        number: number of the fold, from 0.
        count: number of folds, or ``sites``.

    Raises:
        UserError: there are fewer than two folds or sites, or the number is out of range.
    """
    by: Literal["subjects", "sites"] = "sites" if count == SITES else "subjects"
    of = (
        len(sites_of(find_cases(build(system, config.model_dump(mode="json")).task, data))) if count == SITES else count
    )
    try:
        return Fold(number=number, of=of, by=by)
    except ValueError:
        there = f" (there are {of})" if count == SITES else ""
        raise UserError(f"--fold {number} --folds {count}: folds are at least 2{there}, counted from 0") from None


def train_once(
    system: str | System,
    folder: Path,
    config: MethodConfig,
    data: DataConfig,
    options: TrainConfig,
    show: bool = False,
    secret: Path | None = None,
    fold: Fold | None = None,
    label_fraction: float | None = None,
) -> Model:
    """Train a run, resume it where it is unfinished, or load it where it is finished.

    Arguments are those of `train`.

    Raises:
        UserError: any reason of `train`, or the folder holds a run with other options.
    """
    system = catalogue.resolve(system)
    if not (folder / RUN_FILE).is_file():
        return train(
            system, folder, config, data, options, show=show, secret=secret, fold=fold, label_fraction=label_fraction
        )
    facts = read_run(folder)
    differing = _differing(facts, system, config, data, options, Pseudonyms.of_user(secret))
    sides = {"fold": fold, "label_fraction": label_fraction}
    differing += [name for name, wanted in sides.items() if getattr(facts.split, name) != wanted]
    if differing:
        raise UserError(f"{folder}: holds a run with another {', '.join(differing)}; choose another --out")
    if finished(folder, facts):
        return load(folder, device=options.device, system=system)
    return train(system, folder, data=data, resume=True, show=show, secret=secret)


def check_code(
    runs: Mapping[Path, Method], data: DataConfig, tell: Callable[[str], None], *, retrain: bool | None = None
) -> list[Path]:
    """Compare the code that runs have been trained by with the present one, before they are used again.

    Runs that no code is recorded of are used, since they may be of the present one.

    Args:
        runs: folder to the untrained method; folders without a run are left alone.
        data: how to find and read images.
        tell: called with sentences on what was moved, and on what is used though its code is not known.
        retrain: move runs of other or unknown code aside, so that they are trained again; None where a command has no
            such option.

    Returns:
        Folders of the runs that are used though their code is not known.

    Raises:
        UserError: a run was trained by other code, and is not to be trained again.
    """
    known = {folder: read_run(folder).code for folder in runs if (folder / RUN_FILE).is_file()}
    present = {folder: training_digest(runs[folder], on_phantom=data.data is None) for folder in known}
    unknown = [folder for folder, code in known.items() if code is None]
    other = [folder for folder, code in known.items() if code not in (None, present[folder])]
    if retrain:
        for folder in (*other, *unknown):
            tell(f"{folder}: trained by other or unknown code, kept as {_move_aside(folder)}")
        return []
    again = "" if retrain is None else "; add --retrain to train again, which keeps the old run beside the new one"
    if other:
        raise UserError(
            f"{_first(other)}: trained before the code of the method, its networks, losses or task changed{again}, "
            "or choose another --out"
        )
    if unknown:
        tell(f"{_first(unknown)}: trained by code that is not known, and used all the same{again}")
    return unknown


def _first(folders: Sequence[Path]) -> str:
    """Return the first of several folders, and how many there are."""
    return f"{folders[0]}{f' and {len(folders) - 1} more' if folders[1:] else ''}"


def _move_aside(folder: Path) -> Path:
    """Give a run folder the first free name beside it, and return that."""
    with locked(folder):
        pass
    number = 1
    while (kept := folder.with_name(f"{folder.name}-earlier{number}")).exists():
        number += 1
    return folder.rename(kept)


def _differing(
    facts: RunFile,
    system: System,
    config: MethodConfig,
    data: DataConfig,
    options: TrainConfig,
    pseudonyms: Pseudonyms,
) -> list[str]:
    """Return the names of the options in which a run differs from those given."""
    if not is_run_of(facts, system):
        return ["system"]
    if facts.split.secret != pseudonyms.fingerprint:
        return ["secret"]
    named = without_names(data, find_cases(build(system, config.model_dump(mode="json")).task, data), pseudonyms)
    pairs = (
        (facts.config, config.model_dump(mode="json")),
        (facts.data.model_dump(exclude={"cache"}), named.model_dump(exclude={"cache"})),
        (deciding(facts.training), deciding(options)),
    )
    return [name for there, wanted in pairs for name, value in wanted.items() if there.get(name) != value]


def deciding(options: TrainConfig) -> dict[str, Any]:
    """Return the options of training that change what is learned, in a form that can be compared."""
    return options.beginning(Path.resolve).model_dump(include=DECIDING)


def finished(folder: Path, facts: RunFile) -> bool:
    """Whether a run has been trained to its last round.

    Raises:
        UserError: the last weights are damaged.
    """
    path = folder / WEIGHTS["last"]
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as weights:
            done = int(weights.metadata()["round"])
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged weights ({error}); restore the file, or train in another --out") from None
    return bool(done >= sum(facts.rounds.values()))
