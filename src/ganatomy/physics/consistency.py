"""Agreement of an image with what was measured of it."""

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
    """The image closest to the given one among those that agree with the measurement: min ‖x − z‖² + v‖Ax − y‖².

    Without a weight the measurement counts as free of noise, and the image is projected onto what agrees with it best.
    For one coil this is exact and every measured sample is replaced, by (k + v y)/(1 + v) if there is a weight
    (Schlemper et al., IEEE Trans. Med. Imaging 37(2), 2018, doi 10.1109/TMI.2017.2760978). For several it is solved by
    conjugate gradients from the given image (Aggarwal et al., MoDL, IEEE Trans. Med. Imaging 38(2), 2019,
    doi 10.1109/TMI.2018.2865356), and gradients pass through these.

    Args:
        image: z, complex (N, 1, H, W).
        measured: y, complex (N, C, H, W), zero where it is not measured.
        encoding: A, the scanner.
        weight: v > 0, of the measurement.
        steps: conjugate gradient steps, for several coils.

    Returns:
        Complex (N, 1, H, W).
    """
    return consistent_with(image, encoding.adjoint(measured), encoding, weight, steps)


def consistent_with(
    image: Tensor, seen: Tensor, encoding: Encoding, weight: Tensor | float | None = None, steps: int = COIL_STEPS
) -> Tensor:
    """The same, of the zero-filled image, which tells as much about the consistent one as the measurement itself does.

    Args:
        image: z, complex (N, 1, H, W).
        seen: A* y, complex (N, 1, H, W).
        encoding: A, the scanner.
        weight: v > 0, of the measurement.
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
    """Solve B x = b from x = 0 for every sample of a batch by itself; differentiable.

    Args:
        operator: B, Hermitian and not negative.
        target: b, complex (N, ...); of a singular B in its range.
        steps: fixed number of steps; a sample that is solved before stays as it is.
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
    """‖A* (A x − y)‖ / ‖A* y‖ of every sample, (N,): the share of the measurement that an image contradicts.

    With one coil this is ‖A x − y‖ / ‖y‖. With several, what no image could explain is left out, such as most noise.

    Args:
        image: x, complex (N, 1, H, W).
        seen: A* y, the zero-filled image, complex (N, 1, H, W).
        encoding: A, the scanner.
    """
    difference = encoding.normal(image) - seen
    norms = [torch.linalg.vector_norm(values.flatten(1), dim=1) for values in (difference, seen)]
    share: Tensor = norms[0] / norms[1].clamp_min(TINY)
    return share


class DataConsistency(nn.Module):
    """`consistent` as a layer between networks, on real and imaginary channels.

    Args:
        weight: of the measurement relative to the image; None for one that is free of noise.
        learned: whether the weight is a parameter; it stays positive.
        steps: conjugate gradient steps, for several coils.
    """

    def __init__(self, weight: float | None = None, learned: bool = False, steps: int = COIL_STEPS) -> None:
        super().__init__()
        if learned and weight is None:
            raise ValueError("a learned weight has to start somewhere")
        self.steps = steps
        raw = None if weight is None else torch.tensor(weight + math.log(-math.expm1(-weight)))
        self.raw = None if raw is None else nn.Parameter(raw, requires_grad=learned)

    @property
    def weight(self) -> Tensor | None:
        """Of the measurement, v > 0; None without noise."""
        if self.raw is None:
            return None
        weight: Tensor = softplus(self.raw)
        return weight

    def forward(self, image: Tensor, measured: Tensor, mask: Tensor, sensitivities: Tensor | None = None) -> Tensor:
        """The consistent image, (N, 2, H, W).

        Args:
            image: (N, 2, H, W).
            measured: k-space (N, 2C, H, W), zero where it is not measured.
            mask: what is measured, bool or 0 and 1, (N, 1, H, W).
            sensitivities: (N, 2C, H, W), or None for one coil.
        """
        maps = None if sensitivities is None else as_complex(sensitivities)
        encoding = Encoding(mask, maps)
        return as_channels(consistent(as_complex(image), as_complex(measured), encoding, self.weight, self.steps))


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Real part of ⟨a, b⟩ of every sample, shaped to broadcast."""
    return (a.conj() * b).real.flatten(1).sum(1).view(-1, *(1,) * (a.ndim - 1))
