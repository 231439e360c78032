"""Classic augmentation of a lesion by many views of it, as a control for augmentation by synthetic images."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MARGIN = 0.25
"""Tissue around a lesion in views that are not scaled, as a fraction of its diameter (our choice)."""
SCALES = (0.1, 0.4)
"""Least and greatest margin of scaled views, as a fraction of the lesion's diameter."""
FARTHEST = 4.0
"""Largest shift of a lesion, in pixels."""
MIRRORS = ((1, -1), (-1, 1), (-1, -1))
"""Directions of rows and columns in mirrored views, 1 or -1."""


@dataclass(frozen=True)
class View:
    """A square view of a lesion: rotation, margin, mirroring and shift.

    Args:
        angle: rotation of the view in degrees.
        margin: tissue on every side of the lesion, as a fraction of its diameter.
        mirror: directions of rows and columns, 1 or -1.
        shift: rows and columns from the centre of the lesion to that of the view, in pixels of the image.
    """

    angle: float
    margin: float = MARGIN
    mirror: tuple[int, int] = (1, 1)
    shift: tuple[float, float] = (0.0, 0.0)

    def cut(
        self, image: NDArray[Any], centre: tuple[float, float], diameter: float, size: int = 64
    ) -> NDArray[np.float32]:
        """Cut the view out of an image by cubic spline interpolation; the image is mirrored beyond its edges.

        Args:
            image: image of shape (rows, columns).
            centre: row and column of the lesion's centre.
            diameter: diameter of the lesion in pixels.
            size: number of rows and of columns of the view.

        Returns:
            View of shape (size, size).
        """
        turn = np.deg2rad(self.angle)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        matrix = rotation @ np.diag(self.mirror) * diameter * (1 + 2 * self.margin) / size
        offset = np.add(centre, self.shift) - matrix @ np.full(2, (size - 1) / 2)
        view = ndimage.affine_transform(image.astype(np.float32), matrix, offset, (size, size), order=3, mode="mirror")
        return np.asarray(view, np.float32)


def classic_views(
    diameter: float,
    rng: np.random.Generator,
    rotations: int = 30,
    flips: int = 3,
    translations: int = 7,
    scales: int = 5,
) -> Iterator[View]:
    """Yield views of a lesion: rotated ones, and each of these mirrored, shifted, and with other margins.

    Their number is rotations · (1 + flips + translations + scales), 480 by default. Angles are between 0 and 180°,
    shifts at most a tenth of the diameter and at most 4 pixels. Frid-Adar et al., arXiv 1803.01229.

    Args:
        diameter: diameter of the lesion in pixels.
        rng: generator of the random numbers.
        rotations: number of rotated views.
        flips: number of mirrored views per rotated one, at most 3: rows, columns, both.
        translations: number of shifted views per rotated one.
        scales: number of views with another margin per rotated one.
    """
    farthest = min(FARTHEST, 0.1 * diameter)
    for angle in rng.uniform(0, 180, rotations):
        yield View(angle)
        yield from (View(angle, mirror=mirror) for mirror in MIRRORS[:flips])
        for rows, columns in rng.uniform(-farthest, farthest, (translations, 2)):
            yield View(angle, shift=(rows, columns))
        yield from (View(angle, margin=margin) for margin in rng.uniform(*SCALES, scales))
