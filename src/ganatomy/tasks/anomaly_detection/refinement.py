"""Post-processing of anomaly maps, before and after they are thresholded, slab by slab."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganatomy.case import Volume
from ganatomy.images.image import ComputedArray, Image, LazyArray
from ganatomy.inference.tiling import Rolling
from ganatomy.metrics.detection import remove_small

Mask = NDArray[np.bool_]
"""(slices, rows, columns), true inside."""
Reader = Callable[[int, int], Volume]
"""Slices start to stop of an image, (slices, rows, columns)."""

MOST = 2**24
"""Values that are sorted at once; of more voxels, evenly strided ones stand for all."""


@dataclass(frozen=True)
class Refinement:
    """Steps that cost false alarms; the defaults do nothing.

    Baur et al., doi:10.1007/978-3-030-11723-8_16 and arXiv 2004.03271.

    Attributes:
        erosion: mm in the plane by which the tissue is eroded; outside of what is left nothing is abnormal.
        brightest: quantile of the tissue's values below which nothing is abnormal, 0 to 1.
        median: side in voxels of the median filter in space, odd.
        smallest: voxels of the smallest component that is kept after thresholding.
    """

    erosion: float = 0.0
    brightest: float = 0.0
    median: int = 1
    smallest: int = 1

    def refined(
        self, map: LazyArray, image: Reader, tissue: Callable[[Volume], Mask], pixel_mm: float
    ) -> LazyArray:  # fmt: skip
        """A map as it is before thresholding, computed slab by slab.

        The quantile is that of the whole volume, found in a pass over the image alone.

        Args:
            map: (1, slices, rows, columns).
            image: reads what was looked at, on the same grid.
            tissue: where an image shows something.
            pixel_mm: between columns.
        """
        slices, thickness = map.shape[1], map.thickness
        darkest = cache(lambda: quantile_inside(image, tissue, slices, thickness, self.brightest))

        def masked(start: int, stop: int) -> NDArray[np.float32]:
            kept, shown = map.slab(start, stop), image(start, stop)
            if self.erosion:
                kept = kept * eroded(tissue(shown), round(self.erosion / pixel_mm))
            return kept * (shown >= darkest()) if self.brightest else kept

        needed = self.erosion or self.brightest
        kept: LazyArray = ComputedArray(map.shape, np.float32, masked, thickness) if needed else map
        return median_filtered(kept, self.median) if self.median > 1 else kept

    def clean(self, mask: Mask) -> Mask:
        """A thresholded map without specks; voxels that share a corner are connected."""
        return remove_small(mask, self.smallest) if self.smallest > 1 else mask

    def cleaned(self, mask: LazyArray) -> LazyArray:
        """A thresholded map (1, slices, rows, columns) without specks, computed slab by slab.

        A component of fewer voxels than the smallest one spans fewer slices, too, so that so many neighbours tell all.
        """
        if self.smallest <= 1:
            return mask
        return with_neighbours(mask, self.smallest - 1, lambda values: self.clean(values[0])[None])


def eroded(mask: Mask, pixels: int) -> Mask:
    """Every slice eroded with a cross, ``pixels`` times; the border of the image does not erode."""
    if pixels < 1:
        return mask
    cross = ndimage.generate_binary_structure(2, 1)[None]
    return np.asarray(ndimage.binary_erosion(mask, cross, iterations=pixels, border_value=1))


def median_filtered(map: LazyArray, side: int) -> LazyArray:
    """The median of a cube around every voxel, of which less where there are fewer slices; edges are mirrored.

    Args:
        map: (1, slices, rows, columns).
        side: of the cube in voxels, odd.
    """
    size = [min(side, extent - 1 + extent % 2) for extent in map.shape[1:]]
    return with_neighbours(map, size[0] // 2, lambda values: ndimage.median_filter(values[0], size)[None])


def with_neighbours(
    array: LazyArray, count: int, function: Callable[[NDArray[Any]], NDArray[Any]]
) -> LazyArray:  # fmt: skip
    """An array whose slices depend on ``count`` neighbours on either side of those of another one.

    Args:
        array: of which no slice is read twice while slabs are asked for in order.
        count: of neighbours.
        function: of some slices to as many; those that lack a neighbour are not used, but at the ends of the array.
    """
    source, slices = Rolling(Image(array, np.eye(4))), array.shape[1]

    def slab(start: int, stop: int) -> NDArray[Any]:
        first, last = max(start - count, 0), min(stop + count, slices)
        return function(source.slab(first, last))[:, start - first : stop - first]

    return ComputedArray(array.shape, array.dtype, slab, array.thickness)


def quantile_inside(
    image: Reader, tissue: Callable[[Volume], Mask], slices: int, thickness: int, quantile: float
) -> Any:
    """A quantile of the values of an image in tissue; minus infinity where there is none.

    Args:
        image: read twice, slab by slab.
        tissue: where it shows something.
        slices: of the image.
        thickness: of a slab.
        quantile: 0 to 1.
    """

    def values() -> Iterator[NDArray[np.float32]]:
        for start in range(0, slices, thickness):
            shown = image(start, min(start + thickness, slices))
            yield shown[tissue(shown)]

    total = sum(part.size for part in values())
    return np.quantile(strided(values(), 1 + total // MOST), quantile) if total else -np.inf


def strided(pieces: Iterable[NDArray[np.float32]], step: int) -> NDArray[np.float32]:
    """Every ``step``-th of the values of all pieces, one after another."""
    kept, passed = [np.zeros(0, np.float32)], 0
    for values in pieces:
        kept.append(values[-passed % step :: step].copy())  # a view would hold all of the values
        passed += len(values)
    return np.concatenate(kept)
