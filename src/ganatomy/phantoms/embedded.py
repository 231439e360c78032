"""The choice of an embedded phantom by a system."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Embedded:
    """The embedded phantom that a system is trained on where no data are given.

    Attributes:
        name: name of the phantom, whose parts have the roles of their names or of the option ``part``.
        size: rows and columns, unless the user gives a size.
        grid: other arguments of the phantom, such as the number of slices.
        subjects: number of subjects.
    """

    name: str
    size: int = 128
    grid: Mapping[str, Any] = field(default_factory=dict)
    subjects: int = 20
