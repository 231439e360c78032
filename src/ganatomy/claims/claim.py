"""Data classes of a claim and of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ganatomy.evaluation.judging import INPUT

STRONGEST = "strongest reference"
"""Stands for the strongest method without an adversary or training of its own, which validation cases decide."""


@dataclass(frozen=True)
class Predicate:
    """A part of a claim that can be tested: one arm has a better score than another.

    Args:
        words: the part of the claim as a sentence.
        score: name of the score; the judge of the task knows which direction is better.
        first: name of the arm that is better according to the paper.
        second: name of another arm, of a baseline such as ``input``, or `STRONGEST`.
    """

    words: str
    score: str
    first: str
    second: str = INPUT

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
        predicates: parts of the claim, which are tested one by one.
        systems: name to slug, for arms that are other systems.
        phantom: options of all arms where no data are given: the phantom on which the claim is tested, and how its
            images are read.
    """

    slug: str
    words: str
    arms: Mapping[str, Mapping[str, Any]]
    predicates: Sequence[Predicate]
    systems: Mapping[str, str] = field(default_factory=dict)
    phantom: Mapping[str, Any] = field(default_factory=dict)

    def system(self, arm: str) -> str:
        """Return the slug of an arm's system."""
        return self.systems.get(arm, self.slug)
