"""``ganatomy sample RUN``."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tyro.conf import arg

from ganatomy.cli.options import leading, named_system, parse, peek
from ganatomy.inference.model import Which, build_run, load
from ganatomy.inference.predictor import predictor_class
from ganatomy.inference.runfile import read_run
from ganatomy.inference.sampling import LIST, NOTE, Format, sampling_ability, write_samples

HELP = """usage: ganatomy sample RUN --out DIR [-n N] [--seed SEED] [--format png|tiff|nifti|npy] [...]

Makes synthetic images, or whatever else a trained run makes from noise, in physical units: a file for each sample and
role. With them come samples.csv, a line per file, and synthetic.json, which says what made them and what they are for.
`ganatomy sample RUN --help` shows all options, those of this run's system included."""


@dataclasses.dataclass
class Choice:
    """How much is made, and where it goes."""

    out: Path
    """Folder for the files."""
    n: Annotated[int, arg(aliases=["-n"])] = 16
    """Number of samples."""
    seed: int = 0
    """Of the first sample, the next has the next seed; a sample depends on its own seed alone."""
    system: str | None = None
    """Of RUN, named again where it is a method from outside that no installed package has registered: FILE.py:CLASS or
    MODULE:CLASS. RUN alone imports nothing."""
    ability: str | None = None
    """Of systems with several; none means the first that needs no input."""
    which: Which = "best"
    """Weights: the best on the validation data, or the last."""
    format: Format | None = None
    """Of images; none means PNG for 8-bit pictures, else NIfTI."""
    overwrite: bool = False
    """Replace files that exist."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def run(arguments: Sequence[str]) -> int:
    """Make synthetic images."""
    named = leading(arguments, "sample", "run", "sample RUN --out DIR", HELP)
    if named is None:
        return 0
    folder = Path(named)
    options = read_options(folder, arguments[1:])
    choice: Choice = options.choice
    model = load(folder, choice.which, choice.device, choice.system)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("samples"))
    console = Console(stderr=True)
    times = TimeElapsedColumn(), TimeRemainingColumn()
    hidden = not console.is_terminal
    with Progress(*columns, *times, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("sampling", total=max(choice.n, 0))
        files = write_samples(
            model,
            choice.out,
            choice.n,
            seed=choice.seed,
            ability=choice.ability,
            options=options.sampling.model_dump(),
            which=choice.which,
            format=choice.format,
            overwrite=choice.overwrite,
            advance=lambda: progress.advance(task),
        )
    for file in files:
        print(file)
    print(f"{choice.out / NOTE}: what these are; {LIST} lists them")
    return 0


def read_options(folder: Path, arguments: Sequence[str]) -> Any:
    """All options, those of the run's predictor among them."""
    method = build_run(folder, read_run(folder), named_system(arguments))
    ability = sampling_ability(method, peek(arguments, "ability").get("ability"))
    own = predictor_class(method.task, ability).Options
    kind = dataclasses.make_dataclass(
        "Options",
        [("choice", Choice), ("sampling", own)],
        namespace={"__doc__": "Make synthetic images with a trained run, in physical units, a file for each and role."},
    )
    default = kind(Choice(out=tyro.MISSING), own())
    return parse(kind, arguments, f"ganatomy sample {folder}", default)
