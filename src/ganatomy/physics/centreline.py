"""Centre-lines of vessels in mm, and their conversion to 1D signals for networks, tube meshes and voxel masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Encoding = Literal["displacement", "absolute"]

# Fields of a triangle in a binary STL file, which are stored without gaps.
STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


@dataclass(frozen=True, eq=False)
class Centreline:
    """Polyline along the middle of a vessel, with the radius of its lumen, from the ostium to the distal end.

    Attributes:
        points: (n, 3) mm, n at least 1.
        radii: (n,) mm, not negative.

    Raises:
        ValueError: The shapes do not fit, a value is not finite, or a radius is negative.
    """

    points: Array
    radii: Array

    def __post_init__(self) -> None:
        points, radii = np.asarray(self.points, np.float64), np.asarray(self.radii, np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or radii.shape != points.shape[:1] or not len(points):
            raise ValueError(f"a centre-line is (n, 3) points and (n,) radii, not {points.shape} and {radii.shape}")
        if not (np.isfinite(points).all() and np.isfinite(radii).all() and radii.min() >= 0):
            raise ValueError("a centre-line has finite points and finite radii that are not negative")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "radii", radii)

    @property
    def length_mm(self) -> float:
        """Arc length of the polyline."""
        return float(np.linalg.norm(np.diff(self.points, axis=0), axis=1).sum())

    def without_repeats(self) -> Centreline:
        """Return the line without points that coincide exactly with the one before."""
        kept = np.append(True, np.any(np.diff(self.points, axis=0) != 0, axis=1))
        return Centreline(self.points[kept], self.radii[kept])

    def resampled(self, step_mm: float = 0.5) -> Centreline:
        """Resample the polyline to points at equal arc length, by linear interpolation.

        The number of steps is rounded: a last step of which less than half exists is left out, any other is extended in
        a straight line with the last radius, so that the length is off by half a step at most. Chords are shorter than
        the step where the line bends within it.

        Args:
            step_mm: arc length between points.

        Raises:
            ValueError: The line is shorter than half a step.
        """
        line = self.without_repeats()
        segments = np.diff(line.points, axis=0)
        lengths = np.linalg.norm(segments, axis=1)
        arc = np.append(0.0, np.cumsum(lengths))
        steps = int(np.floor(arc[-1] / step_mm + 0.5))
        if not steps:
            raise ValueError(f"a centre-line of {arc[-1]:.3g} mm is shorter than half a step of {step_mm:g} mm")
        # One step beyond the end, for a last step that is not complete.
        beyond = line.points[-1] + segments[-1] / lengths[-1] * step_mm
        points, radii = np.vstack([line.points, beyond]), np.append(line.radii, line.radii[-1])
        arc = np.append(arc, arc[-1] + step_mm)
        at = np.arange(steps + 1) * step_mm
        return Centreline(np.stack([np.interp(at, arc, axis) for axis in points.T], axis=1), np.interp(at, arc, radii))


class EncodedCentreline(NamedTuple):
    """Signal (4, samples) of a centre-line, and whether the vessel was cut because it is longer than the signal."""

    signal: Array
    cut: bool


@dataclass(frozen=True)
class CentrelineCodec:
    """Codec between centre-lines and signals of fixed length with the channels (x, y, z, radius).

    Sample i of a signal belongs to the point i + 1 steps from the ostium, which is the origin. ``displacement`` holds
    the vector from the point before in units of a step, thus unit vectors on straight parts, and zeros after the end.
    ``absolute`` holds the position in units of ``extent_mm``, which stays at the last point after the end so that
    displacements are zero there, too; the radius is zero after the end in both.

    After Wolterink et al., Blood Vessel Geometry Synthesis using Generative Adversarial Networks, MIDL 2018,
    arXiv 1804.04381, which states that the signals follow the central axis; all numbers are our choice.

    Args:
        samples: length of a signal.
        step_mm: arc length between samples.
        radius_mm: radius that is encoded as 1.
        encoding: encoding of the three spatial channels.
        extent_mm: distance that the absolute encoding represents as 1.
        shortest_step: length in steps; the vessel ends at the first of two successive displacements that are shorter.
        thinnest_mm: the vessel ends where its radius is smaller.
    """

    samples: int = 512
    step_mm: float = 0.5
    radius_mm: float = 5.0
    encoding: Encoding = "displacement"
    extent_mm: float = 100.0
    shortest_step: float = 0.5
    thinnest_mm: float = 0.1

    @property
    def longest_mm(self) -> float:
        """Length of a vessel that fills the signal."""
        return self.samples * self.step_mm

    def encode(self, line: Centreline) -> EncodedCentreline:
        """Encode a centre-line as a signal: resample it, move it to the origin and cut it to the signal's length.

        Raises:
            ValueError: The line is shorter than half a step.
        """
        whole = line.resampled(self.step_mm)
        steps = min(len(whole.points) - 1, self.samples)
        points = whole.points[: steps + 1] - whole.points[0]
        signal = np.zeros((4, self.samples))
        if self.encoding == "absolute":
            signal[:3, :steps] = points[1:].T / self.extent_mm
            signal[:3, steps:] = points[-1:].T / self.extent_mm
        else:
            signal[:3, :steps] = np.diff(points, axis=0).T / self.step_mm
        signal[3, :steps] = whole.radii[1 : steps + 1] / self.radius_mm
        return EncodedCentreline(signal, len(whole.points) - 1 > self.samples)

    def decode(self, signal: ArrayLike, *, renorm: bool = True) -> Centreline:
        """Decode a real or generated signal to a centre-line with the ostium at the origin.

        The ostium gets the radius of the first sample. A signal that ends at its first sample gives one point.

        Args:
            signal: signal (4, samples).
            renorm: whether every displacement is rescaled to one step, so that the length is the number of samples
                before the end times the step.

        Raises:
            ValueError: The shape is wrong or a value is not finite.
        """
        values = self._checked(signal, 2)
        end = int(self.counts(values))
        moves = self._displacements(values)[:, :end].T
        if renorm:
            moves = _directions(moves)
        radii = np.maximum(values[3, : max(end, 1)], 0) * self.radius_mm
        points = np.vstack([np.zeros(3), np.cumsum(moves, axis=0) * self.step_mm])
        return Centreline(points, np.append(radii[:1], radii[:end]))

    def counts(self, signals: ArrayLike) -> NDArray[np.intp]:
        """Return the number of samples before the vessel's end, (...), for signals (..., 4, samples).

        The vessel ends at the first of two successive displacements shorter than ``shortest_step``, or where the
        radius is below ``thinnest_mm``. The displacement after the last sample counts as short.
        """
        values = self._checked(signals)
        short = np.linalg.norm(self._displacements(values), axis=-2) < self.shortest_step
        after = np.concatenate([short[..., 1:], np.ones_like(short[..., :1])], axis=-1)
        ended = (short & after) | (values[..., 3, :] * self.radius_mm < self.thinnest_mm)
        return np.where(ended.any(axis=-1), ended.argmax(axis=-1), self.samples)

    def lengths_mm(self, signals: ArrayLike, *, renorm: bool = True) -> Array:
        """Return the arc length in mm, (...), that `decode` would give signals (..., 4, samples)."""
        values = self._checked(signals)
        counts = self.counts(values)
        if renorm:
            return np.asarray(counts * self.step_mm, np.float64)
        norms = np.linalg.norm(self._displacements(values), axis=-2)
        inside = np.arange(self.samples) < counts[..., None]
        return np.asarray((norms * inside).sum(axis=-1) * self.step_mm, np.float64)

    def _displacements(self, values: Array) -> Array:
        """Return displacements (..., 3, samples) in units of a step."""
        spatial = values[..., :3, :]
        if self.encoding == "absolute":
            return np.diff(spatial, axis=-1, prepend=0.0) * (self.extent_mm / self.step_mm)
        return spatial

    def _checked(self, signals: ArrayLike, dims: int | None = None) -> Array:
        values = np.asarray(signals, np.float64)
        if values.shape[-2:] != (4, self.samples) or values.ndim != (dims or values.ndim):
            raise ValueError(f"a signal of a centre-line is (4, {self.samples}), not {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError("a signal holds values that are not finite")
        return values


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangle mesh.

    Attributes:
        vertices: (n, 3) mm.
        faces: (m, 3) indices of vertices, counter-clockwise as seen from outside.
    """

    vertices: Array
    faces: NDArray[np.int64]

    def stl(self) -> bytes:
        """Return the mesh as a binary STL file in single precision; its header states mm and RAS+."""
        corners = self.vertices[self.faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        sizes = np.linalg.norm(normals, axis=1, keepdims=True)
        triangles = np.zeros(len(self.faces), STL_TRIANGLE)
        triangles["normal"] = np.divide(normals, sizes, out=np.zeros_like(normals), where=sizes > 0)
        triangles["corners"] = corners
        # The header must not begin with "solid", because readers would take the file for a text STL.
        header = b"ganatomy; UNIT=mm; SPACE=RAS".ljust(80)
        return header + len(triangles).to_bytes(4, "little") + bytes(triangles.tobytes())

    def vtk(self) -> bytes:
        """Return the mesh as a binary legacy VTK file of polydata; its title states mm and RAS+."""
        cells = np.column_stack([np.full(len(self.faces), 3), self.faces]).astype(">i4")
        parts = (
            b"# vtk DataFile Version 3.0\nganatomy; UNIT=mm; SPACE=RAS\nBINARY\nDATASET POLYDATA\n",
            f"POINTS {len(self.vertices)} double\n".encode(),
            self.vertices.astype(">f8").tobytes(),
            f"\nPOLYGONS {len(cells)} {cells.size}\n".encode(),
            cells.tobytes(),
            b"\n",
        )
        return b"".join(parts)


def tube_mesh(line: Centreline, sides: int = 16) -> Mesh:
    """Build the closed surface of a vessel: a polygon swept along the centre-line without twist, with flat end caps.

    Each ring of vertices is perpendicular to the mean direction of the segments at its point; from ring to ring its
    frame is transported in parallel. The polygon has its corners on the circle, so 16 sides enclose 97.45 % of the
    area. The mesh is independent of rotations of the coordinate axes, except for straight lines.

    Args:
        line: centre-line with at least two different points.
        sides: vertices of a ring.

    Returns:
        Mesh with sides · n + 2 vertices for n points, ring by ring, then the centres of the first and of the last ring,
        and with 2 · sides · n faces.

    Raises:
        ValueError: There are fewer than two different points, or fewer than three sides.
    """
    line = line.without_repeats()
    rings = len(line.points)
    if rings < 2 or sides < 3:
        raise ValueError(f"a tube needs two different points and three sides, not {rings} and {sides}")
    tangents = _tangents(line.points)
    first = _transported_normals(line.points, tangents)
    second = np.cross(tangents, first)
    angle = 2 * np.pi * np.arange(sides) / sides
    spokes = np.cos(angle)[:, None] * first[:, None] + np.sin(angle)[:, None] * second[:, None]
    around = line.points[:, None] + line.radii[:, None, None] * spokes
    vertices = np.vstack([around.reshape(-1, 3), line.points[0], line.points[-1]])

    side, following = np.arange(sides), (np.arange(sides) + 1) % sides
    start = sides * np.arange(rings - 1)[:, None]
    low, low_next, high, high_next = start + side, start + following, start + sides + side, start + sides + following
    last, middle = sides * (rings - 1), sides * rings
    parts = (
        (low, low_next, high_next),
        (low, high_next, high),
        (np.full(sides, middle), following, side),
        (np.full(sides, middle + 1), last + side, last + following),
    )
    faces = np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in parts])
    return Mesh(vertices, faces.astype(np.int64))


def tube_mask(line: Centreline, affine: ArrayLike, shape: Sequence[int]) -> NDArray[np.bool_]:
    """Return the mask of voxels whose centre p lies in a sphere around one of the line's points, ‖p - c‖ ≤ r.

    Between spheres of radius r at a distance d the tube narrows to √(r² - d²/4): resample coarse lines first.

    Args:
        line: centre-line in mm.
        affine: (4, 4), maps indices in the order of the array's axes to the line's coordinates in mm.
        shape: three extents of the mask.

    Returns:
        Mask of the given shape, true inside; parts of the vessel outside the grid are cut off.
    """
    matrix = np.asarray(affine, np.float64)
    inverse = np.linalg.inv(matrix)
    # Half extent in voxels of a sphere of 1 mm along each axis of the array.
    reach = np.linalg.norm(inverse[:3, :3], axis=1)
    centres = line.points @ inverse[:3, :3].T + inverse[:3, 3]
    extents = np.asarray(shape, np.intp)
    lows = np.floor(centres - line.radii[:, None] * reach).clip(0, extents).astype(np.intp)
    highs = np.ceil(centres + line.radii[:, None] * reach + 1).clip(0, extents).astype(np.intp)
    mask = np.zeros(tuple(shape), np.bool_)
    for centre, radius, low, high in zip(centres, line.radii, lows, highs, strict=True):
        if (low >= high).any():
            continue
        box = tuple(slice(*span) for span in zip(low, high, strict=True))
        away = [indices - middle for indices, middle in zip(np.ogrid[box], centre, strict=True)]
        squared = sum(sum(row[axis] * away[axis] for axis in range(3)) ** 2 for row in matrix[:3, :3])
        # The tolerance includes voxels that lie on the sphere up to rounding.
        mask[box] |= squared <= radius**2 * (1 + 1e-9)
    return mask


def _directions(moves: Array) -> Array:
    """Return unit vectors of displacements (n, 3); one of length zero takes the direction of a neighbour."""
    norms = np.linalg.norm(moves, axis=1)
    # The end-of-vessel rule excludes two of them in a row.
    still = np.flatnonzero(norms == 0)
    moves = moves.copy()
    moves[still] = moves[np.where(still > 0, still - 1, still + 1)]
    return np.asarray(moves / np.linalg.norm(moves, axis=1, keepdims=True))


def _tangents(points: Array) -> Array:
    """Return unit tangents (n, 3): the mean direction of the segments that meet at a point."""
    segments = np.diff(points, axis=0)
    segments /= np.linalg.norm(segments, axis=1, keepdims=True)
    tangents = np.vstack([segments[:1], segments[:-1] + segments[1:], segments[-1:]])
    norms = np.linalg.norm(tangents, axis=1, keepdims=True)
    # Where the line turns back on itself the mean is zero, so the direction of the arriving segment is used.
    return np.where(norms > 1e-9, tangents / np.maximum(norms, 1e-9), np.vstack([segments[:1], segments]))


def _transported_normals(points: Array, tangents: Array) -> Array:
    """Return unit normals (n, 3) by parallel transport, so that they rotate no more than the tangents."""
    normals = np.empty_like(tangents)
    normals[0] = _first_normal(points, tangents[0])
    for i in range(1, len(tangents)):
        before, after, normal = tangents[i - 1], tangents[i], normals[i - 1]
        cosine = float(before @ after)
        if cosine > -1 + 1e-9:
            normal = normal - (normal @ after) / (1 + cosine) * (before + after)
        # Orthogonalised again, because rounding errors would add up over hundreds of points.
        normal = normal - (normal @ after) * after
        normals[i] = normal / np.linalg.norm(normal)
    return normals


def _first_normal(points: Array, tangent: Array) -> Array:
    """Return a unit normal of the first tangent, towards the point farthest from its line; any for a straight line."""
    along = points - points[0]
    across = along - np.outer(along @ tangent, tangent)
    distances = np.linalg.norm(across, axis=1)
    normal = across[distances.argmax()]
    if distances.max() <= 1e-9 * np.abs(along).max():
        axis = np.eye(3)[np.abs(tangent).argmin()]
        normal = axis - (axis @ tangent) * tangent
    return np.asarray(normal / np.linalg.norm(normal))
