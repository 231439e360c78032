"""Losses that match statistics, codes and classes beside or instead of the adversarial score.

Tensors in, scalar to be minimised out.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softplus

from ganatomy.losses.adversarial import minimax_generator, nonsaturating_discriminator, nonsaturating_generator

RealTarget = Literal["k+1", "paper-code"]


def feature_matching(real: Tensor, fake: Tensor, distance: Literal["squared", "absolute"] = "squared") -> Tensor:
    """‖E f(x) - E f(x̂)‖₂², or the mean absolute difference of those means. Salimans et al., arXiv 1606.03498.

    Args:
        real: features of real samples, (N, ...); no gradient reaches them.
        fake: features of generated samples, (M, ...).
        distance: ``squared`` is the sum over features of the paper, ``absolute`` the mean over them of its code.
    """
    difference = fake.mean(0) - real.detach().mean(0)
    return difference.square().sum() if distance == "squared" else difference.abs().mean()


def kl_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, I)), summed over the latent axes, mean over samples.

    Kingma & Welling, arXiv 1312.6114.

    Args:
        mean: (N, ...).
        log_variance: natural logarithm of the variance, same shape.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1).mean()


def realness(logits: Tensor) -> Tensor:
    """Class logits (N, K) to the score of *real*, N numbers, where an extra logit fixed at zero stands for *fake*.

    The probability of any class is then the sigmoid of log Σ exp. Salimans et al., arXiv 1606.03498.
    """
    return torch.logsumexp(logits, dim=1)


def semi_supervised_discriminator(labelled: Tensor, labels: Tensor, unlabelled: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of the labelled among the K classes, plus half the game of *real* against *fake*.

    Salimans et al., arXiv 1606.03498.

    Args:
        labelled: logits (N, K).
        labels: N classes.
        unlabelled: logits of real samples, (M, K).
        fake: logits of generated samples, (L, K).
    """
    game = nonsaturating_discriminator(realness(unlabelled), realness(fake))
    return cross_entropy(labelled, labels) + 0.5 * game


def class_aware_discriminator(real: Tensor, labels: Tensor, fake: Tensor, real_target: RealTarget = "k+1") -> Tensor:
    """Half the cross-entropies among K + 1 classes, the last of which is *fake* with a logit fixed at zero.

    Kitchen & Seah, arXiv 1708.00129.

    Args:
        real: logits (N, K), all labelled.
        labels: N classes.
        fake: logits of generated samples, (M, K).
        real_target: ``k+1`` asks for the label alone, as in Salimans et al., arXiv 1606.03498; ``paper-code`` asks for
            the label and for *fake* at once, as the release of Kitchen & Seah does, so for probabilities of ½ each.
    """
    score = realness(real)
    normaliser = softplus(score)
    of_label = normaliser - real.gather(1, labels.unsqueeze(1)).squeeze(1)
    of_real = of_label + normaliser if real_target == "paper-code" else of_label
    return 0.5 * (of_real.mean() + softplus(realness(fake)).mean())


def class_aware_generator(fake: Tensor, saturating: bool = False) -> Tensor:
    """Against either discriminator above: be of any class rather than *fake*.

    Args:
        fake: logits of generated samples, (N, K).
        saturating: raise the discriminator's error, as in Kitchen & Seah, arXiv 1708.00129, instead of -E[log D].
    """
    return (minimax_generator if saturating else nonsaturating_generator)(realness(fake))


def total_variation(image: Tensor, power: Literal[1, 2] = 1) -> Tensor:
    """E|neighbour - itself|**power along every spatial axis of (N, C, ...), summed over the axes.

    Rudin et al., doi:10.1016/0167-2789(92)90242-F, in its anisotropic form. Axes of length one count nothing.
    """
    steps = [image.diff(dim=axis).abs().pow(power).mean() for axis in range(2, image.dim()) if image.shape[axis] > 1]
    return torch.stack(steps).sum() if steps else image.sum() * 0


def gradient_difference(fake: Tensor, real: Tensor, reduction: Literal["sum", "mean"]) -> Tensor:
    """(|∇x| - |∇x̂|)² along every spatial axis of (N, C, ...), summed over the axes. Mathieu et al., arXiv 1511.05440.

    Args:
        fake: generated images.
        real: true ones, same shape.
        reduction: over samples and neighbours: their sum, or per axis their mean.
    """
    errors = [(real.diff(dim=axis).abs() - fake.diff(dim=axis).abs()).square() for axis in range(2, real.dim())]
    return torch.stack([error.sum() if reduction == "sum" else error.mean() for error in errors]).sum()
