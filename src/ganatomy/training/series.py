"""Series of runs of one system, such as the folds of a cross-validation; finished runs are not trained again."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from ganatomy import catalogue
from ganatomy.catalogue import System
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.data.splits import Fold
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig
from ganatomy.inference.model import WEIGHTS, Model, build, load
from ganatomy.inference.runfile import RUN_FILE, RunFile, TrainConfig, is_run_of, read_run
from ganatomy.training.run import train, without_names

DECIDING = {"rounds", "seed", "monitor"}
"""Options of training that change what is learned; others change how long it takes, or how it is watched."""


def train_folds(
    system: str | System,
    out: Path,
    count: int,
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
        count: number of folds, at least 2; subjects are dealt into folds by the seed of ``options``.
        config: options of the method; None means those of its paper.
        data: how to find and read images; None means the embedded phantom.
        options: how to train.
        show: whether to show a progress bar and messages on the terminal.
        secret: file with the secret that makes pseudonyms of subjects; None means the user's own.

    Raises:
        UserError: any reason of `train`, fewer subjects than folds, or a folder that holds another run.
        Stopped: a signal asked to stop; the state is saved.
    """
    if count < 2:
        raise UserError(f"--folds {count}: give at least 2 folds")
    system = catalogue.resolve(system)
    config = config or system.cls.Config()
    plan = data or DataConfig(), options or TrainConfig()
    return [
        train_once(system, out / f"fold{number}", config, *plan, show, secret, Fold(number=number, of=count))
        for number in range(count)
    ]


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
        (facts.training.model_dump(include=DECIDING), options.model_dump(include=DECIDING)),
    )
    return [name for there, wanted in pairs for name, value in wanted.items() if there.get(name) != value]


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
