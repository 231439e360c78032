"""The predictor of landmarks: their positions in mm, with how certain they are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ganatomy.case import Prediction, Role, Sample, Scores
from ganatomy.data.batches import Range
from ganatomy.images.contours import FEWEST, closed_spline, inside
from ganatomy.images.dicom_sr import Mark, PointReport
from ganatomy.images.image import Image
from ganatomy.inference.predictor import Options, Predictor, ability_of, central_slices, encoded
from ganatomy.roles.labels import LabelRole
from ganatomy.roles.points import Film, JsonPointsRole, MarkupPointsRole, Points, PointsRole
from ganatomy.roles.report import ReportRole
from ganatomy.tasks.landmarks.task import Landmarks

THRESHOLDS = np.arange(0.0, 0.4, 0.01)
"""Thresholds of the certainty that calibration tries."""
REPORT, REGION = "report", "region"
"""Names of further outputs: a DICOM report of the points, and the region inside of an outline."""
FORMATS: Mapping[str, type[PointsRole]] = {"csv": PointsRole, "json": JsonPointsRole, "slicer": MarkupPointsRole}
"""Format of points to the role that writes it."""
CALIBRATED = 40
"""Largest number of validation cases that a threshold is calibrated on."""


class LandmarkOptions(Options):
    """Options of finding landmarks."""

    threshold: float | None = Field(None, ge=0)  # certainty above which a landmark is there; none: as calibrated
    points: Literal["csv", "json", "slicer"] = "csv"  # format of the landmarks' file; slicer: markups of 3D Slicer


@dataclass(frozen=True)
class Found:
    """Landmarks of a volume, or of every frame of a film; the frame is then the slice.

    Attributes:
        places: slice, row and column on the working grid, (landmarks, frames, 3).
        certain: how certain each is, (landmarks, frames).
        seconds: time that the network and the read-out took for all frames, apart from preparation.
    """

    places: NDArray[np.float64]
    certain: NDArray[np.float64]
    seconds: float = 0.0

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
        """Roles of the landmarks, and of their report where images come from DICOM."""
        return {self.task.landmarks.name: self.written, REPORT: ReportRole(REPORT)}

    @property
    def written(self) -> PointsRole:
        """Role of the landmarks, which writes the format that is asked for."""
        known: PointsRole = self.task.landmarks
        return FORMATS[self.options.points](**{one.name: getattr(known, one.name) for one in fields(known)})

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
        flat = self.method.dims == 2
        parts = ((n, n + 1) for n in range(frames)) if flat else ((0, frames),)
        rows, seconds = [], 0.0
        for start, stop in parts:
            values = read(start, stop)
            image = torch.from_numpy(np.ascontiguousarray(values[:, 0] if flat else values))[None].to(self.device)
            began = time.perf_counter()
            made = locate(image)[0].double().cpu().numpy()  # waits for the device
            seconds += time.perf_counter() - began
            rows.append(np.concatenate([np.full((len(made), 1), start), made], 1) if flat else made)
        found = np.stack(rows, 1)
        return Found(found[..., :3], found[..., 3], seconds)

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Return the landmarks on the working grid, and in mm where the sample has the grid of its source."""
        task: Landmarks = self.task
        found, threshold = self.find(sample), self.threshold
        array, name = found.above(threshold), task.landmarks.name
        frame = sample.frames.get(task.given)
        if frame is None:
            return Prediction({name: array})
        made = task.landmarks.value(array, frame, None)
        lists = made.frames if isinstance(made, Film) else (made,)
        own = [self._certain(points, found.certain[:, n]) for n, points in enumerate(lists)]
        several = len(own) > 1
        rows = [
            {
                **({"frame": number} if several else {}),
                "name": one,
                "x": place[0],
                "y": place[1],
                "z": place[2],
                "certainty": round(points.certainty[one], 4),
            }
            for number, points in enumerate(own, 1)
            for one, place in points.items()
        ]
        absent = [one for one in task.landmarks.points if not any(one in points for points in own)]
        facts: dict[str, Any] = {"threshold": threshold, "not found": absent}
        if several:
            rate = len(own) / max(found.seconds, 1e-9)
            facts |= {"frames": len(own), "frames per second": round(rate, 1), "device": str(self.device)}
        outputs: dict[str, Any] = {name: Film(tuple(own)) if several else own[0]}
        image = sample.values[task.given]
        if image.header.kind == "dicom":
            outputs[REPORT] = PointReport(image, _marks(own, image))
        return Prediction({name: array}, outputs, tables={"landmarks": rows}, facts=facts)

    def _certain(self, points: Points, certain: NDArray[np.float64]) -> Points:
        """Return points with how certain they are."""
        known = dict(zip(self.task.landmarks.points, map(float, certain), strict=True))
        return replace(points, certainty={one: known[one] for one in points})

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

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Roles of the landmarks, of the region, and of the report where images come from DICOM."""
        landmarks = replace(self.written, closed=True)
        return {landmarks.name: landmarks, REGION: LabelRole(REGION), REPORT: ReportRole(REPORT)}

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Return the landmarks, and the region inside of their outline in every frame, on the grid of the source."""
        made = super().predict(sample, seed)
        task: Landmarks = self.task
        frame = sample.frames.get(task.given)
        if frame is None:
            return made
        points = np.asarray(made.arrays[task.landmarks.name])
        mask, (_, *plane) = np.zeros((1, *sample.shape), np.uint8), sample.shape
        for number in range(sample.shape[0]):
            own = points[:, number, 0]
            there = own[own[:, 3] > 0.5, 1:3]
            if len(there) >= FEWEST:
                mask[0, number] = inside(closed_spline(there), (plane[0], plane[1]))
        region = LabelRole(REGION).value(mask, frame, sample.values[task.given])
        _, rows, columns = sample.spacing
        areas = [round(float(one.sum()) * rows * columns, 1) for one in mask[0]]
        outputs = {**made.outputs, REGION: region}
        ordered = {name: outputs[name] for name in self.outputs if name in outputs}
        facts = {**made.facts, "area in mm²": areas if len(areas) > 1 else areas[0]}
        return replace(made, outputs=ordered, facts=facts)


def _marks(frames: Sequence[Points], image: Image) -> list[Mark]:
    """Return the points of all frames on the grid of their image."""
    inverse = np.linalg.inv(image.affine)
    found = []
    for points in frames:
        for name, place in points.items():
            at = inverse[:3, :3] @ np.asarray(place) + inverse[:3, 3]
            found.append(Mark(name, (float(at[0]), float(at[1]), float(at[2])), points.certainty.get(name)))
    return found
