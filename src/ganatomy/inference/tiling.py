"""A network on an image larger than memory: slab by slab, tile by tile, without seams."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.data.batches import mirrored

Reader = Callable[[int, int], NDArray[np.float32]]
"""Slices start to stop of an encoded image, (channels, slices, rows, columns)."""
Network = Callable[[Tensor], Tensor]

TILE = (8, 96, 96)
"""Output of one pass of a 3D network, in voxels: about 200 MB of activations at 64 channels and a margin of 7."""


class Rolling:
    """Reads slabs that overlap their predecessors without reading any slice twice, as compressed files need."""

    def __init__(self, read: Reader):
        self.read = read
        self.first = 0
        self.held: NDArray[np.float32] | None = None

    def __call__(self, start: int, stop: int) -> NDArray[np.float32]:
        """Slices ``start`` to ``stop``."""
        if self.held is None or not self.first <= start < self.first + self.held.shape[1]:
            self.held = self.read(start, stop)
        else:
            kept = self.held[:, start - self.first :]
            missing = start + kept.shape[1]
            self.held = np.concatenate([kept, self.read(missing, stop)], axis=1) if missing < stop else kept
        self.first = start
        return self.held[:, : stop - start]


@dataclass(frozen=True)
class Tiler:
    """Runs a network over slabs of an image.

    Networks with a margin read that much around every tile, mirrored at the borders of the image, so tiles meet
    exactly. Networks without one see whole slices, since their receptive field is not stated.

    Args:
        network: (N, C, [D,] H, W) to the same without the margin.
        dims: 2 or 3.
        margin: voxels per side lost by the network, (slices, rows, columns).
        multiple: in-plane sizes must be multiples of this; missing pixels are mirrored.
        device: of the network.
        tile: output voxels (slices, rows, columns) of one pass of a network with a margin; 2D ones take whole slices.
    """

    network: Network
    dims: int
    margin: tuple[int, int, int] = (0, 0, 0)
    multiple: int = 1
    device: torch.device | str = "cpu"
    tile: tuple[int, int, int] = TILE

    @torch.no_grad()
    def __call__(self, read: Reader, shape: tuple[int, int, int], start: int, stop: int) -> NDArray[np.float32]:
        """Slices ``start`` to ``stop`` of the output, (channels, slices, rows, columns), in network range."""
        thickness = 1 if self.dims == 2 else self.tile[0]
        slabs = [
            self._slab(read, shape, first, min(first + thickness, stop)) for first in range(start, stop, thickness)
        ]
        return np.concatenate(slabs, axis=1)

    def _slab(self, read: Reader, shape: tuple[int, int, int], start: int, stop: int) -> NDArray[np.float32]:
        slices, rows, columns = shape
        deep, high, wide = self.margin
        wanted = mirrored(np.arange(start - deep, stop + deep), slices)
        first = int(wanted.min())
        slab = read(first, int(wanted.max()) + 1)[:, wanted - first]
        pad = ((0, 0), (0, 0), (high, high + -rows % self.multiple), (wide, wide + -columns % self.multiple))
        padded = torch.from_numpy(np.pad(slab, pad, mode="reflect") if np.any(pad) else np.ascontiguousarray(slab))
        if self.dims == 2 or not any(self.margin):
            return self._pass(padded)[:, :, :rows, :columns]
        output: NDArray[np.float32] | None = None
        _, height, width = self.tile
        for top in range(0, rows, height):
            for left in range(0, columns, width):
                bottom, right = min(top + height, rows), min(left + width, columns)
                part = self._pass(padded[:, :, top : bottom + 2 * high, left : right + 2 * wide])
                if output is None:
                    output = np.empty((len(part), stop - start, rows, columns), np.float32)
                output[:, :, top:bottom, left:right] = part
        assert output is not None
        return output

    def _pass(self, block: Tensor) -> NDArray[np.float32]:
        """One pass over (channels, slices, rows, columns); 2D networks see the slices as a batch."""
        block = block.to(self.device)
        batch = block.transpose(0, 1) if self.dims == 2 else block[None]
        result = self.network(batch).float().cpu()
        return (result.transpose(0, 1) if self.dims == 2 else result[0]).numpy()
