"""Sets of images to be compared: what a set is, and where the real ones come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ganatomy.case import Role, Sample
from ganatomy.data.batches import PatchDataset, Range, usable
from ganatomy.evaluation import sets
from ganatomy.inference.predictor import decoding_role
from ganatomy.tasks.synthesis.task import LABEL, Synthesis

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


def single_images(task: Synthesis, pieces: Sequence[Range]) -> list[Range]:
    """Pieces of one image each: every slice, or where volumes are made, every piece as it is."""
    if len(task.size) == 3:
        return list(pieces)
    return [Range(item.sample, index, index + 1) for item in pieces for index in range(item.start, item.stop)]


def cut_images(
    task: Synthesis, pieces: Sequence[Range], seeds: Iterable[Sequence[int]]
) -> tuple[Tensor, Tensor | None]:
    """Real images of the size that is made, cut from larger ones at places drawn by seeds; nothing is mirrored.

    Args:
        task: which roles and which size.
        pieces: at least one, see `single_images`.
        seeds: one for each.

    Returns:
        Images (n, channels, [slices,] rows, columns) in the range of the networks, the roles one after another, and
        their labels (n,), where these matter.
    """
    images, labels = [], []
    for piece, seed in zip(pieces, seeds, strict=True):
        one = PatchDataset([piece], task.stream(1), task.required, len(task.size), seed)[0]
        images.append(torch.cat([one[name] for name in task.images]))
        if LABEL in one:
            labels.append(one[LABEL])
    return torch.stack(images), torch.stack(labels) if labels else None


def real_images(task: Synthesis, cases: Sequence[Sample], most: int, seed: int = 0) -> ImageSet:
    """One image per usable slice of the cases, volumes one per case; at most so many, drawn by the seed."""
    pool = single_images(task, usable(task, cases))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pool))[:most]).tolist()
    if not chosen:
        return ImageSet(torch.empty(0))
    images, labels = cut_images(task, [pool[number] for number in chosen], [(seed, number) for number in chosen])
    return ImageSet(between(images, task), labels, tuple(pool[number].sample.case.subject for number in chosen))


def halves(pool: ImageSet, rng: np.random.Generator, most: int) -> tuple[ImageSet, ImageSet]:
    """Two sets of equal size that share no subject, where there are several, and no image."""
    first, second = sets.halves(pool.subjects, rng, most)
    return pool.take(first), pool.take(second)


def separate(images: Tensor, task: Synthesis) -> dict[str, Tensor]:
    """Images (n, channels, ...) by role."""
    parts = torch.split(images, widths(task), dim=1)
    return dict(zip(task.images, parts, strict=True))


def between(images: Tensor, task: Synthesis) -> Tensor:
    """Images in the range of the networks, cut off at its ends as a viewer would cut off a window, in [-1, 1]."""
    low, high = task.to
    return (2 * (images - low) / (high - low) - 1).clamp(-1, 1)


def physical(images: Tensor, task: Synthesis) -> dict[str, NDArray[np.float32]]:
    """Images in [-1, 1] in physical units by role."""
    low, high = task.to
    parts = separate((images + 1) / 2 * (high - low) + low, task)
    return {name: made_role(task, name).decoded(part.numpy()) for name, part in parts.items()}


def made_role(task: Synthesis, name: str) -> Role:
    """A role with the scale of what is made."""
    return decoding_role(task, task.images[name])


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
    return [role.channels for role in task.images.values()]


def unit_of(task: Synthesis) -> str:
    """Unit that all roles share, empty where they differ or have none."""
    units = {unit(task, name) for name in task.images}
    return (units.pop() or "") if len(units) == 1 else ""


def unit(task: Synthesis, name: str) -> str | None:
    """Unit of a role."""
    codec = task.images[name].codec
    return codec.unit if codec else None


def window(task: Synthesis, name: str) -> tuple[float, float]:
    """Physical values of a role that are shown black and white."""
    low, high = made_role(task, name).decoded(np.array(task.to, np.float32))
    return float(low), float(high)
