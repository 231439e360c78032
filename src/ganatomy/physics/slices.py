"""Coarser sampling of images and volumes: k-space truncation, thick slices, Gaussian decimation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from ganatomy.physics.fourier import fft, ifft

Window = Literal["none", "hann"]
Profile = Literal["box", "gaussian"]

FWHM = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian of SD 1."""


def truncated(image: Tensor, factors: Sequence[float], window: Window = "none", same_grid: bool = True) -> Tensor:
    """Return the image of the central part of its k-space, like a shorter MR scan, including ringing at edges.

    Args:
        image: real or complex (..., axes), the last axes being as many as there are factors.
        factors: samples before over samples after, along each of these axes; 1 keeps all.
        window: ``hann`` weights the kept part with a Hann window against ringing.
        same_grid: whether zeros replace the lost samples, so that the grid stays; otherwise it gets smaller and
            intensities are kept.

    Returns:
        Truncated image: the magnitude for a real image, complex for a complex one.

    Raises:
        ValueError: A factor is below 1, or leaves no sample.
    """
    shortened = {dim: factor for dim, factor in zip(range(-len(factors), 0), factors, strict=True) if factor != 1}
    if not shortened:
        return image
    kspace = fft(image, tuple(shortened))
    for dim, factor in shortened.items():
        extent = image.shape[dim]
        kept = round(extent / factor)
        if factor < 1 or not kept:
            raise ValueError(f"{extent} samples cannot be truncated {factor:g}-fold")
        start = extent // 2 - kept // 2
        inside = kspace.narrow(dim, start, kept)
        if window == "hann":
            inside = inside * _hann(kept).to(image.device).view(-1, *(1,) * (-1 - dim))
        after = extent - start - kept
        kspace = _between(inside, dim, start, after) if same_grid else inside * math.sqrt(kept / extent)
    result = ifft(kspace, tuple(shortened))
    return result if image.is_complex() else result.abs()


def thick_slices(volume: Tensor, factor: int, profile: Profile = "box", gap: int = 0, dim: int = -3) -> Tensor:
    """Combine thin slices to thick ones, each in the middle of those that it replaces.

    Args:
        volume: (..., slices, rows, columns).
        factor: thin slices per thick one, which divides their number.
        profile: ``box`` averages thin slices; ``gaussian`` weights them by a profile whose full width at half maximum
            is the thickness, so that neighbours contribute too.
        gap: thin slices between two thick ones that contribute to neither.
        dim: axis across the slices.

    Returns:
        Volume (..., slices / factor, rows, columns).

    Raises:
        ValueError: The factor does not divide the number of slices, or the gap leaves no thickness.
    """
    thickness = factor - gap
    if thickness < 1 or volume.shape[dim] % factor:
        raise ValueError(f"{volume.shape[dim]} slices cannot be joined by {factor} with gaps of {gap}")
    if profile == "gaussian":
        return gaussian_means(volume, factor, profile_sd(thickness), dim)
    start = gap // 2
    return volume.unfold(dim, factor, factor)[..., start : start + thickness].mean(-1)


def decimated(volume: Tensor, factors: Sequence[int], blur: float) -> Tensor:
    """Blur with a Gaussian and keep one sample of every `factor` voxels, in their middle.

    Args:
        volume: (..., axes), the last axes being as many as there are factors.
        factors: voxels per sample along each of these axes, which divide the extents.
        blur: SD of the Gaussian in voxels, along the axes with a factor above 1.

    Raises:
        ValueError: A factor does not divide an extent.
    """
    for dim, factor in zip(range(-len(factors), 0), factors, strict=True):
        if volume.shape[dim] % factor:
            raise ValueError(f"{volume.shape[dim]} voxels cannot be sampled at every {factor}-th place")
        volume = gaussian_means(volume, factor, blur, dim) if factor > 1 else volume
    return volume


def profile_sd(thickness: float) -> float:
    """Return the SD of the Gaussian slice profile whose full width at half maximum is the thickness."""
    return thickness / FWHM


def gaussian_reach(step: int, sigma: float) -> int:
    """Return the number of values per side, beyond its own `step`, on which a mean of `gaussian_means` depends."""
    return max(0, math.ceil(3 * sigma - step / 2))


def gaussian_means(values: Tensor, step: int, sigma: float, dim: int) -> Tensor:
    """Return Gaussian means around the middle of every `step` values along an axis; end values are repeated.

    Args:
        values: (..., axes).
        step: values per mean, a divisor of the extent; 1 blurs without downsampling.
        sigma: SD of the Gaussian, in values.
        dim: negative number of the axis.
    """
    reach = gaussian_reach(step, sigma)
    offsets = torch.arange(step + 2 * reach, dtype=torch.float32, device=values.device)
    taps = torch.exp(-0.5 * ((offsets - offsets.mean()) / sigma).square())
    longer = _continued(values, dim, reach)
    return longer.unfold(dim, len(taps), step) @ (taps / taps.sum()).to(values)


def _continued(values: Tensor, dim: int, reach: int) -> Tensor:
    """Pad both ends of an axis with copies of the outermost values."""
    first, last = values.narrow(dim, 0, 1), values.narrow(dim, -1, 1)
    repeats = [1] * values.ndim
    repeats[dim] = reach
    return torch.cat([first.repeat(repeats), values, last.repeat(repeats)], dim)


def _between(values: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Pad with zeros before and after along a negative axis."""
    return pad(values, (0, 0) * (-1 - dim) + (before, after))


def _hann(samples: int) -> Tensor:
    """Return a Hann window centred on the zero frequency."""
    offset = torch.arange(samples) - samples // 2
    return 0.5 + 0.5 * torch.cos(2 * torch.pi * offset / (samples + 1))
