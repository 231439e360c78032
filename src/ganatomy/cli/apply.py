"""``ganatomy apply RUN INPUT... --out OUT``."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from ganatomy.cli.options import named_system, parse, peek
from ganatomy.errors import UserError
from ganatomy.images.files import Source, find
from ganatomy.images.image import RasterMeaning
from ganatomy.inference.apply import Applier, Format, Output, check_meaning, plan, select
from ganatomy.inference.gather import Job, gather, in_time_frames
from ganatomy.inference.model import Which, build_run
from ganatomy.inference.predictor import predictor_class
from ganatomy.inference.runfile import read_run


@dataclass
class Options:
    """Apply a trained run to DICOM series, NIfTI or image files, or folders of them, slab by slab.

      ganatomy apply RUN INPUT OUT                                        systems with one input
      ganatomy apply RUN t1=a.nii.gz t2=b.nii.gz --out OUT                systems with several
      ganatomy apply RUN STUDY --series 't1=*T1*' 't2=AX T2' --out OUT    a DICOM study, by series description
      ganatomy apply RUN FOLDER --roles 't1=*_t1.nii.gz' ... --out OUT    a folder, by file name
      ganatomy apply RUN MANIFEST.csv --out OUT                           a column of paths per input

    Outputs are in the format, place and unit of their inputs. Integers give integers again, rounded to their step and
    clipped to what their type can hold; DICOM keeps a sixteenth of a HU; real numbers stay real. Every output has a
    note beside it, OUT.json: model, weights, unit, tables, and what a comparison with the input found.

    Systems that make several things write the main one to OUT and the others beside it, OUT-NAME: those that detect
    write a map of what is abnormal, the image as it would be without that (healthy), and where the map reaches its
    threshold (mask).
    """

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """Folder made by `ganatomy train`."""
    inputs: Positional[Annotated[tuple[str, ...], arg(metavar="INPUT")]]
    """A DICOM series folder, a file, or a folder that holds several; or NAME=PATH for each input. Without --out, the
    last one is OUT."""
    out: Path | None = None
    """An image file by its suffix; without one a folder: the new DICOM series, or one output per case."""
    roles: tuple[str, ...] = ()
    """NAME=PATTERN of file names in the folder, for each input."""
    series: tuple[str, ...] = ()
    """NAME=PATTERN of descriptions, modalities or UIDs of DICOM series, for each input."""
    frames: tuple[str, ...] = ()
    """Time frames of recordings over time: all, numbers from 0, or NAME=NUMBER; an output for each."""
    resample_to: str | None = None
    """Input whose grid the others are brought to; otherwise inputs on different grids are refused."""
    ensemble: tuple[Path, ...] = ()
    """More runs of the same system, whose images or probabilities are averaged with those of RUN."""
    system: str | None = None
    """Of RUN, named again where it is a method from outside that no installed package has registered: FILE.py:CLASS or
    MODULE:CLASS. RUN alone imports nothing."""
    ability: str | None = None
    """What is done, of systems that can do several things; the first unless given."""
    which: Which = "best"
    """Weights: the best on the validation data, or the last."""
    device: str = "auto"
    """cpu, cuda, or auto."""
    format: Format | None = None
    """Output format; none means that of the input, or what the suffix of OUT says."""
    seed: int = 0
    """Of what is drawn, by systems that draw anything."""
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
    """Apply a run; one bad case does not keep the others from being finished."""
    options, own = read_options(arguments)
    texts, out = places(options)
    meaning = RasterMeaning(options.slope, options.intercept, options.unit, options.pixel_mm)
    applier = Applier(
        options.run,
        options.which,
        options.device,
        options.ability,
        own,
        ensemble=list(options.ensemble),
        system=options.system,
    )

    def find_all(path: Path) -> list[Source]:
        return select(find(path, uneven=options.uneven, meaning=meaning), out, path)

    jobs = gather(texts, applier.predictor, find_all, options.roles, options.series)
    if options.frames:
        jobs = in_time_frames(jobs, options.frames)
    outputs = plan([job.main for job in jobs], out, options.format, real=applier.real)
    for job, output in zip(jobs, outputs, strict=True):
        check_meaning(job.sources.values(), [output] * len(job.sources))
    with _terminable():
        problems = _apply(applier, list(zip(jobs, outputs, strict=True)), options)
    if not problems:
        return 0
    if len(jobs) == 1:
        raise UserError(problems[0])
    for problem in problems:
        print(f"ganatomy: {problem}", file=sys.stderr)
    print(f"ganatomy: {len(problems)} of {len(jobs)} images failed, the others are done", file=sys.stderr)
    return 2


def read_options(arguments: Sequence[str]) -> tuple[Options, dict[str, Any]]:
    """The options of the command, and those that the predictor of this run adds, by name.

    Raises:
        UserError: no run there, unknown options, or values that do not fit.
    """
    added = own_options(arguments)
    if added is None:
        return parse(Options, arguments, "ganatomy apply"), {}
    kind: Any = make_dataclass(
        "Options",
        [("usual", Options), ("own", added, field(default_factory=added))],
        namespace={"__doc__": Options.__doc__},
    )
    parsed = parse(kind, arguments, "ganatomy apply")
    return parsed.usual, parsed.own.model_dump()


def own_options(arguments: Sequence[str]) -> type[BaseModel] | None:
    """The options that the predictor of the run adds, where a run is named first and adds any."""
    if not arguments or arguments[0].startswith("-"):
        return None
    folder = Path(arguments[0])
    method = build_run(folder, read_run(folder), named_system(arguments))
    ability = peek(arguments, "ability").get("ability")
    kind = predictor_class(method.task, ability).Options
    return kind if kind.model_fields else None


def places(options: Options) -> tuple[list[str], Path]:
    """What is applied to, and where the output goes.

    Raises:
        UserError: one of them is missing.
    """
    texts = list(options.inputs)
    if options.out is None and len(texts) > 1 and "=" not in texts[-1]:
        return texts[:-1], Path(texts[-1])
    if options.out is None or not texts:
        raise UserError("apply needs an INPUT and an OUT: ganatomy apply RUN INPUT OUT (see ganatomy apply --help)")
    return texts, options.out


def _apply(applier: Applier, jobs: Sequence[tuple[Job, Output]], options: Options) -> list[str]:
    """Do every job; one line for each that failed."""
    problems: list[str] = []
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("slices"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as progress:
        for number, (job, output) in enumerate(jobs, start=1):
            task = progress.add_task(f"{number}/{len(jobs)} {job.name}", total=None)

            def advance(done: int, total: int, task=task) -> None:  # type: ignore[no-untyped-def]
                progress.update(task, completed=done, total=total)

            try:
                warnings = applier(job.sources, output, options.overwrite, advance, options.resample_to, options.seed)
            except UserError as error:
                problems.append(" ".join(str(error).split()))
            else:
                made = applier.place(job.main, output)
                print(made)
                for warning in warnings:
                    console.print(f"[yellow]{made}:[/] {warning}", highlight=False, soft_wrap=True)
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
