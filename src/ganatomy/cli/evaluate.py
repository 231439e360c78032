"""``ganatomy evaluate RUN``."""

import dataclasses
import math
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
from ganatomy.metrics.statistics import Interval

HELP = """usage: ganatomy evaluate RUN [--data FOLDER|CSV] [--against RUN2 ...] [--which best|last] [--out DIR] [...]

Scores a trained run on test cases and writes metrics.json, cases.csv and report.html with pictures and intervals.

Test cases are the subjects that training kept aside or, with --data, the rows that a manifest marks `test`, or else
all images there except those of training subjects. The run is compared with simple methods of its
task, such as the unprocessed input, and with the runs named with --against, for example one trained with --baseline.
The headline is the comparison with the strongest that has no adversary, which is chosen on validation cases.
`ganatomy evaluate RUN --help` shows all options, including those of the run's task."""


@dataclasses.dataclass
class Choice:
    """Runs to compare, output folder, and pseudonyms."""

    against: tuple[Path, ...] = ()
    """Other runs of the same task to compare with, besides the baselines of the task."""
    which: Which = "best"
    """Weights to use: those with the best validation score, or the last."""
    out: Path | None = None
    """Output folder for metrics.json, cases.csv and report.html; none means RUN/evaluation."""
    ratings: Path | None = None
    """CSV file with readers' ratings: one line each, with the columns case, method (input, output, ...) and rating."""
    secret: Path | None = None
    """File with the secret that was used in training, to recognise the run's subjects; none means your own."""
    names: bool = False
    """Write the real names of subjects and cases instead of pseudonyms."""
    keep_images: bool = False
    """Leave the outputs, and what they are compared with, as files in the folder images beside the report."""
    device: str = "cpu"
    """Device on which networks run: cpu or cuda."""
    system: tuple[str, ...] = ()
    """Methods of the runs as FILE.py:CLASS or MODULE:CLASS, needed only if neither built in nor installed.
    A run folder alone never makes ganatomy import code."""


def run(arguments: Sequence[str]) -> int:
    """Evaluate a run, and print its headline and leading scores."""
    named = leading(arguments, "evaluate", "run", "evaluate RUN", HELP)
    if named is None:
        return 0
    folder = Path(named)
    options = read_options(folder, arguments[1:])
    choice: Choice = options.general
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
        keep_images=choice.keep_images,
    )
    show(result)
    return 0


def read_options(folder: Path, arguments: Sequence[str]) -> Any:
    """Parse all options, including those that the judge of the run's task adds."""
    facts = read_run(folder)
    systems = [catalogue.resolve(name) for name in peek_all(arguments, "system").get("system", [])]
    system = next((one for one in systems if is_run_of(facts, one)), None)
    elsewhere = any(argument.split("=")[0] == "--data" for argument in arguments)
    judge = judge_class(build_run(folder, facts, system).task).Options
    kind = dataclasses.make_dataclass(
        "Options",
        [("general", Choice), ("judge", judge), ("data", DataConfig)],
        namespace={"__doc__": "Score a trained run on test cases and write a report."},
    )
    # Options of the training data do not apply to other images, so these start from the defaults.
    default = kind(Choice(), judge(), DataConfig() if elsewhere else facts.data)
    return parse(kind, arguments, f"ganatomy evaluate {folder}", default)


def show(result: Evaluation) -> None:
    """Print the headline, a table of the leading scores, and the path of the report."""
    console = Console()
    console.print(result.headline, markup=False, highlight=False)
    table = Table("", *map(escape, result.scores.methods))
    for name in result.leading:
        cells = [result.scores.interval(method, name) for method in result.scores.methods]
        table.add_row(escape(name), *[_told(cell) for cell in cells])
    console.print(table)
    console.print(
        f"{result.out / 'report.html'}: pictures, intervals, and how everything was measured",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _told(cell: Interval | None) -> str:
    """Return a mean as a cell of the table, with a dash for one that is undefined."""
    return "" if cell is None else f"{cell.mean:.4g}" if math.isfinite(cell.mean) else "–"
