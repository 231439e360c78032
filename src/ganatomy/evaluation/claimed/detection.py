"""Claims about anomalies."""

from ganatomy.evaluation.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
