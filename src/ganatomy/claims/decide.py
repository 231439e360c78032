"""What the papers claim, written down before looking, and how a claim is decided."""

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
from ganatomy.metrics.statistics import Interval, crossed_bootstrap
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
"""By slug of the system."""


def find_claim(slug: str) -> Claim:
    """The claim of a system.

    Raises:
        UserError: unknown system, or nothing is claimed for it here.
    """
    name = catalogue.resolve(slug).slug
    if name not in CLAIMS:
        raise UserError(f"{name}: no claim is written down for it yet; there are {', '.join(CLAIMS)}")
    return CLAIMS[name]


@dataclass(frozen=True)
class Result:
    """How a predicate came out.

    Attributes:
        first: mean of the first arm, with its interval over subjects and seeds.
        second: mean of the second.
        difference: first - second.
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
    """Whether a predicate holds."""
    score = judge.named(predicate.score)
    assert score.better is not None, f"{score.name} has no better direction"
    first, second = scores.table(predicate.first, score.name), scores.table(predicate.second, score.name)
    difference = crossed_bootstrap(first - second)
    sign = 1 if score.better == "higher" else -1
    finding: Finding = "undecided"
    if difference.low > 0 or difference.high < 0:
        finding = "reproduced" if sign * difference.mean > 0 else "not reproduced"
    means = crossed_bootstrap(first), crossed_bootstrap(second)
    return Result(predicate, score.better, score.unit, *means, difference, finding)


def overall(results: Sequence[Result]) -> tuple[str, Outcome]:
    """All predicates in a sentence."""
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
