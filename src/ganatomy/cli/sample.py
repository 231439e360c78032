"""``ganatomy sample RUN``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from ganatomy.cli.options import parse
from ganatomy.inference.model import Which, load
from ganatomy.inference.sampling import LIST, NOTE, Format, write_samples


@dataclass
class Options:
    """Make synthetic images with a trained run, in physical units, one file per image and role.

    With them come samples.csv, a line per file, and synthetic.json, which says what made them and what they are for.
    """

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """Folder made by `ganatomy train`."""
    out: Path
    """Folder for the images."""
    n: Annotated[int, arg(aliases=["-n"])] = 16
    """Number of images."""
    label: str | None = None
    """Of all images; none means all labels in turn, where the run knows labels."""
    seed: int = 0
    """Of the first image, the next has the next seed; an image depends on its own seed alone."""
    truncation: float = 1.0
    """Below 1, images are more typical and less varied; 1 changes nothing."""
    which: Which = "best"
    """Weights: the best on the validation data, or the last."""
    format: Format | None = None
    """Of the files; none means PNG for 8-bit pictures, else NIfTI."""
    overwrite: bool = False
    """Replace files that exist."""
    device: str = "auto"
    """cpu, cuda, or auto."""


def run(arguments: Sequence[str]) -> int:
    """Make synthetic images."""
    options = parse(Options, arguments, "ganatomy sample")
    model = load(options.run, options.which, options.device)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("images"))
    console = Console(stderr=True)
    times = TimeElapsedColumn(), TimeRemainingColumn()
    hidden = not console.is_terminal
    with Progress(*columns, *times, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("sampling", total=max(options.n, 0))
        files = write_samples(
            model,
            options.out,
            options.n,
            seed=options.seed,
            label=options.label,
            truncation=options.truncation,
            which=options.which,
            format=options.format,
            overwrite=options.overwrite,
            advance=lambda: progress.advance(task),
        )
    for file in files:
        print(file)
    print(f"{options.out / NOTE}: what these images are; {LIST} lists them")
    return 0
