"""The role of the output of a classifier: classes with their probabilities, written as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganatomy.roles.classes import ClassRole
from ganatomy.roles.tables import write_records


class Word(str):
    """The class of a case, with the calibrated probability of every class.

    Attributes:
        probabilities: class to its probability.
    """

    probabilities: Mapping[str, float]

    def __new__(cls, word: str, probabilities: Mapping[str, float]) -> Word:
        made = super().__new__(cls, word)
        made.probabilities = dict(probabilities)
        return made

    @property
    def record(self) -> dict[str, Any]:
        """Row of a table: the class, and the probability of every class."""
        return {"class": str(self), **{f"p({name})": round(one, 6) for name, one in self.probabilities.items()}}


@dataclass(frozen=True)
class FoundClassRole(ClassRole):
    """The class of a case as a method finds it, a `Word`."""

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write a CSV file with one row: the class of the case, and the probability of every class."""
        write_records(path, [value.record])
