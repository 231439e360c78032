"""All claims, written down before they were tested, and the rule by which a claim is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ganatomy import catalogue
from ganatomy.claims.claim import Claim, Predicate
from ganatomy.claims.sections import (
    abdomen_segmentation,
    brain_segmentation,
    chest_segmentation,
    classification,
    cross_modality,
    denoising,
    detection,
    filaments,
    frameworks,
    geometry,
    heart_segmentation,
    landmarks,
    microscopy_segmentation,
    microscopy_translation,
    reconstruction,
    retina_segmentation,
    retina_synthesis,
    segmentation,
    superresolution,
    synthesis,
    ultrasound,
    uptake,
    volumes,
)
from ganatomy.errors import UserError
from ganatomy.evaluation.arms import ArmScores
from ganatomy.evaluation.judging import Judge
from ganatomy.metrics.statistics import FEWEST_RUNS, Interval, RunsOutcome, contrast, crossed_interval
from ganatomy.reports.report import Outcome

Finding = Literal["reproduced", "not reproduced", "undecided", "not run enough"]
FINDINGS: tuple[Finding, ...] = ("reproduced", "not reproduced", "undecided", "not run enough")
FINDING_OF: dict[RunsOutcome, Finding] = {
    "better": "reproduced",
    "worse": "not reproduced",
    "undecided": "undecided",
    "not run enough": "not run enough",
}
"""Outcome of the comparison of two arms to the finding on the part of the claim that the first one is better."""

CLAIMS: dict[str, Claim] = {
    claim.slug: claim
    for section in (
        denoising,
        frameworks,
        synthesis,
        filaments,
        uptake,
        ultrasound,
        geometry,
        detection,
        segmentation,
        abdomen_segmentation,
        heart_segmentation,
        microscopy_segmentation,
        retina_segmentation,
        retina_synthesis,
        chest_segmentation,
        classification,
        brain_segmentation,
        landmarks,
        reconstruction,
        superresolution,
        volumes,
        cross_modality,
        microscopy_translation,
    )
    for claim in section.CLAIMS
}
"""Slug of a system to the claim of its paper."""


def find_claim(slug: str) -> Claim:
    """Return the claim of a system's paper.

    Raises:
        UserError: the system is unknown, or no claim is written down for it.
    """
    name = catalogue.resolve(slug).slug
    if name not in CLAIMS:
        raise UserError(f"{name}: no claim is written down for it yet; there are {', '.join(CLAIMS)}")
    return CLAIMS[name]


@dataclass(frozen=True)
class Result:
    """Result of a predicate.

    Attributes:
        predicate: the part of the claim that was tested.
        better: direction in which the score is better.
        unit: unit of the score.
        first: mean of the first arm, with its 95 % interval over subjects and runs.
        second: mean of the second arm, with its interval.
        difference: first minus second, with its interval over subjects and runs.
        over_subjects: the same difference with its interval over subjects alone.
        finding: ``reproduced`` where both intervals of the difference lie on the claimed side of zero, ``not
            reproduced`` where they lie on the other one, ``not run enough`` where the interval over subjects excludes
            zero but there are fewer than `FEWEST_RUNS` runs, else ``undecided``. With a margin, the difference that is
            the margin takes the place of zero.
    """

    predicate: Predicate
    better: Literal["higher", "lower"]
    unit: str
    first: Interval
    second: Interval
    difference: Interval
    over_subjects: Interval
    finding: Finding


@dataclass(frozen=True)
class Reproduction:
    """Results of testing a claim.

    Attributes:
        claim: the claim that was tested.
        results: result of each predicate.
        sentence: overall verdict.
        outcome: overall verdict as an outcome, which decides the colour of the headline.
        facts: data, subjects, seeds, rounds, options that differ from the papers', code, hours and versions.
        out: folder with claim.json, claim.md, report.html and the runs.
        problems: one line for every case that was left out.
    """

    claim: Claim
    results: Sequence[Result]
    sentence: str
    outcome: Outcome
    facts: Mapping[str, Any]
    out: Path
    problems: Sequence[str]


def check(predicate: Predicate, scores: ArmScores, judge: Judge) -> Result:
    """Test a predicate on the scores of all arms."""
    score = judge.named(predicate.score)
    assert score.better is not None, f"{score.name} has no better direction"
    first, second = scores.table(predicate.first, score.name), scores.table(predicate.second, score.name)
    allowed = predicate.margin if score.better == "lower" else -predicate.margin
    found = contrast(first, second + allowed, better=score.better)
    intervals = (
        crossed_interval(first),
        crossed_interval(second),
        moved(found.difference, allowed),
        moved(found.over_subjects, allowed),
    )
    return Result(predicate, score.better, score.unit, *intervals, FINDING_OF[found.outcome])


def moved(interval: Interval, by: float) -> Interval:
    """Return an interval whose mean and limits are larger by a number."""
    return replace(interval, mean=interval.mean + by, low=interval.low + by, high=interval.high + by)


def overall(results: Sequence[Result], *, miniature: bool) -> tuple[str, Outcome]:
    """Return the verdict on all predicates as a sentence, and its outcome.

    Args:
        results: results of the predicates.
        miniature: whether an arm was trained with other numbers than its paper's, such as sizes, weights of losses or
            rounds, so that the claim of the paper itself was not tested.
    """
    total = len(results)
    found = {finding: sum(result.finding == finding for result in results) for finding in FINDINGS}
    how = " in miniature" if miniature else ""
    if found["reproduced"] == total:
        return f"Reproduced{how}: {_all_of(total)} of the claim hold{'s' if total == 1 else ''}.", "better"
    if found["not run enough"] and not found["reproduced"] and not found["not reproduced"]:
        return f"Not run enough: a verdict needs at least {FEWEST_RUNS} runs of every arm.", "undecided"
    parts = f"{found['reproduced']} of {total} parts of the claim reproduced{how}" + "".join(
        f", {found[other]} {other}" for other in FINDINGS[1:] if found[other]
    )
    if found["not reproduced"] == total:
        return f"Not reproduced{how}: the opposite holds for {_all_of(total)} of the claim.", "worse"
    if found["reproduced"]:
        return f"In part: {parts}.", "undecided"
    outcome: Outcome = "worse" if found["not reproduced"] else "undecided"
    return f"Not shown: {parts}.", outcome


def _all_of(total: int) -> str:
    return "the only part" if total == 1 else f"all {total} parts"
