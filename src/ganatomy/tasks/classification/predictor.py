"""The predictor of classes, with calibrated probabilities of every slice and of the case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ganatomy.case import Prediction, Role, Sample, Scores
from ganatomy.data.batches import Range
from ganatomy.errors import NotCalibrated
from ganatomy.inference.predictor import Options, Predictor, ability_of, encoded
from ganatomy.metrics.calibration import balanced_threshold, softmax, temperature
from ganatomy.roles.slices import to_source_slices
from ganatomy.tasks.classification.roles import FoundClassRole, Word
from ganatomy.tasks.classification.task import Classification

BATCH = 64
"""Number of slices that are classified at once."""
VALIDATED = 32
"""Number of slices that are classified per slice asked for in validation: they are read fast, and scored together."""
SLICES_TABLE = "slices"
"""Name of the table of slices."""
Probabilities = NDArray[np.float64]


class ClassOptions(Options):
    """Options of classification."""

    threshold: float | None = Field(
        None, gt=0, lt=1
    )  # probability from which on the second of two classes is chosen; none means that of the calibration


@dataclass(frozen=True)
class Found:
    """Probabilities of the classes of a case.

    Attributes:
        units: probabilities of what has a class, slices or the case, (units, classes).
        slices: those of all slices, (slices, classes).
        case: those of the case, (classes,).
        threshold: probability from which on the second of two classes is chosen.
    """

    units: Probabilities
    slices: Probabilities
    case: Probabilities
    threshold: float = 0.5


def chosen(probabilities: Probabilities, threshold: float) -> NDArray[np.int64]:
    """Return the classes that are chosen, (n,): of two the second from a threshold on, else the most probable one.

    Args:
        probabilities: (n, classes).
        threshold: probability of the second of two classes.
    """
    if probabilities.shape[1] == 2:
        return (probabilities[:, 1] >= threshold).astype(np.int64)
    return np.asarray(probabilities.argmax(axis=1), np.int64)


class ClassPredictor(Predictor):
    """Classifies all slices of a case, and the case.

    Networks are trained on equally frequent classes: probabilities are softmax(logits / T + log shares) with the shares
    of the classes in training. The temperature T and the threshold of the second of two classes are calibrated on
    validation cases; without calibration they are 1 and 0.5.
    """

    Options: ClassVar[type[Options]] = ClassOptions
    calibrates = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """Roles of the images."""
        images: tuple[str, ...] = self.task.images
        return images

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Role of the class of the case."""
        task: Classification = self.task
        return {task.label.name: FoundClassRole(task.label.name, task.case_classes)}

    @property
    def tables(self) -> tuple[str, ...]:
        """Name of the table of slices."""
        return (SLICES_TABLE,)

    @property
    def threshold(self) -> float:
        """Probability from which on the second of two classes is chosen."""
        if self.options.threshold is not None:
            return float(self.options.threshold)
        return float((self.calibration or {}).get("threshold", 0.5))

    @property
    def temperature(self) -> float:
        """Temperature by which logits are divided."""
        return float((self.calibration or {}).get("temperature", 1.0))

    @torch.no_grad()
    def logits(self, sample: Sample, start: int = 0, stop: int | None = None) -> NDArray[np.float64]:
        """Return the logits of slices ``start`` to ``stop``, (slices, classes), of equally frequent classes."""
        read, classify = encoded(sample, self.inputs), ability_of(self.method, "classify")
        stop = sample.shape[0] if stop is None else stop
        found = []
        for first in range(start, stop, BATCH):
            values = np.moveaxis(read(first, min(first + BATCH, stop)), 1, 0)
            made = classify(torch.from_numpy(np.ascontiguousarray(values)).to(self.device))
            found.append(made.double().cpu().numpy())
        return np.concatenate(found)

    def find(self, sample: Sample) -> Found:
        """Return the probabilities of the classes of a case and of its slices."""
        task: Classification = self.task
        logits = self.logits(sample)
        deciding = logits[task.deciding(sample)].mean(axis=0)
        units, slices, case = (self._probable(one) for one in (task.units(logits), logits, deciding[None]))
        return Found(units, slices, case[0], self.threshold)

    def _probable(self, logits: NDArray[np.float64]) -> Probabilities:
        return softmax(logits / self.temperature + self.task.prior)

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Return the class of the case with its probabilities, and those of all slices as a table.

        Slices of the table are counted from 1 in the order of the source.
        """
        task: Classification = self.task
        found, names = self.find(sample), task.config.classes
        limit = found.threshold if len(names) == 2 else None
        index = int(chosen(found.case[None], found.threshold)[0])
        case = Word(task.case_classes[index], dict(zip(task.case_classes, found.case.tolist(), strict=True)), limit)
        of_slices = chosen(found.slices, found.threshold)
        words = [
            Word(names[place], dict(zip(names, own, strict=True)), limit)
            for place, own in zip(of_slices, found.slices.tolist(), strict=True)
        ]
        frame = sample.frames.get(task.given)
        rows = [{"slice": at, **one.record} for at, one in enumerate(to_source_slices(words, frame), start=1)]
        array = (of_slices if task.sliced else np.array([index])).astype(np.int16).reshape(1, -1, 1, 1)
        facts: dict[str, Any] = {
            "class": str(case),
            "probabilities": {name: round(one, 6) for name, one in case.probabilities.items()},
            "temperature": self.temperature,
            "calibrated on": (self.calibration or {}).get("source", "nothing"),
        }
        if len(names) == 2:
            facts["threshold"] = {names[1]: found.threshold}
        return Prediction({task.label.name: array}, {task.label.name: case}, {SLICES_TABLE: rows}, facts)

    def validate(self, pieces: Sequence[Range], slices: int) -> Scores:
        """Return the task's scores over validation slices or cases, all together.

        Args:
            pieces: ranges of slices of validation cases; those without a class are left out.
            slices: number of slices asked for; about `VALIDATED` times as many are scored.
        """
        logits, truth = self._known(pieces, VALIDATED * slices)
        if not len(truth):
            return {}
        name = self.task.label.name
        scores: Scores = self.task.scores({name: logits}, {name: truth}, (1.0, 1.0, 1.0))
        return scores

    def calibrate(self, pieces: Sequence[Range], rate: float, source: str) -> Mapping[str, Any] | None:
        """Return the temperature with the least log loss, and of two classes the threshold of balanced accuracy.

        Args:
            pieces: ranges of slices of validation cases.
            rate: not used.
            source: where the pieces come from, in words.

        Raises:
            NotCalibrated: no validation case has a class.
        """
        logits, truth = self._known(pieces, None)
        if not len(truth):
            raise NotCalibrated(f"no validation case has {self.task.label.name}")
        scale = temperature(logits, truth, self.task.prior)
        found: dict[str, Any] = {"temperature": scale, "source": source, "cases": len(truth)}
        if logits.shape[1] == 2:
            positive = softmax(logits / scale + self.task.prior)[:, 1]
            threshold = balanced_threshold(positive, truth == 1)
            found["threshold"] = threshold if math.isfinite(threshold) else 0.5
        return found

    def _known(self, pieces: Sequence[Range], most: int | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the logits (n, classes) of what has a known class in validation cases, and these classes (n,).

        Args:
            pieces: ranges of slices.
            most: approximate number of slices, from evenly chosen pieces; None means all.
        """
        task: Classification = self.task
        usable = [piece for piece in pieces if self.takes(piece.sample) and task.label.name in piece.sample.arrays]
        if most is not None and usable:
            mean = sum(piece.slices for piece in usable) / len(usable)
            wanted = min(len(usable), max(1, math.ceil(most / mean)))
            usable = [usable[place] for place in np.unique(np.linspace(0, len(usable) - 1, wanted).astype(int))]
        logits, truth = [np.zeros((0, len(task.config.classes)))], [np.zeros(0, np.int64)]
        for piece in usable:
            own, known = task.units(self.logits(piece.sample, piece.start, piece.stop)), task.truth(piece.sample)
            known = known[piece.start : piece.stop] if task.sliced else known
            logits.append(own[known >= 0])
            truth.append(known[known >= 0])
        return np.concatenate(logits), np.concatenate(truth)
