"""``ganatomy evaluate RUN``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganatomy import catalogue
from ganatomy.cli.options import leading, parse, peek_all
from ganatomy.data.cases import DataConfig
from ganatomy.evaluation.evaluate import Evaluation, evaluate
from ganatomy.evaluation.judging import judge_class
from ganatomy.inference.model import Which, build_run
from ganatomy.inference.runfile import is_run_of, read_run

HELP = """usage: ganatomy evaluate RUN [--data FOLDER|CSV] [--against RUN2 ...] [--which best|last] [--out DIR] [...]

Without --data a run is judged on the test subjects it kept aside. With it, on the rows a manifest marks `test`, else
on everything there but the run's training subjects. The input is always compared, and a classical method where there
is one; so are the runs named with --against. `ganatomy evaluate RUN --help` shows all options, those of this run's
kind of task included."""


@dataclasses.dataclass
class Choice:
    """What is compared, and where results go."""

    against: tuple[Path, ...] = ()
    """Runs of the same task to compare with, beside the input and a classical method."""
    which: Which = "best"
    """Weights: the best on the validation data, or the last."""
    out: Path | None = None
    """Folder for metrics.json, cases.csv and report.html; none means RUN/evaluation."""
    ratings: Path | None = None
    """Readers' opinions: a CSV file with the columns case, method (input, output, ...) and rating, a line for each."""
    secret: Path | None = None
    """File with the secret of who trained the run, by which its subjects are recognised; none means your own."""
    names: bool = False
    """Write real names of subjects and cases in place of pseudonyms."""
    device: str = "cpu"
    """Where networks run, such as cuda."""
    system: tuple[str, ...] = ()
    """Of the runs, named again where they are methods from outside that no installed package has registered:
    FILE.py:CLASS or MODULE:CLASS. Runs alone import nothing."""


def run(arguments: Sequence[str]) -> int:
    """Judge a run."""
    named = leading(arguments, "evaluate", "run", "evaluate RUN", HELP)
    if named is None:
        return 0
    folder = Path(named)
    options = read_options(folder, arguments[1:])
    choice: Choice = options.choice
    result = evaluate(
        folder,
        options.data,
        choice.against,
        choice.which,
        choice.out,
        ratings=choice.ratings,
        options=options.judge.model_dump(),
        secret=choice.secret,
        names=choice.names,
        device=choice.device,
        show=True,
        systems=choice.system,
    )
    show(result)
    return 0


def read_options(folder: Path, arguments: Sequence[str]) -> Any:
    """All options, those of the judge of the run's kind of task among them."""
    facts = read_run(folder)
    systems = [catalogue.resolve(name) for name in peek_all(arguments, "system").get("system", [])]
    system = next((one for one in systems if is_run_of(facts, one)), None)
    elsewhere = any(argument.split("=")[0] == "--data" for argument in arguments)
    judge = judge_class(build_run(folder, facts, system).task).Options
    kind = dataclasses.make_dataclass(
        "Options",
        [("choice", Choice), ("judge", judge), ("data", DataConfig)],
        namespace={"__doc__": "Judge a trained run on test cases."},
    )
    # Other images are read as they are described here, not as the training images were.
    default = kind(Choice(), judge(), DataConfig() if elsewhere else facts.data)
    return parse(kind, arguments, f"ganatomy evaluate {folder}", default)


def show(result: Evaluation) -> None:
    """The headline, a short table, and where to look."""
    console = Console()
    console.print(result.headline, highlight=False)
    table = Table("", *result.scores.methods)
    for name in result.leading:
        cells = [result.scores.interval(method, name) for method in result.scores.methods]
        table.add_row(escape(name), *[f"{cell.mean:.4g}" if cell else "" for cell in cells])
    console.print(table)
    console.print(
        f"{result.out / 'report.html'}: pictures, intervals, and how it was measured", highlight=False, soft_wrap=True
    )
