"""Images with the label map of a structure, real ones and those that a system makes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from ganatomy.case import Sample, slab
from ganatomy.data.batches import usable
from ganatomy.errors import UserError
from ganatomy.inference.model import Model
from ganatomy.inference.predictor import decoding_role
from ganatomy.studies.segmentation_gain import LabelledImages
from ganatomy.tasks.translation.task import Translation

MOST = 5000
"""Largest number of images that are used."""


def drawn_structure(task: Any) -> str | None:
    """Return the label map that the images of a task are made with, beside or from which they are drawn.

    Of a translation this is the label map that it makes, and where it makes none, the one that it is given. None for
    tasks that make images without a label map.
    """
    if not isinstance(task, Translation):
        return None
    made = [name for name in task.outputs if name in task.label_maps]
    given = [name for name in task.inputs if name in task.label_maps]
    return next(iter([*made, *given]), None)


def drawn_images(task: Translation, structure: str, samples: Sequence[Sample]) -> LabelledImages:
    """Return the real images of the kind that a system makes, with the label map, at most `MOST`, evenly spread.

    Args:
        task: task of the system.
        structure: name of the label map.
        samples: prepared samples of all cases.

    Raises:
        UserError: no case has both, or images have several sizes.
    """
    if task.config.fit == "patches":
        raise UserError("--downstream: a segmenter needs images of one size; give --fit contain or --fit cover")
    parts = []
    for sample in samples:
        if {task.output, structure} <= set(sample.arrays):
            role = sample.role(task.output)
            image, mask = (slab(sample.arrays[name], 0, sample.shape[0]) for name in (task.output, structure))
            parts.append(_labelled(role.encoded(image), role.codec, mask, _slices(task, sample), sample.case.subject))
    if not parts:
        raise UserError(f"--downstream: no case has both a {task.output} image and the label map {structure}")
    return _evenly(_joined(parts), MOST)


def drawn_by(
    model: Model, structure: str, samples: Sequence[Sample], given: Collection[str], number: int
) -> LabelledImages:
    """Return images that a trained system makes of the inputs of given subjects, with their label map.

    Args:
        model: trained system.
        structure: name of the label map, which the system makes or is given.
        samples: prepared samples of all cases.
        given: subjects whose inputs may be used.
        number: largest number of images, evenly spread.

    Raises:
        UserError: no given subject has all inputs.
    """
    predictor = model.predictor()
    task, parts = predictor.task, []
    for sample in samples:
        if sample.case.subject not in given or not predictor.takes(sample):
            continue
        prediction = predictor.predict(sample)
        role = decoding_role(task, predictor.outputs[task.output], sample)
        arrays = prediction.arrays if structure in predictor.outputs else sample.arrays
        image, mask = (slab(one, 0, sample.shape[0]) for one in (prediction.arrays[task.output], arrays[structure]))
        parts.append(_labelled(role.encoded(image), role.codec, mask, _slices(task, sample), sample.case.subject))
    if not parts:
        raise UserError(f"--downstream: no training subject has {' and '.join(predictor.inputs)}")
    return _evenly(_joined(parts), number)


def _labelled(encoded: Any, codec: Any, mask: Any, slices: Sequence[int], subject: str) -> LabelledImages:
    """Return slices with their masks, as images in [-1, 1]."""
    low, high = getattr(codec, "to", (-1.0, 1.0))
    images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(encoded, np.float32), 1, 0)))[list(slices)]
    masks = torch.from_numpy(np.asarray(mask)[0, list(slices)] > 0)
    return LabelledImages((2 * (images - low) / (high - low) - 1).clamp(-1, 1), masks, (subject,) * len(slices))


def _slices(task: Translation, sample: Sample) -> list[int]:
    """Return the numbers of a sample's slices on which a system would be trained."""
    return [at for piece in usable(task, [sample]) for at in range(piece.start, piece.stop)]


def _joined(parts: Sequence[LabelledImages]) -> LabelledImages:
    return LabelledImages(
        torch.cat([part.images for part in parts]),
        torch.cat([part.masks for part in parts]),
        tuple(name for part in parts for name in part.subjects),
    )


def _evenly(data: LabelledImages, most: int) -> LabelledImages:
    """Return at most a number of images, evenly spread."""
    if len(data) <= most:
        return data
    chosen = np.linspace(0, len(data) - 1, most).round().astype(int).tolist()
    return LabelledImages(data.images[chosen], data.masks[chosen], tuple(data.subjects[place] for place in chosen))
