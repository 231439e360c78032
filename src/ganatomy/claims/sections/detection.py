"""Claims of papers that detect anomalies."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate, beside_unet

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

LESION_DICE, LESION_SENSITIVITY, LEFT_EMPTY = "lesion dice", "lesion sensitivity", "left empty"

KOHL = Claim(
    "kohl-advseg",
    "Taught by a discriminator of whole label maps in place of the cross-entropy, a U-Net detects aggressive prostate "
    "cancer with a higher sensitivity and Dice at the same specificity, most of all with few patients.",
    {
        "kohl-advseg": {},
        "cross-entropy": {"adversarial_weight": 0.0, "pixel_loss": "cross-entropy"},
        "hybrid": {"pixel_loss": "cross-entropy", "adversarial_weight": 0.1},
    },
    (
        Predicate("Dice of lesions is higher than with the cross-entropy", LESION_DICE, "kohl-advseg", "cross-entropy"),
        Predicate(
            "more of the lesions is found than with the cross-entropy",
            LESION_SENSITIVITY,
            "kohl-advseg",
            "cross-entropy",
        ),
        Predicate(
            "patients without a lesion are not alarmed more often", LEFT_EMPTY, "kohl-advseg", "cross-entropy", 0.05
        ),
        Predicate("Dice of lesions is higher than with both losses", LESION_DICE, "kohl-advseg", "hybrid"),
        Predicate(
            "Dice of lesions is higher than that of the strongest simple method", LESION_DICE, "kohl-advseg", STRONGEST
        ),
    ),
    untested="that the gain grows with fewer patients, which is a matter of a study with `--label-fraction`; the "
    "images are those of the phantom.",
)

UDREA = Claim(
    "udrea-lesion-cgan",
    "A U-Net that is trained against a discriminator of photograph and mask detects nine of ten pigmented and other "
    "skin lesions in ordinary photographs.",
    {"cgan": {}, "l1 loss": {"adversarial_weight": 0.0}},
    (
        Predicate("more lesions are found than by the U-Net without adversary", "found (iou 0.5)", "cgan", "l1 loss"),
        Predicate("Dice of lesions is higher than without adversary", LESION_DICE, "cgan", "l1 loss"),
        Predicate("there are fewer false positives than without it", "false positives (iou 0.5)", "cgan", "l1 loss"),
        Predicate("more lesions are found than by the strongest simple method", "found (iou 0.5)", "cgan", STRONGEST),
    ),
    untested="the share of photographs with a correct detection on the paper's own, which are not public, nor is its "
    "criterion; the report counts pigmented and other lesions of the phantom apart.",
)

CLAIMS = (ANOGAN, CAAE, ANOVAEGAN, VAGAN, *map(beside_unet, (KOHL, UDREA)))
