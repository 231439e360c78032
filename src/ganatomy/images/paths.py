"""File names made from header fields, and outputs that appear whole or not at all."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganatomy.errors import UserError

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_name(text: str, default: str = "image") -> str:
    """One path component from any text: letters, digits, ``-``, ``_``, inner dots; at most 100 bytes.

    The result never is empty, hidden, a parent reference or a device name, so it cannot leave the folder it
    is put in.
    """
    name = re.sub(r"[^\w.-]+", "_", text).strip("._-").encode()[:100].decode(errors="ignore").rstrip("._-")
    if not name:
        return default
    return f"{name}_" if _RESERVED.fullmatch(name) else name


def unique_name(name: str, taken: set[str]) -> str:
    """`name`, or `name` with the first free number behind it; remembers the answer in `taken`.

    Case does not distinguish names, because on some file systems it does not distinguish files.
    """
    candidate, number = name, 2
    while candidate.casefold() in taken:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate.casefold())
    return candidate


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; it becomes `path`, or vanishes on any exception.

    Raises `UserError` when the place cannot be written (missing rights, full disk, a folder in the way).
    """
    temporary = _neighbour(path)
    with _writable(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Like `replacing`, for a folder: `path` must not exist yet, or be empty, so that no two results mix."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} exists and is not an empty folder: choose another output folder or remove it")
    temporary = _neighbour(path)
    with _writable(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if path.exists():
                path.rmdir()  # empty, as seen above; Windows does not replace folders
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _neighbour(path: Path) -> Path:
    return path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}.part")


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
