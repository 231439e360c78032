"""A trained method on prepared cases: what validation, evaluation and claims have in common."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ganatomy.data.batches import cut
from ganatomy.data.store import PreparedCase
from ganatomy.game import Method, ability
from ganatomy.inference.tiling import Tiler
from ganatomy.tasks.anomaly_detection.task import Detector, Found
from ganatomy.tasks.base import ImageToImage, Volume


def tiler_of(method: Method, device: torch.device | str = "cpu") -> Tiler:
    """Runs what the method was trained to do over slabs of an image."""
    run = ability(method, method.task.ability)
    return Tiler(run, method.dims, method.margin, method.multiple, device, scale=method.scale)


def restore_slices(tiler: Tiler, task: ImageToImage, case: PreparedCase, start: int, stop: int) -> Volume:
    """Slices ``start`` to ``stop`` of a case restored, (slices, rows, columns) in the unit of the task's product.

    Several channels are averaged.

    Args:
        tiler: of the method.
        task: of the method.
        case: the role shown to the method is read, as far as the slices need.
        start: first slice.
        stop: one past the last.
    """
    source, target = task.codecs[task.source], task.codecs[task.product]

    def read(first: int, last: int) -> Any:
        return np.asarray(source.encode(np.asarray(case.arrays[task.source][:, first:last])), np.float32)

    shape = case.arrays[task.source].shape[1:]
    return _grey(np.asarray(target.decode(tiler(read, shape, start, stop)), np.float32))


DETECTED = 16
"""Slices of a case looked at together by a 2D detector."""
BATCH = 64
"""Images or patches that go through its networks together."""


def detect_slices(
    method: Detector, case: PreparedCase, start: int, stop: int, device: torch.device | str = "cpu"
) -> Found:
    """What the method finds in slices ``start`` to ``stop`` of a case; all slices together where it sees volumes."""
    return detect_array(method, np.asarray(case.arrays["image"][:, start:stop]), device)


def detect_case(method: Detector, case: PreparedCase, device: torch.device | str = "cpu") -> Found:
    """What the method finds in a whole case, the map refined as the method is configured."""
    return detect_volume(method, case.arrays["image"], case.spacing, device)


def detect_volume(
    method: Detector,
    image: NDArray[np.float32],
    spacing: tuple[float, float, float],
    device: torch.device | str = "cpu",
) -> Found:
    """The same for (channels, slices, rows, columns) as prepared.

    Args:
        method: in its inference mode.
        image: on the scale of prepared cases.
        spacing: mm between slices, rows and columns.
        device: of the method.
    """
    slices = image.shape[1]
    step = DETECTED if method.dims == 2 else slices
    parts = [detect_array(method, np.asarray(image[:, at : at + step]), device) for at in range(0, slices, step)]
    maps, scores, healthy = (np.concatenate(found) for found in zip(*parts, strict=True))
    return Found(method.task.postprocess(maps, np.asarray(image[0]), spacing), scores, healthy)


@torch.no_grad()
def detect_array(method: Detector, image: NDArray[np.float32], device: torch.device | str = "cpu") -> Found:
    """What the method finds in (channels, slices, rows, columns) as prepared.

    Images cut into patches are seen patch by patch: maps are means over the patches that see a pixel, and the score is
    that of the most abnormal patch.
    """
    codec, flat = method.task.codecs["image"], method.dims == 2
    corners, size = _patches(method, image.shape[1:])
    patches = [torch.from_numpy(np.array(cut(image, corner, size), np.float32)) for corner in corners]
    shown = torch.cat([patch.transpose(0, 1) for patch in patches]) if flat else torch.stack(patches)
    found = [method.detect(codec.encode(part).to(device)) for part in torch.split(shown, BATCH if flat else 1)]
    maps, scores, healthy = (torch.cat(parts).float().cpu() for parts in zip(*found, strict=True))

    def volume(values: torch.Tensor) -> Volume:
        return _assembled(values.numpy().reshape(len(corners), *size), corners, image.shape[1:])

    # The map is a difference: only the step of the codec brings it to the scale of the image.
    step = float(codec.decode(np.float32(1)) - codec.decode(np.float32(0)))
    return Found(
        step * volume(maps),
        scores.reshape(len(corners), -1).amax(0).numpy(),
        np.asarray(codec.decode(volume(healthy)), np.float32),
    )


Place = tuple[int, int, int]


def _patches(method: Detector, extents: Sequence[int]) -> tuple[list[Place], Place]:
    """First voxels of the patches that an image is seen in, and their size; the whole image where it is not cut."""
    task = method.task
    if task.fit != "patches":
        return [(0, 0, 0)], tuple(extents)  # type: ignore[return-value]
    size = (extents[0], *task.size) if method.dims == 2 else task.size
    first, rows, columns = (_starts(*axis, task.overlap) for axis in zip(extents, size, strict=True))
    return list(product(first, rows, columns)), size  # type: ignore[return-value]


def _starts(extent: int, length: int, overlap: float) -> list[int]:
    """Where patches begin along an axis: overlapping at least so much, the last one at the edge."""
    if extent <= length:
        return [(extent - length) // 2]
    count = 1 + math.ceil((extent - length) / max(1.0, length * (1 - overlap)))
    return [round(start) for start in np.linspace(0, extent - length, count)]


def _assembled(patches: NDArray[np.float32], corners: Sequence[Place], extents: Sequence[int]) -> Volume:
    """Patches in their places, means where they overlap."""
    total, count = np.zeros(tuple(extents), np.float32), np.zeros(tuple(extents), np.float32)
    for patch, corner in zip(patches, corners, strict=True):
        spans = list(zip(corner, patch.shape, extents, strict=True))
        place = tuple(slice(max(first, 0), min(first + length, extent)) for first, length, extent in spans)
        inside = tuple(slice(at.start - first, at.stop - first) for at, first in zip(place, corner, strict=True))
        total[place] += patch[inside]
        count[place] += 1
    return total / count


def sample_slices(case: PreparedCase, start: int, stop: int) -> dict[str, Volume]:
    """Slices ``start`` to ``stop`` of every role of a case, (slices, rows, columns) in physical units.

    Several channels are averaged.
    """
    return {role: _grey(np.asarray(values[:, start:stop])) for role, values in case.arrays.items()}


def _grey(values: Any) -> Volume:
    return np.asarray(values[0] if len(values) == 1 else values.mean(axis=0))
