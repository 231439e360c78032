"""Claims of papers that make images of another modality: CT from MR, MR from CT, and PET from MR."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

PSNR, ERROR, SHARPNESS = "psnr[window]", "mae[window]", "sharpness error"

UNPAIRED_MR2CT = Claim(
    "unpaired-mr2ct",
    "Learned from slices that are not paired, CT from MR has a smaller error than learned from pairs, whose "
    "registration is inexact.",
    {"unpaired": {}, "from pairs": {"from_pairs": True}, "cycle alone": {"adversarial_weight": 0.0}},
    (
        Predicate("CT numbers have a smaller error than learned from pairs", ERROR, "unpaired", "from pairs"),
        Predicate("images are nearer than learned from pairs", PSNR, "unpaired", "from pairs"),
        Predicate("they are nearer than with the cycle alone", PSNR, "unpaired", "cycle alone"),
        Predicate("they are nearer than the strongest simple method makes them", PSNR, "unpaired", STRONGEST),
    ),
)

SKETCHER_REFINER = Claim(
    "sketcher-refiner",
    "Refined with equal weight for lesions, white matter of normal appearance and the other brain, PET of myelin from "
    "MR is nearer to the true one than that of one conditional GAN, which blurs it, and of a U-Net.",
    {
        "refined": {},
        "one cgan": {"refined": False},
        "u-net": {"refined": False, "adversarial_weight": 0.0},
        "held-out sketches": {"sketch_folds": 3},
    },
    (
        Predicate("images are nearer than those of one conditional GAN", PSNR, "refined", "one cgan"),
        Predicate("their errors are smaller", ERROR, "refined", "one cgan"),
        Predicate("their sharpness is nearer to the true images'", SHARPNESS, "refined", "one cgan"),
        Predicate("images are nearer than those of a U-Net", PSNR, "refined", "u-net"),
        Predicate("they are nearer than the strongest simple method makes them", PSNR, "refined", STRONGEST),
    ),
    untested="the means of regions and the overlap of maps of demyelination.",
)

CLAIMS = (UNPAIRED_MR2CT, SKETCHER_REFINER)
