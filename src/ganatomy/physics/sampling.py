"""Undersampling of k-space: sampling masks of accelerated MR scans, and their simulated acquisition.

Masks are true where k-space is measured and have their centre where `ganatomy.physics.fourier` puts the zero frequency.
Trajectories that are not Cartesian are rounded to the grid. Densities whose source is not named follow the masks that
accompany DAGAN (Yang et al., IEEE Trans. Med. Imaging 37(6), 2018, doi 10.1109/TMI.2017.2785879).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.spatial import cKDTree
from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.physics.fourier import fft, ifft

Mask = NDArray[np.bool_]
Array = NDArray[np.float64]
Shape = tuple[int, int]
Pattern = Literal[
    "gaussian",
    "varden",
    "power",
    "uniform",
    "equispaced",
    "gaussian-2d",
    "poisson-disc",
    "radial",
    "golden-radial",
    "spiral",
]

CENTRE_LINES = ((0.1, 0.2, 0.3, 0.4, 0.5), (12 / 256, 22 / 256, 30 / 256, 37 / 256, 48 / 256))
"""Measured fractions, and for each the fraction of lines in the full centre of the pattern ``gaussian``."""

CENTRE_DISC = 120 / 256
"""Diameter of the full centre of ``gaussian-2d``, relative to the grid and to the measured fraction."""

CENTRE_SQUARE = 30 / 256
"""Side of the full centre of a Poisson disc, relative to the grid."""

CENTRE_SPIRAL = 8 / 256
"""Diameter of the full centre of a spiral, relative to the grid (our choice)."""

CENTRE_FASTMRI = 0.32
"""Fraction of the measured lines that lie in the full centre of ``uniform`` and ``equispaced``: 8 % of all lines at
4-fold acceleration and 4 % at 8-fold (Zbontar et al., fastMRI, 2018, arXiv 1811.08839)."""

PEAK, WIDTH = 0.72, 1 / 8
"""Height and SD, relative to the grid, of the Gaussian above the constant density of ``gaussian-2d``."""

BESIDE = 0.9
"""Greatest density of lines outside the full centre, so that the centre does not grow (our choice)."""

LINE_WIDTH = 1 / 10
"""SD of the density of lines, relative to their number."""

SPREAD = 8.0
"""Growth of the distance of Poisson-disc samples from the middle to the edge of k-space (our choice)."""

MOST = 1 << 13
"""Number of spokes or half turns that covers any grid."""

SPIRAL_POWER = 2.5
"""Exponent of the radius of a spiral over time; the greater, the denser its middle (our choice)."""

GOLDEN = np.pi / ((1 + np.sqrt(5)) / 2)
"""111.246°, the angle between successive golden spokes (Winkelmann et al., IEEE Trans. Med. Imaging 26(1), 2007,
doi 10.1109/TMI.2006.885337)."""


class Undersampling(BaseModel):
    """Simulated accelerated MR scan: sampling pattern, measured fraction and noise.

    The first five patterns are lines, each one readout of a Cartesian scan of a plane:

    - ``gaussian``: a full centre, a Gaussian density around it, and a least density of half the fraction;
    - ``varden``: density exp(−½(k/(N/10))²) + fraction/2 (Schlemper et al., IEEE Trans. Med. Imaging 37(2), 2018,
      doi 10.1109/TMI.2017.2760978), as Seitzer et al. (2018, arXiv 1806.11216) use it;
    - ``power``: density (1 − |k|/(N/2)) to the power `decay` (Mardani et al., GANCS, 2017, arXiv 1706.00051);
    - ``uniform``: every line outside the centre equally likely, so their number varies (fastMRI, arXiv 1811.08839);
    - ``equispaced``: every n-th line from a random one, and a full centre.

    The other patterns are sets of points: ``gaussian-2d``, ``poisson-disc``, ``radial`` (evenly spaced spokes),
    ``golden-radial`` and ``spiral``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: Pattern = "gaussian"  # sampling pattern of k-space: lines of a density, points, spokes or a spiral
    fraction: float = Field(0.3, ge=0.05, le=1)  # share of k-space that is measured; its inverse is the acceleration
    centre: int | None = Field(None, ge=0)  # width of the full centre in lines or samples; None: that of the pattern
    lines: Literal["columns", "rows"] = "columns"  # direction of the readouts, for patterns of lines
    decay: float = Field(2.0, gt=0)  # exponent of the density of lines, pattern power only
    redrawn: bool = False  # whether every image has a mask of its own instead of one for all
    mask_seed: int = Field(0, ge=0)  # seed of the masks
    noise: float = Field(0.0, ge=0)  # variance of a measured sample's complex noise, in squared units of the image

    def mask(self, shape: Shape, *draw: int) -> Tensor:
        """Return the sampling mask, bool (rows, columns), true where k-space is measured.

        Args:
            shape: rows and columns.
            draw: numbers that identify the image, such as patient and slice; all images have the same mask unless the
                masks are redrawn.

        Raises:
            UserError: The centre alone has more samples than the fraction allows.
        """
        return torch.from_numpy(_mask(self, shape, draw if self.redrawn else ()).copy())

    def acquire(self, slices: Tensor, seed: int, first: int = 0) -> tuple[Tensor, Tensor]:
        """Simulate the acquisition of every slice, seeded by (seed, slice number) whatever the subset and its order.

        Args:
            slices: real or complex (slices, coils, rows, columns) on the CPU; real ones have a symmetric k-space, which
                is easier to complete than a measured one.
            seed: seed of the noise, and of the masks where they are redrawn.
            first: number of the first slice given, when they are a part of a larger scan.

        Returns:
            Complex k-space (slices, coils, rows, columns), zero where it is not measured; and masks, bool
            (slices, 1, rows, columns).

        Raises:
            UserError: The centre alone has more samples than the fraction allows.
        """
        numbers = range(first, first + len(slices))
        rows, columns = slices.shape[-2:]
        drawn = [self.mask((rows, columns), seed, number) for number in (numbers if self.redrawn else (first,))]
        masks = torch.stack(drawn)[:, None].expand(len(slices), -1, -1, -1)
        measured = [
            undersample(plane, mask, self.noise, _generator(seed, number))
            for plane, mask, number in zip(slices, masks, numbers, strict=True)
        ]
        return torch.stack(measured), masks

    def _wanted(self, size: int, least: int = 1) -> int:
        """Return the number of measured lines or points among `size`, after a check that a chosen centre fits in."""
        number = max(1, round(self.fraction * size))
        if self.centre is not None and least > number:
            raise UserError(
                f"centre={self.centre} takes {least} samples, but fraction={self.fraction:g} allows {number} of "
                f"{size}: use a smaller centre or a larger fraction"
            )
        return number

    def _across(self, own: float) -> int:
        """Return the width in samples of the centre measured in full: `centre`, or the default of the pattern."""
        return round(own) if self.centre is None else self.centre


def undersample(image: Tensor, mask: Tensor, noise: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Measure M ∘ (F x + n): the k-space of an image with complex white noise, zero where it is not measured.

    Args:
        image: real or complex (..., rows, columns).
        mask: bool or 0 and 1, broadcasting to the image.
        noise: variance of n, of which real and imaginary part have half each.
        generator: random generator of the noise, on the image's device.

    Returns:
        Complex k-space of the image's shape.
    """
    kspace = fft(image)
    if noise:
        kspace = kspace + noise**0.5 * torch.randn(
            kspace.shape, dtype=kspace.dtype, device=kspace.device, generator=generator
        )
    return torch.where(mask.bool(), kspace, 0)


def zero_filled(kspace: Tensor) -> Tensor:
    """Return the complex zero-filled image of a k-space that is zero where it was not measured."""
    return ifft(kspace)


def spokes(shape: Shape, angles: Array) -> Mask:
    """Return a mask of diameters through the zero frequency at these angles in radians, rounded to the grid."""
    reach = np.hypot(*shape) / 2
    steps = np.arange(-reach, reach, 0.5)[:, None]
    return _rounded(shape, steps * np.sin(angles), steps * np.cos(angles))


def spiral(shape: Shape, turns: float, power: float = SPIRAL_POWER, rotation: float = 0.0) -> Mask:
    """Return a mask of a spiral from the zero frequency to the edge, rounded to the grid.

    Args:
        shape: rows and columns.
        turns: number of turns.
        power: exponent of the radius over the angle.
        rotation: angle at which the spiral starts, in radians.
    """
    half = np.array(shape) / 2
    time = np.linspace(0, 1, int(4 * np.pi * turns * max(half)) + 2)
    angle = 2 * np.pi * turns * time + rotation
    return _rounded(shape, half[0] * time**power * np.sin(angle), half[1] * time**power * np.cos(angle))


@lru_cache(maxsize=16)
def _mask(scan: Undersampling, shape: Shape, draw: tuple[int, ...]) -> Mask:
    rng = np.random.default_rng([scan.mask_seed, *draw])
    if scan.pattern not in _LINES:
        return _POINTS[scan.pattern](scan, shape, rng)
    chosen = _LINES[scan.pattern](scan, shape[scan.lines == "columns"], rng)
    return np.broadcast_to(chosen if scan.lines == "columns" else chosen[:, None], shape)


def _generator(*numbers: int) -> torch.Generator:
    state = int(np.random.SeedSequence([1, *numbers]).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)


def _rounded(shape: Shape, rows: Array, columns: Array) -> Mask:
    """Return a mask of the given places, which are relative to the zero frequency, rounded to the grid."""
    y, x = (np.rint(axis).astype(np.intp) + n // 2 for axis, n in zip((rows, columns), shape, strict=True))
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    mask = np.zeros(shape, np.bool_)
    mask[y[inside], x[inside]] = True
    return mask


def _offsets(size: int) -> Array:
    """Return the signed distance of every sample of a line from the zero frequency."""
    return np.arange(size, dtype=np.float64) - size // 2


def _radius(shape: Shape) -> Array:
    """Return the distance of every sample from the zero frequency, 1/2 at the edges of the grid."""
    rows, columns = (_offsets(extent) / extent for extent in shape)
    return np.hypot(rows[:, None], columns)


def _block(size: int, width: int) -> Mask:
    """Return a mask of the `width` lines around the zero frequency."""
    start = size // 2 - width // 2
    mask = np.zeros(size, np.bool_)
    mask[max(start, 0) : start + width] = True
    return mask


def _fitted(density: Callable[[float], Array], total: float, low: float, high: float) -> Array:
    """Return the member of an increasing family of densities whose sum is `total`, by bisection of its parameter."""
    for _ in range(50):
        middle = (low + high) / 2
        if density(middle).sum() < total:
            low = middle
        else:
            high = middle
    return density(high)


def _drawn(density: Array, number: int, rng: np.random.Generator) -> Mask:
    """Draw exactly `number` places, each with about the probability `density`, surely where it is 1.

    By Pareto sampling (Rosén, J. Stat. Plan. Inference 62, 1997).
    """
    with np.errstate(divide="ignore"):
        odds = density / (1 - density)
        uniform = rng.random(density.shape)
        rank = np.where(density > 0, uniform / (1 - uniform) / odds, np.inf)
    mask = np.zeros(density.size, np.bool_)
    mask[np.argsort(rank, axis=None)[:number]] = True
    return mask.reshape(density.shape)


def _without_replacement(weight: Array, centre: Mask, number: int, rng: np.random.Generator) -> Mask:
    """Return the centre and `number` other lines that are drawn without replacement with these weights."""
    mask = centre.copy()
    weight = np.where(centre, 0, weight)
    most = int(np.count_nonzero(weight))
    mask[rng.choice(len(weight), min(number, most), replace=False, p=weight / weight.sum())] = True
    return mask


def _gaussian_lines(scan: Undersampling, size: int, rng: np.random.Generator) -> Mask:
    centre = _block(size, scan._across(size * np.interp(scan.fraction, *CENTRE_LINES)))
    number = scan._wanted(size, centre.sum())
    bell = np.exp(-0.5 * (_offsets(size) / (LINE_WIDTH * size)) ** 2)

    def density(height: float) -> Array:
        return np.where(centre, 1, np.clip(scan.fraction / 2 + height * bell, 0, BESIDE))

    return _drawn(_fitted(density, number, -1, 1e9), number, rng)


def _varden_lines(scan: Undersampling, size: int, rng: np.random.Generator) -> Mask:
    number = scan._wanted(size, scan._across(0))
    centre = _block(size, scan._across(min(8, number // 2)))
    weight = np.exp(-0.5 * (_offsets(size) / (LINE_WIDTH * size)) ** 2) + scan.fraction / 2
    return _without_replacement(weight, centre, number - centre.sum(), rng)


def _power_lines(scan: Undersampling, size: int, rng: np.random.Generator) -> Mask:
    """Draw lines everywhere by their density, and add those of the full centre."""
    weight = (1 - np.abs(_offsets(size)) / ((size + 1) / 2)) ** scan.decay
    drawn = _without_replacement(weight, np.zeros(size, np.bool_), scan._wanted(size, scan._across(0)), rng)
    return drawn | _block(size, scan._across(3))


def _uniform_lines(scan: Undersampling, size: int, rng: np.random.Generator) -> Mask:
    centre = _block(size, scan._across(CENTRE_FASTMRI * scan.fraction * size))
    missing = scan._wanted(size, centre.sum()) - centre.sum()
    return np.asarray(centre | (rng.random(size) < missing / max(size - centre.sum(), 1)))


def _equispaced_lines(scan: Undersampling, size: int, rng: np.random.Generator) -> Mask:
    centre = _block(size, scan._across(CENTRE_FASTMRI * scan.fraction * size))
    missing = scan._wanted(size, centre.sum()) - centre.sum()
    if missing:
        step = (size - centre.sum()) / missing
        centre[np.arange(rng.uniform(0, step), size, step).astype(np.intp)] = True
    return centre


def _gaussian_points(scan: Undersampling, shape: Shape, rng: np.random.Generator) -> Mask:
    radius = _radius(shape)
    centre = radius * max(shape) <= scan._across(CENTRE_DISC * scan.fraction * max(shape)) / 2
    number = scan._wanted(radius.size, centre.sum())
    bell = PEAK * np.exp(-0.5 * (radius / WIDTH) ** 2)

    def density(floor: float) -> Array:
        return np.where(centre, 1, np.clip(floor + bell, 0, 1))

    return _drawn(_fitted(density, number, -1, 1), number, rng)


def _poisson_disc(scan: Undersampling, shape: Shape, rng: np.random.Generator) -> Mask:
    """Draw a Poisson disc whose least distance grows outwards, by relaxation dart throwing.

    The distance shrinks whenever no dart fits any more, which gives any number of samples exactly (McCool and Fiume,
    Graphics Interface 1992). The dart of a sample lies at a random place in its cell, because distances between cell
    centres are discrete and would leave rings.
    """
    side = scan._across(CENTRE_SQUARE * max(shape))
    mask = np.outer(*(_block(extent, max(1, round(side * extent / max(shape)))) for extent in shape))
    number = scan._wanted(mask.size, mask.sum())
    darts = np.moveaxis(np.indices(shape), 0, -1) + rng.uniform(-0.5, 0.5, (*shape, 2))
    distance = (1 + 2 * SPREAD * _radius(shape)) / np.sqrt(scan.fraction)
    while (missing := number - int(np.count_nonzero(mask))) > 0:
        free = ~mask
        free[free] = cKDTree(darts[mask]).query(darts[free])[0] >= distance[free]
        _throw(mask, free, darts, distance, missing, rng)
        distance *= 0.85
    return mask


def _throw(mask: Mask, free: Mask, darts: Array, distance: Array, most: int, rng: np.random.Generator) -> None:
    """Add at most `most` free darts to the mask; each excludes the others within its distance."""
    for place in rng.permutation(np.flatnonzero(free)):
        y, x = divmod(int(place), mask.shape[1])
        if not free[y, x]:
            continue
        mask[y, x] = True
        most -= 1
        if not most:
            return
        reach = int(distance[y, x]) + 1
        near = np.s_[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        free[near] &= np.square(darts[near] - darts[y, x]).sum(-1) >= distance[y, x] ** 2


def _closest(draw: Callable[[int], Mask], fraction: float) -> Mask:
    """Return the mask out of a growing family, numbered from 1, whose density is closest to the fraction."""
    high = 2
    while draw(high).mean() < fraction and high < MOST:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if draw(middle).mean() < fraction:
            low = middle
        else:
            high = middle
    return min((draw(low), draw(high)), key=lambda mask: abs(float(mask.mean()) - fraction))


def _radial(scan: Undersampling, shape: Shape, rng: np.random.Generator) -> Mask:
    turn, middle = rng.random(), _disc(shape, scan._across(0))
    return _closest(lambda n: middle | spokes(shape, (np.arange(n) + turn) * np.pi / n), scan.fraction)


def _golden_radial(scan: Undersampling, shape: Shape, rng: np.random.Generator) -> Mask:
    turn, middle = rng.uniform(0, np.pi), _disc(shape, scan._across(0))
    return _closest(lambda n: middle | spokes(shape, turn + GOLDEN * np.arange(n)), scan.fraction)


def _spiral(scan: Undersampling, shape: Shape, rng: np.random.Generator) -> Mask:
    """Draw a spiral with the measured fraction, which is limited because a spiral misses the corners of the grid."""
    middle = _disc(shape, scan._across(CENTRE_SPIRAL * max(shape)))
    most = (_radius(shape) < 0.5).mean()
    if scan.fraction > 0.9 * most:
        raise UserError(f"a spiral cannot measure fraction={scan.fraction:g}: use at most {0.9 * most:.2f}")
    rotation = rng.uniform(0, 2 * np.pi)
    return _closest(lambda n: middle | spiral(shape, n / 2, rotation=rotation), scan.fraction)


def _disc(shape: Shape, width: int) -> Mask:
    """Return a mask of a disc around the zero frequency, `width` samples across."""
    return np.asarray(_radius(shape) * max(shape) <= width / 2) & (width > 0)


_LINES: dict[str, Callable[[Undersampling, int, np.random.Generator], Mask]] = {
    "gaussian": _gaussian_lines,
    "varden": _varden_lines,
    "power": _power_lines,
    "uniform": _uniform_lines,
    "equispaced": _equispaced_lines,
}
_POINTS: dict[str, Callable[[Undersampling, Shape, np.random.Generator], Mask]] = {
    "gaussian-2d": _gaussian_points,
    "poisson-disc": _poisson_disc,
    "radial": _radial,
    "golden-radial": _golden_radial,
    "spiral": _spiral,
}
