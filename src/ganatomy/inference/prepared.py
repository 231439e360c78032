"""A trained method on prepared cases: what validation, evaluation and claims have in common."""

from typing import Any

import numpy as np
import torch

from ganatomy.data.store import PreparedCase
from ganatomy.game import Method, ability
from ganatomy.inference.tiling import Tiler
from ganatomy.tasks.base import Volume


def tiler_of(method: Method, device: torch.device | str = "cpu") -> Tiler:
    """Runs what the method was trained to do over slabs of an image."""
    return Tiler(ability(method, method.task.ability), method.dims, method.margin, method.multiple, device)


def restore_slices(tiler: Tiler, codecs: Any, case: PreparedCase, start: int, stop: int) -> Volume:
    """Slices ``start`` to ``stop`` of a case restored, (slices, rows, columns) in the target's unit.

    Args:
        tiler: of the method.
        codecs: of the method's task, by role.
        case: its ``input`` is read, as far as the slices need.
        start: first slice.
        stop: one past the last.
    """
    source, target = codecs["input"], codecs["target"]

    def read(first: int, last: int) -> Any:
        return np.asarray(source.encode(np.asarray(case.arrays["input"][:, first:last])), np.float32)

    return np.asarray(target.decode(tiler(read, case.shape, start, stop))[0], np.float32)


def sample_slices(case: PreparedCase, start: int, stop: int) -> dict[str, Volume]:
    """Slices ``start`` to ``stop`` of every role of a case, (slices, rows, columns) in physical units."""
    return {role: np.asarray(values[0, start:stop]) for role, values in case.arrays.items()}
