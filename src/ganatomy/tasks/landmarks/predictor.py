"""The predictor of landmarks: their positions in mm, with how certain they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ganatomy.case import Prediction, Role, Sample, Scores
from ganatomy.data.batches import Range
from ganatomy.inference.predictor import Options, Predictor, ability_of, central_slices, encoded
from ganatomy.tasks.landmarks.task import Landmarks

THRESHOLDS = np.arange(0.0, 0.4, 0.01)
"""Thresholds of the certainty that calibration tries."""
CALIBRATED = 40
"""Largest number of validation cases that a threshold is calibrated on."""


class LandmarkOptions(Options):
    """Options of finding landmarks."""

    threshold: float | None = Field(None, ge=0)  # certainty above which a landmark is there; none: as calibrated


@dataclass(frozen=True)
class Found:
    """Landmarks of a volume, or of every frame of a film; the frame is then the slice.

    Attributes:
        places: slice, row and column on the working grid, (landmarks, frames, 3).
        certain: how certain each is, (landmarks, frames).
    """

    places: NDArray[np.float64]
    certain: NDArray[np.float64]

    def above(self, threshold: float) -> NDArray[np.float64]:
        """Return the array of the landmarks that are more certain than a threshold, (landmarks, frames, 1, 4)."""
        there = (self.certain > threshold)[..., None]
        return np.concatenate([self.places * there, there], 2)[:, :, None, :]


class LandmarkPredictor(Predictor):
    """Finds the landmarks of whole volumes, and keeps those that are certain enough.

    The threshold of certainty is calibrated on validation cases, by the best F1; 0 without calibration.
    """

    Options: ClassVar[type[Options]] = LandmarkOptions
    calibrates = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """Role of the volume."""
        return (self.task.given,)

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Role of the landmarks."""
        return {self.task.landmarks.name: self.task.landmarks}

    @property
    def threshold(self) -> float:
        """Certainty above which a landmark is there."""
        if self.options.threshold is not None:
            return float(self.options.threshold)
        return float((self.calibration or {}).get("threshold", 0.0))

    @torch.no_grad()
    def find(self, sample: Sample) -> Found:
        """Run the method on a whole volume, or on every frame of a film alone."""
        read, locate, frames = encoded(sample, self.inputs), ability_of(self.method, "locate"), sample.shape[0]
        parts = (
            [read(0, frames)[None]] if self.method.dims == 3 else [read(n, n + 1)[None, :, 0] for n in range(frames)]
        )
        found = [locate(torch.from_numpy(np.ascontiguousarray(part)).to(self.device))[0] for part in parts]
        made = torch.stack(found, 1).double().cpu().numpy()
        if self.method.dims == 2:
            number = np.broadcast_to(np.arange(frames)[None, :, None], (*made.shape[:2], 1))
            made = np.concatenate([number, made], 2)
        return Found(made[..., :3], made[..., 3])

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Return the landmarks on the working grid, and in mm where the sample has the grid of its source."""
        task: Landmarks = self.task
        found, threshold = self.find(sample), self.threshold
        array, name = found.above(threshold), task.landmarks.name
        frame = sample.frames.get(task.given)
        if frame is None:
            return Prediction({name: array})
        points = task.landmarks.value(array, frame, None)
        certain = dict(zip(task.landmarks.points, found.certain[:, 0], strict=True))
        rows = [
            {"name": one, "x": place[0], "y": place[1], "z": place[2], "certainty": round(float(certain[one]), 4)}
            for one, place in points.items()
        ]
        absent = [one for one in task.landmarks.points if one not in points]
        facts: dict[str, Any] = {"threshold": threshold, "not found": absent}
        return Prediction({name: array}, {name: points}, tables={"landmarks": rows}, facts=facts)

    def validate(self, pieces: Sequence[Range], slices: int) -> Scores:
        """Return means of the task's scores over some validation cases, each with the best threshold of all."""
        cases = self._cases(pieces, slices)
        found = [(case, self.find(case)) for case in cases]
        if not found:
            return {}
        threshold = self._best(found)
        scores = [self._scored(case, one, threshold) for case, one in found]
        names = scores[0]
        means = {name: [one[name] for one in scores if np.isfinite(one[name])] for name in names}
        return {name: float(np.mean(values)) for name, values in means.items() if values}

    def calibrate(self, pieces: Sequence[Range], rate: float, source: str) -> Mapping[str, Any] | None:
        """Return the threshold with the best mean F1 over validation cases.

        Args:
            pieces: ranges of slices of validation cases.
            rate: not used.
            source: where the pieces come from, in words.
        """
        found = [(case, self.find(case)) for case in self._cases(pieces, CALIBRATED)]
        return {"threshold": self._best(found), "source": source, "cases": len(found)} if found else None

    def _cases(self, pieces: Sequence[Range], count: int) -> list[Sample]:
        usable = [piece for piece in pieces if self.task.landmarks.name in piece.sample.arrays]
        return [piece.sample for piece in central_slices(usable, count)]

    def _best(self, found: Sequence[tuple[Sample, Found]]) -> float:
        means = [np.nanmean([self._f1(case, one, level) for case, one in found]) for level in THRESHOLDS]
        return float(THRESHOLDS[int(np.nanargmax(means))]) if np.isfinite(means).any() else 0.0

    def _scored(self, case: Sample, found: Found, threshold: float) -> Scores:
        name = self.task.landmarks.name
        true = np.asarray(case.arrays[name])
        scores: Scores = self.task.scores({name: found.above(threshold)}, {name: true}, case.spacing)
        return scores

    def _f1(self, case: Sample, found: Found, threshold: float) -> float:
        true = np.asarray(case.arrays[self.task.landmarks.name])
        return float(self.task.compared(found.above(threshold), true, case.spacing).f1)


class OutlinePredictor(LandmarkPredictor):
    """Finds the landmarks around an organ in every frame, and the region inside of the closed spline through them."""
