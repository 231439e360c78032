"""Cases of several images in folders: a pattern per role over file names, or over the series of DICOM studies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from ganatomy.errors import UserError
from ganatomy.images.files import Source, find
from ganatomy.images.paths import safe_name, unique_name

Patterns = Mapping[str, str]
"""Role to pattern with ``*`` and ``?``."""


@dataclass(frozen=True)
class Member:
    """A file that plays a role: what its pattern's stars stand for tells which case it belongs to.

    Attributes:
        source: the file.
        folder: above the part of the path that the pattern describes.
        stars: what the pattern's stars stand for.
        inner: the first folder that the pattern describes with a star; empty where there is none.
    """

    source: Source
    folder: PurePosixPath
    stars: tuple[str, ...]
    inner: str = ""


def parse_patterns(texts: Sequence[str], option: str, roles: Iterable[str]) -> dict[str, str]:
    """``NAME=PATTERN`` texts by role.

    Args:
        texts: as typed.
        option: that they were given to.
        roles: which there are.

    Raises:
        UserError: no equals sign, a role that does not exist, or one that is named twice.
    """
    known, found = list(roles), dict[str, str]()
    for text in texts:
        name, mark, pattern = text.partition("=")
        if not mark or not pattern:
            raise UserError(f"{option} {text!r}: give NAME=PATTERN, such as {known[0]}='*_{known[0]}.nii.gz'")
        if name not in known:
            raise UserError(f"{option} {text!r}: there is no role {name!r}; this system has {', '.join(known)}")
        if name in found:
            raise UserError(f"{option}: {name} is given twice ({found[name]} and {pattern}); give one pattern")
        found[name] = pattern
    return found


def by_patterns(
    root: Path, patterns: Patterns, find_all: Callable[[Path], list[Source]] = find
) -> list[tuple[str, str, dict[str, Source]]]:
    """Cases of a folder whose files are told apart by a pattern per role.

    A pattern without ``/`` is compared with file names, one with ``/`` with the end of the path. The files of a folder
    belong to one case where no pattern fits two of them; otherwise files whose stars stand for the same text do.

    Args:
        root: searched with all folders below it.
        patterns: of the roles.
        find_all: lists the images under a folder.

    Returns:
        Name, subject, and role to source of every case, also of those that lack a role.

    Raises:
        UserError: a pattern fits no file, or fits two files of one case.
    """
    members = {role: _members(root, pattern, find_all(root)) for role, pattern in patterns.items()}
    for role, found in members.items():
        if not found:
            raise UserError(f"{root}: no image fits --roles {role}={patterns[role]}")
    cases: list[tuple[str, str, dict[str, Source]]] = []
    taken: set[str] = set()
    for folder in dict.fromkeys(member.folder for found in members.values() for member in found):
        inside = {role: [one for one in found if one.folder == folder] for role, found in members.items()}
        for stars, group in _grouped(inside, patterns):
            way = [part for part in folder.parts if part != "."]
            name = unique_name(safe_name("_".join([*way, *stars])) or "case", taken)
            first = next(iter(group.values()))
            patient = next((one.source.frames[0].patient for one in group.values() if one.source.frames), None)
            subject = patient or (way[0] if way else first.inner or "".join(stars) or name)
            cases.append((name, subject, {role: member.source for role, member in group.items()}))
    return cases


def _members(root: Path, pattern: str, sources: Sequence[Source]) -> list[Member]:
    """The images that fit a pattern, with the folder above the part of the path that it describes."""
    depth = len(PurePosixPath(pattern).parts)
    expression = re.compile(_capturing(pattern), re.IGNORECASE)
    found = []
    for source in sources:
        place = source.paths[0].parent if source.kind == "dicom" else source.paths[0]
        way = PurePosixPath(place.relative_to(root).as_posix())
        end = "/".join(way.parts[-depth:])
        if fitted := expression.fullmatch(end):
            folders = zip(PurePosixPath(pattern).parts[:-1], way.parts[-depth:-1], strict=True)
            inner = next((name for part, name in folders if "*" in part or "?" in part), "")
            found.append(Member(source, PurePosixPath(*way.parts[:-depth]), fitted.groups(), inner))
    return found


def _capturing(pattern: str) -> str:
    """A pattern with stars and question marks as a regular expression whose groups are what they stand for."""
    parts = re.split(r"(\*|\?)", pattern)
    return "".join("([^/]*)" if part == "*" else "([^/])" if part == "?" else re.escape(part) for part in parts)


def _grouped(
    inside: Mapping[str, Sequence[Member]], patterns: Patterns
) -> list[tuple[tuple[str, ...], dict[str, Member]]]:
    """The cases of one folder: what their stars stand for, and their members by role."""
    if all(len(found) <= 1 for found in inside.values()):
        only = {role: found[0] for role, found in inside.items() if found}
        return [(() if len(only) > 1 else next(iter(only.values())).stars, only)]
    groups: dict[str, dict[str, Member]] = {}
    for role, found in inside.items():
        for member in found:
            key = "".join(member.stars).lower()
            other = groups.setdefault(key, {}).setdefault(role, member)
            if other is not member:
                _ambiguous(role, patterns[role], other.source, member.source)
    whole = [group for group in groups.values() if len(group) == len(inside)]
    loose = [group for group in groups.values() if len(group) < len(inside)]
    for group in loose:
        for role, member in group.items():
            rival = next((other[role] for other in whole if role in other and len(inside[role]) > len(whole)), None)
            if rival is not None or (not whole and len(inside[role]) > 1):
                other = rival or next(one for one in inside[role] if one is not member)
                _ambiguous(role, patterns[role], other.source, member.source)
    return [(next(iter(group.values())).stars, group) for group in groups.values()]


def _ambiguous(role: str, pattern: str, first: Source, second: Source) -> None:
    raise UserError(
        f"{role}={pattern} fits both {first.paths[0].name} and {second.paths[0].name} in {first.paths[0].parent}; "
        "give a pattern that fits one of them"
    )


def by_series(sources: Sequence[Source], patterns: Patterns) -> list[tuple[str, str, dict[str, Source]]]:
    """Cases of DICOM studies whose series are told apart by a pattern per role.

    A pattern is compared with the SeriesDescription, without regard to case, with the modality, and with the
    SeriesInstanceUID. A description that equals the pattern goes before those that it merely fits.

    Args:
        sources: of one or several studies.
        patterns: of the roles.

    Returns:
        Name, subject, and role to source of every study in which a pattern fits.

    Raises:
        UserError: a pattern fits two series of a study, or no series at all.
    """
    studies: dict[str, list[Source]] = {}
    for source in sources:
        if source.frames:
            studies.setdefault(f"{source.subject}|{source.frames[0].study}", []).append(source)
    cases: list[tuple[str, str, dict[str, Source]]] = []
    taken: set[str] = set()
    for series in studies.values():
        chosen = {role: one for role, pattern in patterns.items() if (one := _one_series(role, pattern, series))}
        if chosen:
            subject = series[0].subject
            cases.append((unique_name(safe_name(subject), taken), subject, chosen))
    for role, pattern in patterns.items():
        if not any(role in chosen for _, _, chosen in cases):
            there = ", ".join(sorted({repr(title_of(source)) for one in studies.values() for source in one}))
            raise UserError(f"--series {role}={pattern}: fits no series; there are {there or 'no DICOM series'}")
    return cases


def _one_series(role: str, pattern: str, series: Sequence[Source]) -> Source | None:
    wanted = pattern.lower()
    exact = [source for source in series if title_of(source).lower() == wanted]
    fitting = exact or [source for source in series if _fits(source, wanted)]
    if len(fitting) > 1:
        names = " and ".join(f"{title_of(one)!r} (number {one.frames[0].number[0]})" for one in fitting[:2])
        raise UserError(
            f"--series {role}={pattern}: fits {names} of {fitting[0].subject}; give a pattern that fits one of them"
        )
    return fitting[0] if fitting else None


def _fits(source: Source, pattern: str) -> bool:
    names = (title_of(source), source.modality or "", source.frames[0].series)
    return any(fnmatchcase(name.lower(), pattern) for name in names if name)


def title_of(source: Source) -> str:
    """The SeriesDescription of a DICOM series, or its number where it has none."""
    first = source.frames[0]
    return first.description or f"series {first.number[0]}"
