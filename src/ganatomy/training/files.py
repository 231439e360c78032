"""Writing so that a killed process leaves the last good file."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from ganatomy.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary neighbour, then put it in the place of ``path``.

    Raises:
        UserError: the disk is full or the folder not writable; ``path`` is untouched.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; free some space or choose another --out") from None
    os.close(handle)
    work = Path(name)
    try:
        write(work)
        with work.open("rb") as stream:
            os.fsync(stream.fileno())
        work.chmod(0o644)
        work.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own words for it
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be written ({reason}); free some space or choose another --out") from None
    finally:
        work.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text atomically, in UTF-8."""

    def write(work: Path) -> None:
        work.write_text(text, encoding="utf-8")

    write_atomically(path, write)
