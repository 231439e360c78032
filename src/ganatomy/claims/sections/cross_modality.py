"""Claims of papers that make images of another modality: CT from MR, MR from CT, and PET from MR."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

PSNR, SSIM, ERROR, CONTRAST = "psnr[window]", "ssim[window]", "mae[window]", "contrast"

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

CLAIMS = (UNPAIRED_MR2CT,)
