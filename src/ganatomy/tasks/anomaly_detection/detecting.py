"""Application of a detector to one case: maps and healthy images are computed once, when they are read."""

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
"""Number of slices of a case that a 2D detector processes together."""
BATCH = 64
"""Number of images or patches in a batch of a 2D detector."""
MEMORY = 2**26
"""Bytes of results up to which an array is held in memory; larger ones are in a temporary file."""


class CachedSlices(LazyArray):
    """A cache of a lazy array: slices are computed once and kept in a temporary file, deleted with the array.

    Several outputs are written one after another from the same results, and a search in a latent space takes minutes
    per slice.

    Args:
        array: array to cache; its thickness is the number of slices computed at once.
        together: number of slices that must be computed together, all of them or 1.
        memory: bytes up to which everything stays in memory.
    """

    def __init__(self, array: LazyArray, together: int = 1, memory: int = MEMORY):
        self.shape, self.dtype, self.thickness = array.shape, array.dtype, array.thickness
        self._array, self._together = array, together
        self._there = np.zeros(array.shape[1], bool)
        self._file = tempfile.SpooledTemporaryFile(memory)  # noqa: SIM115 - closed together with the array
        weakref.finalize(self, self._file.close)

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices ``start`` to ``stop``, (channels, slices, rows, columns)."""
        self.fill(start, stop)
        channels, _, rows, columns = self.shape
        self._file.seek(start * self._bytes)
        held = np.frombuffer(bytearray(self._file.read((stop - start) * self._bytes)), self.dtype)
        return held.reshape(stop - start, channels, rows, columns).swapaxes(0, 1)

    def fill(self, start: int, stop: int) -> None:
        """Compute those of the slices ``start`` to ``stop`` that have not been computed yet.

        Raises:
            UserError: the temporary file cannot be written.
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
        """Number of bytes of a slice in the file."""
        channels, _, rows, columns = self.shape
        return channels * rows * columns * self.dtype.itemsize

    def _missing(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of slices that have not been computed yet, none longer than the thickness."""
        start -= start % self._together
        stop = min(stop + -stop % self._together, self.shape[1])
        lacking = np.flatnonzero(~self._there[start:stop]) + start
        for run in np.split(lacking, np.flatnonzero(np.diff(lacking) > 1) + 1):
            for at in range(0, len(run), self.thickness):
                part = run[at : at + self.thickness]
                yield int(part[0]), int(part[-1]) + 1


class Findings:
    """Map, healthy image and scores of one case on the working grid, computed slab by slab.

    A 2D detector processes slices, all patches of a slice together. A 3D detector processes the whole volume, or where
    it is cut into patches, one layer of patches after another. Maps are averaged where patches overlap, and a score is
    that of the most abnormal patch.

    Args:
        method: detector in its inference mode.
        sample: prepared case.
        device: device of the method.
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
        self._kept = CachedSlices(computed, slices if self.whole else 1)

    @property
    def map(self) -> LazyArray:
        """Anomaly map, nonnegative, (1, slices, rows, columns) on the scale of the case."""
        return self._part(0)

    @property
    def healthy(self) -> LazyArray:
        """Healthy image, the input without its anomaly, (1, slices, rows, columns) in the unit of the input."""
        return self._part(1)

    @property
    def score(self) -> LazyArray:
        """Anomaly score of every slice, (1, slices, 1, 1); with a 3D detector, that of the volume for each slice."""

        def scores(start: int, stop: int) -> NDArray[np.float32]:
            self._kept.fill(*((start, stop) if self.flat else (0, len(self._scores))))
            return self._scores[start:stop].reshape(1, -1, 1, 1)

        return ComputedArray((1, len(self._scores), 1, 1), np.float32, scores, self._kept.thickness)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Anomaly scores, (slices,), or (1,) with a 3D detector."""
        return image_scores(self.score, self.flat)

    def _part(self, number: int) -> LazyArray:
        def part(start: int, stop: int) -> NDArray[Any]:
            return self._kept.slab(start, stop)[number : number + 1]

        return ComputedArray((1, *self.extents), np.float32, part, self._kept.thickness)

    @torch.no_grad()
    def _computed(self, start: int, stop: int) -> NDArray[np.float32]:
        """Compute slices ``start`` to ``stop`` of the map and the healthy image, (2, slices, rows, columns)."""
        if self.flat or self.whole:
            found, scores = self._seen(start, stop, *self._patches((stop - start, *self.extents[1:])))
            self._scores[start:stop] = scores
        else:
            found = self._layered(start, stop)
        return np.concatenate([self.step * found[:1], self.role.decoded(found[1:])])

    def _patches(self, extents: Triple) -> tuple[list[Triple], Triple]:
        """Return the first voxels and the size of the patches of some slices; one patch of all where none are cut.

        Args:
            extents: number of slices, rows and columns.
        """
        if not self.task.patches:
            return [(0, 0, 0)], extents
        size = (extents[0], *self.task.size) if self.flat else self.task.size
        first, rows, columns = (starts(*axis, self.task.overlap) for axis in zip(extents, size, strict=True))
        return list(product(first, rows, columns)), size

    def _seen(
        self, start: int, stop: int, corners: Sequence[Triple], size: Triple
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run the detector on the patches of some slices.

        Args:
            start: first slice.
            stop: one past the last.
            corners: first voxels of the patches, counted from the first slice.
            size: size of the patches.

        Returns:
            Map and healthy image in the range of the networks, (2, slices, rows, columns), and scores.
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
        """Compute slices of a volume that is cut into patches, averaged over layers of patches."""
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
    """Return the anomaly scores of a case, (n,): one for each slice, or one for the volume.

    Args:
        score: score of every slice, (1, slices, 1, 1).
        flat: whether the detector sees slices, not volumes.
    """
    scores = np.asarray(score, np.float32).reshape(-1)
    return scores if flat else scores[:1]


def starts(extent: int, length: int, overlap: float) -> list[int]:
    """Return the starts of patches along an axis, evenly spaced and with the last one at the edge.

    An axis shorter than a patch gets one patch, which extends beyond both ends.

    Args:
        extent: length of the axis in voxels.
        length: length of a patch in voxels.
        overlap: smallest share of a patch that the next one overlaps.
    """
    if extent <= length:
        return [(extent - length) // 2]
    count = 1 + math.ceil((extent - length) / max(1.0, length * (1 - overlap)))
    return [round(start) for start in np.linspace(0, extent - length, count)]


def _volumes(values: Tensor, corners: Sequence[Triple], size: Triple) -> NDArray[np.float32]:
    """Reshape the outputs of a network to (patches, slices, rows, columns)."""
    return np.asarray(values.numpy().reshape(len(corners), *size))


def assembled(patches: NDArray[np.float32], corners: Sequence[Triple], extents: Sequence[int]) -> Volume:
    """Assemble patches to a volume, averaged where they overlap.

    Args:
        patches: values, (patches, slices, rows, columns).
        corners: first voxel of each patch; patches may extend beyond the volume.
        extents: slices, rows and columns of the volume.
    """
    total, count = np.zeros(tuple(extents), np.float32), np.zeros(tuple(extents), np.float32)
    for patch, corner in zip(patches, corners, strict=True):
        spans = list(zip(corner, patch.shape, extents, strict=True))
        place = tuple(slice(max(first, 0), min(first + length, extent)) for first, length, extent in spans)
        inside = tuple(slice(at.start - first, at.stop - first) for at, first in zip(place, corner, strict=True))
        total[place] += patch[inside]
        count[place] += 1
    return total / count
