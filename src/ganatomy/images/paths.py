"""File names made from header fields, and outputs that are written completely or not at all."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ganatomy.errors import UserError, shortage
from ganatomy.images.leftovers import mark, sweep_once

LOCK = "ganatomy.lock"
"""File by which a process holds a folder of results; one that was left by a killed process holds nothing."""
TEMPORARY = ".part"
"""Suffix of what is being written."""
DIGITS = 6
"""Smallest number of hexadecimal digits that tell names apart."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_name(text: str, default: str = "image") -> str:
    """Return one path component made from any text: letters, digits, ``-``, ``_``, inner dots; at most 100 bytes.

    The result is never empty, hidden, a parent reference or a device name, so it cannot point out of the folder that
    it is used in.
    """
    name = re.sub(r"[^\w.-]+", "_", text).strip("._-").encode()[:100].decode(errors="ignore").rstrip("._-")
    if not name:
        return default
    return f"{name}_" if _RESERVED.fullmatch(name) else name


def unique_name(name: str, taken: set[str]) -> str:
    """Return `name`, or `name` with the first free number appended, and add the result to `taken`.

    Names that differ in case only count as equal, because on some file systems they name one file.
    """
    candidate, number = name, 2
    while candidate.casefold() in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate.casefold())
    return candidate


def distinct_names(texts: Sequence[str], origins: Sequence[str]) -> list[str]:
    """Return a safe name for every text, all of them distinct, also where names that differ in case count as equal.

    Where several texts have one safe name, the text that is that name itself keeps it, and others get it with a digest
    of their origin: a name never passes from one file to another because of a third one, as a number would.

    Args:
        texts: texts that names are made from by `safe_name`.
        origins: where each text comes from, such as a path; all different.
    """
    names = [safe_name(text) for text in texts]
    sharing = Counter(name.casefold() for name in names)
    own = Counter(name.casefold() for name, text in zip(names, texts, strict=True) if name == text)
    found = [
        name if sharing[key := name.casefold()] == 1 or (name == text and own[key] == 1) else None
        for name, text in zip(names, texts, strict=True)
    ]
    taken = {name.casefold() for name in found if name}
    for number, (name, origin) in enumerate(zip(names, origins, strict=True)):
        if found[number] is None:
            digest = hashlib.sha256(origin.encode(errors="surrogatepass")).hexdigest()
            marked = (f"{name}-{digest[:digits]}" for digits in range(DIGITS, len(digest)))
            found[number] = unique_name(next(one for one in marked if one.casefold() not in taken), taken)
    return [str(name) for name in found]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to, which replaces `path`, or is removed on any exception.

    What killed processes have left in the folder is removed.

    Raises `UserError` when `path` cannot be written (missing rights, a folder of this name), `Shortage` on a full disk.
    """
    temporary = neighbour(path)
    with _writable(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep_once(path.parent, f".*{TEMPORARY}")
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder like `replacing` does a file: `path` must not exist yet, or be an empty folder."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not an empty folder: choose another output folder or remove it")
    temporary = neighbour(path)
    with _writable(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if path.exists():
                path.rmdir()  # empty, as seen above; Windows does not replace folders
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_free(folder: Path, own: str | None = None) -> None:
    """Refuse a folder for results that holds anything else.

    Args:
        folder: where results are to be written.
        own: name of the file by which a folder of such results is recognised; None where there can be none yet.

    Raises:
        UserError: a file of this name is in the way, or the folder is neither empty nor one of such results.
    """
    if folder.is_dir():
        there = sorted(path.name for path in folder.iterdir() if path.name != LOCK)
        if there and own not in there:
            more = f" and {len(there) - 1} more" if len(there) > 1 else ""
            raise UserError(
                f"--out {folder}: holds other things ({there[0]}{more}), among which nothing is written; choose a new "
                "or empty folder"
            )
    elif folder.exists():
        raise UserError(f"--out {folder}: a file is in the way; choose a new or empty folder")


def neighbour(path: Path) -> Path:
    """Return a temporary path beside a path, which tells the process that writes there."""
    return path.with_name(f".{path.name[:80]}.{mark()}{TEMPORARY}")


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"cannot write {path}"
        raise shortage(error, where) or UserError(f"{where}: {error.strerror or error}") from error
