"""Claims of papers that segment organs and lesions of the abdomen."""

from ganatomy.claims.claim import Claim, Predicate, beside_unet

DICE, DISTANCE, LESIONS = "dice", "surface distance", "sensitivity lesion"

DI2IN_AN = Claim(
    "di2in-an",
    "A discriminator that sees masks alone makes the livers of the same network with outputs at several levels more "
    "alike to the annotation, in Dice and in the average distance of their surfaces.",
    {
        "di2in-an": {},
        "no-adversary": {"adversarial_weight": 0.0},
        "one-level": {"adversarial_weight": 0.0, "level_weights": (0.0, 0.0, 1.0)},
    },
    (
        Predicate("Dice is higher than without a discriminator", DICE, "di2in-an", "no-adversary"),
        Predicate("surfaces are closer than without a discriminator", DISTANCE, "di2in-an", "no-adversary"),
        Predicate("Dice is higher than with one output alone", DICE, "di2in-an", "one-level"),
        Predicate("Dice is higher than that of the best threshold", DICE, "di2in-an", "threshold"),
    ),
)

SSNET = Claim(
    "ssnet",
    "A discriminator of patches improves a network with global convolutions, and the vote of three views of a volume "
    "agrees better with the annotation of enlarged spleens than the axial view alone.",
    {
        "ssnet": {},
        "no-adversary": {"adversarial_weight": 0.0},
        "axial-only": {"views": ("axial",)},
    },
    (
        Predicate("Dice is higher than without the discriminators", DICE, "ssnet", "no-adversary"),
        Predicate("Dice of three views is higher than that of axial slices", DICE, "ssnet", "axial-only"),
        Predicate("Dice is higher than that of the best thresholds", DICE, "ssnet", "threshold"),
    ),
    untested="The paper also compares with a U-Net.",
)

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

CLAIMS = tuple(map(beside_unet, (SSNET, DI2IN_AN, POLYPHASE_CYCLEGAN)))
"""Claims of the papers, written down before they were tested."""
