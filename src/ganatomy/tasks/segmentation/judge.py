"""The judge of segmentation: scores of whole cases by region, with the best intensity threshold as the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ganatomy.case import Array, Sample, Volume, slab
from ganatomy.errors import UserError
from ganatomy.evaluation.illustrations import Grounds, caption, examples
from ganatomy.evaluation.judging import OUTPUT, Classical, Entry, Judge, Judgement, Row, Score, about, limits
from ganatomy.evaluation.remarks import against, improved, phantoms, sentences
from ganatomy.images.image import Image
from ganatomy.inference.model import Model
from ganatomy.inference.predictor import Options
from ganatomy.metrics.detection import LesionDetection, detect_lesions
from ganatomy.metrics.metric import Mask
from ganatomy.metrics.ranking import Ranking
from ganatomy.metrics.segmentation import RegionScores, score_region
from ganatomy.metrics.statistics import bland_altman, count, significant_digits
from ganatomy.reports.report import Column, Outcome, Report
from ganatomy.reports.style import minus
from ganatomy.reports.viewer import Illustration, Stack, kept_slices
from ganatomy.tasks.segmentation.measures import Measure
from ganatomy.tasks.segmentation.pictures import outline_stack, outline_strip, volume_plot
from ganatomy.tasks.segmentation.predictor import PROBABILITIES
from ganatomy.tasks.segmentation.ridges import RidgeFilter, frangi_filter
from ganatomy.tasks.segmentation.task import Compared, Segmentation

THRESHOLD = "threshold"
"""Name of the baseline that needs no network."""
OBSERVER = "second observer"
DICE, IOU, SENSITIVITY, PRECISION, SPECIFICITY = "dice", "iou", "sensitivity", "precision", "specificity"
HD95, DISTANCE, WITHIN, VOLUME = "hd95", "surface distance", "surface dice", "volume error"
COMPONENTS, COMPONENT_ERROR = "components", "component error"
COMPONENT_SENSITIVITY, COMPONENT_PRECISION = "component sensitivity", "component precision"
ROC, PRECISION_RECALL = "roc area", "precision-recall area"
SIZE, TRUE_SIZE, ONE_SIDED, TRUE_COMPONENTS = "size", "true size", "one is empty", "true components"
"""Further numbers of a region: sizes in ml, whether one of prediction and truth alone is empty, true components."""
BINS = 512
"""Number of thresholds that are tried, evenly spaced over the range of an input."""
FITTED = 40
"""Largest number of training cases that thresholds are fitted on, evenly chosen."""
SHOWN = 3
"""Largest number of inputs that are drawn beside the outlines."""

EMPTY = "1 where a region is neither there nor found, 0 where only one of the two"
FAR = "0 where a region is neither there nor found; as far as the image's corners are apart where only one of the two"
RANKED = "of the voxels of a case ranked by probability (by brightness for thresholds)"
OVERLAP, SURFACE, VOXELS, PIECES = "Overlap", "Surfaces and size", "Voxels by probability", "Components"
CONNECTED = "connected components, in which voxels have 26 neighbours (8 in a single slice)"
"""Headings of the tables of a region's scores."""
KINDS = (
    Score(DICE, "higher", "", f"2 TP / (2 TP + FP + FN) of all voxels of a case; {EMPTY}.", OVERLAP, 3),
    Score(IOU, "higher", "", f"TP / (TP + FP + FN); {EMPTY}.", OVERLAP, 3),
    Score(SENSITIVITY, "higher", "", f"TP / (TP + FN); {EMPTY}.", OVERLAP, 3),
    Score(PRECISION, "higher", "", f"TP / (TP + FP); {EMPTY}.", OVERLAP, 3),
    Score(SPECIFICITY, "higher", "", "TN / (TN + FP); near 1 wherever regions are small.", OVERLAP, 3),
    Score(HD95, "lower", "mm", f"95th percentile of surface distances, the worse of both directions; {FAR}.", SURFACE),
    Score(DISTANCE, "lower", "mm", f"Average symmetric surface distance; {FAR}.", SURFACE),
    Score(WITHIN, "higher", "", "Share of both surfaces within the tolerance of the other one.", SURFACE, 3),
    Score(VOLUME, "lower", "ml", "Size found less the true size, without sign; slices as thick as spaced.", SURFACE),
    Score(ROC, "higher", "", f"Area under the ROC curve {RANKED}.", VOXELS, 3),
    Score(PRECISION_RECALL, "higher", "", f"Area under the precision-recall curve {RANKED}, by trapezoids.", VOXELS, 3),
)
"""Scores of a region, and of the mean over regions."""
COMPONENT_KINDS = (
    Score(
        COMPONENT_SENSITIVITY, "higher", "", f"Share of the true {CONNECTED}, such as lesions, of which any voxel is "
        f"found; {EMPTY}.", PIECES, 3,
    ),
    Score(
        COMPONENT_PRECISION, "higher", "", f"Share of the components found that touch the true region; {EMPTY}.",
        PIECES, 3,
    ),
    Score(COMPONENTS, None, "", "Number of components found; many small ones are speckle.", PIECES, 1),
    Score(
        COMPONENT_ERROR, "lower", "", "Number of components found less that of the true ones, without sign; 0 where "
        "there are none at all.", PIECES, 1,
    ),
)  # fmt: skip
"""Scores of the connected components of a region, which are lesions in many maps."""


class JudgeOptions(Options):
    """Options of the judge of segmentation."""

    tolerance: float = Field(1.0, gt=0)  # mm within which surfaces agree, for the surface Dice


@dataclass(frozen=True)
class Segmented(Entry):
    """An entry that makes masks of the judged regions, (regions, slices, rows, columns), from a case and its slices.

    Args:
        ranks: function of the same arguments that returns region to scores in [0, 1], (slices, rows, columns), by which
            its voxels are ranked; None where there are none.
    """

    ranks: Callable[[Sample, int, int], Mapping[str, Volume]] | None = None


@dataclass(frozen=True)
class Threshold:
    """A region defined as all voxels brighter, or darker, than a level of one input.

    Attributes:
        role: role of the input.
        level: level in the range of the networks, in which volumes are comparable.
        brighter: whether the region is brighter than the level, not darker.
        dice: mean Dice over the training cases.
    """

    role: str
    level: float
    brighter: bool
    dice: float

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return the mask of the region for an encoded input."""
        return image >= self.level if self.brighter else image < self.level

    def __str__(self) -> str:
        return f"{self.role} {'≥' if self.brighter else '<'} {self.level:.2f}"


class SegmentationJudge(Judge):
    """Judges label maps on the working grid, each case as a whole.

    The baseline is the best single threshold of one input for each region, fitted on the training cases.

    Args:
        task: task of the run.
        options: options of the class ``Options``; None means its defaults.
    """

    Options = JudgeOptions

    leading: ClassVar[tuple[str, ...]] = (DICE, SENSITIVITY, PRECISION, HD95)
    plotted: ClassVar[tuple[str, ...]] = (DICE, HD95)
    reference = THRESHOLD
    compares_with_training = True
    keeps_images = True
    kinds: ClassVar[tuple[Score, ...]] = (*KINDS, *COMPONENT_KINDS)
    """Scores of a region."""
    decisive: ClassVar[str] = DICE
    decisive_words: ClassVar[str] = "Dice"
    """Words for the score of the verdict in sentences."""
    agrees: ClassVar[Mapping[Outcome, str]] = {
        "better": "agrees better with the annotation than {}",
        "worse": "agrees less with the annotation than {}",
        "undecided": "cannot be told from {} by its agreement with the annotation",
    }
    """Outcome to the relation between the output and the reference in words."""

    def __init__(self, task: Segmentation, options: Any = None):
        super().__init__(task, options)
        self.regions = task.judged.names
        several = self.regions if len(self.regions) > 1 else ()
        means = [_grouped(score, "Mean over regions" if several else "") for score in self.kinds]
        self.scores: tuple[Score, ...] = (
            *means,
            *(_grouped(score, region, f"{score.name} {region}") for region in several for score in self.kinds),
            *(measure_score(measure) for measure in task.measures),
        )
        self._measures: dict[tuple[str, str], Mapping[str, tuple[float, float]]] = {}
        self.thresholds: dict[str, Threshold] = {}
        self._training: list[Sample] = []
        self.rankings: dict[tuple[str, str, str], Ranking] = {}
        """Ranked voxels by entry, region and case."""

    def entry(self, model: Model, name: str) -> Entry:
        """Return a trained run as an entry, which makes masks (regions, slices, rows, columns) of the judged regions.

        Raises:
            UserError: the run has other regions than those that are judged.
        """
        predictor, task = model.predictor(), self.task
        if model.method.task.judged.regions != task.judged.regions:
            raise UserError(
                f"{model.folder}: has the regions {', '.join(model.method.task.judged.names)}, but "
                f"{', '.join(self.regions)} are judged"
            )
        kept: list[Any] = [None, None]

        def predicted(case: Sample) -> Mapping[str, Array]:
            if kept[0] is not case:
                kept[:] = case, predictor.predict(case)
            return kept[1].arrays  # type: ignore[no-any-return]

        def ranks(case: Sample, start: int, stop: int) -> Mapping[str, Volume]:
            found = slab(predicted(case)[PROBABILITIES], start, stop)
            return model.method.task.ranked(found)  # type: ignore[no-any-return]

        run = self.run_of(lambda case: predicted(case)[model.method.task.labels], model)
        return Segmented(name, run, about(model), ranks)

    def run_of(self, labels: Callable[[Sample], Array], model: Model) -> Callable[..., NDArray[np.bool_]]:
        """Return the function of an entry that makes masks of the judged regions.

        Args:
            labels: function of a case that returns the label map of the trained run.
            model: trained run.
        """
        return lambda case, start, stop: self.task.inside(slab(labels(case), start, stop)[0])

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the baseline of thresholds, and the second observer where the data have one."""
        words = "the best single threshold of one input for each region, fitted on the training cases"
        before = [Segmented(THRESHOLD, self._threshold, words, self._brightness)]
        observer = self.task.config.observer
        return before, [Entry(OBSERVER, self._observer, f"label maps called {observer}")] if observer else []

    def learn(self, training: Sequence[Sample]) -> None:
        """Fit the thresholds; without training cases there is no baseline."""
        self._training = usable = [case for case in training if self.task.labels in case.arrays]
        if not usable:
            return
        places = np.unique(np.linspace(0, len(usable) - 1, min(len(usable), FITTED)).astype(int))
        self.thresholds = fit_thresholds(self.task, [usable[place] for place in places])

    def classical(self) -> Sequence[Classical]:
        """Return Frangi's filter where the region consists of thin lines; called after `learn`."""
        if not (self.task.config.lines and self._training):
            return ()
        return [frangi_filter(self.task, self._training, _of_ridges)]

    def _threshold(self, case: Sample, start: int, stop: int) -> NDArray[np.bool_]:
        images = {role: encoded_input(case, role, start, stop) for role in self.task.inputs}
        return np.stack([self.thresholds[region](images[self.thresholds[region].role]) for region in self.regions])

    def _brightness(self, case: Sample, start: int, stop: int) -> dict[str, Volume]:
        found = {}
        for region, threshold in self.thresholds.items():
            image = encoded_input(case, threshold.role, start, stop).clip(0, 1)
            found[region] = image if threshold.brighter else 1 - image
        return found

    def _observer(self, case: Sample, start: int, stop: int) -> NDArray[np.bool_]:
        labels = slab(case.arrays[self.task.config.observer], start, stop)
        return self.task.inside(labels[0])  # type: ignore[no-any-return]

    def images(self, entries: Sequence[Entry], case: Sample) -> Mapping[str, Image]:
        """Return the mask of every region by every entry, and the true ones."""
        whole, affine = case.shape[0], case.affines[case.first]
        masks = {entry.name: entry.run(case, 0, whole) for entry in entries if self._exists(entry, case)}
        masks["truth"] = self.task.inside(self.task.annotation(case, 0, whole)[self.task.labels])
        return {
            f"{name} {region}" if len(self.regions) > 1 else name: Image(mask[None].astype(np.uint8), affine)
            for name, found in masks.items()
            for region, mask in zip(self.regions, found, strict=True)
        }

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry on a whole case.

        Raises:
            UserError: the case has no label map.
        """
        if self.task.labels not in case.arrays:
            raise UserError(f"{case.case.name}: no label map {self.task.labels} to compare with")
        whole, rows = case.shape[0], []
        annotation = self.task.annotation(case, 0, whole)
        for entry in entries:
            advance()
            if not self._exists(entry, case):
                continue
            parts = self.task.compared(entry.run(case, 0, whole), annotation)
            found = {
                region: score_region(part.found, part.true, case.spacing, part.known) for region, part in parts.items()
            }
            numbers = self._numbers(found, case, self._ranked(entry, case, parts), self._pieces(parts))
            scores = numbers | self._of_case(entry, case, parts)
            rows.append(Row(case.case.name, case.case.subject, (0, whole), entry.name, scores))
        return rows

    def _of_case(self, entry: Entry, case: Sample, parts: Mapping[str, Compared]) -> dict[str, float]:
        """Return the measures of a case with their errors; those of a whole subject are kept for `score_all`."""
        found = {name: part.found & part.known for name, part in parts.items()}
        true = {name: part.true & part.known for name, part in parts.items()}
        there = [one for one in self.task.measures if set(one.regions) <= set(parts)]
        numbers = {one.name: (one(found, case.spacing), one(true, case.spacing)) for one in there}
        self._measures[entry.name, case.case.name] = numbers
        own = [one for one in there if one.over is None]
        return {name: value for one in own for name, value in measure_numbers(one, *numbers[one.name]).items()}

    def score_all(self, entries: Sequence[Entry], cases: Sequence[Sample], training: Sequence[Sample]) -> list[Row]:
        """Score the measures of whole subjects, such as the ejection fraction; a row for each subject."""
        subjects: dict[str, list[Sample]] = {}
        for case in cases:
            subjects.setdefault(case.case.subject, []).append(case)
        rows = []
        for entry in entries:
            for subject, own in subjects.items():
                kept = [self._measures.get((entry.name, case.case.name), {}) for case in own]
                if scores := self._of_subject(kept):
                    rows.append(Row(own[0].case.name, subject, (0, own[0].shape[0]), entry.name, scores))
        return rows

    def _of_subject(self, cases: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
        """Return the measures of a subject from those of its cases, in the prediction and in the truth."""
        scores: dict[str, float] = {}
        for measure in self.task.measures:
            pairs = [numbers[measure.name] for numbers in cases if measure.name in numbers]
            if measure.over is not None and pairs:
                found, true = (measure.over([pair[at] for pair in pairs]) for at in (0, 1))
                scores |= measure_numbers(measure, found, true)
        return scores

    def _pieces(self, parts: Mapping[str, Compared]) -> dict[str, dict[str, float]]:
        """Return the scores of the components of every region."""
        return {
            region: component_numbers(detect_lesions(part.found & part.known, part.true & part.known))
            for region, part in parts.items()
        }

    def _ranked(self, entry: Entry, case: Sample, parts: Mapping[str, Compared]) -> dict[str, Ranking]:
        """Return the ranked voxels of a case for every region that the entry has scores for, and keep them."""
        if not isinstance(entry, Segmented) or entry.ranks is None:
            return {}
        ranks = entry.ranks(case, 0, case.shape[0])
        found = {
            region: Ranking.of(ranks[region], part.true, part.known)
            for region, part in parts.items()
            if region in ranks
        }
        self.rankings |= {(entry.name, region, case.case.name): ranking for region, ranking in found.items()}
        return found

    def _exists(self, entry: Entry, case: Sample) -> bool:
        """Whether an entry exists for a case."""
        if entry.name == THRESHOLD:
            return bool(self.thresholds)
        return entry.name != OBSERVER or self.task.config.observer in case.arrays

    def _numbers(
        self,
        found: Mapping[str, RegionScores],
        case: Sample,
        ranked: Mapping[str, Ranking],
        pieces: Mapping[str, Mapping[str, float]],
    ) -> dict[str, float]:
        """Return the scores of a case by name: means over the regions first, then each region with its sizes.

        Scores that a region does not have, such as areas under curves where it is empty, are left out of its means.
        """
        corners = float(np.linalg.norm([step * extent for step, extent in zip(case.spacing, case.shape, strict=True)]))
        tolerance = self.options.tolerance
        each = {
            region: {**region_numbers(one, corners, tolerance, ranked.get(region)), **pieces.get(region, {})}
            for region, one in found.items()
        }
        having = {kind.name: [own[kind.name] for own in each.values() if kind.name in own] for kind in self.kinds}
        means = {name: float(np.mean(values)) for name, values in having.items() if values}
        return means | {self._of(region, name): value for region, own in each.items() for name, value in own.items()}

    def _of(self, region: str, name: str) -> str:
        """Return the name of a score of a region, which for a single region is that of the mean."""
        return f"{name} {region}" if len(self.regions) > 1 else name

    def called(self, name: str) -> str:
        return "thresholds" if name == THRESHOLD else super().called(name)

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether the output is better than the strongest reference, by how much, and than other baselines."""
        scores, score, called = judgement.scores, self.named(self.decisive), self.decisive_words
        reference = judgement.reference if judgement.reference in judgement.baselines else THRESHOLD
        found, ours, theirs = (
            scores.compare(OUTPUT, reference, score),
            *(scores.interval(name, self.decisive) for name in (OUTPUT, reference)),
        )
        assert ours is not None
        others = [name for name in judgement.baselines if name != reference]
        baselines = list(against(judgement, others, score, called))
        if found is None or theirs is None:
            alone = f"{called} {limits(ours)}; without training cases at hand there is no threshold to compare with."
            return sentences(alone, *baselines), "undecided"
        relation = self.agrees[found.outcome].format(self.called(reference))
        told = f"The output {relation}: {called} {ours.mean:.3f} against {theirs.mean:.3f}{improved(found)}"
        if few := found.difference.few:
            told = (
                f"{few} {called} with the annotation is {ours.mean:.3f} for the output and {theirs.mean:.3f} for "
                f"{self.called(reference)}, difference {limits(found.difference, signed=True)}{improved(found)}"
            )
        return sentences(told, *baselines), found.outcome

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add the worst slices of the worst, the median and the best case, and the sizes of all cases."""
        for label, case in self.examples(judgement).items():
            plane = self._worst_slice(case, judgement)
            report.figure(
                self._strip(case, plane, judgement),
                f"{caption(label, case, judgement, self.decisive_words, plane).rstrip('.')}, the one with the most "
                "wrong voxels. Coloured lines are regions, drawn over the first image; below, magnified, black lines "
                "are the truth. Scores are those of the whole case.",
            )
        self._pool(report, judgement)
        report.section("Sizes")
        sizes = {region: self._sizes(region, judgement) for region in self.regions}
        report.figure(
            volume_plot(sizes),
            "Size of each region against its true size, one point a case. Points above the dashed line are too large.",
        )
        rows = [
            [f"{method}: {region}", *_agreement(*found)]
            for region, methods in sizes.items()
            for method, found in methods.items()
        ]
        report.table(
            rows,
            [Column("region"), Column("bias", "ml"), Column("95 % limits of agreement", "ml")],
            caption="Size found less the true size over cases (Bland and Altman): the mean, and limits that hold 95 % "
            "of the differences.",
        )

        if measures := [row for one in self.task.measures for row in self._agreement_of(one, judgement)]:
            report.table(
                measures,
                [Column("measure"), Column("bias"), Column("95 % limits of agreement")],
                caption="Measure of the prediction less that of the truth over cases (Bland and Altman).",
            )

    def _agreement_of(self, measure: Measure, judgement: Judgement) -> list[list[str]]:
        """Return a row for each method: how a measure agrees with that of the truth."""
        scores, rows = judgement.scores, []
        for method in scores.methods:
            pair = [list(scores.by_case(method, name).values()) for name in (measure.name, f"true {measure.name}")]
            if pair[0]:
                unit = f", {measure.unit}" if measure.unit else ""
                rows.append([f"{method}: {measure.name}{unit}", *_agreement(*pair)])
        return rows

    def _pool(self, report: Report, judgement: Judgement) -> None:
        """Add areas under curves of the voxels of all cases together, as papers on retinal vessels state them."""
        rows = []
        for entry in judgement.entries:
            for region in self.regions:
                keys = [(entry.name, region, case.case.name) for case in judgement.cases]
                found = [self.rankings[key] for key in keys if key in self.rankings]
                if not found:
                    continue
                pooled = sum(found[1:], found[0])
                level, dice = pooled.curve.best_dice() if pooled.inside.any() else (math.nan, math.nan)
                areas = (pooled.roc_area, pooled.precision_recall_area, dice, level)
                rows.append([f"{entry.name}: {region}", *(f"{value:.3f}" for value in areas)])
        if not rows:
            return
        report.section("Voxels of all cases pooled")
        report.table(
            rows,
            [
                Column("entry"),
                Column("ROC area"),
                Column("precision-recall area"),
                Column("largest Dice"),
                Column("at"),
            ],
            caption="Voxels of known label of all cases together, ranked by probability; precision-recall areas "
            "by trapezoids. The largest Dice over all levels is optimistic: its level is chosen on these cases.",
        )

    def examples(self, judgement: Judgement) -> dict[str, Sample]:
        """Return the worst, median and best case of the output by the score of the verdict, each once."""
        return examples(judgement, judgement.scores.by_case(OUTPUT, self.decisive), ("Worst", "Median", "Best"))

    def _worst_slice(self, case: Sample, judgement: Judgement) -> int:
        """Return the slice with the most wrong voxels of the output; ties go to the largest true regions."""
        entry = next(one for one in judgement.entries if one.name == OUTPUT)
        wrong = []
        for plane in range(case.shape[0]):
            found = entry.run(case, plane, plane + 1)
            parts = self.task.compared(found, self.task.annotation(case, plane, plane + 1)).values()
            errors = sum(int(((part.found != part.true) & part.known).sum()) for part in parts)
            wrong.append((errors, sum(int(part.true.sum()) for part in parts)))
        return max(range(len(wrong)), key=lambda plane: wrong[plane])

    def _strip(self, case: Sample, plane: int, judgement: Judgement) -> Illustration:
        images = {role: image[0] for role, image in self._shown_inputs(case, plane).items()}
        entries = [entry for entry in judgement.entries if self._exists(entry, case)]
        found = {entry.name: self._named(self.drawn(entry, case, plane, plane + 1)) for entry in entries}
        ranked = {name: judgement.scores.by_case(name, self.decisive).get(case.case.name) for name in found}
        notes = {name: f"{self.decisive_words} {value:.3f}" for name, value in ranked.items() if value is not None}
        figure = outline_strip(images, self._true(case, plane), found, spacing_mm=case.spacing[1:], notes=notes)

        def stack() -> Stack:
            total, rows, columns = case.shape
            kept = kept_slices(total, plane, len(images) * rows * columns, (rows, columns))
            shown = [self._shown_inputs(case, number) for number in kept.numbers]
            true = [self._true(case, number) for number in kept.numbers]
            return outline_stack(
                {role: [one[role][0] for one in shown] for role in images},
                {region: [one[region] for one in true] for region in self.regions},
                {entry.name: self._masks(entry, case, kept.numbers) for entry in entries},
                kept,
                total,
                plane,
                spacing_mm=case.spacing[1:],
                grounds=Grounds.of(case),
                notes=notes,
            )

        return Illustration(figure, stack)

    def _true(self, case: Sample, plane: int) -> dict[str, Mask]:
        return self._named(self.task.inside(self.task.annotation(case, plane, plane + 1)[self.task.labels]))

    def drawn(self, entry: Entry, case: Sample, start: int, stop: int) -> NDArray[np.bool_]:
        """Return the masks of an entry that are outlined in pictures, (regions, slices, rows, columns)."""
        return np.asarray(entry.run(case, start, stop))

    def _masks(self, entry: Entry, case: Sample, kept: Sequence[int]) -> dict[str, list[Mask]]:
        """Return the masks of an entry in some slices, by region."""
        found = [self._named(self.drawn(entry, case, number, number + 1)) for number in kept]
        return {region: [one[region] for one in found] for region in self.regions}

    def _shown_inputs(self, case: Sample, plane: int) -> dict[str, Volume]:
        """Return the inputs to draw: those of the thresholds first, `SHOWN` at most."""
        chosen = dict.fromkeys([*(one.role for one in self.thresholds.values()), *self.task.inputs])
        roles = case.slices(plane, plane + 1)
        return {role: roles[role] for role in [role for role in chosen if role in roles][:SHOWN]}

    def _named(self, masks: NDArray[np.bool_]) -> dict[str, Mask]:
        return {region: mask[0] for region, mask in zip(self.regions, masks, strict=True)}

    def _sizes(self, region: str, judgement: Judgement) -> dict[str, tuple[list[float], list[float]]]:
        """Return method to predicted and true sizes of a region in ml, in the same order of cases."""
        scores, found = judgement.scores, {}
        for method in scores.methods:
            ours, true = (list(scores.by_case(method, self._of(region, name)).values()) for name in (SIZE, TRUE_SIZE))
            if ours:
                found[method] = (ours, true)
        return found

    def measured(self) -> dict[str, str]:
        """Describe the regions, the grid, scores of empty regions, and the thresholds."""
        task = self.task
        regions = {name: " ".join(str(label) for label in labels) for name, labels in task.judged.regions.items()}
        grid = task.preparation
        spacing = " x ".join(f"{step:g}" for step in grid.spacing) + " mm" if grid.spacing else "each volume's own"
        return {
            "Regions": "; ".join(f"{name}: labels {labels}" for name, labels in regions.items()),
            "Grid": f"the working grid, {grid.plane} slices, spacing {spacing}; distances and sizes are taken there",
            "Mask": f"voxels inside {task.config.field_of_view} only, where a case has it"
            if task.config.field_of_view
            else "none: every voxel counts that is not of unknown label",
            "Surface Dice": f"share of surface voxels within {self.options.tolerance:g} mm (--tolerance)",
            "Empty regions": f"overlaps are {EMPTY}; distances are {FAR}",
            "Thresholds": "; ".join(
                f"{region}: {one} (Dice {one.dice:.3f} in training)" for region, one in self.thresholds.items()
            )
            or "none, since no training case is at hand",
            "Libraries": "surface distances by SciPy's exact Euclidean distance transform, since MONAI knows no voxels "
            "of unknown label; percentiles and surface Dice are defined as there",
            "Unit of scoring": "whole cases, averaged over each subject",
        }

    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on phantoms, on empty or missed regions, and on the limits of overlap."""
        points = phantoms(judgement.cases, ", whose borders are known exactly")
        scores = judgement.scores
        for region in self.regions:
            true = list(scores.by_case(OUTPUT, self._of(region, TRUE_SIZE)).values())
            if empty := sum(not size for size in true):
                points.append(
                    f"{region} is absent from {empty} of {count(len(true), 'case')}: finding nothing there counts as "
                    "perfect, finding anything as worthless."
                )
        for method in scores.methods:
            values = [scores.values(method, self._of(region, ONE_SIDED))[0] for region in self.regions]
            if lost := round(sum(sum(one) for one in values)):
                points.append(
                    f"{method}: {count(lost, 'region')} of a case where only one of prediction and truth is empty; the "
                    "distance there is that of the image's corners, which weighs heavily in the mean."
                )
        points.append("Overlap of large regions hides small ones that were missed or invented; look at the outlines.")
        return points


def _of_ridges(name: str, run: RidgeFilter, about: str) -> Segmented:
    """Return an entry whose voxels are ranked by the response of a filter of lines."""
    return Segmented(name, run, about, run.ranks)


def _agreement(found: Sequence[float], true: Sequence[float]) -> tuple[str, str]:
    """Format the bias of sizes and its limits of agreement."""
    agreement = bland_altman(found, true)
    digits = significant_digits(agreement.sd or agreement.bias)
    bias, lower, upper = (f"{value:+.{digits}f}" for value in (agreement.bias, agreement.lower, agreement.upper))
    return minus(bias), minus(f"{lower} to {upper}") if agreement.n > 1 else "–"


def _grouped(score: Score, region: str, name: str | None = None) -> Score:
    """Return a score of a region, in the table of the region for its kind of score."""
    group = f"{region}: {score.group.lower()}" if region else score.group
    return replace(score, name=name or score.name, group=group)


def region_numbers(
    found: RegionScores, corners: float, tolerance: float = 1.0, ranked: Ranking | None = None
) -> dict[str, float]:
    """Return the scores and sizes of a region by name, without those that are not defined.

    Args:
        found: scores of the region.
        corners: distance between opposite corners of the image in mm, which replaces infinite distances.
        tolerance: distance in mm within which surfaces agree.
        ranked: voxels of the case, ranked by their probability.
    """
    overlap, surface = found.overlap, found.surface
    areas = {ROC: ranked.roc_area, PRECISION_RECALL: ranked.precision_recall_area} if ranked else {}
    defined = {SPECIFICITY: overlap.specificity, **areas}
    return {
        **{name: value for name, value in defined.items() if not math.isnan(value)},
        DICE: overlap.dice,
        IOU: overlap.iou,
        SENSITIVITY: overlap.sensitivity,
        PRECISION: overlap.precision,
        HD95: min(surface.hd95, corners),
        DISTANCE: min(surface.average, corners),
        WITHIN: surface.normalised(tolerance),
        VOLUME: abs(found.volume - found.true_volume) / 1000,
        SIZE: found.volume / 1000,
        TRUE_SIZE: found.true_volume / 1000,
        ONE_SIDED: float(math.isinf(surface.hd95)),
    }


def component_numbers(found: LesionDetection) -> dict[str, float]:
    """Return the scores of the components of a region by name; shares are 1 or 0 where one side has none.

    Args:
        found: components of truth and prediction.
    """
    neither = float(not (found.lesions or found.predicted))
    return {
        COMPONENT_SENSITIVITY: found.sensitivity.value if found.lesions else neither,
        COMPONENT_PRECISION: found.precision.value if found.predicted else neither,
        COMPONENTS: float(found.predicted),
        COMPONENT_ERROR: float(abs(found.predicted - found.lesions)),
        TRUE_COMPONENTS: float(found.lesions),
    }


def measure_score(measure: Measure) -> Score:
    """Return the score of a measure: its error without a sign."""
    missing = "what cannot be computed from a prediction counts as 0; cases are left out where the truth has none"
    note = f"{measure.note}; the difference to that of the truth, without its sign: {missing}."
    return Score(f"{measure.name} error", "lower", measure.unit, note, "Measures", measure.digits)


def measure_numbers(measure: Measure, found: float, true: float) -> dict[str, float]:
    """Return a measure of prediction and truth and their difference by name; nothing where the truth has none."""
    if not math.isfinite(true):
        return {}
    number = found if math.isfinite(found) else 0.0
    return {f"{measure.name} error": abs(number - true), measure.name: number, f"true {measure.name}": true}


def fit_thresholds(task: Segmentation, cases: Sequence[Sample]) -> dict[str, Threshold]:
    """Fit the single threshold of one input for each judged region that has the highest mean Dice over some cases.

    All inputs, `BINS` evenly spaced levels of each, and both sides of a level are tried.

    Args:
        task: task with inputs and regions.
        cases: prepared cases with label maps.
    """
    ends = {role: _ends(cases, role) for role in task.inputs}
    sums = {role: np.zeros((2, len(task.judged.names), BINS)) for role in task.inputs}
    seen = np.zeros(len(task.judged.names))
    for case in cases:
        inside, total = _histograms(task, case, ends)
        seen += np.any([counts.sum(axis=1) > 0 for counts in total.values()], axis=0)
        for role in task.inputs:
            sums[role] += _dice_by_level(inside[role], total[role])
    found = {}
    for place, region in enumerate(task.judged.names):
        best = max(
            (float(sums[role][side, place].max()), role, side) for role in task.inputs for side in (0, 1)
        )  # fmt: skip
        _, role, side = best
        low, high = ends[role]
        value = low + (high - low) * _middle_of_best(sums[role][side, place]) / BINS
        found[region] = Threshold(role, value, side == 0, best[0] / max(float(seen[place]), 1.0))
    return found


def _middle_of_best(values: NDArray[np.float64]) -> float:
    """Return the middle of the first run of indices with the highest value."""
    best = values >= values.max() - 1e-9
    first = int(best.argmax())
    length = int((~best[first:]).argmax()) or len(best) - first
    return first + (length - 1) / 2


def encoded_input(case: Sample, role: str, start: int, stop: int) -> Volume:
    """Encode slices of an input for the networks, (slices, rows, columns), with colours averaged."""
    return np.asarray(case.role(role).encoded(slab(case.arrays[role], start, stop)).mean(axis=0), np.float32)


def _ends(cases: Sequence[Sample], role: str) -> tuple[float, float]:
    """Return the lowest and the highest value of an input in all cases."""
    low, high = math.inf, -math.inf
    for case in cases:
        for start in range(case.shape[0]):
            values = encoded_input(case, role, start, start + 1)
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, max(high, low + 1e-6)


def _histograms(
    task: Segmentation, case: Sample, ends: Mapping[str, tuple[float, float]]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float64]]]:
    """Count the voxels of a case by intensity, inside of each region and in total; role to (regions, `BINS`)."""
    shape = (len(task.judged.names), BINS)
    inside, total = ({role: np.zeros(shape) for role in ends} for _ in range(2))
    for start in range(case.shape[0]):
        nothing = np.zeros((shape[0], 1, *case.shape[1:]), np.bool_)
        parts = task.compared(nothing, task.annotation(case, start, start + 1))
        for role, (low, high) in ends.items():
            values = encoded_input(case, role, start, start + 1)
            places = np.clip((values - low) / (high - low) * BINS, 0, BINS - 1).astype(np.intp)
            for region, part in parts.items():
                row = task.judged.names.index(region)
                total[role][row] += np.bincount(places[part.known], minlength=BINS)
                inside[role][row] += np.bincount(places[part.true & part.known], minlength=BINS)
    return inside, total


def _dice_by_level(inside: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the Dice of all voxels from a bin upwards, and of all voxels below it, (2, regions, `BINS`).

    Args:
        inside: number of voxels of each region by intensity, (regions, `BINS`).
        total: number of voxels of known label by intensity, (regions, `BINS`).
    """
    size = inside.sum(axis=1, keepdims=True)
    below_hits, below = (np.cumsum(counts, axis=1) - counts for counts in (inside, total))
    hits = np.stack([size - below_hits, below_hits])
    taken = np.stack([total.sum(axis=1, keepdims=True) - below, below])
    both = taken + size
    dice = np.where(both > 0, 2 * hits / np.maximum(both, 1), 1.0)
    return np.asarray(np.where(total.sum(axis=1, keepdims=True) > 0, dice, 0.0))
