"""Arrays in .npy files, which are written slab by slab and opened when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from ganatomy.errors import UserError, shortage

SMALL = 2**20
"""Largest size in bytes of files that are read into memory; larger ones are memory-mapped."""


def most_mapped() -> int:
    """Return the largest number of files to map at a time: half of the files that this process may have open."""
    try:
        import resource
    except ImportError:  # Windows, where a mapped file is none of the files of the C library that are limited
        return 4096
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 4096 if limit == resource.RLIM_INFINITY else min(limit // 2, 4096)


class StoredArrays(Mapping[str, NDArray[Any]]):
    """Arrays of .npy files by name, read-only. Small ones are in memory, others are mapped when they are asked for.

    A mapped file counts as open, and a process may have few open files, so at most `most_mapped` files are mapped at a
    time: the one that was not used for longest is closed for the next.

    Args:
        paths: name to file.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file holds no array.
    """

    def __init__(self, paths: Mapping[str, Path]):
        self._held = {name: _opened(path) for name, path in paths.items()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return an array.

        Raises:
            KeyError: there is no array of this name.
            Shortage: the process may not open or map another file.
            UserError: the file has changed since it was found.
        """
        held = self._held[name]
        if not isinstance(held, _Block):
            return held
        try:
            return _mapped(held)
        except (OSError, ValueError, TypeError) as error:
            told = f"{held.path}: cannot be read any more ({error}); leave prepared files alone while they are used"
            raise shortage(error, held.path) or UserError(told) from None

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


class _Block(NamedTuple):
    """Place of an array in a file, kept because reading it from the head of the file takes longer than mapping."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def _opened(path: Path) -> NDArray[Any] | _Block:
    if path.stat().st_size > SMALL:
        mapped: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return _Block(path, mapped.offset, mapped.shape, mapped.dtype)
    array: NDArray[Any] = np.load(path, allow_pickle=False)
    array.flags.writeable = False
    return array


@lru_cache(maxsize=most_mapped())
def _mapped(block: _Block) -> NDArray[Any]:
    with block.path.open("rb") as stream:
        content = mmap(stream.fileno(), 0, access=ACCESS_READ)
    return np.ndarray(block.shape, block.dtype, content, block.offset)


def forget_mapped() -> None:
    """Close the files that are mapped and not in use, after one of them was replaced."""
    _mapped.cache_clear()


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, computed once per process as long as the file does not change.

    Raises:
        OSError: the file cannot be read.
    """
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=2**16)
def _digest(path: Path, size: int, time: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class ArrayFile:
    """A new .npy file that is written slab by slab.

    It is written by ordinary calls and not through a memory map: on a full disk, writing to a map ends the process with
    SIGBUS, while a call fails with an error that can be reported.

    Args:
        path: file to write.
        shape: (channels, slices, rows, columns).
        dtype: type in which values are stored.

    Raises:
        OSError: the file cannot be written; other methods raise it, too.
    """

    def __init__(self, path: Path, shape: Sequence[int], dtype: np.dtype[Any]):
        self._shape, self._dtype = tuple(shape), dtype
        self._stream = path.open("wb")
        head = {"descr": dtype_to_descr(dtype), "fortran_order": False, "shape": self._shape}
        write_array_header_1_0(self._stream, head)
        self._start = self._stream.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def put(self, start: int, values: NDArray[Any]) -> None:
        """Write a slab (channels, n, rows, columns) as slices ``start`` to ``start + n``.

        Raises:
            ValueError: the slab does not fit into the array.
        """
        channels, slices, *plane = self._shape
        if len(values) != channels or list(values.shape[2:]) != plane or start + values.shape[1] > slices:
            raise ValueError(f"slab {values.shape} at slice {start} does not fit into an array {self._shape}")
        size = int(np.prod(plane)) * self._dtype.itemsize
        for channel, part in enumerate(values.astype(self._dtype, copy=False)):
            self._stream.seek(self._start + (channel * slices + start) * size)
            self._stream.write(np.ascontiguousarray(part).tobytes())
