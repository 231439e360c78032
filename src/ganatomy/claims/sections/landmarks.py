"""Claims of papers that label the spine."""

from ganatomy.claims.claim import Claim, Predicate

RATE, ERROR = "identification rate", "error"

BTRFLY_NET = Claim(
    "btrfly-net",
    "Discriminators that know how neighbouring vertebrae lie let a network of two projections identify more vertebrae, "
    "without any step after it.",
    {"btrfly-net": {}, "no-adversary": {"adversarial_weight": 0.0}},
    (
        Predicate("more vertebrae are identified than without discriminators", RATE, "btrfly-net", "no-adversary"),
        Predicate("vertebrae are found closer than without discriminators", ERROR, "btrfly-net", "no-adversary"),
        Predicate("more vertebrae are identified than at mean positions", RATE, "btrfly-net", "mean positions"),
    ),
    untested="That one network of both projections identifies more vertebrae than one for each of them.",
)

CLAIMS = (BTRFLY_NET,)
"""Claims of the papers, written down before they were tested."""
