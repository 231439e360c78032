"""The judge of feature attribution, with maps of a small classifier of both groups as references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ganatomy.case import Sample, slab
from ganatomy.evaluation.judging import Classical
from ganatomy.nets.attribution import class_activation, gradients, integrated_gradients
from ganatomy.nets.classifier import STEPS, Classifier, fit, in_batches
from ganatomy.tasks.anomaly_detection.judge import DetectionJudge, DetectorEntry, Found
from ganatomy.tasks.anomaly_detection.task import BASELINE, EFFECT, IMAGE

MOST_IMAGES = 2000
"""Largest number of images of each group that the classifier learns from (our choice)."""
AT_ONCE = 16
"""Number of images whose maps are computed together."""

Attribution = Callable[[Classifier, Tensor, int], Tensor]
"""Function from a classifier, images (n, 1, rows, columns) and a class index to maps of the images' shape."""


class AttributionJudge(DetectionJudge):
    """Judges maps of an effect, beside those of a classifier that learned to tell the groups apart.

    The classifier is small, and trained on the same images as the runs, with the same labels of groups and no masks.
    Its maps are those that the paper compares with: class activation, gradients (plain or guided) and integrated
    gradients. There are none for volumes and for images in patches.
    """

    compares_with_training = True
    classifier: Classifier | None = None
    """The classifier, once `learn` has trained it."""

    def learn(self, training: Sequence[Sample]) -> None:
        """Train the classifier, where there are images of both groups."""
        groups = [self._images(training, role) for role in (BASELINE, EFFECT)]
        if len(self.task.size) == 3 or self.task.patches or not all(map(len, groups)):
            return
        labels = torch.cat([torch.full((len(images),), number) for number, images in enumerate(groups)])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Classifier(1, len(groups), maxima=False)
        fit(network, torch.cat(groups), labels, steps=STEPS)
        self.classifier = network

    def _images(self, cases: Sequence[Sample], role: str) -> Tensor:
        """Return the slices of one group, evenly spaced where there are too many, (n, 1, rows, columns)."""
        own = [(case, number) for case in cases if role in case.arrays for number in range(case.shape[0])]
        chosen = np.linspace(0, len(own) - 1, min(len(own), MOST_IMAGES)).astype(int)
        return torch.cat([encoded(own[i][0], role, own[i][1], own[i][1] + 1) for i in chosen] or [torch.empty(0)])

    def classical(self) -> Sequence[Classical]:
        """Return the maps of the classifier; none without a classifier."""
        network = self.classifier
        if network is None:
            return ()
        entry = partial(DetectorEntry, rebuilds=False)
        about = "of a small classifier of both groups, trained on the same images"

        def run(attribution: Attribution) -> Callable[[Sample], Found]:
            return lambda case: self._attributed(network, attribution, case)

        return (
            Classical("class activation", f"maps {about}", [("", run(class_activation))], entry),
            Classical(
                "gradients",
                f"size of the gradient {about}",
                [("plain", run(gradients)), ("guided", run(partial(gradients, guided=True)))],
                entry,
            ),
            Classical(
                "integrated gradients",
                f"size of the integrated gradient {about}",
                [
                    ("from black", run(partial(integrated_gradients, start=-1.0))),
                    ("from the middle of the range", run(integrated_gradients)),
                ],
                entry,
            ),
        )

    def _attributed(self, network: Classifier, attribution: Attribution, case: Sample) -> Found:
        """Return a map of the effect's class in a whole case; the score of an image is the probability of the class."""
        images = encoded(case, self.task.seen(case.arrays), 0, case.shape[0])
        maps = torch.cat([attribution(network, part, 1) for part in torch.split(images, AT_ONCE)])
        # Activations count where they support the class; gradients of either sign mark what matters.
        maps = maps.clamp_min(0) if attribution is class_activation else maps.abs()
        scores = in_batches(network, images).softmax(1)[:, 1]
        return Found(maps[:, 0].numpy(), scores.numpy(), self._scaled(case)[IMAGE])


def encoded(case: Sample, role: str, start: int, stop: int) -> Tensor:
    """Return slices of a case in the range of the networks, (slices, 1, rows, columns)."""
    values = case.role(role).encoded(slab(case.arrays[role], start, stop))
    return torch.from_numpy(np.array(values, np.float32)).transpose(0, 1)
