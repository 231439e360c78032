"""The judge of vessel geometry: sets of samples against held-out vessels and a statistical shape model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ganatomy.case import Sample
from ganatomy.evaluation import sets
from ganatomy.evaluation.judging import OUTPUT, Entry, Judge, Judgement, Row, Score, about
from ganatomy.evaluation.remarks import of_phantoms, sentences
from ganatomy.evaluation.sets import MOST, NEAREST_SHARE, NEIGHBOURS, REAL, REPEATED, RESAMPLINGS, SamplerEntry
from ganatomy.inference.model import Model
from ganatomy.metrics.collapse import collapsed, compare_bins
from ganatomy.metrics.distribution import kernel_distance, nearest, precision_recall_density_coverage
from ganatomy.metrics.diversity import total_variance_ratio
from ganatomy.metrics.geometry import difference, intersects_itself, relative_length_errors
from ganatomy.metrics.memorisation import authenticity, nearest_neighbour_test
from ganatomy.physics.centreline import Centreline
from ganatomy.reports.report import Outcome, Report
from ganatomy.tasks.geometry.pictures import illustrate
from ganatomy.tasks.geometry.predictor import VesselPredictor
from ganatomy.tasks.geometry.shape_model import KEPT, PLACES, ShapeModel
from ganatomy.tasks.geometry.task import NUMBERS, VESSEL, Signals, VesselGeometry

SHAPE_MODEL = "shape model"
MOST_KNOWN = 2000
"""Largest number of training vessels that samples are compared with."""

LABELS: Mapping[str, tuple[str, str, float]] = {
    "length_mm": ("length", "mm", 1.0),
    "mean_radius_mm": ("mean radius", "mm", 1.0),
    "max_radius_mm": ("max radius", "mm", 1.0),
    "tortuosity": ("tortuosity", "", 1.0),
    "taper": ("taper", "µm/mm", 1000.0),
    "curvature_per_mm": ("curvature", "1/m", 1000.0),
}
"""Number of `TubeShape` to its name and unit in tables, and the factor that converts it to this unit."""

SHAPE = "shape distance"
KERNEL, PRECISION, RECALL, DENSITY, COVERAGE = "kernel distance", "precision", "recall", "density", "coverage"
TOLD, VARIETY, NDB, COLLAPSED = "told apart", "variety", "ndb", "collapsed"
CROSSING, COPIES, AUTHENTICITY, LENGTH_ERROR = "runs into itself", "copies", "authenticity", "length error"
W1, KS = "Numbers of single vessels: Wasserstein-1 distance", "Numbers of single vessels: Kolmogorov-Smirnov distance"
SIGNALS, KNOWN = "Signals", "Training vessels"

SCORES: tuple[Score, ...] = (
    Score(SHAPE, "lower", "SD", "Wasserstein-1 distance over the standard deviation among real vessels, mean of the "
          "six numbers.", W1),
    *(Score(f"{label} distance", "lower", unit, "", W1) for label, unit, _ in LABELS.values()),
    *(Score(f"{label} ks", "lower", "", "", KS) for label, _, _ in LABELS.values()),
    Score(KERNEL, "lower", "", "Squared maximum mean discrepancy of the signals, unbiased: equal distributions give 0 "
          "on average and may give less.", SIGNALS),
    Score(PRECISION, "higher", "", "Share of the samples within the neighbourhood of a real vessel.", SIGNALS),
    Score(RECALL, "higher", "", "Share of the real vessels within the neighbourhood of a sample.", SIGNALS),
    Score(DENSITY, None, "", "Real neighbourhoods around a sample; about 1 for real vessels.", SIGNALS),
    Score(COVERAGE, "higher", "", "Share of the real vessels with a sample in their neighbourhood.", SIGNALS),
    Score(TOLD, "lower", "", "Distance from 0.5 of the accuracy with which the nearest other vessel, of both sets "
          "together, says whether a vessel is real: 0 where they cannot be told apart, 0.5 where they always can.",
          SIGNALS),
    Score(VARIETY, None, "", "Total variance over that of real vessels.", SIGNALS),
    Score(NDB, "lower", "", "Share of clusters of training vessels that samples and real vessels fill differently; "
          "0.05 is expected.", SIGNALS),
    Score(CROSSING, "lower", "", "Share of vessels of which two points far apart along the line are nearer in space "
          "than their radii together.", "Anatomy"),
    Score(COPIES, "lower", "", "Share of samples nearer to a training vessel than 99 % of held-out vessels are.",
          KNOWN),
    Score(AUTHENTICITY, None, "", "Share of samples farther from their nearest training vessel than that one is from "
          "the others: 0 for copies, compare with real vessels.", KNOWN),
    Score(LENGTH_ERROR, "lower", "", "Relative, of vessels made for lengths of training vessels. Methods without the "
          "condition show the error of vessels of any length.", "What was asked for"),
)  # fmt: skip


@dataclass(frozen=True)
class VesselSet:
    """A set of vessels for comparison.

    Attributes:
        signals: signals, (n, 4, samples).
        subjects: subject of each real vessel; empty for generated ones.
    """

    signals: Signals
    subjects: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.signals)

    @property
    def features(self) -> NDArray[np.float64]:
        """Flattened signals, (n, 4 · samples)."""
        return np.asarray(self.signals, np.float64).reshape(len(self.signals), -1)

    def take(self, index: NDArray[np.intp]) -> VesselSet:
        """Return the vessels of some indices, in their order."""
        return VesselSet(self.signals[index], tuple(self.subjects[i] for i in index.tolist()))


@dataclass(frozen=True)
class VesselRequest(sets.Request):
    """Request for a set of vessels.

    Attributes:
        lengths: lengths in mm, (count,), for samplers conditioned on length.
        spare: held-out real vessels with which the set is not compared.
    """

    lengths: NDArray[np.float64]
    spare: VesselSet


def sampler(predictor: VesselPredictor, name: str, about: str = "") -> SamplerEntry:
    """Return a trained run as an entry; its ``run`` takes a `VesselRequest` and returns a `VesselSet`."""
    return SamplerEntry(
        name, lambda wanted: VesselSet(predictor.signals(wanted.seeds, wanted.lengths)), about, predictor
    )


class GeometryJudge(Judge):
    """Judges vessel generators by sets of their samples.

    Held-out vessels are halved by patients, several times. Every entry generates as many vessels as a half has, and all
    sets are compared with that half. The entry ``real`` is the other half, whose scores are the best that can be
    expected. The baseline ``shape model`` is a statistical shape model of the training vessels.

    Args:
        task: task of the run.
        options: not used; the judge has no options.
    """

    scores = SCORES
    leading = (SHAPE, COVERAGE, NDB, COPIES)
    plotted = (SHAPE, COVERAGE)
    reference: ClassVar[str] = SHAPE_MODEL
    resampled = "resamplings of the test vessels"
    image: ClassVar[str] = "vessel"
    compares_with_training = True

    def __init__(self, task: VesselGeometry, options: BaseModel | None = None):
        super().__init__(task, options)
        empty = VesselSet(np.zeros((0, 4, task.signals.samples), np.float32))
        self.held = self.known = empty
        self.model: ShapeModel | None = None
        self.compared = 0

    def entry(self, model: Model, name: str) -> Entry:
        """Return a trained sampler as an entry of the judgement."""
        return sampler(model.predictor(), name, about(model))  # type: ignore[arg-type]

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the baseline of the statistical shape model, and real vessels as the best case."""
        before = Entry(
            SHAPE_MODEL,
            self._from_shape_model,
            f"principal components that keep {KEPT:.0%} of the variance of directions and radii at {PLACES} "
            "corresponding places and of the length, with normal coefficients",
        )
        after = Entry(REAL, lambda wanted: wanted.spare, "held-out vessels that the others are not judged by")
        return [before], [after]

    def learn(self, training: Sequence[Sample]) -> None:
        """Fit the shape model to the training vessels."""
        self.known = vessels(training, MOST_KNOWN)
        self.model = ShapeModel.of(self.lines(self.known)) if len(self.known) > 1 else None

    def _from_shape_model(self, wanted: VesselRequest) -> VesselSet:
        # Without training vessels, the model is fitted to the half that no set is compared with.
        model = self.model or ShapeModel.of(self.lines(wanted.spare))
        made = model.sample(wanted.count, np.random.default_rng([PLACES, wanted.number]))
        signals = [self.task.signals.encode(line).signal for line in made]
        return VesselSet(np.stack(signals).astype(np.float32))

    def lines(self, one: VesselSet) -> list[Centreline]:
        """Return the centre-lines of vessels of more than one point."""
        found = [self.task.signals.decode(signal) for signal in one.signals]
        return [line for line in found if len(line.points) > 1]

    def score_all(self, entries: Sequence[Entry], cases: Sequence[Sample], training: Sequence[Sample]) -> list[Row]:
        """Score every entry on every resampling; returns a row for each.

        Raises:
            UserError: there are too few held-out vessels.
        """
        self.held = vessels(cases, 2 * MOST)
        sets.check_enough(len(self.held), "vessel")
        asked = any(isinstance(one, SamplerEntry) and one.predictor.conditional for one in entries)
        rows = []
        for number in range(RESAMPLINGS):
            rng = np.random.default_rng(number)
            real, spare = halves(self.held, rng, MOST)
            self.compared = len(real)
            pool = self.task.lengths(self.known.signals if len(self.known) else spare.signals)
            wanted = VesselRequest(len(real), number, rng.choice(pool[pool > 0], len(real)), spare)
            for entry in entries:
                made = entry.run(wanted)
                # Every entry has the same random numbers, so that no result depends on which others are judged.
                scores = self.score(made, real, np.random.default_rng([number, len(real)]))
                if asked:
                    errors = relative_length_errors(self.task.lengths(made.signals), wanted.lengths)
                    scores[LENGTH_ERROR] = float(errors.mean())
                name = f"resample {number + 1}"
                rows.append(Row(name, name, (0, len(real)), entry.name, scores))
        return rows

    def score(self, made: VesselSet, real: VesselSet, rng: np.random.Generator) -> dict[str, float]:
        """Compute all scores of a set of vessels against a set of real ones of equal size."""
        ours, theirs = made.features, real.features
        repeats = collapsed(theirs, ours, rng, smallest_neighbour_distance=REPEATED, most_twins=1)
        found = precision_recall_density_coverage(theirs, ours, min(NEIGHBOURS, len(real) - 1))
        crossing = [intersects_itself(line.points, line.radii) for line in self.lines(made)]
        return {
            **self._shapes(made, real),
            KERNEL: kernel_distance(theirs, ours, rng, subsets=1).mean,
            PRECISION: found.precision,
            RECALL: found.recall,
            DENSITY: found.density,
            COVERAGE: found.coverage,
            TOLD: abs(nearest_neighbour_test(theirs, ours).accuracy - 0.5),
            VARIETY: total_variance_ratio(theirs, ours),
            COLLAPSED: float(repeats.collapsed),
            CROSSING: float(np.mean(crossing)) if crossing else math.nan,
            **self._against_training(ours, theirs, rng),
        }

    def _shapes(self, made: VesselSet, real: VesselSet) -> dict[str, float]:
        """Score the distributions of the numbers of single vessels."""
        scores = {SHAPE: self.task.set_scores(real.signals, made.signals)[SHAPE]}
        ours, theirs = self.task.shapes(made.signals), self.task.shapes(real.signals)
        for number in NUMBERS:
            label, _, factor = LABELS[number]
            if not np.isfinite(ours[number]).any():
                continue
            found = difference(factor * theirs[number], factor * ours[number])
            scores |= {f"{label} distance": found.wasserstein, f"{label} ks": found.kolmogorov_smirnov}
        return scores

    def _against_training(
        self, ours: NDArray[np.float64], theirs: NDArray[np.float64], rng: np.random.Generator
    ) -> dict[str, float]:
        """Score samples against the training vessels; nothing where these are no longer available."""
        if len(self.known) < 2:
            return {}
        known = self.known.features
        limit = np.quantile(nearest(theirs, known)[1], NEAREST_SHARE)
        return {
            NDB: compare_bins(known, theirs, ours, rng, sets.bins_of(len(known))).share,
            AUTHENTICITY: authenticity(ours, known),
            COPIES: float(np.mean(nearest(ours, known)[1] < limit)),
        }

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return how far the samples are from real vessels, and whether they look collapsed or copied."""
        names = (OUTPUT, *judgement.baselines)
        scores = judgement.scores
        means, covered = ({name: scores.mean(name, score) for name in names} for score in (SHAPE, COVERAGE))
        collapse, copies = self.collapse(judgement), self.copied(judgement)
        others = ", ".join(f"{name} {value:.2f}" for name, value in means.items() if name != OUTPUT)
        words = sentences(
            f"In six numbers of their shape, samples differ from held-out vessels by {means[OUTPUT]:.2f} standard "
            f"deviations on average ({others}); {covered[OUTPUT]:.0%} of the held-out vessels have a sample in their "
            f"neighbourhood ({SHAPE_MODEL} {covered[SHAPE_MODEL]:.0%}, {REAL} {covered[REAL]:.0%}).",
            self.length_sentence(judgement),
            collapse or "Nothing points to a collapse.",
            copies or ("No sign of copied training vessels." if len(self.known) > 1 else ""),
        )
        found = scores.compare(OUTPUT, SHAPE_MODEL, self.named(SHAPE))
        outcome: Outcome = found.outcome if found else "undecided"
        return words, "worse" if collapse or copies else outcome

    def length_sentence(self, judgement: Judgement) -> str:
        """Return a sentence on the errors of lengths; empty for runs that are not conditioned on length."""
        error = judgement.scores.mean(OUTPUT, LENGTH_ERROR)
        known = self.task.conditional and not math.isnan(error)
        return f"Lengths are {error:.1%} off what was asked for." if known else ""

    def collapse(self, judgement: Judgement) -> str:
        """Return a warning where most resamplings look collapsed, else an empty string."""
        if not judgement.scores.mean(OUTPUT, COLLAPSED) >= 0.5:
            return ""
        return "The generator has collapsed: its samples lie much nearer to each other than real vessels do."

    def copied(self, judgement: Judgement) -> str:
        """Return a warning where too many samples look like copies, else an empty string."""
        how = "they lie nearer to a training vessel than 99 % of held-out vessels do"
        return sets.copied(judgement.scores.mean(OUTPUT, COPIES), self.compared, how)

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add samples beside real vessels, distributions, nearest training vessels, and latent walks."""
        rng = np.random.default_rng(0)
        real, spare = halves(self.held, rng, MOST)
        pool = self.task.lengths(self.known.signals if len(self.known) else spare.signals)
        wanted = VesselRequest(len(real), 0, rng.choice(pool[pool > 0], len(real)), spare)
        shown = {one.name: one.run(wanted).signals for one in judgement.entries if one.name != REAL}
        own = next(one for one in judgement.entries if isinstance(one, SamplerEntry))
        illustrate(report, {**shown, REAL: real.signals}, own.predictor, self.known.signals)

    def measured(self) -> dict[str, str]:
        """Describe the signals, the sizes of the sets, and the resamplings."""
        s = self.task.signals
        return {
            "Vessels compared": f"as signals of {s.samples} samples, {s.step_mm:g} mm apart, real ones too, so that "
            f"all end at {s.longest_mm:g} mm at the latest; numbers of single vessels are of the decoded centre-lines",
            **sets.measured(self.compared, len(self.held), len(self.known), "vessel"),
            "Curvature": "of circles through three successive points, mean per vessel",
            "Taper": "least-squares slope of the radius over arc length",
            "Neighbours": f"{NEIGHBOURS}, Euclidean distance of signals",
        }

    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on collapse, copies, small sets, and the limits of shape statistics."""
        points = [self.collapse(judgement), self.copied(judgement)]
        points += sets.caveats(self.compared, len(self.known), "vessel")
        if of_phantoms(judgement.cases):
            points.append("The real vessels are those of procedural phantoms, simpler than patients.")
        points.append(
            "Vessels that look real need not carry blood as real ones do, and one that is no copy is not thereby "
            "anonymous."
        )
        return [point for point in points if point]


def vessels(cases: Sequence[Sample], most: int, seed: int = 0) -> VesselSet:
    """Draw the vessels of some cases.

    Args:
        cases: prepared cases.
        most: largest number of vessels.
        seed: seed of the draw.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cases))[:most])
    some = [cases[index] for index in chosen]
    if not some:
        return VesselSet(np.zeros((0, 4, 1), np.float32))
    signals = np.stack([np.asarray(case.arrays[VESSEL])[:, 0, 0] for case in some])
    return VesselSet(signals, tuple(case.case.subject for case in some))


def halves(pool: VesselSet, rng: np.random.Generator, most: int) -> tuple[VesselSet, VesselSet]:
    """Divide a set into two of equal size without a common patient, see `ganatomy.evaluation.sets.halves`."""
    first, second = sets.halves(pool.subjects, rng, most)
    return pool.take(first), pool.take(second)
