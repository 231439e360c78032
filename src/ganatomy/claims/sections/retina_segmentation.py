"""Claims of papers that segment fundus photographs."""

from ganatomy.claims.claim import Claim, Predicate, beside_unet

DICE, ROC = "dice", "roc area"

V_GAN = Claim(
    "v-gan",
    "Against a discriminator that looks at the whole picture, a U-Net segments retinal vessels better than against one "
    "of patches or pixels, and better than without an adversary.",
    {
        "v-gan": {},
        "patch": {"discriminator": "patch1"},
        "pixel": {"discriminator": "pixel"},
        "without adversary": {"discriminator": "none"},
    },
    (
        Predicate("Dice is higher than without the adversary", DICE, "v-gan", "without adversary"),
        Predicate("Dice is higher than with a discriminator of patches", DICE, "v-gan", "patch"),
        Predicate("Dice is higher than with a discriminator of pixels", DICE, "v-gan", "pixel"),
        Predicate("Dice is higher than that of the best threshold", DICE, "v-gan", "threshold"),
    ),
    untested="areas under curves of the pooled pixels of DRIVE and STARE; the pictures are those of the phantom.",
)

ODOC = Claim(
    "resunet-cgan-odoc",
    "A residual U-Net that is trained against a discriminator of photograph and label map segments the cup better than "
    "one that is trained with the cross-entropy alone; against one of the label map only, the disc gains more.",
    {
        "cgan": {},
        "plain gan": {"adversary": "plain"},
        "cross-entropy": {"adversary": "none", "loss": "cross-entropy"},
    },
    (
        Predicate("Dice of the cup is higher than with the cross-entropy", "dice cup", "cgan", "cross-entropy"),
        Predicate("Dice of the disc is higher than with the cross-entropy", "dice disc", "cgan", "cross-entropy"),
        Predicate("Dice of the cup is higher than with the plain adversary", "dice cup", "cgan", "plain gan"),
        Predicate("Dice of the disc is higher with the plain adversary", "dice disc", "plain gan", "cgan"),
        Predicate(
            "the vertical cup-to-disc ratio is closer to the truth than with the cross-entropy",
            "vertical cup-to-disc ratio error",
            "cgan",
            "cross-entropy",
        ),
        Predicate("Dice of the disc is higher than that of the best threshold", "dice disc", "cgan", "threshold"),
    ),
)

VESSEL_DCGAN = Claim(
    "vessel-dcgan-ssl",
    "A discriminator that also classifies the patches it is shown ranks the pixels of retinal vessels better than the "
    "same network that only classifies, most of all with few annotated patches.",
    {"vessel-dcgan": {}, "classifier": {"adversary": False}},
    (
        Predicate(
            "the area under the ROC curve is larger than that of the classifier", ROC, "vessel-dcgan", "classifier"
        ),
        Predicate("it is larger than that of the brightness", ROC, "vessel-dcgan", "threshold"),
    ),
    untested="That it gains most with few annotations is a matter of a study with `--label-fraction`.",
)

CLAIMS = tuple(map(beside_unet, (V_GAN, ODOC, VESSEL_DCGAN)))
"""Claims of the papers, written down before they were tested."""
