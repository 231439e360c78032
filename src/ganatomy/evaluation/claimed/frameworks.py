"""Claims about the base frameworks."""

from ganatomy.evaluation.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
