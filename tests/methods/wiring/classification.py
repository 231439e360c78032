"""Section 4.5, classification: slices of the heart, some of them without a label."""

from wiring import NOISE, Losses, Wiring, doubled, each

DECAY = {"weight_decay": "of the optimisers"}

WIRINGS = [
    # Zhang et al. 2017: labelled slices teach both heads, unlabelled and generated ones that of real images;
    # generated ones teach that of classes, too, by their generators' classes.
    Wiring(
        "scgan-lv-coverage",
        {
            "game": Losses(
                {
                    "mr": each("discriminator", "adversarial", "class"),
                    "slice_labels": ["discriminator/class"],
                    NOISE: [
                        *each("discriminator", "adversarial", "generated class"),
                        *each("generators", "adversarial", "class"),
                    ],
                },
                {
                    "class_weight": doubled("discriminator/class", "generators/class"),
                    "generated_weight": doubled("discriminator/generated class"),
                },
            )
        },
        options={"size": (32, 48)},
        unused=DECAY,
    ),
    # The discriminator alone.
    Wiring(
        "scgan-lv-coverage",
        {
            "game": Losses(
                {"mr": ["discriminator/class"], "slice_labels": ["discriminator/class"]},
                {"class_weight": doubled("discriminator/class")},
            )
        },
        variant="without generators",
        options={"size": (32, 48), "adversary": False},
        unused={"generated_weight": "nothing is generated", **DECAY},
    ),
    # Salimans et al. 2016: K classes of real images and one of generated ones; labels may be of cases.
    Wiring(
        "scgan-lv-coverage",
        {
            "game": Losses(
                {
                    "mr": each("discriminator", "adversarial", "class"),
                    "label": ["discriminator/class"],
                    NOISE: [
                        *each("discriminator", "adversarial", "generated class"),
                        *each("generators", "adversarial", "class"),
                    ],
                },
                {
                    "class_weight": doubled("discriminator/class", "generators/class"),
                    "generated_weight": doubled("discriminator/generated class"),
                },
            )
        },
        variant="k+1",
        options={"size": (32, 48), "head": "k+1", "per": "case", "end": None, "classes": ("a", "b", "c"), "rest": None},
        unused=DECAY,
    ),
    Wiring(
        "cnn-classifier",
        {"classify": Losses({"image": ["classifier/entropy"], "label": ["classifier/entropy"]})},
        options={"size": (32, 48), "dropout": 0.0},
        unused=DECAY,
    ),
]
