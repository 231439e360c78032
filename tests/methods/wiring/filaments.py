"""Section 4.6, synthesis: images of filaments from a map of them."""

from wiring import NOISE, Losses, Wiring, alike, doubled, each

GAME = "discriminator/adversarial"

WIRINGS = [
    # Zhao et al. 2017 and its release: both players see map and field; the style is that of a picture, no role.
    Wiring(
        "fila-sgan",
        {
            "game": Losses(
                {
                    "vessels": [GAME, *each("generator", "style", "content", "variation", "adversarial")],
                    "field": [GAME, *each("generator", "style", "content", "variation", "adversarial")],
                    "image": [GAME, "generator/content"],
                    NOISE: [GAME, *each("generator", "style", "content", "variation", "adversarial")],
                },
                {
                    "style_weight": doubled("generator/style"),
                    "content_weight": doubled("generator/content"),
                    "variation_weight": doubled("generator/variation"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        options={"size": (32, 64), "training_noise": 1.0},
        unused={"l1_weight": "of Fila-GAN"},
    ),
    Wiring(
        "fila-sgan",
        {
            "game": Losses(
                {
                    **alike(("vessels", "field", NOISE), [GAME, *each("generator", "l1", "adversarial")]),
                    "image": [GAME, "generator/l1"],
                },
                {
                    "l1_weight": doubled("generator/l1"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        variant="Fila-GAN",
        options={"size": (32, 64), "training_noise": 1.0, "variant": "fila-gan"},
        unused={
            "style_weight": "of Fila-sGAN",
            "content_weight": "of Fila-sGAN",
            "variation_weight": "of Fila-sGAN",
        },
    ),
]
