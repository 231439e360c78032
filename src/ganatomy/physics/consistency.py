"""Data consistency of MR images: projection onto the measured k-space, conjugate gradients, and the residual."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganatomy.physics.coils import Encoding
from ganatomy.physics.fourier import TINY, as_channels, as_complex

COIL_STEPS = 6
"""Conjugate gradient steps with several coils (our choice)."""


def consistent(
    image: Tensor, measured: Tensor, encoding: Encoding, weight: Tensor | float | None = None, steps: int = COIL_STEPS
) -> Tensor:
    """Make an image consistent with the measurement: the minimiser x of ‖x − z‖² + v‖Ax − y‖².

    Without a weight the measurement counts as noise-free, and the image is projected onto those that fit it best. For
    one coil this is exact and replaces every measured sample, by (k + v y)/(1 + v) if there is a weight (Schlemper et
    al., IEEE Trans. Med. Imaging 37(2), 2018, doi 10.1109/TMI.2017.2760978). For several it is solved by conjugate
    gradients from the given image (Aggarwal et al., MoDL, IEEE Trans. Med. Imaging 38(2), 2019,
    doi 10.1109/TMI.2018.2865356), which are differentiable.

    Args:
        image: z, complex (N, 1, H, W).
        measured: y, complex (N, C, H, W), zero where it is not measured.
        encoding: A, the encoding operator.
        weight: v > 0, weight of the measurement; None for a noise-free one.
        steps: conjugate gradient steps, for several coils.

    Returns:
        Complex (N, 1, H, W).
    """
    return consistent_with(image, encoding.adjoint(measured), encoding, weight, steps)


def consistent_with(
    image: Tensor, seen: Tensor, encoding: Encoding, weight: Tensor | float | None = None, steps: int = COIL_STEPS
) -> Tensor:
    """Make an image consistent with the measurement, like `consistent`, given the zero-filled image instead of k-space.

    The consistent image depends on the measurement y through A* y alone.

    Args:
        image: z, complex (N, 1, H, W).
        seen: A* y, the zero-filled image, complex (N, 1, H, W).
        encoding: A, the encoding operator.
        weight: v > 0, weight of the measurement; None for a noise-free one.
        steps: conjugate gradient steps, for several coils.

    Returns:
        Complex (N, 1, H, W).
    """
    missing = seen - encoding.normal(image)
    if encoding.sensitivities is None:
        return image + (missing if weight is None else weight / (1 + weight) * missing)
    if weight is None:
        return image + conjugate_gradients(encoding.normal, missing, steps)
    return image + conjugate_gradients(lambda x: x + weight * encoding.normal(x), weight * missing, steps)


def conjugate_gradients(operator: Callable[[Tensor], Tensor], target: Tensor, steps: int) -> Tensor:
    """Solve B x = b by conjugate gradients from x = 0, for every sample of a batch separately; differentiable.

    Args:
        operator: B, Hermitian and positive semidefinite.
        target: b, complex (N, ...), in the range of B.
        steps: fixed number of steps; samples that have converged before stay unchanged.
    """
    solution = torch.zeros_like(target)
    residual = direction = target
    power = _inner(residual, residual)
    floor = 1e-12 * power.detach() + TINY * TINY
    for _ in range(steps):
        image = operator(direction)
        open_ = power > floor
        length = torch.where(open_, power / torch.where(open_, _inner(direction, image), 1), 0)
        solution = solution + length * direction
        residual = residual - length * image
        fresh = _inner(residual, residual)
        direction = residual + torch.where(open_, fresh / torch.where(open_, power, 1), 0) * direction
        power = fresh
    return solution


def consistency_residual(image: Tensor, seen: Tensor, encoding: Encoding) -> Tensor:
    """Return the data-consistency residual ‖A* (A x − y)‖ / ‖A* y‖ of every sample, (N,).

    With one coil this is ‖A x − y‖ / ‖y‖. With several, the part of y that no image can explain, such as most of the
    noise, does not count.

    Args:
        image: x, complex (N, 1, H, W).
        seen: A* y, the zero-filled image, complex (N, 1, H, W).
        encoding: A, the encoding operator.
    """
    difference = encoding.normal(image) - seen
    norms = [torch.linalg.vector_norm(values.flatten(1), dim=1) for values in (difference, seen)]
    share: Tensor = norms[0] / norms[1].clamp_min(TINY)
    return share


class DataConsistency(nn.Module):
    """Data-consistency layer, see `consistent`, on real and imaginary channels.

    Args:
        weight: weight of the measurement relative to the image; None for a noise-free one.
        learned: whether the weight is a parameter; it stays positive.
        steps: conjugate gradient steps, for several coils.
    """

    def __init__(self, weight: float | None = None, learned: bool = False, steps: int = COIL_STEPS) -> None:
        super().__init__()
        if learned and weight is None:
            raise ValueError("learned=True needs an initial weight")
        self.steps = steps
        raw = None if weight is None else torch.tensor(weight + math.log(-math.expm1(-weight)))
        self.raw = None if raw is None else nn.Parameter(raw, requires_grad=learned)

    @property
    def weight(self) -> Tensor | None:
        """Weight v > 0 of the measurement; None if it counts as noise-free."""
        if self.raw is None:
            return None
        weight: Tensor = softplus(self.raw)
        return weight

    def forward(self, image: Tensor, measured: Tensor, mask: Tensor, sensitivities: Tensor | None = None) -> Tensor:
        """Return the image (N, 2, H, W) that `consistent` makes agree with the measured k-space.

        Args:
            image: image (N, 2, H, W).
            measured: k-space (N, 2C, H, W), zero where it is not measured.
            mask: sampling mask, bool or 0 and 1, (N, 1, H, W).
            sensitivities: coil sensitivities (N, 2C, H, W), or None for one coil.
        """
        maps = None if sensitivities is None else as_complex(sensitivities)
        encoding = Encoding(mask, maps)
        return as_channels(consistent(as_complex(image), as_complex(measured), encoding, self.weight, self.steps))


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Return the real part of ⟨a, b⟩ of every sample, shaped to broadcast."""
    return (a.conj() * b).real.flatten(1).sum(1).view(-1, *(1,) * (a.ndim - 1))
