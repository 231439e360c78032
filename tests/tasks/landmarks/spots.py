"""A system that finds bright voxels, and cases with known landmarks."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from ganatomy.case import Case, Held
from ganatomy.images.image import Image
from ganatomy.roles.points import Points
from ganatomy.tasks.landmarks.task import LandmarkConfig, Locator

SHAPE, SPACING = (9, 8, 7), (30.0, 2.0, 3.0)
NAMES = ("top", "middle", "bottom")
LEVELS = (1000, 800, 600)
"""Values of the voxels of the landmarks."""


class Spots(Locator):
    """A method that takes the voxel nearest to a level of each landmark; the nearer and brighter, the more certain."""

    class Config(LandmarkConfig):
        role_defaults: ClassVar = {"image": {"window": (0.0, 1000.0)}}

        image: str = "mr"
        landmarks: str = "spots"
        names: tuple[str, ...] = NAMES
        parts: Mapping[str, tuple[str, ...]] = {"upper": ("top", "middle")}
        spacing: tuple[float, float, float] | None = None

    def __init__(self, **values):
        super().__init__(self.Config.preset("paper", **values))

    def stages(self):
        return []

    def locate(self, image):
        found = []
        for volume in image[:, 0]:
            rows = []
            for level in LEVELS:
                at = (volume - level / 1000).abs().flatten().argmin()
                place = torch.stack(torch.unravel_index(at, volume.shape))
                value = volume.flatten()[at]
                certain = value * (1 - 4 * (value - level / 1000).abs())
                rows.append(torch.cat([place.to(volume), certain.reshape(1)]))
            found.append(torch.stack(rows))
        return torch.stack(found)


def affine():
    """Return the affine of axial slices from the feet up, rows to the back, columns to the left, off the origin."""
    matrix = np.diag([1.0, 1.0, 1.0, 1.0])
    matrix[:3, :3] = [[0, 0, -SPACING[2]], [0, -SPACING[1], 0], [SPACING[0], 0, 0]]
    matrix[:3, 3] = (40.0, 31.0, -12.0)
    return matrix


PLACES = {"top": (7, 2, 5), "middle": (4, 3, 1), "bottom": (1, 6, 2)}
"""Slice, row and column of each landmark."""


def values_of(there=NAMES, shifted=None):
    """Return a volume in which some landmarks are bright, and the points; one of the bright voxels may be elsewhere."""
    volume = np.zeros(SHAPE, np.float32)
    for name, level in zip(NAMES, LEVELS, strict=True):
        if name in there:
            volume[(shifted or {}).get(name, PLACES[name])] = level
    matrix = affine()
    points = {
        name: tuple(float(one) for one in matrix[:3, :3] @ np.array(PLACES[name], float) + matrix[:3, 3])
        for name in there
    }
    return {"mr": Image(volume[None], matrix, "a.u."), "spots": Points(points)}


def case(task, name="a", **options):
    """Make a prepared sample."""
    values = values_of(**options)
    return task.frame(values, Case(name, name, "train", {role: Held(value) for role, value in values.items()}))
