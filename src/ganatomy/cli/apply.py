"""``ganatomy apply RUN INPUT... --out OUT``."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from ganatomy.case import Case
from ganatomy.cli import DONE
from ganatomy.cli.options import named_system, parse, peek
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.data.store import tell_left_out
from ganatomy.errors import Shortage, UserError
from ganatomy.images.files import Source, find
from ganatomy.images.image import RasterMeaning
from ganatomy.inference.apply import Applier, Format, Output, check_meaning, plan, select
from ganatomy.inference.gather import Job, gather, in_time_frames
from ganatomy.inference.model import Which, build_run
from ganatomy.inference.predictor import predictor_class
from ganatomy.inference.runfile import read_run


@dataclass
class Options:
    """Apply a trained run to new images: a DICOM series, a NIfTI or image file, or a folder of them.

      ganatomy apply RUN INPUT OUT                                        one input image
      ganatomy apply RUN t1=a.nii.gz t2=b.nii.gz --out OUT                several input images, by name
      ganatomy apply RUN STUDY --series 't1=*T1*' 't2=AX T2' --out OUT    a DICOM study, by series description
      ganatomy apply RUN FOLDER --roles 't1=*_t1.nii.gz' ... --out OUT    a folder, by file name
      ganatomy apply RUN MANIFEST.csv --out OUT                           a CSV file with a column of paths per input

    An output has the format of its input and lies at the same place in the patient. Where the input holds integers, so
    does the output: rounded to the step of the input and clipped to the range of its type; CT in DICOM is stored in
    steps of 1/16 HU, and masks and maps of a DICOM series are DICOM segmentations and parametric maps. Beside every
    output lies OUT.json, which names the system, its weights and the unit, and holds tables and warnings.

    A system with several outputs writes the main one to OUT and the others beside it as OUT-NAME. Anomaly detectors
    write the anomaly map, the image as it would look healthy (OUT-healthy), and the mask of where the map exceeds its
    threshold (OUT-mask).
    """

    run: Positional[Annotated[Path, arg(metavar="RUN")]]
    """Folder made by `ganatomy train`."""
    inputs: Positional[Annotated[tuple[str, ...], arg(metavar="INPUT")]]
    """Folder of a DICOM series, a file, or a folder of several; or NAME=PATH for each input.
    Without --out, the last one is OUT."""
    out: Path | None = None
    """Output: a file if it has a suffix such as .nii.gz, else a folder for a DICOM series or an output per case."""
    roles: tuple[str, ...] = ()
    """For a folder of files: NAME=PATTERN of file names, for each input."""
    series: tuple[str, ...] = ()
    """For a DICOM study: NAME=PATTERN of series descriptions, modalities or UIDs, for each input."""
    frames: tuple[str, ...] = ()
    """Time frames of 4-D inputs, one output each: all, numbers counted from 0, or NAME=NUMBER such as es=9."""
    resample_to: str | None = None
    """Name of the input to whose grid the others are resampled; without it, different grids are refused."""
    ensemble: tuple[Path, ...] = ()
    """More runs of the same system; their output images or probabilities are averaged with those of RUN."""
    system: str | None = None
    """Method of RUN as FILE.py:CLASS or MODULE:CLASS, needed only if it is neither built in nor installed.
    A run folder alone never makes ganatomy import code."""
    ability: str | None = None
    """Task to carry out, for systems that can do several; none means the first."""
    which: Which = "best"
    """Weights to use: those with the best validation score, or the last."""
    device: str = "auto"
    """Device on which the network runs: cpu, cuda, or auto."""
    format: Format | None = None
    """Output format; none means the format of the suffix of OUT, else that of the input."""
    seed: int = 0
    """Seed of the random numbers, for systems whose output depends on any."""
    overwrite: bool = False
    """Replace existing outputs."""
    deidentify: bool = False
    """Write no identity: DICOM follows the Basic Profile of PS3.15, with dates moved into the past by an amount of
    each patient, and outputs in a folder and their notes have pseudonyms. Pixels stay as they are."""
    secret: Path | None = None
    """File with the secret from which --deidentify makes pseudonyms, UIDs and dates; none means your own, created on
    first use."""
    uneven: bool = False
    """Accept DICOM series with missing or duplicate slices; each slice keeps its own position."""
    slope: float = 1.0
    """For pictures and .npy files without units: value = slope * stored + intercept."""
    intercept: float = 0.0
    """For pictures and .npy files without units; -1024 reads CT that was saved as HU + 1024."""
    unit: str | None = None
    """Unit of the values in files that state none, such as HU in NIfTI of an organ without air around it."""
    pixel_mm: float | None = None
    """Pixel size of pictures and .npy files, in mm; none means that of the file, if it states one."""
    backdrop: float | None = None
    """Stored number (0 to 255 in 8 bits) of the grey over which transparent pictures are laid."""
    nan: float | None = None
    """Physical value that takes the place of NaN, such as -1024; none refuses images with NaN."""
    level: int | None = None
    """Level of whole slides that is read, 0 for the finest; none means 0, which is refused where it is too large."""
    mpp: float | None = None
    """Size in µm of the pixels that are made of whole slides, in place of a level."""


def run(arguments: Sequence[str]) -> int:
    """Apply a run to all cases; one that cannot be used is named and left out, and a shortage stops at once."""
    options, own = read_options(arguments)
    texts, out = places(options)
    stated = (options.slope, options.intercept, options.unit, options.pixel_mm, options.backdrop, options.nan)
    meaning = RasterMeaning(*stated, options.level, options.mpp)
    if options.secret and not options.deidentify:
        raise UserError("--secret: only --deidentify makes pseudonyms here; add it, or leave --secret away")
    pseudonyms = Pseudonyms.of_user(options.secret) if options.deidentify else None
    applier = Applier(
        options.run,
        options.which,
        options.device,
        options.ability,
        own,
        ensemble=list(options.ensemble),
        system=options.system,
        pseudonyms=pseudonyms,
    )

    def find_all(path: Path) -> list[Source]:
        return select(find(path, uneven=options.uneven, meaning=meaning), out, path)

    jobs = gather(texts, applier.predictor, find_all, options.roles, options.series)
    if options.frames:
        jobs = in_time_frames(jobs, options.frames)
    outputs = plan(named(jobs, pseudonyms), out, options.format, real=applier.real)
    applier.check_apart([job.main for job in jobs], outputs)
    for job, output in zip(jobs, outputs, strict=True):
        check_meaning(job.sources.values(), [output] * len(job.sources))
    with _terminable():
        problems = _apply(applier, list(zip(jobs, outputs, strict=True)), options)
    tell_left_out(problems, len(jobs))
    if len(problems) == len(jobs):
        raise UserError(problems[0][1] if len(jobs) == 1 else f"none of the {len(jobs)} cases can be used")
    return DONE


def named(jobs: Sequence[Job], pseudonyms: Pseudonyms | None) -> list[Source]:
    """Return the main source of every job, called as its output is: by its name, or by a label without identity."""
    if pseudonyms is None:
        return [job.main for job in jobs]
    labels = Labels([Case(job.name, job.main.subject, "test", job.sources) for job in jobs], pseudonyms)
    return [replace(job.main, name=labels.cases[job.name]) for job in jobs]


def read_options(arguments: Sequence[str]) -> tuple[Options, dict[str, Any]]:
    """Parse the options of the command, and those that the predictor of the run adds.

    Returns:
        The options of the command, and the others by name.

    Raises:
        UserError: there is no run, an option is unknown, or a value is invalid.
    """
    added = own_options(arguments)
    # The parser leaves a RUN that is given out of the usage that it prints.
    arguments = [word for word in arguments if word in ("-h", "--help")] or arguments
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
    """Return the class of the options that the run's predictor adds; None without a run, or without such options."""
    if not arguments or arguments[0].startswith("-"):
        return None
    folder = Path(arguments[0])
    method = build_run(folder, read_run(folder), named_system(arguments))
    ability = peek(arguments, "ability").get("ability")
    kind = predictor_class(method.task, ability).Options
    return kind if kind.model_fields else None


def places(options: Options) -> tuple[list[str], Path]:
    """Return the texts that name the inputs, and the path of the output.

    Raises:
        UserError: one of them is missing.
    """
    texts = list(options.inputs)
    if options.out is None and len(texts) > 1 and "=" not in texts[-1]:
        return texts[:-1], Path(texts[-1])
    if options.out is None or not texts:
        raise UserError("apply needs an INPUT and an OUT: ganatomy apply RUN INPUT OUT (see ganatomy apply --help)")
    return texts, options.out


def _apply(applier: Applier, jobs: Sequence[tuple[Job, Output]], options: Options) -> list[tuple[str, str]]:
    """Apply the run to every case, and return the name of each that cannot be used, with the reason."""
    problems: list[tuple[str, str]] = []
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("slices"),
    )
    times, hidden = (TimeElapsedColumn(), TimeRemainingColumn()), not console.is_terminal
    with Progress(*columns, *times, console=console, transient=True, disable=hidden) as progress:
        for number, (job, output) in enumerate(jobs, start=1):
            task = progress.add_task(f"{number}/{len(jobs)} {job.name}", total=None)

            def advance(done: int, total: int, task=task) -> None:  # type: ignore[no-untyped-def]
                progress.update(task, completed=done, total=total)

            try:
                doubts = applier(job.sources, output, options.overwrite, advance, options.resample_to, options.seed)
            except Shortage:
                raise
            except UserError as error:
                problems.append((job.name, str(error)))
            else:
                made = applier.place(job.main, output)
                if options.deidentify:  # the name of the output tells no more whose it is
                    console.print(f"{job.name} -> {made}", markup=False, highlight=False, soft_wrap=True)
                print(made)
                for doubt in doubts:
                    console.print(f"{made}: {doubt}", style="yellow", markup=False, highlight=False, soft_wrap=True)
            progress.remove_task(task)
    return problems


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into SystemExit meanwhile, so that half-written outputs are removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not in the main thread: the embedding program handles its own signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
