"""The Brain Imaging Data Structure: ``sub-01/[ses-1/]anat/sub-01_[ses-1_]T1w.nii.gz``, label maps in derivatives.

Suffixes of files are the names of roles: ``T1w`` is the role t1w or t1, ``FLAIR`` flair. A file with contrast agent
(``ce-gadolinium``) is t1c, t1ce or t1gd. A system of one image takes the only suffix that there is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ganatomy.case import Openable, Task
from ganatomy.data.found import Find, Found, Unfit, images_of, tell
from ganatomy.data.splits import some
from ganatomy.data.tables import LABEL_COLUMNS, rows_of, site_column, site_of
from ganatomy.errors import UserError
from ganatomy.images.files import Source

PARTICIPANTS = "participants.tsv"
KINDS = ("anat", "func", "dwi", "fmap", "perf", "pet", "micr", "mrs")
"""Folders of a subject or session."""
ASIDE = ("derivatives", "sourcedata", "code", "stimuli", "phenotype")
"""Folders beside those of subjects."""
LABELS = ("dseg", "mask")
"""Suffixes of label maps."""
REGIONS = frozenset({"lesion", "lesions", "tumor", "tumour", "roi"})
"""Values of the entities ``label`` and ``desc`` with which a mask is one of what systems learn."""


class File(NamedTuple):
    """A file of a subject."""

    source: Source
    entities: Mapping[str, str]
    suffix: str

    @property
    def session(self) -> str:
        """Session; empty where there is one only."""
        return self.entities.get("ses", "")


def is_bids(folder: Path) -> bool:
    """Return whether a folder holds subjects with a folder for a kind of data, with or without sessions."""
    subjects = sorted(folder.glob("sub-*"))[:20]
    return any(
        (inner / kind).is_dir() for one in subjects for inner in (one, *one.glob("ses-*")) for kind in KINDS
    )  # fmt: skip


def without_derivatives(folder: Path, sources: Sequence[Source], patterns: Sequence[str]) -> list[Source]:
    """Return the images of subjects, for patterns of names, which images in the derivatives fit, too.

    Args:
        folder: folder of the data set.
        sources: images below it.
        patterns: patterns as typed; those of a folder that one names are kept.
    """
    aside = {name for name in ASIDE if not any(name in text for text in patterns)}
    left = [one for one in sources if one.places[0].relative_to(folder).parts[0] in aside]
    places = sorted({one.places[0].relative_to(folder).parts[0] for one in left})
    tell(folder, f"images in {', '.join(places)} are left out unless a pattern names the folder ({len(left)})", left)
    ids = {id(one) for one in left}
    return [one for one in sources if id(one) not in ids]


def cases_of_bids(task: Task, folder: Path, find: Find) -> list[Found]:
    """Return the cases of a data set, one for each session, or for each run where a session has several.

    Raises:
        Unfit: suffixes and roles do not fit together, or a session has several files of one role.
    """
    subjects, labels, sites = _participants(folder)
    files: dict[str, list[File]] = {}
    empty = []
    for place in sorted(one for one in folder.glob("sub-*") if one.is_dir()):
        try:
            files[place.name] = [file for source in find(place) if (file := _file(source))]
        except UserError:
            empty.append(place.name)
    tell(folder, f"subjects without an image: {some(empty)}", empty)
    lost = sorted(set(subjects) - {*files, *empty})
    tell(folder, f"{PARTICIPANTS} names subjects without a folder: {some(lost)}", lost)
    there = Counter(file.suffix for own in files.values() for file in own if file.suffix not in LABELS)
    roles = _roles(task, folder, [file for own in files.values() for file in own if file.suffix not in LABELS])
    unused = {suffix: count for suffix, count in there.items() if suffix not in {one for one, _ in roles}}
    if unused:
        tell(folder, f"not used: {', '.join(f'{name} ({count})' for name, count in sorted(unused.items()))}", unused)
    maps = _label_maps(task, folder, find)
    found = []
    for subject, own in files.items():
        for name, sources in _sessions(subject, own, roles, folder):
            session = name.split("_")[1] if "_ses-" in name else ""
            chosen: dict[str, Openable] = dict(sources)
            if (there_is := maps.get((subject, session))) is not None and sources:
                chosen[task.label_maps[0]] = there_is
            found.append(Found(name, subject, "train", chosen, labels.get(subject), True, sites.get(subject)))
    return found


def _participants(folder: Path) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Return the subjects of ``participants.tsv``, subject to class, and subject to site, where it has such columns."""
    path = folder / PARTICIPANTS
    if not path.is_file():
        return [], {}, {}
    header, rows = rows_of(path)
    if "participant_id" not in header:
        raise UserError(f"{path}: no column participant_id, which names the subjects; add it or remove the file")
    column = next((name for name in LABEL_COLUMNS if name in header), None)
    names = [row["participant_id"] for _, row in rows]
    names = [name if name.startswith("sub-") else f"sub-{name}" for name in names]
    words = [row[column] if column else "" for _, row in rows]
    labels = {name: word for name, word in zip(names, words, strict=True) if word not in ("", "n/a")}
    sites = site_column(header)
    told = {name: site_of(row[sites]) for name, (_, row) in zip(names, rows, strict=True)} if sites else {}
    return names, labels, {name: site for name, site in told.items() if site}


def _file(source: Source) -> File | None:
    stem = source.places[0].name.partition(".")[0]
    *parts, suffix = stem.split("_")
    if source.kind == "dicom" or not parts:
        return None
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    return File(source, entities, suffix)


def _roles(task: Task, folder: Path, files: Sequence[File]) -> dict[tuple[str, bool], str]:
    """Return suffix, and whether with contrast agent, to role.

    Raises:
        Unfit: the images cannot be assigned.
    """
    images = images_of(task)
    kinds = dict.fromkeys((file.suffix, _enhanced(file)) for file in files)
    by_name = {kind: role for kind in kinds for role in images if role in _names(*kind)}
    if by_name and task.usable(by_name.values()):
        return by_name
    words = sorted({suffix + (" with ce-" if enhanced else "") for suffix, enhanced in kinds})
    if len(kinds) == 1 and task.usable([task.given]) and task.given in images:
        return {next(iter(kinds)): task.given}
    usual = words[0].split(" ")[0] if words else "T1w"
    raise Unfit(
        f"{folder}: its subjects have the images {', '.join(words) or 'none'}, and this system takes "
        f"{', '.join(images)}; say which is which, such as --roles {task.given}='*_{usual}.nii.gz'"
    )


def _enhanced(file: File) -> bool:
    return "ce" in file.entities


def _names(suffix: str, enhanced: bool) -> set[str]:
    """Return the names of roles that a suffix may have."""
    name = re.sub(r"\W", "_", suffix).lower()
    short = name.removesuffix("w")
    return {f"{short}{end}" for end in ("c", "ce", "gd")} if enhanced else {name, short}


def _sessions(
    subject: str, files: Sequence[File], roles: Mapping[tuple[str, bool], str], folder: Path
) -> list[tuple[str, dict[str, Source]]]:
    """Return name and sources of the cases of one subject."""
    found: list[tuple[str, dict[str, Source]]] = []
    for session in dict.fromkeys(file.session for file in files):
        own = [file for file in files if file.session == session and (file.suffix, _enhanced(file)) in roles]
        title = f"{subject}_ses-{session}" if session else subject
        by_role: dict[str, list[File]] = {}
        for file in own:
            by_role.setdefault(roles[file.suffix, _enhanced(file)], []).append(file)
        if all(len(several) == 1 for several in by_role.values()):
            found += [(title, {role: several[0].source for role, several in by_role.items()})] if by_role else []
        elif len(by_role) == 1:
            ((role, several),) = by_role.items()
            found += [(file.source.places[0].name.partition(".")[0], {role: file.source}) for file in several]
        else:
            found += _runs(title, by_role, folder)
    return found


def _runs(title: str, by_role: Mapping[str, Sequence[File]], folder: Path) -> list[tuple[str, dict[str, Source]]]:
    runs: dict[str, dict[str, Source]] = {}
    for role, several in by_role.items():
        for file in several:
            other = runs.setdefault(file.entities.get("run", ""), {}).setdefault(role, file.source)
            if other is not file.source:
                raise Unfit(
                    f"{folder}: {other.places[0].name} and {file.source.places[0].name} are both {role} of {title}; "
                    f"choose with --roles, such as {role}='*_acq-NAME_*.nii.gz'"
                )
    return [(f"{title}_run-{run}" if run else title, sources) for run, sources in runs.items()]


def _label_maps(task: Task, folder: Path, find: Find) -> dict[tuple[str, str], Source]:
    """Return subject and session to its label map in the derivatives, for the first label map of the system.

    A map called after the role is preferred, then a discrete segmentation, then a mask of a lesion; masks of other
    things, such as the brain, are not used.
    """
    if not task.label_maps or not (folder / "derivatives").is_dir():
        return {}
    role, ranked = task.label_maps[0], dict[tuple[str, str], list[tuple[int, Source]]]()
    places = [one for one in (folder / "derivatives").glob("**/sub-*") if one.is_dir()]
    for place in sorted(places):
        try:
            sources = find(place)
        except UserError:
            continue
        for file in filter(None, map(_file, sources)):
            told = {file.entities.get(name, "").lower() for name in ("label", "desc")} - {""}
            rank = 0 if role in told else 1 if file.suffix == "dseg" else 2 if not told or told & REGIONS else 3
            if file.suffix in LABELS and rank < 3:
                ranked.setdefault((place.name, f"ses-{file.session}" if file.session else ""), []).append(
                    (rank, file.source)
                )
    found = {}
    for key, several in ranked.items():
        best = min(rank for rank, _ in several)
        first, *others = [source for rank, source in several if rank == best]
        if others:
            raise Unfit(
                f"{folder}: {first.places[0]} and {others[0].places[0]} could both be the {role} of {key[0]}; choose "
                f"with --roles, or name one with label-{role}"
            )
        found[key] = first
    return found
