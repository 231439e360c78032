"""Stains of histology: optical density, amounts of stains, and transfers of colour between slides.

Colours are red, green and blue, (..., 3), from 0 to the value of empty glass. Optical densities are natural logarithms;
those of Ruifrok's paper are decadic and smaller by a factor of 2.3026, and scikit-image divides them by 13.8155, the
natural logarithm of a million. Stains are rows of a matrix (stains, 3) with unit length.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

WHITE = 255.0
"""Value of empty glass."""

HAEMATOXYLIN, EOSIN, DAB = (0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776)
"""Optical densities of stains for red, green and blue as they are printed; their lengths are not exactly 1.

Ruifrok & Johnston, Quantification of histochemical staining by color deconvolution, Anal. Quant. Cytol. Histol. 23,
2001."""

LEAST = 0.15
"""Optical density above which a channel counts as stained."""
TARGET: Array = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
TARGET_STRENGTHS: Array = np.array([1.9705, 1.0308])
TARGET_WHITE = 240.0
"""Haematoxylin and eosin of the slide that Macenko's released code normalises to, 99th percentiles of their amounts,
and the value of glass that they belong to."""

LMS: Array = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
"""Red, green and blue to responses of long, middle and short cones, Reinhard et al. 2001."""
OPPONENT: Array = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1.0, 1, 1], [1, 1, -2], [1, -1, 0]])
"""Decadic logarithms of these responses to lαβ; orthonormal."""

MOST_PIXELS = 20_000
"""Largest number of pixels, regularly spaced, in which Vahadane's stains are sought (our choice)."""


def optical_density(colours: ArrayLike, white: float = WHITE) -> Array:
    """Return the optical density by Beer and Lambert's law, −ln(max(I, 1) / white).

    Args:
        colours: values of any shape; those above ``white`` give negative densities.
        white: value of empty glass.
    """
    return np.asarray(-np.log(np.maximum(np.asarray(colours, np.float64), 1) / white))


def transmitted(density: ArrayLike, white: float = WHITE) -> Array:
    """Return the values that light of ``white`` has behind an optical density: the inverse of `optical_density`."""
    return np.asarray(white * np.exp(-np.asarray(density, np.float64)))


def unit(stains: ArrayLike) -> Array:
    """Return stains (..., 3) scaled to unit length."""
    rows = np.asarray(stains, np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def completed(stains: ArrayLike, third: Literal["cross", "residual"] = "cross") -> Array:
    """Return two stains with a third one, which takes up what the two do not explain, as a matrix (3, 3).

    Args:
        stains: two stains (2, 3) of any length.
        third: ``cross`` product of both, with which their amounts are those of least squares, or the ``residual``
            √(1 − h² − e²) of each channel as in ImageJ, zero where there is none.
    """
    first, second = unit(stains)
    last = np.cross(first, second) if third == "cross" else np.sqrt(np.maximum(1 - first**2 - second**2, 0))
    return np.stack([first, second, unit(last)])


def amounts(density: ArrayLike, stains: ArrayLike) -> Array:
    """Return the amounts (..., stains) that explain optical densities (..., 3) with the least squared error.

    With three stains this is Ruifrok's colour deconvolution. Amounts may be negative.
    """
    return np.asarray(np.asarray(density, np.float64) @ np.linalg.pinv(np.asarray(stains, np.float64)))


def sparse_amounts(density: ArrayLike, stains: ArrayLike, sparsity: float = 0.01, rounds: int = 60) -> Array:
    """Return the amounts c ≥ 0 with the least ½‖d − c S‖² + sparsity · Σc for each optical density d.

    They are too small even where the stains explain everything, by sparsity · (S Sᵀ)⁻¹ 1.

    Args:
        density: optical densities (..., 3).
        stains: stains (stains, 3) of unit length.
        sparsity: weight of the sum of amounts.
        rounds: passes of coordinate descent over the stains.
    """
    pixels, rows = np.asarray(density, np.float64), np.asarray(stains, np.float64)
    return _descended(pixels, rows, np.zeros((*pixels.shape[:-1], len(rows))), sparsity, rounds)


def macenko(
    density: ArrayLike, least: float = LEAST, percentile: float = 1.0, stained: Literal["any", "all"] = "any"
) -> Array:
    """Return haematoxylin and eosin (2, 3) of a picture: the extreme directions of its optical densities.

    Macenko et al., A method for normalizing histology slides for quantitative analysis, ISBI 2009.
    doi:10.1109/ISBI.2009.5193250.

    Args:
        density: optical densities (..., 3).
        least: density from which a channel counts as stained.
        percentile: percentile of the angle, and its distance from 100, at which extremes are taken.
        stained: whether pixels are used of which ``any`` channel is stained, or only those of which ``all`` are, as in
            the paper; eosin hardly absorbs red, so that it is missed there.

    Raises:
        ValueError: Fewer than three pixels are stained.
    """
    pixels = _stained(density, least, stained)
    plane = np.linalg.eigh(np.cov(pixels.T))[1][:, :0:-1]
    plane = plane * np.where(plane[0] < 0, -1, 1)
    across = pixels @ plane
    angles = np.arctan2(across[:, 1], across[:, 0])
    ends = np.percentile(angles, [percentile, 100 - percentile])
    found = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane.T
    return _ordered(np.abs(unit(found)))


def vahadane(density: ArrayLike, sparsity: float = 0.1, least: float = LEAST, rounds: int = 200) -> Array:
    """Return haematoxylin and eosin (2, 3) of a picture by sparse non-negative matrix factorisation.

    Stains S and amounts C ≥ 0 minimise ½‖D − C S‖² + sparsity · ΣC, by turns, from the stains of `macenko` on. Vahadane
    et al., Structure-Preserving Color Normalization and Sparse Stain Separation for Histological Images, IEEE TMI 35,
    2016. doi:10.1109/TMI.2016.2529665.

    Args:
        density: optical densities (..., 3).
        sparsity: weight of the sum of amounts.
        least: density from which a pixel counts as stained, by any channel.
        rounds: turns of amounts and stains.

    Raises:
        ValueError: Fewer than three pixels are stained.
    """
    pixels = _stained(density, least, "any")
    pixels = np.maximum(pixels[:: -(-len(pixels) // MOST_PIXELS)], 0)
    stains = macenko(pixels, least)
    found = sparse_amounts(pixels, stains, sparsity)
    for _ in range(rounds):
        found = _descended(pixels, stains, found, sparsity, 1)
        shared, shown = found.T @ found, found.T @ pixels
        for one in range(len(stains)):
            rest = shown[one] - shared[one] @ stains + shared[one, one] * stains[one]
            # A stain that no pixel has stays as it is.
            if np.any(rest > 0):
                stains[one] = unit(np.maximum(rest, 0))
    return _ordered(stains)


def strengths(found: ArrayLike, percentile: float = 99.0) -> Array:
    """Return the percentile of the amounts (..., stains) of each stain, by which pictures are compared."""
    parts = np.asarray(found, np.float64)
    return np.asarray(np.percentile(parts.reshape(-1, parts.shape[-1]), percentile, axis=0))


def restained(found: ArrayLike, own: ArrayLike, stains: ArrayLike, wanted: ArrayLike) -> Array:
    """Return the optical densities of a picture in the stains of another one.

    Args:
        found: amounts of the picture's own stains, (..., stains); negative ones count as none.
        own: their `strengths`; stains without any are not scaled.
        stains: stains of the other picture, (stains, 3).
        wanted: strengths of the other picture.
    """
    scales = np.asarray(wanted, np.float64) / np.where(np.asarray(own) > 1e-6, own, wanted)
    return np.asarray(np.maximum(found, 0) * scales @ np.asarray(stains, np.float64))


def to_opponent(shares: ArrayLike) -> Array:
    """Return lαβ of red, green and blue (..., 3) in (0, 1]; what is below 1/255 counts as that."""
    cones = np.maximum(np.asarray(shares, np.float64), 1 / 255) @ LMS.T
    return np.asarray(np.log10(cones) @ OPPONENT.T)


def from_opponent(opponent: ArrayLike) -> Array:
    """Return red, green and blue of lαβ (..., 3), with the exact inverse; the one that is printed errs by 0.007."""
    cones = 10 ** (np.asarray(opponent, np.float64) @ OPPONENT)
    return np.asarray(cones @ np.linalg.inv(LMS).T)


def moments(opponent: ArrayLike) -> tuple[Array, Array]:
    """Return mean and population SD of each channel of colours (..., 3)."""
    flat = np.asarray(opponent, np.float64).reshape(-1, 3)
    return flat.mean(axis=0), flat.std(axis=0)


def reinhard(shares: ArrayLike, mean: ArrayLike, deviation: ArrayLike) -> Array:
    """Return a picture whose lαβ has given moments; channels that are constant are only shifted.

    Reinhard, Ashikhmin, Gooch & Shirley, Color Transfer between Images, IEEE CG&A 21, 2001. doi:10.1109/38.946629.

    Args:
        shares: red, green and blue (..., 3) in (0, 1].
        mean: wanted mean of each channel of lαβ.
        deviation: wanted SD of each channel.
    """
    given = to_opponent(shares)
    own, spread = moments(given)
    scale = np.where(spread > 1e-9, np.asarray(deviation) / np.maximum(spread, 1e-9), 1.0)
    return from_opponent((given - own) * scale + np.asarray(mean))


def _stained(density: ArrayLike, least: float, stained: Literal["any", "all"]) -> Array:
    pixels = np.asarray(density, np.float64).reshape(-1, 3)
    chosen = (pixels > least).any(axis=1) if stained == "any" else (pixels >= least).all(axis=1)
    if chosen.sum() < 3:
        raise ValueError(f"only {chosen.sum()} pixels have an optical density above {least:g}: nothing is stained")
    return np.asarray(pixels[chosen])


def _ordered(stains: Array) -> Array:
    """Return two stains with haematoxylin, which absorbs more red, before eosin."""
    return stains if stains[0, 0] >= stains[1, 0] else stains[::-1]


def _descended(pixels: Array, stains: Array, found: Array, sparsity: float, rounds: int) -> Array:
    """Return amounts (..., stains) after passes of coordinate descent."""
    shown, likeness = pixels @ stains.T - sparsity, stains @ stains.T
    for _ in range(rounds):
        for one in range(len(stains)):
            others = found @ likeness[one] - found[..., one] * likeness[one, one]
            found[..., one] = np.maximum((shown[..., one] - others) / likeness[one, one], 0)
    return found
