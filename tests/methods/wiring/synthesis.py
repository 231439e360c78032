"""Section 4.6, synthesis: images of their own kind, with labels where classes are made, and latent numbers."""

from wiring import NOISE, NOTHING, Losses, Wiring, alike, doubled, each
from wiring.frameworks import ADVERSARIAL, DECEIVING, PYRAMID, growing

BOTH_JUDGED = ["discriminator source/adversarial", "discriminator target/adversarial"]
CT_WEIGHTS = {
    "weight_decay": doubled("generator/decay"),
    "squared_weight": doubled("generator/squared"),
    "gradient_weight": doubled("generator/gradient"),
    "adversarial_weight": doubled("generator/adversarial"),
}
MYELIN = ("mtr", "fa", "rd", "ad")
LIVER = ("cyst", "metastasis", "haemangioma")
NODULES = ("benign", "malignant")


def by_class(*classes):
    """A game for each class: the label decides in which an image plays."""
    judged = [f"discriminator of {name}/adversarial" for name in classes]
    made = [f"generator of {name}/adversarial" for name in classes]
    return {"game": Losses({"image": judged, "label": judged, NOISE: [*judged, *made]})}


def auxiliary():
    """Odena et al. 2017, eqs. 2 and 3: L_S and L_C, the latter of real and of made images, for both players."""
    judged, made = "discriminator of all", "generator of all"
    weighed = [*each(judged, "real_class", "fake_class"), *each(made, "fake_class")]
    return {
        "game": Losses(
            {
                "image": each(judged, "adversarial", "real_class"),
                "label": each(judged, "real_class"),
                NOISE: [*each(judged, "adversarial", "fake_class"), *each(made, "adversarial", "fake_class")],
            },
            {"class_weight": doubled(*weighed)},
        )
    }


def steerable(seen, variant="", **options):
    """Olut et al. 2018: what is seen reaches the output and both of the discriminator's calls."""
    generator = each("generator", "l1", "steerable")
    terms = ["discriminator/adversarial", *generator, "generator/adversarial"]
    roles = {"t1": [], "t2": [], "mra": ["discriminator/adversarial", *generator], **alike(seen, terms)}
    weights = {
        "l1_weight": doubled("generator/l1"),
        "steerable_weight": doubled("generator/steerable"),
        "adversarial_weight": doubled("generator/adversarial"),
    }
    return Wiring("sgan-mra", {"game": Losses(roles, weights)}, variant=variant, options={"size": (32, 64), **options})


WIRINGS = [
    Wiring(
        "liver-dcgan-aug",
        by_class(*LIVER),
        options={"size": (32, 48), "quarter_turns": False},
        unused={"class_weight": "nobody classifies"},
    ),
    Wiring(
        "liver-dcgan-aug",
        auxiliary(),
        variant="acgan",
        options={"size": (32, 48), "quarter_turns": False, "variant": "acgan", "batch_size": 6},
    ),
    Wiring(
        "nodule-dcgan-vtt",
        by_class(*NODULES),
        options={"size": (32, 48), "quarter_turns": False},
        unused={"class_weight": "nobody classifies"},
    ),
    Wiring(
        "nodule-dcgan-vtt",
        auxiliary(),
        variant="acgan",
        options={"size": (32, 48), "quarter_turns": False, "variant": "acgan", "batch_size": 4},
    ),
    # Kitchen & Seah 2017: one discriminator of the classes and of *fake*; all images are judged together.
    Wiring(
        "prostate-lesion-dcgan",
        {
            "game": Losses(
                {
                    **alike(("t2", "adc", "ktrans", "label"), ["discriminator/class_aware"]),
                    NOISE: ["discriminator/class_aware", "generator/adversarial"],
                }
            )
        },
        options={"size": (16, 24)},
    ),
    Wiring(
        "brain-manifold-dcgan",
        {"game": Losses({"image": [ADVERSARIAL], NOISE: [ADVERSARIAL, DECEIVING]})},
    ),
    Wiring(
        "brain-manifold-dcgan:small-denoiser",
        {"denoise": Losses({"input": ["autoencoder/error"], "target": ["autoencoder/error"]})},
    ),
    # Baur et al. 2018: the deep one is a cascade from noise, of which no scale sees a real image.
    Wiring(
        "melanogans",
        {
            "game": Losses(
                {
                    "image": [f"discriminator {rows}/adversarial" for rows in (8, 16, 32)],
                    NOISE: [
                        *(f"discriminator {rows}/adversarial" for rows in (8, 16, 32)),
                        *(f"cascade/adversarial {rows}" for rows in (8, 16, 32)),
                    ],
                },
                {"scale_weights": doubled(*(f"cascade/adversarial {rows}" for rows in (8, 16, 32)))},
            )
        },
        options={"size": (32, 48), "quarter_turns": False, "scale_weights": (1.0, 0.5, 2.0)},
    ),
    Wiring(
        "melanogans",
        {"game": PYRAMID},
        variant="lapgan",
        options={"size": (32, 48), "quarter_turns": False, "variant": "lapgan"},
        unused={"scale_weights": "the scales do not learn together"},
    ),
    Wiring("pgan-skin", growing(), unused={"class_weight": "nobody is told a class"}),
    # Wolterink et al. 2018: the game of WGAN-GP, with signals for images.
    Wiring(
        "vessel-geometry-wgan",
        {
            "game": Losses(
                {
                    "vessel": each("critic", "wasserstein", "penalty"),
                    NOISE: [*each("critic", "wasserstein", "penalty"), "generator/wasserstein"],
                },
                {"penalty_weight": doubled("critic/penalty")},
            )
        },
        options={"critic_steps": 1},
    ),
    Wiring(
        "vessel-geometry-wgan",
        {
            "game": Losses(
                {
                    "vessel": each("critic", "wasserstein", "penalty"),
                    "length": [*each("critic", "wasserstein", "penalty"), "generator/wasserstein"],
                    NOISE: [*each("critic", "wasserstein", "penalty"), "generator/wasserstein"],
                },
                {"penalty_weight": doubled("critic/penalty")},
            )
        },
        variant="told the length",
        options={"critic_steps": 1, "condition": "length"},
    ),
    # Wolterink et al. 2017: the two games and the cycle, weighed with λ; no identity loss.
    Wiring(
        "unpaired-mr2ct",
        {
            "game": Losses(
                {
                    "t1": [*each("generators", "cycle source", "adversarial target"), *BOTH_JUDGED],
                    "ct": [*each("generators", "cycle target", "adversarial source"), *BOTH_JUDGED],
                    NOISE: BOTH_JUDGED,
                },
                {
                    "cycle_weight": doubled(*each("generators", "cycle source", "cycle target")),
                    "adversarial_weight": doubled(*each("generators", "adversarial source", "adversarial target")),
                },
            )
        },
        options={"size": (32, 48), "jitter": 0, "pool": 4, "batch_size": 4},
        unused={"identity_weight": "is of another paper", "l1_weight": "is of pairs"},
        rounds=1,
    ),
    # Shaban et al. 2018: the two games, the cycle with λ = 10, and in the release the identity with half of that.
    Wiring(
        "staingan",
        {
            "game": Losses(
                {
                    "scanner_a": [
                        *each("generators", "cycle source", "identity source", "adversarial target"),
                        *BOTH_JUDGED,
                    ],
                    "scanner_b": [
                        *each("generators", "cycle target", "identity target", "adversarial source"),
                        *BOTH_JUDGED,
                    ],
                    NOISE: BOTH_JUDGED,
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
        options={"size": (32, 48), "pool": 4, "batch_size": 4},
        rounds=1,
    ),
    # Cho et al. 2017: the classifier of tumours alone, then the game with its features and the true colours.
    Wiring(
        "sst",
        {
            "classifier": Losses({"scanner_a": ["classifier/entropy"], "tumour": ["classifier/entropy"]}),
            "game": Losses(
                {
                    "scanner_a": [ADVERSARIAL, *each("generator", "reconstruction", "features", "adversarial")],
                    "tumour": [],
                },
                {
                    "reconstruction_weight": doubled("generator/reconstruction"),
                    "feature_weight": doubled("generator/features"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            ),
        },
        # Random maps cover about 0.4 of a patch.
        options={"size": (32, 48), "quarter_turns": False, "tumour_share": 0.4},
        unused={"classifier_weight_decay": "is a part of the optimiser"},
    ),
    # The paper's comparison: the difference of pairs, and the discriminator of CT alone.
    Wiring(
        "unpaired-mr2ct",
        {
            "game": Losses(
                {
                    "t1": [*each("generator", "l1", "adversarial"), "discriminator target/adversarial"],
                    "ct": ["generator/l1", "discriminator target/adversarial"],
                    NOISE: [],
                },
                {
                    "l1_weight": doubled("generator/l1"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        variant="from pairs",
        options={"size": (32, 48), "jitter": 0, "pool": 0, "from_pairs": True},
        unused={"identity_weight": "is of another paper", "cycle_weight": "nothing is translated back"},
    ),
    # Wei et al. 2018: the sketcher by the difference, the refiner by that of every region, each with a game whose
    # discriminator sees maps and PET; the refiner is shown the sketch.
    Wiring(
        "sketcher-refiner",
        {
            "*": Losses(
                {
                    **alike(MYELIN, [*each("generator", "l1", "adversarial"), ADVERSARIAL]),
                    "dvr": ["generator/l1", ADVERSARIAL],
                },
                {
                    "sketch_weight": doubled("generator/l1"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            ),
            "refiner": Losses(
                {
                    **alike(MYELIN, [*each("generator", "regions", "adversarial"), ADVERSARIAL]),
                    "sketch": [*each("generator", "regions", "adversarial"), ADVERSARIAL],
                    "dvr": ["generator/regions", ADVERSARIAL],
                    "regions": ["generator/regions"],
                },
                {
                    "refine_weight": doubled("generator/regions"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            ),
        },
        options={"sketch_folds": 2},
        unused={"region_weights": "only their ratios count"},
    ),
    # Nie et al. 2017, eqs. 2 to 5: the game of CT alone, the squared error and the gradient difference; the second
    # network is shown the estimate of the first, too.
    Wiring(
        "context-aware-gan",
        {
            "*": Losses(
                {
                    "t1": [*each("generator", "squared", "gradient", "adversarial"), ADVERSARIAL],
                    "ct": [*each("generator", "squared", "gradient"), ADVERSARIAL],
                    NOTHING: ["generator/decay"],
                },
                CT_WEIGHTS,
            ),
            "network 2": Losses(
                {
                    **alike(("t1", "context"), [*each("generator", "squared", "gradient", "adversarial"), ADVERSARIAL]),
                    "ct": [*each("generator", "squared", "gradient"), ADVERSARIAL],
                    NOTHING: ["generator/decay"],
                },
                CT_WEIGHTS,
            ),
        },
        options={"context_folds": 2},
    ),
    # Chartsias et al. 2017: CycleGAN of images with their masks as a channel; both return through the cycle.
    Wiring(
        "cardiac-cyclegan",
        {
            "game": Losses(
                {
                    **alike(
                        ("ct", "ct_myocardium"),
                        [
                            *each("generators", "cycle source", "cycle source mask", "guard source"),
                            "generators/adversarial target",
                            *BOTH_JUDGED,
                        ],
                    ),
                    **alike(
                        ("mr", "mr_myocardium"),
                        [
                            *each("generators", "cycle target", "cycle target mask", "guard target"),
                            "generators/adversarial source",
                            *BOTH_JUDGED,
                        ],
                    ),
                    NOISE: BOTH_JUDGED,
                },
                {
                    "cycle_weight": doubled(
                        *each("generators", "cycle source", "cycle source mask", "cycle target", "cycle target mask")
                    ),
                    "guard_weight": doubled(*each("generators", "guard source", "guard target")),
                    "adversarial_weight": doubled(*each("generators", "adversarial source", "adversarial target")),
                },
            )
        },
        options={"size": (32, 48), "guard_weight": 1.0, "pool": 4, "batch_size": 4},
        unused={"identity_weight": "is of another paper"},
        rounds=1,
    ),
    # Olut et al. 2018: a conditional GAN with an absolute difference and one of responses to filters of lines.
    steerable(("t1", "t2")),
    steerable(("t1",), "T1 only", shown="first"),
]
