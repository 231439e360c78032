"""Entries of the synthesis judge: trained samplers, and a baseline of smoothed noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ganatomy.evaluation.sets import Request, SamplerEntry
from ganatomy.tasks.synthesis.predictor import SamplePredictor
from ganatomy.tasks.synthesis.sets import ImageSet, between

GRAIN = 16
"""Shorter side of an image, in standard deviations of the Gaussian with which noise is smoothed."""


@dataclass(frozen=True)
class ImageRequest(Request):
    """Request for a set of images.

    Attributes:
        labels: class indices of the images, for samplers conditioned on labels.
        spare: held-out real images with which the set is not compared.
        training: training images.
    """

    labels: Tensor | None
    spare: ImageSet
    training: ImageSet


def sampler(predictor: SamplePredictor, name: str, about: str = "") -> SamplerEntry:
    """Return a trained run as an entry of a judge's table; its ``run`` maps an `ImageRequest` to an `ImageSet`."""

    def run(wanted: ImageRequest) -> ImageSet:
        labels = wanted.labels if predictor.labelled else None
        return ImageSet(between(predictor.images(wanted.seeds, labels), predictor.task), labels)

    return SamplerEntry(name, run, about, predictor)


def noise(wanted: ImageRequest) -> ImageSet:
    """Draw smoothed Gaussian noise with the training images' mean and standard deviation per channel."""
    like = wanted.training.images if len(wanted.training) else wanted.spare.images
    rng = np.random.default_rng([GRAIN, wanted.number])
    shape = (wanted.count, *like.shape[1:])
    grain = min(shape[2:]) / GRAIN
    drawn = gaussian_filter(rng.standard_normal(shape), (0, 0, *[grain] * (len(shape) - 2)))
    axes = (0, *range(2, len(shape)))
    drawn = (drawn - drawn.mean(axis=axes, keepdims=True)) / drawn.std(axis=axes, keepdims=True)
    values = like.numpy().astype(np.float64)
    made = drawn * values.std(axis=axes, keepdims=True) + values.mean(axis=axes, keepdims=True)
    return ImageSet(torch.from_numpy(made).float().clamp(float(values.min()), float(values.max())))
