"""The test of translated images by a frozen network that looks for a finding in them, such as tumours on slides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Array, Sample, slab
from ganatomy.evaluation.judging import Score
from ganatomy.nets.classifier import Classifier, fit, in_batches

AREA = "task AUC"
MOST_TRAINING_CASES = 240
"""Largest number of training cases that the network learns from."""
STEPS, WIDTHS = 200, (8, 16, 32)
"""Number of updates, and channels, of the network (our choice)."""
SHARE = 0.1
"""Share of a slice from which on a finding makes it one with the finding (our choice)."""
FINDINGS = "What a network finds"


def area_score(finding: str) -> Score:
    """Return the score of the area under the ROC curve of a finding."""
    return Score(
        AREA,
        "higher",
        "",
        f"Area under the ROC curve of {finding}, found by a network that was trained on real images of this kind and "
        "is shown the output.",
        FINDINGS,
        3,
    )


def has_finding(labels: Array, slices: int) -> NDArray[np.bool_]:
    """Return the slices in which a label map (1, slices, rows, columns) covers enough of the image."""
    return np.array([(np.asarray(slab(labels, at, at + 1)) > 0).mean() >= SHARE for at in range(slices)], np.bool_)


def turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (n, C, H, W), each mirrored or not, and turned by a half turn or not."""
    flips = torch.rand(len(images), 2, generator=generator) < 0.5
    for axis in (0, 1):
        images = torch.where(flips[:, axis, None, None, None], images.flip(2 + axis), images)
    return images


class FindingNetwork:
    """A small classifier of slices with a finding, trained on true outputs, and frozen.

    Args:
        output: role of the images.
        finding: role of the label map.
    """

    def __init__(self, output: str, finding: str):
        self.output, self.finding = output, finding
        self.network: Classifier | None = None

    def learn(self, training: Sequence[Sample]) -> None:
        """Train on the cases that have both roles; nothing where they are all with, or all without the finding."""
        images, found = [], []
        for case in training[:MOST_TRAINING_CASES]:
            if not {self.output, self.finding} <= set(case.arrays):
                continue
            images.append(self._encoded(case, np.asarray(case.arrays[self.output], np.float32)))
            found.append(has_finding(case.arrays[self.finding], case.shape[0]))
        if not found or len(np.unique(np.concatenate(found))) < 2:
            return
        truth = torch.from_numpy(np.concatenate(found).astype(np.int64))
        shown = torch.cat(images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = Classifier(shown.shape[1], 2, WIDTHS, dropout=0.2)
        fit(self.network, shown, truth, steps=STEPS, augment=turned)

    def probabilities(self, case: Sample, run: Callable[..., NDArray[np.float32]]) -> NDArray[np.float64]:
        """Return the probability of the finding in each slice of what an entry makes of a case, (slices,).

        Args:
            case: prepared case.
            run: function of `Entry.run`.
        """
        assert self.network
        made = np.asarray(run(case, 0, case.shape[0]), np.float32)
        logits = in_batches(self.network, self._encoded(case, made.reshape(-1, *case.shape)))
        return np.asarray(logits.softmax(dim=1)[:, 1].numpy(), np.float64)

    def _encoded(self, case: Sample, values: NDArray[np.float32]) -> Tensor:
        """Return values (C, slices, H, W) in the range of the networks, (slices, C, H, W)."""
        encoded = np.asarray(case.role(self.output).encoded(values), np.float32)
        return torch.from_numpy(np.ascontiguousarray(encoded.swapaxes(0, 1)))
