"""Receiver coils in MR: simulated and estimated sensitivities, coil combination, and the encoding operator.

Complex tensors: images (N, 1, H, W), sensitivities and k-space (N, C, H, W) of C coils.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ganatomy.physics.fourier import TINY, fft, ifft

POWER_STEPS = 8
"""Steps of the power iteration that finds the strongest eigenvector of a small covariance (our choice)."""


def simulated_sensitivities(coils: int, shape: tuple[int, int], seed: int, width: float = 0.5) -> Tensor:
    """Simulate smooth sensitivities of coils around the field of view; squared magnitudes sum to 1 in every pixel.

    Args:
        coils: number of coils, evenly spaced around the image except for a random rotation and small displacements.
        shape: rows and columns.
        seed: seed of the arrangement.
        width: SD of a coil's Gaussian profile, relative to the field of view (our choice).

    Returns:
        Sensitivities, complex64 (1, coils, rows, columns).
    """
    rng = np.random.default_rng(seed)
    turn = 2 * np.pi * (np.arange(coils) + rng.random() + 0.2 * rng.uniform(-1, 1, coils)) / coils
    apart = rng.uniform(0.55, 0.7, coils)
    phase = rng.uniform(0, 2 * np.pi, coils)
    wave = rng.normal(0, 1.5, (2, coils))
    y, x = ((np.arange(extent) + 0.5) / extent - 0.5 for extent in shape)
    rows, columns = y[:, None], x

    def coil(n: int) -> np.ndarray:
        squared = (rows - apart[n] * np.sin(turn[n])) ** 2 + (columns - apart[n] * np.cos(turn[n])) ** 2
        angle = phase[n] + wave[0, n] * rows + wave[1, n] * columns
        return np.asarray(np.exp(-0.5 * squared / width**2 + 1j * angle))

    maps = np.stack([coil(n) for n in range(coils)])
    return torch.from_numpy((maps / np.sqrt((np.abs(maps) ** 2).sum(0))).astype(np.complex64))[None]


def root_sum_of_squares(images: Tensor) -> Tensor:
    """Return the root-sum-of-squares magnitude (N, 1, H, W) of complex coil images.

    Roemer et al., Magn. Reson. Med. 16(2), 1990, doi 10.1002/mrm.1910160203.
    """
    return (torch.view_as_real(images).square().sum((1, -1))[:, None] + TINY).sqrt()


def combine(images: Tensor, sensitivities: Tensor) -> Tensor:
    """Return the complex image (N, 1, H, W) that fits the coil images best (least squares), 0 without sensitivity."""
    power = _power(sensitivities).sum(1, keepdim=True)
    return (sensitivities.conj() * images).sum(1, keepdim=True) / power.clamp_min(TINY)


def calibration(kspace: Tensor, width: int) -> Tensor:
    """Return low-resolution coil images from the innermost `width` rows and columns of k-space under a Hann window.

    These are the autocalibration lines, which every undersampling pattern with a full centre has.
    """
    windows = [_hann(extent, width).to(kspace.device) for extent in kspace.shape[-2:]]
    return ifft(kspace * windows[0][:, None] * windows[1])


def centre_width(mask: Tensor, most: int = 24) -> int:
    """Return the width of the fully measured square around the zero frequency, in samples.

    Args:
        mask: bool (rows, columns), true where k-space is measured.
        most: largest width that is returned; the smallest is 1.
    """
    away = [(torch.arange(extent, device=mask.device) - extent // 2).abs() for extent in mask.shape]
    distance = torch.maximum(away[0][:, None], away[1])
    holes = distance[~mask]
    free = int(holes.min()) if len(holes) else most
    return int(max(1, min(most, 2 * free - 1, *mask.shape)))


def estimated_sensitivities(kspace: Tensor, width: int = 24, threshold: float = 0.02) -> Tensor:
    """Estimate sensitivities from the fully measured centre: low-resolution coil images over their root sum of squares.

    McKenzie et al., Magn. Reson. Med. 47(3), 2002, doi 10.1002/mrm.10087.

    Args:
        kspace: complex (N, C, H, W).
        width: rows and columns of the centre that are used (our choice).
        threshold: fraction of the greatest signal below which a pixel counts as empty (our choice).

    Returns:
        Complex (N, C, H, W); squared magnitudes sum to 1 in every pixel with signal, and to 0 elsewhere.
    """
    return _normalised(calibration(kspace, width), threshold)


def adaptive_sensitivities(images: Tensor, block: int = 5, threshold: float = 0.02) -> Tensor:
    """Estimate sensitivities from coil images: the principal eigenvector of the coils' covariance around every pixel.

    Walsh et al., Magn. Reson. Med. 43(5), 2000, doi 10.1002/(SICI)1522-2594(200005)43:5<682::AID-MRM10>3.0.CO;2-G. With
    `combine` this is the adaptive combination. Phases are relative to the coil with the strongest signal.

    Args:
        images: complex (N, C, H, W).
        block: odd side in pixels of the neighbourhood (our choice).
        threshold: fraction of the greatest signal below which a pixel counts as empty (our choice).

    Returns:
        Complex (N, C, H, W); squared magnitudes sum to 1 in every pixel with signal, and to 0 elsewhere.
    """
    covariance = _blurred(images[:, :, None] * images[:, None].conj(), block)
    strongest = int(_power(images).sum((0, 2, 3)).argmax())
    vector = covariance[:, :, strongest]
    for _ in range(POWER_STEPS):
        vector = torch.einsum("ncdhw,ndhw->nchw", covariance, _normalised(vector, 0.0))
    reference = vector[:, strongest : strongest + 1]
    phase = reference / _power(reference).sqrt().clamp_min(TINY)
    bright = root_sum_of_squares(images)
    present = bright > threshold * bright.amax((2, 3), keepdim=True)
    return _normalised(vector * phase.conj(), 0.0) * present


@dataclass(frozen=True)
class Encoding:
    """Encoding operator A of an MR scan: coil sensitivities, Fourier transform and sampling mask; differentiable.

    Attributes:
        mask: sampling mask, bool or 0 and 1, broadcasting to (N, C, H, W).
        sensitivities: complex, broadcasting to (N, C, H, W); None for a single coil of uniform sensitivity.
    """

    mask: Tensor
    sensitivities: Tensor | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Return A x, the measured k-space (N, C, H, W) of an image (N, 1, H, W), zero where it is not measured."""
        seen = image if self.sensitivities is None else self.sensitivities * image
        return fft(seen) * self.mask

    def adjoint(self, kspace: Tensor) -> Tensor:
        """Return A* y, (N, 1, H, W): the zero-filled image of a k-space, if sensitivities are normalised."""
        seen = ifft(kspace * self.mask)
        return seen if self.sensitivities is None else (self.sensitivities.conj() * seen).sum(1, keepdim=True)

    def normal(self, image: Tensor) -> Tensor:
        """Return A* A x, (N, 1, H, W)."""
        return self.adjoint(self.forward(image))


def _power(values: Tensor) -> Tensor:
    return torch.view_as_real(values).square().sum(-1)


def _normalised(images: Tensor, threshold: float) -> Tensor:
    """Scale to unit power over the coils; 0 where the signal is below a fraction of its maximum."""
    signal = _power(images).sum(1, keepdim=True).sqrt()
    present = signal > threshold * signal.amax((2, 3), keepdim=True)
    return torch.where(present, images / signal.clamp_min(1e-30), 0)


def _blurred(covariance: Tensor, block: int) -> Tensor:
    """Return the mean over the neighbourhood of every pixel, (N, C, C, H, W)."""
    planes = torch.view_as_real(covariance).movedim(-1, 1).flatten(1, 3)
    planes = avg_pool2d(planes, block, stride=1, padding=block // 2, count_include_pad=False)
    coils = covariance.shape[1]
    return torch.view_as_complex(planes.view(-1, 2, coils, coils, *planes.shape[2:]).movedim(1, -1).contiguous())


def _hann(extent: int, width: int) -> Tensor:
    """Return a Hann window of `width` samples around the zero frequency, 0 outside."""
    offset = torch.arange(extent) - extent // 2
    inside = offset.abs() < width / 2
    return torch.where(inside, 0.5 + 0.5 * torch.cos(2 * torch.pi * offset / width), 0.0)
