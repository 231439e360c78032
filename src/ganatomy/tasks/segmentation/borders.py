"""Weights of background pixels between objects that are close to each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

REACH = 6.0
"""Distance in units of sigma beyond which an object adds nothing."""


def border_weights(numbers: NDArray[Any], height: float, sigma: float) -> NDArray[np.float32]:
    """Return height · exp(-(d1 + d2)² / 2 sigma²) in the background, where d1 and d2 are distances to two objects.

    These are the nearest and the second nearest object of the slice. The weight is 0 inside of objects and where fewer
    than two objects are within six sigma. Ronneberger et al., U-Net, MICCAI 2015, arXiv 1505.04597.

    Args:
        numbers: numbers of objects, (rows, columns); 0 is the background.
        height: weight where objects touch.
        sigma: width of the weights in pixels.
    """
    nearest = np.full((2, *numbers.shape), np.inf)
    margin = int(np.ceil(REACH * sigma)) + 1
    for number, place in enumerate(ndimage.find_objects(numbers), 1):
        if place is None:
            continue
        box = tuple(slice(max(one.start - margin, 0), one.stop + margin) for one in place)
        distance = ndimage.distance_transform_edt(numbers[box] != number)
        first, second = nearest[:, *box]
        nearest[:, *box] = np.minimum(first, distance), np.clip(distance, first, second)
    weights = height * np.exp(-(nearest.sum(axis=0) ** 2) / (2 * sigma**2))
    return np.where(numbers > 0, 0, weights).astype(np.float32)
