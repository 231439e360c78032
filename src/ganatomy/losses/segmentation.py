"""Losses between predicted maps of regions or classes and their annotation.

Predictions and targets are float tensors (N, R, [D,] H, W), one channel for each of R regions or classes. Targets are 1
inside, 0 outside and -1 where nobody knows; what is unknown neither adds to a loss nor moves a prediction. All losses
are scalars to be minimised.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

ScaleMode = Literal["per_stage_mean", "concat_mean"]


def multi_scale_l1(
    predicted: Sequence[Tensor],
    true: Sequence[Tensor],
    scale_mode: ScaleMode = "per_stage_mean",
    multipliers: Sequence[float] | None = None,
) -> Tensor:
    """Mean absolute difference between a critic's feature maps of two masked images.

    The segmentor descends it, the critic ascends it. Xue et al., arXiv 1706.01805.

    Args:
        predicted: feature maps of the image masked by the predicted map, (N, ...) each, of several sizes.
        true: feature maps of the image masked by the true map, of the same sizes.
        scale_mode: ``per_stage_mean`` is the mean over stages of their means, as in the paper; ``concat_mean`` the
            mean over the elements of all stages together, as released, where large maps count more.
        multipliers: factor of each stage; 1 unless given.

    Raises:
        ValueError: not the same number of stages and multipliers.
    """
    factors = multipliers or [1.0] * len(true)
    means = [(a - b).abs().mean() for a, b in zip(predicted, true, strict=True)]
    sizes = [1.0 if scale_mode == "per_stage_mean" else float(stage.numel()) for stage in true]
    shares = [factor * size / sum(sizes) for factor, size in zip(factors, sizes, strict=True)]
    return torch.stack([share * mean for share, mean in zip(shares, means, strict=True)]).sum()


def dice_loss(
    probabilities: Tensor,
    target: Tensor,
    weights: Sequence[float] | None = None,
    *,
    squared: bool = True,
    smooth: float = 1e-6,
) -> Tensor:
    """1 - 2 Σpy / (Σp² + Σy²), sums over the voxels of an image and region, mean over images, then over regions.

    Milletari et al., arXiv 1606.04797. A region that is unknown in a whole image counts neither there nor in the mean.

    Args:
        probabilities: in [0, 1].
        target: 1, 0 or -1 (unknown), same shape.
        weights: of each region in a plain sum, not divided by their total, in place of the mean over the known regions.
            (1, 3, 1, 2, 1.5) makes the loss of SegAN's release for BRATS, and one region that of its release for ISIC.
        squared: whether the denominator has Σp² or Σp.
        smooth: positive, added above and below: nothing found where nothing is has a loss of 0.

    Raises:
        ValueError: not one weight for each region.
    """
    known = target >= 0
    p, y = (maps.masked_fill(~known, 0).flatten(2) for maps in (probabilities.to(target.dtype), target))
    sizes = p.square().sum(2) + y.square().sum(2) if squared else p.sum(2) + y.sum(2)
    dice = (2 * (p * y).sum(2) + smooth) / (sizes + smooth)
    annotated = known.flatten(2).any(2)
    # The Dice of nothing is 1, so that only the count of annotated images matters.
    losses = (1 - dice).sum(0) / annotated.sum(0).clamp_min(1)
    if weights is None:
        return losses.sum() / annotated.any(0).sum().clamp_min(1)
    if len(weights) != len(losses):
        raise ValueError(f"{len(losses)} regions need as many weights, not {len(weights)}")
    return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of every region on its own, for regions that may overlap; mean over all known voxels and regions.

    Args:
        logits: of the sigmoid.
        target: 1, 0 or -1 (unknown), same shape.
    """
    known = target >= 0
    losses = binary_cross_entropy_with_logits(logits, target.clamp_min(0), reduction="none")
    return losses.masked_fill(~known, 0).sum() / known.sum().clamp_min(1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy among classes that exclude each other, background included; mean over the voxels of known class.

    Args:
        logits: of the softmax over channels.
        target: 1 in the channel of a voxel's class and 0 or -1 in the others; a voxel with no 1 is of unknown class.
    """
    is_class = target == 1
    losses = log_softmax(logits, dim=1).masked_fill(~is_class, 0)
    return -losses.sum() / is_class.sum().clamp_min(1)
