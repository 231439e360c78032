"""Adversarial losses on raw scores (logits), so that no gradient is lost to a squashed score.

Every function takes score tensors of any shape and returns their mean as a scalar to be minimised. High scores mean
*real*.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus


def nonsaturating_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G))]. Goodfellow et al., arXiv 1406.2661."""
    return softplus(-real).mean() + softplus(fake).mean()


def nonsaturating_generator(fake: Tensor) -> Tensor:
    """-E[log D(G)]. Goodfellow et al., arXiv 1406.2661."""
    return softplus(-fake).mean()


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """½E[(s(x) - 1)²] + ½E[s(G)²]. Mao et al., arXiv 1611.04076, 0-1 coding."""
    return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()


def least_squares_generator(fake: Tensor) -> Tensor:
    """E[(s(G) - 1)²]. Mao et al., arXiv 1611.04076, 0-1 coding, without the factor ½ as in CycleGAN."""
    return (fake - 1).square().mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E[f(G)] - E[f(x)]; its negative estimates the Wasserstein-1 distance. Arjovsky et al., arXiv 1701.07875."""
    return fake.mean() - real.mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """-E[f(G)]. Arjovsky et al., arXiv 1701.07875."""
    return -fake.mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor, target: float = 1.0
) -> Tensor:
    """E[(‖∇f(x̃)‖₂ - target)²] at x̃ = x + mix·(x̂ - x), the norm over all axes but the first.

    Gulrajani et al., arXiv 1704.00028. Always in float32, whatever the precision of training, because squared norms
    of half-precision gradients overflow.

    Args:
        critic: maps (N, ...) to scores with N rows.
        real: (N, ...).
        fake: same shape; its graph is not followed.
        mix: N numbers in [0, 1], one per sample.
        target: gradient norm at which the penalty vanishes.
    """
    with torch.autocast(real.device.type, enabled=False):
        real, fake = real.float(), fake.detach().float()
        weight = mix.to(real).reshape(-1, *[1] * (real.dim() - 1))
        point = (real + weight * (fake - real)).requires_grad_(True)
        (slope,) = torch.autograd.grad(critic(point).sum(), point, create_graph=True)
        norms: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
        return (norms - target).square().mean()
