"""The predictor of anomaly detectors: refined maps, masks at calibrated thresholds, healthy images and scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from ganatomy.case import Array, Compared, Prediction, Role, Sample, Scores, Volume, slab
from ganatomy.data.batches import Range
from ganatomy.errors import UserError
from ganatomy.game import Method
from ganatomy.images.frames import Frame
from ganatomy.images.image import ComputedArray, Image, LazyArray
from ganatomy.inference.predictor import Predictor
from ganatomy.roles.image import ImageRole
from ganatomy.tasks.anomaly_detection.detecting import CachedSlices, Findings, image_scores
from ganatomy.tasks.anomaly_detection.refinement import MOST, Mask, Refinement, strided
from ganatomy.tasks.anomaly_detection.task import CONTENT, HEALTHY, IMAGE, MASK, AnomalyDetection
from ganatomy.tasks.anomaly_detection.thresholds import share_on_unseen, threshold_of

MAP, SCORE, UNREFINED = "map", "score", "unrefined map"

SLICES = 256
"""Approximate number of slices used to calibrate thresholds, since a latent search is slow (our choice)."""


@dataclass(frozen=True)
class Calibration:
    """Thresholds of one set of weights, calibrated on healthy images; values at or above them are abnormal.

    Attributes:
        pixel: threshold of maps, on the scale of the case.
        image: threshold of the scores of slices, or of volumes where the detector sees whole volumes.
        rate: largest share of healthy pixels, and of healthy images, that is called abnormal.
        pixels: number of healthy pixels of tissue used.
        images: number of healthy slices or volumes used.
        subjects: number of subjects of these images.
        source: where the images come from, in words.
        unseen_pixels: share of healthy pixels that reaches a threshold found without their part of the data, by
            cross-validation; None where there is one part only.
        unseen_images: the same for images.
        parts: what the parts are, in words.
    """

    pixel: float
    image: float
    rate: float
    pixels: int
    images: int
    subjects: int
    source: str
    unseen_pixels: float | None = None
    unseen_images: float | None = None
    parts: str = ""

    @classmethod
    def of(cls, numbers: Mapping[str, Any] | None) -> Calibration | None:
        """Return thresholds from the values that `DetectionPredictor.calibrate` returned; None without values.

        Raises:
            UserError: names are missing or unknown.
        """
        try:
            return cls(**numbers) if numbers else None
        except TypeError:
            raise UserError(
                "calibration.json: damaged (other thresholds than those of this system); delete it, and train with "
                "--resume"
            ) from None


class HealthyPart(NamedTuple):
    """Values of healthy tissue and images of a block of slices."""

    subject: str
    pixels: NDArray[np.float32]
    """Values of the map in tissue, (n,)."""
    scores: NDArray[np.float32]
    """Anomaly scores of the images, (m,)."""

    @classmethod
    def joined(cls, parts: Sequence[HealthyPart]) -> HealthyPart:
        """Return the values of several parts as those of one, under the subject of the first."""
        empty = np.zeros(0, np.float32)
        subject = parts[0].subject if parts else ""
        pixels = np.concatenate([empty, *(part.pixels for part in parts)])
        return cls(subject, pixels, np.concatenate([empty, *(part.scores for part in parts)]))


class LazyFacts(Mapping[str, Any]):
    """Facts about a prediction, computed when the first of them is read.

    Args:
        find: computes all facts.
    """

    def __init__(self, find: Callable[[], Mapping[str, Any]]):
        self._find = find

    @cached_property
    def _found(self) -> Mapping[str, Any]:
        return self._find()

    def __getitem__(self, name: str) -> Any:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class DetectionPredictor(Predictor):
    """Runs an anomaly detector slab by slab, refines its map, and applies the calibrated thresholds.

    A 2D network sees every slice once, whichever outputs are read and in whichever order. A volume is in memory as a
    whole only if the network needs all of it.

    Args:
        method: detector in its inference mode, on ``device``.
        device: device of the networks.
        options: options of the predictor; None means the defaults.
        calibration: values that `calibrate` returned for the weights; None where they are not calibrated.
    """

    calibrates = True

    def __init__(
        self,
        method: Method,
        device: torch.device | str = "cpu",
        options: BaseModel | None = None,
        calibration: Mapping[str, Any] | None = None,
    ):
        super().__init__(method, device, options, calibration)
        self.thresholds = Calibration.of(calibration)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Role of the image in which anomalies are detected."""
        return (IMAGE,)

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Roles of the anomaly map, of the mask of abnormal tissue, and of the healthy image."""
        roles = self.task.roles
        return {MAP: ImageRole(MAP, checked=False), MASK: roles[MASK], HEALTHY: roles[HEALTHY]}

    @property
    def real(self) -> bool:
        """Whether the main output is a map of real numbers, which is true of anomaly maps."""
        return True

    def takes(self, sample: Sample) -> bool:
        """Whether the predictor accepts a case, which is true of all cases of the task."""
        return True

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Run the detector on a prepared case; results are computed when they are read.

        Args:
            sample: prepared case.
            seed: not used.

        Returns:
            Arrays on the working grid: the refined ``map`` and the ``unrefined map``, nonnegative and on the scale of
            the case; ``healthy`` in the unit of the image; ``score``, (1, slices, 1, 1). Outputs on the grid of the
            image: ``map``, 0 outside of the working grid; ``mask``, uint8, missing without calibration; ``healthy``,
            equal to the image outside of the working grid. Facts: the scores of all slices or of the volume, which of
            them are abnormal, and the thresholds.
        """
        found = Findings(self.method, sample, self.device)  # type: ignore[arg-type]
        map = self._refined(sample, found)
        arrays: dict[str, Array] = {MAP: map, HEALTHY: found.healthy, SCORE: found.score, UNREFINED: found.map}
        name = found.role.name
        frame = sample.frames.get(name)
        facts = LazyFacts(lambda: self._facts(found, frame))
        if frame is None:
            return Prediction(arrays, facts=facts)
        given: Image = sample.values[name]
        outputs = self._outputs(sample, map, found.healthy, frame, given)
        return Prediction(
            arrays,
            outputs,
            facts=facts,
            notes=() if self.thresholds else (UNCALIBRATED,),
            compared={HEALTHY: Compared(given, counterfactual=True)},
            missing=() if self.thresholds else (MASK,),
        )

    def _refined(self, sample: Sample, found: Findings) -> LazyArray:
        task: AnomalyDetection = self.task
        scale, array, refinement = task.scale_of(sample), found.array, task.refinement

        def image(start: int, stop: int) -> Volume:
            return scale.of_image(slab(array, start, stop)[0])

        pixel_mm = sample.spacing_of(found.role.name)[2]
        map = refinement.refined(found.map, image, partial(task.tissue_in, sample), pixel_mm)
        return CachedSlices(map) if refinement.median > 1 else map

    def _outputs(
        self, sample: Sample, map: LazyArray, healthy: LazyArray, frame: Frame, given: Image
    ) -> dict[str, Image]:  # fmt: skip
        """Return the map, the mask and the healthy image on the grid of the image."""
        task: AnomalyDetection = self.task
        scale, thresholds = task.scale_of(sample), self.thresholds
        placed_map, placed_healthy = (checked_finite(lazy(frame.back(array)), given) for array in (map, healthy))
        looked_at = covered_by(frame)

        inside = task.tissue_reader(sample)

        def tissue(start: int, stop: int) -> NDArray[np.bool_]:
            return inside(start, stop)[None]

        def rebuilt(start: int, stop: int) -> NDArray[np.float32]:
            inside = looked_at(start, stop) & tissue(start, stop) if scale.own else looked_at(start, stop)
            return np.where(inside, placed_healthy.slab(start, stop), given.slab(start, stop))

        def called(start: int, stop: int) -> NDArray[np.bool_]:
            assert thresholds is not None
            return reached(placed_map.slab(start, stop), thresholds.pixel) & tissue(start, stop)

        shape, thickness = (1, *given.shape), placed_map.thickness
        outputs = {MAP: given.with_array(placed_map, unit=None if scale.own else given.unit)}
        if thresholds is not None:
            # The smallest component is an option in voxels of the working grid, which may be larger than these.
            smallest = round(task.refinement.smallest * prod(sample.spacing) / prod(given.spacing))
            cleaning = replace(task.refinement, smallest=smallest)
            clean = cleaning.cleaned(ComputedArray(shape, np.bool_, called, thickness))
            outputs[MASK] = given.with_array(as_labels(clean), unit=None)
        outputs[HEALTHY] = given.with_array(ComputedArray(shape, np.float32, rebuilt, placed_healthy.thickness))
        return outputs

    def _facts(self, found: Findings, frame: Frame | None) -> dict[str, Any]:
        """Return the scores, the images they belong to, and which of them reach the threshold."""
        scores, known, kind = found.scores, self.thresholds, "slices" if found.flat else "the volume"
        if found.flat and frame is not None and not frame.slice_wise:
            kind = "axial slices, from the feet to the head"
        elif found.flat and frame is not None and frame.turn.flipped[0]:
            scores = scores[::-1]
        return {
            "scores are of": kind,
            "scores": scores.tolist(),
            "abnormal": reached(scores, known.image).tolist() if known else None,
            "calibration": asdict(known) if known else None,
        }

    def score(self, prediction: Prediction, sample: Sample, start: int, stop: int) -> Scores:
        """Compute the task's scores of slices ``start`` to ``stop`` with the map before refinement."""
        task: AnomalyDetection = self.task
        found = {name: slab(prediction.arrays[name], start, stop)[0] for name in (UNREFINED, HEALTHY, SCORE)}
        healthy = task.scale_of(sample).of_output(found[HEALTHY])
        output = {MAP: found[UNREFINED], HEALTHY: healthy, SCORE: found[SCORE]}
        return task.scores(output, task.scaled(sample, start, stop), sample.spacing)

    def calibrate(self, pieces: Sequence[Range], rate: float, source: str) -> Mapping[str, Any] | None:
        """Find thresholds that at most a given share of healthy pixels, and of healthy images, reaches.

        Maps are refined as in `predict`. Slices with lesions are left out, and so are abnormal cases without a mask.
        The share that is reached on data that a threshold was not found on is estimated by cross-validation over
        subjects, or over blocks of slices of a single one.

        Args:
            pieces: slices of validation cases.
            rate: largest share of false positives, 0 to 1.
            source: where the slices come from, in words.

        Returns:
            The attributes of a `Calibration`; None where there are no healthy images.

        Raises:
            NotCalibrated: so many healthy values are equal that no threshold has this share above it.
        """
        parts = list(self._healthy_parts(list(_chosen(pieces))))
        _, values, images = HealthyPart.joined(parts)
        if not (values.size and images.size):
            return None
        pixel = threshold_of(values, rate, "pixels", FLAT)
        image = threshold_of(images, rate, "images", "train longer, or validate on more and other images")
        subjects = {part.subject for part in parts}
        by_subject = len(subjects) > 1
        groups: dict[Any, list[HealthyPart]] = {}
        for number, part in enumerate(parts):
            groups.setdefault(part.subject if by_subject else number, []).append(part)
        together = [HealthyPart.joined(group) for group in groups.values()]
        words = f"{len(groups)} {'subjects' if by_subject else 'blocks of slices'}" if len(groups) > 1 else ""
        return asdict(
            Calibration(
                pixel,
                image,
                rate,
                values.size,
                images.size,
                len(subjects),
                source,
                share_on_unseen([part.pixels for part in together], rate),
                share_on_unseen([part.scores for part in together], rate),
                words,
            )
        )

    def _healthy_parts(self, chosen: Sequence[tuple[Sample, NDArray[np.bool_]]]) -> Iterator[HealthyPart]:
        """Yield healthy values of every block of consecutive slices of some cases."""
        task: AnomalyDetection = self.task
        for sample, slices in chosen:
            healthy = slices & ~task.abnormal_slices(sample)
            if not healthy.any():
                continue
            prediction = self.predict(sample)
            scores = self.scores_of(prediction)
            _, _, rows, columns = prediction.arrays[MAP].shape
            total = round(float(task.tissue_shares(sample)[healthy].sum()) * rows * columns)
            step = 1 + total * len(chosen) // MOST
            for number, block in enumerate(_blocks(slices)):
                wanted = healthy & block
                pixels = self._healthy_pixels(prediction, sample, wanted, step)
                # The score of a whole volume counts once.
                score, abnormal = scored_images(task, sample, scores, wanted)
                score = score[~abnormal] if number == 0 or len(scores) > 1 else score[:0]
                yield HealthyPart(sample.case.subject, pixels, score)

    def _healthy_pixels(
        self, prediction: Prediction, sample: Sample, healthy: NDArray[np.bool_], step: int
    ) -> NDArray[np.float32]:
        """Return every ``step``-th value of the map in the tissue of the healthy slices."""
        task: AnomalyDetection = self.task
        map: Any = prediction.arrays[MAP]
        slices = map.shape[1]

        def values() -> Iterator[NDArray[np.float32]]:
            for start in range(0, slices, map.thickness):
                stop = min(start + map.thickness, slices)
                if (wanted := healthy[start:stop]).any():
                    tissue = task.tissue_in(sample, start, stop)[wanted]
                    yield map.slab(start, stop)[0][wanted][tissue]

        return strided(values(), step)

    def scores_of(self, prediction: Prediction) -> NDArray[np.float32]:
        """Return the anomaly scores of a case, (n,): one for each slice, or one for the volume with a 3D detector."""
        return image_scores(lazy(prediction.arrays[SCORE]), self.method.dims == 2)


UNCALIBRATED = (
    "no mask: these weights have no calibrated thresholds; ganatomy train with --resume calibrates them at its end, or "
    "says why it cannot"
)
FLAT = "train longer, or with less --erosion, --median or --brightest, which set maps to 0"
"""Remedy where maps are equal in so many pixels that no threshold can be found."""


def lazy(array: Array) -> LazyArray:
    """Return an array as a lazy array, which is read slab by slab."""
    if isinstance(array, LazyArray):
        return array
    shape: Any = array.shape
    return ComputedArray(shape, array.dtype, lambda start, stop: array[:, start:stop])


def checked_finite(array: LazyArray, given: Image) -> LazyArray:
    """Return a lazy array that checks that its values are finite when it is read.

    Args:
        array: output of a network; reading a slab of it raises a UserError where a value is not finite.
        given: input image, which the message names.
    """

    def checked(start: int, stop: int) -> NDArray[Any]:
        values = array.slab(start, stop)
        if not np.isfinite(values).all():
            raise UserError(f"{given.header.label}: the network gives no numbers in slices {start} to {stop - 1}")
        return values

    return ComputedArray(array.shape, array.dtype, checked, array.thickness)


def covered_by(frame: Frame) -> Callable[[int, int], NDArray[np.bool_]]:
    """Return a function of a range of source slices that tells which of their voxels the working grid covers.

    The function returns booleans (1, slices, rows, columns).
    """
    ones = ComputedArray((1, *frame.size), np.float32, lambda start, stop: np.ones((1, stop - start, *frame.size[1:])))
    placed = lazy(frame.back(ones))
    return lambda start, stop: np.asarray(placed.slab(start, stop) > 0.5)


def as_labels(mask: LazyArray) -> LazyArray:
    """Convert a mask to a label map, uint8."""
    return ComputedArray(mask.shape, np.uint8, mask.slab, mask.thickness)


def abnormal_voxels(refinement: Refinement, map: Volume, tissue: Mask, threshold: float) -> Mask:
    """Return the voxels of tissue at or above a threshold, without small components; all (slices, rows, columns)."""
    return refinement.clean(reached(map, threshold) & tissue)


def reached(values: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Return which values are at or above a threshold."""
    # The threshold may be the smallest number above 0, which is 0 in 32 bits, so that all values would reach it.
    return np.asarray(values >= np.float64(threshold))


def scored_images(
    task: AnomalyDetection, sample: Sample, scores: NDArray[np.float32], kept: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the scores of the images of a case, and which of these images are abnormal.

    The images are the slices that show tissue, or with a 3D detector the whole volume.

    Args:
        task: task of the method.
        sample: prepared case.
        scores: scores of all slices, or of the volume, (1,).
        kept: which slices to use, (slices,); None means all. It does not apply to whole volumes.
    """
    abnormal = task.abnormal_slices(sample)
    if len(scores) != len(abnormal):
        return scores, np.array([abnormal.any()])
    shown = task.tissue_shares(sample) >= CONTENT
    shown = shown if kept is None else shown & kept
    return scores[shown], abnormal[shown]


def _blocks(slices: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the runs of true values of a mask, each as a mask of its own."""
    starts = np.cumsum(np.diff(slices.astype(np.int8), prepend=0) > 0)
    return [slices & (starts == number) for number in range(1, int(starts[-1]) + 1)]


def _chosen(pieces: Sequence[Range]) -> Iterator[tuple[Sample, NDArray[np.bool_]]]:
    """Yield evenly chosen cases with about ``SLICES`` slices in total, and which slices of each are in the pieces."""
    slices: dict[str, NDArray[np.bool_]] = {}
    samples = {piece.sample.case.name: piece.sample for piece in pieces}
    for piece in pieces:
        seen = slices.setdefault(piece.sample.case.name, np.zeros(piece.sample.shape[0], bool))
        seen[piece.start : piece.stop] = True
    total = sum(int(seen.sum()) for seen in slices.values())
    count = max(1, min(len(samples), SLICES * len(samples) // max(total, 1)))
    names = list(samples)
    for index in np.linspace(0, len(names) - 1, count if names else 0).round().astype(int):
        yield samples[names[index]], slices[names[index]]
