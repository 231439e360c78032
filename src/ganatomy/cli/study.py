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
from ganatomy.cli.options import leading, named_system, parse, peek, ungrouped, with_groups
from ganatomy.cli.train import read_options as read_system_options
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import limits
from ganatomy.studies.augmentation import STEPS
from ganatomy.studies.downstream import FOLDS, Downstream, downstream
from ganatomy.studies.plan import of_run
from ganatomy.studies.study import Study, study
from ganatomy.training.loop import Stopped
from ganatomy.training.run import TrainConfig

HELP = """usage: ganatomy study RUN_OR_SYSTEM --out DIR [--label-fraction 0.1 0.25 0.5 1] [--against SYSTEM baseline]
                      [--folds 5] [--seeds 3] [...]

Trains several variants of a system, called arms, under the same conditions and with several seeds, and compares them on
the same test subjects: with fewer annotated training subjects (--label-fraction), with other systems or without the
adversary (--against NAME, --against baseline), in cross-validation (--folds). With --downstream it tests instead
whether the images that a system generates help a classifier. Results are results.json, table.csv and report.html.

Instead of a system, the folder of a run can be given: its system, options and data are then used. Finished runs in
--out are used again, unfinished ones continued; those that were trained by other code than the present one are refused,
or trained again with --retrain. `ganatomy study RUN_OR_SYSTEM --help` shows all options."""


@dataclasses.dataclass
class Choice:
    """Arms to compare, seeds and output folder."""

    out: Path
    """Output folder of the study, for its runs, results.json, table.csv and report.html."""
    preset: str = "paper"
    """Named configuration of all systems: `paper` follows the papers, `small` suits a workstation without a GPU."""
    label_fraction: tuple[float, ...] = ()
    """Fractions of the annotated training subjects whose annotations are used; each is an arm.
    The other subjects keep their images. Smaller fractions are subsets of larger ones."""
    against: tuple[str, ...] = ()
    """Other systems with the same roles to compare with; `baseline` is the system without the adversary."""
    folds: int | None = None
    """Number of folds of a cross-validation; none means that one part of the subjects is kept for testing."""
    seeds: int = 3
    """Number of seeds with which every arm is trained, counted from --seed."""
    downstream: bool = False
    """Train classifiers on real images, generated ones, and both; segmenters where images are made with a label map."""
    updates: int = STEPS
    """With --downstream: number of updates of each classifier or segmenter."""
    secret: Path | None = None
    """File with the secret from which pseudonyms of subjects are made; none means your own, created on first use."""
    retrain: bool = False
    """Train again what has been trained by other code, or by code that is not known; old runs are kept beside it."""
    system: str | None = None
    """Method of a RUN as FILE.py:CLASS or MODULE:CLASS, needed only if it is neither built in nor installed.
    A run folder alone never makes ganatomy import code."""


def run(arguments: Sequence[str]) -> int:
    """Train and compare the arms of a study, and print the verdict."""
    name = leading(arguments, "study", "run or system", "study RUN_OR_SYSTEM --out DIR", HELP)
    if name is None:
        return 0
    system, options = read_options(name, arguments[1:])
    choice: Choice = options.general
    asked = system, choice.out, options.method, options.data, options.training
    common: dict[str, Any] = {"seeds": choice.seeds, "preset": choice.preset, "secret": choice.secret, "show": True}
    common["retrain"] = choice.retrain
    try:
        if choice.downstream:
            if choice.label_fraction or choice.against:
                raise UserError(
                    "--downstream: it cannot be combined with --label-fraction or --against; make a study of each"
                )
            show_downstream(downstream(*asked, folds=choice.folds or FOLDS, steps=choice.updates, **common))
        else:
            shares, others = choice.label_fraction, choice.against
            show(study(*asked, label_fraction=shares, against=others, folds=choice.folds, **common))
    except Stopped as stop:
        code = 128 + (stop.signal_number or signal.SIGINT)
        return complain(f"stopped after round {stop.round} and saved; the same command continues", code)
    return 0


def read_options(name: str, arguments: Sequence[str]) -> tuple[System, Any]:
    """Return the system of the study, and parse all options.

    Args:
        name: name of a system, or the folder of a run.
        arguments: arguments after the name.

    Raises:
        UserError: there is no such system or run, an option is unknown, or a value is invalid.
    """
    folder = Path(name)
    if not folder.is_dir():
        system = catalogue.resolve(name)
        return system, read_system_options(system, arguments, Choice, "study {system}", "Study {title}.")
    early = peek(arguments, "secret", "folds", "downstream", "data")
    secret = Path(early["secret"]) if early.get("secret") else None
    dealt = "folds" in early or "downstream" in early
    asked = of_run(folder, named_system(arguments), folds=dealt, secret=secret)
    options, defaults = with_groups(asked.training)
    kind = dataclasses.make_dataclass(
        "Options",
        [("general", Choice), ("data", DataConfig), ("training", options)],
        namespace={"__doc__": f"Study {asked.system.title} with the options and data of the run {name}."},
    )
    # Options of the run's data do not apply to other images, so these start from the defaults.
    default = kind(Choice(tyro.MISSING), DataConfig() if "data" in early else asked.data, defaults)
    parsed: Any = parse(kind, arguments, f"ganatomy study {name}", default)
    parsed.training = ungrouped(TrainConfig, parsed.training)
    parsed.method = asked.config
    return asked.system, parsed


def show_downstream(found: Downstream) -> None:
    """Print the verdict, the score of every arm, and the paths of the results."""
    console = Console()
    console.print(escape(found.gain.words), highlight=False, soft_wrap=True)
    console.print(escape(found.gain.alone), highlight=False, soft_wrap=True)
    table = Table("arm", found.score)
    for name, score in found.arms.items():
        table.add_row(escape(name), limits(score))
    console.print(table)
    console.print(
        f"{found.out / 'report.html'}, table.csv, results.json", markup=False, highlight=False, soft_wrap=True
    )


def show(found: Study) -> None:
    """Print the headline, the leading score of every arm, and the paths of the results."""
    console = Console()
    console.print(escape(found.headline), highlight=False, soft_wrap=True)
    score = next(score for score in found.found.scores if score.name == found.leading)
    table = Table("arm", escape(score.name))
    for name, mean in found.found.means[score.name].items():
        table.add_row(escape(name), escape(limits(mean, score.unit)))
    console.print(table)
    console.print(
        f"{found.out / 'report.html'}, table.csv, results.json", markup=False, highlight=False, soft_wrap=True
    )
