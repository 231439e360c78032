"""All claims, written down before they were tested, and the rule by which a claim is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ganatomy import catalogue
from ganatomy.claims.claim import Claim, Predicate
from ganatomy.claims.sections import (
    denoising,
    detection,
    frameworks,
    geometry,
    reconstruction,
    segmentation,
    superresolution,
    synthesis,
    volumes,
)
from ganatomy.errors import UserError
from ganatomy.evaluation.arms import ArmScores
from ganatomy.evaluation.judging import Judge
from ganatomy.metrics.statistics import Interval, crossed_interval
from ganatomy.reports.report import Outcome

Finding = Literal["reproduced", "not reproduced", "undecided"]
FINDINGS: tuple[Finding, ...] = ("reproduced", "not reproduced", "undecided")


CLAIMS: dict[str, Claim] = {
    claim.slug: claim
    for section in (
        denoising,
        frameworks,
        synthesis,
        geometry,
        detection,
        segmentation,
        reconstruction,
        superresolution,
        volumes,
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
        first: mean of the first arm, with its 95 % interval over subjects and seeds.
        second: mean of the second arm, with its interval.
        difference: first minus second, with its interval.
        finding: ``reproduced`` where the interval of the difference lies on the claimed side of zero, ``not
            reproduced`` where it lies on the other one, else ``undecided``.
    """

    predicate: Predicate
    better: Literal["higher", "lower"]
    unit: str
    first: Interval
    second: Interval
    difference: Interval
    finding: Finding


def check(predicate: Predicate, scores: ArmScores, judge: Judge) -> Result:
    """Test a predicate on the scores of all arms."""
    score = judge.named(predicate.score)
    assert score.better is not None, f"{score.name} has no better direction"
    first, second = scores.table(predicate.first, score.name), scores.table(predicate.second, score.name)
    difference = crossed_interval(first - second)
    sign = 1 if score.better == "higher" else -1
    finding: Finding = "undecided"
    if difference.low > 0 or difference.high < 0:
        finding = "reproduced" if sign * difference.mean > 0 else "not reproduced"
    means = crossed_interval(first), crossed_interval(second)
    return Result(predicate, score.better, score.unit, *means, difference, finding)


def overall(results: Sequence[Result]) -> tuple[str, Outcome]:
    """Return the verdict on all predicates as a sentence, and its outcome."""
    total = len(results)
    found = {finding: sum(result.finding == finding for result in results) for finding in FINDINGS}
    if found["reproduced"] == total:
        return f"Reproduced: all {total} parts of the claim hold.", "better"
    parts = f"{found['reproduced']} of {total} parts of the claim reproduced" + "".join(
        f", {found[other]} {other}" for other in FINDINGS[1:] if found[other]
    )
    if found["not reproduced"] == total:
        return f"Not reproduced: the opposite holds for all {total} parts of the claim.", "worse"
    if found["reproduced"]:
        return f"In part: {parts}.", "undecided"
    outcome: Outcome = "worse" if found["not reproduced"] else "undecided"
    return f"Not shown: {parts}.", outcome
