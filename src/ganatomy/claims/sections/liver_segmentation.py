"""Claims of papers that segment lesions of the liver."""

from ganatomy.claims.claim import Claim, Predicate, beside_unet
from ganatomy.claims.sections.segmentation import DICE

LESIONS = "sensitivity lesion"

POLYPHASE_CYCLEGAN = Claim(
    "polyphase-cyclegan",
    "A cycle between CT slices and label maps, with a discriminator of each, lets U-Nets that discard no detail find "
    "more of the lesions of the liver than the same network taught by annotated pairs alone.",
    {
        "polyphase-cyclegan": {},
        "no-adversary": {"adversarial_weight": 0.0},
        "cross-entropy": {"adversarial_weight": 0.0, "cycle_weight": 0.0, "squared_weight": 0.0},
    },
    (
        Predicate(
            "lesions are found better than without discriminators", LESIONS, "polyphase-cyclegan", "no-adversary"
        ),
        Predicate("lesions are found better than by cross-entropy", LESIONS, "polyphase-cyclegan", "cross-entropy"),
        Predicate("Dice is higher than with the cross-entropy", DICE, "polyphase-cyclegan", "cross-entropy"),
        Predicate("Dice is higher than that of the best thresholds", DICE, "polyphase-cyclegan", "threshold"),
    ),
    untested="The paper compares with U-Nets that pool.",
)

CLAIMS = tuple(map(beside_unet, (POLYPHASE_CYCLEGAN,)))
