"""Readers and writers of CSV, JSON and NPZ files for the kinds of roles that are no images."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError, either
from ganatomy.images.npy import open_npz
from ganatomy.images.parsing import exists, parsing
from ganatomy.images.paths import replacing


@dataclass(frozen=True)
class FileSource:
    """A source that reads one file when it is opened.

    Attributes:
        path: path of the file.
        reader: function from the path to the value.
    """

    path: Path
    reader: Callable[[Path], Any]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Path of the file, as a tuple."""
        return (self.path,)

    def open(self) -> Any:
        """Return the value of the file; raises `UserError` where the file cannot be read."""
        return self.reader(self.path)


def file_source(path: Path, readers: Mapping[str, Callable[[Path], Any]]) -> FileSource:
    """Return the source of a file, with the reader of its suffix.

    Args:
        path: path of the file.
        readers: suffix to reader.

    Raises:
        UserError: the file does not exist, or no reader has its suffix.
    """
    if not exists(path):
        raise UserError(f"{path} does not exist: check the spelling and the folder you are in")
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: cannot read {path.suffix or 'files without suffix'}; give {either(list(readers))}")
    return FileSource(path, readers[path.suffix.lower()])


def read_rows(path: Path) -> list[list[str]]:
    """Return the rows of a CSV file that are not empty, without blanks around cells.

    Cells are divided by commas, or by semicolons or tabs where the first row has no comma.

    Raises:
        UserError: the file cannot be read, or is empty.
    """
    with parsing(path, "a table, which is CSV in UTF-8"):
        text = path.read_text(encoding="utf-8-sig")
        first = text.split("\n", 1)[0]
        divider = next((mark for mark in ",;\t" if mark in first), ",")
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=divider)]
    rows = [row for row in rows if any(row)]
    if not rows:
        raise UserError(f"{path} is empty")
    return rows


def read_records(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header as dictionaries; names of columns in lower case.

    Raises:
        UserError: the file cannot be read or is empty, or a row has more cells than the header.
    """
    header, *rows = read_rows(path)
    names = [name.lower() for name in header]
    for number, row in enumerate(rows, start=2):
        if any(row[len(names) :]):
            raise UserError(f"{path} row {number}: {len(row)} cells, but the header has {len(names)}")
    return [dict(zip(names, [*row, *[""] * len(names)], strict=False)) for row in rows]


def number(cell: Any, where: str) -> float:
    """Convert a cell to a finite number.

    Raises:
        UserError: the cell holds no finite number.
    """
    try:
        value = float(cell)
    except (TypeError, ValueError, OverflowError):
        value = float("nan")
    if not isfinite(value):
        raise UserError(f"{where}: {cell!r} is not a number")
    return value


def read_json(path: Path) -> Any:
    """Read a JSON file as values that JSON can hold; raises `UserError` where it is none."""
    with parsing(path, "JSON"):
        return json.loads(path.read_text(encoding="utf-8-sig"))


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of an NPZ file by name; raises `UserError` where it is none."""
    with parsing(path, "arrays of NumPy"), open_npz(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def write_json(path: Path, content: Any) -> None:
    """Write values as a JSON file; raises `UserError` where the path cannot be written."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file; numbers keep all digits.

    Raises:
        UserError: the suffix is another one, or the path cannot be written.
    """
    if path.suffix.lower() != ".csv":
        raise UserError(f"{path}: cannot write {path.suffix or 'a table without suffix'}: choose .csv")
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([[_cell(value) for value in row] for row in rows])


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write dictionaries as a CSV file with a column for every key; None and missing keys are empty cells.

    Raises:
        UserError: the suffix is another one, or the path cannot be written.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    write_rows(path, names, [[record.get(name) for name in names] for record in records])


def _cell(value: Any) -> Any:
    return repr(float(value)) if isinstance(value, float | np.floating) else value
