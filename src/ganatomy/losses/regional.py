"""Losses that count regions of an image equally, whatever their sizes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def regional_l1(output: Tensor, target: Tensor, regions: Tensor, weights: Sequence[float]) -> Tensor:
    """Return the weighted mean over regions of the mean absolute difference within each.

    After Wei et al., arXiv 1804.08039. Regions without a voxel are left out, and the weights of the others are divided
    by their sum; without any voxel the loss is 0.

    Args:
        output: images, (N, 1, ...).
        target: true images of the same shape.
        regions: 1 inside and 0 outside of each region, (N, regions, ...).
        weights: weight of each region.
    """
    inside = regions > 0.5
    sizes = inside.flatten(2).sum((0, 2))
    errors = ((output - target).abs() * inside).flatten(2).sum((0, 2)) / sizes.clamp_min(1)
    shares = torch.as_tensor(weights, dtype=errors.dtype, device=errors.device) * (sizes > 0)
    return (shares * errors).sum() / shares.sum().clamp_min(torch.finfo(errors.dtype).tiny)
