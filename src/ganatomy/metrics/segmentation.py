"""Overlap, volume and surface distances between a segmented region and its truth.

Masks are boolean arrays of the same shape, (slices, rows, columns), of one region. Voxels outside ``known`` were not
annotated and do not count. Where both masks are empty the agreement is perfect (overlap 1, distance 0 mm), where
exactly one is, there is none (overlap 0, distance infinite).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ganatomy.metrics.metric import Array, Mask


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of a region by prediction and truth; a sum of several pools their voxels."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    def __add__(self, other: "Overlap") -> "Overlap":
        return Overlap(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
            self.true_negatives + other.true_negatives,
        )

    @property
    def dice(self) -> float:
        """Dice coefficient (F1 score), 2 TP / (2 TP + FP + FN); 1 if both are empty."""
        errors = self.false_positives + self.false_negatives
        return self._share(2 * self.true_positives, 2 * self.true_positives + errors)

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard index), TP / (TP + FP + FN); 1 if both are empty."""
        return self._share(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)

    @property
    def sensitivity(self) -> float:
        """Sensitivity (recall), TP / (TP + FN); with an empty truth 1 for an empty prediction and 0 otherwise."""
        return self._share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """Precision, TP / (TP + FP); for an empty prediction 1 with an empty truth and 0 otherwise."""
        return self._share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def specificity(self) -> float:
        """Specificity, TN / (TN + FP); NaN if the truth fills the image. Near 1 wherever regions are small."""
        negatives = self.true_negatives + self.false_positives
        return self.true_negatives / negatives if negatives else math.nan

    def _share(self, part: int, whole: int) -> float:
        if whole:
            return part / whole
        return float(self.false_positives + self.false_negatives == 0)


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm from every surface voxel of either mask to the nearest surface voxel of the other.

    Empty arrays where neither has a surface, infinite distances where one has none.
    """

    to_truth: Array
    to_prediction: Array

    @property
    def hd95(self) -> float:
        """95 % Hausdorff distance: the larger of both directions' 95th percentiles (linear), in mm, as in MONAI."""
        return self.hausdorff(95)

    @property
    def average(self) -> float:
        """Average symmetric surface distance: mean over the surface voxels of both masks together, in mm."""
        both = np.concatenate([self.to_truth, self.to_prediction])
        return float(both.mean()) if both.size else 0.0

    def normalised(self, tolerance: float) -> float:
        """Return the share of the surface voxels of both masks within a tolerance of the other; 1 if both are empty.

        This is the normalised surface distance, also called surface Dice, with voxels as units of surface, as in MONAI.

        Source: Nikolov et al., J. Med. Internet Res. 23(7):e26151, 2021. doi:10.2196/26151

        Args:
            tolerance: largest distance in mm that counts as agreement.
        """
        both = np.concatenate([self.to_truth, self.to_prediction])
        return float((both <= tolerance).mean()) if both.size else 1.0

    def hausdorff(self, percentile: float = 100) -> float:
        """Return the larger of the two directions' percentiles, in mm; that of 100 is the Hausdorff distance."""
        directions = [distances for distances in (self.to_truth, self.to_prediction) if distances.size]
        if any(np.isinf(distances).any() for distances in directions):
            return math.inf
        return max((float(np.percentile(distances, percentile)) for distances in directions), default=0.0)


@dataclass(frozen=True)
class RegionScores:
    """Scores of a segmented region in one case.

    Attributes:
        overlap: voxel counts and their ratios.
        surface: distances between the two surfaces.
        volume: volume of the prediction in mm³.
        true_volume: volume of the truth in mm³.
    """

    overlap: Overlap
    surface: SurfaceDistances
    volume: float
    true_volume: float

    @property
    def numbers(self) -> dict[str, float]:
        """Return all scores by name; names of scores with a unit end with it."""
        ratios = ("dice", "iou", "sensitivity", "precision", "specificity")
        return {
            **{name: getattr(self.overlap, name) for name in ratios},
            "hd95_mm": self.surface.hd95,
            "assd_mm": self.surface.average,
            "volume_mm3": self.volume,
            "true_volume_mm3": self.true_volume,
        }


def score_region(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, spacing: Sequence[float], known: npt.ArrayLike | None = None
) -> RegionScores:
    """Compare a segmented region with its truth by overlap, volume and surface.

    Args:
        prediction: boolean, (slices, rows, columns).
        truth: boolean, same shape.
        spacing: distance between voxel centres along each axis, in mm.
        known: boolean, same shape: where the truth is annotated; everywhere unless given.

    Raises:
        ValueError: different shapes, or not one spacing per axis.
    """
    prediction, truth, known = _masks(prediction, truth, known)
    return RegionScores(
        count_overlap(prediction, truth, known),
        surface_distances(prediction, truth, spacing, known),
        volume(prediction & known, spacing),
        volume(truth & known, spacing),
    )


def count_overlap(prediction: npt.ArrayLike, truth: npt.ArrayLike, known: npt.ArrayLike | None = None) -> Overlap:
    """Count the voxels on which two masks agree and differ.

    Args:
        prediction: boolean, any shape.
        truth: boolean, same shape.
        known: boolean, same shape: where the truth is annotated; everywhere unless given.

    Raises:
        ValueError: different shapes.
    """
    prediction, truth, known = _masks(prediction, truth, known)
    both, found, present, total = (
        int(np.count_nonzero(mask)) for mask in (prediction & truth & known, prediction & known, truth & known, known)
    )
    return Overlap(both, found - both, present - both, total - found - present + both)


def volume(mask: npt.ArrayLike, spacing: Sequence[float]) -> float:
    """Return the volume of a mask in mm³.

    Args:
        mask: boolean, (slices, rows, columns).
        spacing: distance between voxel centres along each axis, in mm.

    Raises:
        ValueError: not one spacing per axis.
    """
    mask = np.asarray(mask, dtype=np.bool_)
    return float(np.count_nonzero(mask) * math.prod(_per_axis(spacing, mask.ndim)))


def surface_distances(
    prediction: npt.ArrayLike, truth: npt.ArrayLike, spacing: Sequence[float], known: npt.ArrayLike | None = None
) -> SurfaceDistances:
    """Compute the distances between the surfaces of two masks, by SciPy's exact Euclidean distance transform.

    A surface voxel has a face towards a voxel outside the mask, or towards the outside of the array; distances are
    between centres. Axes of one voxel are left out, so that a slice has an outline. The border of ``known`` is no
    surface, and surfaces beyond it count for neither mask.

    Args:
        prediction: boolean, (slices, rows, columns).
        truth: boolean, same shape.
        spacing: distance between voxel centres along each axis, in mm.
        known: boolean, same shape: where the truth is annotated; everywhere unless given.

    Raises:
        ValueError: different shapes, or not one spacing per axis.
    """
    prediction, truth, known = _masks(prediction, truth, known)
    axes = [axis for axis, length in enumerate(known.shape) if length > 1] or [0]
    mm = np.take(_per_axis(spacing, known.ndim), axes)
    shape = tuple(known.shape[axis] for axis in axes)
    prediction, truth, known = (mask.reshape(shape) for mask in (prediction & known, truth & known, known))
    # A margin of one voxel tells the border of the box from that of the array.
    box = tuple(
        slice(max(int(hits.min()) - 1, 0), int(hits.max()) + 2) for hits in np.nonzero(prediction | truth) if hits.size
    )
    first, second = (_surface(mask[box], known[box]) for mask in (prediction, truth))
    return SurfaceDistances(_distances(first, second, mm), _distances(second, first, mm))


def _masks(prediction: npt.ArrayLike, truth: npt.ArrayLike, known: npt.ArrayLike | None) -> tuple[Mask, Mask, Mask]:
    a, b = np.asarray(prediction, dtype=np.bool_), np.asarray(truth, dtype=np.bool_)
    inside = np.ones(a.shape, dtype=np.bool_) if known is None else np.asarray(known, dtype=np.bool_)
    if not a.shape == b.shape == inside.shape:
        raise ValueError(f"masks of different shapes cannot be compared: {a.shape}, {b.shape} and {inside.shape}")
    return a, b, inside


def _per_axis(spacing: Sequence[float], axes: int) -> Sequence[float]:
    if len(spacing) != axes:
        raise ValueError(f"a mask with {axes} axes needs as many spacings, not {len(spacing)}")
    return spacing


def _surface(mask: Mask, known: Mask) -> Mask:
    return mask & ~np.asarray(ndimage.binary_erosion(mask | ~known), dtype=np.bool_)


def _distances(start: Mask, end: Mask, spacing: npt.NDArray[np.float64]) -> Array:
    """Return the distance in mm of every voxel of one surface to the nearest voxel of the other."""
    if not end.any():
        return np.full(np.count_nonzero(start), math.inf)
    transform = np.asarray(ndimage.distance_transform_edt(~end, sampling=spacing), dtype=np.float64)
    return transform[start]
