"""Claims of papers that find landmarks."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

RATE, ERROR, DICE = "identification rate", "error", "dice"

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

DACAL_LANDMARKS = Claim(
    "dacal-landmarks",
    "Learning how landmarks are connected, and against a discriminator of plausible structures, brings the region that "
    "they imply nearer to the prostate than learning the landmarks alone, and the landmarks closer by a fifth.",
    {
        "dacal-landmarks": {},
        "no-adversary": {"adversarial_weight": 0.0},
        "landmarks-alone": {"adversarial_weight": 0.0, "contour_weight": 0.0},
    },
    (
        Predicate("Dice is higher than without a discriminator", DICE, "dacal-landmarks", "no-adversary"),
        Predicate("with the contour, Dice is higher than without", DICE, "no-adversary", "landmarks-alone"),
        Predicate("Dice is higher than with landmarks alone", DICE, "dacal-landmarks", "landmarks-alone"),
        Predicate("landmarks are closer than with landmarks alone", ERROR, "dacal-landmarks", "landmarks-alone"),
        Predicate("Dice is higher than of the best simple method", DICE, "dacal-landmarks", STRONGEST),
    ),
    untested="That distances shrink by a fifth, and that their spread does, too; and the paper's analysis of how "
    "uncertain experts are.",
)

CLAIMS = (BTRFLY_NET, DACAL_LANDMARKS)
"""Claims of the papers, written down before they were tested."""
