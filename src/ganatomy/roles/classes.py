"""Classes as a kind of role: one class name for a case, or one for each of its slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Array, Held, Openable, Role
from ganatomy.errors import UserError
from ganatomy.images.augmentation import Movement
from ganatomy.images.frames import Frame
from ganatomy.roles.slices import to_source_slices, to_working_slices
from ganatomy.roles.tables import write_rows

UNLABELLED = -1
"""Index in place of a class where the class is not known."""


@dataclass(frozen=True)
class ClassRole(Role):
    """One of several classes, for a case or for every slice.

    Attributes:
        classes: names of the classes; networks take the index of a name among them, or -1 where the class is not known.
        sliced: whether every slice has its own class.
        rest: class of all names that are none of the classes; None refuses these.
    """

    classes: tuple[str, ...] = ()
    sliced: bool = field(default=False, kw_only=True)
    rest: str | None = field(default=None, kw_only=True)

    kind: ClassVar[str] = "class"
    on_grid: ClassVar[bool] = False
    suffix: ClassVar[str | None] = ".csv"

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Return the source of a class name, or of one for each slice with ``|`` between them; empty means unknown."""
        return Held(tuple(text.split("|")) if self.sliced else text)

    def check(self, value: Any) -> None:
        """Refuse names that are not among the classes."""
        words = value if self.sliced else (value,)
        for word in words:
            if word and self.rest is None and word not in self.classes:
                raise UserError(f"{self.name} {word!r}: no such class; the classes are {', '.join(self.classes)}")

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return indices of the classes, int16 (1, slices or 1, 1, 1).

        Raises:
            UserError: the numbers of names and slices differ, or the working grid has other slices than the source.
        """
        words = to_working_slices(list(value), frame, self.name) if self.sliced else [value]
        places = [self.index(word) for word in words]
        return np.array(places, np.int16).reshape(1, -1, 1, 1)

    def index(self, word: str | None) -> int:
        """Return the index of a class by its name; -1 where the class is not known."""
        if not word:
            return UNLABELLED
        return self.classes.index(word if self.rest is None or word in self.classes else self.rest)

    def value(self, array: Array, frame: Frame | None, like: Any) -> Any:
        """Return the class name, or those of all slices in the order of the source; None where it is not known."""
        places = np.asarray(array).reshape(-1).astype(int)
        words = [None if place < 0 else self.classes[place] for place in places]
        if not self.sliced:
            return words[0]
        return tuple(to_source_slices(words, frame))

    @property
    def prepared_as(self) -> str:
        """Text with the names of the classes in order, since their indices are stored."""
        return f"{super().prepared_as} {self.classes} {self.sliced}{f' {self.rest}' if self.rest else ''}"

    def stored(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type in which indices are stored: their integer type."""
        return np.dtype(dtype)

    def cut(self, array: Array, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """Return the class of the case, or that of the middle slice of a block."""
        values = np.asarray(array)
        middle = min(max(start[0] + size[0] // 2, 0), values.shape[1] - 1)
        return values[:, middle : middle + 1] if self.sliced else values

    def flip(self, patch: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
        """Return the patch unchanged, since mirroring keeps the class."""
        return patch

    def quarter_turns(self, patch: NDArray[Any], turns: int) -> NDArray[Any]:
        """Return the patch unchanged, since rotation keeps the class."""
        return patch

    def move(self, patch: NDArray[Any], movement: Movement) -> NDArray[Any]:
        """Return the patch unchanged, since a movement keeps the class."""
        return patch

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """Return the index of the class, a scalar of type int64."""
        return torch.tensor(int(patch.reshape(-1)[0]))

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write a CSV file with the class, or with one row per slice; cells are empty where the class is not known."""
        words = value if self.sliced else (value,)
        rows = [(place, word or "") if self.sliced else (word or "",) for place, word in enumerate(words)]
        write_rows(path, ("slice", self.name) if self.sliced else (self.name,), rows)

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """Return the index of a random class."""
        return torch.randint(max(len(self.classes), 1), (), generator=generator)

    def describe(self) -> dict[str, Any]:
        """Return the role as values that JSON can hold, with its classes."""
        return {**super().describe(), "classes": list(self.classes), "sliced": self.sliced}
