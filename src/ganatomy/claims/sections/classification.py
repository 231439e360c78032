"""Claims of papers that classify images."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

BALANCED, AREA = "balanced accuracy", "AUC"
PLAIN = "cnn-classifier"
"""Name of the arm of a plain convolutional network that is trained the usual way, and slug of that system."""

SCGAN = Claim(
    "scgan-lv-coverage",
    "A discriminator that also classifies slices, against generators of basal and of other slices, finds stacks "
    "without basal slice as well as or better than a convolutional network, and loses less where few slices have "
    "labels.",
    {"scgan": {}, "no adversary": {"adversary": False}, PLAIN: {}},
    (
        Predicate(
            "slices are classified with a higher balanced accuracy than by the same network without generators",
            BALANCED,
            "scgan",
            "no adversary",
        ),
        Predicate("the area under the ROC curve of slices is larger than without generators", AREA, "scgan",
                  "no adversary"),
        Predicate(
            "slices are classified with a higher balanced accuracy than by a plain network trained the usual way",
            BALANCED,
            "scgan",
            PLAIN,
        ),
        Predicate("it is higher than that of the strongest simple method", BALANCED, "scgan", STRONGEST),
        Predicate("incomplete stacks are found more often than without generators", "no basal slice found", "scgan",
                  "no adversary"),
    ),
    systems={PLAIN: PLAIN},
    as_long=(PLAIN,),
    untested="That it loses less where fewer stacks are labelled is a matter of a study with `--label-fraction`; UK "
    "Biobank, on which the paper reports, is not public.",
)  # fmt: skip

CLAIMS = (SCGAN,)
"""Claims of the papers, written down before they were tested."""
