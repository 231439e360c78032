"""Tables of text that say which images there are: CSV files with commas, semicolons or tabs."""

import csv
import re
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import zip_longest
from pathlib import Path
from unicodedata import category, normalize

from ganatomy.errors import UserError, shortage

MANIFEST_SUFFIXES = (".csv", ".tsv")
"""Endings of the names of manifests."""
SUBJECT_COLUMNS = ("subject", "patient", "patient_id", "subject_id")
IMAGE_COLUMNS = ("image", "file", "path")
LABEL_COLUMNS = ("label", "class", "diagnosis")
SITE_COLUMNS = ("site", "site_id", "scanner", "center", "centre")
"""Columns that name the site where a case was recorded; the first one that there is counts."""
UNKNOWN_SITES = ("", "n/a")
"""Cells of such a column that name no site."""


def raw_rows(path: Path) -> list[list[str]]:
    """Return the cells of a manifest without blanks around them, the names of the columns first.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            head = stream.readline()
            stream.seek(0)
            separator = max(",;\t", key=head.count)
            header, *rows = [[cell.strip() for cell in row] for row in csv.reader(stream, delimiter=separator)] or [[]]
            return [[column_name(cell) for cell in header], *rows]
    except (OSError, ValueError, csv.Error) as error:
        raise shortage(error, path) or UserError(
            f"{path}: cannot be read as a manifest ({error}); save it as CSV in UTF-8"
        ) from None


def column_name(text: str) -> str:
    """Return the name of a column as manifests are read: in small letters, with ``_`` for blanks and hyphens."""
    return re.sub(r"[\s-]+", "_", text.lower())


def rows_of(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Read a manifest, a CSV file with commas, semicolons or tabs in UTF-8; rows without any text are left out.

    Returns:
        Names of the columns, and for every row its place for messages and column to cell, without blanks around it.

    Raises:
        UserError: the file cannot be read, two columns have one name, or a row has more cells than there are columns.
    """
    header, *rows = raw_rows(path) or [[]]
    if repeated := [name for name, times in Counter(header).items() if name and times > 1]:
        raise UserError(f"{path}: several columns are called {repeated[0]!r}; rename all but one")
    found = []
    for line, values in enumerate(rows, start=2):
        where = f"{path} line {line}"
        if any(values[len(header) :]):
            raise UserError(f"{where}: more cells than columns; put cells with a separator in quotation marks")
        if any(values):
            found.append((where, dict(zip_longest(header, values[: len(header)], fillvalue=""))))
    return header, found


def site_column(header: Collection[str], taken: Collection[str] = ()) -> str | None:
    """Return the column that names sites; None where there is none.

    Args:
        header: names of the columns.
        taken: columns that hold something else, such as paths of a role called ``scanner``.
    """
    return next((name for name in SITE_COLUMNS if name in header and name not in taken), None)


def site_of(cell: str) -> str | None:
    """Return the site that a cell names; None where it names none."""
    return None if cell.lower() in UNKNOWN_SITES else normalize("NFC", cell)


def check_cells(where: str, cells: Mapping[str, str], words: Collection[str]) -> None:
    """Refuse cells with characters that nobody sees, by which equal words differ.

    Args:
        where: place of the row, for the message.
        cells: column to text.
        words: columns that hold no paths, whose names are as they are.

    Raises:
        UserError: a cell holds a control character, or a word another invisible one or an unusual blank.
    """
    for column, text in cells.items():
        strange = [one for one in text if (not one.isprintable() if column in words else category(one) == "Cc")]
        if strange:
            raise UserError(f"{where}: {column} {text!r} holds the character {strange[0]!a}; type it again")
