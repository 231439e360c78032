"""The shapes that phantoms are drawn with, in millimetres.

A shape is a signed distance (negative inside), exact or close to it near the surface. The share of a pixel
that the shape covers then follows from the distance at the pixel's centre: edges are free of stairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Path = NDArray[np.float64]
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
        """A grid of (slices, rows, columns) around (0, 0, z_centre)."""
        z, y, x = (
            ((np.arange(n) - (n - 1) / 2) * step).astype(np.float32) for n, step in zip(shape, spacing, strict=True)
        )
        return cls(x[None, None], y[None, :, None], z[:, None, None] + np.float32(z_centre), max(spacing[1:]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return self.z.size, self.y.size, self.x.size

    def window(self, low: ArrayLike, high: ArrayLike) -> Index:
        """Index of the part of the grid inside the box between two corners (x, y, z)."""
        spans = [
            slice(int(np.searchsorted(axis.ravel(), a)), int(np.searchsorted(axis.ravel(), b, "right")))
            for axis, a, b in zip((self.x, self.y, self.z), np.asarray(low), np.asarray(high), strict=True)
        ]
        return spans[2], spans[1], spans[0]

    def crop(self, index: Index) -> Grid:
        """The part of the grid at an index from `window`."""
        z, y, x = index
        return Grid(self.x[:, :, x], self.y[:, y], self.z[z], self.pixel)

    def coverage(self, distance: ArrayLike) -> Array:
        """Share of each pixel inside a shape, from its signed distance."""
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
        """Tubes along a path of points, shape (points, 3)."""
        radii = np.linspace(first_radius, last_radius, len(path))
        return cls(path[:-1], path[1:], np.stack([radii[:-1], radii[1:]], 1))

    def draw(self, grid: Grid) -> Array:
        """Share of each voxel that the tubes cover; those thinner than a pixel cover what their area does."""
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
    """Share of each voxel that one tapering tube covers."""
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
    """A vascular tree that reaches every target: each joins the nearest branch, near ones first.

    Radii obey Murray's law (the cube of a parent's radius is the sum of its children's cubes). In the manner
    of constrained constructive optimisation (Schreiner and Buxbaum, IEEE Trans. Biomed. Eng. 40(5), 1993).
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


def ellipsoid(position: tuple[Array, ...], radii: tuple[float, ...]) -> Array:
    """Distance to an ellipse or ellipsoid around the origin, close to exact near its surface."""
    scaled = np.sqrt(sum((p / np.float32(r)) ** 2 for p, r in zip(position, radii, strict=True)))
    slope = np.sqrt(sum((p / np.float32(r**2)) ** 2 for p, r in zip(position, radii, strict=True)))
    return np.asarray(scaled * (scaled - 1) / np.maximum(slope, 1e-6), np.float32)


def superellipse(x: Array, y: Array, half_width: ArrayLike, half_depth: ArrayLike, power: float) -> Array:
    """Distance to the curve |x/a|ᵖ + |y/b|ᵖ = 1, to first order."""
    a, b = np.asarray(half_width, np.float32), np.asarray(half_depth, np.float32)
    u, v = np.abs(x) / a, np.abs(y) / b
    level = np.maximum(u**power + v**power, 1e-6) ** (1 / power)
    slope = np.sqrt((u ** (power - 1) / a) ** 2 + (v ** (power - 1) / b) ** 2) * level ** (1 - power)
    return np.asarray((level - 1) / np.maximum(slope, 1e-6), np.float32)


def capsule(x: Array, y: Array, start: tuple[float, float], end: tuple[float, float]) -> Array:
    """Distance to the segment between two points of the plane; subtract a radius to give it a body."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.asarray(np.hypot(x - start[0] - t * dx, y - start[1] - t * dy), np.float32)


def blend(a: Array, b: Array, reach: float) -> Array:
    """Union of two shapes whose joint is rounded over `reach` mm."""
    h = np.maximum(reach - np.abs(a - b), 0) / np.float32(reach)
    return np.asarray(np.minimum(a, b) - h * h * np.float32(reach / 4), np.float32)


def texture(rng: np.random.Generator, shape: tuple[int, int, int], spacing: Point, grain: float) -> Array:
    """A smooth random field of mean 0 and SD 1, with blobs of about `grain` mm (Gaussian correlation)."""
    sigma = [grain / step for step in spacing]
    field = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), sigma, mode="wrap", truncate=2.5)
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)
