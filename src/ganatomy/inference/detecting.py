"""What is abnormal in images and in cases, and the thresholds from which on something is."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ganatomy.case import Sample, Volume
from ganatomy.errors import UserError
from ganatomy.images.image import Image
from ganatomy.inference.prepared import detect_volume
from ganatomy.tasks.anomaly_detection.refinement import Mask, Refinement
from ganatomy.tasks.anomaly_detection.task import CONTENT, AnomalyDetection, Detector, Found

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Thresholds of one set of weights, found on healthy images; what reaches them is called abnormal.

    Attributes:
        pixel: of maps, in the unit of prepared cases.
        image: of the scores of slices, or of volumes seen whole.
        rate: share of the healthy pixels, and of the healthy images, that is called abnormal at most.
        pixels: how many healthy pixels of tissue that rests on.
        images: how many healthy slices or volumes.
        subjects: how many patients these are of.
        source: where they come from, in words.
    """

    pixel: float
    image: float
    rate: float
    pixels: int
    images: int
    subjects: int
    source: str


def read_calibration(folder: Path, identity: str) -> Calibration | None:
    """The thresholds of these weights; none where they have not been calibrated.

    Args:
        folder: of the run.
        identity: of the weights. Thresholds of other ones, such as those of an earlier round, do not count.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get(identity)
        return Calibration(**found) if found else None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}); delete it, and train with --resume") from None


class Findings(NamedTuple):
    """What a detector found in an image, on its grid."""

    map: Image
    """How abnormal every voxel is, at least 0; 0 where the detector did not look.

    In the unit of the image, or where the system gives every image a scale of its own, in steps of that.
    """
    healthy: Image
    """The image as it would be without the anomaly, in its unit."""
    score: NDArray[np.float32]
    """How abnormal every slice is; of volumes seen whole, one number."""
    mask: Image | None
    """Tissue whose map reaches the threshold, uint8; none without a threshold."""


@torch.no_grad()
def detect_image(
    method: Detector, image: Image, device: str = "cpu", calibration: Calibration | None = None
) -> Findings:
    """What is abnormal in an image, which is in memory as a whole.

    Args:
        method: in its inference mode.
        image: of any size, in physical units.
        device: of the method.
        calibration: of its weights.

    Raises:
        UserError: the image does not fit what the method was trained on.
    """
    task = method.task
    image = image.with_array(image.numpy())
    task.check(image)
    own, frame = task.bound(image), task.framing
    scaled = task.scaled(image, own)
    scaled = scaled.with_array(scaled.numpy())
    framed = frame(scaled)
    found = detect_volume(method, framed.numpy().astype(np.float32), framed.spacing, device)
    extents = image.shape[-len(task.size) :]
    seen = frame.back(np.ones_like(found.map)[None], extents) > 0.5
    map, healthy = (frame.back(values[None], extents) for values in (found.map, found.healthy))
    tissue = task.tissue(scaled.numpy())
    if own is not None:
        seen, healthy = seen & tissue, own.decode(healthy)
    mask = None
    if calibration:
        # Specks are counted in the voxels of the frame, in which they were chosen.
        smallest = round(task.refinement.smallest * prod(framed.spacing) / prod(image.spacing))
        cleaning = replace(task.refinement, smallest=smallest)
        mask = abnormal_voxels(cleaning, map[0], tissue[0], calibration.pixel)[None].astype(np.uint8)
    return Findings(
        image.with_array(map, unit=scaled.unit),
        image.with_array(np.where(seen, healthy, image.numpy()).astype(np.float32)),
        found.score,
        None if mask is None else image.with_array(mask, unit=None),
    )


def abnormal_voxels(refinement: Refinement, map: Volume, tissue: Mask, threshold: float) -> Mask:
    """Voxels of tissue whose map reaches the threshold, without specks; all (slices, rows, columns)."""
    return refinement.clean(reached(map, threshold) & tissue)


def reached(values: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Which values are at or above a threshold."""
    # In 32 bits the threshold above healthy zeros would be rounded to zero, and everything would reach it.
    return np.asarray(values >= np.float64(threshold))


def abnormal_slices(task: AnomalyDetection, case: Sample) -> NDArray[np.bool_]:
    """Which slices of a case show something abnormal: those with a mask, without masks all whose label is not normal.

    Returns:
        (slices,).
    """
    if "mask" in case.arrays:
        return np.asarray((case.arrays["mask"] > 0.5).any(axis=(0, 2, 3)))
    return np.full(case.shape[0], not task.healthy(case.case.label))


def scored_images(
    task: AnomalyDetection, case: Sample, found: Found, kept: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores of the images of a case, and which of them are abnormal.

    Of cases seen slice by slice these are the slices that show tissue, else the case is one image.

    Args:
        task: of the method.
        case: what was looked at.
        found: in the whole case.
        kept: slices that count, (slices,); a case that is one image counts as a whole.
    """
    abnormal = abnormal_slices(task, case)
    if len(found.score) != len(abnormal):
        return found.score, np.array([abnormal.any()])
    shown = task.tissue(case.arrays["image"]).mean(axis=(0, 2, 3)) >= CONTENT
    shown = shown if kept is None else shown & kept
    return found.score[shown], abnormal[shown]
