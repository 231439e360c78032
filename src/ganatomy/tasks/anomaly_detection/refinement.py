"""What is done to maps of what is abnormal before and after they are thresholded, on whole volumes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganatomy.case import Volume
from ganatomy.metrics.detection import remove_small

Mask = NDArray[np.bool_]
"""(slices, rows, columns), true inside."""


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

    def refine(self, map: Volume, image: Volume, tissue: Mask, pixel_mm: float) -> Volume:
        """A map before thresholding, (slices, rows, columns) like the image and its tissue."""
        if self.erosion:
            map = map * eroded(tissue, round(self.erosion / pixel_mm))
        if self.brightest and tissue.any():
            map = map * (image >= np.quantile(image[tissue], self.brightest))
        if self.median > 1:
            map = median_filtered(map, self.median)
        return map

    def clean(self, mask: Mask) -> Mask:
        """A thresholded map without specks; voxels that share a corner are connected."""
        return remove_small(mask, self.smallest) if self.smallest > 1 else mask


def eroded(mask: Mask, pixels: int) -> Mask:
    """Every slice eroded with a cross, ``pixels`` times; the border of the image does not erode."""
    if pixels < 1:
        return mask
    cross = ndimage.generate_binary_structure(2, 1)[None]
    return np.asarray(ndimage.binary_erosion(mask, cross, iterations=pixels, border_value=1))


def median_filtered(map: Volume, side: int) -> Volume:
    """The median of a cube around every voxel, of which less where there are fewer slices; edges are mirrored."""
    size = [min(side, extent - 1 + extent % 2) for extent in map.shape]
    return np.asarray(ndimage.median_filter(map, size), np.float32)
