"""Laplacian pyramid, and the sliced Wasserstein distance of image patches at each of its levels.

Burt and Adelson, IEEE Trans. Commun. 31(4):532-540, 1983. doi:10.1109/TCOM.1983.1095851
Karras et al., Progressive Growing of GANs, ICLR 2018, arXiv:1710.10196.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d

from ganatomy.metrics.metric import Mask

BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16
SMALLEST = 16
NEIGHBOURHOOD = 7
SCALE = 1000.0  # the distances are customarily given times 10³

Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SlicedWasserstein:
    """Sliced Wasserstein distances per level, from fine detail to the low-pass residue.

    Attributes:
        sizes: rows and columns of every level.
        distances: distances of every level, times 10³.
    """

    sizes: tuple[tuple[int, int], ...]
    distances: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the distances over levels."""
        return math.fsum(self.distances) / len(self.distances)


def sliced_wasserstein(
    real: npt.ArrayLike,
    fake: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    real_mask: npt.ArrayLike | None = None,
    fake_mask: npt.ArrayLike | None = None,
    patches: int = 128,
    directions: int = 128,
    repeats: int = 4,
) -> SlicedWasserstein:
    """Return the sliced Wasserstein distance of 7x7 patches at each level of the Laplacian pyramid, times 10³.

    Levels go from full size down to 16 pixels. Real and fake patches are each standardised per channel, so a
    wrong brightness or contrast of the whole sample has no effect: use ``distribution.wasserstein_1d`` beside
    it. The distance falls with the number of images (16384 of 8 bits in the source); compare equal numbers only.

    Args:
        real: images (n, channels, rows, columns).
        fake: as many images of that size.
        rng: draws patches and directions.
        real_mask: where patches may be centred, such as the body: (rows, columns), or (n, rows, columns). The
            background then counts less, so the result needs a name of its own.
        fake_mask: where patches of the fakes may be centred, likewise.
        patches: patches per image and level.
        directions: directions per repetition.
        repeats: repetitions.

    Raises:
        ValueError: the samples differ in number or size, or a mask leaves no place for a patch.
    """
    x, y = np.asarray(real, dtype=np.float32), np.asarray(fake, dtype=np.float32)
    if x.shape != y.shape or x.ndim != 4:
        raise ValueError(f"needs as many fake as real images (n, channels, rows, columns), not {x.shape}, {y.shape}")
    sizes, distances = [], []
    pyramids = zip(laplacian_pyramid(x), laplacian_pyramid(y), strict=True)
    for level, (real_level, fake_level) in enumerate(pyramids):
        a = _descriptors(real_level, _at_level(real_mask, level), patches, rng)
        b = _descriptors(fake_level, _at_level(fake_mask, level), patches, rng)
        sizes.append((real_level.shape[2], real_level.shape[3]))
        distances.append(SCALE * _sliced_distance(a, b, directions, repeats, rng))
    return SlicedWasserstein(tuple(sizes), tuple(distances))


def laplacian_pyramid(images: npt.ArrayLike, levels: int | None = None) -> list[Images]:
    """Return differences of successive low-pass images, finest first; the last level is the low-pass image itself.

    Args:
        images: (..., rows, columns) of any size.
        levels: number of levels; unless given, as many as keep the shorter side at 16 pixels or more.

    Returns:
        Images (..., rows / 2^k, columns / 2^k), rounded up, for k = 0, 1, …
    """
    current = np.asarray(images, dtype=np.float32)
    shorter = min(current.shape[-2:])
    count = levels or max(1, 1 + int(math.log2(max(shorter, SMALLEST) / SMALLEST)))
    pyramid = []
    for _ in range(count - 1):
        coarse = downsample(current)
        pyramid.append(current - upsample(coarse, current.shape[-2:]))
        current = coarse
    return [*pyramid, current]


def reconstruct(pyramid: list[Images]) -> Images:
    """Reconstruct images from their Laplacian pyramid."""
    current = pyramid[-1]
    for detail in reversed(pyramid[:-1]):
        current = detail + upsample(current, detail.shape[-2:])
    return current


def downsample(images: Images) -> Images:
    """Smooth with the binomial filter, mirrored at the border, and keep every second row and column."""
    return _smooth(images, BINOMIAL)[..., ::2, ::2]


def upsample(images: Images, size: tuple[int, ...]) -> Images:
    """Interpolate to twice the size with the binomial filter; the inverse in size of ``downsample``.

    Args:
        images: (..., rows, columns).
        size: rows and columns wanted, 2 rows or 2 rows - 1, and likewise for columns.
    """
    spread = np.zeros((*images.shape[:-2], *size), dtype=np.float32)
    spread[..., ::2, ::2] = images
    return _smooth(spread, 2 * BINOMIAL)


def _smooth(images: Images, kernel: npt.NDArray[np.float64]) -> Images:
    along_rows = correlate1d(images, kernel, axis=-2, mode="mirror")
    return np.asarray(correlate1d(along_rows, kernel, axis=-1, mode="mirror"), dtype=np.float32)


def _at_level(mask: npt.ArrayLike | None, level: int) -> Mask | None:
    return None if mask is None else np.asarray(mask, dtype=np.bool_)[..., :: 2**level, :: 2**level]


def _descriptors(images: Images, mask: Mask | None, patches: int, rng: np.random.Generator) -> Images:
    """Draw random patches of every image, standardised per channel, (n · patches, channels · 7 · 7)."""
    n, channels, rows, columns = images.shape
    down, across = rows - NEIGHBOURHOOD + 1, columns - NEIGHBOURHOOD + 1
    if min(down, across) < 1:
        raise ValueError(f"patches of 7x7 do not fit images of {rows}x{columns}")
    if mask is None:
        corner = rng.integers(down * across, size=(n, patches))
    else:
        inside = np.broadcast_to(mask, (n, rows, columns))[:, 3:-3, 3:-3].reshape(n, -1)
        corner = _draw_inside(inside, patches, rng)
    windows = np.lib.stride_tricks.sliding_window_view(images, (NEIGHBOURHOOD, NEIGHBOURHOOD), axis=(2, 3))
    drawn = windows[np.arange(n)[:, None], :, corner // across, corner % across].reshape(n * patches, channels, -1)
    drawn -= drawn.mean(axis=(0, 2), dtype=np.float64, keepdims=True).astype(np.float32)
    deviation = np.sqrt(np.mean(drawn**2, axis=(0, 2), dtype=np.float64, keepdims=True))
    drawn /= np.where(deviation > 0, deviation, 1).astype(np.float32)
    return np.asarray(drawn.reshape(n * patches, -1))


def _draw_inside(inside: Mask, patches: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    available = inside.sum(axis=1)
    if not available.all():
        raise ValueError(f"the mask of image {int(np.argmin(available))} leaves no place for a 7x7 patch at some level")
    nth = rng.integers(available[:, None], size=(len(inside), patches))
    return np.stack([np.flatnonzero(allowed)[n] for allowed, n in zip(inside, nth, strict=True)])


def _sliced_distance(a: Images, b: Images, directions: int, repeats: int, rng: np.random.Generator) -> float:
    means = []
    for _ in range(repeats):
        direction = rng.normal(size=(directions, a.shape[1]))
        direction = (direction / np.linalg.norm(direction, axis=1, keepdims=True)).astype(np.float32)
        # A few directions at a time, since the projections on all would be larger than the patches.
        for some in np.array_split(direction, math.ceil(directions / 8)):
            differences = np.sort(some @ a.T, axis=1) - np.sort(some @ b.T, axis=1)
            means.append(np.mean(np.abs(differences), axis=1, dtype=np.float64))
    return float(np.concatenate(means).mean())
