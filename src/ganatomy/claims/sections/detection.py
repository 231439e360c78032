"""Claims of papers that detect anomalies."""

from ganatomy.claims.claim import Claim, Predicate

PIXELS, IMAGES, DICE, NCC = "pixel auc", "image auc", "dice", "ncc"
INTENSITY = "intensity"
"""Name of the baseline that uses the brightness of the image as its anomaly map."""
ACTIVATION, GRADIENTS, INTEGRATED = "class activation", "gradients", "integrated gradients"
"""Maps of a small classifier that was trained on the same images."""

ANOGAN = Claim(
    "anogan",
    "Scoring images by a search in the latent space, with the residual and the discriminator's features, tells "
    "diseased from healthy ones better than the discriminator's output does.",
    {"anogan": {}, "features only": {"search_weight": 1.0}, "discriminator": {"scored_by": "discriminator"}},
    (
        Predicate("images are told apart better than by the discriminator", IMAGES, "anogan", "discriminator"),
        Predicate(
            "lesions are found better than by searching for alike features alone", PIXELS, "anogan", "features only"
        ),
    ),
)

CAAE = Claim(
    "caae",
    "Consistent codes raise the pixel-wise AUC of an adversarial autoencoder.",
    {"caae": {}, "aae": {"consistency_weight": 0.0}},
    (
        Predicate("pixel-wise AUC is higher than without the constraint", PIXELS, "caae", "aae"),
        Predicate("pixel-wise AUC is higher than that of the image's brightness", PIXELS, "caae", INTENSITY),
    ),
)

ANOVAEGAN = Claim(
    "anovaegan",
    "Lesions are segmented better with a code that keeps the location than with a dense one, and with an adversary "
    "than by the same autoencoder without one and by AnoGAN's search.",
    {
        "anovaegan": {},
        "dense": {"code": "dense", "latent": 128},
        "without adversary": {"adversary": "none"},
        # The outputs of AnoGAN's generator are bounded, so that it needs a window in place of z-scores.
        "anogan": {"scale": "window", "window": (0.0, 1200.0)},
    },
    (
        Predicate("Dice is higher than with a dense code", DICE, "anovaegan", "dense"),
        Predicate("pixel-wise AUC is higher than with a dense code", PIXELS, "anovaegan", "dense"),
        Predicate("Dice is higher than without the adversary", DICE, "anovaegan", "without adversary"),
        Predicate("Dice is higher than that of AnoGAN", DICE, "anovaegan", "anogan"),
    ),
    {"anogan": "anogan"},
)

VAGAN = Claim(
    "va-gan",
    "The map of the effect finds all of it, where maps of a classifier find a part: it correlates better with the true "
    "effect than class activation, gradients and integrated gradients do.",
    {"va-gan": {}},
    (
        Predicate("the correlation is higher than that of class activation maps", NCC, "va-gan", ACTIVATION),
        Predicate("it is higher than that of gradients", NCC, "va-gan", GRADIENTS),
        Predicate("it is higher than that of integrated gradients", NCC, "va-gan", INTEGRATED),
        Predicate("it is higher than that of the image's brightness", NCC, "va-gan", INTENSITY),
    ),
    untested="the maps of patients who develop Alzheimer's disease; the images are those of the paper's synthetic "
    "experiment.",
)

CLAIMS = (ANOGAN, CAAE, ANOVAEGAN, VAGAN)
