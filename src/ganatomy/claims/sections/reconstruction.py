"""Claims of papers that reconstruct undersampled MR."""

from ganatomy.claims.claim import Claim, Predicate

PSNR, SSIM, NMSE, SNR, SHARPNESS = "psnr[0,1]", "ssim[0,1]", "nmse[norm ratio]", "snr", "sharpness error"
INTERPRETABILITY = "semantic interpretability"
VARIATION, WAVELETS = "total variation", "wavelets"
"""Compressed sensing, which the judge tunes on validation cases."""

DEEP_DEALIASING = Claim(
    "deep-dealiasing",
    "Every part helps: refining the input beats making the image anew, which beats doing so without the perceptual "
    "loss, and all beat the zero-filled image; the first also beats compressed sensing.",
    {"PPGR": {}, "PPG": {"refine": False}, "PG": {"refine": False, "perceptual_weight": 0.0}},
    (
        Predicate("PSNR is higher than the zero-filled image's", PSNR, "PPGR"),
        Predicate("so it is without refinement and perceptual loss", PSNR, "PG"),
        Predicate("PSNR is higher than that of total variation", PSNR, "PPGR", VARIATION),
        Predicate("PSNR is higher than that of wavelets", PSNR, "PPGR", WAVELETS),
        Predicate("PSNR is higher than without refinement", PSNR, "PPGR", "PPG"),
        Predicate("without refinement it is higher than without the perceptual loss, too", PSNR, "PPG", "PG"),
    ),
)

DAGAN = Claim(
    "dagan",
    "The frequency loss makes de-aliasing better than that of the earlier method without it, and the adversary better "
    "than the same network without one; both beat the zero-filled image, and the method beats compressed sensing.",
    {"dagan": {}, "without frequencies": {}, "without adversary": {"adversarial_weight": 0.0}},
    (
        Predicate("PSNR is higher than the zero-filled image's", PSNR, "dagan"),
        Predicate("NMSE is lower than the zero-filled image's", NMSE, "dagan"),
        Predicate("PSNR is higher than that of total variation", PSNR, "dagan", VARIATION),
        Predicate("PSNR is higher than that of wavelets", PSNR, "dagan", WAVELETS),
        Predicate("PSNR is higher than that of deep de-aliasing", PSNR, "dagan", "without frequencies"),
        Predicate("NMSE is lower than that of deep de-aliasing", NMSE, "dagan", "without frequencies"),
        Predicate("PSNR is higher than without the adversary", PSNR, "dagan", "without adversary"),
    ),
    {"without frequencies": "deep-dealiasing"},
)

GANCS = Claim(
    "gancs",
    "The network beats the zero-filled image; the adversary costs a little SNR and sharpens what the pixel loss blurs.",
    {"gancs": {}, "pixel loss": {"adversarial_weight": 0.0}},
    (
        Predicate("SNR is higher than the zero-filled image's", SNR, "gancs"),
        Predicate("SSIM is higher than the zero-filled image's", SSIM, "gancs"),
        Predicate("the pixel loss alone has the higher SNR", SNR, "pixel loss", "gancs"),
        Predicate(
            "edges are nearer to the complete scan than with the pixel loss alone", SHARPNESS, "gancs", "pixel loss"
        ),
    ),
    untested="the ratings of radiologists, who prefer it to compressed sensing with wavelets and total variation, and "
    "its run time.",
)

REFINEGAN = Claim(
    "refinegan",
    "Two chained generators reconstruct better than one, which is better than compressed sensing and the zero-filled "
    "image.",
    {"refinegan": {}, "one generator": {"chain": 1}},
    (
        Predicate("PSNR is higher than the zero-filled image's", PSNR, "refinegan"),
        Predicate("SSIM is higher than the zero-filled image's", SSIM, "refinegan"),
        Predicate("PSNR is higher than that of total variation", PSNR, "refinegan", VARIATION),
        Predicate("so it is with one generator", PSNR, "one generator", VARIATION),
        Predicate("PSNR is higher than with one generator", PSNR, "refinegan", "one generator"),
        Predicate("SSIM is higher than with one generator", SSIM, "refinegan", "one generator"),
    ),
)

CSMRI_REFINEMENT = Claim(
    "csmri-refinement",
    "Refinement costs the reconstruction a little PSNR, makes it look more like a complete scan, and lets a segmenter "
    "find more in it.",
    {"refinement": {}, "reconstruction alone": {"adversarial_weight": 0.0}},
    (
        Predicate("PSNR is higher than the zero-filled image's", PSNR, "refinement"),
        Predicate("the reconstruction alone has the higher PSNR", PSNR, "reconstruction alone", "refinement"),
        Predicate(
            "edges are nearer to the complete scan than without refinement",
            SHARPNESS,
            "refinement",
            "reconstruction alone",
        ),
        Predicate(
            "a segmenter finds more of what it finds in the complete scan than without refinement",
            INTERPRETABILITY,
            "refinement",
            "reconstruction alone",
        ),
    ),
    untested="the opinion scores of readers.",
)

KSPACE_GAN = Claim(
    "kspace-gan",
    "Of about half of k-space, the completion that an adversary has judged makes a better image than zeros, compressed "
    "sensing and the same network without the adversary.",
    {"kspace-gan": {}, "without adversary": {"adversarial_weight": 0.0}},
    (
        Predicate("PSNR is higher than the zero-filled image's", PSNR, "kspace-gan"),
        Predicate("SSIM is higher than the zero-filled image's", SSIM, "kspace-gan"),
        Predicate("PSNR is higher than that of total variation", PSNR, "kspace-gan", VARIATION),
        Predicate("PSNR is higher than that of wavelets", PSNR, "kspace-gan", WAVELETS),
        Predicate("PSNR is higher than without the adversary", PSNR, "kspace-gan", "without adversary"),
    ),
)

CLAIMS = (DEEP_DEALIASING, DAGAN, GANCS, REFINEGAN, CSMRI_REFINEMENT, KSPACE_GAN)
