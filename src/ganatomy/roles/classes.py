"""Classes: a word for a whole case, or a word for each of its slices."""

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
from ganatomy.images.frames import Frame

UNLABELLED = -1
"""Place of a class that nobody named."""


@dataclass(frozen=True)
class ClassRole(Role):
    """One of several classes, of a case or of every slice.

    Attributes:
        classes: their names; networks see the place of a name among them, or -1 where the class is not known.
        sliced: whether every slice has a class of its own.
    """

    classes: tuple[str, ...] = ()
    sliced: bool = field(default=False, kw_only=True)

    kind: ClassVar[str] = "class"
    on_grid: ClassVar[bool] = False

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """A word, or for slices words with ``|`` between them; nothing where the class is not known."""
        return Held(tuple(text.split("|")) if self.sliced else text)

    def check(self, value: Any) -> None:
        """Refuse words that are no class."""
        words = value if self.sliced else (value,)
        for word in words:
            if word and word not in self.classes:
                raise UserError(f"{self.name} {word!r}: there are {', '.join(self.classes)}")

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Places among the classes, int16 (1, slices or 1, 1, 1).

        Raises:
            UserError: there are not as many words as slices.
        """
        words = list(value) if self.sliced else [value]
        if self.sliced and frame is not None:
            if len(words) != frame.source[0]:
                raise UserError(f"{self.name}: {len(words)} words for {frame.source[0]} slices; give one for each")
            words = words[::-1] if frame.turn.flipped[0] else words
        places = [self.classes.index(word) if word else UNLABELLED for word in words]
        return np.array(places, np.int16).reshape(1, -1, 1, 1)

    def value(self, array: Array, frame: Frame | None, like: Any) -> Any:
        """The word, or the words of all slices in the order of the source; None where the class is not known."""
        places = np.asarray(array).reshape(-1).astype(int)
        words = [None if place < 0 else self.classes[place] for place in places]
        if not self.sliced:
            return words[0]
        return tuple(reversed(words) if frame is not None and frame.turn.flipped[0] else words)

    @property
    def prepared_as(self) -> str:
        """Its classes in their order, whose places are stored."""
        return f"{super().prepared_as} {self.classes} {self.sliced}"

    def stored(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Places keep their integers."""
        return np.dtype(dtype)

    def cut(self, array: Array, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """The class of the case, or of the middle one of the slices that are cut."""
        values = np.asarray(array)
        middle = min(max(start[0] + size[0] // 2, 0), values.shape[1] - 1)
        return values[:, middle : middle + 1] if self.sliced else values

    def flip(self, patch: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
        """The same class."""
        return patch

    def quarter_turns(self, patch: NDArray[Any], turns: int) -> NDArray[Any]:
        """The same class."""
        return patch

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """The place among the classes, a scalar of type int64."""
        return torch.tensor(int(patch.reshape(-1)[0]))

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """A random class."""
        return torch.randint(max(len(self.classes), 1), (), generator=generator)

    def describe(self) -> dict[str, Any]:
        """The role as plain values, with its classes."""
        return {**super().describe(), "classes": list(self.classes), "sliced": self.sliced}
