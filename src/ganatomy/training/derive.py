"""Roles that a stage computes from the cases when it begins: what an earlier stage predicts becomes data."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.data.store import PreparedCase
from ganatomy.errors import UserError
from ganatomy.game import Batch, Method, Stage
from ganatomy.images.atomic import write_atomically
from ganatomy.images.paths import safe_name
from ganatomy.inference.tiling import Tiler


def derived(method: Method, stage: Stage, case: PreparedCase, folder: Path) -> PreparedCase:
    """The case with one more array for every role the stage derives, memory-mapped, in the range of the networks.

    Files that exist are taken as they are: a resumed stage must find what it began with, though players have moved.

    Args:
        method: in its inference mode.
        stage: has the functions, and the margin of the ``wide`` roles that they are given.
        case: read slab by slab.
        folder: ``<case>/<role>.npy`` appear here, each whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    arrays = dict(case.arrays)
    for role, function in stage.derive.items():
        path = folder / safe_name(case.case.name) / f"{role}.npy"
        if not path.is_file():
            _make(path, method, stage, case, function)
        arrays[role] = np.load(path, mmap_mode="r")
    return replace(case, arrays=arrays)


def _make(path: Path, method: Method, stage: Stage, case: PreparedCase, function: Callable[[Batch], Tensor]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: {error.strerror}; choose another --out") from None
    device = method.noise.generator.device
    tiler = Tiler(_together(function, stage, case), method.dims, stage.sampling.margin, method.multiple, device)
    codecs = method.task.codecs

    def read(start: int, stop: int) -> NDArray[np.float32]:
        slabs = [(role, np.asarray(values[:, start:stop])) for role, values in case.arrays.items()]
        return np.concatenate([codecs[role].encode(slab) if role in codecs else slab for role, slab in slabs])

    def write(work: Path) -> None:
        slices, target = case.shape[0], None
        step = tiler.thickness(slices)
        for start in range(0, slices, step):
            slab = tiler(read, case.shape, start, min(start + step, slices))
            if target is None:
                target = open_memmap(work, mode="w+", dtype=np.float32, shape=(len(slab), *case.shape))
            target[:, start : start + step] = slab
        assert target is not None
        target.flush()

    write_atomically(path, write)


def _together(function: Callable[[Batch], Tensor], stage: Stage, case: PreparedCase) -> Callable[[Tensor], Tensor]:
    """The function as a network of all roles, stacked as channels and read with the same margin."""
    widths = [len(values) for values in case.arrays.values()]

    def network(stacked: Tensor) -> Tensor:
        batch: dict[str, Any] = {}
        for role, part in zip(case.arrays, torch.split(stacked, widths, dim=1), strict=True):
            inner: list[Any] = [
                slice(m, part.shape[-axis] - m) for axis, m in zip((3, 2, 1), stage.sampling.margin, strict=True)
            ]
            wide = role in stage.sampling.wide
            batch[role] = part if wide else part[..., *inner[-(part.ndim - 2) :]]
        return function(batch)

    return network
