"""Geometric shapes and random fields that phantoms are drawn with, in millimetres.

A shape is a signed distance (negative inside), exact or close to it near the surface. The share of a pixel that the
shape covers follows from the distance at the pixel's centre, so that edges are anti-aliased.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, sin
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage

from ganatomy.errors import UserError

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Path = NDArray[np.float64]
Waves = NDArray[np.complex64]
Point = tuple[float, float, float]
Index = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Positions in mm: x to the patient's left, y to the back, z to the head, as open grids that broadcast.

    Attributes:
        x, y, z: shapes (1, 1, columns), (1, rows, 1) and (slices, 1, 1).
        pixel: edge of a pixel, over which in-plane edges are spread.
    """

    x: Array
    y: Array
    z: Array
    pixel: float

    @classmethod
    def centred(cls, shape: tuple[int, int, int], spacing: Point, z_centre: float = 0.0) -> Self:
        """Return a grid of (slices, rows, columns) around (0, 0, z_centre)."""
        z, y, x = (
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32) for n, step in zip(shape, spacing, strict=True)
        )
        return cls(x[None, None], y[None, :, None], z[:, None, None] + np.float32(z_centre), max(spacing[1:]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the grid, (slices, rows, columns)."""
        return self.z.size, self.y.size, self.x.size

    def window(self, low: ArrayLike, high: ArrayLike) -> Index:
        """Return the index of the part of the grid inside the box between two corners (x, y, z)."""
        spans = [
            slice(int(np.searchsorted(axis.ravel(), a)), int(np.searchsorted(axis.ravel(), b, "right")))
            for axis, a, b in zip((self.x, self.y, self.z), np.asarray(low), np.asarray(high), strict=True)
        ]
        return spans[2], spans[1], spans[0]

    def crop(self, index: Index) -> Grid:
        """Return the part of the grid at an index from `window`."""
        z, y, x = index
        return Grid(self.x[:, :, x], self.y[:, y], self.z[z], self.pixel)

    def coverage(self, distance: ArrayLike) -> Array:
        """Return the share of each pixel inside a shape, from its signed distance."""
        share = 0.5 - np.asarray(distance, np.float32) / np.float32(self.pixel)
        return np.asarray(share.clip(0, 1), np.float32)


@dataclass(frozen=True)
class Tubes:
    """Straight tapering tubes.

    Attributes:
        starts, ends: end points (x, y, z) in mm, shape (tubes, 3).
        radii: at start and end in mm, shape (tubes, 2).
    """

    starts: Path
    ends: Path
    radii: Path

    @classmethod
    def along(cls, path: Path, first_radius: float, last_radius: float) -> Self:
        """Return tubes along a path of points, shape (points, 3)."""
        radii = np.linspace(first_radius, last_radius, len(path))
        return cls(path[:-1], path[1:], np.stack([radii[:-1], radii[1:]], 1))

    def draw(self, grid: Grid) -> Array:
        """Return the share of each voxel that the tubes cover; tubes thinner than a pixel cover their area's share."""
        covered = np.zeros(grid.shape, np.float32)
        for start, end, (first, last) in self._near(grid):
            margin = max(first, last) + grid.pixel
            index = grid.window(np.minimum(start, end) - margin, np.maximum(start, end) + margin)
            part = grid.crop(index)
            if 0 in part.shape:
                continue
            np.maximum(covered[index], _tube(part, start, end, first, last), out=covered[index])
        return covered

    def _near(self, grid: Grid) -> Iterator[tuple[Path, ...]]:
        margin = self.radii.max(1, initial=0) + grid.pixel
        low = np.minimum(self.starts[:, 2], self.ends[:, 2]) - margin
        high = np.maximum(self.starts[:, 2], self.ends[:, 2]) + margin
        near = (low <= grid.z.max()) & (high >= grid.z.min())
        yield from zip(self.starts[near], self.ends[near], self.radii[near], strict=True)


def _tube(grid: Grid, start: Path, end: Path, first: float, last: float) -> Array:
    """Return the share of each voxel that one tapering tube covers."""
    dx, dy, dz = along = end - start
    x, y, z = grid.x - start[0], grid.y - start[1], grid.z - start[2]
    t = np.clip((x * dx + y * dy + z * dz) / max(along @ along, 1e-6), 0, 1)
    apart = np.sqrt((x - t * dx) ** 2 + (y - t * dy) ** 2 + (z - t * dz) ** 2)
    radius = first + (last - first) * t
    # An edge one pixel wide adds this much to the area of a disk; thin tubes are drawn wider, but fainter.
    blur = grid.pixel**2 / 12
    drawn = np.sqrt(np.maximum(radius**2 - blur, grid.pixel**2 / 4))
    return np.asarray(grid.coverage(apart - drawn) * radius**2 / (drawn**2 + blur), np.float32)


def grow_tree(root: Point, targets: Path, thinnest: float) -> Tubes:
    """Return a vascular tree that reaches every target; each target joins the nearest branch, near ones first.

    Radii obey Murray's law (the cube of a parent's radius is the sum of its children's cubes). The method is similar to
    constrained constructive optimisation (Schreiner and Buxbaum, IEEE Trans. Biomed. Eng. 40(5), 1993).
    """
    order = np.argsort(np.linalg.norm(targets - root, axis=1))
    nodes = np.concatenate([np.asarray([root]), targets[order]])
    parents = np.zeros(len(nodes), np.intp)
    for i in range(1, len(nodes)):
        gap = nodes[:i] - nodes[i]
        parents[i] = np.argmin(np.einsum("ij,ij->i", gap, gap))
    flow = np.ones(len(nodes))
    for i in range(len(nodes) - 1, 0, -1):
        flow[parents[i]] += flow[i]
    radii = thinnest * np.cbrt(flow)
    children = np.arange(1, len(nodes))
    return Tubes(
        nodes[parents[children]],
        nodes[children],
        np.stack([np.minimum(radii[parents[children]], 1.2 * radii[children]), radii[children]], 1),
    )


def turned(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """Return coordinates along axes that are rotated by an angle in radians."""
    c, s = cos(angle), sin(angle)
    return c * x + s * y, c * y - s * x


def ellipsoid(position: tuple[Array, ...], radii: tuple[float, ...]) -> Array:
    """Return the distance to an ellipse or ellipsoid around the origin, close to exact near its surface."""
    scaled = np.sqrt(sum((p / np.float32(r)) ** 2 for p, r in zip(position, radii, strict=True)))
    slope = np.sqrt(sum((p / np.float32(r**2)) ** 2 for p, r in zip(position, radii, strict=True)))
    return np.asarray(scaled * (scaled - 1) / np.maximum(slope, 1e-6), np.float32)


def superellipse(x: Array, y: Array, half_width: ArrayLike, half_depth: ArrayLike, power: float) -> Array:
    """Return the distance to the curve |x/a|ᵖ + |y/b|ᵖ = 1, to first order."""
    a, b = np.asarray(half_width, np.float32), np.asarray(half_depth, np.float32)
    u, v = np.abs(x) / a, np.abs(y) / b
    level = np.maximum(u**power + v**power, 1e-6) ** (1 / power)
    slope = np.sqrt((u ** (power - 1) / a) ** 2 + (v ** (power - 1) / b) ** 2) * level ** (1 - power)
    return np.asarray((level - 1) / np.maximum(slope, 1e-6), np.float32)


def capsule(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float]) -> Array:
    """Return the distance to the segment between two points of the plane; subtract a radius to make a capsule."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.asarray(np.hypot(x - start[0] - t * dx, y - start[1] - t * dy), np.float32)


def blend(a: Array, b: Array, reach: float) -> Array:
    """Return the union of two shapes with a joint that is rounded over `reach` mm."""
    h = np.maximum(reach - np.abs(a - b), 0) / np.float32(reach)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(reach / 4), np.float32)


def average(values: Array, parts: int) -> Array:
    """Average blocks of `parts` x `parts` pixels."""
    slices, rows, columns = values.shape
    return np.asarray(values.reshape(slices, rows // parts, parts, columns // parts, parts).mean((2, 4)), np.float32)


def texture(rng: np.random.Generator, shape: tuple[int, int, int], spacing: Point, grain: float) -> Array:
    """Return a smooth random field of mean 0 and SD 1, with blobs of about `grain` mm (Gaussian correlation)."""
    sigma = [grain / step for step in spacing]
    field = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), sigma, mode="wrap", truncate=2.5)
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def per_slice(rng: np.random.Generator, slices: int, low: float, high: float) -> Array:
    """Draw one number per slice, uniform between two limits; shape (slices, 1, 1), to broadcast over planes."""
    return rng.uniform(low, high, (slices, 1, 1)).astype(np.float32)


def ramp(values: Array, low: Array | float, high: Array | float) -> Array:
    """Return a smooth step from 0 at `low` to 1 at `high`; `low` may be the greater."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def fields(rng: np.random.Generator, shape: tuple[int, int, int], grain: float) -> Array:
    """Return smooth random planes, each of mean 0 and SD 1 and independent of the others.

    Their correlation is Gaussian, with blobs of about `grain` pixels, and they are periodic.
    """
    rows, columns = shape[1:]
    squared = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns) ** 2
    response = np.exp(-2 * (np.pi * grain) ** 2 * squared).astype(np.float32)
    response[0, 0] = 0
    planes = fft.irfft2(fft.rfft2(rng.standard_normal(shape, np.float32)) * response, (rows, columns))
    return np.asarray(planes / np.maximum(planes.std((1, 2), keepdims=True), 1e-6), np.float32)


def undulations(rng: np.random.Generator, slices: int, orders: int, strength: float, fall: float = 1.0) -> Waves:
    """Return random waves around an outline for `star`, shape (slices, orders).

    Args:
        rng: source of random numbers.
        slices: number of outlines.
        orders: number of waves; the first has two periods around the outline.
        strength: SD of the logarithm of the radius that the first wave contributes.
        fall: power of the order by which amplitudes fall; the smaller it is, the more jagged the outline.
    """
    order = np.arange(2, orders + 2)
    parts = rng.standard_normal((2, slices, orders)) * strength * (2 / order) ** fall
    return np.asarray(parts[0] + 1j * parts[1], np.complex64)


def star(x: Array, y: Array, radius: Array | float, waves: Waves) -> Array:
    """Return the distance to an outline around the origin whose radius undulates, close to exact near it.

    Args:
        x, y: positions, broadcasting to (slices, rows, columns).
        radius: mean radius, a number or (slices, 1, 1).
        waves: complex amplitudes of the logarithm of the radius, for 2, 3, ... periods, (slices, orders).
    """
    apart = np.maximum(np.hypot(x, y), 1e-3)
    turn = (x + 1j * y) / apart
    phase = turn
    logarithm, slope = np.zeros((2, len(waves), *apart.shape[1:]), np.float32)
    for order, wave in enumerate(waves.T[:, :, None, None], 2):
        phase = phase * turn
        swing = wave * phase
        logarithm += swing.real
        slope -= order * swing.imag
    return np.asarray((apart - radius * np.exp(logarithm)) / np.sqrt(1 + slope**2), np.float32)


def wander(rng: np.random.Generator, start: Path, heading: Path, length: ArrayLike, steps: int, bend: float) -> Path:
    """Return winding lines in the plane, as points (..., steps + 1, 2).

    Args:
        rng: source of random numbers.
        start: first points (x, y), shape (..., 2).
        heading: first directions in radians, shape (...).
        length: length of the lines, a number or shape (...).
        steps: number of straight pieces of each line.
        bend: SD in radians of the angle between them.
    """
    angles = heading[..., None] + np.cumsum(rng.normal(0, bend, (*heading.shape, steps)), -1)
    moves = np.stack([np.cos(angles), np.sin(angles)], -1) * (np.asarray(length)[..., None, None] / steps)
    return np.concatenate([start[..., None, :], start[..., None, :] + np.cumsum(moves, -2)], -2)


def strokes(x: Array, y: Array, pixel: float, lines: Path, first: Path, last: Path) -> Array:
    """Return the share of each pixel that tapering lines cover, with other lines in every slice.

    Args:
        x, y: positions, broadcasting to (slices, rows, columns).
        pixel: edge of a pixel.
        lines: points (x, y), shape (slices, lines, points, 2).
        first, last: radii at both ends, shape (slices, lines); 0 for a line that does not exist. Lines thinner than
            a pixel are drawn fainter instead.
    """
    covered = np.zeros((len(lines), y.shape[1], x.shape[2]), np.float32)
    radii = np.linspace(first, last, lines.shape[2], axis=-1)
    points = np.concatenate([lines, radii[..., None]], -1).astype(np.float32)
    pieces = np.stack([points[:, :, :-1], points[:, :, 1:]]).reshape(2, len(points), -1, 3, 1, 1)
    thinnest = np.float32(pixel / 2)
    for a, b in np.moveaxis(pieces, 2, 0):
        (x0, y0, start), (dx, dy, growth) = np.moveaxis(a, 1, 0), np.moveaxis(b - a, 1, 0)
        u, v = x - x0, y - y0
        t = np.clip((u * dx + v * dy) / np.maximum(dx * dx + dy * dy, 1e-6), 0, 1)
        radius = start + growth * t
        apart = np.hypot(u - t * dx, v - t * dy) - np.maximum(radius, thinnest)
        share = np.clip(0.5 - apart / np.float32(pixel), 0, 1) * np.minimum(radius / thinnest, 1)
        np.maximum(covered, share, out=covered)
    return covered


def label_of(seed: int, labels: tuple[str, ...], forced: str | None = None) -> str:
    """Return the class of a phantom: the one that the seed selects among the labels, or the given one.

    Raises:
        UserError: the label does not exist.
    """
    if forced is None:
        return labels[seed % len(labels)]
    if forced not in labels:
        raise UserError(f"there is no label {forced!r}: choose one of {', '.join(labels)}")
    return forced


@dataclass(frozen=True)
class PlaneWaves:
    """A smooth random function of the position, of mean 0 and SD about 1: a sum of plane waves.

    It does not depend on the grid, so that a patient drawn finer or in more slices stays unchanged.

    Attributes:
        vectors: wave vectors in radians per mm, shape (waves, 3) as (x, y, z).
        phases: shape (waves,).
    """

    vectors: Path
    phases: Path

    @classmethod
    def draw(cls, rng: np.random.Generator, wavelength: float | Point, waves: int = 16) -> Self:
        """Draw waves of random directions, with lengths within a quarter of `wavelength` mm (a number, or by axis)."""
        directions = rng.standard_normal((waves, 3))
        directions *= rng.uniform(0.8, 1.25, (waves, 1)) / np.linalg.norm(directions, axis=1, keepdims=True)
        return cls(directions * 2 * np.pi / np.asarray(wavelength), rng.uniform(0, 2 * np.pi, waves))

    def __call__(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> Array:
        """Return values at positions in mm; the arguments broadcast."""
        x, y, z = (np.asarray(axis, np.float32) for axis in (x, y, z))
        total = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.float32)
        for (a, b, c), phase in zip(self.vectors.astype(np.float32), self.phases.astype(np.float32), strict=True):
            total += np.cos(a * x + b * y + (c * z + phase))
        return total * np.float32(np.sqrt(2 / len(self.phases)))
