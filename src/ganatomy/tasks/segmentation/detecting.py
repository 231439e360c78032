"""Predictor and judge of lesions that are detected by segmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from ganatomy.case import Array, Sample, slab
from ganatomy.evaluation.judging import OUTPUT, Classical, Entry, Judgement, Row, Score
from ganatomy.images.image import ComputedArray, Image
from ganatomy.inference.predictor import Options
from ganatomy.metrics.detection import LesionDetection, pooled
from ganatomy.metrics.lesions import CRITERIA, Criterion, components, find_lesions, kept_components
from ganatomy.metrics.metric import Mask
from ganatomy.metrics.segmentation import count_overlap
from ganatomy.reports.report import Cell, Column, Outcome, Report
from ganatomy.tasks.segmentation.instances import object_table
from ganatomy.tasks.segmentation.judge import (
    DICE,
    FITTED,
    HD95,
    KINDS,
    SegmentationJudge,
    Threshold,
    encoded_input,
    fit_thresholds,
)
from ganatomy.tasks.segmentation.lesions import Kept, LesionSegmentation
from ganatomy.tasks.segmentation.predictor import SegmentationOptions, SegmentationPredictor
from ganatomy.tasks.segmentation.task import Compared

LESIONS = "lesions"
"""Name of the table of lesions."""
SMOOTHED = "smoothed threshold"
"""Name of the classical method."""
REACH = (1.0, 2.0)
"""SDs in pixels of the smoothing that it chooses from."""
LEAST = (0, 10, 40)
"""Numbers of voxels below which components are removed that it chooses from."""

LESION_DICE, LESION_SENSITIVITY, LEFT_EMPTY = "lesion dice", "lesion sensitivity", "left empty"
GROUP = "Lesions"
PAPERS = (
    Score(LESION_DICE, "higher", "", "Dice of all lesions of a case; cases without a lesion are left out.", GROUP, 3),
    Score(
        LESION_SENSITIVITY, "higher", "", "Share of the voxels of lesions that are found; cases without a lesion are "
        "left out.", GROUP, 3,
    ),
    Score(
        LEFT_EMPTY, "higher", "", "1 for a case without a lesion in which nothing is found, else 0; its mean is the "
        "specificity of cases. Cases with a lesion are left out.", GROUP, 3,
    ),
)  # fmt: skip
COUNTED = ("true", "matched", "false")
"""Numbers of lesions of a case, from which those of all cases together are computed."""


def found_name(criterion: str) -> str:
    """Return the name of the score of found lesions."""
    return f"found ({criterion})"


def false_name(criterion: str) -> str:
    """Return the name of the score of false positives."""
    return f"false positives ({criterion})"


class LesionOptions(SegmentationOptions):
    """Options of the lesions; those that are not given are as in training."""

    smallest_lesion: int | None = Field(None, ge=0)  # components of the lesions with fewer voxels are removed
    kept: Kept | None = None  # components that are lesions: all, the largest, or the one nearest to the middle


class LesionPredictor(SegmentationPredictor):
    """Segments images, and lists the lesions with size, place and probability.

    Components of the lesions that are too small, or that are not to be kept, become background.
    """

    Options: ClassVar[type[Options]] = LesionOptions
    task: LesionSegmentation

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that are written as CSV files, that of the lesions first."""
        return (LESIONS, *super().tables)

    @property
    def _kept(self) -> Kept:
        kept: Kept = self.task.config.kept if self.options.kept is None else self.options.kept
        return kept

    @property
    def _cleans(self) -> bool:
        own = self.options.smallest_lesion
        small = self.task.smallest(1000, 1000) if own is None else own
        return super()._cleans or small > 1 or self._kept != "all"

    def _cleaned(self, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        inside = super()._cleaned(inside)
        place, own = self.task.target.names.index(self.task.config.lesion_region), self.options.smallest_lesion
        smallest = self.task.smallest(*inside.shape[-2:]) if own is None else own
        inside[place] = kept_components(inside[place], smallest, self._kept)
        return inside

    def _tables(
        self, source: Image, working: Array, sample: Sample, probabilities: Array
    ) -> dict[str, Callable[[], Sequence[Mapping[str, Any]]]]:
        name = self.task.config.lesion_region
        label, place = self.task.target.written[name], self.task.target.names.index(name)
        own = {LESIONS: lambda: lesion_table(source, label, lambda: slab(probabilities, 0, source.shape[0])[place])}
        return own | super()._tables(source, working, sample, probabilities)

    def _facts(self, absent: Sequence[str]) -> dict[str, Any]:
        own = self.options.smallest_lesion
        small = f"components of fewer than {own} voxels"
        if own is None:
            share, least = self.task.config.smallest_share, self.task.config.smallest_lesion
            small = f"components of fewer than {least} voxels or {share:.1%} of a slice"
        return {
            "lesions": f"{self._kept} components of {self.task.config.lesion_region}",
            "removed": small,
        } | super()._facts(absent)


def lesion_table(
    labels: Image, label: int, probabilities: Callable[[], NDArray[np.float32]]
) -> list[dict[str, int | float]]:
    """Return a row for each lesion, the most probable first: size, middle, first and last row and column, probability.

    Args:
        labels: label map on the grid of the source.
        label: label of the lesions.
        probabilities: function that returns their probability, (slices, rows, columns).
    """
    numbers = components(labels.numpy()[0] == label)
    rows = object_table(labels.with_array(numbers[None], unit=None))
    if not rows:
        return []
    places, found = ndimage.find_objects(numbers), probabilities()
    means = ndimage.mean(found, numbers, range(1, len(rows) + 1))
    peaks = ndimage.maximum(found, numbers, range(1, len(rows) + 1))
    made = [
        {
            **{("lesion" if name == "object" else name): value for name, value in row.items()},
            **{f"first_{axis}": part.start for axis, part in zip(("row", "column"), box[1:], strict=True)},
            **{f"last_{axis}": part.stop - 1 for axis, part in zip(("row", "column"), box[1:], strict=True)},
            "mean_probability": round(float(mean), 4),
            "highest_probability": round(float(peak), 4),
        }
        for row, box, mean, peak in zip(rows, places, means, peaks, strict=True)
    ]
    ranked = sorted(made, key=lambda row: -row["highest_probability"])
    return [{**row, "lesion": number} for number, row in enumerate(ranked, 1)]


class LesionJudge(SegmentationJudge):
    """Judges label maps by their lesions, one by one, and by their regions.

    The classical method is the best threshold of one smoothed input, without components that are small.

    Args:
        task: task of the run.
        options: options of the class ``Options``; None means its defaults.
    """

    leading: ClassVar[tuple[str, ...]] = (LESION_DICE, LESION_SENSITIVITY, LEFT_EMPTY)
    plotted: ClassVar[tuple[str, ...]] = (LESION_DICE, DICE, HD95)
    kinds: ClassVar[tuple[Score, ...]] = KINDS
    decisive: ClassVar[str] = LESION_DICE
    decisive_words: ClassVar[str] = "Dice of lesions"
    agrees: ClassVar[Mapping[Outcome, str]] = {
        "better": "marks lesions more as annotated than {}",
        "worse": "marks lesions less as annotated than {}",
        "undecided": "cannot be told from {} by its agreement with annotated lesions",
    }
    task: LesionSegmentation

    def __init__(self, task: LesionSegmentation, options: Any = None):
        super().__init__(task, options)
        self.place = task.judged.names.index(task.config.lesion_region)
        self.scores = (*PAPERS, *(score for name in task.criteria for score in _scores(name)), *self.scores)
        self.smoothed: dict[float, dict[str, Threshold]] = {}
        self.labels: dict[str, str | None] = {}
        """Class of every case that was judged."""

    def learn(self, training: Sequence[Sample]) -> None:
        """Fit the thresholds of inputs as they are, and of smoothed ones."""
        super().learn(training)
        usable = [case for case in training if self.task.labels in case.arrays][:FITTED]
        if usable:
            self.smoothed = {
                reach: fit_thresholds(self.task, [smoothed(case, self.task.inputs, reach) for case in usable])
                for reach in REACH
            }

    def classical(self) -> Sequence[Classical]:
        """Return the threshold of a smoothed input; called after `learn`."""
        settings = [
            (f"smoothed by {reach:g} pixels, components from {least} voxels", _Smoothed(self, reach, least))
            for reach in self.smoothed
            for least in LEAST
        ]
        words = "the best threshold of one smoothed input for each region, without small components of lesions"
        return [*super().classical(), *([Classical(SMOOTHED, words, settings)] if settings else [])]

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry on a whole case.

        Raises:
            UserError: the case has no label map.
        """
        rows = super().score_case(entries, case, advance)
        self.labels[case.case.name] = case.case.label
        annotation = self.task.annotation(case, 0, case.shape[0])
        by_name, found = {entry.name: entry for entry in entries}, []
        for row in rows:
            parts = self.task.compared(by_name[row.method].run(case, 0, case.shape[0]), annotation)
            part = parts.get(self.task.config.lesion_region)
            own = lesion_numbers(part.found & part.known, part.true & part.known, self.task.criteria) if part else {}
            found.append(replace(row, scores={**own, **row.scores}))
        return found

    def _pieces(self, parts: Mapping[str, Compared]) -> dict[str, dict[str, float]]:
        """Return nothing, since lesions are counted by criteria instead of any components."""
        return {}

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether lesions are marked better than by the strongest reference, and how many are found."""
        if judgement.scores.interval(OUTPUT, LESION_DICE) is None:
            return "No test case has a lesion, so that only false alarms can be counted.", "undecided"
        told, outcome = super().verdict(judgement)
        name = self.task.criteria[0]
        all_found = self._counted(judgement, OUTPUT, name)
        return (
            f"{told} It finds {all_found.found} of {all_found.lesions} lesions ({name}), with "
            f"{all_found.false_positives_per_volume:.2f} false positives per case.",
            outcome,
        )

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add counts of lesions of all cases together to the pictures."""
        super().illustrate(report, judgement)
        report.section("Lesions one by one")
        told = "; ".join(f"{name}: {CRITERIA[name].words}" for name in self.task.criteria)
        report.table(
            [row for method in judgement.scores.methods for row in self._counts_of(judgement, method)],
            [
                Column("method"),
                Column("criterion"),
                Column("lesions found"),
                Column("share", "", "higher", 3),
                Column("95 % interval"),
                Column("false positives per case", "", "lower", 2),
                Column("cases with a found lesion"),
                Column("false positives per case without a lesion", "", "lower", 2),
            ],
            caption=f"Lesions are connected components of {self.task.config.lesion_region}, of all cases together. A "
            f"lesion is found where ... ({told}). False positives are components that find none. Intervals of shares "
            "are Wilson's, as if lesions were independent.",
        )
        rows: list[list[Cell]] = []
        for method in judgement.scores.methods:
            cells: list[Cell] = [method]
            for score in PAPERS:
                values, _ = judgement.scores.values(method, score.name)
                cells.append(f"{np.mean(values):.2f} ± {np.std(values):.2f}" if values else None)
            rows.append([*cells])
        report.table(
            rows,
            [Column("method"), *(Column(score.name) for score in PAPERS)],
            caption="Mean ± standard deviation over cases, as papers print them: Dice and sensitivity over cases with "
            "lesions, the share that was left empty over cases without.",
        )

    def _counts_of(self, judgement: Judgement, method: str) -> Iterator[list[Cell]]:
        """Yield the rows of a method: one a criterion, and one for each class of cases where there are several."""
        rows = [row for row in judgement.scores.rows if row.method == method]
        classes = sorted({label for row in rows if (label := self.labels.get(row.case)) is not None})
        groups = {method: rows}
        if len(classes) > 1:
            groups |= {f"{method}, {one}": [row for row in rows if self.labels.get(row.case) == one] for one in classes}
        for name, own in groups.items():
            for criterion in self.task.criteria:
                each = [_detection(row.scores, criterion) for row in own if f"{criterion}: true" in row.scores]
                if not each:
                    continue
                found, there = pooled(each), [one for one in each if one.lesions]
                free = [one for one in each if not one.lesions]
                share, hits = found.sensitivity, sum(one.found > 0 for one in there)
                yield [
                    name,
                    criterion,
                    f"{found.found} of {found.lesions}",
                    share.value if found.lesions else None,
                    "{:.2f} to {:.2f}".format(*share.interval) if found.lesions else None,
                    found.false_positives_per_volume,
                    f"{hits} of {len(there)}",
                    pooled(free).false_positives_per_volume if free else None,
                ]

    def _counted(self, judgement: Judgement, method: str, criterion: Criterion) -> LesionDetection:
        rows = [row.scores for row in judgement.scores.rows if row.method == method]
        return pooled([_detection(scores, criterion) for scores in rows if f"{criterion}: true" in scores])

    def measured(self) -> dict[str, str]:
        """Describe how lesions are made and counted, besides what is measured of regions."""
        return {
            **super().measured(),
            "Lesions": f"connected components of {self.task.config.lesion_region}, by shared corners too; each "
            "component finds one lesion at most, and each lesion is found once",
            "Criteria": "; ".join(f"{name}: {CRITERIA[name].words}" for name in self.task.criteria),
            "Smoothed thresholds": "; ".join(
                f"by {reach:g} pixels: {found[self.task.config.lesion_region]}"
                for reach, found in self.smoothed.items()
            )
            or "none, since no training case is at hand",
        }


class _Smoothed:
    """Function of an entry: the thresholds of smoothed inputs, without small components; the last case is cached."""

    def __init__(self, judge: LesionJudge, reach: float, least: int):
        self._judge, self._reach, self._least = judge, reach, least
        self._kept: tuple[Sample, NDArray[np.bool_]] | None = None

    def __call__(self, case: Sample, start: int, stop: int) -> NDArray[np.bool_]:
        if self._kept is None or self._kept[0] is not case:
            task, thresholds = self._judge.task, self._judge.smoothed[self._reach]
            seen, whole = smoothed(case, task.inputs, self._reach), case.shape[0]
            roles = {thresholds[region].role for region in self._judge.regions}
            images = {role: encoded_input(seen, role, 0, whole) for role in roles}
            masks = np.stack([thresholds[one](images[thresholds[one].role]) for one in self._judge.regions])
            masks[self._judge.place] = kept_components(masks[self._judge.place], self._least)
            self._kept = case, masks
        return self._kept[1][:, start:stop]


def _scores(criterion: Criterion) -> tuple[Score, Score]:
    words = CRITERIA[criterion].words
    return (
        Score(
            found_name(criterion),
            "higher",
            "",
            f"Share of the lesions of a case that are found: {words}. Cases without a lesion are left out.",
            GROUP,
            3,
        ),
        Score(
            false_name(criterion),
            "lower",
            "",
            f"Number of predicted components of a case that find no lesion, where a lesion is found if {words}.",
            GROUP,
            2,
        ),
    )


def lesion_numbers(found: Mask, true: Mask, criteria: Sequence[Criterion]) -> dict[str, float]:
    """Return the scores of the lesions of a case by name, and the counts that those of all cases are computed from.

    Args:
        found: predicted mask of lesions, (slices, rows, columns).
        true: true mask, same shape.
        criteria: names of criteria of detection.
    """
    scores: dict[str, float] = {}
    if true.any():
        overlap = count_overlap(found, true, np.ones_like(true))
        scores |= {LESION_DICE: overlap.dice, LESION_SENSITIVITY: overlap.sensitivity}
    else:
        scores[LEFT_EMPTY] = float(not found.any())
    for name in criteria:
        one = find_lesions(found, true, name)
        if one.lesions:
            scores[found_name(name)] = one.found / one.lesions
        scores[false_name(name)] = float(one.false_positives)
        counts = zip(COUNTED, (one.lesions, one.found, one.false_positives), strict=True)
        scores |= {f"{name}: {kind}": float(number) for kind, number in counts}
    return scores


def _detection(scores: Mapping[str, float], criterion: str) -> LesionDetection:
    """Return the counts of a case from its scores."""
    return LesionDetection(*(int(scores[f"{criterion}: {kind}"]) for kind in COUNTED))


def smoothed(case: Sample, roles: Sequence[str], reach: float) -> Sample:
    """Return a case whose images are smoothed in their planes by a Gaussian of ``reach`` pixels."""

    def part(array: Array, start: int, stop: int) -> NDArray[Any]:
        return np.asarray(ndimage.gaussian_filter(slab(array, start, stop).astype(np.float32), (0, 0, reach, reach)))

    arrays: dict[str, Array] = {
        role: ComputedArray(tuple(case.arrays[role].shape), np.float32, partial(part, case.arrays[role]))
        for role in roles
        if role in case.arrays
    }
    return case.with_arrays(arrays, {})
