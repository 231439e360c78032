"""Zip archives of images, and DICOM files compressed by gzip, unpacked into a folder that ends with the process."""

from __future__ import annotations

import atexit
import gzip
import hashlib
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO
from unicodedata import normalize
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from ganatomy.errors import Shortage, UserError
from ganatomy.images.leftovers import machine, mark, sweep_once
from ganatomy.images.parsing import check_size, fault, parsing

ZIP = ".zip"
ZIPPED = (".dcm.gz", ".ima.gz", ".dicom.gz")
"""Endings of DICOM files that gzip has compressed."""
SUFFIXES = (ZIP, *ZIPPED)
_ARCHIVES = (ZIP, ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar", *ZIPPED)
"""Endings of archives, and of files compressed twice, which are refused inside of an archive."""
DIRECTORY = 32 << 20
"""Most bytes of the list of members of an archive, of which Python makes about ten times as many."""
_PIECE = 1 << 20
_PREFIX = "ganatomy-unpacked-"
_END, _WIDE_END = b"PK\x05\x06", b"PK\x06\x06"


@dataclass
class Unpacked:
    """Files that were unpacked from archives, and those that were not.

    Attributes:
        files: files that were unpacked; `shown` tells where each comes from.
        damaged: where an unpacked file would lie, to the reason why it could not be unpacked.
        refused: member of an archive, or archive, to the reason why it is not read.
    """

    files: list[Path] = field(default_factory=list)
    damaged: dict[Path, str] = field(default_factory=dict)
    refused: dict[Path, str] = field(default_factory=dict)


_PLACES: dict[Path, Path] = {}
"""Folder or file that was unpacked in this process to the archive, folder or compressed file that it comes from."""
_DONE: dict[tuple[str, str, int, int], Unpacked] = {}
"""Archives of this process by their path as given and as resolved, their size and time."""


def is_archive(path: Path) -> bool:
    """Return whether a name is that of a zip archive or of a compressed DICOM file."""
    return path.name.lower().endswith(SUFFIXES)


def shown(path: Path) -> Path:
    """Return an unpacked path as its place in the archive, such as ``scan.zip/ct/001.dcm``; others as they are."""
    if not _PLACES:
        return path
    for place in (path, *path.parents):
        if place in _PLACES:
            return _PLACES[place] / path.relative_to(place)
    return path


def archive_of(path: Path) -> Path:
    """Return the zip archive that an unpacked path comes from, or the compressed file; other paths as they are."""
    place = shown(path)
    if place == path:
        return path
    inside = (one for one in (place, *place.parents) if one in _PLACES.values())
    return next((one for one in inside if one.name.lower().endswith(ZIP)), place)


def in_words(text: str) -> str:
    """Return a text in which unpacked paths are shown as their places in archives."""
    if _PREFIX not in text:
        return text
    for place in sorted(_PLACES, key=lambda path: -len(str(path))):
        text = text.replace(str(place), str(_PLACES[place]))
    return text


@contextmanager
def told() -> Iterator[None]:
    """Name the archive and its member in errors that name an unpacked file."""
    try:
        yield
    except UserError as error:
        if (text := in_words(str(error))) == str(error):
            raise
        raise type(error)(text) from error


def unpack(paths: Sequence[Path]) -> Unpacked:
    """Unpack archives and compressed files, each once in a process unless it has changed.

    Args:
        paths: files for which `is_archive` holds.

    Raises:
        Shortage: the disk is too small; damaged and unsafe archives are listed instead.
    """
    whole = Unpacked()
    for path in paths:
        if problem := fault(path):
            whole.refused[path] = problem
            continue
        state = path.stat()
        key = str(path), str(path.resolve()), state.st_size, state.st_mtime_ns
        if key not in _DONE:
            _DONE[key] = _unzip(path) if path.name.lower().endswith(ZIP) else _gunzip(path)
        whole.files += _DONE[key].files
        whole.damaged |= _DONE[key].damaged
        whole.refused |= _DONE[key].refused
    return whole


def _gunzip(path: Path) -> Unpacked:
    """Unpack one file. Those of a folder lie in one folder again, so that a damaged slice is known as one of them."""
    folder = _folder(path.parent) / (path.parent.name or "files")
    file = folder / path.name[: -len(".gz")]
    _PLACES[folder], _PLACES[file] = path.parent, path
    try:
        with parsing(path, "a file compressed by gzip"), gzip.open(path) as stream:
            folder.mkdir(parents=True, exist_ok=True)
            _copy(stream, file, path)
    except Shortage:
        raise
    except UserError as error:
        file.unlink(missing_ok=True)
        return Unpacked(damaged={file: str(error)})
    return Unpacked([file])


def _unzip(path: Path) -> Unpacked:
    """Unpack an archive, unless something in it is unsafe or damaged; then nothing of it stays."""
    folder = _folder(path) / path.name
    found = Unpacked()
    try:
        with parsing(path, "a zip archive"):
            _check_directory(path)
            with ZipFile(path) as archive:
                members = _members(path, archive)
                _check_space(path, sum(info.file_size for info in members.values()))
                _PLACES[folder] = path
                for name, info in members.items():
                    if reason := _unreadable(path, name, info):
                        found.refused[path / name] = reason
                        continue
                    file = folder / name
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(info) as stream:
                        _copy(stream, file, path)
                    found.files.append(file)
    except Shortage:
        raise
    except UserError as error:
        shutil.rmtree(folder, ignore_errors=True)
        return Unpacked(refused={path: str(error)})
    found.files.sort()
    return found


def _members(path: Path, archive: ZipFile) -> dict[PurePosixPath, ZipInfo]:
    """Return the files of an archive by their names, without hidden ones.

    Raises:
        UserError: a name leads out of the archive, two files have one name, a file is encrypted or compressed by an
            unusual method, or declares more bytes than it can hold.
    """
    found: dict[PurePosixPath, ZipInfo] = {}
    taken: dict[str, str] = {}  # file systems may not tell capital letters from small ones
    check_size(path, sum(info.file_size for info in archive.infolist()), compressed=True)
    for info in archive.infolist():
        # Some programs for Windows separate folders by \, and Python cuts names at the character 0.
        text = info.orig_filename.replace("\\", "/")
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if ".." in parts or text.startswith("/") or text[1:2] == ":" or "\0" in text:
            raise UserError(
                f"{path}: its member {info.orig_filename!r} would lie outside of the archive: it may be meant to do "
                "harm; ask for the images again"
            )
        if info.is_dir() or text.endswith("/") or not parts or any(part.startswith(".") for part in parts):
            continue
        name = PurePosixPath(*parts)
        other = taken.setdefault(normalize("NFC", str(name)).casefold(), info.orig_filename)
        if other is not info.orig_filename:
            raise UserError(
                f"{path}: its members {other!r} and {info.orig_filename!r} have one name, so one would replace the "
                "other: zip it again"
            )
        if info.flag_bits & 1:
            raise UserError(f"{path}: its member {str(name)!r} is encrypted: unpack it with the password first")
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise UserError(f"{path}: its member {str(name)!r} is not compressed by deflate: unpack it first")
        check_size(path / name, info.file_size, info.compress_size, compressed=info.compress_type != ZIP_STORED)
        found[name] = info
    return found


def _unreadable(path: Path, name: PurePosixPath, info: ZipInfo) -> str | None:
    """Return why one member is not read; None where it is."""
    if stat.S_ISLNK(info.external_attr >> 16):
        return f"{path / name} is a link to another file, which no archive needs: zip the file itself"
    if name.name.lower().endswith(_ARCHIVES):
        return f"{path / name} is an archive inside of an archive: unpack it first"
    return None


def _check_directory(path: Path) -> None:
    """Refuse an archive whose list of members is so long that reading it would fill the memory."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - (1 << 16) - 200))
        tail = stream.read()
    end, wide = tail.rfind(_END), tail.rfind(_WIDE_END)
    if end < 0 or len(tail) < end + 22:
        raise ValueError("it has no list of members")
    size = struct.unpack_from("<I", tail, end + 12)[0]
    if wide >= 0 and len(tail) >= wide + 56:
        size = max(size if size < 2**32 - 1 else 0, struct.unpack_from("<Q", tail, wide + 40)[0])
    if size > DIRECTORY:
        raise UserError(f"{path}: its list of members has {size} bytes: unpack it first")


def _check_space(path: Path, size: int) -> None:
    free = shutil.disk_usage(_home()).free
    if size > free:
        raise Shortage(
            f"{path}: its {size / 1e9:.1f} GB, unpacked, do not fit into {tempfile.gettempdir()}, where "
            f"{free / 1e9:.1f} GB are free; set TMPDIR to a folder on a larger disk"
        )


def _copy(stream: IO[bytes] | gzip.GzipFile, file: Path, source: Path) -> None:
    """Write a stream to a file piece by piece; raise `UserError` where it is more than the source can hold."""
    number = 0
    with file.open("wb") as out:
        while piece := stream.read(_PIECE):
            number += len(piece)
            check_size(source, number, compressed=True)
            out.write(piece)
    # Prepared cases are found again by the time of the files that they come from.
    time = source.stat().st_mtime_ns
    os.utime(file, ns=(time, time))


def _folder(path: Path) -> Path:
    """Return the folder for what is unpacked of an archive or a folder."""
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()
    return _home() / digest[:12]


def _home() -> Path:
    return _made(os.getpid())


@lru_cache(maxsize=1)
def _made(process: int) -> Path:
    """Return a folder of this process that nobody else may read; what killed processes have left is removed."""
    root = Path(tempfile.gettempdir())
    # Those of other machines may be in use for days by what is trained there, which nothing here tells.
    sweep_once(root, f"{_PREFIX}{machine()}-*")
    home = root / f"{_PREFIX}{mark()}"
    home.mkdir(mode=0o700)
    atexit.register(_remove, home, process)
    return home


def _remove(home: Path, process: int) -> None:
    if os.getpid() == process:  # a forked process inherits this duty and must not fulfil it
        shutil.rmtree(home, ignore_errors=True)
