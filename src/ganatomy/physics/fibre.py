"""Fibre bundles: what an endomicroscope sees through a few ten thousand irregular fibres, and images made of that.

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
"""Number of the cell in which pixels beyond the field of view lie."""


class FibreBundle(BaseModel):
    """A bundle on a jittered hexagonal lattice: its pitch, what its fibres collect and how they differ."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pitch: float = Field(3.0, gt=1)  # pixels between neighbouring fibres (our choice)
    jitter: float = Field(0.15, ge=0, lt=0.5)  # SD of a fibre's displacement, relative to the pitch (our choice)
    core: float = Field(0.3, gt=0)  # SD of the Gaussian that a fibre sees, relative to the pitch (our choice)
    gain: float = Field(0.05, ge=0)  # SD of a fibre's relative sensitivity (our choice)
    offset: float = Field(0.01, ge=0)  # SD of a fibre's own light, relative to the image's range (our choice)
    circular: bool = True  # the field of view is the inscribed disc; else the whole image

    def fibres(self, shape: Shape, seed: int) -> Fibres:
        """The fibres of one bundle over an image of this shape.

        Raises:
            UserError: there is no room for three fibres.
        """
        rng = np.random.default_rng([0, seed])
        positions = _hexagonal(shape, self.pitch, rng.uniform(0, self.pitch, 2))
        positions += rng.normal(0, self.jitter * self.pitch, positions.shape)
        positions = positions[_inside(positions, shape, self.circular)]
        if len(positions) < 3:
            raise UserError(f"pitch={self.pitch:g} leaves {len(positions)} fibres in {shape[0]}x{shape[1]} pixels")
        return Fibres(positions, shape, self.core * self.pitch, self.circular)

    def acquire(self, image: Tensor, fibres: Fibres, seed: int, first: int = 0, span: float = 1.0) -> Tensor:
        """Signals (N, C, F) with the fibres' differences: (1 + a) s + b, a and b of each image by (seed, its number).

        Args:
            image: (N, C, H, W).
            fibres: of this bundle.
            seed: of the noise.
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
    """The fibres of one bundle, and the images that they give. No parameters; buffers are not part of the state.

    Args:
        positions: (F, 2), row and column of every fibre in pixels.
        shape: rows and columns of the image.
        core: SD in pixels of the Gaussian under which a fibre collects light.
        circular: whether only the inscribed disc is seen.

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
        """What each fibre collects: the mean under its Gaussian, (N, C, H, W) to (N, C, F)."""
        return _gathered(image.flatten(2), self.core_pixels, self.core_weights)

    def average(self, image: Tensor) -> Tensor:
        """The mean over each fibre's Voronoi cell, (N, C, H, W) to (N, C, F); 0 for a cell without a pixel."""
        return cell_means(image, self.cells.expand(len(image), 1, *self.shape), self.count)[0]

    def voronoi(self, signals: Tensor) -> Tensor:
        """Every pixel like its nearest fibre, (N, C, F) to (N, C, H, W); 0 outside the field of view."""
        return torch.where(self.cells == OUTSIDE, 0, signals[..., self.cells.clamp_min(0)])

    def delaunay(self, signals: Tensor) -> Tensor:
        """Linear between fibres on their Delaunay triangles, like the nearest one beyond, (N, C, F) to (N, C, H, W)."""
        return _gathered(signals, self.corners, self.corner_weights).view(*signals.shape[:2], *self.shape)

    def _keep(self, name: str, values: NDArray[np.generic]) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)


def cell_means(image: Tensor, cells: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Vectorise images by their Voronoi cells, each by its own.

    Ravi et al., Med. Image Anal. 53, 2019, doi 10.1016/j.media.2019.01.011, compare images through these vectors.

    Args:
        image: (N, C, H, W).
        cells: (N, 1, H, W), number of the cell every pixel lies in, negative for none; any type of number.
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
    """Which cells of a patch the patch does not cut, as far as it shows, bool (N, 1, count).

    Cells with pixels on the border count as cut; those without pixels are not there.

    Args:
        cells: (N, 1, H, W), number of the cell every pixel lies in, negative for none.
        count: number of cells.
    """
    border = torch.ones_like(cells, dtype=torch.float32)
    border[..., 1:-1, 1:-1] = 0
    cut, pixels = cell_means(border, cells, count)
    return (cut == 0) & (pixels > 0)


def _gathered(values: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Sums of few weighted values each: (..., from) to (..., to), by places and weights of shape (to, few)."""
    return (values[..., places] * weights.to(values)).sum(-1)


def _hexagonal(shape: Shape, pitch: float, start: Points) -> Points:
    """A hexagonal lattice that covers the image."""
    height = pitch * np.sqrt(3) / 2
    rows = np.arange(int(shape[0] / height) + 3)
    columns = np.arange(int(shape[1] / pitch) + 3)
    y, x = np.meshgrid(rows * height, columns * pitch, indexing="ij")
    x = x + (rows % 2)[:, None] * pitch / 2
    return np.stack([y.ravel(), x.ravel()], 1) - pitch + start * (height / pitch, 1) - 0.5


def _inside(positions: Points, shape: Shape, circular: bool) -> NDArray[np.bool_]:
    """Which positions lie on the image, or in its inscribed ellipse."""
    centred = (positions - (np.array(shape) - 1) / 2) / (np.array(shape) / 2)
    if circular:
        return np.asarray((centred**2).sum(1) <= 1)
    return np.asarray((np.abs(centred) <= 1).all(1))


def _cores(positions: Points, shape: Shape, core: float) -> tuple[NDArray[np.int64], Points]:
    """Pixels around each fibre, and their normalised Gaussian weights; both (F, few)."""
    reach = int(np.ceil(3 * core))
    around = np.moveaxis(np.indices((2 * reach + 1,) * 2), 0, -1).reshape(-1, 2) - reach
    pixels = np.rint(positions).astype(np.int64)[:, None] + around
    weights = np.exp(-0.5 * ((pixels - positions[:, None]) ** 2).sum(-1) / core**2)
    limits = np.array(shape) - 1
    weights *= ((pixels >= 0) & (pixels <= limits)).all(-1)
    row, column = np.moveaxis(pixels.clip(0, limits), -1, 0)
    return row * shape[1] + column, weights / weights.sum(1, keepdims=True)


def _triangles(positions: Points, pixels: Points, nearest: NDArray[np.intp]) -> tuple[NDArray[np.int64], Points]:
    """The three fibres around each pixel, and its barycentric coordinates; the nearest fibre beyond the hull."""
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
