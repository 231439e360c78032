"""Post-processing of anomaly maps before and after thresholding, computed slab by slab."""

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
"""Mask (slices, rows, columns), true inside."""
Reader = Callable[[int, int], Volume]
"""Function that returns slices start to stop of an image, (slices, rows, columns)."""

MOST = 2**24
"""Largest number of values for a quantile; evenly strided ones are used where there are more."""


@dataclass(frozen=True)
class Refinement:
    """Post-processing of maps that removes false positives; the defaults do nothing.

    Baur et al., doi:10.1007/978-3-030-11723-8_16 and arXiv 2004.03271.

    Attributes:
        erosion: mm in the plane by which the tissue is eroded; the map is 0 outside of the eroded tissue.
        brightest: quantile of the tissue's values, 0 to 1; the map is 0 where the image is below it.
        median: side of the 3D median filter in voxels, odd.
        smallest: number of voxels of the smallest component that is kept after thresholding.
    """

    erosion: float = 0.0
    brightest: float = 0.0
    median: int = 1
    smallest: int = 1

    def refined(
        self, map: LazyArray, image: Reader, tissue: Callable[[int, int], Mask], pixel_mm: float
    ) -> LazyArray:  # fmt: skip
        """Refine a map before thresholding, slab by slab.

        The quantile is that of the whole volume and needs a pass over the image.

        Args:
            map: anomaly map, (1, slices, rows, columns).
            image: reads slices of the input on the same grid.
            tissue: reads the mask of tissue of slices on this grid.
            pixel_mm: mm between columns.
        """
        slices, thickness = map.shape[1], map.thickness
        darkest = cache(lambda: quantile_inside(image, tissue, slices, thickness, self.brightest))

        def masked(start: int, stop: int) -> NDArray[np.float32]:
            kept, shown = map.slab(start, stop), image(start, stop)
            if self.erosion:
                kept = kept * eroded(tissue(start, stop), round(self.erosion / pixel_mm))
            return kept * (shown >= darkest()) if self.brightest else kept

        needed = self.erosion or self.brightest
        kept: LazyArray = ComputedArray(map.shape, np.float32, masked, thickness) if needed else map
        return median_filtered(kept, self.median) if self.median > 1 else kept

    def clean(self, mask: Mask) -> Mask:
        """Remove small components of a thresholded map; voxels that share a corner are connected."""
        return remove_small(mask, self.smallest) if self.smallest > 1 else mask

    def cleaned(self, mask: LazyArray) -> LazyArray:
        """Remove small components of a thresholded map (1, slices, rows, columns), slab by slab.

        A component of fewer than ``smallest`` voxels spans fewer than ``smallest`` slices, so that as many neighbouring
        slices suffice to decide.
        """
        if self.smallest <= 1:
            return mask
        return with_neighbours(mask, self.smallest - 1, lambda values: self.clean(values[0])[None])


def eroded(mask: Mask, pixels: int) -> Mask:
    """Erode every slice ``pixels`` times with a cross; the border of the image counts as inside."""
    if pixels < 1:
        return mask
    cross = ndimage.generate_binary_structure(2, 1)[None]
    return np.asarray(ndimage.binary_erosion(mask, cross, iterations=pixels, border_value=1))


def median_filtered(map: LazyArray, side: int) -> LazyArray:
    """Apply a median filter with mirrored edges; the cube is flatter where there are fewer slices.

    Args:
        map: values, (1, slices, rows, columns).
        side: side of the cube in voxels, odd.
    """
    size = [min(side, extent - 1 + extent % 2) for extent in map.shape[1:]]
    return with_neighbours(map, size[0] // 2, lambda values: ndimage.median_filter(values[0], size)[None])


def with_neighbours(
    array: LazyArray, count: int, function: Callable[[NDArray[Any]], NDArray[Any]]
) -> LazyArray:  # fmt: skip
    """Apply a function of slices and their neighbours to a lazy array; no slice is read twice if slabs are in order.

    Args:
        array: input, (channels, slices, rows, columns).
        count: number of neighbouring slices needed on either side.
        function: maps slices to as many slices; results without all neighbours are used at the ends of the array only.
    """
    source, slices = Rolling(Image(array, np.eye(4))), array.shape[1]

    def slab(start: int, stop: int) -> NDArray[Any]:
        first, last = max(start - count, 0), min(stop + count, slices)
        return function(source.slab(first, last))[:, start - first : stop - first]

    return ComputedArray(array.shape, array.dtype, slab, array.thickness)


def quantile_inside(
    image: Reader, tissue: Callable[[int, int], Mask], slices: int, thickness: int, quantile: float
) -> Any:
    """Return a quantile of an image's values in tissue; minus infinity where there is no tissue.

    Args:
        image: reads slices of the image; every slice is read twice.
        tissue: reads the mask of tissue of slices.
        slices: number of slices of the image.
        thickness: number of slices of a slab.
        quantile: 0 to 1.
    """

    def values() -> Iterator[NDArray[np.float32]]:
        for start in range(0, slices, thickness):
            stop = min(start + thickness, slices)
            yield image(start, stop)[tissue(start, stop)]

    total = sum(part.size for part in values())
    return np.quantile(strided(values(), 1 + total // MOST), quantile) if total else -np.inf


def strided(pieces: Iterable[NDArray[np.float32]], step: int) -> NDArray[np.float32]:
    """Return every ``step``-th value of the concatenated pieces."""
    kept, passed = [np.zeros(0, np.float32)], 0
    for values in pieces:
        kept.append(values[-passed % step :: step].copy())  # a view would hold all of the values
        passed += len(values)
    return np.concatenate(kept)
