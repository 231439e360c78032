"""Batches that depend on a seed and their number only, so that training is resumed by counting."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ganatomy.case import Role, Sample, Task
from ganatomy.data.index import LabelIndex, label_index
from ganatomy.errors import UserError
from ganatomy.game import Across, Balanced, Corners, Stream
from ganatomy.images.augmentation import Augmentation, Movement
from ganatomy.images.codecs import Codec, Window

TRIES = 10
"""Number of draws of a patch that the stream's ``accepts`` refuses; the last one is taken."""


@dataclass(frozen=True)
class Range:
    """A range of slices of a sample that may be used: start inclusive, stop exclusive."""

    sample: Sample
    start: int
    stop: int

    @property
    def slices(self) -> int:
        """Number of slices in the range."""
        return self.stop - self.start


def usable(task: Task, samples: Sequence[Sample]) -> list[Range]:
    """Return the ranges of consecutive slices of all samples that the task may be trained on."""
    ranges = []
    for sample in samples:
        fit = task.trainable_slices(sample)
        if fit is None:
            ranges.append(Range(sample, 0, sample.shape[0]))
            continue
        ranges += _ranges(Range(sample, 0, sample.shape[0]), fit)
    return ranges


BLOCK = 4
"""Smallest number of consecutive slices that are held out together, where more than one block is (our choice)."""
BLOCKS, GAP = 5, 2
"""Largest number of blocks of a subject, and of slices on either side of one that are not used at all (our choice)."""


def hold_out(
    ranges: Sequence[Range], share: float = 0.15, fewest: int = 1, deep: int = 1
) -> tuple[list[Range], list[Range]]:
    """Split the slices of every subject into training and validation slices.

    Blocks of slices spread evenly through the subject are held out, at least one slice where a subject has two, so that
    validation sees what training sees: the last slices of a stack may show nothing but air. Slices beside a block,
    which look almost like it, are used for neither, as far as no more slices are lost than are held out. This is for
    data with too few subjects to use one for validation alone; the scores then refer to subjects that were also trained
    on. Where no subject has two slices, all slices are used for both.

    Args:
        ranges: slices that may be used.
        share: share of the slices of a subject that is held out.
        fewest: smallest number of slices held out from all subjects together, as far as one is left of each.
        deep: number of consecutive slices that training needs; fewer blocks are held out where pieces between them
            would be shorter, and in the end the last slices.
    """
    kept, held = [], []
    totals = Counter[str]()
    for item in ranges:
        totals[item.sample.case.subject] += item.slices

    def held_of(total: int, least: int) -> int:
        return min(total - 1, max(least, round(share * total)))

    wanted = min(fewest, totals.total() - len(totals))
    least = next(n for n in count(1) if sum(held_of(total, n) for total in totals.values()) >= wanted)
    for subject, total in totals.items():
        own = [item for item in ranges if item.sample.case.subject == subject]
        chosen = _blocks(total, held_of(total, least), deep)
        lost = min(int(share * total), total - int(chosen.sum()) - 1)
        gap = min(GAP, max(lost, 0) // max(1, 2 * _runs(chosen)))
        start = 0
        for item in own:
            here = chosen[start : start + item.slices]
            near = np.convolve(here, np.ones(2 * gap + 1, int))[gap : gap + item.slices] > 0
            kept += _ranges(item, ~near)
            held += _ranges(item, here)
            start += item.slices
    return kept, held or kept


def _blocks(total: int, count: int, deep: int) -> NDArray[np.bool_]:
    """Return which of some slices in a row are held out, (total,), in blocks spread evenly."""
    blocks = max(1, min(BLOCKS, count // BLOCK))
    while blocks and (total - count) // (blocks + 1) - 2 * GAP < deep > 1:
        blocks -= 1
    chosen = np.zeros(total, bool)
    if not blocks:
        chosen[total - count :] = True
        return chosen
    for number in range(blocks):
        start = (number + 1) * (total - count) // (blocks + 1)  # slices before it that are not held out
        first, last = (part * count // blocks for part in (number, number + 1))
        chosen[start + first : start + last] = True
    return chosen


def _runs(chosen: NDArray[np.bool_]) -> int:
    """Return the number of runs of true values."""
    return int(np.count_nonzero(np.diff(chosen.astype(np.int8), prepend=0) > 0))


def _ranges(item: Range, chosen: NDArray[np.bool_]) -> list[Range]:
    """Return the ranges of the chosen slices of a range, as long as possible."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [Range(item.sample, item.start + int(a), item.start + int(b)) for a, b in edges.reshape(-1, 2)]


def check_validation(task: Task, ranges: Sequence[Range]) -> None:
    """Refuse validation slices from which the validation scores of a task cannot be computed.

    Raises:
        UserError: there are too few images.
    """
    found = sum(task.images_in(item.slices) for item in ranges)
    if found < (fewest := task.fewest_validation_images):
        raise UserError(
            f"validation: {found} image{'s' if found != 1 else ''}, but the scores compare sets of at least {fewest}; "
            "name more subjects with --val-subjects, or give more images"
        )


def fits(sample: Sample, roles: Sequence[str], stream: Stream) -> bool:
    """Return whether a sample has all roles of a stream, and none that its samples must not have."""
    there = sample.arrays
    return all(role in there for role in roles) and not any(role in there for role in stream.without)


class PatchDataset(Dataset[dict[str, Tensor]]):
    """Data set of encoded patches of one stream; the seed and the number of a patch determine it.

    Args:
        ranges: ranges of slices to draw from, with a probability proportional to their length.
        stream: settings of the stream.
        roles: roles of the patches where the stream does not name any.
        dims: spatial axes of the tensors; patches of fewer slices or rows lose these axes.
        seed: seed of all random numbers, together with the number of the patch.

    Raises:
        UserError: no case has the roles of the stream.
        ValueError: patches are drawn across another axis from roles that have no grid.
    """

    def __init__(self, ranges: Sequence[Range], stream: Stream, roles: Sequence[str], dims: int, seed: Sequence[int]):
        self.stream, self.dims, self.seed = stream, dims, list(seed)
        self.roles = tuple(stream.roles if stream.roles is not None else roles)
        self.across = stream.place if isinstance(stream.place, Across) else Across(0)
        left_out = self._left_out(ranges)
        self.ranges = [
            item
            for item in ranges
            if fits(item.sample, self.roles, stream) and item.sample.case.subject not in left_out
        ]
        if not self.ranges:
            without = f" without {', '.join(stream.without)}" if stream.without else ""
            lacking = [role for role in self.roles if not any(role in item.sample.arrays for item in ranges)]
            why = f": none has {', '.join(lacking)}; call roles what the data call them" if lacking else ""
            raise UserError(f"no training case has the roles {', '.join(self.roles)}{without}{why}")
        kinds = self.ranges[0].sample.roles
        if self.across.axis and (free := [role for role in self.roles if not kinds[role].on_grid]):
            raise ValueError(f"{', '.join(free)}: has no grid that could be turned")
        self.ends = np.cumsum([item.slices for item in self.ranges])
        self.by_class = self._by_class() if stream.balanced else None
        self.indices = self._indices(stream.place) if isinstance(stream.place, Balanced) else {}
        self.varied = self._varied(stream.augmentation) if stream.augmentation else ()

    def _left_out(self, ranges: Sequence[Range]) -> set[str]:
        """Return the subjects of the fold that is left out."""
        if self.stream.fold is None:
            return set()
        number, count = self.stream.fold
        folds = folds_of((item.sample.case.subject for item in ranges), count)
        return {subject for subject, fold in folds.items() if fold == number}

    def _by_class(self) -> list[NDArray[np.intp]]:
        """Return the indices of the ranges of every class."""
        labels = [item.sample.case.label for item in self.ranges]
        return [np.array([i for i, own in enumerate(labels) if own == label]) for label in dict.fromkeys(labels)]

    def _varied(self, augmentation: Augmentation) -> tuple[str, ...]:
        """Return the roles whose intensities are augmented."""
        kinds = self.ranges[0].sample.roles
        images = tuple(role for role in self.roles if kinds[role].has_intensities)
        if strange := [name for name in augmentation.varied_images if name not in images]:
            raise UserError(f"--varied-images {strange[0]}: the images are {', '.join(images)}")
        return augmentation.varied_images or images

    def _indices(self, place: Balanced) -> dict[int | tuple[int, ...], list[tuple[int, LabelIndex]]]:
        """Return, for every class of labels, the ranges that hold it, each with an index of its voxels."""
        found: dict[int | tuple[int, ...], list[tuple[int, LabelIndex]]] = {}
        for label, share in place.shares.items():
            members = []
            for number, item in enumerate(self.ranges):
                index = label_index(item.sample.arrays[place.role], label, item.start, item.stop)
                if len(index):
                    members.append((number, index))
            if not members and share:
                raise UserError(f"no training case has label {label} in {place.role}, around which patches are wanted")
            found[label] = members
        return found

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([*self.seed, number])
        # A second generator, so that the same patches are drawn with and without augmentation.
        changes = np.random.default_rng([*self.seed, number, 1])
        item, patch = self._draw(rng, changes)
        tensors = {role: item.sample.role(role).tensor(values, self.dims) for role, values in patch.items()}
        augmentation = self.stream.augmentation
        if augmentation is None or not augmentation.varies:
            return tensors
        sample, images = item.sample, {role: tensors[role] for role in self.varied}
        dark = {role: float(sample.role(role).encoded(np.zeros(1, np.float32))[0]) for role in self.varied}
        size = _cube(self.across.turned(sample.shape), self._spacing(sample))
        varied = augmentation.vary(images, changes, dark, size[-self.dims :])
        return {**tensors, **{role: _clipped(image, sample.role(role).codec) for role, image in varied.items()}}

    def _draw(self, rng: np.random.Generator, changes: np.random.Generator) -> tuple[Range, dict[str, NDArray[Any]]]:
        stream = self.stream
        for _ in range(TRIES):
            item, centre = self._choose(rng)
            patch = self._cut(rng, item, centre, self._movement(changes, item))
            if stream.accepts is None or stream.accepts(patch):
                break
        kinds = item.sample.roles
        flips = tuple(axis for axis in stream.flips if rng.random() < 0.5)
        if flips:
            patch = {role: kinds[role].flip(values, flips) for role, values in patch.items()}
        if stream.quarter_turns:
            turns = int(rng.integers(4))
            patch = {role: kinds[role].quarter_turns(values, turns) for role, values in patch.items()}
        if stream.transform is not None:
            patch = dict(stream.transform(patch, rng))
        return item, patch

    def _choose(self, rng: np.random.Generator) -> tuple[Range, tuple[int, int, int] | None]:
        """Draw a range and the voxel that the patch is centred on, counted from the range's first slice."""
        if self.indices:
            draw, total = rng.random(), 0.0
            assert isinstance(self.stream.place, Balanced)
            for label, share in self.stream.place.shares.items():
                total += share
                if draw < total:
                    holders = self.indices[label]
                    place, index = holders[int(rng.integers(len(holders)))]
                    return self.ranges[place], index.voxel(int(rng.integers(len(index))))
        if self.by_class is not None:
            members = self.by_class[int(rng.integers(len(self.by_class)))]
            ends = np.cumsum([self.ranges[i].slices for i in members])
            chosen = members[int(np.searchsorted(ends, rng.integers(ends[-1]), side="right"))]
            return self.ranges[chosen], None
        return self.ranges[int(np.searchsorted(self.ends, rng.integers(self.ends[-1]), side="right"))], None

    def _movement(self, rng: np.random.Generator, item: Range) -> Movement | None:
        """Draw the movement of a patch; None where the stream has no augmentation."""
        if self.stream.augmentation is None:
            return None
        margin = self.stream.margin if any(role in self.stream.wide for role in self.roles) else (0, 0, 0)
        size = [extent + 2 * extra for extent, extra in zip(self.stream.patch, margin, strict=True)]
        return self.stream.augmentation.movement(rng, size, self._spacing(item.sample))

    def _spacing(self, sample: Sample) -> tuple[float, float, float]:
        """Return the spacing along the axes of the patches, in mm."""
        slices, rows, columns = self.across.turned(sample.spacing)
        return slices, rows, columns

    def _cut(
        self,
        rng: np.random.Generator,
        item: Range,
        centre: tuple[int, int, int] | None,
        movement: Movement | None,
    ) -> dict[str, NDArray[Any]]:
        stream = self.stream
        size, margin = stream.patch, stream.margin
        extents = self.across.turned((item.slices, *item.sample.shape[1:]))
        where = (None, *_corner(rng)) if isinstance(stream.place, Corners) else (None, None, None)
        start = [
            _start(rng, extent, length, around, place, None if centre is None else centre[axis])
            for axis, (extent, length, around, place) in enumerate(zip(extents, size, margin, where, strict=True))
        ]
        patch = {}
        for role in self.roles:
            around = margin if role in stream.wide else (0, 0, 0)
            first = [at - extra for at, extra in zip(start, around, strict=True)]
            wide = [extent + 2 * extra for extent, extra in zip(size, around, strict=True)]
            array: Any = item.sample.arrays[role]
            # Slices outside of the range may be held out: nothing is read from them, not even for a margin.
            if array.shape[1] == item.sample.shape[0]:
                array = array[:, item.start : item.stop]
            else:  # kinds without slices, such as points, are shifted so that they are relative to the range
                first[0] += item.start
            kind = item.sample.roles[role]
            if self.across.axis:
                array = np.moveaxis(array, 1 + self.across.axis, 1)
            if movement is None:
                patch[role] = kind.cut(array, first, wide)
                continue
            reach = movement.reach(wide)
            patch[role] = kind.cut(kind.move(_wider(kind, array, first, wide, reach), movement), reach, wide)
        return patch


def _wider(kind: Role, array: Any, first: Sequence[int], size: Sequence[int], reach: Sequence[int]) -> NDArray[Any]:
    """Cut a block that is wider than a patch on every side; beyond the edge of the image, its last voxels are repeated.

    A mirrored edge would show a second head beside the first one when the patch is moved.
    """
    start = [at - extra for at, extra in zip(first, reach, strict=True)]
    stop = [at + extent + extra for at, extent, extra in zip(first, size, reach, strict=True)]
    if not kind.on_grid:
        return kind.cut(array, start, [end - at for at, end in zip(start, stop, strict=True)])
    inside = [
        (min(max(at, 0), extent - 1), max(min(end, extent), 1))
        for at, end, extent in zip(start, stop, array.shape[1:], strict=True)
    ]
    block = kind.cut(array, [at for at, _ in inside], [end - at for at, end in inside])
    beyond = [(at - begin, end - last) for begin, end, (at, last) in zip(start, stop, inside, strict=True)]
    return np.pad(block, [(0, 0), *beyond], mode="edge")


def _cube(shape: Sequence[int], spacing: Sequence[float]) -> tuple[float, ...]:
    """Return the voxels along slices, rows and columns of a cube with the larger side of a slice in mm."""
    _, *extents = shape
    side = max(extent * step for extent, step in zip(extents, spacing[1:], strict=True))
    return tuple(side / step for step in spacing)


def _clipped(image: Tensor, codec: Codec | None) -> Tensor:
    """Return an image without values beyond the range of its codec, where the codec clips to it."""
    return image.clamp(*codec.to) if isinstance(codec, Window) and codec.clip else image


def _corner(rng: np.random.Generator) -> tuple[float, float]:
    """Draw a corner or the centre; row and column as fractions of the range of positions."""
    return ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))[rng.integers(5)]


def _start(
    rng: np.random.Generator, extent: int, length: int, around: int, place: float | None, centre: int | None
) -> int:
    """Draw the first index of a patch along one axis, with the margin inside the image where it is large enough."""
    first, last = around, extent - around - length
    if last < first:
        first, last = 0, extent - length
    if last < first:
        return last // 2
    if centre is not None:
        return min(max(centre - length // 2, 0), extent - length)
    return int(rng.integers(first, last + 1)) if place is None else round(first + place * (last - first))


class Batches(Iterator[dict[str, Any]]):
    """Endless iterator of batches that counts the batches it has returned.

    Args:
        datasets: name of the stream to its patches; batches lack streams without.
        streams: streams of the stage, with their batch sizes; a single stream gives flat batches.
        rank: index of this process.
        world: number of processes; each takes its share of every batch.
        drawn: number of batches that were drawn before, when training is resumed.
        workers: number of background processes that cut patches.
        device: device of the tensors.

    Raises:
        UserError: a batch cannot be divided evenly among the processes.
    """

    def __init__(
        self,
        datasets: Mapping[str, PatchDataset],
        streams: Sequence[Stream],
        rank: int = 0,
        world: int = 1,
        drawn: int = 0,
        workers: int = 0,
        device: torch.device | str = "cpu",
    ):
        self.drawn = drawn
        self.device = torch.device(device)
        self.flat = len(streams) == 1
        self._batches: dict[str, Iterator[Any]] = {}
        for stream in (one for one in streams if one.name in datasets):
            if stream.batch_size % world:
                raise UserError(f"--batch-size {stream.batch_size}: not a multiple of the {world} processes")
            share = stream.batch_size // world
            numbers = _Numbers(drawn * stream.batch_size + rank * share, share, stream.batch_size)
            loader = DataLoader(
                datasets[stream.name],
                batch_sampler=numbers,
                num_workers=workers,
                pin_memory=self.device.type == "cuda",
                persistent_workers=workers > 0,
                generator=torch.Generator(),  # a separate one, so that the loader does not draw from the global one
            )
            self._batches[stream.name] = iter(loader)

    def __next__(self) -> dict[str, Any]:
        drawn = {
            name: {role: values.to(self.device, non_blocking=True) for role, values in next(batches).items()}
            for name, batches in self._batches.items()
        }
        self.drawn += 1
        return next(iter(drawn.values())) if self.flat else drawn


def folds_of(subjects: Iterable[str], count: int) -> dict[str, int]:
    """Divide subjects into folds in the order of their names; subject to the number of its fold.

    Args:
        subjects: names of the subjects; they may repeat.
        count: number of folds.

    Raises:
        UserError: there are fewer subjects than folds.
    """
    names = sorted(set(subjects))
    if len(names) < count:
        raise UserError(f"{count} folds need {count} training subjects; there are {len(names)}")
    return {name: number % count for number, name in enumerate(names)}


def datasets(
    ranges: Sequence[Range], streams: Sequence[Stream], roles: Sequence[str], dims: int, seed: Sequence[int]
) -> dict[str, PatchDataset]:
    """Return the patches of every stream by name, each with its own seed; that of the first stream is ``seed``.

    Optional streams without a case are left out.

    Raises:
        UserError: two streams have one name, or no case has the roles of a stream.
    """
    if len({stream.name for stream in streams}) != len(streams):
        raise UserError(f"two streams of a stage are called {', '.join(stream.name for stream in streams)}")
    return {
        stream.name: PatchDataset(ranges, stream, roles, dims, [*seed, *([number] if number else [])])
        for number, stream in enumerate(streams)
        if not (number and stream.optional) or any(fits(item.sample, stream.roles or roles, stream) for item in ranges)
    }


@dataclass(frozen=True)
class _Numbers:
    """Endless iterator of the patch numbers in one process's share of every batch."""

    first: int
    share: int
    step: int

    def __iter__(self) -> Iterator[list[int]]:
        first = self.first
        while True:
            yield list(range(first, first + self.share))
            first += self.step
