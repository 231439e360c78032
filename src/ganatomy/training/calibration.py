"""Thresholds of a trained detector, from healthy images that it was not trained on."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.data.batches import Range
from ganatomy.data.store import PreparedCase
from ganatomy.images.atomic import write_text
from ganatomy.inference.detecting import CALIBRATION, Calibration, abnormal_slices, scored_images
from ganatomy.inference.model import WEIGHTS, Model, Which, identity, load
from ganatomy.inference.prepared import detect_case
from ganatomy.metrics.detection import threshold_at_false_positive_rate
from ganatomy.tasks.anomaly_detection.task import Detector

SLICES = 256
"""Slices looked at, about; a latent search takes its time (our choice)."""
PIXELS = 2**24
"""Beyond so many, an evenly strided part of a case's pixels stands for all."""


def calibrate_run(folder: Path, ranges: Sequence[Range], rate: float, source: str, device: str = "cpu") -> None:
    """Write the thresholds of all weights of a run, each under the identity of its file.

    Thresholds belong to the bytes of the weights: those of weights that training has replaced since are not found any
    more, and a run that is resumed to its end writes them anew.

    Args:
        folder: of the run.
        ranges: validation slices.
        rate: share of healthy pixels and images that may be called abnormal, 0 to 1.
        source: what the slices are, in words.
        device: where the networks run.
    """
    found: dict[str, Any] = {}
    which: Which
    for which in ("best", "last"):
        weights = folder / WEIGHTS[which]
        if not weights.is_file() or (key := identity(weights)) in found:
            continue
        calibration = calibrate(load(folder, which, device), ranges, rate, source)
        found[key] = asdict(calibration) if calibration else None
    write_text(folder / CALIBRATION, json.dumps(found, indent=1) + "\n")


def calibrate(model: Model, ranges: Sequence[Range], rate: float, source: str) -> Calibration | None:
    """Thresholds that at most this share of healthy pixels, and of healthy images, reaches.

    Maps are refined like those that are judged. Slices with a mask, and all of an abnormal case without one, are left
    out; None where nothing healthy remains.
    """
    method = model.method
    assert isinstance(method, Detector)
    task = method.task
    pixels, scores, subjects = [], [], set()
    chosen = list(_chosen(ranges))
    for case, slices in chosen:
        healthy = slices & ~abnormal_slices(task, case)
        if not healthy.any():
            continue
        found = detect_case(method, case, model.device)
        tissue = task.tissue(case.arrays["image"])[0]
        of_tissue = found.map[healthy][tissue[healthy]]
        pixels.append(of_tissue[:: 1 + len(of_tissue) * len(chosen) // PIXELS])
        score, abnormal = scored_images(task, case, found, healthy)
        scores.append(score[~abnormal])
        subjects.add(case.case.subject)
    values, images = (np.concatenate(found) if found else np.zeros(0) for found in (pixels, scores))
    if not (values.size and images.size):
        return None
    thresholds = threshold_at_false_positive_rate(values, rate), threshold_at_false_positive_rate(images, rate)
    return Calibration(*thresholds, rate, values.size, images.size, len(subjects), source)


def _chosen(ranges: Sequence[Range]) -> Iterator[tuple[PreparedCase, NDArray[np.bool_]]]:
    """Evenly chosen cases with about ``SLICES`` slices that may be looked at, and which these are."""
    slices: dict[str, NDArray[np.bool_]] = {}
    cases = {item.case.case.name: item.case for item in ranges}
    for item in ranges:
        seen = slices.setdefault(item.case.case.name, np.zeros(item.case.shape[0], bool))
        seen[item.start : item.stop] = True
    total = sum(int(seen.sum()) for seen in slices.values())
    count = max(1, min(len(cases), SLICES * len(cases) // max(total, 1)))
    names = list(cases)
    for index in np.linspace(0, len(names) - 1, count if names else 0).round().astype(int):
        yield cases[names[index]], slices[names[index]]
