"""Light microscopy of unstained cells: phase contrast and differential interference contrast (DIC) of a phase object.

Cells delay light by a phase in radians. Planes are (..., rows, columns); lengths are in pixels unless a unit is stated.
Angles are measured from the columns towards the rows, which count downwards. Both microscopes are simulated by complex
amplitudes, since the phase of a cell is too large for the linear forms, which are used to invert them.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage
from scipy.special import j1

Array = NDArray[np.float64]
Border = Literal["nearest", "wrap"]
"""Continuation of an image beyond its borders: its last pixels, or its other side."""

WAVELENGTH = 0.546  # µm, green light of a mercury lamp
DIFFERENCE = 0.03  # refractive index of a cell minus that of the medium (our choice, of usual size)
RING, REST = 0.4, 1.0  # amplitude that the phase ring, and the aperture beside it, let through (our choice)
FIRST_ZERO = 2.405  # of the Bessel function J0
LEVELS = 256  # intervals of values between which a threshold is sought


def phase_of(thickness: ArrayLike, difference: float = DIFFERENCE, wavelength: float = WAVELENGTH) -> Array:
    """Return the phase in radians by which a cell delays light.

    Args:
        thickness: thickness in µm.
        difference: refractive index of the cell minus that of the medium.
        wavelength: wavelength in µm.
    """
    return np.asarray(2 * np.pi / wavelength * difference * np.asarray(thickness, np.float64))


def obscured_airy(radius: float, width: float, half: int) -> Array:
    """Return the amplitude of the light that passes a phase ring, (2 half + 1, 2 half + 1).

    Its integral over the plane is 0, so that the sum over a window means nothing; see `airy_kernel`.

    Args:
        radius: outer radius of the ring in cycles per pixel.
        width: width of the ring in cycles per pixel.
        half: pixels on each side of the middle.
    """
    along = np.arange(-half, half + 1)
    apart = np.hypot(along[:, None], along)
    inner = radius - width
    far = np.maximum(apart, 1e-9)
    values = (radius * j1(2 * np.pi * radius * far) - inner * j1(2 * np.pi * inner * far)) / far
    values[half, half] = np.pi * (radius**2 - inner**2)
    return np.asarray(values)


def first_zero(radius: float, width: float) -> float:
    """Return the distance in pixels at which the light of a narrow ring first vanishes, 2.405 / (2π (R − W / 2))."""
    return FIRST_ZERO / (2 * np.pi * (radius - width / 2))


def airy_kernel(radius: float, width: float) -> Array:
    """Return `obscured_airy` within its first zero, with a sum of one, as a blank field needs.

    Raises:
        ValueError: The ring does not fit into the aperture, or is as wide as its radius.
    """
    if not 0 < width < radius:
        raise ValueError(f"a phase ring has a width between 0 and its radius {radius:g}, not {width:g}")
    cut = first_zero(radius, width)
    half = int(np.ceil(cut))
    along = np.arange(-half, half + 1)
    values = obscured_airy(radius, width, half) * (np.hypot(along[:, None], along) < cut)
    return np.asarray(values / values.sum())


def ring_light(passed: ArrayLike, around: ArrayLike, ring: float = RING, rest: float = REST, sign: int = -1) -> Array:
    """Return the intensity behind a phase ring, |ζ_c t + (±jζ_p − ζ_c) s|².

    Args:
        passed: complex amplitude t behind the specimen.
        around: part s of it that passes the ring: the amplitude, blurred.
        ring: amplitude ζ_p that the ring lets through.
        rest: amplitude ζ_c that passes beside it.
        sign: −1 for positive contrast, in which cells are dark, +1 for negative contrast.
    """
    field = rest * np.asarray(passed) + (sign * 1j * ring - rest) * np.asarray(around)
    return np.asarray(np.abs(field) ** 2)


def phase_contrast(
    phase: ArrayLike,
    halo: float | ArrayLike,
    *,
    ring: float = RING,
    rest: float = REST,
    sign: int = -1,
    border: Border = "nearest",
) -> Array:
    """Return the image of a phase object under a phase-contrast microscope; a blank field is ``ring``².

    Cells are surrounded by a halo, and large ones are shaded off towards their middle.

    Args:
        phase: phase in radians, (rows, columns).
        halo: SD in pixels of the Gaussian by which the ring blurs, or its kernel with a sum of one.
        ring, rest, sign: see `ring_light`.
        border: continuation beyond the borders.
    """
    passed = np.exp(1j * np.asarray(phase, np.float64))
    blurred = [_blurred(part, halo, border) for part in (passed.real, passed.imag)]
    return ring_light(passed, blurred[0] + 1j * blurred[1], ring, rest, sign)


def linear_phase_contrast(
    phase: ArrayLike,
    halo: float | ArrayLike,
    *,
    ring: float = RING,
    rest: float = REST,
    sign: int = -1,
    border: Border = "nearest",
) -> Array:
    """Return the limit of `phase_contrast` for small phases, ζ_p² ± 2 ζ_p ζ_c (φ − blurred φ)."""
    given = np.asarray(phase, np.float64)
    return np.asarray(ring**2 + sign * 2 * ring * rest * (given - _blurred(given, halo, border)))


def interference(ahead: ArrayLike, behind: ArrayLike, bias: float = np.pi / 2) -> Array:
    """Return the DIC intensity of a pure phase object, sin²((φ₁ − φ₂ + b) / 2).

    Args:
        ahead, behind: phases half the shear before and behind a place along the shear.
        bias: phase b that the microscope adds.
    """
    return np.asarray(np.sin((np.asarray(ahead, np.float64) - np.asarray(behind) + bias) / 2) ** 2)


def dic(
    phase: ArrayLike,
    shear: float,
    angle: float = np.pi / 4,
    *,
    bias: float = np.pi / 2,
    blur: float = 0.0,
    border: Border = "nearest",
) -> Array:
    """Return the image of a phase object under a DIC microscope, from 0 to 1; a blank field is sin²(bias / 2).

    A cell looks like a relief that is lit along the shear: bright where its phase rises along it, dark where it falls.
    A mirrored image has the opposite shadow, and shows no object that this microscope would show so.

    Args:
        phase: phase in radians, (rows, columns).
        shear: distance of the two beams.
        angle: direction of the shear in radians.
        bias: phase between the beams.
        blur: SD of the point spread of the amplitude.
        border: continuation beyond the borders.
    """
    given = np.asarray(phase, np.float64)
    half = np.array([np.sin(angle), np.cos(angle)]) * shear / 2
    mode = "grid-wrap" if border == "wrap" else border
    ahead, behind = (ndimage.shift(given, sign * half, order=3, mode=mode) for sign in (-1, 1))
    if not blur:
        return interference(ahead, behind, bias)
    field = (np.exp(1j * (ahead + bias / 2)) - np.exp(1j * (behind - bias / 2))) / 2
    parts = [_blurred(part, blur, border) for part in (field.real, field.imag)]
    return np.asarray(parts[0] ** 2 + parts[1] ** 2)


def dic_kernel(sigma: float, angle: float = np.pi / 4) -> Array:
    """Return the kernel −(x cos ψ + y sin ψ) exp(−r² / σ²) of the linear form of DIC, whose sum is 0.

    It is meant for a convolution, in which a phase that rises along the shear gives positive values; in a correlation,
    as networks compute it, the sign is the opposite. Li & Kanade, IPMI 2009.

    Args:
        sigma: width σ in pixels.
        angle: direction ψ of the shear in radians.
    """
    half = int(np.ceil(4 * sigma))
    along = np.arange(-half, half + 1)
    y, x = along[:, None], along
    return np.asarray(-(x * np.cos(angle) + y * np.sin(angle)) * np.exp(-(x**2 + y**2) / sigma**2))


def halo_kernel(halo: float) -> Array:
    """Return the kernel of the linear form of phase contrast: a point minus a Gaussian with a sum of one.

    Args:
        halo: SD of the Gaussian in pixels.
    """
    half = int(np.ceil(4 * halo))
    along = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * halo**2))
    kernel = -np.outer(along, along) / along.sum() ** 2
    kernel[half, half] += 1
    return np.asarray(kernel)


def restored(
    image: ArrayLike, kernel: ArrayLike, *, smooth: float = 0.01, sparse: float = 0.01, rounds: int = 15
) -> Array:
    """Return the phase φ ≥ 0 that explains an image, up to its scale: a restoration in which cells are bright.

    It minimises ‖k * φ − image‖² + smooth ‖∇φ‖² + sparse Σφ by alternating directions, after Yin, Kanade & Chen,
    Understanding the Phase Contrast Optics to Restore Artifact-free Microscopy Images for Segmentation, Med. Image
    Anal. 16, 2012, whose weights of pixels are left out.

    Args:
        image: image without the value of a blank field, (..., rows, columns).
        kernel: kernel of the microscope's linear form.
        smooth: weight of the squared gradient.
        sparse: weight of the sum of the phase.
        rounds: steps of the minimisation.
    """
    values, k = np.asarray(image, np.float64), np.asarray(kernel, np.float64)
    rows, columns = values.shape[-2:]
    margins = [(side // 2, side // 2) for side in k.shape]
    wide = np.pad(values, [(0, 0)] * (values.ndim - 2) + margins, mode="edge")
    shape = wide.shape[-2:]
    response = _response(k, shape)
    steps = (2 - 2 * np.cos(2 * np.pi * f) for f in (np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])))
    power = np.abs(response) ** 2
    weight = 0.1 * float(power.max())
    seen = np.conj(response) * fft.rfft2(wide)
    divisor = power + smooth * sum(steps) + weight
    kept, gap = np.zeros_like(wide), np.zeros_like(wide)
    for _ in range(rounds):
        found = fft.irfft2((seen + weight * fft.rfft2(kept - gap)) / divisor, shape)
        kept = np.maximum(found + gap - sparse / (2 * weight), 0)
        gap += found - kept
    top, left = (side // 2 for side in k.shape)
    return np.asarray(kept[..., top : top + rows, left : left + columns])


def otsu(values: ArrayLike) -> float:
    """Return the threshold that splits values into two classes with the largest variance between them.

    Otsu, IEEE Trans. Syst. Man Cybern. 9, 1979. Of constant values it is their value.
    """
    flat = np.asarray(values, np.float64).ravel()
    counts, edges = np.histogram(flat, LEVELS)
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    best = int(np.argmax(np.where((below > 0) & (above > 0), between, -1.0)))
    return float(edges[best + 1]) if flat.min() < flat.max() else float(flat[0])


def joined(inside: NDArray[np.bool_], reach: int, smallest: int) -> NDArray[np.bool_]:
    """Return a mask (rows, columns) whose gaps are closed and whose small parts are removed.

    Args:
        inside: the mask.
        reach: radius in pixels of the disc by which it is closed.
        smallest: pixels below which a part is removed.
    """
    along = np.arange(-reach, reach + 1)
    disc = np.hypot(along[:, None], along) <= reach + 0.5
    wide = np.pad(inside, reach, mode="edge")
    closed = ndimage.binary_erosion(ndimage.binary_dilation(wide, disc), disc, border_value=1)
    rows, columns = inside.shape
    closed = closed[reach : reach + rows, reach : reach + columns]
    parts, _ = ndimage.label(closed)
    large = np.bincount(parts.ravel()) >= smallest
    large[0] = False
    return np.asarray(large[parts])


def _blurred(values: Array, by: Any, border: Border) -> Array:
    """Return values blurred by a Gaussian of an SD, or by a kernel."""
    if np.ndim(by) == 0:
        return np.asarray(ndimage.gaussian_filter(values, by, mode=border))
    return np.asarray(ndimage.convolve(values, np.asarray(by, np.float64), mode=border))


def _response(kernel: Array, shape: tuple[int, ...]) -> NDArray[np.complex128]:
    """Return the Fourier transform of a kernel whose middle is the origin, on a periodic grid."""
    placed = np.zeros(shape)
    placed[: kernel.shape[0], : kernel.shape[1]] = kernel
    return np.asarray(fft.rfft2(np.roll(placed, [-(side // 2) for side in kernel.shape], (0, 1))))
