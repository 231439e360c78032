"""Fibre bundles of endomicroscopes: irregular sampling of an image by fibres, and images interpolated from fibres.

Images are (N, C, H, W), signals (N, C, F) of F fibres. All maps between them are linear and differentiable.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.spatial import Delaunay, cKDTree
from torch import Tensor, nn

from ganatomy.errors import UserError

Points = NDArray[np.float64]
Shape = tuple[int, int]

OUTSIDE = -1
"""Cell number of pixels outside the field of view."""


class FibreBundle(BaseModel):
    """Fibre bundle on a jittered hexagonal lattice, with the light profile and the variations of its fibres."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pitch: float = Field(3.0, gt=1)  # pixels between neighbouring fibres (our choice)
    jitter: float = Field(0.15, ge=0, lt=0.5)  # SD of a fibre's displacement, relative to the pitch (our choice)
    core: float = Field(0.3, gt=0)  # SD of a fibre's Gaussian light profile, relative to the pitch (our choice)
    gain: float = Field(0.05, ge=0)  # SD of a fibre's relative sensitivity (our choice)
    offset: float = Field(0.01, ge=0)  # SD of a fibre's additive offset, relative to the image's range (our choice)
    circular: bool = True  # whether the field of view is the inscribed disc instead of the whole image

    def fibres(self, shape: Shape, seed: int) -> Fibres:
        """Place the fibres of one bundle over an image of this shape.

        Raises:
            UserError: There is no room for three fibres.
        """
        rng = np.random.default_rng([0, seed])
        positions = _hexagonal(shape, self.pitch, rng.uniform(0, self.pitch, 2))
        positions += rng.normal(0, self.jitter * self.pitch, positions.shape)
        positions = positions[_inside(positions, shape, self.circular)]
        if len(positions) < 3:
            raise UserError(
                f"pitch={self.pitch:g} leaves {len(positions)} fibres in {shape[0]}x{shape[1]} pixels: "
                "use a smaller pitch or larger images"
            )
        return Fibres(positions, shape, self.core * self.pitch, self.circular)

    def acquire(self, image: Tensor, fibres: Fibres, seed: int, first: int = 0, span: float = 1.0) -> Tensor:
        """Return fibre signals (N, C, F) with gain and offset variations, (1 + a) s + b.

        The variations a and b of an image are seeded by (seed, number of the image).

        Args:
            image: (N, C, H, W).
            fibres: fibres of this bundle.
            seed: seed of the variations.
            first: number of the first image given.
            span: range of the image's values, to which `offset` is relative.
        """
        signals = fibres.collect(image)
        shape = (2, 1, signals.shape[2])
        noise = [np.random.default_rng([1, seed, first + n]).standard_normal(shape) for n in range(len(signals))]
        gain, offset = torch.from_numpy(np.stack(noise, 1)).to(signals)
        noisy: Tensor = signals * (1 + self.gain * gain) + self.offset * span * offset
        return noisy


class Fibres(nn.Module):
    """Fibres of one bundle: sampling of images and interpolation from fibres; buffers are not part of the state.

    Args:
        positions: (F, 2), row and column of every fibre in pixels.
        shape: rows and columns of the image.
        core: SD in pixels of the Gaussian under which a fibre collects light.
        circular: whether the field of view is the inscribed disc.

    Attributes:
        cells: int64 (rows, columns), the number of the nearest fibre, or `OUTSIDE` the field of view.
    """

    cells: Tensor
    core_pixels: Tensor
    core_weights: Tensor
    corners: Tensor
    corner_weights: Tensor

    def __init__(self, positions: Points, shape: Shape, core: float, circular: bool = False) -> None:
        super().__init__()
        self.shape, self.count = shape, len(positions)
        pixels = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 2).astype(np.float64)
        seen = _inside(pixels, shape, circular)
        nearest = np.asarray(cKDTree(positions).query(pixels)[1])
        core_pixels, core_weights = _cores(positions, shape, core)
        corners, corner_weights = _triangles(positions, pixels, nearest)
        self._keep("cells", np.where(seen, nearest, OUTSIDE).reshape(shape))
        self._keep("core_pixels", core_pixels)
        self._keep("core_weights", core_weights.astype(np.float32))
        self._keep("corners", corners)
        self._keep("corner_weights", (corner_weights * seen[:, None]).astype(np.float32))

    def collect(self, image: Tensor) -> Tensor:
        """Return the Gaussian mean around each fibre, (N, C, H, W) to (N, C, F)."""
        return _gathered(image.flatten(2), self.core_pixels, self.core_weights)

    def average(self, image: Tensor) -> Tensor:
        """Return the mean over each fibre's Voronoi cell, (N, C, H, W) to (N, C, F); 0 for a cell without a pixel."""
        return cell_means(image, self.cells.expand(len(image), 1, *self.shape), self.count)[0]

    def voronoi(self, signals: Tensor) -> Tensor:
        """Interpolate by the nearest fibre, (N, C, F) to (N, C, H, W); 0 outside the field of view."""
        return torch.where(self.cells == OUTSIDE, 0, signals[..., self.cells.clamp_min(0)])

    def delaunay(self, signals: Tensor) -> Tensor:
        """Interpolate linearly on Delaunay triangles, by the nearest fibre outside, (N, C, F) to (N, C, H, W)."""
        return _gathered(signals, self.corners, self.corner_weights).view(*signals.shape[:2], *self.shape)

    def _keep(self, name: str, values: NDArray[np.generic]) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)


def cell_means(image: Tensor, cells: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the mean of every image over each of its Voronoi cells.

    Ravi et al., Med. Image Anal. 53, 2019, doi 10.1016/j.media.2019.01.011, compare images through these vectors.

    Args:
        image: (N, C, H, W).
        cells: (N, 1, H, W), number of the cell of every pixel, negative for none; any numeric type.
        count: number of cells.

    Returns:
        Means (N, C, count), 0 for a cell without pixels; and the number of pixels of each cell, (N, 1, count).
    """
    numbers = cells.flatten(2).long()
    inside = numbers >= 0
    numbers = numbers.clamp_min(0)
    values = image.flatten(2) * inside
    sums = values.new_zeros(*values.shape[:2], count).scatter_add(2, numbers.expand_as(values), values)
    pixels = values.new_zeros(len(values), 1, count).scatter_add(2, numbers, inside.to(values))
    return sums / pixels.clamp_min(1), pixels


def whole_cells(cells: Tensor, count: int) -> Tensor:
    """Return which cells lie completely inside a patch, bool (N, 1, count).

    Cells with pixels on the border of the patch count as cut, cells without pixels as absent.

    Args:
        cells: (N, 1, H, W), number of the cell of every pixel, negative for none.
        count: number of cells.
    """
    border = torch.ones_like(cells, dtype=torch.float32)
    border[..., 1:-1, 1:-1] = 0
    cut, pixels = cell_means(border, cells, count)
    return (cut == 0) & (pixels > 0)


def _gathered(values: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Return weighted sums of values at given places, (..., from) to (..., to); places and weights are (to, few)."""
    return (values[..., places] * weights.to(values)).sum(-1)


def _hexagonal(shape: Shape, pitch: float, start: Points) -> Points:
    """Return the points of a hexagonal lattice that covers the image."""
    height = pitch * np.sqrt(3) / 2
    rows = np.arange(int(shape[0] / height) + 3)
    columns = np.arange(int(shape[1] / pitch) + 3)
    y, x = np.meshgrid(rows * height, columns * pitch, indexing="ij")
    x = x + (rows % 2)[:, None] * pitch / 2
    return np.stack([y.ravel(), x.ravel()], 1) - pitch + start * (height / pitch, 1) - 0.5


def _inside(positions: Points, shape: Shape, circular: bool) -> NDArray[np.bool_]:
    """Return which positions lie in the image, or in its inscribed ellipse."""
    centred = (positions - (np.array(shape) - 1) / 2) / (np.array(shape) / 2)
    if circular:
        return np.asarray((centred**2).sum(1) <= 1)
    return np.asarray((np.abs(centred) <= 1).all(1))


def _cores(positions: Points, shape: Shape, core: float) -> tuple[NDArray[np.int64], Points]:
    """Return the pixels around each fibre and their normalised Gaussian weights, both (F, few)."""
    reach = int(np.ceil(3 * core))
    around = np.moveaxis(np.indices((2 * reach + 1,) * 2), 0, -1).reshape(-1, 2) - reach
    pixels = np.rint(positions).astype(np.int64)[:, None] + around
    weights = np.exp(-0.5 * ((pixels - positions[:, None]) ** 2).sum(-1) / core**2)
    limits = np.array(shape) - 1
    weights *= ((pixels >= 0) & (pixels <= limits)).all(-1)
    row, column = np.moveaxis(pixels.clip(0, limits), -1, 0)
    return row * shape[1] + column, weights / weights.sum(1, keepdims=True)


def _triangles(positions: Points, pixels: Points, nearest: NDArray[np.intp]) -> tuple[NDArray[np.int64], Points]:
    """Return the three fibres around each pixel and its barycentric coordinates; the nearest fibre beyond the hull."""
    mesh = Delaunay(positions)
    found = mesh.find_simplex(pixels)
    corners = mesh.simplices[found].astype(np.int64)
    transform = mesh.transform[found]
    first = np.einsum("nij,nj->ni", transform[:, :2], pixels - transform[:, 2])
    weights = np.concatenate([first, 1 - first.sum(1, keepdims=True)], 1)
    beyond = found < 0
    corners[beyond] = nearest[beyond, None]
    weights[beyond] = (1, 0, 0)
    return corners, weights
