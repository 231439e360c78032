"""Section 4.6, synthesis of fundus photographs over maps of vessels."""

from wiring import Losses, Wiring, doubled

JUDGED = "discriminator/adversarial"

WIRINGS = [
    # Costa et al. 2017: half of both cross-entropies for D; BCE + 100 L1 for G.
    Wiring(
        "vess2ret",
        {
            "game": Losses(
                {
                    "vessels": [JUDGED, "painter/l1", "painter/adversarial"],
                    "image": [JUDGED, "painter/l1"],
                },
                {"l1_weight": doubled("painter/l1"), "adversarial_weight": doubled("painter/adversarial")},
            )
        },
        options={"size": (32, 64)},
    ),
]
