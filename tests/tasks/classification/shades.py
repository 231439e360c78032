"""A system that classifies slices by their mean brightness, and cases with known classes."""

from typing import ClassVar

import numpy as np
import torch

from ganatomy.case import Case, Held
from ganatomy.images.image import Image
from ganatomy.tasks.classification.task import ClassificationConfig, Classifier

SHAPE, SPACING = (5, 16, 12), (9.0, 2.5, 2.5)


class Shades(Classifier):
    """The logit of the second class is twice the mean of the image in the range of the networks, -1 to 1.

    The first two columns, black and white in every image, do not count.
    """

    class Config(ClassificationConfig):
        role_defaults: ClassVar = {"image": {"window": (0.0, 100.0), "unit": "a.u."}}

        classes: tuple[str, ...] = ("dark", "bright")
        size: tuple[int, ...] = (16, 12)

    def __init__(self, **values):
        super().__init__(self.Config.preset("paper", **values))

    def stages(self):
        return []

    def classify(self, image):
        mean = image[..., 2:].mean((1, 2, 3))
        logits = [torch.zeros_like(mean), 2 * mean]
        return torch.stack([*logits, *([-mean] if len(self.config.classes) == 3 else [])], 1)


SLICED = {"per": "slice", "classes": ("other", "basal"), "rest": "other"}


def affine(flipped=False):
    """Return the affine of a short-axis stack whose first slice is the basal one, or of the same stack turned over."""
    matrix = np.eye(4)
    normal = np.array([-0.6, 0.64, -0.48])
    columns = np.array([-0.8, -0.48, 0.36])
    rows = np.cross(normal, columns)
    matrix[:3, :3] = np.stack([SPACING[0] * normal, SPACING[1] * rows, SPACING[2] * columns], 1)
    if flipped:
        matrix[:3, 3] = matrix[:3, 0] * (SHAPE[0] - 1)
        matrix[:3, 0] *= -1
    return matrix


def case(task, levels, label=None, words=None, name="a", subject=None, flipped=False):
    """Make a prepared sample with a level for every slice, and a class for the case or for every slice."""
    draw = np.random.default_rng(sum(map(ord, name)))
    plane = draw.uniform(-3, 3, SHAPE[1:])
    volume = np.stack([level + plane for level in levels]).astype(np.float32)
    volume[..., 0], volume[..., 1] = 0, 100
    values = {"image": Image(volume[None], affine(flipped), "a.u.")}
    if words is not None:
        values["slice_labels"] = tuple(words)
    if label is not None:
        values["label"] = label
    held = {role: Held(value) for role, value in values.items() if role != "label"}
    return task.frame(values, Case(name, subject or name, "train", held, label))
