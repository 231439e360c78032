"""The judge of objects such as cells and glands: scores of objects beside those of their pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import unwrap
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganatomy.case import Array, Sample, Volume, slab
from ganatomy.evaluation.judging import Classical, Entry, Judgement, Row, Score
from ganatomy.images.image import Image
from ganatomy.inference.model import Model
from ganatomy.metrics.objects import Matches, Overlaps, Weighted
from ganatomy.reports.report import Column, Outcome, Report
from ganatomy.tasks.segmentation.instances import find_objects
from ganatomy.tasks.segmentation.judge import DICE, FITTED, HD95, KINDS, SegmentationJudge, encoded_input
from ganatomy.tasks.segmentation.task import Compared, Segmentation

F1, PRECISION, RECALL = "object f1", "object precision", "object recall"
GLAS_F1, OBJECT_DICE, HAUSDORFF = "glas f1", "object dice", "object hausdorff"
WATERSHED = "otsu + watershed"
"""Name of the classical method."""
APART = (3, 5, 8, 12)
"""Distances in pixels between the middles of objects that the classical method chooses from."""
SMOOTH = 1.0
"""SD in pixels of the smoothing before Otsu's threshold."""

NONE = "1 where there are no objects at all"
MATCHED = "a found and a true object match where their intersection is at least half of their union"
OBJECT_KINDS = (
    Score(F1, "higher", "", f"Harmonic mean of precision and recall of objects; {MATCHED}; {NONE}.", digits=3),
    Score(PRECISION, "higher", "", f"Share of found objects that match; {NONE}.", digits=3),
    Score(RECALL, "higher", "", f"Share of true objects that match; {NONE}.", digits=3),
    Score(
        GLAS_F1, "higher", "", "F1 of the GlaS challenge: a found object counts if it covers more than half of the "
        f"true object that it shares most pixels with; {NONE}.", digits=3,
    ),
    Score(
        OBJECT_DICE, "higher", "", "Dice of each object with its partner in the other map, weighted by area, mean of "
        f"both directions, as in the GlaS challenge; {NONE}.", digits=3,
    ),
    Score(
        HAUSDORFF, "lower", "px", "Hausdorff distance of each object to its partner, or to the nearest object without "
        "one, weighted by area, mean of both directions, as in the GlaS challenge; the image's diagonal where one map "
        "is empty.",
    ),
)  # fmt: skip
COUNTS = ("found objects", "true objects", "matched objects", "covered objects")
SUMS = ("found sum", "found area", "true sum", "true area")
"""Further numbers of a case, from which scores of all objects together are computed."""


class ObjectRun:
    """Function of an entry that has instance maps: called for the masks of slices, with the last map cached.

    Args:
        number: computes the instance map of a case, (slices, rows, columns).
    """

    def __init__(self, number: Callable[[Sample], NDArray[Any]]):
        self._number = number
        self._kept: tuple[Sample, NDArray[Any]] | None = None

    def numbers(self, case: Sample) -> NDArray[Any]:
        """Return the instance map of a case, (slices, rows, columns)."""
        if self._kept is None or self._kept[0] is not case:
            self._kept = case, self._number(case)
        return self._kept[1]

    def __call__(self, case: Sample, start: int, stop: int) -> NDArray[np.bool_]:
        """Return the mask of all objects in some slices, (1, slices, rows, columns)."""
        return np.asarray(self.numbers(case)[None, start:stop] > 0)


class ObjectJudge(SegmentationJudge):
    """Judges instance maps by their objects, and by all objects together as a region.

    Entries without an instance map, such as thresholds, have the connected components of their mask as objects, by the
    rules of the task. The classical method is Otsu's threshold and the watershed of distances.

    Args:
        task: task of the run.
        options: not used; the judge has no options.
    """

    leading: ClassVar[tuple[str, ...]] = (F1, PRECISION, RECALL, OBJECT_DICE, DICE)
    plotted: ClassVar[tuple[str, ...]] = (F1, OBJECT_DICE, HD95)
    kinds: ClassVar[tuple[Score, ...]] = KINDS
    decisive: ClassVar[str] = F1
    decisive_words: ClassVar[str] = "F1 of objects"
    agrees: ClassVar[Mapping[Outcome, str]] = {
        "better": "finds the annotated objects better than {}",
        "worse": "finds the annotated objects less well than {}",
        "undecided": "cannot be told from {} by the objects that it finds",
    }

    def __init__(self, task: Segmentation, options: Any = None):
        super().__init__(task, options)
        self.scores = (*OBJECT_KINDS, *self.scores)
        self.bright = True

    def run_of(self, labels: Callable[[Sample], Array], model: Model) -> Callable[..., NDArray[np.bool_]]:
        """Return the function of an entry, with instance maps where the trained run makes them."""
        if not model.method.task.config.instances:
            return super().run_of(labels, model)
        return ObjectRun(lambda case: _whole(labels(case)))

    def learn(self, training: Sequence[Sample]) -> None:
        """Fit the thresholds, and find out whether objects are brighter or darker than what surrounds them."""
        super().learn(training)
        contrasts = [self._contrast(case) for case in training[:FITTED] if self.task.labels in case.arrays]
        self.bright = bool(np.nansum(contrasts) >= 0)

    def _contrast(self, case: Sample) -> float:
        """Return how much brighter objects are than the rest of the first input; NaN where one of both is missing."""
        image = encoded_input(case, self.task.given, 0, case.shape[0])
        inside = _whole(case.arrays[self.task.labels]) > 0
        return float(image[inside].mean() - image[~inside].mean()) if 0 < inside.mean() < 1 else np.nan

    def classical(self) -> Sequence[Classical]:
        """Return Otsu's threshold of the first input with the watershed of distances; called after `learn`."""
        settings = [(f"objects {apart} pixels apart", ObjectRun(partial(self._basins, apart=apart))) for apart in APART]
        side = "bright" if self.bright else "dark"
        words = f"Otsu's threshold of the smoothed image for {side} objects, and the watershed of distances"
        return [Classical(WATERSHED, words, settings)]

    def _basins(self, case: Sample, apart: int) -> NDArray[Any]:
        from skimage.filters import threshold_otsu

        image = encoded_input(case, self.task.given, 0, case.shape[0])
        smooth = np.asarray(ndimage.gaussian_filter(image, (0, SMOOTH, SMOOTH)))
        level = threshold_otsu(smooth) if smooth.min() < smooth.max() else np.inf  # type: ignore[no-untyped-call]
        inside = smooth >= level if self.bright else smooth < level
        rules = self.task.config.objects.model_copy(update={"separate": "watershed", "apart": apart, "grow": 0})
        return find_objects(inside, rules)

    def numbers(self, entry: Entry, case: Sample) -> NDArray[Any]:
        """Return the instance map of an entry, (slices, rows, columns)."""
        run = unwrap(entry.run)
        if isinstance(run, ObjectRun):
            return run.numbers(case)
        rules = self.task.config.objects.model_copy(update={"separate": "components", "grow": 0})
        return find_objects(entry.run(case, 0, case.shape[0])[0], rules)

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry on a whole case.

        Raises:
            UserError: the case has no instance map.
        """
        rows = super().score_case(entries, case, advance)
        annotation = self.task.annotation(case, 0, case.shape[0])
        by_name, found = {entry.name: entry for entry in entries}, []
        for row in rows:
            numbers, true = self.numbers(by_name[row.method], case), annotation[self.task.labels]
            if (field := self.task.config.field_of_view) in annotation:
                numbers, true = (np.where(annotation[field] > 0, one, 0) for one in (numbers, true))
            found.append(replace(row, scores={**object_numbers(numbers, true), **row.scores}))
        return found

    def _pieces(self, parts: Mapping[str, Compared]) -> dict[str, dict[str, float]]:
        """Return nothing, since objects are scored instead of components."""
        return {}

    def drawn(self, entry: Entry, case: Sample, start: int, stop: int) -> NDArray[np.bool_]:
        return without_borders(self.numbers(entry, case)[start:stop])[None]

    def _true(self, case: Sample, plane: int) -> dict[str, NDArray[np.bool_]]:
        numbers = self.task.annotation(case, plane, plane + 1)[self.task.labels]
        return self._named(without_borders(numbers)[None])

    def images(self, entries: Sequence[Entry], case: Sample) -> Mapping[str, Image]:
        """Return the instance map of every entry, and the true one."""
        maps = {entry.name: self.numbers(entry, case) for entry in entries if self._exists(entry, case)}
        maps["truth"] = self.task.annotation(case, 0, case.shape[0])[self.task.labels]
        return {
            name: Image(np.asarray(numbers, np.uint32)[None], case.affines[case.first])
            for name, numbers in maps.items()
        }

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add pictures, sizes, and the scores of the objects of all cases together."""
        super().illustrate(report, judgement)
        report.section("All objects together")
        rows: list[list[str | float]] = []
        for method in judgement.scores.methods:
            pooled = pooled_scores(
                [row.scores for row in judgement.scores.rows if row.method == method and COUNTS[0] in row.scores]
            )
            rows.append([method, *(pooled[kind.name] for kind in OBJECT_KINDS)])
        report.table(
            rows,
            [Column("method"), *(Column(kind.name, kind.unit, kind.better, 3) for kind in OBJECT_KINDS)],
            caption="Scores of the objects of all cases pooled, as the GlaS challenge defines them, so that images "
            "with many or large objects weigh more than in the means over subjects.",
        )

    def measured(self) -> dict[str, str]:
        """Describe how objects are made and matched, besides what is measured of their region."""
        rules = self.task.config.objects
        return {
            **super().measured(),
            "Objects": f"{rules.separate}, at least {rules.smallest} pixels, holes "
            f"{'filled' if rules.holes else 'kept'}, enlarged by {rules.grow} pixels; thresholds and Otsu's method "
            "follow the same rules without enlarging",
            "Libraries of objects": "overlaps are counted here; Hausdorff distances, Otsu's threshold and the "
            "watershed are those of scikit-image",
        }


def object_numbers(found: NDArray[Any], true: NDArray[Any] | Volume) -> dict[str, float]:
    """Return the scores of the objects of a case by name, and the counts and sums that they are computed from.

    Args:
        found: predicted instance map, (slices, rows, columns).
        true: true instance map, same shape.
    """
    overlaps = Overlaps(found, true)
    matched, covered = overlaps.matched_by_iou(), overlaps.matched_by_cover()
    dice, hausdorff = overlaps.dice(), overlaps.hausdorff()
    counts = zip(COUNTS, (matched.found, matched.true, matched.matched, covered.matched), strict=True)
    sums = {
        f"{kind} {name}": float(value)
        for kind, one in ((OBJECT_DICE, dice), (HAUSDORFF, hausdorff))
        for name, value in zip(SUMS, (one.found, one.found_area, one.true, one.true_area), strict=True)
    }
    return {
        **_scores(matched, covered, dice, hausdorff),
        **{name: float(value) for name, value in counts},
        **sums,
        f"{HAUSDORFF} empty": hausdorff.empty,
    }


def pooled_scores(cases: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the scores of the objects of several cases together.

    Args:
        cases: numbers of `object_numbers`.
    """

    def total(name: str) -> float:
        return sum(case[name] for case in cases)

    found, true, matched, covered = (int(total(name)) for name in COUNTS)
    dice, hausdorff = (
        Weighted(
            total(f"{kind} found sum"),
            int(total(f"{kind} found area")),
            total(f"{kind} true sum"),
            int(total(f"{kind} true area")),
            empty,
            perfect,
        )
        for kind, empty, perfect in (
            (OBJECT_DICE, 0.0, 1.0),
            (HAUSDORFF, max((case[f"{HAUSDORFF} empty"] for case in cases), default=0.0), 0.0),
        )
    )
    return _scores(Matches(found, true, matched), Matches(found, true, covered), dice, hausdorff)


def _scores(matched: Matches, covered: Matches, dice: Weighted, hausdorff: Weighted) -> dict[str, float]:
    return {
        F1: matched.f1,
        PRECISION: matched.precision,
        RECALL: matched.recall,
        GLAS_F1: covered.f1,
        OBJECT_DICE: dice.mean,
        HAUSDORFF: hausdorff.mean,
    }


def without_borders(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask of all objects without a line of pixels between touching ones, so that outlines separate them.

    Args:
        numbers: instance map, (slices, rows, columns).
    """
    largest = ndimage.maximum_filter(numbers, size=(1, 3, 3))
    return np.asarray((numbers > 0) & (largest == numbers))


def _whole(array: Array) -> NDArray[Any]:
    return np.asarray(slab(array, 0, array.shape[1])[0])
