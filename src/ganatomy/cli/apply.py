"""``ganatomy apply RUN INPUT OUT``."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from ganatomy.cli.options import parse
from ganatomy.errors import UserError
from ganatomy.images.files import Source, find
from ganatomy.images.image import RasterMeaning
from ganatomy.inference.apply import Applier, Format, Output, check_meaning, plan, select
from ganatomy.inference.model import Which


@dataclass
class Options:
    """Apply a trained run to a DICOM series, a NIfTI or image file, or a folder of them, slab by slab.

    Outputs are in the format, place and unit of their inputs. Integers give integers again, rounded to their step and
    clipped to what their type can hold; DICOM keeps a sixteenth of a HU; real numbers stay real. Every output has a
    note beside it, OUT.json: model, weights, unit, and what a comparison with the input found.

    Systems that detect write a map of what is abnormal, in real numbers, and beside it OUT-healthy, the image as it
    would be without that, and OUT-mask, where the map reaches its threshold. The note has the scores and thresholds.
    """

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """Folder made by `ganatomy train`."""
    input: Positional[Annotated[Path, arg(metavar="INPUT")]]
    """A DICOM series folder, a file, or a folder that holds several."""
    out: Positional[Annotated[Path, arg(metavar="OUT")]]
    """An image file by its suffix; without one a folder: the new DICOM series, or one output per image."""
    which: Which = "best"
    """Weights: the best on the validation data, or the last."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    format: Format | None = None
    """Output format; none means that of the input, or what the suffix of OUT says."""
    overwrite: bool = False
    """Replace outputs that exist."""
    uneven: bool = False
    """Accept DICOM series with missing or doubled slices; each keeps its own position."""
    slope: float = 1.0
    """Of pictures and .npy files without units: value = slope * stored + intercept."""
    intercept: float = 0.0
    """Of pictures and .npy files, such as -1024 for CT saved as HU + 1024."""
    unit: str | None = None
    """Unit of the values of pictures and .npy files, such as HU."""
    pixel_mm: float | None = None
    """Edge of a pixel of pictures and .npy files."""


def run(arguments: Sequence[str]) -> int:
    """Apply a run; one bad image does not keep the others from being finished."""
    options = parse(Options, arguments, "ganatomy apply")
    meaning = RasterMeaning(options.slope, options.intercept, options.unit, options.pixel_mm)
    sources = find(options.input, uneven=options.uneven, meaning=meaning)
    sources = select(sources, options.out, options.input)
    applier = Applier(options.run, options.which, options.device)
    outputs = plan(sources, options.out, options.format, real=applier.detects)
    check_meaning(sources, outputs)
    with _terminable():
        problems = _apply(applier, list(zip(sources, outputs, strict=True)), options.overwrite)
    if not problems:
        return 0
    if len(sources) == 1:
        raise UserError(problems[0])
    for problem in problems:
        print(f"ganatomy: {problem}", file=sys.stderr)
    print(f"ganatomy: {len(problems)} of {len(sources)} images failed, the others are done", file=sys.stderr)
    return 2


def _apply(applier: Applier, jobs: Sequence[tuple[Source, Output]], overwrite: bool) -> list[str]:
    """Do every job; one line for each that failed."""
    problems: list[str] = []
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("slices"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as progress:
        for number, (source, output) in enumerate(jobs, start=1):
            task = progress.add_task(f"{number}/{len(jobs)} {source.name}", total=None)

            def advance(done: int, total: int, task=task) -> None:  # type: ignore[no-untyped-def]
                progress.update(task, completed=done, total=total)

            try:
                warnings = applier(source, output, overwrite, advance)
            except UserError as error:
                problems.append(" ".join(str(error).split()))
            else:
                print(output.path)
                for warning in warnings:
                    console.print(f"[yellow]{output.path}:[/] {warning}", highlight=False, soft_wrap=True)
            progress.remove_task(task)
    return problems


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds like an interrupt, so that half-written outputs are taken away."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread: the embedding program handles its signals itself
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
