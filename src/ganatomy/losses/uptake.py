"""Losses on tracer uptake in PET."""

import torch
from torch import Tensor


def split_squared_error(made: Tensor, true: Tensor, threshold: float) -> Tensor:
    """Return the mean squared error where the true uptake is high plus that where it is low, a scalar.

    The few voxels of tumours then count as much as all others. Ben-Cohen et al., arXiv 1802.07846. A part without
    voxels is 0.

    Args:
        made: predicted uptake, any shape.
        true: true uptake in the same unit, same shape.
        threshold: uptake from which on it is high, in this unit.
    """
    errors, high = (made - true).square(), true >= threshold
    parts = [(errors * inside).sum() / inside.sum().clamp_min(1) for inside in (high, ~high)]
    return torch.stack(parts).sum()
