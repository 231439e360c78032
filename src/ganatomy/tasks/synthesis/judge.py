"""The judge of synthesis: sets of generated images against held-out real ones, with real images as the best case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ganatomy.case import Sample
from ganatomy.evaluation import sets
from ganatomy.evaluation.judging import OUTPUT, Entry, Judge, Judgement, Row, about
from ganatomy.evaluation.remarks import of_phantoms, sentences
from ganatomy.evaluation.sets import MOST, NEIGHBOURS, REAL, REPEATED, RESAMPLINGS
from ganatomy.inference.model import Model
from ganatomy.inference.predictor import Options
from ganatomy.metrics.collapse import collapsed, compare_bins
from ganatomy.metrics.distribution import (
    frechet_distance,
    kernel_distance,
    precision_recall_density_coverage,
    wasserstein_1d,
)
from ganatomy.metrics.diversity import cross_channel_difference, ms_ssim_diversity, total_variance_ratio
from ganatomy.metrics.memorisation import (
    FAKES_PER_CELL,
    authenticity,
    correlation_check,
    data_copying,
    nearest_neighbour_test,
)
from ganatomy.metrics.pyramid import sliced_wasserstein
from ganatomy.reports.report import Outcome, Report
from ganatomy.tasks.synthesis.entries import ImageRequest, noise, sampler
from ganatomy.tasks.synthesis.features import FeatureKind, Features, classifier, features
from ganatomy.tasks.synthesis.pictures import illustrate, windows
from ganatomy.tasks.synthesis.predictor import SamplePredictor
from ganatomy.tasks.synthesis.scores import (
    ACCURACY,
    AUTHENTICITY,
    CHANNELS,
    COLLAPSED,
    COPIES,
    COPYING_TEST,
    COVERAGE,
    DENSITY,
    FRECHET,
    HISTOGRAM,
    KERNEL,
    MS_SSIM,
    NDB,
    NEAREST,
    PRECISION,
    RECALL,
    SCORES,
    SLICED,
    SPREAD,
    TOLD,
    VARIETY,
    level,
)
from ganatomy.tasks.synthesis.sets import (
    SMALL,
    ImageSet,
    halves,
    in_bytes,
    one_of_each,
    physical,
    planes,
    real_images,
    thumbnails,
    unit_of,
    widths,
)

NOISE = "noise"
ALIKE = 1e-3
"""Standard deviation of a pixel over real images, in units of half the window, below which they are equal."""
MOST_KNOWN = 1000
"""Largest number of training images that samples are compared with."""
PAIRS = 64
DRAWS = 20
"""Number of draws of one image of every subject, over which the two-sample test is averaged."""
PIXELS = 1_000_000
"""Approximate number of pixels per set whose histograms are compared."""


@dataclass(frozen=True)
class Pair:
    """Samples, the real images that they are compared with, and the features of both.

    Attributes:
        made: samples.
        real: real images.
        ours: features of the samples, (n, d).
        theirs: features of the real images, (n, d).
    """

    made: ImageSet
    real: ImageSet
    ours: NDArray[np.float64]
    theirs: NDArray[np.float64]


class JudgeOptions(Options):
    """Options of the comparison of sets of images."""

    features: FeatureKind = "random"  # image features: random convolutions, an encoder trained in-domain, or VGG-19


class SynthesisJudge(Judge):
    """Judges image generators by sets of their samples.

    Held-out real images are halved, several times. Every entry generates as many images as a half has, and all sets are
    compared with that half. The entry ``real`` is the other half, whose scores are the best that can be expected. The
    baseline ``noise`` has the mean and the standard deviation of the training images and nothing else.

    Args:
        task: task of the run.
        options: features by which sets are compared; the default needs no download and no training.
    """

    Options: ClassVar[type[Options]] = JudgeOptions

    scores = SCORES
    leading = (KERNEL, COVERAGE, MS_SSIM, COPIES)
    plotted = (COVERAGE,)
    reference: ClassVar[str] = NOISE
    resampled = "resamplings of the test images"
    image: ClassVar[str] = "image"
    compares_with_training = True

    def __init__(self, task: Any, options: Any = None):
        super().__init__(task, options)
        self.scores = tuple(
            replace(score, unit=unit_of(task)) if score.name == HISTOGRAM else score
            for score in self.scores
            if (task.classes or score.name != ACCURACY) and (sum(widths(task)) > 1 or score.name != CHANNELS)
        )
        self.held = self.known = ImageSet(torch.empty(0))
        self.features: Features | None = None
        self.among: NDArray[np.float64] | None = None
        self.compared = 0

    def entry(self, model: Model, name: str) -> Entry:
        """Return a trained sampler as an entry of the table that the judge fills."""
        predictor = model.predictor()
        assert isinstance(predictor, SamplePredictor)
        return sampler(predictor, name, about(model))

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the baseline of noise, and real images as the best case."""
        before = Entry(NOISE, noise, "smoothed Gaussian noise with the mean and spread of the training images")
        after = Entry(REAL, lambda wanted: wanted.spare, "held-out real images that the others are not judged by")
        return [before], [after]

    def score_all(self, entries: Sequence[Entry], cases: Sequence[Sample], training: Sequence[Sample]) -> list[Row]:
        """Score every entry on every resampling; returns a row for each.

        Raises:
            UserError: there are too few held-out images.
        """
        self.held = real_images(self.task, cases, 2 * MOST)
        self.known = real_images(self.task, training, MOST_KNOWN)
        sets.check_enough(len(self.held), "image")
        base = self.known if len(self.known) else self.held
        self.features = features(self.options.features, base.images, base.labels, self.cache)
        teller = self._classifier()
        self.among = self.features.of_real(self.known.images) if len(self.known) > 1 else None
        rows = []
        for number in range(RESAMPLINGS):
            real, spare = halves(self.held, np.random.default_rng(number), MOST)
            self.compared, theirs = len(real), self.features(real.images)
            wanted = ImageRequest(len(real), number, real.labels, spare, self.known)
            for entry in entries:
                made = entry.run(wanted)
                # Every entry has the same random numbers, so that no result depends on which others are judged.
                rng = np.random.default_rng([number, len(real)])
                pair = Pair(made, real, self.features(made.images), theirs)
                scores = self._distances(pair, rng) | self._variety(pair, rng) | self._against_training(pair, rng)
                if teller is not None and made.labels is not None:
                    scores[ACCURACY] = float((teller(made.images).argmax(1) == made.labels).float().mean())
                name = f"resample {number + 1}"
                rows.append(Row(name, name, (0, len(real)), entry.name, scores))
        return rows

    def _classifier(self) -> Any:
        """Train a classifier on the training images; None without images of at least two classes."""
        labels = self.known.labels
        if labels is None or len(set(labels.tolist())) < 2:
            return None
        return classifier(self.known.images, labels, len(self.task.classes), folder=self.cache)

    def _distances(self, pair: Pair, rng: np.random.Generator) -> dict[str, float]:
        """Compute distances between two sets of equal size, and precision, recall, density and coverage."""
        made, real = pair.made, pair.real
        levels = sliced_wasserstein(in_bytes(real), in_bytes(made), rng, patches=64, directions=64, repeats=2)
        found = precision_recall_density_coverage(pair.theirs, pair.ours, min(NEIGHBOURS, len(real) - 1))
        return {
            KERNEL: kernel_distance(pair.theirs, pair.ours, rng, subsets=1).mean,
            FRECHET: frechet_distance(pair.theirs, pair.ours),
            SLICED: levels.mean,
            **{level(rows): value for (rows, _), value in zip(levels.sizes, levels.distances, strict=True)},
            HISTOGRAM: float(np.mean([wasserstein_1d(a, b).mean() for a, b in self._values(real, made)])),
            PRECISION: found.precision,
            RECALL: found.recall,
            DENSITY: found.density,
            COVERAGE: found.coverage,
            TOLD: abs(_accuracy(pair) - 0.5),
            **({CHANNELS: _disagreement(real, made)} if real.images.shape[1] > 1 else {}),
        }

    def _values(self, real: ImageSet, made: ImageSet) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return 2D images of both sets in physical units for each role, subsampled to about `PIXELS` pixels."""
        step = max(1, round((real.images[:, 0].numel() / PIXELS) ** 0.5))
        ours = [physical(torch.from_numpy(planes(one.images)[..., ::step, ::step]), self.task) for one in (real, made)]
        return [(ours[0][role], ours[1][role]) for role in self.task.images]

    def _variety(self, pair: Pair, rng: np.random.Generator) -> dict[str, float]:
        """Score the variety of the samples, and whether they have collapsed."""
        found = collapsed(pair.theirs, pair.ours, rng, smallest_neighbour_distance=REPEATED, most_twins=1)
        return {
            MS_SSIM: _similarity(pair.made, rng),
            VARIETY: total_variance_ratio(pair.theirs, pair.ours),
            SPREAD: found.spread,
            NEAREST: found.neighbour_distance,
            COLLAPSED: float(found.collapsed),
        }

    def _against_training(self, pair: Pair, rng: np.random.Generator) -> dict[str, float]:
        """Score samples against the training images; nothing where these are no longer available."""
        known = self.among
        if known is None:
            return {}
        copied = correlation_check(thumbnails(pair.made), thumbnails(self.known), thumbnails(pair.real), flips=(2, 3))
        bins = compare_bins(known, pair.theirs, pair.ours, rng, sets.bins_of(len(known)))
        # Cells count from 20 samples on; with half as many cells as the samples allow, nearly all of them do.
        cells = max(1, len(pair.ours) // (2 * FAKES_PER_CELL))
        test = data_copying(pair.ours, known, pair.theirs, rng, min(cells, len(known)))
        return {
            NDB: bins.share,
            AUTHENTICITY: authenticity(pair.ours, known),
            COPIES: copied.share,
            **({COPYING_TEST: test.statistic} if test.cells else {}),
        }

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return how near the samples are to real images, and whether they look collapsed or copied."""
        if self.alike:
            told = "No verdict: the real images hardly differ from each other, so that any constant looks right."
            return told, "undecided"
        way, collapse, copies = self.position(judgement, OUTPUT), self.collapse(judgement), self.copied(judgement)
        words = sentences(
            _nearness(OUTPUT, way),
            *[_nearness(baseline, self.position(judgement, baseline)) for baseline in _baselines(judgement)],
            collapse or "Nothing points to a collapse.",
            copies or ("No sign of copied training images." if len(self.known) > 1 else ""),
        )
        beyond = judgement.scores.compare(OUTPUT, NOISE, self.named(KERNEL))
        outcome: Outcome = beyond.outcome if beyond and not math.isnan(way) else "undecided"
        if collapse or copies:
            outcome = "worse"
        return words, outcome

    @property
    def alike(self) -> bool:
        """Whether the held-out real images are (almost) equal, for which no distance between sets has a meaning."""
        return len(self.held) > 1 and float(self.held.images.std(dim=0).mean()) < ALIKE

    def position(self, judgement: Judgement, name: str) -> float:
        """Return where an entry lies between noise (0) and real images (1), by the root of the kernel distance."""
        means = [judgement.scores.interval(one, KERNEL) for one in (NOISE, name, REAL)]
        far, here, near = (max(found.mean, 0.0) ** 0.5 if found else np.nan for found in means)
        return float(np.clip((far - here) / (far - near), -9.99, 1)) if far > near else np.nan

    def collapse(self, judgement: Judgement, name: str = OUTPUT) -> str:
        """Return a warning where most of the sets that were drawn show mode collapse, else an empty string."""
        if not judgement.scores.mean(name, COLLAPSED) >= 0.5:
            return ""
        spread, other = (judgement.scores.mean(name, score) for score in (SPREAD, NEAREST))
        return (
            f"The generator has collapsed: two samples lie {spread:.2f} times as far apart as two real images, and the "
            f"nearest other sample {other:.2f} times."
        )

    def copied(self, judgement: Judgement, name: str = OUTPUT) -> str:
        """Return a warning where too many samples look like copies, else an empty string."""
        how = "they resemble a training image more than 99 % of held-out images do"
        return sets.copied(judgement.scores.mean(name, COPIES), self.compared, how)

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add samples beside real images, nearest training images, latent walks, histograms and spectra."""
        illustrate(report, judgement, self.task, self.held, self.known)

    def measured(self) -> dict[str, str]:
        """Describe the features, the sizes of the sets, and the resamplings."""
        return {
            "Features": self.features.name if self.features else self.options.features,
            **sets.measured(self.compared, len(self.held), len(self.known), "image"),
            "Compared as shown": f"values outside of the window cut off ({windows(self.task)}); of volumes the middle "
            "slice where a score needs pictures",
            "From noise to real": "the root of the kernel distance",
            "Copies": f"images reduced to {SMALL} pixels a side or less, normalised cross-correlation, mirrored too",
        }

    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on collapse, copies, small sets, and features that are substitutes."""
        points = [self.collapse(judgement), self.copied(judgement)]
        points += sets.caveats(self.compared, len(self.known), "image")
        if self.features is not None and "substitute" in self.features.name:
            points.append(f"Features: {self.features.name}.")
        if of_phantoms(judgement.cases):
            points.append("The real images are procedural phantoms, simpler than patients.")
        points.append(
            "A sample that is no copy is not thereby anonymous, and one that looks real need not be possible."
        )
        return [point for point in points if point]


def _nearness(name: str, way: float) -> str:
    """Return a sentence on where an entry lies between noise and real images, see `SynthesisJudge.position`."""
    whose = "The samples" if name == OUTPUT else f"Those of {name}"
    if math.isnan(way):
        return f"Whether {whose[0].lower()}{whose[1:]} resemble real images cannot be said: noise comes as near."
    return (
        f"{whose} lie {way:.0%} of the way from noise to real images."
        if way > 0
        else (f"{whose} are farther from real images than noise is.")
    )


def _baselines(judgement: Judgement) -> list[str]:
    return [name for name in judgement.baselines if name not in (NOISE, REAL)]


def _accuracy(pair: Pair) -> float:
    """Return the accuracy with which the nearest neighbour tells samples from real images, mean over several draws.

    A draw has one image of every subject: slices of one patient resemble each other, so that they would find each other
    and even real images would be told from real ones. As many samples are drawn.
    """
    rng = np.random.default_rng(len(pair.real))
    found = []
    for _ in range(DRAWS):
        theirs, ours = (one_of_each(one, rng) for one in (pair.real, pair.made))
        size = min(len(theirs), len(ours))
        found.append(nearest_neighbour_test(pair.theirs[theirs[:size]], pair.ours[ours[:size]]).accuracy)
    return float(np.mean(found))


def _disagreement(real: ImageSet, made: ImageSet) -> float:
    """Return how differently the channels of two sets go together, in the deviations from the mean image of each.

    The mean image is subtracted because channels that show the same place agree in it, whatever single images show.
    """
    deviations = [planes(one.images) - planes(one.images).mean(axis=0) for one in (real, made)]
    return cross_channel_difference(*deviations)


def _similarity(one: ImageSet, rng: np.random.Generator) -> float:
    """Compute the mean MS-SSIM of random pairs; NaN for images under 16 pixels a side."""
    pictures = in_bytes(one)
    if min(pictures.shape[2:]) < 16:
        return math.nan
    return ms_ssim_diversity(pictures, rng, min(PAIRS, len(one) * (len(one) - 1) // 2)).mean
