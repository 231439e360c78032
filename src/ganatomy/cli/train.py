"""``ganatomy train SYSTEM --out RUN``."""

import dataclasses
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
import yaml

from ganatomy import catalogue
from ganatomy.cli import complain, speaks
from ganatomy.cli.options import leading, parse
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.training.loop import Stopped
from ganatomy.training.run import TrainConfig, train

HELP = """usage: ganatomy train SYSTEM --out RUN [--data FOLDER] [--preset small] [--rounds N] [...]

Without --data a system trains on its embedded phantom. `ganatomy list` shows the systems,
`ganatomy train SYSTEM --help` the options of one."""


@dataclasses.dataclass
class Choice:
    """What is trained, and where to."""

    out: Path
    """Run folder to make."""
    preset: str = "paper"
    """A named configuration of the system; `small` suits a workstation without a GPU."""
    baseline: bool = False
    """Train the comparison instead: the same network without its adversary."""
    config: Path | None = None
    """Repeat the run.yaml of another run; options given here override it."""
    resume: bool = False
    """Go on from the last checkpoint of the run in --out."""


def run(arguments: Sequence[str]) -> int:
    """Train a system."""
    system = leading(arguments, "train", "system", "train SYSTEM --out RUN", HELP)
    if system is None:
        return 0
    options = read_options(system, arguments[1:])
    choice: Choice = options.choice
    try:
        model = train(
            system,
            choice.out,
            options.method,
            options.data,
            options.training,
            resume=choice.resume,
            show=True,
        )
    except Stopped as stop:
        return complain(
            f"stopped after round {stop.round} and saved; "
            f"go on with: ganatomy train {system} --out {choice.out} --resume",
            128 + (stop.signal_number or signal.SIGINT),
        )
    best = model.facts.get("selection", {}).get("score", "")
    if speaks():
        print(f"{choice.out}: done; weights are the best by {best}. Judge them: ganatomy evaluate {choice.out}")
    return 0


def read_options(system: str, arguments: Sequence[str]) -> Any:
    """All options of a system: its preset or run.yaml first, what is on the command line on top."""
    cls = catalogue.load(system)
    early = _peek(arguments)
    base: dict[str, Any] = {}
    data, training = DataConfig(), TrainConfig()
    if early.get("config"):
        base, data, training = _repeat(Path(early["config"]), catalogue.find(system).slug)
    overrides = dict(cls.Config.baseline) if "baseline" in early else {}
    method = cls.Config.preset(early.get("preset", "paper"), **{**base, **overrides})
    kind = dataclasses.make_dataclass(
        "Options",
        [("choice", Choice), ("data", DataConfig), ("training", TrainConfig), ("method", cls.Config)],
        namespace={"__doc__": f"Train {catalogue.find(system).title}."},
    )
    default = kind(Choice(out=tyro.MISSING), data, training, method)
    return parse(kind, arguments, f"ganatomy train {system}", default)


def _peek(arguments: Sequence[str]) -> dict[str, str]:
    """The options that decide the defaults of the others, read before these."""
    found = {}
    for position, argument in enumerate(arguments):
        name, mark, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in ("preset", "config", "baseline"):
            found[name] = value if mark else next(iter(arguments[position + 1 : position + 2]), "")
    return found


def _repeat(path: Path, slug: str) -> tuple[dict[str, Any], DataConfig, TrainConfig]:
    try:
        facts = yaml.safe_load(path.read_text(encoding="utf-8"))
        if facts["system"] != slug:
            raise UserError(f"--config {path}: a run of {facts['system']}, not of {slug}")
        data = DataConfig.model_validate(facts["data"])
        return dict(facts["config"]), data, TrainConfig.model_validate(facts["training"])
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:  # ValueError covers pydantic's and UTF-8's
        raise UserError(f"--config {path}: not the run.yaml of a run ({type(error).__name__})") from None
