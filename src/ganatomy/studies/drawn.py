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
from ganatomy.tasks.synthesis.maps import MapSynthesis
from ganatomy.tasks.synthesis.predictor import SamplePredictor
from ganatomy.tasks.translation.task import Translation

MOST = 5000
"""Largest number of images that are used."""


def drawn_structure(task: Any) -> str | None:
    """Return the label map that the images of a task are made with, beside or from which they are drawn.

    Of a translation this is the label map that it makes, and where it makes none, the one that it is given; of
    synthesis the one that is sampled. None for tasks that make images without a label map.
    """
    if isinstance(task, MapSynthesis):
        return task.labels
    if not isinstance(task, Translation):
        return None
    made = [name for name in task.outputs if name in task.label_maps]
    given = [name for name in task.inputs if name in task.label_maps]
    return next(iter([*made, *given]), None)


def drawn_images(task: Translation | MapSynthesis, structure: str, samples: Sequence[Sample]) -> LabelledImages:
    """Return the real images of the kind that a system makes, with the label map, at most `MOST`, evenly spread.

    Args:
        task: task of the system.
        structure: name of the label map.
        samples: prepared samples of all cases.

    Raises:
        UserError: no case has both, or images have several sizes.
    """
    if (task.fitting if isinstance(task, MapSynthesis) else task.config.fit) == "patches":
        raise UserError("--downstream: a segmenter needs images of one size; give --fit contain or --fit cover")
    names = _images(task)
    parts = []
    for sample in samples:
        if {*names, structure} <= set(sample.arrays):
            encoded = [sample.role(name).encoded(slab(sample.arrays[name], 0, sample.shape[0])) for name in names]
            mask = slab(sample.arrays[structure], 0, sample.shape[0])
            codec, chosen = sample.role(names[0]).codec, chosen_slices(task, sample)
            parts.append(_labelled(np.concatenate(encoded), codec, mask, chosen, sample.case.subject))
    if not parts:
        raise UserError(f"--downstream: no case has both {' and '.join(names)} and the label map {structure}")
    return _evenly(_joined(parts), MOST)


def drawn_by(
    model: Model, structure: str, samples: Sequence[Sample], given: Collection[str], number: int
) -> LabelledImages:
    """Return images that a trained system makes of the inputs of given subjects, or samples, with their label map.

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
    if isinstance(predictor, SamplePredictor):
        return _sampled(predictor, number)
    task, parts = predictor.task, []
    for sample in samples:
        if sample.case.subject not in given or not predictor.takes(sample):
            continue
        prediction = predictor.predict(sample)
        role = decoding_role(task, predictor.outputs[task.output], sample)
        arrays = prediction.arrays if structure in predictor.outputs else sample.arrays
        image, mask = (slab(one, 0, sample.shape[0]) for one in (prediction.arrays[task.output], arrays[structure]))
        parts.append(_labelled(role.encoded(image), role.codec, mask, chosen_slices(task, sample), sample.case.subject))
    if not parts:
        raise UserError(f"--downstream: no training subject has {' and '.join(predictor.inputs)}")
    return _evenly(_joined(parts), number)


def _sampled(predictor: SamplePredictor, number: int) -> LabelledImages:
    """Return sampled images with their label maps, the first channel of what is sampled."""
    made = predictor.images(range(number))
    low, high = predictor.task.to
    shown = (2 * (made - low) / (high - low) - 1).clamp(-1, 1)
    return LabelledImages(shown[:, 1:], shown[:, 0] > 0, ("synthetic",) * number)


def _images(task: Translation | MapSynthesis) -> list[str]:
    """Return the images that a system makes with a label map."""
    return [name for name in task.images if name != task.labels] if isinstance(task, MapSynthesis) else [task.output]


def _labelled(encoded: Any, codec: Any, mask: Any, slices: Sequence[int], subject: str) -> LabelledImages:
    """Return slices with their masks, as images in [-1, 1]."""
    chosen = list(slices)
    masks = torch.from_numpy(np.asarray(mask)[0, chosen] > 0)
    return LabelledImages(scaled(encoded, codec)[chosen], masks, (subject,) * len(chosen))


def chosen_slices(task: Translation | MapSynthesis, sample: Sample) -> list[int]:
    """Return the numbers of a sample's slices on which a system would be trained."""
    return [at for piece in usable(task, [sample]) for at in range(piece.start, piece.stop)]


def scaled(encoded: Any, codec: Any) -> torch.Tensor:
    """Convert slices (channels, n, rows, columns) in a codec's range to images (n, channels, ...) in [-1, 1]."""
    low, high = getattr(codec, "to", (-1.0, 1.0))
    images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(encoded, np.float32), 1, 0)))
    return (2 * (images - low) / (high - low) - 1).clamp(-1, 1)


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
