"""Many views of one lesion: the classic augmentation that adversarial one is measured against."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MARGIN = 0.25
"""Tissue around a lesion in views that are not scaled, as a fraction of its diameter (our choice)."""
SCALES = (0.1, 0.4)
"""Limits of the same in scaled views."""
FARTHEST = 4.0
"""Pixels by which a lesion is moved at most."""
MIRRORS = ((1, -1), (-1, 1), (-1, -1))
"""Directions of rows and columns in mirrored views."""


@dataclass(frozen=True)
class View:
    """A square frame laid over an image.

    Args:
        angle: degrees by which the frame is turned.
        margin: tissue on every side of the lesion, as a fraction of its diameter.
        mirror: directions of rows and columns, 1 or -1.
        shift: rows and columns, in pixels of the image, by which the frame's centre is off the lesion's.
    """

    angle: float
    margin: float = MARGIN
    mirror: tuple[int, int] = (1, 1)
    shift: tuple[float, float] = (0.0, 0.0)

    def cut(
        self, image: NDArray[Any], centre: tuple[float, float], diameter: float, size: int = 64
    ) -> NDArray[np.float32]:
        """What is in the frame, (size, size), by bicubic interpolation; beyond its edges the image is mirrored.

        Args:
            image: (rows, columns).
            centre: row and column of the lesion.
            diameter: of the lesion in pixels.
            size: rows and columns of the view.
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
    """Views of one lesion: every rotated one, then this one mirrored, moved, and with more or less tissue around.

    These are rotations · (1 + flips + translations + scales) in number, 480 unless told otherwise. Angles are between
    0 and 180°, shifts at most a tenth of the diameter and 4 pixels. Frid-Adar et al., arXiv 1803.01229.

    Args:
        diameter: of the lesion in pixels.
        rng: of everything drawn.
        rotations: of the lesion.
        flips: of every rotated view, 3 at most: rows, columns, both.
        translations: of every rotated view.
        scales: of every rotated view.
    """
    farthest = min(FARTHEST, 0.1 * diameter)
    for angle in rng.uniform(0, 180, rotations):
        yield View(angle)
        yield from (View(angle, mirror=mirror) for mirror in MIRRORS[:flips])
        for rows, columns in rng.uniform(-farthest, farthest, (translations, 2)):
            yield View(angle, shift=(rows, columns))
        yield from (View(angle, margin=margin) for margin in rng.uniform(*SCALES, scales))
