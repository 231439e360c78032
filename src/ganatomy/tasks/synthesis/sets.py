"""Sets of images to be compared: real ones, generated ones, and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ganatomy.case import Sample
from ganatomy.data.batches import PatchDataset, Range, usable
from ganatomy.evaluation.judging import Contender
from ganatomy.evaluation.style import minus
from ganatomy.game import Stream
from ganatomy.tasks.synthesis.task import Synthesis, Synthesiser

GRAIN = 16
"""Noise is smoothed by a Gaussian whose deviation is this part of the shorter side."""

SMALL = 32
"""Pixels to which images are reduced before they are searched among training images, so that noise hides no copy."""


@dataclass(frozen=True)
class ImageSet:
    """Images as they are compared: from -1 to 1, the ends of their windows, and nothing beyond.

    Attributes:
        images: (n, channels, [slices,] rows, columns), the roles one after another.
        labels: place of each one's label among the classes, (n,); none where they have no labels.
        subjects: of real images, one each.
    """

    images: Tensor
    labels: Tensor | None = None
    subjects: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Sequence[int] | NDArray[np.intp]) -> ImageSet:
        """Some of them, in this order."""
        index = np.asarray(index, np.intp).tolist()
        labels = None if self.labels is None else self.labels[index]
        return ImageSet(self.images[index], labels, tuple(self.subjects[i] for i in index))


@dataclass(frozen=True)
class Wanted:
    """What a contender is asked for.

    Attributes:
        count: number of images.
        number: of the resampling; another one means other images.
        labels: of the images, for those who make images by label.
        spare: real images that they are not compared with.
        training: real images that may be learned from.
    """

    count: int
    number: int
    labels: Tensor | None
    spare: ImageSet
    training: ImageSet

    @property
    def seeds(self) -> range:
        """One for each image, and none twice."""
        return range(self.number * self.count, (self.number + 1) * self.count)


@dataclass(frozen=True)
class Maker(Contender):
    """A trained synthesiser as a contender; ``run`` takes what is ``Wanted`` and gives an ``ImageSet``."""

    method: Synthesiser | None = None
    device: str = "cpu"

    @classmethod
    def of(cls, method: Synthesiser, name: str, about: str = "", device: str = "cpu") -> Maker:
        """A synthesiser under this name."""

        def run(wanted: Wanted) -> ImageSet:
            labels = wanted.labels if method.labelled else None
            images = method.images(wanted.seeds, labels, device=device)
            return ImageSet(between(images, method.task), labels)

        return cls(name, run, about, method, device)

    @torch.no_grad()
    def from_latents(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Images of these latent numbers (n, latent size)."""
        assert self.method is not None
        own = labels.to(self.device) if self.method.labelled and labels is not None else None
        return between(self.method.sample(latents.to(self.device), own).float().cpu(), self.method.task)


def noise(wanted: Wanted) -> ImageSet:
    """Smoothed Gaussian noise with the training images' mean and standard deviation per channel."""
    like = wanted.training.images if len(wanted.training) else wanted.spare.images
    rng = np.random.default_rng([GRAIN, wanted.number])
    shape = (wanted.count, *like.shape[1:])
    grain = min(shape[2:]) / GRAIN
    drawn = gaussian_filter(rng.standard_normal(shape), (0, 0, *[grain] * (len(shape) - 2)))
    axes = (0, *range(2, len(shape)))
    drawn = (drawn - drawn.mean(axis=axes, keepdims=True)) / drawn.std(axis=axes, keepdims=True)
    values = like.numpy().astype(np.float64)
    made = drawn * values.std(axis=axes, keepdims=True) + values.mean(axis=axes, keepdims=True)
    return ImageSet(torch.from_numpy(made).float().clamp(float(values.min()), float(values.max())))


def real_images(task: Synthesis, cases: Sequence[Sample], most: int, seed: int = 0) -> ImageSet:
    """One image per usable slice of the cases, volumes one per case; at most so many, drawn by the seed.

    Larger slices are cut to the size that is made, at a place drawn by the seed. Nothing is mirrored or turned.
    """
    whole = usable(task, cases)
    flat = len(task.size) == 2
    pool = [Range(item.case, i, i + 1) for item in whole for i in range(item.start, item.stop)] if flat else whole
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pool))[:most])
    patch = (1, *task.size) if flat else task.size
    stream = Stream(1, patch)  # type: ignore[arg-type]
    images, labels = [], []
    for number in chosen.tolist():
        one = PatchDataset(
            [pool[number]], stream, task.codecs, task.roles, len(task.size), [seed, number], task.classes
        )[0]
        images.append(torch.cat([one[role] for role in task.roles]))
        labels.append(one.get("label"))
    if not images:
        return ImageSet(torch.empty(0))
    return ImageSet(
        between(torch.stack(images), task),
        torch.stack(labels) if task.classes else None,  # type: ignore[arg-type]
        tuple(pool[number].case.case.subject for number in chosen),
    )


def halves(pool: ImageSet, rng: np.random.Generator, most: int) -> tuple[ImageSet, ImageSet]:
    """Two sets of equal size that share no subject, where there are several, and no image."""
    names = rng.permutation(sorted(set(pool.subjects)))
    place = {name: number for number, name in enumerate(names)}
    order = np.array(sorted(range(len(pool)), key=lambda i: place[pool.subjects[i]]))
    middle = len(pool) // 2
    if len(names) > 1:
        owners = np.array([place[pool.subjects[i]] for i in order])
        edges = 1 + np.flatnonzero(np.diff(owners))
        middle = int(edges[np.argmin(np.abs(edges - len(pool) / 2))])
    size = min(middle, len(pool) - middle, most)
    first, second = (rng.permutation(part)[:size] for part in (order[:middle], order[middle:]))
    return pool.take(first), pool.take(second)


def between(images: Tensor, task: Synthesis) -> Tensor:
    """Images in the range of the networks, cut off at the ends of their windows as a viewer would, in [-1, 1]."""
    parts = torch.split(images, widths(task), dim=1)
    ends = [_ends(task.codecs[role]) for role in task.roles]
    scaled = [2 * (part - low) / (high - low) - 1 for part, (low, high) in zip(parts, ends, strict=True)]
    return torch.cat(scaled, dim=1).clamp(-1, 1)


def physical(images: Tensor, task: Synthesis) -> dict[str, NDArray[np.float32]]:
    """Images in [-1, 1] in physical units by role."""
    found = {}
    for role, part in zip(task.roles, torch.split(images, widths(task), dim=1), strict=True):
        low, high = _ends(task.codecs[role])
        encoded = (part.numpy() + 1) / 2 * (high - low) + low
        found[role] = np.asarray(task.codecs[role].decode(encoded), np.float32)
    return found


def planes(images: Tensor) -> NDArray[np.float32]:
    """Pictures (n, channels, rows, columns); of volumes the middle slice."""
    values = images.numpy()
    return values if values.ndim == 4 else values[:, :, values.shape[2] // 2]


def in_bytes(one: ImageSet) -> NDArray[np.float32]:
    """Pictures in 8 bits, 0 to 255."""
    return np.asarray(np.rint((planes(one.images) + 1) * 127.5), np.float32)


def thumbnails(one: ImageSet) -> NDArray[np.float32]:
    """Pictures of at most 32 pixels a side."""
    pictures = torch.from_numpy(planes(one.images))
    rows, columns = (min(SMALL, length) for length in pictures.shape[2:])
    reduced: Tensor = adaptive_avg_pool2d(pictures, (rows, columns))
    return np.asarray(reduced, np.float32)


def widths(task: Synthesis) -> list[int]:
    """Channels of each role."""
    return [task.channels.get(role, 1) for role in task.roles]


def unit_of(task: Synthesis) -> str:
    """Unit that all roles share, empty where they differ or have none."""
    units = {codec.unit for codec in task.codecs.values()}
    return (units.pop() or "") if len(units) == 1 else ""


def window(task: Synthesis, role: str) -> tuple[float, float]:
    """Physical values shown black and white."""
    low, high = task.codecs[role].decode(np.array(_ends(task.codecs[role])))
    return float(low), float(high)


def windows(task: Synthesis) -> str:
    """The windows of all roles in words."""
    ends = {role: window(task, role) for role in task.roles}
    said = (f"{role} {low:g} to {high:g} {task.codecs[role].unit or ''}" for role, (low, high) in ends.items())
    return minus(", ".join(words.rstrip() for words in said))


def _ends(codec: Any) -> tuple[float, float]:
    """The range to which a codec maps its window."""
    low, high = codec.to
    return float(low), float(high)
