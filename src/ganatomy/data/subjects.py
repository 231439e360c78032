"""Subjects by the names of files and folders, where neither a header nor a manifest states them.

Both eyes of a patient, sessions and contrasts of one patient, and slices of one scan are of one subject where their
names say so: what tells such files apart is taken off the end of a name, as long as a number remains in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from re import Pattern

from ganatomy.case import Case
from ganatomy.data.kinds import CONTRASTS, OCCASIONS, SIDES
from ganatomy.errors import UserError
from ganatomy.images.archives import shown
from ganatomy.images.files import place_of
from ganatomy.metrics.statistics import count

BIDS = re.compile(r"(?:^|_)(sub-[A-Za-z0-9]+)(?=_|$)")
"""Subject of a name by the Brain Imaging Data Structure."""
MARKED = re.compile(
    r"(?<![A-Za-z0-9])((?:subject|subj|sub|patient|pat|pt|person|participant|p|id)[-_ ]?\d+)(?!\d)", re.I
)
"""Words that a number of a patient follows."""
SIDES_OF_SPLIT = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
GENERIC = frozenset(
    {"image", "images", "img", "imgs", "scan", "scans", "picture", "pictures", "volume", "volumes", "data"}
    | {"label", "labels", "mask", "masks", "imagestr", "imagests", "labelstr", "labelsts"}
    | SIDES_OF_SPLIT
)
"""Names of folders that are of no subject."""


def subject_of_name(name: str) -> str:
    """Return the subject of a file by its name without suffix; the name itself where it tells no more.

    Args:
        name: such as ``patient07_t1`` (subject patient07), ``Image_01L`` (Image_01), ``left_12`` (12), ``00000061_025``
            (00000061, a number of five or more digits with that of an image).
    """
    for known in (BIDS, MARKED):
        if told := known.search(name):
            return told[1]
    words = re.split(r"([_\-. ]+)", name)
    if words[0].lower() in SIDES - {"l", "r"} and _numbered(words[2:]):
        words = words[2:]
    while len(words) > 2 and (shorter := _shorter(words)) is not None:
        words = shorter
    if short := re.fullmatch(r"(.*\d)[lr]", "".join(words), re.IGNORECASE):
        return short[1]
    if numbered := re.fullmatch(r"(\d{5,})[_-]\d{1,3}", "".join(words)):
        return numbered[1]
    return "".join(words)


def _shorter(words: list[str]) -> list[str] | None:
    """Return words and separators without a last word that tells images of one subject apart; None without one."""
    last = re.sub(r"\d+$", "", words[-1].lower())
    if last in OCCASIONS or words[-1].lower() in (*SIDES, *CONTRASTS):
        kept = words[:-2]
    elif not last and len(words) > 4 and words[-3].lower() in OCCASIONS:
        kept = words[:-4]
    else:
        return None
    return kept if _numbered(kept) else None


def _numbered(words: Iterable[str]) -> bool:
    return any(letter.isdigit() for word in words for letter in word)


def subject_of_place(place: str, classes: bool = False) -> str:
    """Return the subject of an image by its place below the folder of the data.

    Args:
        place: path below that folder, with ``/``, without suffix.
        classes: whether folders are classes and no patients.

    Returns:
        A word for a patient in the path, else the first folder that may be one of a patient, else the name of the file.
    """
    *folders, name = place.split("/")
    for part in (*folders, name):
        if told := BIDS.search(part):
            return told[1]
    if classes:
        told = next(filter(None, map(MARKED.search, (name, *folders))), None)
        return told[1] if told else "_".join([*folders, subject_of_name(name)])
    own = next((folder for folder in folders if folder.lower() not in GENERIC), None)
    if own is not None:
        return own
    found = subject_of_name(name)
    if MARKED.search(name):
        return found
    return "_".join([*(folder for folder in folders if folder.lower() in SIDES_OF_SPLIT), found])


def compiled(pattern: str) -> Pattern[str]:
    """Return the regular expression of ``--subject-pattern``.

    Raises:
        UserError: it is none, or has several groups.
    """
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise UserError(f"--subject-pattern {pattern}: no regular expression ({error})") from None
    if found.groups > 1:
        raise UserError(f"--subject-pattern {pattern}: {found.groups} groups; put one part in brackets, the subject")
    return found


def with_pattern(cases: Sequence[Case], root: Path, pattern: str) -> list[Case]:
    """Return cases whose subjects are what a regular expression finds in the paths of their images.

    Args:
        cases: cases with files.
        root: folder of the data.
        pattern: expression that is searched in the path below this folder, without suffix; its group, or else all that
            it fits, is the subject.

    Raises:
        UserError: the expression is wrong, or fits no part of a path.
    """
    expression, found = compiled(pattern), []
    for case in cases:
        place = place_below(root, shown(next(path for source in case.sources.values() for path in source.paths)))
        told = expression.search(place)
        subject = told and (told[1] if expression.groups else told[0])
        if not subject:
            raise UserError(f"--subject-pattern {pattern}: finds no subject in {place}; correct it")
        found.append(replace(case, subject=subject))
    return found


def place_below(root: Path, path: Path) -> str:
    """Return the path of a file below a folder, without suffix, with ``/``; its name where it lies elsewhere."""
    return place_of(root if path.is_relative_to(root) and path != root else path.parent, path)


def merged(cases: Sequence[Case]) -> str | None:
    """Return a sentence on files of one folder that are of one subject by their names alone; None without any."""
    together: dict[tuple[str, Path], list[str]] = {}
    for case in cases:
        source = next(iter(case.sources.values()))
        path = next(map(shown, source.paths), None)
        told_otherwise = getattr(source, "frames", None) or (path and case.subject in path.parent.parts)
        if path is not None and not told_otherwise:
            together.setdefault((case.subject, path.parent), []).append(path.name)
    several = {key: sorted(set(own)) for key, own in together.items() if len(set(own)) > 1}
    if not several:
        return None
    (subject, _), own = next(iter(several.items()))
    total = count(len({case.subject for case in cases}), "subject")
    return (
        f"{len(cases)} cases are of {total} by their names: {own[0]} and {own[1]} are of {subject!r}; "
        "--subject-pattern says otherwise"
    )
