"""The judges of landmarks: which were identified, distances in mm, and the region inside of an outline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Array, Sample
from ganatomy.errors import UserError
from ganatomy.evaluation.illustrations import examples
from ganatomy.evaluation.judging import OUTPUT, Classical, Entry, Judge, Judgement, Row, Score, about, limits
from ganatomy.evaluation.remarks import against, improved, phantoms, sentences
from ganatomy.inference.model import Model
from ganatomy.metrics.landmarks import DETECTED, LandmarkScores
from ganatomy.metrics.statistics import count
from ganatomy.reports.report import Column, Outcome, Report
from ganatomy.tasks.landmarks.neighbours import Neighbours, mean_points
from ganatomy.tasks.landmarks.pictures import frames, projections
from ganatomy.tasks.landmarks.task import DICE, ERROR, F1, RATE, Landmarks, Outline

MEAN, ALIKE = "mean positions", "nearest images"
"""Names of the baselines: one looks at no image, the other takes the landmarks of the most similar training images."""
PRECISION, RECALL = "precision", "recall"
COUNTS = (1, 3, 5, 10)
"""Numbers of similar images that the baseline tries."""
LONGEST = 24
"""Largest number of letters of a case's name above its picture."""
SHOWN = 4
"""Number of the worst cases that are shown before the median and the best one."""


def kinds(limit: float) -> tuple[Score, ...]:
    """Return the scores of a case.

    Args:
        limit: distance in mm from which a landmark counts as missed.
    """
    return (
        Score(RATE, "higher", "", f"Share of the true landmarks whose prediction is closer than {limit:g} mm, and "
              "closer to it than to any other true landmark.", digits=3),
        Score(ERROR, "lower", "mm", "Mean distance of landmarks that are both found and true."),
        Score(F1, "higher", "", "Harmonic mean of precision and recall.", digits=3),
        Score(PRECISION, "higher", "", f"Share of the landmarks found that lie within {limit:g} mm of the true one of "
              "their name; 0 where none is found.", digits=3),
        Score(RECALL, "higher", "", f"Share of the true landmarks within {limit:g} mm of which the one of their name "
              "is found.", digits=3),
        *(Score(detection(limit), "higher", "", "Share of the true landmarks that were found so close.",
                "Successful detections", 3) for limit in DETECTED),
    )  # fmt: skip


def detection(limit: float) -> str:
    """Return the name of the successful-detection rate within a distance in mm."""
    return f"detected within {limit:g} mm"


class LandmarkJudge(Judge):
    """Judges landmarks on the working grid, each case as a whole.

    One baseline puts every landmark at its mean position in the training cases, whatever the image shows. The other
    takes the mean of those of the training images that look most alike, whose number is chosen on validation cases.

    Args:
        task: task of the run.
        options: not used; the judge has no options.
    """

    leading: ClassVar[tuple[str, ...]] = (RATE, ERROR, F1)
    plotted: ClassVar[tuple[str, ...]] = (RATE, ERROR)
    reference = MEAN
    image = "volume"
    compares_with_training = True

    def __init__(self, task: Landmarks, options: Any = None):
        super().__init__(task, options)
        names = task.landmarks.points
        self.parts = {part: np.isin(names, own) for part, own in task.config.parts.items()}
        own = kinds(task.config.limit_mm)
        by_part = (Score(f"{RATE} {part}", "higher", "", own[0].note, "Parts of the body", 3) for part in self.parts)
        self.scores: tuple[Score, ...] = (*own, *by_part)
        self.mean: Array | None = None
        self.neighbours: Neighbours | None = None
        self.errors: dict[tuple[str, str], NDArray[np.float64]] = {}

    def entry(self, model: Model, name: str) -> Entry:
        """Return a trained run as an entry, which finds landmarks (landmarks, 1, 1, 4) on the working grid.

        Raises:
            UserError: the run finds other landmarks than those that are judged.
        """
        theirs, ours = model.method.task.landmarks, self.task.landmarks
        if theirs.points != ours.points:
            raise UserError(
                f"{model.folder}: finds {', '.join(theirs.points)}, but {', '.join(ours.points)} are judged"
            )
        predictor = model.predictor()
        return Entry(name, lambda case: predictor.predict(case).arrays[theirs.name], about(model))

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the baseline of mean positions."""
        return [Entry(MEAN, lambda case: self.mean, "the mean position of every landmark in the training cases")], []

    def learn(self, training: Sequence[Sample]) -> None:
        """Keep training images with their landmarks, and the mean of these; without them there is no baseline."""
        task = self.task
        self.neighbours = Neighbours.of(task.given, task.landmarks.name, training)
        self.mean = mean_points(self.neighbours.points) if self.neighbours else None

    def classical(self) -> Sequence[Classical]:
        """Return the baseline of similar training images."""
        known = self.neighbours
        if known is None:
            return ()

        def locate(count: int, case: Sample) -> Array:
            return known.locate(case, count)

        settings = [(f"of {n}" if n > 1 else "of the nearest", partial(locate, n)) for n in COUNTS]
        return [Classical(ALIKE, "the mean landmarks of the training images that correlate best", settings)]

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry on a whole case.

        Raises:
            UserError: the case has no landmarks.
        """
        name = self.task.landmarks.name
        if name not in case.arrays:
            raise UserError(f"{case.case.name}: no {name} to compare with")
        rows = []
        for entry in entries:
            advance()
            if entry.name == MEAN and self.mean is None:
                continue
            made, true = entry.run(case), case.arrays[name]
            found = self.task.compared(made, true, case.spacing)
            self.errors[entry.name, case.case.name] = found.error
            numbers = {**self.numbers(found), **self.more(made, true, case)}
            rows.append(Row(case.case.name, case.case.subject, (0, case.shape[0]), entry.name, numbers))
        return rows

    def more(self, found: Array, true: Array, case: Sample) -> dict[str, float]:
        """Return further scores of the landmarks (landmarks, 1, 1, 4) of a case."""
        return {}

    def numbers(self, found: LandmarkScores) -> dict[str, float]:
        """Return the scores of a case that are defined."""
        numbers = {
            RATE: found.rate,
            ERROR: found.mean_error,
            F1: found.f1,
            PRECISION: found.precision,
            RECALL: found.recall,
            **{detection(limit): found.detected(limit) for limit in DETECTED},
            **{f"{RATE} {part}": found.rate_of(own) for part, own in self.parts.items()},
        }
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether more landmarks are identified than by the reference, and how far they are off."""
        scores, reference, score = judgement.scores, judgement.reference, self.named(RATE)
        ours, error = scores.interval(OUTPUT, RATE), scores.interval(OUTPUT, ERROR)
        assert ours is not None
        far = f"Those found are {limits(error, 'mm')} off." if error else "None was found where one is true."
        others = list(against(judgement, [one for one in judgement.baselines if one != reference], score, "rate"))
        found, theirs = scores.compare(OUTPUT, reference, score), scores.interval(reference, RATE)
        if found is None or theirs is None:
            return sentences(f"Of the landmarks, {limits(ours)} are identified.", far, *others), "undecided"
        relation = {
            "better": "more landmarks than",
            "worse": "fewer landmarks than",
            "undecided": "about as many landmarks as",
        }[found.outcome]
        words = f"The output identifies {relation} {self.called(reference)}: {ours.mean:.3f} against {theirs.mean:.3f}"
        return sentences(words + improved(found), far, *others), found.outcome

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add pictures of the worst, the median and the best case, and tables of the distances."""
        self.picture(report, judgement)
        errors = self.distances(judgement)
        rows = []
        for method, own in errors.items():
            known, true = own[np.isfinite(own)], self.true(judgement)
            if not len(known):
                rows.append([method, f"0 of {true}", *["–"] * 4])
                continue
            middle, most = np.quantile(known, (0.5, 0.95))
            numbers = (known.mean(), known.std(), middle, most)
            rows.append([method, f"{len(known)} of {true}", *(f"{number:.2f}" for number in numbers)])
        report.section("Distances of all landmarks")
        report.table(
            rows,
            [Column("method"), Column("found"), *(Column(name, "mm") for name in ("mean", "SD", "median", "95 %"))],
            caption="Distances of single landmarks that are found and true, of all cases together: mean, standard "
            "deviation, median and 95th percentile.",
        )
        rows = []
        for place, point in enumerate(self.task.landmarks.points):
            cells: list[str] = [point]
            for own in errors.values():
                known = own[:, place][np.isfinite(own[:, place])]
                cells.append(f"{known.mean():.1f} ({len(known)})" if len(known) else "–")
            rows.append(cells)
        report.section("Distances by landmark")
        report.table(
            rows,
            [Column("landmark"), *(Column(method, "mm (cases)") for method in errors)],
            caption="Mean distance of each landmark where it is found and true, and the number of such cases.",
        )

    def distances(self, judgement: Judgement) -> dict[str, NDArray[np.float64]]:
        """Return the distances in mm of all entries, (cases, landmarks); NaN where one is not found or not true."""
        found = {}
        for entry in judgement.entries:
            own = [self.errors.get((entry.name, case.case.name)) for case in judgement.cases]
            if known := [errors for errors in own if errors is not None]:
                found[entry.name] = np.stack(known)
        return found

    def true(self, judgement: Judgement) -> int:
        """Return the number of true landmarks of all cases."""
        name = self.task.landmarks.name
        return int(sum((np.asarray(case.arrays[name])[..., 3] > 0.5).sum() for case in judgement.cases))

    def picture(self, report: Report, judgement: Judgement) -> None:
        """Add pictures of cases, the worst ones first."""
        name, best = self.task.landmarks.name, self.leading[0]
        ranked = judgement.scores.by_case(OUTPUT, best)
        run = next(entry for entry in judgement.entries if entry.name == OUTPUT).run
        if self.task.dims == 2:
            cases = {case.case.name: case for case in judgement.cases}
            order = sorted(ranked, key=lambda name: ranked[name])
            labels = {case.case.name: label for label, case in examples(judgement, ranked).items()}
            chosen = dict.fromkeys([*order[:SHOWN], *sorted(labels, key=order.index)])
            drawn = [(f"{_short(one)}, {best} {ranked[one]:.3f}", cases[one], run(cases[one])) for one in chosen]
            report.figure(
                frames(self.task, drawn),
                f"The worst {min(SHOWN, len(order))} of {len(order)} cases by {best}, then the median and the best. "
                "Rings and the dashed curve are the truth, dots and the solid curve what was found; lines connect the "
                "landmarks of one name.",
            )
            return
        for label, case in examples(judgement, ranked, ("Worst", "Median", "Best")).items():
            which = "The only case" if label == "Only" else f"{label} of {len(judgement.cases)} cases by {best}"
            report.figure(
                projections(self.task, case, run(case), np.asarray(case.arrays[name])),
                f"{which}: {case.case.name}, {best} {ranked[case.case.name]:.3f}. Brightest voxels along the rows and "
                "columns; rings are the truth, dots with names what was found, lines connect both.",
            )

    def measured(self) -> dict[str, str]:
        """Describe landmarks, grid, and the rule of identification."""
        grid, limit = self.task.preparation, self.task.config.limit_mm
        spacing = " x ".join(f"{step:g}" for step in grid.spacing) + " mm" if grid.spacing else "each image's own"
        return {
            "Landmarks": ", ".join(self.task.landmarks.points),
            "Grid": f"the working grid, {grid.plane} slices, spacing {spacing}; distances are taken between positions "
            "that are not rounded to it",
            "Identified": f"closer than {limit:g} mm to the true landmark of its name, and closer than to any other",
            "Unit of scoring": "whole cases, averaged over each subject",
        }

    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on phantoms, on cases without landmarks found, and on shifted names."""
        points = phantoms(judgement.cases, ", whose landmarks are known exactly")
        errors = judgement.scores.by_case(OUTPUT, ERROR)
        if lost := len(judgement.cases) - len(errors):
            points.append(
                f"In {count(lost, 'case')} nothing was found where it is, so that no distance is known there."
            )
        return [*points, *self.shifted()]

    def shifted(self) -> list[str]:
        """Return a sentence on names that are shifted along the body."""
        return ["Where all names are shifted by one along the body, many distances are small and all names wrong."]


def _short(name: str) -> str:
    """Return the end of a long name, for the title of a small picture."""
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"


class OutlineJudge(LandmarkJudge):
    """Judges landmarks around an organ, first by the region inside of the closed spline through them.

    Args:
        task: task of the run.
        options: not used; the judge has no options.
    """

    leading: ClassVar[tuple[str, ...]] = (DICE, ERROR, detection(DETECTED[0]))
    plotted: ClassVar[tuple[str, ...]] = (DICE, ERROR)
    image: ClassVar[str] = "frame"

    def __init__(self, task: Outline, options: Any = None):
        super().__init__(task, options)
        note = "Overlap of the regions inside of the closed splines through the landmarks found and through true ones."
        self.scores = (Score(DICE, "higher", "", note, digits=3), *self.scores)

    def more(self, found: Array, true: Array, case: Sample) -> dict[str, float]:
        dice = self.task.overlap(np.asarray(found), np.asarray(true), case.spacing)
        return {DICE: dice} if math.isfinite(dice) else {}

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether the region is nearer to the true one than that of the reference, and the distances."""
        scores, reference, score = judgement.scores, judgement.reference, self.named(DICE)
        ours, error = scores.interval(OUTPUT, DICE), scores.interval(OUTPUT, ERROR)
        close = scores.interval(OUTPUT, detection(DETECTED[0]))
        assert ours is not None and close is not None
        far = f"Landmarks are {limits(error, 'mm')} off" if error else "None was found where one is true"
        far += f"; {limits(close)} of them lie within {DETECTED[0]:g} mm."
        others = list(against(judgement, [one for one in judgement.baselines if one != reference], score, "Dice"))
        found, theirs = scores.compare(OUTPUT, reference, score), scores.interval(reference, DICE)
        if found is None or theirs is None:
            return sentences(f"The region has a Dice of {limits(ours)}.", far, *others), "undecided"
        relation = {"better": "better than", "worse": "worse than", "undecided": "about as well as"}[found.outcome]
        words = f"The output outlines the organ {relation} {self.called(reference)}: Dice {ours.mean:.3f} against "
        return sentences(f"{words}{theirs.mean:.3f}{improved(found)}", far, *others), found.outcome

    def measured(self) -> dict[str, str]:
        """Describe landmarks, grid, region, and the rule of identification."""
        region = "inside of the closed cubic spline through the landmarks in their order, knots at their numbers; for "
        return {**super().measured(), "Region": f"{region}true landmarks the same spline, not a drawn border"}

    def shifted(self) -> list[str]:
        return ["Landmarks that slid along the border are far from the true ones, although the region is nearly right."]
