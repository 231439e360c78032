"""Claims of papers that segment images."""

from ganatomy.claims.claim import Claim, Predicate, beside_unet

DICE, PRECISION = "dice", "precision"

SEGAN = Claim(
    "segan",
    "Taught by a critic alone that compares images masked by prediction and truth at several scales, a segmentor "
    "agrees better with the annotation than the same one taught by a loss of pixels, in Dice and in precision.",
    {
        "segan": {},
        "pixel-loss": {"critics": False, "pixel_weight": 1.0},
        "soft-dice": {"critics": False, "dice_weight": 1.0},
    },
    (
        Predicate("Dice is higher than with a loss of pixels", DICE, "segan", "pixel-loss"),
        Predicate("precision is higher than with a loss of pixels", PRECISION, "segan", "pixel-loss"),
        Predicate("Dice is higher than with soft Dice", DICE, "segan", "soft-dice"),
        Predicate("Dice is higher than that of the best thresholds", DICE, "segan", "threshold"),
    ),
)

CLAIMS = tuple(map(beside_unet, (SEGAN,)))
