"""Claims about images from noise."""

from ganatomy.evaluation.claim import Claim

CLAIMS: tuple[Claim, ...] = ()
