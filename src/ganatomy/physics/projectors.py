"""Line integrals through images, and their exact adjoint: Joseph's method on torch, or ASTRA where it is installed.

Lengths are in pixels. Images have shape (rows, columns), sinograms (views, elements), both float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import grid_sample

from ganatomy.errors import UserError

Array = NDArray[np.float32]
ProjectorName = Literal["joseph", "astra"]

BLOCK = 512
"""Rays that are sampled at once, few enough for the processor's cache."""


@dataclass(frozen=True, eq=False)
class Views:
    """Positions of source and flat detector, as (x to the right, y upwards) in pixels from the centre of the image.

    Attributes:
        sources: position of the source, or the common direction of the rays where they are parallel, (views, 2).
        middles: position of the middle of the detector, (views, 2).
        steps: way from one detector element to the next, (views, 2).
        elements: number of detector elements.
        parallel: whether the rays of a view are parallel.
    """

    sources: NDArray[np.float64]
    middles: NDArray[np.float64]
    steps: NDArray[np.float64]
    elements: int
    parallel: bool


class Projector(Protocol):
    """A linear map from images to line integrals, in pixels times the unit of the image."""

    def project(self, image: Array) -> Array:
        """Return the sinogram of an image."""

    def backproject(self, sinogram: Array) -> Array:
        """Return the image to which the adjoint of `project` maps a sinogram."""


@dataclass(frozen=True, eq=False)
class _Block:
    """Rays that are steeper towards one axis of the image, and where they meet the lines of pixels along that axis."""

    axis: int
    rays: torch.Tensor  # numbers of the rays in the flattened sinogram
    places: torch.Tensor  # as `grid_sample` wants them, (1, lines, rays, 2)
    lengths: torch.Tensor  # of each ray between two lines


class Joseph:
    """Joseph's method: a ray is sampled once per row or column, interpolated linearly between the two nearest pixels.

    A ray steps along the axis of the image that it follows most closely. Peter M. Joseph, An improved algorithm for
    reprojecting rays through pixel images, IEEE Trans. Med. Imaging 1(3):192-196, 1982.
    """

    def __init__(self, shape: tuple[int, int], views: Views) -> None:
        self.shape, self.views = shape, views

    def project(self, image: Array) -> Array:
        """Return the sinogram of an image."""
        sinogram = torch.zeros(len(self.views.middles) * self.views.elements)
        planes = self._planes(torch.tensor(image))
        for block in self._blocks():
            samples = grid_sample(planes[block.axis], block.places, align_corners=False)
            sinogram[block.rays] = samples[0, 0].sum(0) * block.lengths
        return sinogram.reshape(-1, self.views.elements).numpy()

    def backproject(self, sinogram: Array) -> Array:
        """Return the image to which the adjoint of `project` maps a sinogram."""
        values = torch.tensor(sinogram).reshape(-1)
        planes = self._planes(torch.zeros(self.shape))
        for block in self._blocks():
            spread = (values[block.rays] * block.lengths).expand(1, 1, block.places.shape[1], -1)
            # Called directly, since automatic differentiation would sample the image first.
            gradient, _ = torch.ops.aten.grid_sampler_2d_backward(
                spread, planes[block.axis], block.places, 0, 0, False, [True, False]
            )
            planes[block.axis].add_(gradient)
        return (planes[0][0, 0] + planes[1][0, 0].T).numpy()

    @staticmethod
    def _planes(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an image whose rows, and one whose columns, are the lines that rays step along, (1, 1, lines, …)."""
        return image[None, None].clone(), image.T[None, None].clone(memory_format=torch.contiguous_format)

    def _blocks(self) -> Iterator[_Block]:
        points, directions = self._rays()
        steep = np.abs(directions[:, 0]) >= np.abs(directions[:, 1])
        for axis, chosen in enumerate((steep, ~steep)):
            rays = np.flatnonzero(chosen)
            point, direction = points[rays], directions[rays]
            lines, width = self.shape[axis], self.shape[1 - axis]
            slope = direction[:, 1 - axis] / direction[:, axis]
            middle = point[:, 1 - axis] - slope * point[:, axis]
            # `grid_sample` counts from the middle of a plane, whose edges are at -1 and 1.
            number = torch.arange(lines)[:, None] - (lines - 1) / 2
            line, along = number * 2 / lines, number.float()
            start, rise, length = (
                torch.from_numpy(values.astype(np.float32))
                for values in (middle * 2 / width, slope * 2 / width, np.hypot(1, slope))
            )
            for first in range(0, len(rays), BLOCK):
                part = slice(first, first + BLOCK)
                places = torch.empty(1, lines, len(rays[part]), 2)
                torch.addcmul(start[part], along, rise[part], out=places[0, :, :, 0])
                places[0, :, :, 1] = line
                yield _Block(axis, torch.from_numpy(rays[part]), places, length[part])

    def _rays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return a point of each ray and its direction, as (down, right), (rays, 2)."""
        views = self.views
        offsets = np.arange(views.elements) - (views.elements - 1) / 2
        points = views.middles[:, None] + offsets[:, None] * views.steps[:, None]
        sources = np.broadcast_to(views.sources[:, None], points.shape)
        directions = sources if views.parallel else points - sources
        down_right = np.array([[0, 1], [-1, 0]])
        return points.reshape(-1, 2) @ down_right, directions.reshape(-1, 2) @ down_right


class Astra:
    """The projectors of the ASTRA toolbox for the processor, an optional dependency under the GPL.

    Parallel rays are sampled by Joseph's method; for others, the lengths within the pixels are summed.

    Raises:
        UserError: ASTRA is not installed.
    """

    def __init__(self, shape: tuple[int, int], views: Views) -> None:
        try:
            import astra
        except ImportError:
            raise UserError(
                "the projector astra is not installed: run pip install 'ganatomy[astra]', or take the projector joseph"
            ) from None
        self.astra: Any = astra
        vectors = np.hstack([views.sources, views.middles, views.steps])
        self.kind, geometry = ("linear", "parallel_vec") if views.parallel else ("line_fanflat", "fanflat_vec")
        self.geometry = astra.create_proj_geom(geometry, views.elements, vectors)
        self.volume = astra.create_vol_geom(*shape)

    def project(self, image: Array) -> Array:
        """Return the sinogram of an image."""
        return self._apply("FP", image)

    def backproject(self, sinogram: Array) -> Array:
        """Return the image to which the adjoint of `project` maps a sinogram."""
        return self._apply("BP", sinogram)

    def _apply(self, operation: str, values: Array) -> Array:
        projector = self.astra.create_projector(self.kind, self.geometry, self.volume)
        try:
            return np.asarray(getattr(self.astra.OpTomo(projector), operation)(values), np.float32)
        finally:
            self.astra.projector.delete(projector)


def projector(name: ProjectorName, shape: tuple[int, int], views: Views) -> Projector:
    """Return a projector by its name; raises `UserError` where it is not installed."""
    return Astra(shape, views) if name == "astra" else Joseph(shape, views)
