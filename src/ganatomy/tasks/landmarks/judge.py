"""The judge of landmarks: identification rates and distances in mm, with the mean positions as the baseline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ganatomy.case import Array, Sample
from ganatomy.errors import UserError
from ganatomy.evaluation.illustrations import examples
from ganatomy.evaluation.judging import OUTPUT, Entry, Judge, Judgement, Row, Score, about, limits
from ganatomy.evaluation.remarks import against, improved, phantoms, sentences
from ganatomy.inference.model import Model
from ganatomy.metrics.landmarks import LIMIT, LandmarkScores
from ganatomy.metrics.statistics import count
from ganatomy.reports.report import Column, Outcome, Report
from ganatomy.tasks.landmarks.pictures import projections
from ganatomy.tasks.landmarks.task import ERROR, F1, RATE, Landmarks

MEAN = "mean positions"
"""Name of the baseline that looks at no image."""
PRECISION, RECALL = "precision", "recall"
SHARE = 0.5
"""Share of the training cases that must have a landmark for the baseline to place it."""

KINDS = (
    Score(RATE, "higher", "", f"Share of the true landmarks whose prediction is closer than {LIMIT:g} mm, and closer "
          "to it than to any other true landmark.", digits=3),
    Score(ERROR, "lower", "mm", "Mean distance of landmarks that are both found and true."),
    Score(F1, "higher", "", "Harmonic mean of precision and recall.", digits=3),
    Score(PRECISION, "higher", "", f"Share of the landmarks found that lie within {LIMIT:g} mm of the true one of "
          "their name; 0 where none is found.", digits=3),
    Score(RECALL, "higher", "", f"Share of the true landmarks within {LIMIT:g} mm of which the one of their name is "
          "found.", digits=3),
)  # fmt: skip
"""Scores of a case."""


class LandmarkJudge(Judge):
    """Judges landmarks on the working grid, each case as a whole.

    The baseline puts every landmark at its mean position in the training cases, whatever the image shows.

    Args:
        task: task of the run.
        options: not used; the judge has no options.
    """

    leading = (RATE, ERROR, F1)
    plotted = (RATE, ERROR)
    reference = MEAN
    image = "volume"
    compares_with_training = True

    def __init__(self, task: Landmarks, options: Any = None):
        super().__init__(task, options)
        names = task.landmarks.points
        self.parts = {part: np.isin(names, own) for part, own in task.config.parts.items()}
        note = KINDS[0].note
        by_part = (Score(f"{RATE} {part}", "higher", "", note, "Parts of the body", 3) for part in self.parts)
        self.scores: tuple[Score, ...] = (*KINDS, *by_part)
        self.mean: Array | None = None
        self.errors: dict[str, list[np.ndarray[Any, Any]]] = {}

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
        """Average the positions of the landmarks; without training cases there is no baseline."""
        name = self.task.landmarks.name
        known = [np.asarray(case.arrays[name], np.float64) for case in training if name in case.arrays]
        if not known:
            return
        arrays = np.stack(known)
        there = arrays[..., 3:4]
        places = (arrays[..., :3] * there).sum(0) / np.maximum(there.sum(0), 1)
        placed = there.mean(0) >= SHARE
        self.mean = np.concatenate([places * placed, placed], -1)

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
            found = self.task.compared(entry.run(case), case.arrays[name], case.spacing)
            self.errors.setdefault(entry.name, []).append(found.error)
            rows.append(Row(case.case.name, case.case.subject, (0, case.shape[0]), entry.name, self._numbers(found)))
        return rows

    def _numbers(self, found: LandmarkScores) -> dict[str, float]:
        """Return the scores of a case that are defined."""
        numbers = {
            RATE: found.rate,
            ERROR: found.mean_error,
            F1: found.f1,
            PRECISION: found.precision,
            RECALL: found.recall,
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
        """Add projections of the worst, the median and the best case, and the distances of every landmark."""
        name = self.task.landmarks.name
        ranked = judgement.scores.by_case(OUTPUT, RATE)
        run = next(entry for entry in judgement.entries if entry.name == OUTPUT).run
        for label, case in examples(judgement, ranked, ("Worst", "Median", "Best")).items():
            which = "The only case" if label == "Only" else f"{label} of {len(judgement.cases)} cases by {RATE}"
            report.figure(
                projections(self.task, case, run(case), np.asarray(case.arrays[name])),
                f"{which}: {case.case.name}, {RATE} {ranked[case.case.name]:.3f}. Brightest voxels along the rows and "
                "columns; rings are the truth, dots with names what was found, lines connect both.",
            )
        rows = []
        names = self.task.landmarks.points
        errors = {method: np.stack(own) for method, own in self.errors.items()}
        for place, point in enumerate(names):
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

    def measured(self) -> dict[str, str]:
        """Describe landmarks, grid, and the rule of identification."""
        grid = self.task.preparation
        spacing = " x ".join(f"{step:g}" for step in grid.spacing) + " mm" if grid.spacing else "each volume's own"
        return {
            "Landmarks": ", ".join(self.task.landmarks.points),
            "Grid": f"the working grid, {grid.plane} slices, spacing {spacing}; distances are taken between positions "
            "that are not rounded to it",
            "Identified": f"closer than {LIMIT:g} mm to the true landmark of its name, and closer than to any other",
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
        points.append(
            "Where all names are shifted by one along the body, many distances are small and all names wrong."
        )
        return points
