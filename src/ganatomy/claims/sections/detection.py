"""Claims of papers that detect anomalies."""

from ganatomy.claims.claim import Claim, Predicate

PIXELS, IMAGES, DICE, NCC = "pixel auc", "image auc", "dice", "ncc"
INTENSITY = "intensity"
"""Name of the baseline that uses the brightness of the image as its anomaly map."""

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
    "Lesions are segmented better with a code that keeps the location than with a dense one.",
    {"anovaegan": {}, "dense": {"code": "dense", "latent": 128}},
    (
        Predicate("Dice is higher than with a dense code", DICE, "anovaegan", "dense"),
        Predicate("pixel-wise AUC is higher than with a dense code", PIXELS, "anovaegan", "dense"),
    ),
)

VAGAN = Claim(
    "va-gan",
    "The map of the effect correlates with the true one.",
    {"va-gan": {}},
    (Predicate("the correlation is higher than that of the image's brightness", NCC, "va-gan", INTENSITY),),
)

CLAIMS = (ANOGAN, CAAE, ANOVAEGAN, VAGAN)
