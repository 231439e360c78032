"""Content of cases as a run remembers it, so that data that changed since it began are noticed.

A run records for every case a keyed digest of the content of its files and of how they are read. It does not depend on
where the files lie, so a data folder may be moved, and it reveals nothing without the secret of the user.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ganatomy.case import READING_ATTRIBUTES, Case
from ganatomy.data.pseudonyms import SHOWN, SHOWN_OF_CASE, Pseudonyms
from ganatomy.data.splits import some
from ganatomy.errors import UserError, shortage
from ganatomy.images.paths import replacing

Contents = Mapping[str, Mapping[str, str]]
"""Pseudonym of a subject to the pseudonyms of its cases, and these to their digests of content."""
FOLDER = "contents"
"""Folder in the cache with digests of files, by their paths, sizes and times, since reading all files takes long."""
DIGEST = re.compile("[0-9a-f]{64}")


def content_of(case: Case, pseudonyms: Pseudonyms, cache: Path, root: Path | None = None) -> str:
    """Return the keyed digest of the content of a case, 16 hexadecimal digits.

    Args:
        case: case whose files are read, unless none has changed since they were read last.
        pseudonyms: keyed by the secret of the user.
        cache: folder of prepared cases, in which unkeyed digests are kept.
        root: folder of the data; its own name may change and does not count as a label.

    Raises:
        Shortage: the machine lacks what is needed to read the files.
    """
    if root and case.label == root.name:
        case = replace(case, label=None)
    try:
        return pseudonyms.content(_kept(cache, case))
    except OSError as error:
        if short := shortage(error, case.name):
            raise short from None
        # The preparation of the case names the file and the reason.
        return pseudonyms.content("cannot be read")


def contents_of(
    cases: Iterable[Case], pseudonyms: Pseudonyms, content: Callable[[Case], str]
) -> dict[str, dict[str, str]]:
    """Return the contents of cases as a run file holds them, in an order that does not depend on names.

    Args:
        cases: all cases of a run.
        pseudonyms: keyed by the secret of the user.
        content: returns the digest of a case, see `content_of`.
    """
    found: dict[str, dict[str, str]] = {}
    for case in cases:
        found.setdefault(pseudonyms.subject(case.subject), {})[pseudonyms.case(case.name)] = content(case)
    return {subject: dict(sorted(own.items())) for subject, own in sorted(found.items())}


class Changes(NamedTuple):
    """Differences between the cases that a run began with and those that are there now."""

    added: Sequence[Case]
    """Cases that the run did not begin with."""
    missing: Sequence[str]
    """Labels of cases that are not there any more, as in reports."""
    changed: Sequence[Case]
    """Cases whose content differs."""

    def __str__(self) -> str:
        parts = {
            "added": [case.name for case in self.added],
            "missing": self.missing,
            "changed": [case.name for case in self.changed],
        }
        return "; ".join(f"{what}: {some(names)}" for what, names in parts.items() if names)


def changes_of(
    cases: Iterable[Case], recorded: Contents, pseudonyms: Pseudonyms, content: Callable[[Case], str]
) -> Changes:
    """Compare cases with those that a run recorded.

    Args:
        cases: cases that exist now.
        recorded: contents of the cases that are looked for.
        pseudonyms: pseudonyms under the secret of the run.
        content: returns the digest of a case, see `content_of`.
    """
    lost = {(subject, one): digest for subject, own in recorded.items() for one, digest in own.items()}
    added, changed = [], []
    for case in cases:
        known = lost.pop((pseudonyms.subject(case.subject), pseudonyms.case(case.name)), None)
        if known is None:
            added.append(case)
        elif known != content(case):
            changed.append(case)
    return Changes(added, [f"{subject[:SHOWN]}-{one[:SHOWN_OF_CASE]}" for subject, one in lost], changed)


def _kept(cache: Path, case: Case) -> str:
    """Return the unkeyed digest of a case, read from a file of the cache or written there."""
    path = cache / FOLDER / case.fingerprint[:32]
    if path.is_file() and DIGEST.fullmatch(found := path.read_text(encoding="utf-8", errors="replace")):
        return found
    facts = [
        (
            role,
            [_digest(one, one.stat().st_size, one.stat().st_mtime_ns) for one in source.paths] or repr(source),
            [repr(getattr(source, name, None)) for name in READING_ATTRIBUTES],
        )
        for role, source in sorted(case.sources.items())
    ]
    digest = hashlib.sha256(repr((facts, case.label, case.resample_to, case.frame)).encode()).hexdigest()
    try:
        for folder in (cache, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(path) as work:
            work.write_text(digest, encoding="utf-8")
    except (OSError, UserError) as error:  # a cache that cannot be written costs time only
        if short := shortage(error, path):
            raise short from None
    return digest


@lru_cache(maxsize=1024)
def _digest(path: Path, size: int, time: int) -> str:
    """Return the digest of a file, which several cases may share."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
