"""Saliency maps of images, and the image error that is weighted by them.

Images are (N, 1 or 3, H, W) in [0, 1], grey or RGB; maps are (N, 1, H, W) in [0, 1].
"""

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.segmentation import slic
from torch import Tensor
from torch.nn.functional import avg_pool2d

Array = NDArray[np.float32]

NEARNESS = 0.25
"""SD of the Gaussian within which a superpixel is compared with others, relative to the image's longer side."""
LIKENESS = 20.0
"""SD of the Gaussian of colour distance within which superpixels count as alike, in units of CIELAB."""
COMPACTNESS = 6.0
"""Exponent by which the spatial spread of a colour lowers its saliency."""
SHARPNESS = 1 / 30
"""Sharpness of the upsampling from superpixels to pixels, both per squared pixel and per squared unit of CIELAB."""
NEIGHBOURHOOD = 7
"""Side in pixels of the square in which local contrast is measured."""
FLAT = 1e-4
"""Contrast, or relative range of saliency, below which an image counts as uniform; rounding errors are near 1e-6."""


@torch.no_grad()
def saliency_filters(image: Tensor, superpixels: int = 250) -> Tensor:
    """Return saliency maps, high where a colour is both unlike its surroundings and spatially compact.

    After Perazzi et al., Saliency Filters: Contrast Based Filtering for Salient Region Detection, CVPR 2012,
    doi 10.1109/CVPR.2012.6247743, with SLIC superpixels in CIELAB and the constants of public implementations. Computed
    on the CPU image by image; no gradient passes. Every map ranges from 0 to 1; that of a uniform image is 0.

    Args:
        image: (N, 1 or 3, H, W).
        superpixels: approximate number of superpixels of an image.
    """
    pictures = image.clamp(0, 1).float().movedim(1, -1).cpu().numpy()
    maps = np.stack([_filtered(picture, superpixels) for picture in pictures])
    return torch.from_numpy(maps)[:, None].to(image)


@torch.no_grad()
def local_contrast(image: Tensor) -> Tensor:
    """Return the standard deviation of brightness around each pixel, relative to the image's largest; no gradient."""
    grey = image.mean(1, keepdim=True)
    # The mean is subtracted first, because the difference of squares would otherwise lose precision.
    grey = grey - grey.mean((2, 3), keepdim=True)
    mean, square = (_around(values) for values in (grey, grey.square()))
    deviation = (square - mean.square()).clamp_min(0).sqrt()
    return deviation / deviation.amax((1, 2, 3), keepdim=True).clamp_min(FLAT)


def salient_error(output: Tensor, target: Tensor, output_map: Tensor, target_map: Tensor) -> Tensor:
    """Return the mean squared difference of two images, each weighted by its own saliency; a scalar.

    Mahapatra et al., MICCAI 2017, LNCS 10435.

    Args:
        output: generated images (N, C, H, W).
        target: true images of the same shape.
        output_map: saliency of the output, (N, 1, H, W); no gradient reaches it.
        target_map: saliency of the target, (N, 1, H, W); no gradient reaches it.
    """
    return (output_map.detach() * output - target_map.detach() * target).square().mean()


def _around(values: Tensor) -> Tensor:
    return avg_pool2d(values, NEIGHBOURHOOD, 1, NEIGHBOURHOOD // 2, count_include_pad=False)


def _filtered(picture: Array, superpixels: int) -> Array:
    """Return the saliency (H, W) of one image (H, W, 1 or 3)."""
    lab = rgb2lab(np.broadcast_to(picture, (*picture.shape[:2], 3))).astype(np.float32)
    pixels = np.moveaxis(np.indices(lab.shape[:2], np.float32), 0, -1).reshape(-1, 2)
    flat = lab.reshape(-1, 3)
    _, number = np.unique(slic(lab, superpixels, convert2lab=False), return_inverse=True)
    colours, places = (_means(values, number.ravel()) for values in (flat, pixels))
    salient = _salience(colours, places / max(lab.shape[:2]))
    distances = SHARPNESS * (_squared_distances(flat, colours) + _squared_distances(pixels, places))
    # Distances are relative to the nearest superpixel, because the weights of a pixel far from all would underflow.
    near = _normalised(np.exp(-0.5 * (distances - distances.min(1, keepdims=True))))
    return _from_zero_to_one(near @ salient).reshape(lab.shape[:2])


def _salience(colours: Array, places: Array) -> Array:
    """Return uniqueness times compactness of superpixels, (S,), from colours (S, 3) and places (S, 2) in [0, 1]."""
    apart, unlike = _squared_distances(places, places), _squared_distances(colours, colours)
    near, alike = _normalised(np.exp(-0.5 * apart / NEARNESS**2)), _normalised(np.exp(-0.5 * unlike / LIKENESS**2))
    uniqueness = (unlike * near).sum(1)
    centres = alike @ places
    distribution = (alike * _squared_distances(centres, places)).sum(1)
    salience: Array = _from_zero_to_one(uniqueness) * np.exp(-COMPACTNESS * _from_zero_to_one(distribution))
    return salience


def _means(values: Array, number: NDArray[np.intp]) -> Array:
    sums = [np.bincount(number, column) for column in values.T]
    return (np.stack(sums, 1) / np.bincount(number)[:, None]).astype(np.float32)


def _squared_distances(first: Array, second: Array) -> Array:
    """Return the squared distances (A, B) between points (A, D) and (B, D)."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    return np.asarray(squares.clip(0), np.float32)


def _normalised(weights: Array) -> Array:
    return np.asarray(weights / weights.sum(1, keepdims=True))


def _from_zero_to_one(values: Array) -> Array:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high - low > FLAT * max(abs(high), 1.0) else np.zeros_like(values)
