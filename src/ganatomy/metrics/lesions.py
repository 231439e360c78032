"""Lesions that are found one by one: which components of a predicted mask count as detections of which true lesions.

A detection is only as good as its criterion, so that every number is one of a named criterion: a disc of 20 pixels'
radius that is shifted by 12 pixels has an intersection over union of 0.46, and its centre is still inside of the true
one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from ganatomy.metrics.detection import LesionDetection
from ganatomy.metrics.metric import Mask
from ganatomy.metrics.objects import Overlaps

Numbers = NDArray[np.int32]
"""Numbers of components, from 1 on; 0 is the background."""
Pairs = NDArray[np.bool_]
"""Whether predicted and true components match, (predicted, true)."""
Criterion = Literal["touch", "iou 0.1", "iou 0.5", "centre", "dice 0.7"]


@dataclass(frozen=True)
class Matching:
    """A criterion by which a predicted component is a detection of a true lesion.

    Attributes:
        words: definition, as the end of "a lesion is found where ...".
        pairs: function of predicted components, true ones, and their areas that returns which pairs fulfil it.
    """

    words: str
    pairs: Callable[[Numbers, Numbers, Overlaps], Pairs]


def _iou(least: float) -> Callable[[Numbers, Numbers, Overlaps], Pairs]:
    def pairs(found: Numbers, true: Numbers, areas: Overlaps) -> Pairs:
        union = areas.found_areas[:, None] + areas.true_areas - areas.shared
        return np.asarray((areas.shared >= least * union) & (areas.shared > 0))

    return pairs


def _dice(least: float) -> Callable[[Numbers, Numbers, Overlaps], Pairs]:
    def pairs(found: Numbers, true: Numbers, areas: Overlaps) -> Pairs:
        both = areas.found_areas[:, None] + areas.true_areas
        return np.asarray((2 * areas.shared >= least * both) & (areas.shared > 0))

    return pairs


def _touch(found: Numbers, true: Numbers, areas: Overlaps) -> Pairs:
    return np.asarray(areas.shared > 0)


def _centre(found: Numbers, true: Numbers, areas: Overlaps) -> Pairs:
    inside = np.zeros(areas.shared.shape, np.bool_)
    for row, middle in enumerate(ndimage.center_of_mass(found > 0, found, range(1, len(inside) + 1))):
        if number := true[tuple(np.rint(middle).astype(int))]:
            inside[row, number - 1] = True
    return inside


CRITERIA: Mapping[Criterion, Matching] = MappingProxyType(
    {
        "touch": Matching("a predicted component shares a voxel with it", _touch),
        "iou 0.1": Matching("its IoU with a predicted component is at least 0.1", _iou(0.1)),
        "iou 0.5": Matching("its IoU with a predicted component is at least 0.5", _iou(0.5)),
        "centre": Matching("the centre of mass of a predicted component is inside of it", _centre),
        "dice 0.7": Matching("its Dice with a predicted component is at least 0.7", _dice(0.7)),
    }
)
"""Criteria of detection by name."""


def components(mask: npt.ArrayLike) -> Numbers:
    """Number the connected components of a mask; voxels that share a corner are connected.

    Args:
        mask: (rows, columns) or (slices, rows, columns).
    """
    array = np.asarray(mask, np.bool_)
    numbers, _ = ndimage.label(array, np.ones((3,) * array.ndim))
    return np.asarray(numbers, np.int32)


def find_lesions(predicted: npt.ArrayLike, true: npt.ArrayLike, criterion: Criterion) -> LesionDetection:
    """Count the true lesions that are found by a criterion, and the predicted components that find none.

    Every component finds one lesion at most, and every lesion is found once: the largest number of such pairs counts.
    Further components that also fulfil the criterion for a found lesion are not counted as false positives.

    Args:
        predicted: mask of an image or volume.
        true: mask of the same shape, whose connected components are the lesions.
        criterion: name of one of `CRITERIA`.

    Raises:
        ValueError: the shapes differ.
    """
    found, lesions = components(predicted), components(true)
    areas = Overlaps(found, lesions)
    pairs = CRITERIA[criterion].pairs(found, lesions, areas)
    matched = maximum_bipartite_matching(csr_matrix(pairs), perm_type="column") if pairs.size else np.array([-1])
    lost = int((~pairs.any(1)).sum())
    return LesionDetection(pairs.shape[1], int((matched >= 0).sum()), lost, predicted=pairs.shape[0])


def kept_components(mask: Mask, smallest: int, kept: Literal["all", "largest", "central"] = "all") -> Mask:
    """Return a mask without its small components, and perhaps with one component alone.

    Args:
        mask: (slices, rows, columns).
        smallest: components of fewer voxels are removed.
        kept: ``largest`` keeps the largest component only, ``central`` the one whose centre of mass is nearest to the
            middle of the image.
    """
    numbers = components(mask)
    sizes = np.bincount(numbers.reshape(-1))
    there = [number for number in range(1, len(sizes)) if sizes[number] >= smallest]
    if kept == "largest":
        there = sorted(there, key=lambda number: -sizes[number])[:1]
    elif kept == "central":
        middle = (np.array(mask.shape) - 1) / 2
        centres = dict(zip(there, ndimage.center_of_mass(mask, numbers, there), strict=True))
        there = sorted(there, key=lambda number: float(np.linalg.norm(centres[number] - middle)))[:1]
    return np.asarray(np.isin(numbers, there))
