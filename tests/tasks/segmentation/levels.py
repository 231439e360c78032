"""A segmentation system whose probabilities are its inputs, and cases with known regions."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from ganatomy.case import Case, Held
from ganatomy.images.image import Image
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

SHAPE, SPACING = (5, 7, 6), (3.0, 1.0, 1.5)


class Levels(Segmenter):
    """A segmentation method whose inputs are the probabilities of the regions, in thousandths."""

    class Config(SegmentationConfig):
        role_defaults: ClassVar = {"inputs": {"window": (0.0, 1000.0)}}

        inputs: tuple[str, ...] = ("t1", "t2")
        labels: str = "tumour"
        regions: Mapping[str, tuple[int, ...]] = {"whole": (1, 2, 4), "core": (1, 4)}
        classes: bool = False

    seen: list
    """Slices that the network was run on."""

    def __init__(self, config=None, **values):
        super().__init__(config or self.Config.preset("paper", **values))
        self.seen = []

    @property
    def exclusive(self):
        return self.config.classes

    def stages(self):
        return []

    def segment(self, image):
        self.seen.append(len(image))
        return image[:, : len(self.config.regions)]


def affine(spacing=SPACING):
    """Return the affine of axial slices from the feet up, rows to the back, columns to the left, off the origin."""
    matrix = np.diag([1.0, 1.0, 1.0, 1.0])
    matrix[:3, :3] = [[0, 0, -spacing[2]], [0, -spacing[1], 0], [spacing[0], 0, 0]]
    matrix[:3, 3] = (40.0, 31.0, -12.0)
    return matrix


def volume(values, spacing=SPACING):
    """Make an axial image from (slices, rows, columns), or with channels before them."""
    values = np.asarray(values)
    return Image(values if values.ndim == 4 else values[None], affine(spacing), "a.u.")


def stored(image, axes, flipped):
    """Store a volume with its axes in another order, some of them reversed: slices, rows, columns of the file."""
    array = image.numpy().transpose(0, *(1 + axis for axis in axes))
    matrix = np.eye(4)
    matrix[:3, :3] = image.affine[:3, :3][:, axes]
    matrix[:3, 3] = image.affine[:3, 3]
    for place, turn in enumerate(flipped):
        if turn:
            matrix[:3, 3] += matrix[:3, place] * (array.shape[1 + place] - 1)
            matrix[:3, place] *= -1
            array = np.flip(array, 1 + place)
    return Image(np.ascontiguousarray(array), matrix, image.unit, image.header)


def case(task, name="a", **values):
    """Make a prepared sample, as for training and judges, whose images have sources."""
    images = {role: volume(value) for role, value in values.items()}
    sources = {role: Held(image) for role, image in images.items()}
    sample = task.frame(images, Case(name, name, "train", sources))
    return task.simulate(sample, 0)


def random_images(*roles, seed=0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    return {role: rng.integers(0, 1001, shape).astype(np.float32) for role in roles}


def tensors(task, sample, roles):
    """Make a batch of whole slices of a case."""
    batch = {}
    for role in roles:
        parts = [sample.role(role).tensor(np.asarray(sample.arrays[role])[:, z : z + 1], 2) for z in range(SHAPE[0])]
        batch[role] = torch.stack(parts)
    return batch
