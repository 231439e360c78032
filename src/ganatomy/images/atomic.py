"""Atomic writing of files and of folders of results, which belong to one process at a time."""

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from ganatomy.errors import UserError, shortage
from ganatomy.images.paths import LOCK, replacing


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
    """Write text atomically, in UTF-8; parts of names that are not Unicode are written as escape sequences."""

    def write(work: Path) -> None:
        work.write_text(text, encoding="utf-8", errors="backslashreplace")

    write_atomically(path, write)


def make_folder(folder: Path) -> None:
    """Make a folder for results where it does not exist.

    Raises:
        UserError: the folder cannot be made.
    """
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def locked(folder: Path, lock: Path | None = None) -> Iterator[None]:
    """Hold a folder for this process alone; the lock ends with the process, in whatever way that ends.

    Args:
        folder: folder of results, for the messages.
        lock: file that is locked and removed at the end; None means `LOCK` in the folder, which must exist.

    Raises:
        UserError: another process holds the folder, or the lock cannot be made.
    """
    lock = lock or folder / LOCK
    held = FileLock(lock, blocking=False)
    with _told(folder):
        try:
            held.acquire()
        except Timeout:
            raise UserError(
                f"--out {folder}: another process is writing there; wait until it is done, or choose another folder"
            ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # a file that is locked cannot be removed on Windows
            lock.unlink(missing_ok=True)
        held.release()


@contextmanager
def replacing_results(folder: Path, own: Collection[str]) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``folder`` as a whole at the end, and is removed on any exception.

    Whenever the process is killed, ``folder`` holds either the old results or the new ones: where the kill falls
    between the two renames, neither, and the next call puts the new ones there.

    Args:
        folder: folder of results, made where it does not exist.
        own: names of the results; other things in the folder are kept.

    Raises:
        UserError: another process is writing there, or the folder cannot be replaced.
    """
    place = folder.resolve()
    if place.is_mount() or place in (Path.cwd(), *Path.cwd().parents):
        raise UserError(f"--out {folder}: this folder cannot be replaced as a whole; choose a folder inside of it")
    fresh, old, lock = (place.with_name(f".{place.name}.{mark}") for mark in ("new", "old", "lock"))
    with _told(folder):
        place.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder, lock):
        with _told(folder):
            if old.exists() and not place.exists():
                (fresh if fresh.exists() else old).replace(place)
            _remove(fresh, old)
            fresh.mkdir()
        try:
            yield fresh
            with _told(folder):
                _keep_others(place, fresh, own)
                if place.exists():
                    place.replace(old)
                fresh.replace(place)
        finally:
            if old.exists() and not place.exists():
                old.replace(place)
            _remove(fresh, old)


@contextmanager
def replacing_together(folder: Path, own: Collection[str]) -> Iterator[Path]:
    """Yield a temporary folder whose files replace the results in ``folder`` at the end; on any exception none does.

    All old results are removed before the first new one appears, so that old and new ones are never found together.

    Args:
        folder: folder of results, which may hold other things and must exist.
        own: names of the old results.

    Raises:
        UserError: the folder cannot be written.
    """
    work = folder / ".results.new"
    _remove(work)
    with _told(folder):
        work.mkdir()
    try:
        yield work
        with _told(folder):
            for name in own:
                (folder / name).unlink(missing_ok=True)
            for file in sorted(work.iterdir()):
                file.replace(folder / file.name)
    finally:
        _remove(work)


def _keep_others(place: Path, fresh: Path, own: Collection[str]) -> None:
    for path in place.iterdir() if place.is_dir() else ():
        if path.name in own:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, fresh / path.name, symlinks=True)
        else:
            shutil.copy2(path, fresh / path.name, follow_symlinks=False)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        short = shortage(error, folder)
        raise short or UserError(
            f"--out {folder}: {error.strerror or error}; choose a folder you may write to"
        ) from None
