"""Application of a run to all cases that the user names, as `ganatomy apply` and `ganatomy.apply` do."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from ganatomy.case import Case
from ganatomy.catalogue import System
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.data.store import tell_left_out
from ganatomy.errors import Shortage, UserError
from ganatomy.images.files import Source, find
from ganatomy.images.image import NO_MEANING, RasterMeaning
from ganatomy.inference.apply import Applier, Format, Output, check_meaning, plan, select
from ganatomy.inference.gather import Job, gather, in_time_frames
from ganatomy.inference.model import Which


class Listener:
    """Functions that are called while a run is applied; those of the base class do nothing."""

    def begin(self, number: int, total: int, name: str) -> None:
        """Learn that a case begins, the first one having the number 1."""

    def advance(self, done: int, total: int) -> None:
        """Learn the number of slices of the case that are done, and of all."""

    def made(self, name: str, path: Path, warnings: Sequence[str]) -> None:
        """Learn that the output of a case was written, with warnings of the checks of output against input."""

    def end(self) -> None:
        """Learn that the case is done or cannot be used."""


@dataclass
class Applied:
    """The results of applying a run.

    Attributes:
        outputs: paths of the main outputs, in the order of the cases.
        warnings: path of an output to warnings of the checks of output against input, where there are any.
        left_out: name of each case that cannot be used, with the reason.
        subjects: table of what is computed from all cases of a subject, such as an ejection fraction; None where there
            is none.
    """

    outputs: list[Path] = field(default_factory=list)
    warnings: dict[Path, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    subjects: Path | None = None


def apply_run(
    run: Path,
    inputs: Sequence[str],
    out: Path,
    *,
    roles: Sequence[str] = (),
    series: Sequence[str] = (),
    frames: Sequence[str] = (),
    resample_to: str | None = None,
    ensemble: Sequence[Path] = (),
    system: str | System | None = None,
    ability: str | None = None,
    which: Which = "best",
    device: str = "auto",
    format: Format | None = None,
    seed: int = 0,
    overwrite: bool = False,
    deidentify: bool = False,
    secret: Path | None = None,
    uneven: bool = False,
    meaning: RasterMeaning = NO_MEANING,
    options: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
) -> Applied:
    """Apply a run to images, and write an output for each case; one that cannot be used is named and left out.

    Args:
        run: run folder made by ``ganatomy train``.
        inputs: texts that name the inputs, see `gather`.
        out: file, or folder of a DICOM series or of an output per case, see `plan`.
        roles: ``NAME=PATTERN`` of file names in a folder, for each input.
        series: ``NAME=PATTERN`` of DICOM series, for each input.
        frames: time frames of inputs over time.
        resample_to: role to whose grid the other inputs are resampled.
        ensemble: more runs of the same system, whose images or probabilities are averaged with those of ``run``.
        system: system of the run, as in `load`.
        ability: ability to use; None means the first.
        which: weights to use, ``best`` on the validation data or ``last``.
        device: device of the networks.
        format: format of the outputs; None means that of the suffix of ``out``, else that of the input.
        seed: seed of random draws, for methods that have any.
        overwrite: whether to replace earlier results.
        deidentify: whether outputs have pseudonyms in the place of identities.
        secret: file with the secret of the pseudonyms; None means the user's own.
        uneven: whether DICOM series with missing or duplicate slices are accepted.
        meaning: statements on files that say less than DICOM.
        options: option of the predictor to value.
        listener: object whose functions are called meanwhile.

    Raises:
        UserError: no case can be used, or an option does not fit; nothing is written then.
        Shortage: the machine lacks memory or space; outputs that are done stay.
    """
    if secret and not deidentify:
        raise UserError("--secret: only --deidentify makes pseudonyms here; add it, or leave --secret away")
    pseudonyms = Pseudonyms.of_user(secret) if deidentify else None
    applier = Applier(
        run, which, device, ability, options, ensemble=list(ensemble), system=system, pseudonyms=pseudonyms
    )

    def find_all(path: Path) -> list[Source]:
        return select(find(path, uneven=uneven, meaning=meaning), out, path)

    conditions, roles_of = applier.predictor.inputs, applier.predictor.task.roles
    if conditions and not any(roles_of[name].on_grid for name in conditions):
        given = " ".join(f"{name}=FILE" for name in conditions)
        raise UserError(
            f"{' '.join(inputs)}: this run takes no images, it samples for a {' and a '.join(conditions)}; use "
            f"`ganatomy sample RUN --given {given}`"
        )
    jobs = gather(inputs, applier.predictor, find_all, roles, series)
    if frames:
        jobs = in_time_frames(jobs, frames)
    outputs = plan(_named(jobs, pseudonyms), out, format, real=applier.real)
    applier.check_apart([job.main for job in jobs], outputs)
    for job, output in zip(jobs, outputs, strict=True):
        check_meaning(job.sources.values(), [output] * len(job.sources))
    table = applier.table(out, jobs[0].main, overwrite) if len(jobs) > 1 else None
    applied, listener = Applied(), listener or Listener()
    with _terminable():
        for number, (job, output) in enumerate(zip(jobs, outputs, strict=True), start=1):
            listener.begin(number, len(jobs), job.name)
            try:
                doubts = applier(job.sources, output, overwrite, listener.advance, resample_to, seed)
            except Shortage:
                raise
            except UserError as error:
                applied.left_out[job.name] = str(error)
            else:
                made = _record(applied, applier, job, output, doubts)
                listener.made(job.name, made, doubts)
            listener.end()
    if table is not None:
        done = [pair for pair in zip(jobs, outputs, strict=True) if pair[0].name not in applied.left_out]
        subjects = _subjects([job for job, _ in done], pseudonyms)
        if applier.write_subjects(table, [(subjects[job.name], output) for job, output in done]):
            applied.subjects = table.path
            listener.made(table.path.name, table.path, ())
    problems = list(applied.left_out.items())
    tell_left_out(problems, len(jobs))
    if len(problems) == len(jobs):
        raise UserError(problems[0][1] if len(jobs) == 1 else f"none of the {len(jobs)} cases can be used")
    return applied


def _record(applied: Applied, applier: Applier, job: Job, output: Output, doubts: list[str]) -> Path:
    made = applier.place(job.main, output)
    applied.outputs.append(made)
    if doubts:
        applied.warnings[made] = doubts
    return made


def _named(jobs: Sequence[Job], pseudonyms: Pseudonyms | None) -> list[Source]:
    """Return the main source of every job, called as its output is: by its name, or by a label without identity."""
    if pseudonyms is None:
        return [job.main for job in jobs]
    labels = Labels([Case(job.name, job.main.subject, "test", job.sources) for job in jobs], pseudonyms)
    return [replace(job.main, name=labels.cases[job.name]) for job in jobs]


def _subjects(jobs: Sequence[Job], pseudonyms: Pseudonyms | None) -> dict[str, str]:
    """Return the subject of every job by its name: as the data call it, or by a label without identity."""
    if pseudonyms is None:
        return {job.name: job.subject for job in jobs}
    labels = Labels([Case(job.name, job.subject, "test", job.sources) for job in jobs], pseudonyms)
    return {job.name: labels.subjects[job.subject] for job in jobs}


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
