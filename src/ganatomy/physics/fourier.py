"""Centred, orthonormal Fourier transform between MR images and k-space.

One convention holds everywhere. The zero frequency lies at index ``n // 2`` of every axis, images and k-space have the
same energy, and noise has the same standard deviation in both. Complex tensors are (N, C, H, W) or (N, C, D, H, W),
with C coils, or 1 without; networks take them as real channels, real and imaginary part of each coil in turn.
"""

from __future__ import annotations

import torch
from torch import Tensor

PLANE = (-2, -1)
VOLUME = (-3, -2, -1)
"""Axes of a 2D and of a 3D transform."""

TINY = 1e-12
"""Added to a squared magnitude, so that its root has a gradient at zero."""


def fft(image: Tensor, dims: tuple[int, ...] = PLANE) -> Tensor:
    """Return the complex k-space of a real or complex image, of the same shape."""
    kspace: Tensor = torch.fft.fftn(torch.fft.ifftshift(_wide(image), dims), dim=dims, norm="ortho")
    return _centred(kspace, dims)


def ifft(kspace: Tensor, dims: tuple[int, ...] = PLANE) -> Tensor:
    """Return the complex image of a k-space, of the same shape; inverse and adjoint of `fft`."""
    image: Tensor = torch.fft.ifftn(torch.fft.ifftshift(_wide(kspace), dims), dim=dims, norm="ortho")
    return _centred(image, dims)


def as_channels(values: Tensor) -> Tensor:
    """Convert complex (N, C, ...) to real (N, 2C, ...): real and imaginary part of each channel in turn."""
    return torch.view_as_real(values).movedim(-1, 2).flatten(1, 2)


def as_complex(channels: Tensor) -> Tensor:
    """Convert real (N, 2C, ...) to complex (N, C, ...), the inverse of `as_channels`."""
    return torch.view_as_complex(_pairs(_wide(channels)).movedim(2, -1).contiguous())


def magnitude(values: Tensor) -> Tensor:
    """Return √(re² + im²), (N, C, ...), of complex values or of 2C real channels, with a finite gradient at zero."""
    pairs = torch.view_as_real(values).movedim(-1, 2) if values.is_complex() else _pairs(values)
    return (pairs.square().sum(2) + TINY).sqrt()


def smooth_phase(shape: tuple[int, int], seed: int, swing: float = 1.0, order: int = 2) -> Tensor:
    """Simulate a smooth phase, as field inhomogeneity leaves it in MR images: a complex plane of magnitude 1.

    Args:
        shape: rows and columns.
        seed: seed of the random phase.
        swing: SD of the phase over the plane, in radians (our choice).
        order: cosines along each axis; the more, the faster the phase varies (our choice).

    Returns:
        Plane exp(i·phase), complex64 (rows, columns).
    """
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (
        torch.cos(torch.pi * torch.arange(order + 1)[:, None] * (torch.arange(extent) + 0.5) / extent)
        for extent in shape
    )
    phase = rows.T @ torch.randn(order + 1, order + 1, generator=generator) @ columns
    phase = phase - phase.mean()
    phase = phase * (swing / phase.std(correction=0).clamp_min(TINY))
    offset = 2 * torch.pi * torch.rand((), generator=generator)
    return torch.polar(torch.ones_like(phase), phase + offset)


def _centred(values: Tensor, dims: tuple[int, ...]) -> Tensor:
    shifted: Tensor = torch.fft.fftshift(values, dims)
    return shifted


def _pairs(channels: Tensor) -> Tensor:
    """Reshape (N, 2C, ...) to (N, C, 2, ...)."""
    return channels.reshape(len(channels), -1, 2, *channels.shape[2:])


def _wide(values: Tensor) -> Tensor:
    """Convert half precision, which autocast may have chosen, to single precision, which complex numbers need."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
