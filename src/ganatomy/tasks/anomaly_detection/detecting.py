"""A detector at work on one case: slices of maps and healthy images computed once, when they are asked for."""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Sample, Volume, cut, slab
from ganatomy.errors import UserError
from ganatomy.game import Triple
from ganatomy.images.image import ComputedArray, LazyArray
from ganatomy.tasks.anomaly_detection.task import Detector

TOGETHER = 16
"""Slices of a case looked at together by a 2D detector."""
BATCH = 64
"""Images or patches that go through its networks together."""
MEMORY = 2**26
"""Bytes of an array that are kept in memory; of larger ones all are kept in a temporary file."""


class Kept(LazyArray):
    """Another lazy array whose slices are computed once and kept in a temporary file, which goes when the array does.

    Several outputs are written one after another from what a network finds but once, and a search in a latent space
    takes minutes a slice.

    Args:
        array: computed for as many slices at once as its thickness.
        together: slices that cannot be computed without each other, all of them or 1.
        memory: bytes up to which everything stays in memory.
    """

    def __init__(self, array: LazyArray, together: int = 1, memory: int = MEMORY):
        self.shape, self.dtype, self.thickness = array.shape, array.dtype, array.thickness
        self._array, self._together = array, together
        self._there = np.zeros(array.shape[1], bool)
        self._file = tempfile.SpooledTemporaryFile(memory)  # noqa: SIM115 - closed when nobody has the array any more
        weakref.finalize(self, self._file.close)

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Slices ``start`` to ``stop``, (channels, slices, rows, columns)."""
        self.fill(start, stop)
        channels, _, rows, columns = self.shape
        self._file.seek(start * self._bytes)
        held = np.frombuffer(bytearray(self._file.read((stop - start) * self._bytes)), self.dtype)
        return held.reshape(stop - start, channels, rows, columns).swapaxes(0, 1)

    def fill(self, start: int, stop: int) -> None:
        """Compute those of the slices ``start`` to ``stop`` that are not there yet.

        Raises:
            UserError: no space is left for them.
        """
        for first, last in self._missing(start, stop):
            values = np.ascontiguousarray(self._array.slab(first, last).swapaxes(0, 1))
            try:
                self._file.seek(first * self._bytes)
                self._file.write(values.tobytes())
            except OSError as error:
                raise UserError(
                    f"{tempfile.gettempdir()}: {error.strerror}; make space, or name another folder in TMPDIR"
                ) from None
            self._there[first:last] = True

    @property
    def _bytes(self) -> int:
        """Size of a slice in the file."""
        channels, _, rows, columns = self.shape
        return channels * rows * columns * self.dtype.itemsize

    def _missing(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Runs of slices that have to be computed, none longer than the thickness."""
        start -= start % self._together
        stop = min(stop + -stop % self._together, self.shape[1])
        lacking = np.flatnonzero(~self._there[start:stop]) + start
        for run in np.split(lacking, np.flatnonzero(np.diff(lacking) > 1) + 1):
            for at in range(0, len(run), self.thickness):
                part = run[at : at + self.thickness]
                yield int(part[0]), int(part[-1]) + 1


class Findings:
    """Map, healthy image and scores that a detector makes of one case, on the working grid, slab by slab.

    2D detectors look at slices, all patches of them together. 3D ones look at the whole volume, or where it is cut into
    patches, at one layer of patches after another. Maps are means over the patches that see a voxel, and the score is
    that of the most abnormal patch.

    Args:
        method: in its inference mode.
        sample: with the image that is looked at.
        device: of the method.
    """

    def __init__(self, method: Detector, sample: Sample, device: torch.device | str = "cpu"):
        self.method, self.task, self.device = method, method.task, device
        self.role = sample.role(self.task.seen(sample.arrays))
        self.array = sample.arrays[self.role.name]
        self.step = self.task.scale_of(sample).step
        _, *extents = self.array.shape
        self.extents: Triple = (extents[0], extents[1], extents[2])
        slices = extents[0]
        self.flat, self.whole = method.dims == 2, method.dims == 3 and not self.task.patches
        self._scores = np.full(slices, -np.inf, np.float32)
        self._layers: dict[int, NDArray[np.float32]] = {}
        thickness = slices if self.whole else TOGETHER
        computed = ComputedArray((2, *self.extents), np.float32, self._computed, thickness)
        self._kept = Kept(computed, slices if self.whole else 1)

    @property
    def map(self) -> LazyArray:
        """How abnormal every voxel is, at least 0, (1, slices, rows, columns) on the scale of the case."""
        return self._part(0)

    @property
    def healthy(self) -> LazyArray:
        """The image as it would be without the anomaly, (1, slices, rows, columns) in its unit."""
        return self._part(1)

    @property
    def score(self) -> LazyArray:
        """How abnormal every slice is, (1, slices, 1, 1); of 3D detectors, the score of the volume for each slice."""

        def scores(start: int, stop: int) -> NDArray[np.float32]:
            self._kept.fill(*((start, stop) if self.flat else (0, len(self._scores))))
            return self._scores[start:stop].reshape(1, -1, 1, 1)

        return ComputedArray((1, len(self._scores), 1, 1), np.float32, scores, self._kept.thickness)

    @property
    def scores(self) -> NDArray[np.float32]:
        """How abnormal every image is: of all slices, or of the volume, (1,)."""
        return image_scores(self.score, self.flat)

    def _part(self, number: int) -> LazyArray:
        def part(start: int, stop: int) -> NDArray[Any]:
            return self._kept.slab(start, stop)[number : number + 1]

        return ComputedArray((1, *self.extents), np.float32, part, self._kept.thickness)

    @torch.no_grad()
    def _computed(self, start: int, stop: int) -> NDArray[np.float32]:
        """Slices ``start`` to ``stop`` of map and healthy image, (2, slices, rows, columns)."""
        if self.flat or self.whole:
            found, scores = self._seen(start, stop, *self._patches((stop - start, *self.extents[1:])))
            self._scores[start:stop] = scores
        else:
            found = self._layered(start, stop)
        return np.concatenate([self.step * found[:1], self.role.decoded(found[1:])])

    def _patches(self, extents: Triple) -> tuple[list[Triple], Triple]:
        """First voxels of the patches that slices are seen in, and their size; the whole slices where it is all."""
        if not self.task.patches:
            return [(0, 0, 0)], extents
        size = (extents[0], *self.task.size) if self.flat else self.task.size
        first, rows, columns = (starts(*axis, self.task.overlap) for axis in zip(extents, size, strict=True))
        return list(product(first, rows, columns)), size

    def _seen(
        self, start: int, stop: int, corners: Sequence[Triple], size: Triple
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Map and healthy image of some slices in the range of the networks, (2, slices, rows, columns), and scores.

        Args:
            start: first slice.
            stop: one past the last.
            corners: first voxels of the patches, counted from the first slice.
            size: of the patches.
        """
        image = self.role.encoded(slab(self.array, start, stop))
        patches = [torch.from_numpy(np.array(cut(image, corner, size), np.float32)) for corner in corners]
        shown = torch.cat([patch.transpose(0, 1) for patch in patches]) if self.flat else torch.stack(patches)
        parts = torch.split(shown, BATCH if self.flat else 1)
        found = [self.method.detect(part.to(self.device)) for part in parts]
        maps, scores, healthy = (torch.cat(part).float().cpu() for part in zip(*found, strict=True))
        extents = (stop - start, *self.extents[1:])
        volumes = [assembled(_volumes(values, corners, size), corners, extents) for values in (maps, healthy)]
        return np.stack(volumes), scores.reshape(len(corners), -1).amax(0).numpy()

    def _layered(self, start: int, stop: int) -> NDArray[np.float32]:
        """Slices of a volume that is cut into patches: means over the layers of patches that see them."""
        corners, size = self._patches(self.extents)
        deep, slices = size[0], self.extents[0]
        self._layers = {first: layer for first, layer in self._layers.items() if first + deep > start}
        total, count = np.zeros((2, stop - start, *self.extents[1:]), np.float32), np.zeros(stop - start, np.float32)
        for first in sorted({corner[0] for corner in corners}):
            if first + deep <= start or first >= stop:
                continue
            low, high = max(first, 0), min(first + deep, slices)
            if first not in self._layers:
                own = [(first - low, *corner[1:]) for corner in corners if corner[0] == first]
                self._layers[first], scores = self._seen(low, high, own, size)
                self._scores[:] = max(float(scores.max()), float(self._scores[0]))
            inner, outer = (slice(max(low, start) - at, min(high, stop) - at) for at in (low, start))
            total[:, outer] += self._layers[first][:, inner]
            count[outer] += 1
        return total / count[:, None, None]


def image_scores(score: LazyArray, flat: bool) -> NDArray[np.float32]:
    """How abnormal every image of a case is, (n,): its slices, or where volumes are seen, the case itself.

    Args:
        score: (1, slices, 1, 1).
        flat: whether slices are seen.
    """
    scores = np.asarray(score, np.float32).reshape(-1)
    return scores if flat else scores[:1]


def starts(extent: int, length: int, overlap: float) -> list[int]:
    """Where patches begin along an axis: overlapping at least so much, the last one at the edge.

    An axis shorter than a patch is seen by one that reaches beyond both ends.
    """
    if extent <= length:
        return [(extent - length) // 2]
    count = 1 + math.ceil((extent - length) / max(1.0, length * (1 - overlap)))
    return [round(start) for start in np.linspace(0, extent - length, count)]


def _volumes(values: Tensor, corners: Sequence[Triple], size: Triple) -> NDArray[np.float32]:
    """Outputs of a network, patch by patch, (patches, slices, rows, columns)."""
    return np.asarray(values.numpy().reshape(len(corners), *size))


def assembled(patches: NDArray[np.float32], corners: Sequence[Triple], extents: Sequence[int]) -> Volume:
    """Patches in their places, means where they overlap.

    Args:
        patches: (patches, slices, rows, columns).
        corners: first voxel of each; patches may reach beyond the edge.
        extents: of the volume.
    """
    total, count = np.zeros(tuple(extents), np.float32), np.zeros(tuple(extents), np.float32)
    for patch, corner in zip(patches, corners, strict=True):
        spans = list(zip(corner, patch.shape, extents, strict=True))
        place = tuple(slice(max(first, 0), min(first + length, extent)) for first, length, extent in spans)
        inside = tuple(slice(at.start - first, at.stop - first) for at, first in zip(place, corner, strict=True))
        total[place] += patch[inside]
        count[place] += 1
    return total / count
