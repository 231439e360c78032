"""Writing so that a killed process leaves the last good file."""

import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from ganatomy.errors import UserError
from ganatomy.images.paths import replacing


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary neighbour, which takes the place of ``path`` once it is safely on the disk.

    Raises:
        UserError: the disk is full or the folder not writable; ``path`` is untouched.
    """
    with replacing(path) as work:
        try:
            write(work)
        except (RuntimeError, SafetensorError) as error:  # torch and safetensors have their own words for a full disk
            reason = str(error).splitlines()[0]
            raise UserError(f"cannot write {path}: {reason}; free some space or choose another --out") from None
        with work.open("rb") as stream:
            os.fsync(stream.fileno())


def write_text(path: Path, text: str) -> None:
    """Write text atomically, in UTF-8."""

    def write(work: Path) -> None:
        work.write_text(text, encoding="utf-8")

    write_atomically(path, write)
