"""The two operators of the Laplacian pyramid on tensors, with gradient.

Burt & Adelson, IEEE Trans. Commun. 31(4):532-540, 1983. doi:10.1109/TCOM.1983.1095851.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def downsample(image: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C, H / 2, W / 2), rounded up: smoothed, then every second row and column.

    The border is mirrored without repeating its pixels; sides are 3 at least.
    """
    return _smoothed(image, stride=2)


def upsample(image: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, h, w) to (N, C, *size), interpolated by the filter that ``downsample`` smooths with.

    Args:
        image: low-pass image.
        size: rows and columns wanted, 2h or 2h - 1, and likewise for columns; 3 at least.
    """
    spread = image.new_zeros(*image.shape[:2], *size)
    spread[..., ::2, ::2] = 4 * image
    return _smoothed(spread)


def low_pass_pyramid(image: Tensor, levels: int) -> list[Tensor]:
    """The image and its ``levels`` successive halvings, coarsest first."""
    pyramid = [image]
    for _ in range(levels):
        pyramid.append(downsample(pyramid[-1]))
    return pyramid[::-1]


def _smoothed(image: Tensor, stride: int = 1) -> Tensor:
    kernel = torch.tensor(BINOMIAL, dtype=image.dtype, device=image.device)
    planes = pad(image.flatten(0, 1).unsqueeze(1), (2, 2, 2, 2), mode="reflect")
    planes = conv2d(planes, kernel.reshape(1, 1, 5, 1), stride=(stride, 1))
    planes = conv2d(planes, kernel.reshape(1, 1, 1, 5), stride=(1, stride))
    return planes.reshape(*image.shape[:2], *planes.shape[2:])
