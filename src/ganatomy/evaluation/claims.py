"""What the papers claim, written down before looking, and how a claim is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ganatomy import catalogue
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import INPUT, Judge, Scores
from ganatomy.evaluation.report import Outcome
from ganatomy.evaluation.statistics import Interval, crossed_bootstrap

Finding = Literal["reproduced", "not reproduced", "undecided"]
FINDINGS: tuple[Finding, ...] = ("reproduced", "not reproduced", "undecided")


@dataclass(frozen=True)
class Predicate:
    """A part of a claim that can be true or false: one arm is better than another on a score.

    Args:
        words: the same as a sentence.
        score: name of the score; its judge knows which direction is better.
        first: the arm that the paper says is better.
        second: another arm, or ``input``.
    """

    words: str
    score: str
    first: str
    second: str = INPUT


@dataclass(frozen=True)
class Claim:
    """What a paper claims.

    Args:
        slug: of the system.
        words: the claim as the paper makes it, in our words.
        arms: name to what differs from the system's preset; the first is the method that the paper proposes.
        predicates: what must hold.
    """

    slug: str
    words: str
    arms: Mapping[str, Mapping[str, Any]]
    predicates: Sequence[Predicate]


PSNR, SSIM, RMSE = "psnr[-160,240]", "ssim[-160,240]", "rmse"
SD, SPECTRUM = "noise sd error", "nps distance"

WOLTERINK = Claim(
    "wolterink-ldct",
    "A network trained with a voxel loss alone has the highest PSNR but over-smooths; with an adversary the image "
    "statistics match those of routine dose better; calcium is quantified better than in the low-dose scan.",
    {
        "g-voxel-adv": {},
        "g-voxel": {"variant": "g-voxel"},
        # Without a voxel loss nothing holds the CT numbers but a small step.
        "g-adv": {"variant": "g-adv", "learning_rate": 2e-4},
    },
    (
        Predicate("the voxel loss alone has a higher PSNR than both losses", PSNR, "g-voxel", "g-voxel-adv"),
        Predicate("the voxel loss alone has a higher PSNR than the adversary alone", PSNR, "g-voxel", "g-adv"),
        Predicate("with both losses the noise SD is nearer to routine dose", SD, "g-voxel-adv", "g-voxel"),
        Predicate("with the adversary alone the noise SD is nearer to routine dose", SD, "g-adv", "g-voxel"),
        Predicate("calcium scores err less than in the low-dose scan", "agatston error", "g-voxel-adv"),
    ),
)

WGAN_VGG = Claim(
    "wgan-vgg",
    "The method beats the low-dose scan on PSNR, SSIM and RMSE. A network trained for squared error alone has the "
    "higher PSNR but over-smooths: the method's noise is nearer to that of normal dose, in amount and in texture.",
    {"wgan-vgg": {}, "cnn-mse": {"variant": "cnn-mse"}},
    (
        Predicate("PSNR is higher than the low-dose scan's", PSNR, "wgan-vgg"),
        Predicate("SSIM is higher than the low-dose scan's", SSIM, "wgan-vgg"),
        Predicate("RMSE is lower than the low-dose scan's", RMSE, "wgan-vgg"),
        Predicate("squared error alone has the higher PSNR", PSNR, "cnn-mse", "wgan-vgg"),
        Predicate("the noise SD is nearer to normal dose than with squared error alone", SD, "wgan-vgg", "cnn-mse"),
        Predicate("the noise spectrum is nearer to normal dose, too", SPECTRUM, "wgan-vgg", "cnn-mse"),
    ),
)

SAGAN = Claim(
    "sagan-ct",
    "The method beats the low-dose scan and the same conditional GAN without the sharpness network on PSNR and SSIM, "
    "and loses very little resolution.",
    {
        "sagan-ct": {},
        "pix2pix": {"sharpness_weight": 0.0},
        "plain": {"sharpness_weight": 0.0, "adversarial_weight": 0.0},
    },
    (
        Predicate("PSNR is higher than the low-dose scan's", PSNR, "sagan-ct"),
        Predicate("SSIM is higher than the low-dose scan's", SSIM, "sagan-ct"),
        Predicate("PSNR is higher than without the sharpness network", PSNR, "sagan-ct", "pix2pix"),
        Predicate("SSIM is higher than without the sharpness network", SSIM, "sagan-ct", "pix2pix"),
        Predicate(
            "edges are nearer to routine dose than with pixel loss alone", "sharpness error", "sagan-ct", "plain"
        ),
    ),
)

CLAIMS: dict[str, Claim] = {claim.slug: claim for claim in (WOLTERINK, WGAN_VGG, SAGAN)}
"""By slug of the system. Written before any of them was tested here."""


def find_claim(slug: str) -> Claim:
    """The claim of a system.

    Raises:
        UserError: unknown system, or nothing is claimed for it here.
    """
    name = catalogue.find(slug).slug
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


class ArmScores:
    """Scores of all arms and seeds on the same subjects.

    Args:
        scores: rows whose methods are called ``arm#seed``; roles such as ``input`` stand for every seed.
        seeds: of the arms.
    """

    def __init__(self, scores: Scores, seeds: Sequence[int]):
        self.scores, self.seeds = scores, seeds

    @property
    def subjects(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row.subject for row in self.scores.rows))

    def table(self, arm: str, score: str) -> NDArray[np.float64]:
        """(seeds, subjects), NaN where a subject has no such score."""
        known = self.scores.methods
        methods = [label(arm, seed) if label(arm, seed) in known else arm for seed in self.seeds]
        found = [self.scores.by_subject(method, score) for method in methods]
        return np.array([[means.get(subject, np.nan) for subject in self.subjects] for means in found])

    def by_subject(self, arm: str, score: str) -> dict[str, float]:
        """Mean over the seeds."""
        return dict(zip(self.subjects, self.table(arm, score).mean(axis=0).tolist(), strict=True))


def label(arm: str, seed: int) -> str:
    """What an arm trained with a seed is called among the rows."""
    return f"{arm}#{seed}"


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
