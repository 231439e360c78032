"""The judge of anomaly detectors: scores of pixels, lesions and images, with brightness alone as the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Sample, Volume
from ganatomy.errors import UserError
from ganatomy.evaluation.illustrations import Grounds, examples, most_to_see, tissue_window
from ganatomy.evaluation.judging import OUTPUT, Entry, Judge, Judgement, Row, Score, about, limits
from ganatomy.evaluation.remarks import improved, phantoms, sentences
from ganatomy.images.image import Image
from ganatomy.inference.model import Model
from ganatomy.metrics.detection import Proportion, RocCurve, auc, detect_lesions, dice, roc_curve
from ganatomy.metrics.statistics import Interval, count
from ganatomy.reports.report import Outcome, Report
from ganatomy.reports.style import title
from ganatomy.reports.viewer import Illustration
from ganatomy.tasks.anomaly_detection.pictures import Finding, finding_strip, roc_plot, score_plot
from ganatomy.tasks.anomaly_detection.predictor import (
    MAP,
    SCORE,
    Calibration,
    DetectionPredictor,
    abnormal_voxels,
    scored_images,
)
from ganatomy.tasks.anomaly_detection.refinement import Mask
from ganatomy.tasks.anomaly_detection.task import HEALTHY, IMAGE, MASK, TISSUE, AnomalyDetection

INTENSITY, ZSCORE = "intensity", "z-score"
PIXEL_AUC, IMAGE_AUC, PRECISION = "pixel auc", "image auc", "average precision"
DICE, BEST_DICE = "dice", "best dice"
SENSITIVITY, SPECIFICITY, LESIONS, ALARMS = "sensitivity", "specificity", "lesion sensitivity", "false positives"
NCC, RESIDUAL, HEALTHY_ERROR = "ncc", "residual", "healthy error"

DETECTION, CALLED, REBUILDING = "Telling apart, at all thresholds", "At the calibrated threshold", "Healthy images"

KEPT = 2**15
"""Largest number of pixels of tissue per case, evenly spaced, where the pixels of all cases are pooled."""


class Found(NamedTuple):
    """Results of a detector for a whole case, on the scale of the case."""

    map: Volume
    """Refined anomaly map, (slices, rows, columns)."""
    score: NDArray[np.float32]
    """Anomaly scores, (slices,), or (1,) with a 3D detector."""
    healthy: Volume
    """Healthy image, (slices, rows, columns)."""


@dataclass(frozen=True)
class Evidence:
    """Scores and pixels of one case and entry, kept to judge all cases together.

    Attributes:
        subject: name of the subject.
        scores: anomaly scores of its images, (n,); empty where nobody knows which of them are abnormal.
        abnormal: which of these images are abnormal, (n,).
        highest: highest anomaly score of its images; minus infinity without any.
        pixels: some values of the map in tissue, (m,); empty where the truth is not known.
        truth: which of these pixels are abnormal, (m,).
    """

    subject: str
    scores: NDArray[np.float32]
    abnormal: NDArray[np.bool_]
    highest: float
    pixels: NDArray[np.float32]
    truth: Mask


@dataclass(frozen=True)
class DetectorEntry(Entry):
    """The entry of a detector; ``run`` takes a whole case and returns a `Found`.

    Args:
        calibration: calibrated thresholds; None without calibration.
        rebuilds: whether the entry predicts a healthy image.
        evidence: name of every scored case to its evidence.
    """

    calibration: Calibration | None = None
    rebuilds: bool = True
    evidence: dict[str, Evidence] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Entry) -> DetectorEntry:
        """Return the entry with its static type, since all entries of this judge are detectors."""
        assert isinstance(entry, DetectorEntry)
        return entry

    def pooled(self, values: str, labels: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return two attributes of the evidence, concatenated over all cases.

        Args:
            values: name of an attribute of `Evidence`, such as ``scores``.
            labels: name of the attribute with the truth, such as ``abnormal``.
        """
        found = [[getattr(case, part) for case in self.evidence.values()] for part in (values, labels)]
        return np.concatenate(found[0]), np.concatenate(found[1])


class DetectionJudge(Judge):
    """Judges anomaly detectors by pixels, images and lesions, at all thresholds and at the calibrated one.

    Pixels count inside tissue only, on maps of whole cases after post-processing.
    """

    task: AnomalyDetection
    scores = (
        Score(PIXEL_AUC, "higher", note="Area under the ROC curve of the map, case by case where lesions are.",
              group=DETECTION),
        Score(IMAGE_AUC, "higher", note="Area under the ROC curve of the scores of all images; a subject's value is "
              "its jackknife one, which may lie outside 0 to 1: the mean over subjects is the area.", group=DETECTION),
        Score(PRECISION, "higher", note="Area under the precision-recall curve of the map, case by case.",
              group=DETECTION),
        Score(BEST_DICE, "higher", note="At each case's own best threshold, which is unknown in practice: an upper "
              "bound.", group=DETECTION),
        Score(NCC, "higher", note="Normalised cross-correlation of map and truth, slices with a lesion.",
              group=DETECTION),
        Score(DICE, "higher", note="Of the voxels called abnormal with the truth, cases with lesions.", group=CALLED),
        Score(SENSITIVITY, "higher", note="Share of the abnormal voxels that is called so.", group=CALLED),
        Score(SPECIFICITY, "higher", note="Share of the healthy voxels that is not called abnormal.", group=CALLED),
        Score(LESIONS, "higher", note="Share of the lesions of which any voxel is called abnormal.", group=CALLED),
        Score(ALARMS, "lower", unit="per case", note="Connected findings that touch no lesion.", group=CALLED),
        Score(RESIDUAL, "lower", note="Mean difference of image and healthy image outside of lesions, on the scale of "
              "the maps.", group=REBUILDING),
        Score(HEALTHY_ERROR, "lower", note="Mean difference of the healthy image from the phantom without its lesion, "
              "on that scale; of brightness alone, that of the image itself.", group=REBUILDING),
    )  # fmt: skip
    leading = (PIXEL_AUC, IMAGE_AUC, DICE)
    plotted = (PIXEL_AUC,)
    reference = INTENSITY
    keeps_images = True

    def entry(self, model: Model, name: str) -> Entry:
        """Return a trained detector as an entry of the judgement."""
        predictor = model.predictor()
        assert isinstance(predictor, DetectionPredictor)
        return DetectorEntry(name, lambda case: self._found(predictor, case), about(model), predictor.thresholds)

    def _found(self, predictor: DetectionPredictor, case: Sample) -> Found:
        prediction = predictor.predict(case)
        map, healthy = (np.asarray(prediction.arrays[name], np.float32)[0] for name in (MAP, HEALTHY))
        return Found(map, predictor.scores_of(prediction), self.task.scale_of(case).of_output(healthy))

    def _scaled(self, case: Sample) -> dict[str, Volume]:
        """Return the roles of a whole case on its scale."""
        return self.task.scaled(case, 0, case.shape[0])

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the baselines of brightness and of unusual values alone, which detect many lesions without a network.

        Meissen et al., Challenging current semi-supervised anomaly segmentation methods for brain MRI, 2021.
        arXiv 2109.06023.
        """
        bright = "the image's own brightness as map, its mean over the tissue as score; no training"
        unusual = (
            "distance of a value from the median of its case's tissue in SDs as map, its mean as score; no training"
        )
        return [
            DetectorEntry(INTENSITY, self._brightness, bright, rebuilds=False),
            DetectorEntry(ZSCORE, self._unusual, unusual, rebuilds=False),
        ], []

    def called(self, name: str) -> str:
        return {INTENSITY: "brightness alone", ZSCORE: "the z-score alone"}.get(name) or super().called(name)

    def _brightness(self, case: Sample) -> Found:
        sample = self._scaled(case)
        return self._simple(sample[IMAGE] - self.task.shown[0], sample)

    def _unusual(self, case: Sample) -> Found:
        sample = self._scaled(case)
        inside = sample[IMAGE][sample[TISSUE] > 0]
        if not inside.size:
            return self._simple(np.zeros_like(sample[IMAGE]), sample)
        middle, spread = np.median(inside), max(float(inside.std()), np.finfo(np.float32).tiny)
        return self._simple(np.abs(sample[IMAGE] - middle) / spread, sample)

    def _simple(self, map: Volume, sample: Mapping[str, Volume]) -> Found:
        """Return a map whose mean over the tissue is the score of an image."""
        tissue = sample[TISSUE] > 0
        totals = (map * tissue).sum(axis=(1, 2)) / np.maximum(tissue.sum(axis=(1, 2)), 1)
        if len(self.task.size) == 3:
            totals = map[tissue].mean(keepdims=True)
        return Found(np.maximum(map, 0), totals.astype(np.float32), sample[IMAGE])

    def truth(self, case: Sample) -> Mask | None:
        """Return the abnormal voxels in the tissue of a case, (slices, rows, columns); None if they are not known."""
        sample = self._scaled(case)
        tissue = sample[TISSUE] > 0
        if MASK in sample:
            return np.asarray((sample[MASK] > 0) & tissue)
        return np.zeros_like(tissue) if self.task.truth_is_known(case) else None

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry on a whole case, and keep the evidence for scores over all cases.

        Raises:
            UserError: an entry gives values that are not finite.
        """
        rows, evidence = [], {}
        truth, name, subject = self.truth(case), case.case.name, case.case.subject
        for entry in map(DetectorEntry.of, entries):
            found = entry.run(case)
            if not (np.isfinite(found.map).all() and np.isfinite(found.score).all()):
                raise UserError(f"{entry.name} gives no numbers")
            evidence[entry.name] = self._evidence(found, case, truth)
            scores = self._scores(found, case, truth, entry)
            rows.append(Row(name, subject, (0, case.shape[0]), entry.name, scores))
            advance()
        # Evidence is kept only once all entries are scored: a case on which one of them fails is left out for all.
        for entry in map(DetectorEntry.of, entries):
            entry.evidence[name] = evidence[entry.name]
        return rows

    def _evidence(self, found: Found, case: Sample, truth: Mask | None) -> Evidence:
        tissue = self.task.tissue_in(case, 0, case.shape[0])
        inside = np.flatnonzero(tissue) if truth is not None else np.zeros(0, np.intp)
        some = inside[np.linspace(0, len(inside) - 1, min(len(inside), KEPT)).astype(int)]
        pixels, abnormal = found.map.ravel()[some], (tissue if truth is None else truth).ravel()[some]
        scores, images = scored_images(self.task, case, found.score)
        highest = float(scores.max()) if len(scores) else -np.inf
        if self.task.image_truth(case, len(found.score) != case.shape[0]) is None:
            scores, images = scores[:0], images[:0]
        return Evidence(case.case.subject, scores, images, highest, pixels, abnormal)

    def _scores(self, found: Found, case: Sample, truth: Mask | None, detector: DetectorEntry) -> dict[str, float]:
        sample = self._scaled(case)
        image, tissue = sample[IMAGE], sample[TISSUE] > 0
        scores: dict[str, float] = {}
        if truth is not None and 0 < truth.sum() < tissue.sum():
            curve = roc_curve(found.map, truth, tissue)
            output = {MAP: found.map, HEALTHY: found.healthy, SCORE: found.score}
            whole = self.task.scores(output, sample, case.spacing)
            scores |= {name: whole[name] for name in (PIXEL_AUC, NCC) if name in whole}
            scores |= {PRECISION: curve.average_precision, BEST_DICE: curve.best_dice()[1]}
        if truth is not None and detector.calibration:
            called = abnormal_voxels(self.task.refinement, found.map, tissue, detector.calibration.pixel)
            scores |= _at_threshold(called, truth, tissue)
        if truth is not None and detector.rebuilds and (tissue & ~truth).any():
            scores[RESIDUAL] = float(np.abs(found.healthy - image)[tissue & ~truth].mean())
        if HEALTHY in sample and tissue.any():
            scores[HEALTHY_ERROR] = float(np.abs(found.healthy - sample[HEALTHY])[tissue].mean())
        return scores

    def images(self, entries: Sequence[Entry], case: Sample) -> Mapping[str, Image]:
        """Return image, maps and healthy images on the scale of the maps, voxels called abnormal, and the true ones."""
        affine, truth = case.affines[case.first], self.truth(case)
        found: dict[str, NDArray[Any]] = {"image": self._scaled(case)[IMAGE]}
        for detector in map(DetectorEntry.of, entries):
            finding = self._finding(detector, case)
            found[f"{detector.name} map"] = finding.map
            if detector.rebuilds:
                found[f"{detector.name} healthy"] = finding.healthy
            if finding.called is not None:
                found[f"{detector.name} called abnormal"] = finding.called.astype(np.uint8)
        if truth is not None:
            found["truth"] = truth.astype(np.uint8)
        return {name: Image(values[None], affine) for name, values in found.items()}

    def score_all(self, entries: Sequence[Entry], cases: Sequence[Sample], training: Sequence[Sample]) -> list[Row]:
        """Compute the image AUC of every entry, as one value per subject whose mean is the area."""
        names = {case.case.subject: case.case.name for case in reversed(cases)}
        rows = []
        for entry in map(DetectorEntry.of, entries):
            evidence = [entry.evidence[case.case.name] for case in cases]
            areas = jackknifed_areas(
                np.concatenate([case.scores for case in evidence]),
                np.concatenate([case.abnormal for case in evidence]),
                [case.subject for case in evidence for _ in case.scores],
            )
            rows += [
                Row(names[subject], subject, (0, 0), entry.name, {IMAGE_AUC: value}) for subject, value in areas.items()
            ]
        return rows

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether the output is better than the strongest baseline, by how much, and its Dice."""
        scores, reference = judgement.scores, self._reference(judgement)
        name = PIXEL_AUC if scores.interval(OUTPUT, PIXEL_AUC) else IMAGE_AUC
        found = scores.compare(OUTPUT, reference, self.named(name))
        if found is None:
            words = "Nothing can be said: no image has a mask, and all of them are healthy, or all are abnormal."
            if not any(map(self._known, judgement.cases)):
                words = "Nothing can be said: no case has a mask or a label, so nobody knows what is abnormal in them."
            return words, "undecided"
        relation = {
            "better": f"The method tells what is abnormal better than {self.called(reference)}",
            "worse": f"{title(self.called(reference))} tells what is abnormal better than the method",
            "undecided": f"The method cannot be told from {self.called(reference)}",
        }[found.outcome]
        by_case = name == PIXEL_AUC
        ours, theirs = (self._areas(scores.interval(one, name)) for one in (OUTPUT, reference))
        told = f"{relation}: {_capital(name)} {ours} against {theirs}"
        if few := found.difference.few:
            told = f"{few} {title(_capital(name))} is {ours} for the method and {theirs} for {self.called(reference)}"
        words = sentences(
            f"{told}, difference {limits(found.difference, signed=True)}"
            # Jackknife values of single subjects are no areas, so it means nothing whose is larger.
            + (improved(found) if by_case else "."),
            *([self._images_in_words(judgement), self._dice_in_words(judgement)] if by_case else []),
        )
        return words, found.outcome

    @staticmethod
    def _reference(judgement: Judgement) -> str:
        return judgement.reference if judgement.reference in judgement.baselines else INTENSITY

    def _known(self, case: Sample) -> bool:
        """Whether anything is known about what is abnormal in a case."""
        volumes = len(self.task.size) == 3 and not self.task.patches
        return self.task.truth_is_known(case) or self.task.image_truth(case, volumes) is not None

    @staticmethod
    def _areas(interval: Interval | None) -> str:
        """Format an area with the limits of its interval, clipped to 0 and 1."""
        if interval is None:
            return "unknown"
        if not np.isfinite(interval.low):
            return f"{interval.mean:.3f}"
        return f"{interval.mean:.3f} ({max(interval.low, 0):.3f} to {min(interval.high, 1):.3f})"

    def _images_in_words(self, judgement: Judgement) -> str:
        scores, reference = judgement.scores, self._reference(judgement)
        found = scores.compare(OUTPUT, reference, self.named(IMAGE_AUC))
        if found is None:
            return ""
        relation = {
            "better": f"more than {self.called(reference)}",
            "worse": f"less than {self.called(reference)}",
            "undecided": f"which cannot be told from {self.called(reference)}",
        }[found.outcome]
        theirs = f"{relation} with {self._areas(scores.interval(reference, IMAGE_AUC))}"
        if found.difference.few:
            theirs = (
                f"and {self._areas(scores.interval(reference, IMAGE_AUC))} for {self.called(reference)}, difference "
                f"{limits(found.difference, signed=True)}"
            )
        abnormal = np.concatenate([case.abnormal for case in _detector(judgement, OUTPUT).evidence.values()])
        return (
            f"Image AUC {self._areas(scores.interval(OUTPUT, IMAGE_AUC))} over {count(abnormal.size, 'image')}, "
            f"{abnormal.sum()} of them abnormal, {theirs}."
        )

    def _dice_in_words(self, judgement: Judgement) -> str:
        calibration, best = _detector(judgement, OUTPUT).calibration, judgement.scores.interval(OUTPUT, BEST_DICE)
        called = judgement.scores.interval(OUTPUT, DICE)
        if calibration is None or called is None or best is None:
            return ""
        return (
            f"At the threshold that {calibration.rate:.0%} of healthy pixels reach, Dice is {called.mean:.2f}; with "
            f"each case's own best threshold it would be {best.mean:.2f}."
        )

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add strips of the best, worst and median case, ROC curves, image scores, and a table of thresholds."""
        for label, case in self._examples(judgement).items():
            report.figure(self._strip(judgement, case), self._strip_words(label, case))
        plots = {"Images": _curves(judgement, "scores", "abnormal"), "Pixels": _curves(judgement, "pixels", "truth")}
        plots = {heading: curves for heading, curves in plots.items() if curves}
        if not plots:
            return
        report.section("What is told apart")
        report.figure(
            roc_plot(plots),
            "What share of the abnormal is found, against the share of the healthy called abnormal, at all thresholds; "
            "the diagonal is guessing. Images and pixels of all subjects pooled, so the areas differ from the means "
            f"over cases in the tables. Pixels: at most {KEPT} of a case.",
        )
        if "Images" in plots:
            self._scores_figure(report, judgement)
        self._thresholds(report, judgement, plots)

    def _scores_figure(self, report: Report, judgement: Judgement) -> None:
        detector = _detector(judgement, OUTPUT)
        scores, abnormal = detector.pooled("scores", "abnormal")
        threshold = detector.calibration.image if detector.calibration else None
        report.figure(
            score_plot(scores[~abnormal].tolist(), scores[abnormal].tolist(), threshold),
            "Scores of the output's healthy and abnormal images. The less they overlap the better.",
        )

    def _thresholds(self, report: Report, judgement: Judgement, plots: Mapping[str, Mapping[str, RocCurve]]) -> None:
        calibration = _detector(judgement, OUTPUT).calibration
        rows = []
        for heading, curves in plots.items():
            curve = curves[OUTPUT]
            chosen = {"Youden's, found on these very cases": curve.youden_threshold}
            if calibration:
                own = calibration.image if heading == "Images" else calibration.pixel
                chosen = {"calibrated": own, **chosen}
            for name, threshold in chosen.items():
                point = curve.at(threshold)
                shares = (point.sensitivity, point.specificity, point.precision)
                numbers = [_share(share, heading == "Images") for share in shares]
                rows.append([f"{heading}, {name}", f"{threshold:.4g}", *numbers])
        report.table(
            rows,
            ["threshold", "value", "sensitivity", "specificity", "precision"],
            caption="Thresholds of the output, all cases pooled; images with Wilson's 95 % intervals, as if they were "
            "independent of each other.",
        )

    def _examples(self, judgement: Judgement) -> dict[str, Sample]:
        """Return the best, worst and median case by pixel AUC; without masks, by their anomaly scores."""
        ranked, labels = judgement.scores.by_case(OUTPUT, PIXEL_AUC), dict[str, str]()
        if not ranked:
            found = _detector(judgement, OUTPUT).evidence
            ranked = {name: case.highest for name, case in found.items() if np.isfinite(case.highest)}
            labels = {"Worst": "Least abnormal", "Best": "Most abnormal"}
        chosen = examples(judgement, ranked, ("Best", "Worst", "Median"))
        return {labels.get(label, label): case for label, case in chosen.items()}

    def _strip(self, judgement: Judgement, case: Sample) -> Illustration:
        image, plane = self._scaled(case)[IMAGE], self._plane(case)
        detectors = [one for one in map(DetectorEntry.of, judgement.entries) if one.rebuilds]
        return finding_strip(
            image,
            self.truth(case),
            {detector.name: self._finding(detector, case) for detector in detectors},
            plane,
            window=tissue_window(image[plane], self.task.shown),
            spacing_mm=case.spacing[1:],
            grounds=Grounds.of(case),
        )

    def _finding(self, detector: DetectorEntry, case: Sample) -> Finding:
        found, called = detector.run(case), None
        if detector.calibration:
            tissue = self.task.tissue_in(case, 0, case.shape[0])
            called = abnormal_voxels(self.task.refinement, found.map, tissue, detector.calibration.pixel)
        return Finding(found.healthy, found.map, called)

    def _plane(self, case: Sample) -> int:
        """Return the index of the slice with the largest lesion area, or else with the most to see."""
        truth = self.truth(case)
        if truth is None or not truth.any():
            return most_to_see(case)
        areas = truth.sum(axis=(1, 2))
        largest = np.flatnonzero(areas == areas.max())
        return int(largest[len(largest) // 2])

    def _strip_words(self, label: str, case: Sample) -> str:
        return (
            f"{label} case: {case.case.name}, slice {self._plane(case) + 1} of {case.shape[0]}. The healthy image is "
            "what the method makes of it without anomaly; the map, bright where abnormal, has a scale of its own in "
            "every row. A good method calls abnormal what the truth shows, and nothing else."
        )

    def measured(self) -> dict[str, str]:
        """Describe which pixels, images and lesions count."""
        return {
            "Pixels": "of tissue, after post-processing of the whole case; others do not count",
            "Images": "slices that show tissue, or whole cases where volumes are seen; abnormal where their mask is "
            "not empty, without masks where the case's label says so; a label alone does not tell of single slices of "
            "an abnormal case, and without both nobody knows",
            "Lesions": "connected components, corners connect; found where any voxel of them is called abnormal",
            "Image AUC": "over all images; its interval from jackknife values of the subjects (Hanley and "
            "Hajian-Tilaki, doi:10.1016/S1076-6332(97)80161-4), whose ranks, counts and Wilcoxon tests mean nothing",
        }

    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on the data behind the thresholds, on phantoms, and on the baseline of brightness."""
        points = []
        calibration = _detector(judgement, OUTPUT).calibration
        if calibration:
            points.append(
                f"The thresholds rest on {count(calibration.images, 'healthy image')} of "
                f"{count(calibration.subjects, 'subject')} ({calibration.source}) and {calibration.pixels} pixels; "
                f"another scanner moves the {calibration.rate:.0%} of false alarms that they allow. "
                f"{unseen(calibration)}"
            )
        else:
            points.append("These weights have no calibrated thresholds, so nothing is said about findings as such.")
        if strange := [case for case in judgement.cases if not self._known(case)]:
            points.append(
                f"{len(strange)} of {count(len(judgement.cases), 'case')} {'has' if len(strange) == 1 else 'have'} "
                "neither mask nor label, so nobody knows what is abnormal there: no rate counts them."
            )
        return [
            *points,
            *phantoms(judgement.cases),
            "Where brightness alone does as well, nothing was learned about health: bright lesions need no network.",
        ]


def unseen(calibration: Calibration) -> str:
    """Return a sentence on the share of false alarms on data that the thresholds were not found on."""
    shares = (calibration.unseen_pixels, calibration.unseen_images)
    if None in shares or not calibration.parts:
        return "They were found on a single part of the data, so what they reach on other data is not known."
    pixels, images = (f"{share:.1%}" for share in shares)
    return (
        f"On data that a threshold was not found on, {pixels} of the healthy pixels and {images} of the healthy images "
        f"reach it (cross-validation over {calibration.parts})."
    )


def _at_threshold(called: Mask, truth: Mask, tissue: Mask) -> dict[str, float]:
    """Score a thresholded map against the truth; all (slices, rows, columns)."""
    lesions = detect_lesions(called, truth)
    scores = {ALARMS: float(lesions.false_positives)}
    if (healthy := tissue & ~truth).any():
        scores[SPECIFICITY] = 1 - float(called[healthy].mean())
    if truth.any():
        scores |= {DICE: dice(called, truth), SENSITIVITY: float(called[truth].mean())}
        scores[LESIONS] = lesions.sensitivity.value
    return scores


def jackknifed_areas(
    scores: NDArray[np.float32], abnormal: NDArray[np.bool_], subjects: Sequence[str]
) -> dict[str, float]:
    """Compute jackknife values of subjects whose mean is the area under the ROC curve of all images.

    The contribution of a subject is found by leaving it out. The values vary like independent ones, so that intervals
    and paired comparisons over subjects are valid for the area, however many images a subject has.

    Source: Hanley & Hajian-Tilaki, Acad. Radiol. 4(1):49-58, 1997. doi:10.1016/S1076-6332(97)80161-4. Our values are
    shifted by a constant, such that their mean is the area and not its bias-corrected estimate.

    Args:
        scores: anomaly scores of all images, (n,).
        abnormal: which images are abnormal, (n,).
        subjects: subject of every image.

    Returns:
        Subject to value: empty where all images are healthy or all are abnormal, and NaN for a subject without whom
        only one of both kinds is left.
    """
    if abnormal.all() or not abnormal.any():
        return {}
    owner = np.array(subjects)
    names, area = list(dict.fromkeys(subjects)), auc(scores, abnormal)
    if len(names) == 1:
        return {names[0]: area}
    without = np.array([auc(scores[owner != name], abnormal[owner != name]) for name in names])
    if np.isnan(without).all():
        return dict.fromkeys(names, area)
    values = area + (len(names) - 1) * (np.nanmean(without) - without)
    return dict(zip(names, values.tolist(), strict=True))


def _detector(judgement: Judgement, name: str) -> DetectorEntry:
    return DetectorEntry.of(next(one for one in judgement.entries if one.name == name))


def _curves(judgement: Judgement, values: str, labels: str) -> dict[str, RocCurve]:
    """Return the ROC curve of every entry, but not of those without both healthy and abnormal images or pixels."""
    pooled = {one.name: DetectorEntry.of(one).pooled(values, labels) for one in judgement.entries}
    return {name: roc_curve(*found) for name, found in pooled.items() if found[1].any() and not found[1].all()}


def _share(share: Proportion, independent: bool) -> str:
    if not share.total:
        return "–"
    low, high = share.interval
    return f"{share.value:.3f}" + (f" ({low:.2f} to {high:.2f})" if independent else "")


def _capital(name: str) -> str:
    """Return the name of a score as it is written at the beginning of a sentence."""
    return name.replace("auc", "AUC")
