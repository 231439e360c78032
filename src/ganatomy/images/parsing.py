"""Guards around parsers of other packages: damaged files are named, and no file declares more than it can hold."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganatomy.errors import UserError, shortage

FOLD = 1100
"""Most bytes that one stored byte of a compressed file may stand for; deflate reaches 1,032."""
FLOOR = 64 << 20
"""Bytes that a compressed file of any size may declare, since a uniform image takes next to nothing in JPEG 2000, and
nothing at all in HDF5."""
SMALL, CEILING = 16 << 20, 2 << 30
"""Size of a file, and bytes that a compressed file below this size may declare at most."""


@contextmanager
def parsing(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a parser raises for a file into a `UserError` that names the file and has one line.

    Damaged files fail anywhere in a parser, with exceptions of any class.

    Args:
        path: file that is parsed.
        kind: kind of file that it should be, for the message, such as "NIfTI".

    Raises:
        Shortage: memory, open files or the disk of this machine are short, and the file is not at fault.
        UserError: the file cannot be read.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        short = shortage(error, path)
        told = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        lines = str(told).splitlines()
        told = " ".join(lines[: 2 if lines[0].endswith(":") else 1])  # some say in the second line what is wrong
        raise short or UserError(f"{path} cannot be read as {kind} ({told}): copy or export it again") from error


def check_size(path: Path, declared: int, stored: int | None = None, *, compressed: bool = False) -> None:
    """Refuse a file that declares more than it can hold, before any memory is reserved for it.

    Uncompressed data must all be stored. Compressed data may be `FLOOR` bytes or `FOLD` times the stored ones,
    whichever is more, but at most `CEILING` bytes in a file of less than `SMALL` bytes.

    Args:
        path: file.
        declared: bytes that its header declares.
        stored: bytes that hold them; those of the whole file when not given.
        compressed: whether the data are compressed, or may be left out where they are uniform.

    Raises:
        UserError: the file is too small.
    """
    stored = path.stat().st_size if stored is None else stored
    if not compressed and declared > stored:
        raise UserError(f"{path} is truncated: {stored} of {declared} bytes; copy or export it again")
    limit = max(FLOOR, FOLD * stored)
    if declared > (min(limit, CEILING) if stored < SMALL else limit):
        raise UserError(
            f"{path} declares {declared} bytes, more than {stored} stored bytes can hold; copy or export it again"
        )


def exists(path: Path) -> bool:
    """Return whether there is a file or folder; unlike `Path.exists`, False where it cannot be looked up."""
    try:
        return path.exists()
    except OSError as error:
        if short := shortage(error, path):
            raise short from error
        return False


def fault(path: Path) -> str | None:
    """Return why there is nothing to read in a file, such as a link to nowhere; None where there is something."""
    try:
        state = path.stat()
    except OSError as error:
        if short := shortage(error, path):
            raise short from error
        if path.is_symlink():
            return f"{path} is a link to a file that is not there: copy the file itself"
        return f"{path} cannot be read: {error.strerror or error}"
    if not stat.S_ISREG(state.st_mode):
        return f"{path} is no regular file: move it elsewhere"
    return None if state.st_size else f"{path} is empty: copy or export it again"
