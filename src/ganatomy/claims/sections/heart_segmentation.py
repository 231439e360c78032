"""Claims of papers that segment the heart."""

from ganatomy.claims.claim import Claim, Predicate, beside_unet

DICE, DISTANCE, HD95 = "dice", "surface distance", "hd95"

VOXEL_ATLAS_GAN = Claim(
    "voxel-atlas-gan",
    "A network that warps an atlas to a 3D echocardiogram, against a discriminator of voxels, segments the left "
    "ventricle better than the same network that draws it, in Dice and in the distances of surfaces.",
    {
        "voxel-atlas-gan": {},
        "no-adversary": {"adversarial_weight": 0.0},
        "v-net": {"guided": False, "adversarial_weight": 0.0},
    },
    (
        Predicate("Dice is higher than that of a V-Net", DICE, "voxel-atlas-gan", "v-net"),
        Predicate("surfaces are closer than those of a V-Net", DISTANCE, "voxel-atlas-gan", "v-net"),
        Predicate("the farthest parts are closer than those of a V-Net", HD95, "voxel-atlas-gan", "v-net"),
        Predicate("Dice is higher than without a discriminator", DICE, "voxel-atlas-gan", "no-adversary"),
    ),
    untested="Registration of an atlas by search for every image, and how much longer it takes than one pass.",
)

CLAIMS = tuple(map(beside_unet, (VOXEL_ATLAS_GAN,)))
"""Claims of the papers, written down before they were tested."""
