"""Application of networks to images larger than memory, in slabs and tiles without seams."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import mirrored
from ganatomy.game import Tiling, Triple
from ganatomy.images.image import Image, LazyArray

Reader = Callable[[int, int], NDArray[np.float32]]
"""Function that returns slices start to stop of an encoded image, (channels, slices, rows, columns)."""
WIDTH = 1 / 8
"""Standard deviation of the Gaussian weights of a tile, as a share of its length."""

TILES = {1: (1, 1, 4096), 2: (1, 128, 512), 3: (16, 64, 64)}
"""Tile size of networks with a margin, by their number of axes: output of one pass, in voxels.

Tiles are small enough for the allocator to reuse its blocks, since new pages cost as much as the convolutions, and
large enough for the margin (8 and 7 voxels a side) not to be computed much more than once. They need about 200 MB of
activations at 64 channels.
"""


BATCHED: dict[int, Callable[[Tensor], Tensor]] = {
    1: lambda block: block.permute(1, 2, 0, 3).flatten(0, 1),
    2: lambda block: block.transpose(0, 1),
    3: lambda block: block[None],
}
"""Functions that convert (channels, slices, rows, columns) to a batch, by the number of axes that networks see."""
UNBATCHED: dict[int, Callable[[Tensor, Sequence[int]], Tensor]] = {
    1: lambda result, extents: result.reshape(*extents[:2], *result.shape[1:]).permute(2, 0, 1, 3),
    2: lambda result, extents: result.transpose(0, 1),
    3: lambda result, extents: result[0],
}
"""Inverse functions of `BATCHED`, which also need the slices, rows and columns of the block."""


class Rolling(LazyArray):
    """A buffer of an image, with which slabs may overlap the previous one without reading slices twice.

    This matters for compressed files and for slices that a network computes. Slices are dropped from the buffer once a
    later slab begins behind them.

    Args:
        image: image to read through the buffer.
    """

    def __init__(self, image: Image):
        self.shape, self.dtype = image.array.shape, image.dtype
        self.thickness = image.array.thickness if isinstance(image.array, LazyArray) else 1
        self.read = image.slab
        self.first = 0
        self.held: NDArray[Any] | None = None

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices ``start`` to ``stop``, (channels, slices, rows, columns)."""
        end = self.first + self.held.shape[1] if self.held is not None else 0
        if self.held is None or not self.first <= start <= end:
            self.held, self.first = self.read(start, stop), start
        elif stop > end:
            kept = self.held[:, start - self.first :]
            self.held, self.first = np.concatenate([kept, self.read(end, stop)], axis=1), start
        return self.held[:, start - self.first : stop - self.first]


def rolling(image: Image) -> Image:
    """Return an image that is read through a `Rolling` buffer, unless it is in memory."""
    lazy = isinstance(image.array, LazyArray) and not isinstance(image.array, Rolling)
    return image.with_array(Rolling(image)) if lazy else image


Outputs = Tensor | Mapping[str, Tensor]
"""One output of a network, or several of the same spatial size by name."""


@dataclass
class Tiler:
    """Runs a network over slabs of an image that may be larger than memory.

    Tiles of networks with a margin are read with the margin around them, mirrored at the borders of the image, so that
    adjacent tiles fit exactly. Tiles of a stated size without a margin are adjacent, or overlap and are blended.
    Networks with neither get whole slices, or with three axes the whole volume, since their receptive field is unknown.

    Shapes, slices and tiles are counted in input voxels, but the requested slices are those of the output.

    Args:
        network: maps (N, C, [[D,] H,] W) to an output without the margin, enlarged by the scale; or to several named
            outputs, which are concatenated as channels, see `widths`.
        dims: number of axes that the network sees.
        tiling: margin, multiple, scale, tile, overlap and blending of the network.
        device: device of the network.
    """

    network: Callable[[Tensor], Outputs]
    dims: int
    tiling: Tiling = field(default_factory=Tiling)
    device: torch.device | str = "cpu"
    widths: dict[str, int] = field(default_factory=dict, init=False)
    """Number of channels of every named output, known after the first pass."""
    bands: dict[int, NDArray[np.float32]] = field(default_factory=dict, init=False, repr=False)
    """First slice to a blended band of tiles, cached as long as further slices overlap it."""
    reading: Reader | None = field(default=None, init=False, repr=False)
    """Reader to which the cached bands belong."""

    @property
    def scale(self) -> Triple:
        """Number of output voxels per input voxel along every axis."""
        return self.tiling.scale

    @property
    def tile(self) -> Triple:
        """Size of the output of one pass in input voxels, for networks with a margin or a stated tile."""
        return self.tiling.tile or TILES[self.dims]

    def thickness(self, slices: int) -> int:
        """Return the number of output slices that are best requested at once.

        Args:
            slices: number of input slices of the image.
        """
        return (slices if self.whole else min(self.tile[0], slices)) * self.scale[0]

    @property
    def whole(self) -> bool:
        """Whether the network needs all slices at once."""
        return self.dims == 3 and not any(self.tiling.margin) and self.tiling.tile is None

    @torch.no_grad()
    def __call__(self, read: Reader, shape: Triple, start: int, stop: int) -> NDArray[np.float32]:
        """Compute slices ``start`` to ``stop`` of the output, (channels, slices, rows, columns), in network range."""
        deep, step = self.scale[0], self.tile[0]
        if self.whole:
            return self._slab(read, shape, 0, shape[0])[:, start:stop]
        first, last = start // deep, -(-stop // deep)
        if self.tiling.overlap:
            slab = self._blended(read, shape, first, last)
        else:
            slabs = [self._slab(read, shape, at, min(at + step, last)) for at in range(first, last, step)]
            slab = slabs[0] if len(slabs) == 1 else np.concatenate(slabs, axis=1)
        return slab[:, start - first * deep : stop - first * deep]

    def named(self, read: Reader, shape: Triple, start: int, stop: int) -> dict[str, NDArray[np.float32]]:
        """Compute slices ``start`` to ``stop`` of several named outputs."""
        slab = self(read, shape, start, stop)
        ends = np.cumsum(list(self.widths.values()))[:-1]
        return dict(zip(self.widths, np.split(slab, ends), strict=True))

    def _slab(self, read: Reader, shape: Triple, start: int, stop: int) -> NDArray[np.float32]:
        """Compute slices ``start`` to ``stop`` from adjacent tiles."""
        _, rows, columns = shape
        _, high, wide = self.tiling.margin
        padded = self._padded(read, shape, start, stop)
        if self.tiling.tile is None and (self.tiling.multiple > 1 or not any(self.tiling.margin)):
            return self._pass(padded)[:, :, : rows * self.scale[1], : columns * self.scale[2]]
        output: NDArray[np.float32] | None = None
        _, height, width = self.tile
        for top in range(0, rows, height):
            for left in range(0, columns, width):
                bottom, right = min(top + height, rows), min(left + width, columns)
                part = self._pass(self._whole_multiples(padded[:, :, top : bottom + 2 * high, left : right + 2 * wide]))
                if output is None:
                    output = self._empty(len(part), stop - start, rows, columns)
                place = self._scaled((top, bottom), (left, right))
                output[:, :, *place] = part[:, :, : place[0].stop - place[0].start, : place[1].stop - place[1].start]
        assert output is not None
        return output

    def _blended(self, read: Reader, shape: Triple, start: int, stop: int) -> NDArray[np.float32]:
        """Compute slices from overlapping tiles as weighted means; tiles are computed once if slabs are in order."""
        if self.reading is not read:
            self.bands, self.reading = {}, read
        slices, rows, columns = shape
        depth = min(self.tile[0], slices)
        total: NDArray[np.float32] | None = None
        weights = np.zeros((stop - start) * self.scale[0], np.float32)
        along = self._weights(depth * self.scale[0])
        starts = _starts(slices, depth, self.tiling.overlap if self.dims == 3 else 0.0)
        self.bands = {first: band for first, band in self.bands.items() if first + depth > start}
        for first in starts:
            if first + depth <= start or first >= stop:
                continue
            if first not in self.bands:
                self.bands[first] = self._band(read, shape, first, first + depth)
            band = self.bands[first]
            if total is None:
                total = self._empty(len(band), stop - start, rows, columns)
                total[:] = 0
            low, high = max(first, start) * self.scale[0], min(first + depth, stop) * self.scale[0]
            inner = slice(low - first * self.scale[0], high - first * self.scale[0])
            outer = slice(low - start * self.scale[0], high - start * self.scale[0])
            total[:, outer] += along[inner, None, None] * band[:, inner]
            weights[outer] += along[inner]
        assert total is not None
        return total / weights[:, None, None]

    def _band(self, read: Reader, shape: Triple, start: int, stop: int) -> NDArray[np.float32]:
        """Compute all tiles of slices ``start`` to ``stop``, blended in the plane."""
        _, rows, columns = shape
        _, high, wide = self.tiling.margin
        height, width = min(self.tile[1], rows), min(self.tile[2], columns)
        padded = self._padded(read, shape, start, stop)
        plane = np.outer(self._weights(height * self.scale[1]), self._weights(width * self.scale[2]))
        total: NDArray[np.float32] | None = None
        weights = np.zeros((rows * self.scale[1], columns * self.scale[2]), np.float32)
        for top in _starts(rows, height, self.tiling.overlap):
            for left in _starts(columns, width, self.tiling.overlap):
                block = padded[:, :, top : top + height + 2 * high, left : left + width + 2 * wide]
                part = self._pass(self._whole_multiples(block))[:, :, : plane.shape[0], : plane.shape[1]]
                if total is None:
                    total = self._empty(len(part), stop - start, rows, columns)
                    total[:] = 0
                place = self._scaled((top, top + height), (left, left + width))
                total[:, :, *place] += plane * part
                weights[place] += plane
        assert total is not None
        return total / weights

    def _padded(self, read: Reader, shape: Triple, start: int, stop: int) -> Tensor:
        """Read slices ``start`` to ``stop`` with the margin around them, mirrored at the borders of the image.

        Beyond the first and the last slice, these may be repeated instead.
        """
        slices, rows, columns = shape
        deep, high, wide = self.tiling.margin
        wanted = np.arange(start - deep, stop + deep)
        wanted = wanted.clip(0, slices - 1) if self.tiling.ends == "repeated" else mirrored(wanted, slices)
        first = int(wanted.min())
        slab = read(first, int(wanted.max()) + 1)[:, wanted - first]
        extra = (0, 0) if self.tiling.tile else self._extra(rows + 2 * high, columns + 2 * wide)
        pad = ((0, 0), (0, 0), (high, high + extra[0]), (wide, wide + extra[1]))
        return torch.from_numpy(np.pad(slab, pad, mode="reflect") if np.any(pad) else np.ascontiguousarray(slab))

    def _extra(self, rows: int, columns: int) -> tuple[int, int]:
        return -rows % self.tiling.multiple, -columns % self.tiling.multiple

    def _whole_multiples(self, block: Tensor) -> Tensor:
        """Pad a block by mirroring to sizes that the network accepts."""
        extra = self._extra(*block.shape[2:])
        if not any(extra):
            return block
        pad = ((0, 0), (0, 0), (0, extra[0]), (0, extra[1]))
        return torch.from_numpy(np.pad(block.numpy(), pad, mode="reflect"))

    def _scaled(self, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[slice, slice]:
        _, high, wide = self.scale
        return slice(rows[0] * high, rows[1] * high), slice(columns[0] * wide, columns[1] * wide)

    def _empty(self, channels: int, slices: int, rows: int, columns: int) -> NDArray[np.float32]:
        deep, high, wide = self.scale
        return np.empty((channels, slices * deep, rows * high, columns * wide), np.float32)

    def _weights(self, length: int) -> NDArray[np.float32]:
        """Return the weights of the voxels along a tile, for overlapping tiles."""
        if self.tiling.blend == "mean" or length == 1:
            return np.ones(length, np.float32)
        if self.tiling.blend == "hann":
            return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(length) + 0.5) / length), np.float32)
        places = np.arange(length) - (length - 1) / 2
        return np.asarray(np.exp(-0.5 * (places / (WIDTH * length)) ** 2), np.float32)

    def _pass(self, block: Tensor) -> NDArray[np.float32]:
        """Apply the network to (channels, slices, rows, columns); axes that it does not see become the batch."""
        made = self.network(BATCHED[self.dims](block.to(self.device)))
        if isinstance(made, Mapping):
            self.widths = {name: part.shape[1] for name, part in made.items()}
            made = torch.cat(list(made.values()), dim=1)
        return UNBATCHED[self.dims](made.float().cpu(), block.shape[1:]).numpy()


def _starts(extent: int, length: int, overlap: float) -> list[int]:
    """Return the starts of tiles along an axis, which overlap by at least a given share; the last is at the edge."""
    if extent <= length:
        return [0]
    count = 1 + math.ceil((extent - length) / max(1.0, length * (1 - overlap)))
    return [round(start) for start in np.linspace(0, extent - length, count)]


def finer(affine: NDArray[np.float64], scale: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the index-to-world matrix of a grid with ``scale`` times the voxels along slices, rows and columns."""
    to_coarse = np.eye(4)
    for axis, times in enumerate(scale):
        to_coarse[axis, axis] = 1 / times
        to_coarse[axis, 3] = (1 / times - 1) / 2
    return np.asarray(affine @ to_coarse)
