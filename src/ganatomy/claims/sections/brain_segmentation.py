"""Claims of papers that segment tumours, tissues and lesions of the brain."""

from ganatomy.claims.claim import Claim, Predicate, beside_unet

DICE, HD95, DISTANCE = "dice", "hd95", "surface distance"
THRESHOLD = "threshold"
"""Name of the baseline that thresholds one of the images."""

BRAIN_ADV_DILATED = Claim(
    "brain-adv-dilated",
    "With a discriminator both networks segment the brain better, the fully convolutional one by more, and the network "
    "of dilated convolutions is better than that one.",
    {
        "dilated": {},
        "dilated alone": {"adversarial_weight": 0.0},
        "fcn": {"network": "fcn"},
        "fcn alone": {"network": "fcn", "adversarial_weight": 0.0},
    },
    (
        Predicate("Dice of the dilated network is higher than without", DICE, "dilated", "dilated alone"),
        Predicate("so is that of the fully convolutional one", DICE, "fcn", "fcn alone"),
        Predicate("Dice of the dilated network is higher than of the other", DICE, "dilated", "fcn"),
        Predicate("surfaces of the dilated network are nearer than without", DISTANCE, "dilated", "dilated alone"),
        Predicate("so are those of the fully convolutional one", DISTANCE, "fcn", "fcn alone"),
        Predicate("Dice is higher than that of the best thresholds", DICE, "dilated", THRESHOLD),
    ),
    untested="that the fully convolutional network gains more, and the number of connected components.",
)

BRATS_ADV_PATCH = Claim(
    "brats-adv-patch",
    "With a discriminator of its maps a network of patches segments tumours more accurately and in more contiguous "
    "pieces than the same network without one.",
    {"brats-adv-patch": {}, "cross-entropy": {"adversarial_weight": 0.0}},
    (
        Predicate("Dice is higher than with cross-entropy alone", DICE, "brats-adv-patch", "cross-entropy"),
        Predicate("the 95th percentile of surface distances is smaller", HD95, "brats-adv-patch", "cross-entropy"),
        Predicate("so is their mean, in which stray pieces count", DISTANCE, "brats-adv-patch", "cross-entropy"),
        Predicate("Dice is higher than that of the best thresholds", DICE, "brats-adv-patch", THRESHOLD),
    ),
)

BRATS_CGAN = Claim(
    "brats-cgan",
    "A conditional GAN with virtual and reference batch norm segments tumours better than the same network trained by "
    "the absolute error alone.",
    {"brats-cgan": {}, "absolute error": {"adversarial_weight": 0.0}, "batch norm": {"norm": "batch"}},
    (
        Predicate("whole tumours have a higher Dice than by it", f"{DICE} whole", "brats-cgan", "absolute error"),
        Predicate("so have all regions on average", DICE, "brats-cgan", "absolute error"),
        Predicate("Dice is higher than with plain batch norm", DICE, "brats-cgan", "batch norm"),
        Predicate("Dice is higher than that of the best thresholds", DICE, "brats-cgan", THRESHOLD),
    ),
)

UDA_LESION = Claim(
    "uda-lesion",
    "Made unable to tell the domain of its features, a network segments lesions on a scanner without annotations "
    "better than one that learned from the other scanner alone, and nearly as well as one that learned from both; "
    "features of many layers serve better than those of the last.",
    {
        "adapted": {},
        "source only": {"adversarial_weight": 0.0},
        "supervised": {"adversarial_weight": 0.0, "supervised": True},
        "last layer": {"taps": (10,)},
    },
    (
        Predicate("Dice is higher than of the network of the source alone", DICE, "adapted", "source only"),
        Predicate("Dice with annotations of the target is higher still", DICE, "supervised", "adapted"),
        Predicate("Dice is higher than with features of the last layer alone", DICE, "adapted", "last layer"),
        Predicate("Dice is higher than that of the best thresholds", DICE, "adapted", THRESHOLD),
    ),
    untested="how far real scanners lie apart: those of the phantom differ so much in one image that a network which "
    "learned from the first of them fails on the second.",
)

CLAIMS = (*map(beside_unet, (BRATS_CGAN, BRAIN_ADV_DILATED, BRATS_ADV_PATCH)), UDA_LESION)
