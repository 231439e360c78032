"""Cases with several images in folders, found by a pattern per role over file names or over DICOM series."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from ganatomy.data.kinds import kinds_of, suggested, unlike_images, words_of
from ganatomy.data.subjects import subject_of_place
from ganatomy.errors import Notice, UserError
from ganatomy.images.files import Source, find
from ganatomy.images.paths import distinct_names

Patterns = Mapping[str, str]
"""Role to pattern with the wildcards ``*`` and ``?``."""


@dataclass(frozen=True)
class Member:
    """A file that a role's pattern fits; the text that its wildcards stand for identifies its case.

    Attributes:
        source: source of the file.
        folder: folder above the part of the path that the pattern describes.
        stars: texts that the wildcards stand for.
        inner: first folder that the pattern describes with a wildcard; empty where there is none.
    """

    source: Source
    folder: PurePosixPath
    stars: tuple[str, ...]
    inner: str = ""


def parse_patterns(texts: Sequence[str], option: str, roles: Iterable[str]) -> dict[str, str]:
    """Parse texts ``NAME=PATTERN`` to a mapping from role to pattern.

    Args:
        texts: texts as typed.
        option: option that they were given to, for messages.
        roles: names of the existing roles.

    Raises:
        UserError: a text has no equals sign, or a role that does not exist or is named twice.
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
    """Return the cases of a folder in which a pattern per role finds the files.

    A pattern without ``/`` is compared with file names, one with ``/`` with the end of the path. The files of a folder
    belong to one case where no pattern fits two of them; otherwise files whose wildcards stand for equal texts do.

    Args:
        root: folder that is searched, with all folders below it.
        patterns: role to pattern.
        find_all: function that lists the images under a folder.

    Returns:
        Name, subject, and role to source of every case, including cases that lack a role.

    Raises:
        UserError: a pattern fits no file, or fits two files of one case.
    """
    there = find_all(root)
    members = {role: _members(root, pattern, there) for role, pattern in patterns.items()}
    used = {member.source.paths for found in members.values() for member in found}
    _tell_unread([source for source in there if source.paths not in used], "--roles")
    for role, found in members.items():
        if not found:
            raise UserError(f"{root}: no image fits --roles {role}={patterns[role]}")
    texts, origins = list[str](), list[str]()
    cases: list[tuple[str, dict[str, Source]]] = []
    for folder in dict.fromkeys(member.folder for found in members.values() for member in found):
        inside = {role: [one for one in found if one.folder == folder] for role, found in members.items()}
        for stars, group in _grouped(inside, patterns):
            way = [part for part in folder.parts if part != "."]
            texts.append("_".join([*way, *stars]))
            origins.append("/".join([*way, *stars]))
            first = next(iter(group.values()))
            patient = next((one.source.frames[0].patient for one in group.values() if one.source.frames), None)
            place = [*way, *([first.inner] if first.inner else []), "_".join(stars)]
            subject = patient or subject_of_place("/".join(place))
            cases.append((subject, {role: member.source for role, member in group.items()}))
    names = distinct_names(texts, origins)
    named = [(name, subject or name, sources) for name, (subject, sources) in zip(names, cases, strict=True)]
    for role, pattern in patterns.items():
        together: dict[str, list[Source]] = {}
        for _, subject, sources in named:
            if role in sources:
                together.setdefault(subject, []).append(sources[role])
        _check_kinds(root, role, pattern, together)
    return named


def _check_kinds(root: Path, role: str, pattern: str, subjects: Mapping[str, Sequence[Source]]) -> None:
    """Refuse a pattern that names one kind of images and fits others, too; tell where it names none and fits several.

    A pattern of wildcards alone is for images of all kinds.

    Args:
        root: folder of the data.
        role: role of the images.
        pattern: pattern of the role.
        subjects: subject to the images that the pattern fits.

    Raises:
        UserError: two images of a subject are of different kinds by their names, one of which the pattern names.
    """
    unlike = unlike_images(root, subjects)
    if unlike is None or not PurePosixPath(pattern).name.strip("*?"):
        return
    subject, first, second = unlike
    kinds = kinds_of(root, [source for own in subjects.values() for source in own])
    named = [kind for kind in kinds if kind in words_of(pattern)]
    told = f"--roles {role}={pattern}: fits {first.places[0].name} and {second.places[0].name} of {subject}, which are"
    ordered = {kind: kinds[kind] for kind in sorted(kinds, key=lambda kind: kind not in named)}
    narrower = f", such as {suggested(ordered, [role])}" if kinds else ""
    if named:
        raise UserError(
            f"{told} of different kinds by their names; give a pattern that fits one of them{narrower}, or name both "
            "in a manifest"
        )
    warnings.warn(
        f"{told} both taken for {role}, though their names differ; where they are of different kinds, give a pattern "
        f"that fits one of them{narrower}",
        Notice,
        stacklevel=4,
    )


def _tell_unread(sources: Sequence[Source], option: str) -> None:
    """Name images that cannot be read and that no pattern fits, since they may be the ones that are missing."""
    problems = [source for source in sources if source.problem]
    if problems:
        names = ", ".join(str(source.places[0]) for source in problems[:6]) + (", ..." if len(problems) > 6 else "")
        told = f"left out: images that cannot be read and fit no pattern of {option} ({len(problems)}): {names}"
        warnings.warn(f"{told}; the first: {problems[0].problem}", Notice, stacklevel=3)


def _members(root: Path, pattern: str, sources: Sequence[Source]) -> list[Member]:
    """Return the images that a pattern fits, with the folder above the part of the path that it describes."""
    depth = len(PurePosixPath(pattern).parts)
    expression = re.compile(_capturing(pattern), re.IGNORECASE)
    found = []
    for source in sources:
        place = source.places[0].parent if source.kind == "dicom" else source.places[0]
        way = PurePosixPath(place.relative_to(root).as_posix())
        end = "/".join(way.parts[-depth:])
        if fitted := expression.fullmatch(end):
            folders = zip(PurePosixPath(pattern).parts[:-1], way.parts[-depth:-1], strict=True)
            inner = next((name for part, name in folders if "*" in part or "?" in part), "")
            found.append(Member(source, PurePosixPath(*way.parts[:-depth]), fitted.groups(), inner))
    return found


def _capturing(pattern: str) -> str:
    """Return a pattern as a regular expression with one group per wildcard; adjacent wildcards are one."""
    parts = re.split(r"([*?]+)", pattern)
    return "".join(
        f"([^/]{{{part.count('?')},{'' if '*' in part else part.count('?')}}})" if part[:1] in ("*", "?") else
        re.escape(part) for part in parts
    )  # fmt: skip


def _grouped(
    inside: Mapping[str, Sequence[Member]], patterns: Patterns
) -> list[tuple[tuple[str, ...], dict[str, Member]]]:
    """Return the cases of one folder: the texts that their wildcards stand for, and role to file."""
    if all(len(found) <= 1 for found in inside.values()):
        only = {role: found[0] for role, found in inside.items() if found}
        return [(() if len(only) > 1 else next(iter(only.values())).stars, only)]
    groups: dict[tuple[str, ...], dict[str, Member]] = {}
    # Wildcards of patterns with different numbers of them are compared as one text.
    alike = len({len(member.stars) for found in inside.values() for member in found}) == 1
    for role, found in inside.items():
        for member in found:
            key = member.stars if alike else ("".join(member.stars),)
            other = groups.setdefault(key, {}).setdefault(role, member)
            if other is not member:
                _ambiguous(role, patterns[role], other.source, member.source)
    _check_spelling(groups, len(inside))
    complete = [group for group in groups.values() if len(group) == len(inside)]
    incomplete = [group for group in groups.values() if len(group) < len(inside)]
    for group in incomplete:
        for role, member in group.items():
            fitting = (other[role] for other in complete if role in other and len(inside[role]) > len(complete))
            second = next(fitting, None)
            if second is not None or (not complete and len(inside[role]) > 1):
                other = second or next(one for one in inside[role] if one is not member)
                _ambiguous(role, patterns[role], other.source, member.source)
    return [(next(iter(group.values())).stars, group) for group in groups.values()]


def _check_spelling(groups: Mapping[tuple[str, ...], Mapping[str, Member]], roles: int) -> None:
    """Refuse a case that lacks a role which a case of the same name in other letters may hold.

    Raises:
        UserError: the names of two files differ in case, or in how accents are written; the message names both.
    """
    spelt: dict[tuple[str, ...], Mapping[str, Member]] = {}
    for key, group in groups.items():
        other = spelt.setdefault(tuple(normalize("NFC", part).casefold() for part in key), group)
        if other is not group and min(len(group), len(other)) < roles:
            first, second = (next(iter(one.values())).source.places[0] for one in (other, group))
            raise UserError(
                f"{first} and {second}: their names differ in case or accents only, so it cannot be told whether they "
                "are one case; rename one of them"
            )


def _ambiguous(role: str, pattern: str, first: Source, second: Source) -> None:
    raise UserError(
        f"{role}={pattern} fits both {first.paths[0].name} and {second.paths[0].name} in {first.paths[0].parent}; "
        "give a pattern that fits one of them"
    )


def by_series(sources: Sequence[Source], patterns: Patterns) -> list[tuple[str, str, dict[str, Source]]]:
    """Return the cases of DICOM studies in which a pattern per role finds the series.

    A pattern is compared with the SeriesDescription, without regard to case, with the modality, and with the
    SeriesInstanceUID. Where a description equals the pattern, series that it only fits are left out.

    Args:
        sources: series of one or several studies.
        patterns: role to pattern.

    Returns:
        Name, subject, and role to source of every study in which a pattern fits.

    Raises:
        UserError: a pattern fits two series of a study, or no series at all.
    """
    studies: dict[str, list[Source]] = {}
    _tell_unread([source for source in sources if not source.frames], "--series")
    for source in sources:
        if source.frames:
            studies.setdefault(f"{source.subject}|{source.frames[0].study}", []).append(source)
    cases: list[tuple[str, dict[str, Source]]] = []
    for study, series in studies.items():
        chosen = {role: one for role, pattern in patterns.items() if (one := _one_series(role, pattern, series))}
        if chosen:
            cases.append((study, chosen))
    for role, pattern in patterns.items():
        if not any(role in chosen for _, chosen in cases):
            there = ", ".join(sorted({repr(title_of(source)) for one in studies.values() for source in one}))
            raise UserError(f"--series {role}={pattern}: fits no series; there are {there or 'no DICOM series'}")
    subjects = [studies[study][0].subject for study, _ in cases]
    names = distinct_names(subjects, [study for study, _ in cases])
    return [(name, subject, chosen) for name, subject, (_, chosen) in zip(names, subjects, cases, strict=True)]


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
    """Return the SeriesDescription of a DICOM series, or its number where it has none, and which volume of it it is."""
    first = source.frames[0]
    title = first.description or f"series {first.number[0]}"
    return f"{title} {source.volume}" if source.volume else title
