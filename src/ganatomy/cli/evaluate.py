"""``ganatomy evaluate RUN``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganatomy.cli.options import leading, parse
from ganatomy.data.cases import DataConfig
from ganatomy.evaluation.evaluate import Evaluation, evaluate, recorded_data
from ganatomy.inference.model import Which, read_run
from ganatomy.tasks.synthesis.features import FeatureKind

HELP = """usage: ganatomy evaluate RUN [--data FOLDER|CSV] [--baseline RUN2 ...] [--which best|last] [--out DIR] [...]

Without --data a run is judged on the test subjects it kept aside. With it, on the rows a manifest marks `test`, else
on everything there but the run's training subjects. The input is always compared, and a classical method where there
is one; so are the runs named with --baseline. `ganatomy evaluate RUN --help` shows all options."""


@dataclasses.dataclass
class Choice:
    """What is compared, and where results go."""

    baseline: tuple[Path, ...] = ()
    """Runs of the same task to compare with, beside the input and a classical method."""
    which: Which = "best"
    """Weights: the best on the validation data, or the last."""
    out: Path | None = None
    """Folder for metrics.json, cases.csv and report.html; none means RUN/evaluation."""
    ratings: Path | None = None
    """Readers' opinions: a CSV file with the columns case, method (input, output, ...) and rating, a line for each."""
    features: FeatureKind | None = None
    """By which sets of generated images are compared: random convolutions (default), an in-domain encoder, VGG-19."""
    device: str = "cpu"
    """Where networks run, such as cuda."""


@dataclasses.dataclass
class Options:
    """Judge a trained run on test cases."""

    choice: Choice
    data: DataConfig


def run(arguments: Sequence[str]) -> int:
    """Judge a run."""
    named = leading(arguments, "evaluate", "run", "evaluate RUN", HELP)
    if named is None:
        return 0
    folder = Path(named)
    own = recorded_data(read_run(folder))
    elsewhere = any(argument.split("=")[0] == "--data" for argument in arguments)
    # Other images are read as they are described here, not as the training images were.
    default = Options(Choice(), DataConfig(cache=own.cache) if elsewhere else own)
    options = parse(Options, arguments[1:], f"ganatomy evaluate {folder}", default)
    choice = options.choice
    result = evaluate(
        folder,
        options.data,
        choice.baseline,
        choice.which,
        choice.out,
        ratings=choice.ratings,
        features=choice.features,
        device=choice.device,
        show=True,
    )
    show(result)
    return 0


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
