"""Ratings of images by human readers, as a score beside the computed ones."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path

import numpy as np

from ganatomy.errors import UserError
from ganatomy.evaluation.judging import Row, Score

OPINION = Score("mean opinion", "higher", "", "Mean rating by human readers, over readers of each case.", "Readers")
COLUMNS = ("case", "method", "rating")


def read_ratings(path: Path, cases: Mapping[str, str], methods: Iterable[str]) -> list[Row]:
    """Read ratings from a CSV file with the columns case, method and rating, one line per reader and image.

    Args:
        path: file; further columns, such as reader, are ignored.
        cases: name of every judged case to its subject.
        methods: names of the entries.

    Returns:
        A row for each case and method, with the mean over its readers.

    Raises:
        UserError: the file cannot be read, lacks a column, or names a case or method that is not judged.
    """
    methods = list(methods)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number, line in enumerate(_lines(path), start=2):
        case, method = (line[name] or "" for name in COLUMNS[:2])
        for name, known, kind in ((case, list(cases), "case"), (method, methods, "method")):
            if name not in known:
                raise UserError(f"{path} line {number}: {kind} {name!r} is not judged; there are {', '.join(known)}")
        found[case, method].append(_number(line["rating"], path, number))
    if not found:
        raise UserError(f"{path}: no rating in it")
    return [
        Row(case, cases[case], (0, 0), method, {OPINION.name: float(np.mean(ratings))})
        for (case, method), ratings in found.items()
    ]


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            lines = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"--ratings {path}: cannot be read ({error}); give a CSV file in UTF-8") from None
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise UserError(f"--ratings {path}: needs the columns {', '.join(COLUMNS)}; {missing[0]} is missing")
    return lines


def _number(text: str | None, path: Path, number: int) -> float:
    try:
        rating = float(text or "")
        if not isfinite(rating):
            raise ValueError
    except ValueError:
        raise UserError(f"{path} line {number}: rating {text!r} is not a number") from None
    return rating
