"""Scores of a method while it is being trained, by what it can do."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ganatomy.data.batches import PatchDataset, Range
from ganatomy.game import Method
from ganatomy.inference.prepared import detect_slices, restore_slices, sample_slices, tiler_of
from ganatomy.tasks.anomaly_detection.task import Detector
from ganatomy.tasks.base import ImageToImage
from ganatomy.tasks.synthesis.task import Synthesiser

Scores = dict[str, float]


@contextmanager
def used(method: Method) -> Iterator[None]:
    """The method in its inference mode; its modes and all random numbers come back as they were."""
    training = {module: module.training for module in method.modules()}
    noise = method.noise.generator.get_state()
    with torch.random.fork_rng():
        method.inference_mode()
        try:
            yield
        finally:
            method.noise.generator.set_state(noise)
            for module, mode in training.items():
                module.training = mode


@torch.no_grad()
def validate(method: Method, ranges: Sequence[Range], slices: int, device: torch.device | str = "cpu") -> Scores:
    """Scores on validation data, in physical units, with the method in its inference mode.

    Args:
        method: left in the mode it was in.
        ranges: validation slices.
        slices: how many to score altogether; of generated images, several times as many.
        device: of the method.
    """
    with used(method):
        if isinstance(method, Synthesiser):
            return _validate_samples(method, ranges, slices, device)
        if isinstance(method, Detector):
            return _validate_detector(method, ranges, slices, device)
        return _validate_images(method, ranges, slices, device)


def spread(ranges: Sequence[Range], slices: int) -> Iterator[tuple[Range, int, int]]:
    """A few slices in the middle of evenly chosen ranges: range, first slice, one past the last."""
    chosen = np.unique(np.linspace(0, len(ranges) - 1, min(len(ranges), slices)).astype(int))
    for item in (ranges[index] for index in chosen):
        count = min(item.slices, max(1, slices // len(chosen)))
        start = item.start + (item.slices - count) // 2
        yield item, start, start + count


def _validate_images(method: Method, ranges: Sequence[Range], slices: int, device: Any) -> Scores:
    task = method.task
    assert isinstance(task, ImageToImage)
    tiler = tiler_of(method, device)

    def scores(item: Range, start: int, stop: int) -> Scores:
        output = restore_slices(tiler, task, item.case, start, stop)
        return task.scores(output, sample_slices(item.case, start, stop), item.case.spacing)

    return _mean(scores, [item for item in ranges if task.source in item.case.arrays], slices)


def _validate_detector(method: Detector, ranges: Sequence[Range], slices: int, device: Any) -> Scores:
    def scores(item: Range, start: int, stop: int) -> Scores:
        found = detect_slices(method, item.case, start, stop, device)
        return method.task.scores(found, sample_slices(item.case, start, stop), item.case.spacing)

    return _mean(scores, ranges, slices)


def _mean(scores: Callable[[Range, int, int], Scores], ranges: Sequence[Range], slices: int) -> Scores:
    values: dict[str, list[float]] = {}
    for item, start, stop in spread(ranges, slices):
        for name, value in scores(item, start, stop).items():
            values.setdefault(name, []).append(value)
    return {name: float(np.nanmean(found)) for name, found in values.items() if np.isfinite(found).any()}


def _validate_samples(method: Synthesiser, ranges: Sequence[Range], slices: int, device: Any) -> Scores:
    """Samples of fixed seeds against as many real images, labels in the same proportions."""
    real, labels = real_images(method, ranges, SAMPLES_PER_SLICE * slices)
    fake = method.images(range(len(real)), labels, device=device)
    return method.task.scores(real, fake)


SAMPLES_PER_SLICE = 16
"""A set of generated images is judged as a whole, which takes more of them than judging one by one."""


def real_images(method: Synthesiser, ranges: Sequence[Range], most: int, seed: int = 0) -> tuple[Any, Any]:
    """Training-like images of the ranges, at most ``most``, every slice once before any is cut twice.

    Returns:
        Images (n, channels, [slices,] rows, columns) in the range of the networks, and their labels (n,) or None.
    """
    task = method.task
    single = [Range(item.case, index, index + 1) for item in ranges for index in range(item.start, item.stop)]
    pool = ranges if method.dims == 3 else single
    order = np.random.default_rng(seed).permutation(len(pool))[:most]
    images, labels = [], []
    for number, index in enumerate(order):
        cut = PatchDataset(
            [pool[index]], method.sampling(1), task.codecs, task.roles, method.dims, [seed], task.classes
        )
        sample = cut[number]
        images.append(torch.cat([sample[role] for role in task.roles]))
        if task.classes:
            labels.append(sample["label"])
    return torch.stack(images), torch.stack(labels) if labels else None
