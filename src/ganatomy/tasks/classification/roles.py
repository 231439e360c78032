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
        threshold: probability from which on the second of two classes is called; None for more classes.
    """

    probabilities: Mapping[str, float]
    threshold: float | None

    def __new__(cls, word: str, probabilities: Mapping[str, float], threshold: float | None = None) -> Word:
        made = super().__new__(cls, word)
        made.probabilities, made.threshold = dict(probabilities), threshold
        return made

    @property
    def record(self) -> dict[str, Any]:
        """Row of a table: the class, the probability of every class, and of two classes the threshold of the second."""
        found = {"class": str(self), **{f"p({name})": round(one, 6) for name, one in self.probabilities.items()}}
        if self.threshold is not None:
            found[f"called {list(self.probabilities)[1]} from"] = round(self.threshold, 6)
        return found


@dataclass(frozen=True)
class FoundClassRole(ClassRole):
    """The class of a case as a method finds it, a `Word`."""

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write a CSV file with one row: the class of the case, and the probability of every class."""
        write_records(path, [value.record])
