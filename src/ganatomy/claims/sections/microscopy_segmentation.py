"""Claims of papers that segment cells, spheroids and glands in microscopy."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate, beside_unet

F1, GLAS_F1, DICE, HAUSDORFF = "object f1", "glas f1", "object dice", "object hausdorff"

SPHEROID_MSAN = Claim(
    "spheroid-msan",
    "A multi-scale segmentation network finds spheroids better when it is also taught by a discriminator whose weight "
    "rises linearly during training, than with weighted cross-entropy alone, and better than a network of one scale.",
    {
        "spheroid-msan": {},
        "no-adversary": {"adversarial_weight": 0.0},
        "single-scale": {"adversarial_weight": 0.0, "scales": False},
        "fixed-weight": {"rise": "constant"},
    },
    (
        Predicate("F1 of objects is higher than without an adversary", F1, "spheroid-msan", "no-adversary"),
        Predicate("F1 of objects is higher than with a network of one scale", F1, "spheroid-msan", "single-scale"),
        Predicate("F1 of objects is higher than with a fixed weight", F1, "spheroid-msan", "fixed-weight"),
        Predicate("F1 of objects is higher than that of the strongest simple method", F1, "spheroid-msan", STRONGEST),
    ),
    untested="The paper's plates of two microscopes are not public. No plain U-Net is compared, since the weights of "
    "borders are prepared with the images of this system.",
)

RIB_CAGE_GAN = Claim(
    "rib-cage-gan",
    "A network that learns to segment cells from a discriminator with separate and joined streams for image and "
    "segmentation finds cells better than with an ordinary discriminator, and with few images better than with "
    "cross-entropy.",
    {
        "rib-cage-gan": {},
        "plain-discriminator": {"discriminator": "plain"},
        "cross-entropy": {"critics": False},
    },
    (
        Predicate("F1 of cells is higher than with a plain discriminator", F1, "rib-cage-gan", "plain-discriminator"),
        Predicate("F1 of cells is higher than with cross-entropy", F1, "rib-cage-gan", "cross-entropy"),
        Predicate("F1 of cells is higher than that of the strongest simple method", F1, "rib-cage-gan", STRONGEST),
    ),
    untested="That quality hardly depends on the number of training images is a matter of a study with "
    "`--label-fraction`.",
)

DAN = Claim(
    "dan",
    "A network that also learns from images without annotations, by an evaluation network that tells its results on "
    "them from those on annotated images, finds glands better than the same network with annotated images alone, in "
    "F1, Dice and Hausdorff distance of objects.",
    {
        "dan": {},
        "annotated-only": {"adversarial_weight": 0.0},
    },
    (
        Predicate("F1 of glands is higher than with annotated images alone", GLAS_F1, "dan", "annotated-only"),
        Predicate("Dice of glands is higher than with annotated images alone", DICE, "dan", "annotated-only"),
        Predicate("Hausdorff distance is lower than with annotated images alone", HAUSDORFF, "dan", "annotated-only"),
        Predicate("F1 of glands is higher than that of the strongest simple method", GLAS_F1, "dan", STRONGEST),
    ),
    untested="The second set, fungus in stacks of microscopy, is not public.",
)

CLAIMS = (SPHEROID_MSAN, beside_unet(RIB_CAGE_GAN), beside_unet(DAN))
