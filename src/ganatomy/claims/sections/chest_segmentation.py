"""Claims of papers that segment chest radiographs."""

from ganatomy.claims.claim import Claim, Predicate, beside_unet
from ganatomy.claims.sections.segmentation import DICE

SCAN = Claim(
    "scan-cxr",
    "A critic that judges label maps as a whole corrects a small convolutional network, so that lungs and heart agree "
    "better with the annotation than those of the same network without it, and outlines lie closer to the true ones.",
    {
        "scan-cxr": {},
        "no-adversary": {"adversarial_weight": 0.0},
    },
    (
        Predicate("Dice is higher than without the critic", DICE, "scan-cxr", "no-adversary"),
        Predicate("outlines of the lungs are closer", "hd95 left_lung", "scan-cxr", "no-adversary"),
        Predicate("Dice is higher than that of the best thresholds", DICE, "scan-cxr", "threshold"),
    ),
    untested="The paper compares with a second reader and with a population that it was not trained on.",
)

CLAIMS = tuple(map(beside_unet, (SCAN,)))
