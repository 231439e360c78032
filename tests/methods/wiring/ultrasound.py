"""Section 4.6, synthesis: systems that simulate ultrasound."""

from wiring import NOISE, Losses, Wiring, doubled, each

GAME = "discriminator/adversarial"
MADE = each("generator", "l1", "adversarial")

WIRINGS = [
    # Hu et al. 2017: generator and discriminator both see the coordinates of the pose; noise changes the frame alone.
    Wiring(
        "scgan-us",
        {
            "game": Losses(
                {
                    "pose": [GAME, *MADE],
                    "image": [GAME, "generator/l1"],
                    NOISE: [GAME, *MADE],
                },
                {
                    "l1_weight": doubled("generator/l1"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        options={"size": (24, 40)},
    ),
]
