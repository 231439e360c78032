"""Claims of papers that segment the spleen."""

from ganatomy.claims.claim import Claim, Predicate, beside_unet
from ganatomy.claims.sections.segmentation import DICE

SSNET = Claim(
    "ssnet",
    "A discriminator of patches improves a network with global convolutions, and the vote of three views of a volume "
    "agrees better with the annotation of enlarged spleens than the axial view alone.",
    {
        "ssnet": {},
        "no-adversary": {"adversarial_weight": 0.0},
        "axial-only": {"views": ("axial",)},
    },
    (
        Predicate("Dice is higher than without the discriminators", DICE, "ssnet", "no-adversary"),
        Predicate("Dice of three views is higher than that of axial slices", DICE, "ssnet", "axial-only"),
        Predicate("Dice is higher than that of the best thresholds", DICE, "ssnet", "threshold"),
    ),
    untested="The paper also compares with a U-Net.",
)

CLAIMS = tuple(map(beside_unet, (SSNET,)))
