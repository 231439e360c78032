"""The frameworks that the survey's systems build upon (section 3)."""

from wiring import NOISE, OTHERWISE, Losses, Wiring, alike, doubled, each

ADVERSARIAL, DECEIVING = "discriminator/adversarial", "generator/adversarial"
WIDE = {"size": (32, 48)}
LABELLED = {"classes": ("cyst", "metastasis", "haemangioma"), "batch_size": 3}
COLOUR = {"roles": {"images": {"channels": 3}}}

# Goodfellow et al. 2014, eq. 1: D sees x and G(z), G sees z alone.
ORIGINAL = {"game": Losses({"image": [ADVERSARIAL], NOISE: [ADVERSARIAL, DECEIVING]})}
WEIGHED = {"discriminator_weight": doubled(ADVERSARIAL)}
DECAY = {"weight_decay": "Adam adds it to gradients"}
# Mirza & Osindero 2014, eq. 2: both players are told y.
CONDITIONED = Losses(
    {"image": [ADVERSARIAL], "label": [ADVERSARIAL, DECEIVING], NOISE: [ADVERSARIAL, DECEIVING]}, WEIGHED
)

# Denton et al. 2015: every level adds detail to a real low-pass image, and only the coarsest begins with noise alone.
PYRAMID = Losses(
    {
        "image": [
            *(f"discriminator {rows}/adversarial" for rows in (8, 16, 32)),
            *(f"generator {rows}/adversarial" for rows in (16, 32)),
        ],
        NOISE: [f"{player} {rows}/adversarial" for player in ("discriminator", "generator") for rows in (8, 16, 32)],
    }
)


def growing():
    """Karras et al. 2018: WGAN-GP with ε E D(x)² of real images, at every size."""
    return {
        "*": Losses(
            {
                "image": each("critic", "wasserstein", "penalty", "drift"),
                NOISE: [*each("critic", "wasserstein", "penalty"), "generator/wasserstein"],
            },
            {"penalty_weight": doubled("critic/penalty"), "drift_weight": doubled("critic/drift")},
        )
    }


def classified():
    """Odena et al. 2017, eqs. 2 and 3: D maximises L_S + L_C, G maximises L_C - L_S; L_C of real and of made images."""
    return {
        "game": Losses(
            {
                "image": each("discriminator", "adversarial", "class"),
                "label": ["discriminator/class"],
                NOISE: [
                    *each("discriminator", "adversarial", "class"),
                    *each("generator", "adversarial", "class"),
                ],
            },
            {"class_weight": doubled("discriminator/class", "generator/class")},
        )
    }


def super_resolution(first):
    """Ledig et al. 2017, eqs. 3 to 6: squared error first, then features and 10⁻³ of the game, D unconditional."""
    return {
        "srresnet": Losses({"image": ["generator/error"]}),
        "game": Losses(
            {"image": ["discriminator/adversarial", *each("generator", "content", "adversarial", "error")]},
            {
                "adversarial_weight": doubled("generator/adversarial"),
                "pixel_weight": doubled("generator/error"),
                **first,
            },
        ),
    }


# Larsen et al. 2016, algorithm 1: γ weighs likeness for the decoder, against the game; the encoder does not hear of it.
GAMMA = 0.2
# Li & Wand 2016: target and game are averaged with their weights.
TARGET, GAME = 1.0, 0.3

WIRINGS = [
    Wiring("gan", {"game": Losses(ORIGINAL["game"].roles, WEIGHED)}, options={**WIDE, **COLOUR}, unused=DECAY),
    # The published code moves both players at once, and so does its convolutional form.
    Wiring(
        "gan",
        {"game": Losses(ORIGINAL["game"].roles, WEIGHED)},
        variant="convolutional",
        options={
            **WIDE,
            **COLOUR,
            "networks": "convolutional",
            "hidden": (16,),
            "map_width": 4,
            "filter_widths": (4, 4, 6),
            "units": (8,),
            "simultaneous": True,
            "discriminator_weight": 0.5,
        },
        unused=DECAY,
    ),
    Wiring("dcgan", ORIGINAL, options={**WIDE, **COLOUR}, unused=DECAY),
    # Salimans et al. 2016: the generator matches mean features of real images.
    Wiring(
        "dcgan",
        {
            "game": Losses(
                {
                    "image": [ADVERSARIAL, "generator/feature matching"],
                    NOISE: [ADVERSARIAL, "generator/feature matching"],
                }
            )
        },
        variant="feature matching",
        options={**WIDE, "feature_matching": True},
        unused=DECAY,
    ),
    Wiring("lsgan", ORIGINAL, options=WIDE),
    Wiring("cgan", {"game": CONDITIONED}, options={**WIDE, **LABELLED}, unused=DECAY),
    Wiring(
        "cgan",
        {"game": CONDITIONED},
        variant="mlp",
        options={
            **WIDE,
            **LABELLED,
            "networks": "mlp",
            "hidden": (32,),
            "units": (16,),
            "image_maxout": (16, 2),
            "label_maxout": (8, 2),
            # The published weights begin so small that a label changes scores by less than single precision.
            "generator_limit": 0.3,
            "discriminator_limit": 0.3,
        },
        unused=DECAY,
    ),
    Wiring("ac-gan", classified(), options={**WIDE, **LABELLED}),
    # Arjovsky et al. 2017, algorithm 1.
    Wiring(
        "wgan",
        {"game": Losses({"image": ["critic/wasserstein"], NOISE: ["critic/wasserstein", "generator/wasserstein"]})},
        options={**WIDE, "critic_steps": 1},
    ),
    # Gulrajani et al. 2017, eq. 3: λ weighs the penalty between real and made images.
    Wiring(
        "wgan-gp",
        {
            "game": Losses(
                {
                    "image": each("critic", "wasserstein", "penalty"),
                    NOISE: [*each("critic", "wasserstein", "penalty"), "generator/wasserstein"],
                },
                {"penalty_weight": doubled("critic/penalty")},
            )
        },
        options={**WIDE, "critic_steps": 1},
        unused=dict.fromkeys(("critic_class_weight", "generator_class_weight"), "nobody classifies"),
    ),
    # The critic classifies real images, and the generator's are classified for the generator.
    Wiring(
        "wgan-gp",
        {
            "game": Losses(
                {
                    "image": each("critic", "wasserstein", "penalty", "class"),
                    "label": ["critic/class"],
                    NOISE: [*each("critic", "wasserstein", "penalty"), *each("generator", "wasserstein", "class")],
                },
                {
                    "penalty_weight": doubled("critic/penalty"),
                    "critic_class_weight": doubled("critic/class"),
                    "generator_class_weight": doubled("generator/class"),
                },
            )
        },
        variant="auxiliary",
        options={**WIDE, **LABELLED, "critic_steps": 1, "auxiliary": True},
    ),
    # Isola et al. 2017, eqs. 1 and 3: D is shown (x, y) and (x, G(x)); λ weighs L1. Images are enlarged and cut at
    # random places, the same for both.
    Wiring(
        "pix2pix",
        {
            "game": Losses(
                {
                    "t1": [ADVERSARIAL, *each("generator", "l1", "adversarial")],
                    "t2": [ADVERSARIAL, "generator/l1"],
                    NOISE: [ADVERSARIAL, *each("generator", "l1", "adversarial")],
                },
                {"l1_weight": doubled("generator/l1"), "adversarial_weight": doubled("generator/adversarial")},
            )
        },
        options={"size": (32, 64), "roles": {"t1": {"channels": 3}}},
    ),
    # Zhu et al. 2017, eqs. 1 to 3, and the identity of section 5.2, whose weight is relative to the cycle's. Here t1 is
    # x, ``to_target`` is G, ``to_source`` is F; the pools draw.
    Wiring(
        "cyclegan",
        {
            "game": Losses(
                {
                    "t1": [
                        *each("generators", "cycle source", "adversarial target", "identity source"),
                        "discriminator source/adversarial",
                        "discriminator target/adversarial",
                    ],
                    "t2": [
                        *each("generators", "cycle target", "adversarial source", "identity target"),
                        "discriminator source/adversarial",
                        "discriminator target/adversarial",
                    ],
                    NOISE: ["discriminator source/adversarial", "discriminator target/adversarial"],
                },
                {
                    "cycle_weight": doubled(
                        *each("generators", "cycle source", "cycle target", "identity source", "identity target")
                    ),
                    "identity_weight": doubled(*each("generators", "identity source", "identity target")),
                    "adversarial_weight": doubled(*each("generators", "adversarial source", "adversarial target")),
                },
            )
        },
        options={
            "size": (32, 48),
            "jitter": 0,
            "identity_weight": 0.5,
            "pool": 4,
            "batch_size": 4,
            "roles": {"t1": {"channels": 3}, "t2": {"channels": 3}},
        },
        rounds=1,
    ),
    # Li & Wand 2016, eqs. 1 to 3: the painting starts from the content and is pulled towards the texture, whose critic
    # learns at every step; what weighs the pixels does not multiply what the critic learns.
    Wiring(
        "mgan",
        {
            "texture": Losses(
                alike(("t1", "t2", NOISE), ["texture critic/adversarial"]),
                {
                    name: {"texture critic/adversarial": OTHERWISE}
                    for name in ("texture_weight", "content_weight", "smoothness_weight")
                },
            ),
            "network": Losses(
                {
                    "t1": ["critic/adversarial", *each("generator", "target", "adversarial")],
                    "target": ["critic/adversarial", "generator/target"],
                    NOISE: ["critic/adversarial", *each("generator", "target", "adversarial")],
                },
                {
                    "target_weight": {
                        "generator/target": 2 * (TARGET + GAME) / (2 * TARGET + GAME),
                        "generator/adversarial": (TARGET + GAME) / (2 * TARGET + GAME),
                    },
                    "adversarial_weight": {
                        "generator/target": (TARGET + GAME) / (TARGET + 2 * GAME),
                        "generator/adversarial": 2 * (TARGET + GAME) / (TARGET + 2 * GAME),
                    },
                },
            ),
        },
        options={
            "size": (64, 80),
            "crop": 64,
            "steps": 3,
            "target_weight": TARGET,
            "adversarial_weight": GAME,
            "content_weight": 1.0,
        },
    ),
    Wiring("lapgan", {"game": PYRAMID}, options={**WIDE, "quarter_turns": False}),
    Wiring(
        "lapgan",
        {"game": Losses({**PYRAMID.roles, "label": PYRAMID.roles[NOISE]})},
        variant="labels",
        options={**WIDE, **LABELLED, "quarter_turns": False, "use_labels": True},
    ),
    Wiring("pgan", growing(), unused={"class_weight": "nobody is told a class"}),
    # With labels, as in its release: AC-GAN's cross-entropies; made images have the classes of the real ones.
    Wiring(
        "pgan",
        {
            "*": Losses(
                {
                    "image": each("critic", "wasserstein", "penalty", "drift", "class"),
                    "label": [
                        *each("critic", "wasserstein", "penalty", "class"),
                        *each("generator", "wasserstein", "class"),
                    ],
                    NOISE: [
                        *each("critic", "wasserstein", "penalty", "class"),
                        *each("generator", "wasserstein", "class"),
                    ],
                },
                {
                    "penalty_weight": doubled("critic/penalty"),
                    "drift_weight": doubled("critic/drift"),
                    "class_weight": doubled("critic/class", "generator/class"),
                },
            )
        },
        variant="labels",
        options={"use_labels": True, "classes": ("naevus", "melanoma"), "size": (16, 16)},
    ),
    # Makhzani et al. 2015: reconstruction, then D of prior and codes; codes are drawn from mean and variance.
    Wiring(
        "aae",
        {
            "game": Losses(
                {
                    "image": [*each("autoencoder", "reconstruction", "adversarial"), ADVERSARIAL],
                    NOISE: [*each("autoencoder", "reconstruction", "adversarial"), ADVERSARIAL],
                },
                {"adversarial_weight": doubled("autoencoder/adversarial")},
            )
        },
        options=WIDE,
    ),
    # Figure 3 there: D is told of which class a code is to be.
    Wiring(
        "aae",
        {
            "game": Losses(
                {
                    "image": [*each("autoencoder", "reconstruction", "adversarial"), ADVERSARIAL],
                    "label": ["autoencoder/adversarial", ADVERSARIAL],
                    NOISE: [ADVERSARIAL],
                },
                {"adversarial_weight": doubled("autoencoder/adversarial")},
            )
        },
        variant="labels",
        options={
            **WIDE,
            **LABELLED,
            "use_labels": True,
            "shape": "mixture",
            "latent": 2,
            "encoder": "deterministic",
        },
    ),
    Wiring(
        "vae-gan",
        {
            "game": Losses(
                {
                    "image": [
                        *each("encoder", "prior", "likeness"),
                        *each("decoder", "likeness", "adversarial"),
                        ADVERSARIAL,
                    ],
                    NOISE: ["encoder/likeness", *each("decoder", "likeness", "adversarial"), ADVERSARIAL],
                },
                {
                    "likeness_weight": {
                        "decoder/likeness": 2.0,
                        "decoder/adversarial": (1 - 2 * GAMMA) / (1 - GAMMA),
                    }
                },
            )
        },
        options={**WIDE, "likeness_weight": GAMMA, "margin_of_balance": 100.0},
        unused={"weight_decay": "RMSprop adds it to gradients"},
    ),
    # Where only noise is judged, the adversary does not hear of reconstructions; scores of what is made of noise depend
    # on real images through their common batch statistics.
    Wiring(
        "vae-gan",
        {
            "game": Losses(
                {
                    "image": [
                        *each("encoder", "prior", "likeness"),
                        *each("decoder", "likeness", "adversarial"),
                        ADVERSARIAL,
                    ],
                    NOISE: ["encoder/likeness", *each("decoder", "likeness", "adversarial"), ADVERSARIAL],
                },
                {
                    "likeness_weight": {
                        "decoder/likeness": 2.0,
                        "decoder/adversarial": (1 - 2 * GAMMA) / (1 - GAMMA),
                    }
                },
            )
        },
        variant="prior alone",
        options={**WIDE, "likeness_weight": GAMMA, "margin_of_balance": 100.0, "judged": "prior"},
        unused={"weight_decay": "RMSprop adds it to gradients"},
    ),
    # Features are divided by 12.75 before they are squared.
    Wiring(
        "srgan",
        super_resolution({"content_scale": {"generator/content": 0.25}}),
        options={"channels": 3},
    ),
]
