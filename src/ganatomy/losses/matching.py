"""Losses beside or instead of the adversarial score: feature matching, KL divergence, classes and image gradients.

All take tensors and return a scalar to be minimised, except `realness`, which returns scores.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from ganatomy.losses.adversarial import minimax_generator, nonsaturating_discriminator, nonsaturating_generator

RealTarget = Literal["k+1", "paper-code"]


def feature_matching(real: Tensor, fake: Tensor, distance: Literal["squared", "absolute"] = "squared") -> Tensor:
    """Return the feature-matching loss ‖E f(x) - E f(x̂)‖₂², or the mean absolute difference of those means.

    Salimans et al., arXiv 1606.03498.

    Args:
        real: features of real samples, (N, ...); no gradient reaches them.
        fake: features of generated samples, (M, ...).
        distance: ``squared`` sums squared differences over the features, as in the paper; ``absolute`` averages
            absolute differences, as in its code.
    """
    difference = fake.mean(0) - real.detach().mean(0)
    return difference.square().sum() if distance == "squared" else difference.abs().mean()


def kl_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) ‖ N(0, I)), summed over the latent axes and averaged over samples.

    Kingma & Welling, arXiv 1312.6114.

    Args:
        mean: means (N, ...).
        log_variance: natural logarithms of the variances, same shape.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1).mean()


def realness(logits: Tensor) -> Tensor:
    """Return the raw score of *real*, log Σ exp of the class logits (N, K), as N numbers.

    The class *fake* has an implicit logit fixed at zero, so the sigmoid of the score is the total probability of the K
    classes. Salimans et al., arXiv 1606.03498.
    """
    return torch.logsumexp(logits, dim=1)


def semi_supervised_discriminator(labelled: Tensor, labels: Tensor, unlabelled: Tensor, fake: Tensor) -> Tensor:
    """Return the cross-entropy of labelled samples among K classes plus half the discriminator loss real against fake.

    Salimans et al., arXiv 1606.03498.

    Args:
        labelled: logits of labelled real samples, (N, K).
        labels: N class numbers.
        unlabelled: logits of real samples, (M, K).
        fake: logits of generated samples, (L, K).
    """
    game = nonsaturating_discriminator(realness(unlabelled), realness(fake))
    return cross_entropy(labelled, labels) + 0.5 * game


def class_aware_discriminator(real: Tensor, labels: Tensor, fake: Tensor, real_target: RealTarget = "k+1") -> Tensor:
    """Return half the cross-entropies among K + 1 classes, the last of which is *fake* with a logit fixed at zero.

    Kitchen & Seah, arXiv 1708.00129.

    Args:
        real: logits of labelled real samples, (N, K).
        labels: N class numbers.
        fake: logits of generated samples, (M, K).
        real_target: ``k+1`` has the label alone as target, as in Salimans et al., arXiv 1606.03498; ``paper-code`` has
            the label and *fake* at once, as in the release of Kitchen & Seah, which drives both probabilities to ½.
    """
    score = realness(real)
    normaliser = softplus(score)
    of_label = normaliser - real.gather(1, labels.unsqueeze(1)).squeeze(1)
    of_real = of_label + normaliser if real_target == "paper-code" else of_label
    return 0.5 * (of_real.mean() + softplus(realness(fake)).mean())


def class_aware_generator(fake: Tensor, saturating: bool = False) -> Tensor:
    """Return the generator loss against a discriminator of K classes and *fake*, with D = 1 - P(fake).

    Args:
        fake: logits of generated samples, (N, K).
        saturating: minimise E[log(1 - D)], as in Kitchen & Seah, arXiv 1708.00129, instead of -E[log D].
    """
    return (minimax_generator if saturating else nonsaturating_generator)(realness(fake))


def total_variation(image: Tensor, power: Literal[1, 2] = 1) -> Tensor:
    """Return the total variation E|neighbour - pixel|**power of (N, C, ...), summed over the spatial axes.

    Rudin et al., doi:10.1016/0167-2789(92)90242-F, in its anisotropic form. Axes of length one contribute nothing.
    """
    steps = [image.diff(dim=axis).abs().pow(power).mean() for axis in range(2, image.dim()) if image.shape[axis] > 1]
    return torch.stack(steps).sum() if steps else image.sum() * 0


def gradient_difference(
    fake: Tensor, real: Tensor, reduction: Literal["sum", "mean"], border: Literal["inner", "zero"] = "inner"
) -> Tensor:
    """Return the gradient difference loss (|∇x| - |∇x̂|)² of (N, C, ...), summed over the spatial axes.

    Mathieu et al., arXiv 1511.05440.

    Args:
        fake: generated images.
        real: true images of the same shape.
        reduction: sum or mean over samples and pixels, for every axis.
        border: ``inner`` has differences between pixels of the image only; with ``zero``, zeros follow the last pixel
            of every axis, so that its value counts as a difference, too.
    """

    def steps(image: Tensor, axis: int) -> Tensor:
        behind = image.new_zeros([1 if place == axis else extent for place, extent in enumerate(image.shape)])
        return image.diff(dim=axis, append=behind if border == "zero" else None).abs()

    errors = [(steps(real, axis) - steps(fake, axis)).square() for axis in range(2, real.dim())]
    return torch.stack([error.sum() if reduction == "sum" else error.mean() for error in errors]).sum()


def softmax_divergence(wanted: Tensor, found: Tensor, reduction: Literal["mean", "batchmean"] = "batchmean") -> Tensor:
    """Return KL(softmax(wanted) ‖ softmax(found)) of features.

    Args:
        wanted: features (N, F) that are aimed at; no gradient reaches them.
        found: features (N, F) that are compared with them.
        reduction: whether the divergence of a sample is averaged over samples, or its sum is divided by all N·F
            elements, which is F times less.
    """
    with torch.autocast(found.device.type, enabled=False):
        target, own = wanted.detach().float().log_softmax(1), found.float().log_softmax(1)
        total = (target.exp() * (target - own)).sum()
    return total / (found.numel() if reduction == "mean" else len(found))
