"""What a claim is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ganatomy.evaluation.judging import INPUT


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
        systems: slug of the arms that are other systems.
    """

    slug: str
    words: str
    arms: Mapping[str, Mapping[str, Any]]
    predicates: Sequence[Predicate]
    systems: Mapping[str, str] = field(default_factory=dict)

    def system(self, arm: str) -> str:
        """Slug of an arm."""
        return self.systems.get(arm, self.slug)
