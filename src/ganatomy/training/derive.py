"""Roles that a stage computes from the cases when it begins, such as the predictions of an earlier stage."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from ganatomy.case import Sample
from ganatomy.data.batches import folds_of
from ganatomy.errors import UserError
from ganatomy.game import Batch, Derivation, Method, Stage, Triple
from ganatomy.images.atomic import write_atomically
from ganatomy.images.paths import safe_name
from ganatomy.inference.predictor import encoded
from ganatomy.inference.tiling import Tiler, finer
from ganatomy.roles.image import ImageRole


def with_derived_roles(
    method: Method, stage: Stage, sample: Sample, folder: Path, subjects: Sequence[str] = ()
) -> Sample:
    """Return a sample with one more array for every role that a stage derives.

    The arrays are memory-mapped and in the range of the networks. Files that exist are used as they are: a resumed
    stage needs the arrays that it began with, though the weights have changed since.

    Args:
        method: method in its inference mode.
        stage: has the functions to apply, and the margin of the ``wide`` roles that they are given.
        sample: training case, read slab by slab.
        folder: where ``<case>/<role>.npy`` are written, each whole or not at all.
        subjects: all training subjects, which are dealt into folds.

    Raises:
        UserError: the folder cannot be written.
    """
    arrays, roles, affines = dict(sample.arrays), dict(sample.roles), dict(sample.affines)
    for role, given in stage.derive.items():
        derivation = given if isinstance(given, Derivation) else Derivation(given)
        path = folder / safe_name(sample.case.name) / f"{role}.npy"
        if not path.is_file():
            function = derivation.function
            if derivation.folds:
                fold = folds_of(subjects, derivation.folds)[sample.case.subject]
                function = partial(function, fold=fold)
            _make(path, method, stage, sample, function, derivation.scale)
        arrays[role] = np.load(path, mmap_mode="r")
        roles[role] = ImageRole(role, optional=True, width=arrays[role].shape[0])
        affines[role] = finer(sample.affines[sample.first], derivation.scale)
    return replace(sample, arrays=arrays, roles=roles, affines=affines)


def _make(
    path: Path, method: Method, stage: Stage, sample: Sample, function: Callable[[Batch], Tensor], scale: Triple
) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path.parent}: {error.strerror}; choose another --out") from None
    device = method.noise.generator.device
    names = [name for name, array in sample.arrays.items() if array.shape[1:] == sample.shape]
    tiling = replace(method.tiling, margin=stage.stream.margin, scale=scale)
    tiler = Tiler(_together(function, stage, sample, names), method.dims, tiling, device)
    read = encoded(sample, names)
    extents = [extent * times for extent, times in zip(sample.shape, scale, strict=True)]

    def write(work: Path) -> None:
        target = None
        step = tiler.thickness(sample.shape[0])
        for start in range(0, extents[0], step):
            slab = tiler(read, sample.shape, start, min(start + step, extents[0]))
            if target is None:
                target = open_memmap(work, mode="w+", dtype=np.float32, shape=(len(slab), *extents))
            target[:, start : start + step] = slab
        assert target is not None
        target.flush()

    write_atomically(path, write)


def _together(
    function: Callable[[Batch], Tensor], stage: Stage, sample: Sample, names: Sequence[str]
) -> Callable[[Tensor], Tensor]:
    """Wrap a function of batches as a network whose input is all roles stacked as channels, with one margin."""
    widths = [sample.arrays[name].shape[0] for name in names]

    def network(stacked: Tensor) -> Tensor:
        batch: dict[str, Any] = {}
        for role, part in zip(names, torch.split(stacked, widths, dim=1), strict=True):
            inner: list[Any] = [
                slice(m, part.shape[-axis] - m) for axis, m in zip((3, 2, 1), stage.stream.margin, strict=True)
            ]
            wide = role in stage.stream.wide
            batch[role] = part if wide else part[..., *inner[-(part.ndim - 2) :]]
        return function(batch)

    return network
