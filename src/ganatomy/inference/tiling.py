"""A network on an image larger than memory: slab by slab, tile by tile, without seams."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import mirrored
from ganatomy.game import Tiling
from ganatomy.images.image import Image, LazyArray

Reader = Callable[[int, int], NDArray[np.float32]]
"""Slices start to stop of an encoded image, (channels, slices, rows, columns)."""
Network = Callable[[Tensor], Tensor]

TILES = {1: (1, 1, 4096), 2: (1, 128, 512), 3: (16, 64, 64)}
"""Output of one pass of a 2D or 3D network with a margin, in voxels.

Small enough for the allocator to keep its blocks, since fresh pages cost as much as the convolutions; large enough for
the margin (8 and 7 voxels a side) not to be computed much more than once. About 200 MB of activations at 64 channels.
"""


BATCHED: dict[int, Callable[[Tensor], Tensor]] = {
    1: lambda block: block.permute(1, 2, 0, 3).flatten(0, 1),
    2: lambda block: block.transpose(0, 1),
    3: lambda block: block[None],
}
"""(channels, slices, rows, columns) as a batch of what networks with so many axes see."""
UNBATCHED: dict[int, Callable[[Tensor, Sequence[int]], Tensor]] = {
    1: lambda result, extents: result.unflatten(0, tuple(extents[:2])).permute(2, 0, 1, 3),
    2: lambda result, extents: result.transpose(0, 1),
    3: lambda result, extents: result[0],
}
"""The inverse, given (slices, rows, columns) of the block."""


class Rolling(LazyArray):
    """Another array whose slabs may overlap their predecessors without any slice being read twice.

    Compressed files need that, and whoever asks for slices already passed on to a network. Slices are forgotten when
    later ones are read from a request that begins behind them.
    """

    def __init__(self, image: Image):
        self.shape, self.dtype = image.array.shape, image.dtype
        self.thickness = image.array.thickness if isinstance(image.array, LazyArray) else 1
        self.read = image.slab
        self.first = 0
        self.held: NDArray[Any] | None = None

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Slices ``start`` to ``stop``, (channels, slices, rows, columns)."""
        end = self.first + self.held.shape[1] if self.held is not None else 0
        if self.held is None or not self.first <= start <= end:
            self.held, self.first = self.read(start, stop), start
        elif stop > end:
            kept = self.held[:, start - self.first :]
            self.held, self.first = np.concatenate([kept, self.read(end, stop)], axis=1), start
        return self.held[:, start - self.first : stop - self.first]


def rolling(image: Image) -> Image:
    """The image, read through a :class:`Rolling` buffer where it is not in memory."""
    lazy = isinstance(image.array, LazyArray) and not isinstance(image.array, Rolling)
    return image.with_array(Rolling(image)) if lazy else image


@dataclass(frozen=True)
class Tiler:
    """Runs a network over slabs of an image.

    Networks with a margin read that much around every tile, mirrored at the borders of the image, so tiles meet
    exactly. 2D networks without one, or with sizes to keep, see whole slices, since their receptive field is not
    stated; for the same reason 3D networks without one see the whole volume.

    Shapes, slices and tiles count input voxels, but the slices that are asked for, which are those of the output.

    Args:
        network: (N, C, [[D,] H,] W) to the same without the margin, times the scale.
        dims: spatial axes of what the network sees.
        tiling: margin, multiple, scale and tile of the network.
        device: of the network.
    """

    network: Network
    dims: int
    tiling: Tiling
    device: torch.device | str = "cpu"

    @property
    def margin(self) -> tuple[int, int, int]:
        """Voxels per side lost by the network."""
        return self.tiling.margin

    @property
    def scale(self) -> tuple[int, int, int]:
        """Output voxels for each input voxel."""
        return self.tiling.scale

    @property
    def multiple(self) -> int:
        """In-plane sizes must be multiples of this; missing pixels are mirrored."""
        return self.tiling.multiple

    @property
    def tile(self) -> tuple[int, int, int]:
        """Output of one pass of a network with a margin, in input voxels."""
        return self.tiling.tile or TILES[self.dims]

    def thickness(self, slices: int) -> int:
        """How many output slices of an image with so many input slices are best asked for at once."""
        return (slices if self.whole else self.tile[0]) * self.scale[0]

    @property
    def whole(self) -> bool:
        """Whether the network has to see all slices at once."""
        return self.dims == 3 and not any(self.margin)

    @torch.no_grad()
    def __call__(self, read: Reader, shape: tuple[int, int, int], start: int, stop: int) -> NDArray[np.float32]:
        """Slices ``start`` to ``stop`` of the output, (channels, slices, rows, columns), in network range."""
        deep, step = self.scale[0], self.tile[0]
        if self.whole:
            return self._slab(read, shape, 0, shape[0])[:, start:stop]
        first, last = start // deep, -(-stop // deep)
        slabs = [self._slab(read, shape, at, min(at + step, last)) for at in range(first, last, step)]
        return np.concatenate(slabs, axis=1)[:, start - first * deep : stop - first * deep]

    def _slab(self, read: Reader, shape: tuple[int, int, int], start: int, stop: int) -> NDArray[np.float32]:
        slices, rows, columns = shape
        deep, high, wide = self.margin
        thicker, taller, wider = self.scale
        wanted = mirrored(np.arange(start - deep, stop + deep), slices)
        first = int(wanted.min())
        slab = read(first, int(wanted.max()) + 1)[:, wanted - first]
        extra = (-(rows + 2 * high) % self.multiple, -(columns + 2 * wide) % self.multiple)
        pad = ((0, 0), (0, 0), (high, high + extra[0]), (wide, wide + extra[1]))
        padded = torch.from_numpy(np.pad(slab, pad, mode="reflect") if np.any(pad) else np.ascontiguousarray(slab))
        if self.multiple > 1 or not any(self.margin):
            return self._pass(padded)[:, :, : rows * taller, : columns * wider]
        output: NDArray[np.float32] | None = None
        _, height, width = self.tile
        for top in range(0, rows, height):
            for left in range(0, columns, width):
                bottom, right = min(top + height, rows), min(left + width, columns)
                part = self._pass(padded[:, :, top : bottom + 2 * high, left : right + 2 * wide])
                if output is None:
                    output = np.empty((len(part), (stop - start) * thicker, rows * taller, columns * wider), np.float32)
                output[:, :, top * taller : bottom * taller, left * wider : right * wider] = part
        assert output is not None
        return output

    def _pass(self, block: Tensor) -> NDArray[np.float32]:
        """One pass over (channels, slices, rows, columns); 2D networks see the slices as a batch."""
        block = block.to(self.device)
        batched = BATCHED[self.dims]
        result = self.network(batched(block)).float().cpu()
        return UNBATCHED[self.dims](result, block.shape[1:]).numpy()


def finer(affine: NDArray[np.float64], scale: tuple[int, int, int]) -> NDArray[np.float64]:
    """Index-to-world matrix of a grid with as many times the voxels (slices, rows, columns) in the same place."""
    to_coarse = np.eye(4)
    for axis, times in enumerate(scale):
        to_coarse[axis, axis] = 1 / times
        to_coarse[axis, 3] = (1 / times - 1) / 2
    return np.asarray(affine @ to_coarse)
