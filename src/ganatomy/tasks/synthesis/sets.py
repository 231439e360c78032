"""Sets of generated and of real images, and their conversions for comparison and display."""

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
"""Side in pixels to which images are reduced before copies are searched, so that noise does not hide them."""


@dataclass(frozen=True)
class ImageSet:
    """A set of images for comparison, clipped to [-1, 1], the ends of their windows.

    Attributes:
        images: (n, channels, [slices,] rows, columns), with the roles concatenated as channels.
        labels: class index of each image, (n,); None without labels.
        subjects: subject of each real image; empty for generated ones.
    """

    images: Tensor
    labels: Tensor | None = None
    subjects: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Sequence[int] | NDArray[np.intp]) -> ImageSet:
        """Return the images of some indices, in their order."""
        index = np.asarray(index, np.intp).tolist()
        labels = None if self.labels is None else self.labels[index]
        return ImageSet(self.images[index], labels, tuple(self.subjects[i] for i in index))


def single_images(task: Synthesis, pieces: Sequence[Range]) -> list[Range]:
    """Divide pieces of complete cases into single slices; for tasks of volumes, return them whole."""
    whole = [item for item in pieces if task.complete(item.sample)]
    if len(task.size) == 3:
        return whole
    return [Range(item.sample, index, index + 1) for item in whole for index in range(item.start, item.stop)]


def cut_images(
    task: Synthesis, pieces: Sequence[Range], seeds: Iterable[Sequence[int]]
) -> tuple[Tensor, Tensor | None]:
    """Cut real images to the size of generated ones, at places drawn by seeds and without flips.

    Args:
        task: task with the roles and the size.
        pieces: at least one piece, see `single_images`.
        seeds: one seed per piece.

    Returns:
        Images (n, channels, [slices,] rows, columns) in the range of the networks, with the roles concatenated as
        channels, and their class indices (n,), None for tasks without classes.
    """
    images, labels = [], []
    for piece, seed in zip(pieces, seeds, strict=True):
        one = PatchDataset([piece], task.stream(1), task.required, len(task.size), seed)[0]
        images.append(torch.cat([one[name] for name in task.images]))
        if LABEL in one:
            labels.append(one[LABEL])
    return torch.stack(images), torch.stack(labels) if labels else None


def real_images(task: Synthesis, cases: Sequence[Sample], most: int, seed: int = 0) -> ImageSet:
    """Draw real images, one per usable slice of the cases, or one per case for tasks of volumes.

    Args:
        task: task with the roles and the size.
        cases: prepared cases.
        most: largest number of images.
        seed: seed of the draw.
    """
    pool = single_images(task, usable(task, cases))
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pool))[:most]).tolist()
    if not chosen:
        return ImageSet(torch.empty(0))
    images, labels = cut_images(task, [pool[number] for number in chosen], [(seed, number) for number in chosen])
    return ImageSet(between(images, task), labels, tuple(pool[number].sample.case.subject for number in chosen))


def halves(pool: ImageSet, rng: np.random.Generator, most: int) -> tuple[ImageSet, ImageSet]:
    """Divide a set into two of equal size without a common subject, see `ganatomy.evaluation.sets.halves`."""
    first, second = sets.halves(pool.subjects, rng, most)
    return pool.take(first), pool.take(second)


def one_of_each(one: ImageSet, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the indices of one image of every subject, in random order; of all images without several subjects.

    Args:
        one: the images.
        rng: draws images and order.
    """
    order = rng.permutation(len(one))
    if len(set(one.subjects)) < 2:
        return order
    _, first = np.unique(np.array(one.subjects)[order], return_index=True)
    return order[np.sort(first)]


def separate(images: Tensor, task: Synthesis) -> dict[str, Tensor]:
    """Split images (n, channels, ...) by role."""
    parts = torch.split(images, widths(task), dim=1)
    return dict(zip(task.images, parts, strict=True))


def between(images: Tensor, task: Synthesis) -> Tensor:
    """Convert images from the range of the networks to [-1, 1], clipped at the ends as by a display window."""
    low, high = task.to
    return (2 * (images - low) / (high - low) - 1).clamp(-1, 1)


def physical(images: Tensor, task: Synthesis) -> dict[str, NDArray[np.float32]]:
    """Convert images from [-1, 1] to physical units; returns role to images."""
    low, high = task.to
    parts = separate((images + 1) / 2 * (high - low) + low, task)
    return {name: made_role(task, name).decoded(part.numpy()) for name, part in parts.items()}


def made_role(task: Synthesis, name: str) -> Role:
    """Return a role with the scale with which generated images are decoded."""
    return decoding_role(task, task.images[name])


def planes(images: Tensor) -> NDArray[np.float32]:
    """Return 2D images (n, channels, rows, columns), the middle slices of volumes."""
    values = images.numpy()
    return values if values.ndim == 4 else values[:, :, values.shape[2] // 2]


def in_bytes(one: ImageSet) -> NDArray[np.float32]:
    """Return 2D images with the integer values 0 to 255."""
    return np.asarray(np.rint((planes(one.images) + 1) * 127.5), np.float32)


def thumbnails(one: ImageSet) -> NDArray[np.float32]:
    """Return 2D images reduced to at most `SMALL` pixels a side."""
    pictures = torch.from_numpy(planes(one.images))
    rows, columns = (min(SMALL, length) for length in pictures.shape[2:])
    reduced: Tensor = adaptive_avg_pool2d(pictures, (rows, columns))
    return np.asarray(reduced, np.float32)


def widths(task: Synthesis) -> list[int]:
    """Return the number of channels of each role."""
    return [role.channels for role in task.images.values()]


def unit_of(task: Synthesis) -> str:
    """Return the unit that all roles share; empty where they differ or have none."""
    units = {unit(task, name) for name in task.images}
    return (units.pop() or "") if len(units) == 1 else ""


def unit(task: Synthesis, name: str) -> str | None:
    """Return the unit of a role."""
    codec = task.images[name].codec
    return codec.unit if codec else None


def window(task: Synthesis, name: str) -> tuple[float, float]:
    """Return the physical values of a role that are displayed black and white."""
    low, high = made_role(task, name).decoded(np.array(task.to, np.float32))
    return float(low), float(high)
