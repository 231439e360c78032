"""``ganatomy study RUN_OR_SYSTEM --out DIR``."""

import dataclasses
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganatomy import catalogue
from ganatomy.catalogue import System
from ganatomy.cli import complain
from ganatomy.cli.options import leading, named_system, parse, peek
from ganatomy.cli.train import read_options as read_system_options
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import limits
from ganatomy.studies.augmentation import STEPS
from ganatomy.studies.downstream import FOLDS, Downstream, accuracy, downstream
from ganatomy.studies.plan import of_run
from ganatomy.studies.study import Study, study
from ganatomy.training.loop import Stopped
from ganatomy.training.run import TrainConfig

HELP = """usage: ganatomy study RUN_OR_SYSTEM --out DIR [--label-fraction 0.1 0.25 0.5 1] [--against unet baseline]
                      [--folds 5] [--seeds 3] [...]

Trains several arms alike and compares them on the same subjects: a system with annotations of a part of the training
subjects, other systems with the same roles, and the system without its adversary (--against baseline). With
--downstream it says instead what the images of a system are good for: a classifier is trained with and without them.
Runs that are in --out already are used, unfinished ones gone on with. Of a RUN it takes the system, its options and its
data. `ganatomy study RUN_OR_SYSTEM --help` shows all options."""


@dataclasses.dataclass
class Choice:
    """What is compared."""

    out: Path
    """Folder of the study: its runs, results.json, table.csv and report.html."""
    preset: str = "paper"
    """A named configuration of the system, and of those that it is compared with."""
    label_fraction: tuple[float, ...] = ()
    """Shares of the annotated training subjects whose annotations are learned from, an arm for each; the others keep
    their images. Smaller shares are part of larger ones."""
    against: tuple[str, ...] = ()
    """Other systems with the same roles, trained alike; `baseline` is the system without its adversary."""
    folds: int | None = None
    """Every subject is tested once, in so many folds; none keeps a part of the subjects for testing."""
    seeds: int = 3
    """Seeds that every arm is trained with, from --seed on."""
    downstream: bool = False
    """Train a classifier on real images, on the system's, and on both; of systems that sample by class or translate."""
    steps: int = STEPS
    """Updates of each classifier, with --downstream."""
    secret: Path | None = None
    """File with the secret that makes pseudonyms of subjects; none means your own, made when first needed."""
    system: str | None = None
    """Of a RUN, named again where it is a method from outside that no installed package has registered:
    FILE.py:CLASS or MODULE:CLASS."""


def run(arguments: Sequence[str]) -> int:
    """Compare several arms."""
    name = leading(arguments, "study", "run or system", "study RUN_OR_SYSTEM --out DIR", HELP)
    if name is None:
        return 0
    system, options = read_options(name, arguments[1:])
    choice: Choice = options.choice
    asked = system, choice.out, options.method, options.data, options.training
    common: dict[str, Any] = {"seeds": choice.seeds, "preset": choice.preset, "secret": choice.secret, "show": True}
    try:
        if choice.downstream:
            if choice.label_fraction or choice.against:
                raise UserError("--downstream: no --label-fraction or --against beside it; make a study of each")
            show_downstream(downstream(*asked, folds=choice.folds or FOLDS, steps=choice.steps, **common))
        else:
            shares, others = choice.label_fraction, choice.against
            show(study(*asked, label_fraction=shares, against=others, folds=choice.folds, **common))
    except Stopped as stop:
        code = 128 + (stop.signal_number or signal.SIGINT)
        return complain(f"stopped after round {stop.round} and saved; the same command goes on", code)
    return 0


def read_options(name: str, arguments: Sequence[str]) -> tuple[System, Any]:
    """The system that is meant, and all options.

    Args:
        name: of a system, or the folder of a run.
        arguments: after it.

    Raises:
        UserError: no such system or run, options that there are not, or values that do not fit.
    """
    folder = Path(name)
    if not folder.is_dir():
        system = catalogue.resolve(name)
        return system, read_system_options(system, arguments, Choice, "study")
    early = peek(arguments, "secret", "folds", "downstream", "data")
    secret = Path(early["secret"]) if early.get("secret") else None
    dealt = "folds" in early or "downstream" in early
    asked = of_run(folder, named_system(arguments), folds=dealt, secret=secret)
    kind = dataclasses.make_dataclass(
        "Options",
        [("choice", Choice), ("data", DataConfig), ("training", TrainConfig)],
        namespace={"__doc__": f"Study {asked.system.title} as it was trained in {name}."},
    )
    # Other images are read as they are described here, not as those of the run were.
    default = kind(Choice(tyro.MISSING), DataConfig() if "data" in early else asked.data, asked.training)
    parsed: Any = parse(kind, arguments, f"ganatomy study {name}", default)
    parsed.method = asked.config
    return asked.system, parsed


def show_downstream(found: Downstream) -> None:
    """The verdict, how every arm did, and where to look."""
    console = Console()
    console.print(escape(found.gain.words), highlight=False, soft_wrap=True)
    console.print(escape(found.gain.alone), highlight=False, soft_wrap=True)
    table = Table("arm", "right")
    for name in found.gain.arms:
        table.add_row(name, limits(accuracy(found.gain, name)))
    console.print(table)
    console.print(f"{found.out / 'report.html'}, table.csv, results.json", highlight=False, soft_wrap=True)


def show(found: Study) -> None:
    """The headline, the leading score of every arm, and where to look."""
    console = Console()
    console.print(escape(found.headline), highlight=False, soft_wrap=True)
    score = next(score for score in found.found.scores if score.name == found.leading)
    table = Table("arm", escape(score.name))
    for name, mean in found.found.means[score.name].items():
        table.add_row(escape(name), limits(mean, score.unit))
    console.print(table)
    console.print(f"{found.out / 'report.html'}, table.csv, results.json", highlight=False, soft_wrap=True)
