"""Atomic writing of files, so that a killed process leaves the previous file intact."""

import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from ganatomy.errors import UserError
from ganatomy.images.paths import replacing


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` with a temporary path, which replaces ``path`` once its content is safely on the disk.

    Raises:
        UserError: the disk is full or the folder cannot be written; ``path`` is unchanged.
    """
    with replacing(path) as work:
        try:
            write(work)
        except (RuntimeError, SafetensorError) as error:  # torch and safetensors report a full disk in these ways
            reason = str(error).splitlines()[0]
            raise UserError(f"cannot write {path}: {reason}; free some space or choose another --out") from None
        with work.open("rb") as stream:
            os.fsync(stream.fileno())


def write_text(path: Path, text: str) -> None:
    """Write text atomically, in UTF-8."""

    def write(work: Path) -> None:
        work.write_text(text, encoding="utf-8")

    write_atomically(path, write)
