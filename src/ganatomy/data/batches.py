"""Batches as a pure function of a seed and a number, so that resuming is counting."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ganatomy.data.store import PreparedCase
from ganatomy.errors import UserError
from ganatomy.game import Sampling
from ganatomy.images.codecs import Codec
from ganatomy.tasks.base import Task

TRIES = 10
"""How often a refused patch is drawn again before it is taken as it is."""


@dataclass(frozen=True)
class Range:
    """The slices of a case that may be used: start inclusive, stop exclusive."""

    case: PreparedCase
    start: int
    stop: int

    @property
    def slices(self) -> int:
        """How many."""
        return self.stop - self.start


def usable(task: Task, cases: Sequence[PreparedCase]) -> list[Range]:
    """The slices of all cases that the task may be trained on, run by run."""
    ranges = []
    for case in cases:
        fit = task.trainable(case.case.label, case.arrays)
        if fit is None:
            ranges.append(Range(case, 0, case.shape[0]))
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[False], fit, [False]]).astype(np.int8)))
        ranges += [Range(case, int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
    return ranges


def hold_out(ranges: Sequence[Range], share: float = 0.15) -> tuple[list[Range], list[Range]]:
    """Split the slices of every subject, in order: the last ones are held out, at least one where there are two.

    For data with too few subjects to spare one for validation. The scores it gives are of known patients.
    """
    kept, held = [], []
    for subject in dict.fromkeys(item.case.case.subject for item in ranges):
        own = [item for item in ranges if item.case.case.subject == subject]
        total = sum(item.slices for item in own)
        left = total - (max(1, round(share * total)) if total > 1 else 0)
        for item in own:
            keep = min(max(left, 0), item.slices)
            left -= item.slices
            kept += [Range(item.case, item.start, item.start + keep)] if keep else []
            held += [Range(item.case, item.start + keep, item.stop)] if keep < item.slices else []
    return kept, held or kept


def cut(array: NDArray[Any], start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
    """A block of a (channels, slices, rows, columns) array, mirrored where it reaches beyond the edge."""
    index = []
    for first, length, extent in zip(start, size, array.shape[1:], strict=True):
        positions = np.arange(first, first + length)
        if first < 0 or first + length > extent:
            positions = mirrored(positions, extent)
        index.append(positions)
    if all(positions[-1] - positions[0] == len(positions) - 1 for positions in index):
        return np.asarray(array[:, *(slice(positions[0], positions[-1] + 1) for positions in index)])
    return np.asarray(array[:, index[0][:, None, None], index[1][:, None], index[2]])


def mirrored(positions: NDArray[np.intp], extent: int) -> NDArray[np.intp]:
    """Indices reflected at the edges of an axis without repeating the edge, as often as necessary."""
    if extent == 1:
        return np.zeros_like(positions)
    folded = np.abs(positions) % (2 * (extent - 1))
    return np.where(folded < extent, folded, 2 * (extent - 1) - folded)


class PatchDataset(Dataset[dict[str, Tensor]]):
    """Encoded patches by number.

    Args:
        ranges: slices to draw from, each as often as it is long.
        sampling: size, margin, flips and acceptance.
        codecs: role to codec; roles without one are taken as they are.
        roles: roles wanted.
        dims: 2 drops the depth axis of patches one slice thick.
        seed: together with the number it decides everything about a sample.
        classes: labels, whose places become the role ``label``; none where samples carry no label.
    """

    def __init__(
        self,
        ranges: Sequence[Range],
        sampling: Sampling,
        codecs: Mapping[str, Codec],
        roles: Sequence[str],
        dims: int,
        seed: Sequence[int],
        classes: Sequence[str] = (),
    ):
        self.sampling, self.codecs, self.dims, self.seed = sampling, codecs, dims, list(seed)
        self.classes = list(classes)
        self.streams = []
        for group in sampling.streams or (tuple(roles),):
            usable = [item for item in ranges if all(role in item.case.arrays for role in group)]
            if not usable:
                raise UserError(f"no training case has the roles {', '.join(group)}")
            self.streams.append((group, usable, np.cumsum([item.slices for item in usable])))

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([*self.seed, number])
        sample: dict[str, Tensor] = {}
        for group, usable, ends in self.streams:
            item, patch = self._draw(rng, group, usable, ends)
            sample |= {role: self._encode(role, values) for role, values in patch.items()}
            if self.classes:
                sample["label"] = torch.tensor(self.classes.index(item.case.case.label or ""))
        return sample

    def _draw(
        self, rng: np.random.Generator, group: Sequence[str], usable: Sequence[Range], ends: NDArray[np.intp]
    ) -> tuple[Range, dict[str, NDArray[Any]]]:
        for _ in range(TRIES):
            item = usable[int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))]
            patch = self._cut(rng, group, item)
            if self.sampling.accepts is None or self.sampling.accepts(patch):
                break
        flips = tuple(1 + axis for axis in self.sampling.flips if rng.random() < 0.5)
        if flips:
            patch = {role: np.flip(values, flips) for role, values in patch.items()}
        if self.sampling.quarter_turns:
            turns = int(rng.integers(4))
            patch = {role: np.rot90(values, turns, axes=(2, 3)) for role, values in patch.items()}
        return item, patch

    def _cut(self, rng: np.random.Generator, group: Sequence[str], item: Range) -> dict[str, NDArray[Any]]:
        size, margin = self.sampling.patch, self.sampling.margin
        extents = (item.slices, *item.case.shape[1:])
        where = (None, *_corner(rng)) if self.sampling.positions == "corners" else (None, None, None)
        start = [
            _start(rng, extent, length, around, place)
            for extent, length, around, place in zip(extents, size, margin, where, strict=True)
        ]
        patch = {}
        for role in group:
            around = margin if role in self.sampling.wide else (0, 0, 0)
            first = [at - extra for at, extra in zip(start, around, strict=True)]
            wide = [extent + 2 * extra for extent, extra in zip(size, around, strict=True)]
            # Slices outside of the range may be held out: nothing is read from them, not even for a margin.
            patch[role] = cut(item.case.arrays[role][:, item.start : item.stop], first, wide)
        return patch

    def _encode(self, role: str, values: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(np.array(values, dtype=np.float32))
        if role in self.codecs:
            tensor = self.codecs[role].encode(tensor)
        return tensor[:, 0] if self.dims == 2 else tensor


def _corner(rng: np.random.Generator) -> tuple[float, float]:
    """Row and column of a corner or the centre, as fractions of the free way."""
    return ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))[rng.integers(5)]


def _start(rng: np.random.Generator, extent: int, length: int, around: int, place: float | None) -> int:
    """First index of a patch along one axis, its margin inside the image where the image is large enough."""
    first, last = around, extent - around - length
    if last < first:
        first, last = 0, extent - length
    if last < first:
        return last // 2
    return int(rng.integers(first, last + 1)) if place is None else round(first + place * (last - first))


class Batches(Iterator[dict[str, Tensor]]):
    """An endless stream of batches that knows how many it has given.

    Args:
        dataset: patches by number.
        batch_size: samples per batch, all processes together.
        rank: this process.
        world: number of processes; each takes its share of every batch.
        drawn: batches already given, when resuming.
        workers: background processes that cut patches.
        device: where the batches are wanted.

    Raises:
        UserError: the batch cannot be shared evenly.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        drawn: int = 0,
        workers: int = 0,
        device: torch.device | str = "cpu",
    ):
        if batch_size % world:
            raise UserError(f"--batch-size {batch_size}: not a multiple of the {world} processes")
        self.drawn = drawn
        self.device = torch.device(device)
        share = batch_size // world
        numbers = _Numbers(drawn * batch_size + rank * share, share, batch_size)
        pin = self.device.type == "cuda"
        loader = DataLoader(
            dataset,
            batch_sampler=numbers,
            num_workers=workers,
            pin_memory=pin,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # of its own, or opening a stream would shift everybody's random numbers
        )
        self._batches = iter(loader)

    def __next__(self) -> dict[str, Tensor]:
        batch = next(self._batches)
        self.drawn += 1
        return {role: values.to(self.device, non_blocking=True) for role, values in batch.items()}


@dataclass(frozen=True)
class _Numbers:
    """Sample numbers of one process's share of every batch, without end."""

    first: int
    share: int
    step: int

    def __iter__(self) -> Iterator[list[int]]:
        first = self.first
        while True:
            yield list(range(first, first + self.share))
            first += self.step
