"""Means and standard deviations in regions, and a search for flat regions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter, uniform_filter

from ganatomy.metrics.metric import Array, Window

SOFT_TISSUE_HU: Window = (-150.0, 200.0)


@dataclass(frozen=True)
class Box:
    """Rectangle of voxels in one slice: first row and column, extent, and slice."""

    row: int
    column: int
    rows: int
    columns: int
    plane: int = 0

    @property
    def slices(self) -> tuple[slice, slice]:
        """In-plane index: ``image[box.slices]`` crops the box from one slice."""
        return slice(self.row, self.row + self.rows), slice(self.column, self.column + self.columns)

    def cut(self, image: npt.ArrayLike) -> Array:
        """Crop the box from ``(rows, columns)`` or ``(slices, rows, columns)``."""
        image = np.asarray(image)
        plane = image if image.ndim == 2 else image[self.plane]
        return np.asarray(plane[self.slices], dtype=np.float64)


Region = Box | npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RegionStatistics:
    """Mean and standard deviation (n - 1) of the voxels of a region, in the image's unit."""

    name: str
    mean: float
    sd: float
    voxels: int


@dataclass(frozen=True)
class RegionComparison:
    """Statistics of one region in an image and in its reference."""

    output: RegionStatistics
    reference: RegionStatistics

    @property
    def bias(self) -> float:
        """Mean of the output minus mean of the reference."""
        return self.output.mean - self.reference.mean

    @property
    def sd_ratio(self) -> float:
        """SD of the output over SD of the reference; below 1 if the output is smoother."""
        return self.output.sd / self.reference.sd if self.reference.sd else math.nan


def region_statistics(image: npt.ArrayLike, regions: Mapping[str, Region]) -> list[RegionStatistics]:
    """Return mean and standard deviation in every region, in the given order.

    Args:
        image: ``(rows, columns)`` or ``(slices, rows, columns)``.
        regions: boxes, or masks of the image's shape. An empty mask gives NaN.
    """
    return [_statistics(name, _voxels(image, region)) for name, region in regions.items()]


def compare_regions(
    output: npt.ArrayLike, reference: npt.ArrayLike, regions: Mapping[str, Region]
) -> list[RegionComparison]:
    """Compare every region of the output with the same region of the reference."""
    pairs = zip(region_statistics(output, regions), region_statistics(reference, regions), strict=True)
    return [RegionComparison(*pair) for pair in pairs]


def cut(image: npt.ArrayLike, boxes: Sequence[Box]) -> Array:
    """Stack boxes of one size into ``(boxes, rows, columns)``.

    Raises:
        ValueError: there is no box, or they differ in size.
    """
    if len({(box.rows, box.columns) for box in boxes}) != 1:
        raise ValueError("boxes to be stacked must be one or more, of one size")
    return np.stack([box.cut(image) for box in boxes])


def homogeneous_regions(
    image_hu: npt.ArrayLike,
    spacing_mm: tuple[float, float],
    count: int = 6,
    size_mm: float = 20.0,
    hu_range: Window = SOFT_TISSUE_HU,
) -> list[Box]:
    """Find flat soft tissue: the boxes where the smoothed image has the least gradient.

    Deterministic. Boxes of one slice do not overlap, and every slice of a volume gives its flattest box
    before any gives a second one. Search in the reference image, never in the output that is evaluated.

    Args:
        image_hu: ``(rows, columns)`` or ``(slices, rows, columns)``.
        spacing_mm: between rows, between columns.
        count: number of boxes; fewer are returned if the image has no more.
        size_mm: edge of a box.
        hu_range: values the smoothed image may take inside a box.

    Returns:
        Boxes, the flattest of every slice first.
    """
    image = np.asarray(image_hu, dtype=np.float64)
    planes = image.reshape(-1, *image.shape[-2:])
    found = [
        (rank, flatness, box)
        for plane, pixels in enumerate(planes)
        for rank, (flatness, box) in enumerate(_flattest(pixels, plane, spacing_mm, count, size_mm, hu_range))
    ]
    found.sort(key=lambda entry: entry[:2])
    return [box for _, _, box in found[:count]]


def _flattest(
    image: Array,
    plane: int,
    spacing_mm: tuple[float, float],
    count: int,
    size_mm: float,
    hu_range: Window,
) -> list[tuple[float, Box]]:
    height, width = (max(3, round(size_mm / step)) for step in spacing_mm)
    if height > image.shape[0] or width > image.shape[1]:
        return []
    roughness = _roughness(image, spacing_mm, size_mm, (height, width), hu_range)
    boxes: list[tuple[float, Box]] = []
    while len(boxes) < count:
        row, column = (int(i) for i in np.unravel_index(np.argmin(roughness), roughness.shape))
        flatness = float(roughness[row, column])
        if not math.isfinite(flatness):
            break
        boxes.append((flatness, Box(row, column, height, width, plane)))
        roughness[max(0, row - height + 1) : row + height, max(0, column - width + 1) : column + width] = np.inf
    return boxes


def _roughness(
    image: Array, spacing_mm: tuple[float, float], size_mm: float, extent: tuple[int, int], hu_range: Window
) -> Array:
    """Return the mean squared gradient of the smoothed image in the box that starts at each pixel; infinite outside."""
    smooth = gaussian_filter(image, [size_mm / 10 / step for step in spacing_mm])
    down, across = np.gradient(smooth, *spacing_mm)
    roughness = uniform_filter(down**2 + across**2, extent)
    roughness[minimum_filter(smooth, extent) < hu_range[0]] = np.inf
    roughness[maximum_filter(smooth, extent) > hu_range[1]] = np.inf
    # The filters write each window's value at its centre, index extent // 2 of the window.
    valid = [slice(size // 2, length - size + size // 2 + 1) for size, length in zip(extent, image.shape, strict=True)]
    return np.array(roughness[tuple(valid)])


def _voxels(image: npt.ArrayLike, region: Region) -> Array:
    return region.cut(image) if isinstance(region, Box) else np.asarray(image, dtype=np.float64)[region]


def _statistics(name: str, voxels: Array) -> RegionStatistics:
    mean = float(voxels.mean()) if voxels.size else math.nan
    sd = float(voxels.std(ddof=1)) if voxels.size > 1 else math.nan
    return RegionStatistics(name, mean, sd, voxels.size)
