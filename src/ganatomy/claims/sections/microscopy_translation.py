"""Claims of papers that translate between kinds of light microscopy."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

PSNR, SIMILARITY, SHARPNESS = "psnr[window]", "ssim[window]", "sharpness error"

TWO_DISCRIMINATORS = Claim(
    "twod-microscopy",
    "Phase-contrast images made from DIC images are nearer to real ones when a second discriminator judges images "
    "together with masks of cells, than those of pix2pix.",
    {
        "two discriminators": {},
        "pix2pix": {"mask_adversarial_weight": 0.0, "mask_seen": False},
        "mask for the generator": {"mask_adversarial_weight": 0.0},
        "source as real": {"mask_real": "source"},
        "l1 loss": {"adversarial_weight": 0.0, "mask_adversarial_weight": 0.0},
    },
    (
        Predicate("the root mean square error is smaller than that of pix2pix", PSNR, "two discriminators", "pix2pix"),
        Predicate("images are more similar than those of pix2pix", SIMILARITY, "two discriminators", "pix2pix"),
        Predicate(
            "the error is smaller than where only the generator sees the mask",
            PSNR,
            "two discriminators",
            "mask for the generator",
        ),
        Predicate(
            "it is smaller than with source images as real ones of the second discriminator",
            PSNR,
            "two discriminators",
            "source as real",
        ),
        Predicate(
            "the sharpness is nearer to that of real images than without adversary",
            SHARPNESS,
            "two discriminators",
            "l1 loss",
        ),
        Predicate("PSNR is higher than that of the strongest simple method", PSNR, "two discriminators", STRONGEST),
    ),
    untested="that the other direction gains little, which is a model of its own (`--source phase_contrast --target "
    "dic`); the paper's pairs of images are not public.",
)

VIRTUAL_HE = Claim(
    "virtual-he",
    "Colours of stained tissue that a conditional GAN makes of principal components of hyperspectral images of "
    "unstained tissue look like those of a chemical stain.",
    {"cgan": {}, "l1 loss": {"adversarial_weight": 0.0}, "one component": {"components": 1}},
    (
        Predicate(
            "they are more similar to the true colours than by a linear map of spectra",
            SIMILARITY,
            "cgan",
            "linear map",
        ),
        Predicate("the error is smaller than with that map", PSNR, "cgan", "linear map"),
        Predicate("the error is smaller than with one component", PSNR, "cgan", "one component"),
        Predicate(
            "the sharpness is nearer to that of stained tissue than without adversary", SHARPNESS, "cgan", "l1 loss"
        ),
        Predicate("PSNR is higher than that of the strongest simple method", PSNR, "cgan", STRONGEST),
    ),
    untested="the opinion of pathologists, which the authors ask for, and whether real spectra need more than a linear "
    "map: noise and spectra of the phantom were chosen so that they do; the paper's sections are not public.",
)

CLAIMS = (TWO_DISCRIMINATORS, VIRTUAL_HE)
