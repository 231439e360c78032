"""Cases to which a trained method is applied, found from arguments of the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ganatomy.case import Case
from ganatomy.data.frames import in_frames
from ganatomy.data.layouts import by_patterns, by_series, parse_patterns
from ganatomy.data.parts import in_parts, volume_of
from ganatomy.data.subjects import subject_of_place
from ganatomy.data.tables import MANIFEST_SUFFIXES, check_cells, column_name, rows_of
from ganatomy.errors import UserError
from ganatomy.images.files import Source, place_of
from ganatomy.images.paths import safe_name, unique_name
from ganatomy.inference.predictor import Predictor

NAMES = ("name", "subject")
"""Columns of a manifest that name a case, the first one first."""


@dataclass(frozen=True)
class Job:
    """A case to which a method is applied.

    Attributes:
        name: name of the case and of its output.
        sources: role to source, the main input first.
        subject: name of the subject, equal for the time frames of one heart.
    """

    name: str
    sources: dict[str, Source]
    subject: str

    @property
    def main(self) -> Source:
        """Source of the main input, with the name of the case."""
        return replace(next(iter(self.sources.values())), name=self.name)


def gather(
    texts: Sequence[str],
    predictor: Predictor,
    find_all: Callable[[Path], list[Source]],
    roles: Sequence[str] = (),
    series: Sequence[str] = (),
) -> list[Job]:
    """Find the cases that arguments of the command line name.

    A case may lack a role that it needs, for which it is refused when the method is applied to it, as long as another
    case has all.

    Args:
        texts: ``NAME=PATH`` for every input of one case; or one path: an image or a folder of images for systems with
            one input, a folder or a DICOM study with a pattern per role, or a CSV manifest with a column per role.
        predictor: predictor with the required and optional roles.
        find_all: returns the sources at a path.
        roles: ``NAME=PATTERN`` of file names.
        series: ``NAME=PATTERN`` of DICOM series.

    Raises:
        UserError: every case lacks a role, a role is unknown, an image does not exist, a pattern matches two images,
            or the system has no image inputs.
    """
    known = (*predictor.inputs, *predictor.optional)
    if not known:
        raise UserError(
            f"{texts[0] if texts else 'apply'}: this run takes no images, it makes them from noise; "
            "use `ganatomy sample RUN`"
        )
    if any(_named(text, known) for text in texts):
        return [_one_case(texts, predictor, find_all)]
    if len(texts) != 1:
        raise UserError(f"give one path, or {_usage(predictor)}; got {len(texts)} paths")
    path = Path(texts[0])
    if roles and series:
        raise UserError("--roles and --series: give patterns of file names, or of DICOM series, not both")
    if series:
        found = by_series(find_all(path), parse_patterns(series, "--series", known))
    elif roles:
        found = by_patterns(path, parse_patterns(roles, "--roles", known), find_all)
    elif path.suffix.lower() in MANIFEST_SUFFIXES:
        found = _from_manifest(path, known, find_all)
    elif len(predictor.inputs) == 1:
        return [Job(one.name, {predictor.inputs[0]: one}, _subject(path, one)) for one in find_all(path)]
    else:
        raise UserError(
            f"{path}: this system takes {', '.join(predictor.inputs)}; give {_usage(predictor)}, or this folder with "
            f"--roles {predictor.inputs[0]}='*_{predictor.inputs[0]}.nii.gz' ... or --series "
            f"{predictor.inputs[0]}='*{predictor.inputs[0].upper()}*' ..., or a CSV manifest with these columns"
        )
    jobs = [Job(name, _in_order(sources, known), subject) for name, subject, sources in found]
    lacking = {job.name: [name for name in predictor.inputs if name not in job.sources] for job in jobs}
    if all(lacking.values()):
        first = jobs[0]
        raise UserError(f"{first.main.paths[0]}: no {' and no '.join(lacking[first.name])} image beside it")
    return jobs


def in_time_frames(jobs: Sequence[Job], frames: Sequence[str]) -> list[Job]:
    """Split every job into one for each of its time frames, see `ganatomy.data.frames.in_frames`."""
    cases = [Case(job.name, job.subject, "test", job.sources) for job in jobs]
    split = in_frames(cases, frames)
    return [Job(case.name, dict(case.sources), case.subject) for case in split]  # type: ignore[arg-type]


def _subject(root: Path, source: Source) -> str:
    """Return the subject of an image: the patient of DICOM, else what names of folders and of the file tell."""
    return source.subject if source.frames else subject_of_place(place_of(root, source.places[0]))


def _usage(predictor: Predictor) -> str:
    return " ".join(f"{name}=FILE" for name in predictor.inputs)


def _named(text: str, known: Sequence[str]) -> bool:
    """Whether a text is NAME=PATH and not a path with an equals sign."""
    name, mark, _ = text.partition("=")
    return bool(mark) and (name in known or (name.isidentifier() and not Path(text).exists()))


def _one_case(texts: Sequence[str], predictor: Predictor, find_all: Callable[[Path], list[Source]]) -> Job:
    known = (*predictor.inputs, *predictor.optional)
    chosen: dict[str, Source] = {}
    for name, place in parse_patterns(texts, "input", known).items():
        found = find_all(Path(place))
        if len(found) != 1:
            raise UserError(f"{name}={place}: holds {len(found)} images; name one of them")
        chosen[name] = found[0]
    if missing := [name for name in predictor.inputs if name not in chosen]:
        raise UserError(f"{', '.join(missing)}: missing; this system needs {_usage(predictor)}")
    ordered = _in_order(chosen, known)
    first = next(iter(ordered.values()))
    return Job(first.name, ordered, first.subject)


def _in_order(sources: dict[str, Source], known: Sequence[str]) -> dict[str, Source]:
    return {name: sources[name] for name in known if name in sources}


def _from_manifest(
    path: Path, known: Sequence[str], find_all: Callable[[Path], list[Source]]
) -> list[tuple[str, str, dict[str, Source]]]:
    """Read cases from a CSV file with a column of paths per role, and columns ``name`` and ``subject``."""
    header, rows = rows_of(path)
    if not rows:
        raise UserError(f"{path}: the manifest has no rows")
    columns = {name: column_name(name) for name in known}
    if not set(columns.values()) & set(header):
        raise UserError(
            f"{path}: a manifest for this system has columns {', '.join(known)}; it has {', '.join(header)}"
        )
    cases, taken = [], set[str]()
    for where, row in rows:
        check_cells(where, {name: row[name] for name in (*columns.values(), *NAMES) if name in row}, NAMES)
        sources = {}
        for name, column in columns.items():
            if not row.get(column):
                continue
            place, part = in_parts(path.parent / row[column])
            found = find_all(place)
            if part:
                found = [volume_of(found, place, part)]
            if len(found) != 1:
                raise UserError(f"{where}: {row[column]} holds {len(found)} images; name one of them")
            sources[name] = found[0]
        if sources:
            first = next(iter(sources.values()))
            called = next((row[name] for name in NAMES if row.get(name)), first.name)
            subject = row.get("subject") or first.subject
            cases.append((unique_name(safe_name(called), taken), subject, sources))
    if not cases:
        raise UserError(f"{path}: no row names an image in a column {' or '.join(known)}")
    return cases
