"""Digest of the code that the result of a claim rests on, by which results older than their code are recognised."""

from __future__ import annotations

from collections.abc import Sequence

from ganatomy.claims.claim import Claim
from ganatomy.training.arms import Arm
from ganatomy.training.code import code_digest


def claim_digest(claim: Claim, arms: Sequence[Arm]) -> str:
    """Return the digest of a claim's parts and of the code that its result rests on, as hexadecimal digits.

    Args:
        claim: the claim.
        arms: its arms.
    """
    parts = (dict(claim.arms), dict(claim.systems), dict(claim.phantom), tuple(claim.predicates))
    return code_digest([arm.method for arm in arms], repr(parts))
