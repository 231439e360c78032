"""``ganatomy apply RUN INPUT... --out OUT``."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel
from rich.progress import Progress, TaskID
from tyro.conf import Positional, arg

from ganatomy.cli import DONE
from ganatomy.cli.options import named_system, parse, peek
from ganatomy.errors import UserError
from ganatomy.images.image import RasterMeaning
from ganatomy.inference.apply import Format
from ganatomy.inference.applying import Listener, apply_run
from ganatomy.inference.model import Which, build_run
from ganatomy.inference.predictor import predictor_class
from ganatomy.inference.runfile import read_run
from ganatomy.reports import terminal

log = logging.getLogger(__name__)


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
    threshold (OUT-mask). Segmentation writes the sizes of regions as OUT-volumes.csv, and what follows from them, such
    as the cup-to-disc ratio, as OUT-measures.csv; what follows from several cases of one subject, such as the ejection
    fraction from the time frames of a heart, is subjects.csv in the folder of the outputs. Classifiers write the class
    of the case with its probabilities to OUT.csv, and those of all slices to OUT-slices.csv.
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
    with _shown(options.deidentify) as listener:
        apply_run(
            options.run,
            texts,
            out,
            roles=options.roles,
            series=options.series,
            frames=options.frames,
            resample_to=options.resample_to,
            ensemble=options.ensemble,
            system=options.system,
            ability=options.ability,
            which=options.which,
            device=options.device,
            format=options.format,
            seed=options.seed,
            overwrite=options.overwrite,
            deidentify=options.deidentify,
            secret=options.secret,
            uneven=options.uneven,
            meaning=meaning,
            options=own,
            listener=listener,
        )
    return DONE


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


class _Progress(Listener):
    """Shows a bar for the current case, and prints the path of every output and the warnings about it.

    Args:
        progress: bar on the terminal.
        named: whether a path is printed with the name of its case, since it tells no more whose it is.
    """

    def __init__(self, progress: Progress, named: bool):
        self.progress, self.named = progress, named
        self.number, self.total, self.clock = 0, 0, terminal.Clock()
        self.task: TaskID | None = None

    def begin(self, number: int, total: int, name: str) -> None:
        """Show a bar for the case."""
        self.task = self.progress.add_task(f"{number}/{total} {name}", total=None)
        self.number, self.total = number, total

    def advance(self, done: int, total: int) -> None:
        """Move the bar."""
        if self.task is not None:
            self.progress.update(self.task, completed=done, total=total)

    def made(self, name: str, path: Path, warnings: Sequence[str]) -> None:
        """Print the path and the warnings."""
        console = self.progress.console
        if self.named:
            console.print(f"{name} -> {path}", markup=False, highlight=False, soft_wrap=True)
        print(path)
        for told in warnings:
            console.print(f"{path}: {told}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Remove the bar."""
        if self.task is not None:
            self.progress.remove_task(self.task)
        # Without names: a log is kept, and they may be those of patients.
        if self.total > 1 and not self.progress.console.is_terminal and self.clock.tells(self.number, self.total):
            log.info("%d of %d cases processed", self.number, self.total)


@contextmanager
def _shown(named: bool) -> Iterator[Listener]:
    """Yield a listener that shows progress on the terminal."""
    with terminal.bar(terminal.console(True), unit="slices", transient=True) as progress:
        yield _Progress(progress, named)
