"""Section 4.6, synthesis of fundus photographs over maps of vessels."""

from wiring import NOISE, Losses, Wiring, doubled, each

JUDGED, CODES = "discriminator/adversarial", "code discriminator/adversarial"

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
    # Costa et al. 2018: half of both cross-entropies for D and C; BCE(D) + 100 BCE(a) + 100 L1(b) + BCE(C) then.
    Wiring(
        "retina-aae",
        {
            "game": Losses(
                {
                    "vessels": [JUDGED, CODES, *each("generators", "map", "l1", "adversarial", "code")],
                    "image": [JUDGED, "generators/l1"],
                    NOISE: [JUDGED, CODES, *each("generators", "map", "l1", "adversarial", "code")],
                },
                {
                    "map_weight": doubled("generators/map"),
                    "l1_weight": doubled("generators/l1"),
                    "adversarial_weight": doubled("generators/adversarial"),
                    "code_weight": doubled("generators/code"),
                },
            )
        },
    ),
    # Guibas et al. 2017: a DCGAN of maps, then half of both cross-entropies for D and L1 + BCE for the painter.
    Wiring(
        "dual-gan",
        {
            "maps": Losses(
                {
                    "vessels": ["map discriminator/adversarial"],
                    NOISE: ["map discriminator/adversarial", "map generator/adversarial"],
                }
            ),
            "photographs": Losses(
                {
                    "vessels": [JUDGED, *each("painter", "l1", "adversarial")],
                    "image": [JUDGED, "painter/l1"],
                },
                {"l1_weight": doubled("painter/l1"), "adversarial_weight": doubled("painter/adversarial")},
            ),
        },
        options={"size": (32, 64)},
    ),
]
