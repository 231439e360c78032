"""Claims of papers that segment organs of the abdomen."""

from ganatomy.claims.claim import Claim, Predicate, beside_unet

DICE, DISTANCE = "dice", "surface distance"

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

CLAIMS = tuple(map(beside_unet, (DI2IN_AN,)))
"""Claims of the papers, written down before they were tested."""
