"""Data classes of a claim and of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ganatomy.evaluation.judging import INPUT

STRONGEST = "strongest reference"
"""Stands for the strongest method without an adversary or training of its own, which validation cases decide."""
ALIKE = 0.1
"""Margin of shares within which samples count as real images do: a reader who tells them apart is right in at most 60 %
of all cases."""


@dataclass(frozen=True)
class Predicate:
    """A part of a claim that can be tested: one arm has a better score than another, or one that is no worse.

    Args:
        words: the part of the claim as a sentence.
        score: name of the score; the judge of the task knows which direction is better.
        first: name of the arm that is better according to the paper.
        second: name of another arm, of a reference such as ``input`` or ``real``, of a method without an adversary that
            the judge tunes on validation cases, such as ``total variation``, or `STRONGEST`.
        margin: how much worse the first one may be, in the unit of the score. With 0 it has to be better; a part that
            says that two are alike, such as samples and real images, needs a margin.
    """

    words: str
    score: str
    first: str
    second: str = INPUT
    margin: float = 0.0

    def against(self, reference: str) -> Predicate:
        """Return the predicate with a method in the place of `STRONGEST`."""
        return replace(self, second=reference) if self.second == STRONGEST else self


@dataclass(frozen=True)
class Claim:
    """The claim of a paper about its method.

    Args:
        slug: slug of the system.
        words: the claim of the paper, paraphrased.
        arms: name of each compared method to the options that differ from the preset; the first is the method that
            the paper proposes.
        predicates: parts of the claim, which are tested one by one; both sides of a part are of one kind of task.
        systems: name to slug, for arms that are other systems.
        phantom: options of all arms where no data are given: the phantom on which the claim is tested, and how its
            images are read.
        as_long: names of other arms that are trained for as many rounds as the proposed method, not for their own.
        untested: what the paper claims beyond the parts, such as the judgement of readers, and how else it is tested.
    """

    slug: str
    words: str
    arms: Mapping[str, Mapping[str, Any]]
    predicates: Sequence[Predicate]
    systems: Mapping[str, str] = field(default_factory=dict)
    phantom: Mapping[str, Any] = field(default_factory=dict)
    as_long: Sequence[str] = ()
    untested: str = ""

    def system(self, arm: str) -> str:
        """Return the slug of an arm's system."""
        return self.systems.get(arm, self.slug)


UNET = "unet"
"""Name of the arm of a U-Net that is planned from the data, and slug of that system."""


def beside_unet(claim: Claim) -> Claim:
    """Return the claim of a segmentation system with a plain U-Net as a further arm, and a last part on it.

    The U-Net is trained for as many rounds as the proposed method, on the same images. No paper compares with it; it is
    what a user would take instead.

    Args:
        claim: claim whose first part has the score by which both are compared.
    """
    score, proposed = claim.predicates[0].score, next(iter(claim.arms))
    words = f"{score[0].upper()}{score[1:]} is better than that of a U-Net planned from the data"
    return replace(
        claim,
        arms={**claim.arms, UNET: {}},
        systems={**claim.systems, UNET: UNET},
        as_long=(*claim.as_long, UNET),
        predicates=(*claim.predicates, Predicate(words, score, proposed, UNET)),
    )
