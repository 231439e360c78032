"""Down- and upsampling of the Laplacian pyramid on tensors, differentiable.

Burt & Adelson, IEEE Trans. Commun. 31(4):532-540, 1983. doi:10.1109/TCOM.1983.1095851.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from ganatomy.nets.layers import CONVOLVE

BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def downsample(image: Tensor) -> Tensor:
    """Smooth (N, C, ...), then keep every second pixel along every axis; extents are halved and rounded up.

    Accepts one to three spatial axes. The border is mirrored without repeating its pixels; sides are 3 at least.
    """
    return _smoothed(image, stride=2)


def upsample(image: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate (N, C, ...) to (N, C, *size) with the smoothing filter of ``downsample``.

    Args:
        image: low-pass image.
        size: extents of the result, twice those of the image or one less; 3 at least.
    """
    spread = image.new_zeros(*image.shape[:2], *size)
    every_other = [slice(None)] * 2 + [slice(None, None, 2)] * len(size)
    spread[tuple(every_other)] = 2 ** len(size) * image
    return _smoothed(spread)


def low_pass_pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """Return the image and its ``levels`` successive halvings, coarsest first."""
    pyramid = [image]
    for _ in range(levels):
        pyramid.append(downsample(pyramid[-1]))
    return pyramid[::-1]


def _smoothed(image: Tensor, stride: int = 1) -> Tensor:
    dims = image.dim() - 2
    kernel = torch.tensor(BINOMIAL, dtype=image.dtype, device=image.device)
    planes = pad(image.flatten(0, 1).unsqueeze(1), (2, 2) * dims, mode="reflect")
    for axis in range(dims):
        along, step = [1] * dims, [1] * dims
        along[axis], step[axis] = len(BINOMIAL), stride
        planes = CONVOLVE[dims](planes, kernel.reshape(1, 1, *along), stride=step)
    return planes.reshape(*image.shape[:2], *planes.shape[2:])
