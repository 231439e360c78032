"""Landmarks without training: those of the training images that look most alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool3d

from ganatomy.case import Array, Sample
from ganatomy.inference.predictor import encoded

COARSE = 24
"""Largest number of slices, rows and columns of the averaged images that are compared (our choice)."""
SHARE = 0.5
"""Share of the images that must have a landmark for it to be placed."""


class Neighbours:
    """Training images, averaged to few voxels, with their landmarks.

    Args:
        given: role of the images.
        landmarks: role of the landmarks.
        training: training cases; those without landmarks are left out.
    """

    def __init__(self, given: str, landmarks: str, training: Sequence[Sample]):
        self.given = given
        known = [case for case in training if landmarks in case.arrays and given in case.arrays]
        self.shapes = [case.shape for case in known]
        self.images = [self.coarse(case) for case in known]
        self.points = [np.asarray(case.arrays[landmarks], np.float64) for case in known]

    @classmethod
    def of(cls, given: str, landmarks: str, training: Sequence[Sample]) -> Self | None:
        """Return the neighbours of training cases; None where no case has landmarks."""
        found = cls(given, landmarks, training)
        return found if found.points else None

    def coarse(self, case: Sample) -> NDArray[np.float32]:
        """Return the averaged image of a case with mean 0 and length 1, flattened."""
        whole = torch.from_numpy(np.ascontiguousarray(encoded(case, (self.given,))(0, case.shape[0])))
        slices, rows, columns = (min(extent, COARSE) for extent in case.shape)
        values = adaptive_avg_pool3d(whole.float(), (slices, rows, columns)).flatten().numpy()
        values = values - values.mean()
        return np.asarray(values / max(float(np.linalg.norm(values)), 1e-6), np.float32)

    def locate(self, case: Sample, count: int) -> Array:
        """Return the mean landmarks of the images that correlate best with that of a case, (landmarks, 1, 1, 4).

        Images of another size on the working grid count only where none has the size of the case.

        Args:
            case: case whose landmarks are looked for.
            count: number of images.
        """
        alike = [place for place, shape in enumerate(self.shapes) if shape == case.shape] or range(len(self.shapes))
        own = self.coarse(case)
        scores = [float(self.images[place] @ own) if self.images[place].shape == own.shape else -1.0 for place in alike]
        best = np.argsort(scores, kind="stable")[::-1][:count]
        return mean_points([self.points[alike[place]] for place in best])


def mean_points(points: Sequence[Array]) -> Array:
    """Return the mean positions of landmarks, of those that most of several cases have; (landmarks, 1, 1, 4) each."""
    arrays = np.stack([np.asarray(one, np.float64) for one in points])
    there = arrays[..., 3:4]
    places = (arrays[..., :3] * there).sum(0) / np.maximum(there.sum(0), 1)
    placed = there.mean(0) >= SHARE
    return np.concatenate([places * placed, placed], -1)
