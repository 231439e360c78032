"""Losses between predicted maps of regions or classes and their annotation.

Predictions and targets are float tensors (N, R, [D,] H, W), one channel for each of R regions or classes. Targets are 1
inside, 0 outside and -1 where unknown; unknown voxels contribute neither to a loss nor to its gradient. All losses are
scalars to be minimised.
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
    """Return the mean absolute difference between a critic's feature maps of two masked images.

    The segmentor minimises it, the critic maximises it. Xue et al., arXiv 1706.01805.

    Args:
        predicted: feature maps of the image masked by the predicted map, (N, ...) each, of several sizes.
        true: feature maps of the image masked by the true map, of the same sizes.
        scale_mode: ``per_stage_mean`` is the mean over stages of their means, as in the paper; ``concat_mean`` the
            mean over the elements of all stages together, as in the authors' release, where large maps count more.
        multipliers: weight of each stage; 1 unless given.

    Raises:
        ValueError: The numbers of stages and multipliers differ.
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
    """Return the Dice loss 1 - 2 Σpy / (Σp² + Σy²), averaged over images, then over regions.

    Milletari et al., arXiv 1606.04797. Sums are over the voxels of one region in one image. A region that is unknown in
    a whole image is left out of the mean over images.

    Args:
        probabilities: predicted probabilities in [0, 1].
        target: 1, 0 or -1 (unknown), same shape.
        weights: weight of each region in a plain sum, not divided by their total, in place of the mean over the known
            regions. (1, 3, 1, 2, 1.5) gives the loss of SegAN's release for BRATS, one region that for ISIC.
        squared: whether the denominator has Σp² or Σp.
        smooth: positive number added to numerator and denominator, so that an empty prediction of an empty region has a
            loss of 0.

    Raises:
        ValueError: The number of weights is not that of the regions.
    """
    known = target >= 0
    p, y = (maps.masked_fill(~known, 0).flatten(2) for maps in (probabilities.to(target.dtype), target))
    sizes = p.square().sum(2) + y.square().sum(2) if squared else p.sum(2) + y.sum(2)
    dice = (2 * (p * y).sum(2) + smooth) / (sizes + smooth)
    annotated = known.flatten(2).any(2)
    # The smoothed Dice of a region without known voxels is 1, so unknown images add nothing to the sum.
    losses = (1 - dice).sum(0) / annotated.sum(0).clamp_min(1)
    if weights is None:
        return losses.sum() / annotated.any(0).sum().clamp_min(1)
    if len(weights) != len(losses):
        raise ValueError(f"{len(losses)} regions need as many weights, not {len(weights)}")
    return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()


def binary_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the binary cross-entropy of regions that may overlap, averaged over all known voxels and regions.

    Args:
        logits: logits, to which a sigmoid applies.
        target: 1, 0 or -1 (unknown), same shape.
        weights: weight of each voxel, broadcasting to the same shape; the sum is divided by the number of known voxels
            and not by the sum of their weights.
    """
    known = target >= 0
    losses = binary_cross_entropy_with_logits(logits, target.clamp_min(0), reduction="none")
    losses = losses if weights is None else losses * weights
    return losses.masked_fill(~known, 0).sum() / known.sum().clamp_min(1)


def cross_entropy(
    logits: Tensor, target: Tensor, weights: Sequence[float] | None = None, *, per_weight: bool = False
) -> Tensor:
    """Return the cross-entropy among exclusive classes, background included, averaged over voxels of known class.

    Args:
        logits: logits, to which a softmax over channels applies.
        target: 1 in the channel of a voxel's class and 0 or -1 in the others; a voxel with no 1 is of unknown class.
        weights: weight of each class; 1 unless given.
        per_weight: whether the sum is divided by the weights of all voxels, as in `torch.nn.CrossEntropyLoss`, and not
            by their number.
    """
    is_class = target == 1
    losses = log_softmax(logits, dim=1).masked_fill(~is_class, 0)
    if weights is None:
        return -losses.sum() / is_class.sum().clamp_min(1)
    factors = torch.tensor(weights, dtype=losses.dtype, device=losses.device).reshape(-1, *[1] * (losses.dim() - 2))
    total = (factors * is_class).sum() if per_weight else is_class.sum()
    return -(factors * losses).sum() / total.clamp_min(1e-12)


def negative_dice(
    probabilities: Tensor, target: Tensor, *, pooled: bool = True, smooth: float = 1e-7, doubled: bool = False
) -> Tensor:
    """Return the negative soft Dice -2 Σpy / (Σp² + Σy²), averaged over regions, as in SSNet's release.

    Huo et al., arXiv 1712.00542.

    Args:
        probabilities: predicted probabilities in [0, 1].
        target: 1, 0 or -1 (unknown), same shape.
        pooled: whether sums are over all images of the batch, instead of a mean over images of their Dice.
        smooth: positive number added to the denominator and to the overlap.
        doubled: whether it is added to the overlap before that is doubled, as in the release, where an empty prediction
            of an empty region counts twice as much as a perfect one of a region that is there.
    """
    known = target >= 0
    axes = (0, *range(2, target.dim())) if pooled else tuple(range(2, target.dim()))
    p, y = (maps.masked_fill(~known, 0) for maps in (probabilities, target.to(probabilities.dtype)))
    overlap, sizes = (p * y).sum(axes), p.square().sum(axes) + y.square().sum(axes)
    return -((2 * overlap + (2 if doubled else 1) * smooth) / (sizes + smooth)).mean()


def label_l1(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute difference of probabilities and target over all known voxels and regions.

    Args:
        probabilities: predicted probabilities in [0, 1].
        target: 1, 0 or -1 (unknown), same shape.
    """
    known = target >= 0
    return (probabilities - target).masked_fill(~known, 0).abs().sum() / known.sum().clamp_min(1)


def squared_error(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of probabilities and target over all known voxels and regions.

    Args:
        probabilities: predicted probabilities in [0, 1].
        target: 1, 0 or -1 (unknown), same shape.
    """
    known = target >= 0
    return (probabilities - target).masked_fill(~known, 0).square().sum() / known.sum().clamp_min(1)


def volume_difference(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return |Σp - Σy| / Σy, the relative difference of volumes, averaged over images and regions.

    Sums are over the known voxels of one region in one image; the divisor is at least one voxel.

    Args:
        probabilities: predicted probabilities in [0, 1].
        target: 1, 0 or -1 (unknown), same shape.
    """
    known = target >= 0
    found, true = (maps.masked_fill(~known, 0).flatten(2).sum(2) for maps in (probabilities, target))
    return ((found - true).abs() / true.clamp_min(1)).mean()


def within_known(maps: Tensor, target: Tensor) -> Tensor:
    """Return predicted or true maps with 0 where the target is unknown, as adversaries are shown them.

    Args:
        maps: probabilities, or the target itself.
        target: 1, 0 or -1 (unknown), same shape.
    """
    return maps.masked_fill(target < 0, 0.0)
