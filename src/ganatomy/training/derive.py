"""Roles that a stage computes from the cases when it begins, such as the predictions of an earlier stage."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Sample
from ganatomy.data.arrays import ArrayFile, StoredArrays
from ganatomy.data.batches import folds_of
from ganatomy.errors import UserError, shortage
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
        UserError: the folder cannot be written, or a file in it is damaged.
    """
    files, roles, affines = dict[str, Path](), dict(sample.roles), dict[str, NDArray[np.float64]]()
    for role, given in stage.derive.items():
        derivation = given if isinstance(given, Derivation) else Derivation(given)
        path = folder / safe_name(sample.case.name) / f"{role}.npy"
        if not path.is_file():
            function = derivation.function
            if derivation.folds:
                fold = folds_of(subjects, derivation.folds)[sample.case.subject]
                function = partial(function, fold=fold)
            _make(path, method, stage, sample, function, derivation.scale)
        roles[role] = ImageRole(role, optional=True, width=_channels(path, _extents(sample, derivation.scale)))
        affines[role] = finer(sample.affines[sample.first], derivation.scale)
        files[role] = path
    return replace(sample.with_arrays(StoredArrays(files), affines), roles=roles)


def _extents(sample: Sample, scale: Triple) -> Sequence[int]:
    """Return slices, rows and columns of an array that is derived on a finer grid."""
    return tuple(extent * times for extent, times in zip(sample.shape, scale, strict=True))


def _channels(path: Path, extents: Sequence[int]) -> int:
    """Return the number of channels of an array that has been derived.

    Raises:
        UserError: the file cannot be read, or does not have these slices, rows and columns.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise shortage(error, path) or UserError(f"{path}: damaged, so training cannot go on in this --out") from None
    if array.dtype != np.float32 or array.shape[1:] != extents:
        raise UserError(f"{path}: not the array that was derived for this case; training cannot go on in this --out")
    return int(array.shape[0])


def _make(
    path: Path, method: Method, stage: Stage, sample: Sample, function: Callable[[Batch], Tensor], scale: Triple
) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise shortage(error, path.parent) or UserError(
            f"{path.parent}: {error.strerror}; choose another --out"
        ) from None
    device = method.noise.generator.device
    names = [name for name, array in sample.arrays.items() if array.shape[1:] == sample.shape]
    tiling = replace(method.tiling, margin=stage.stream.margin, scale=scale)
    tiler = Tiler(_together(function, stage, sample, names), method.dims, tiling, device)
    read = encoded(sample, names)
    extents = _extents(sample, scale)

    def write(work: Path) -> None:
        step = tiler.thickness(sample.shape[0])
        slabs = (tiler(read, sample.shape, at, min(at + step, extents[0])) for at in range(0, extents[0], step))
        first = next(slabs)
        with ArrayFile(work, (len(first), *extents), np.dtype(np.float32)) as target:
            for number, slab in enumerate(chain([first], slabs)):
                target.put(number * step, slab)

    write_atomically(path, write)


def _together(
    function: Callable[[Batch], Tensor], stage: Stage, sample: Sample, names: Sequence[str]
) -> Callable[[Tensor], Tensor]:
    """Wrap a function of batches as a network whose input is all roles stacked as channels, with one margin."""
    widths = [sample.role(name).channels for name in names]

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
