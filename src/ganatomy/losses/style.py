"""Losses of style transfer: correlations between the features of a frozen network."""

from collections.abc import Sequence

import torch
from torch import Tensor


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrices FᵀF / (H·W·C) of feature maps (N, C, H, W), shape (N, C, C).

    Gatys, Ecker & Bethge, arXiv 1508.06576; divided by the number of features as in Johnson et al., arXiv 1603.08155.
    """
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat[0].numel()


def style_distance(features: Sequence[Tensor], style: Sequence[Tensor]) -> Tensor:
    """Return the mean absolute difference of Gram matrices, averaged over layers, a scalar.

    Zhao, Li & Cheng, arXiv 1706.02185, whose release takes absolute differences.

    Args:
        features: feature maps of the images at every layer, (N, C, H, W).
        style: Gram matrix of the reference at every layer, (C, C) or (N, C, C).
    """
    distances = [
        (gram(own) - wanted).abs().mean() for own, wanted in zip(features, style, strict=True)
    ]  # fmt: skip
    return torch.stack(distances).mean()
