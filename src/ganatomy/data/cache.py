"""Sizes and last uses of prepared cases on disk, and removal of those that have not been used for long."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import time

from ganatomy.data.store import FACTS, WORK
from ganatomy.errors import UserError, shortage
from ganatomy.images.leftovers import DAY, mark, sweep


@dataclass(frozen=True)
class PreparedCase:
    """A prepared case on disk.

    Attributes:
        place: its folder.
        size: bytes of its files.
        days: days since it was prepared or read for training or evaluation.
    """

    place: Path
    size: int
    days: float


def prepared_cases(folder: Path) -> Iterator[PreparedCase]:
    """Yield all prepared cases of a cache folder, also those of other versions of ganatomy.

    Raises:
        UserError: the folder cannot be listed.
    """
    try:
        places = sorted(path.parent for path in folder.glob(f"*/{FACTS}") if not path.parent.name.startswith("."))
        for place in places:
            size = sum(path.stat().st_size for path in place.iterdir() if path.is_file())
            yield PreparedCase(place, size, (time() - place.stat().st_mtime) / DAY)
    except OSError as error:
        raise shortage(error, folder) or UserError(f"{folder}: cannot be listed ({error.strerror or error})") from None


def remove_unused(folder: Path, days: float) -> list[PreparedCase]:
    """Remove the prepared cases that have not been used for a number of days, and what killed processes have left.

    Args:
        folder: cache folder.
        days: 0 removes all cases.

    Returns:
        The removed cases.

    Raises:
        UserError: the folder cannot be listed, or a case cannot be removed.
    """
    removed = [case for case in prepared_cases(folder) if case.days >= days]
    for case in removed:
        work = folder / f"{WORK}{mark()}"
        try:
            # Renamed first, so that no other process reads half of it.
            case.place.rename(work)
            shutil.rmtree(work)
        except OSError as error:
            raise UserError(f"{case.place}: cannot be removed ({error.strerror or error})") from None
    sweep(folder, f"{WORK}*")
    return removed
