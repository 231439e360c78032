"""Adversarial losses and gradient penalties on raw scores (logits), which keep gradients where a sigmoid saturates.

Every loss takes score tensors of any shape and returns the mean loss as a scalar to be minimised. High scores mean
*real*.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus


def nonsaturating_discriminator(real: Tensor, fake: Tensor, real_target: float = 1.0) -> Tensor:
    """Return the discriminator loss -E[log D(x)] - E[log(1 - D(G))]. Goodfellow et al., arXiv 1406.2661.

    Args:
        real: scores of real samples.
        fake: scores of generated samples.
        real_target: target probability of real samples; 0.9 is the one-sided label smoothing of Salimans et al.,
            arXiv 1606.03498.
    """
    return (softplus(-real) + (1 - real_target) * real).mean() + softplus(fake).mean()


def nonsaturating_generator(fake: Tensor) -> Tensor:
    """Return the non-saturating generator loss -E[log D(G)]. Goodfellow et al., arXiv 1406.2661."""
    return softplus(-fake).mean()


def minimax_generator(fake: Tensor) -> Tensor:
    """Return the minimax generator loss E[log(1 - D(G))], which saturates where the discriminator wins.

    Goodfellow et al., arXiv 1406.2661.
    """
    return -softplus(fake).mean()


def least_squares_discriminator(
    real: Tensor, fake: Tensor, *, a: float | Tensor = 0.0, b: float | Tensor = 1.0
) -> Tensor:
    """Return the least-squares discriminator loss ½E[(s(x) - b)²] + ½E[(s(G) - a)²]. Mao et al., arXiv 1611.04076.

    The default is the 0-1 coding. Labels that differ from sample to sample are tensors of the scores' shape.
    """
    return 0.5 * (real - b).square().mean() + 0.5 * (fake - a).square().mean()


def least_squares_generator(fake: Tensor, *, c: float | Tensor = 1.0) -> Tensor:
    """Return the least-squares generator loss E[(s(G) - c)²]. Mao et al., arXiv 1611.04076; no ½, as in CycleGAN."""
    return (fake - c).square().mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """Return the critic loss E[f(G)] - E[f(x)], whose negative estimates the Wasserstein-1 distance.

    Arjovsky et al., arXiv 1701.07875.
    """
    return fake.mean() - real.mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """Return the Wasserstein generator loss -E[f(G)]. Arjovsky et al., arXiv 1701.07875."""
    return -fake.mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return the hinge discriminator loss E[max(0, 1 - s(x))] + E[max(0, 1 + s(G))]. Lim & Ye, arXiv 1705.02894."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """Return the generator loss -E[s(G)] that goes with the hinge discriminator. Lim & Ye, arXiv 1705.02894."""
    return -fake.mean()


def margin_generator(fake: Tensor) -> Tensor:
    """Return the margin loss E[max(0, 1 - s(G))] of a generator, 0 beyond the margin. Li & Wand, arXiv 1604.04382."""
    return relu(1 - fake).mean()


@dataclass(frozen=True)
class AdversarialLoss:
    """Pair of losses that discriminator and generator minimise."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """Loss of the discriminator: scores of real and of generated samples to a scalar."""
    generator: Callable[[Tensor], Tensor]
    """Loss of the generator: scores of generated samples to a scalar."""


GAMES: Mapping[str, AdversarialLoss] = MappingProxyType(
    {
        "nonsaturating": AdversarialLoss(nonsaturating_discriminator, nonsaturating_generator),
        "minimax": AdversarialLoss(nonsaturating_discriminator, minimax_generator),
        "least-squares": AdversarialLoss(least_squares_discriminator, least_squares_generator),
        "wasserstein": AdversarialLoss(wasserstein_critic, wasserstein_generator),
        "hinge": AdversarialLoss(hinge_discriminator, hinge_generator),
    }
)


def _gradient_norms(critic: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    """Return ‖∇f‖₂ at each sample of ``point``, N numbers that are differentiable by the critic's parameters."""
    point = point.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(point).sum(), point, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return norms


def _at_least_single(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor, target: float = 1.0
) -> Tensor:
    """Return the gradient penalty E[(‖∇f(x̃)‖₂ - target)²] at x̃ = x + mix·(x̂ - x) of WGAN-GP.

    Gulrajani et al., arXiv 1704.00028. The norm is over all axes but the first. Computed in float32 at least, whatever
    the precision of training, because squared norms of half-precision gradients overflow.

    Args:
        critic: maps (N, ...) to scores with N rows.
        real: real samples (N, ...).
        fake: generated samples of the same shape; no gradient reaches them.
        mix: interpolation weights in [0, 1], one per sample, (N,).
        target: gradient norm at which the penalty vanishes.
    """
    with torch.autocast(real.device.type, enabled=False):
        real, fake = _at_least_single(real), _at_least_single(fake)
        weight = mix.to(real).reshape(-1, *[1] * (real.dim() - 1))
        return (_gradient_norms(critic, real + weight * (fake - real)) - target).square().mean()


def r1_penalty(critic: Callable[[Tensor], Tensor], real: Tensor) -> Tensor:
    """Return the R1 penalty E[‖∇f(x)‖₂²] at real samples, to be weighted by γ/2. Mescheder et al., arXiv 1801.04406.

    Args:
        critic: maps (N, ...) to scores with N rows.
        real: real samples (N, ...).
    """
    with torch.autocast(real.device.type, enabled=False):
        return _gradient_norms(critic, _at_least_single(real)).square().mean()


def dragan_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, noise: Tensor, scale: float = 0.5, target: float = 1.0
) -> Tensor:
    """Return the DRAGAN penalty E[(‖∇f(x + δ)‖₂ - target)²] around real samples, δ = scale·std(x)·noise.

    Kodali et al., arXiv 1705.07215.

    Args:
        critic: maps (N, ...) to scores with N rows.
        real: real samples (N, ...); their standard deviation is one number for the batch.
        noise: random numbers of the same shape and of unit scale.
        scale: size of the neighbourhood in standard deviations of the data.
        target: gradient norm at which the penalty vanishes.
    """
    with torch.autocast(real.device.type, enabled=False):
        real = _at_least_single(real)
        point = real + scale * real.std() * noise.to(real)
        return (_gradient_norms(critic, point) - target).square().mean()
