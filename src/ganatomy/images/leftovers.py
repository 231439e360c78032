"""Temporary files and folders, whose names tell which process works on them, and removal of those that a kill left."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import shutil
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from time import time

DAY = 24 * 60 * 60
"""Seconds after which what another machine left is taken for abandoned."""
_MARK = re.compile(r"([0-9a-f]{8})-(\d+)-[0-9a-f]{8}")


def mark() -> str:
    """Return a part of a temporary name that tells the machine and the process, and that no other name has."""
    return f"{machine()}-{os.getpid()}-{secrets.token_hex(4)}"


def sweep(folder: Path, pattern: str) -> None:
    """Remove the files and folders that match a pattern and that nobody works on any more."""
    for work in folder.glob(pattern):
        if not abandoned(work):
            continue
        if work.is_dir() and not work.is_symlink():
            shutil.rmtree(work, ignore_errors=True)
        else:
            with suppress(OSError):
                work.unlink()


@lru_cache(maxsize=64)
def sweep_once(folder: Path, pattern: str) -> None:
    """Sweep a folder unless this process has swept it before, since its listing may be long."""
    sweep(folder, pattern)


@lru_cache(maxsize=1)
def machine() -> str:
    """Return a word for this machine; containers, whose numbers of processes are their own, count as machines."""
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it is no path
    return hashlib.sha256(f"{platform.node()}|{namespace}".encode()).hexdigest()[:8]


def abandoned(work: Path) -> bool:
    """Return whether nobody works on a file or folder any more, which its name and its last change tell."""
    found = _MARK.search(work.name)
    if not found:
        return False
    if found[1] == machine() and os.name == "posix":
        return not _runs(int(found[2]))
    try:
        return time() - max(path.stat().st_mtime for path in (work, *work.rglob("*"))) > DAY
    except OSError:  # it is being removed
        return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it belongs to another user
        return True
    return True
