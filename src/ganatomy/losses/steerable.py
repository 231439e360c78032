"""Steerable filters of lines, and the difference of two images in their responses.

The filters are second derivatives of a Gaussian, which answer to lines. Those of all directions are sums of three, so
that a bank of any size costs three convolutions. Freeman & Adelson, The design and use of steerable filters, IEEE
Trans. Pattern Anal. Mach. Intell. 13(9):891, 1991, doi 10.1109/34.93808. Coordinates are x to the right and y down.
"""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor
from torch.nn.functional import conv2d, huber_loss

SPACING, TAPS = 0.67, 9
"""Distance between samples of the filters, in units of √2 SDs of the Gaussian, and samples along an axis, as in the
paper of Freeman & Adelson."""


def basis(taps: int = TAPS, spacing: float = SPACING) -> Tensor:
    """Return the second derivatives G2a, G2b, G2c of a Gaussian, of which all directions are sums, (3, taps, taps).

    Args:
        taps: number of samples along an axis, odd.
        spacing: distance between them in units of √2 SDs of the Gaussian.
    """
    axis = spacing * (torch.arange(taps, dtype=torch.float64) - taps // 2)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    shapes = [0.9213 * (2 * x.square() - 1), 1.843 * x * y, 0.9213 * (2 * y.square() - 1)]
    return torch.stack(shapes) * torch.exp(-(x.square() + y.square()))


def steered(angles: Tensor) -> Tensor:
    """Return the weights (directions, 3) by which the basis adds up to those of some directions in radians.

    The filter of angle 0 answers to vertical lines.
    """
    c, s = angles.cos(), angles.sin()
    return torch.stack([c.square(), -2 * c * s, s.square()], dim=1)


def bank(directions: int = 20, taps: int = TAPS, spacing: float = SPACING) -> Tensor:
    """Return line filters (directions, taps, taps) at evenly spaced angles, float64.

    Each sums to 0, has a sum of squares of 1, and answers to bright lines with positive values.
    """
    angles = torch.arange(directions, dtype=torch.float64) * pi / directions
    filters = -torch.einsum("ka,aij->kij", steered(angles), basis(taps, spacing))
    filters = filters - filters.mean((1, 2), keepdim=True)
    return filters / filters.square().sum((1, 2), keepdim=True).sqrt()


def factored(filters: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (directions, 3) and an orthonormal basis (3, taps, taps) of which a bank is the product."""
    flat = filters.flatten(1)
    left, values, right = torch.linalg.svd(flat, full_matrices=False)
    rank = min(3, len(values))
    return left[:, :rank] * values[:rank], right[:rank].unflatten(1, filters.shape[1:])


def responses(image: Tensor, weights: Tensor, shapes: Tensor) -> Tensor:
    """Correlate images (N, 1, H, W) with a factored bank; what is beyond the border is 0.

    Args:
        image: one channel.
        weights: (directions, 3).
        shapes: (3, taps, taps).

    Returns:
        Responses (N, directions, H, W).
    """
    found = conv2d(image, shapes[:, None].to(image), padding=shapes.shape[-1] // 2)
    return torch.einsum("ka,nahw->nkhw", weights.to(image), found)


def steerable_loss(output: Tensor, target: Tensor, weights: Tensor, shapes: Tensor) -> Tensor:
    """Return the mean Huber loss (δ = 1) of the responses of two images to a factored bank.

    Olut et al., arXiv 1804.04366. Every channel is compared for itself.

    Args:
        output: generated images (N, C, H, W).
        target: true images of the same shape.
        weights: (directions, 3).
        shapes: (3, taps, taps).
    """
    # Filters are linear, so that their response to the difference is the difference of the responses.
    apart = responses((output - target).flatten(0, 1)[:, None], weights, shapes)
    return huber_loss(apart, torch.zeros_like(apart))
