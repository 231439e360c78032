"""Claims of papers that denoise low-dose CT."""

from ganatomy.claims.claim import Claim, Predicate

PSNR, SSIM, RMSE = "psnr[-160,240]", "ssim[-160,240]", "rmse"
SD, SPECTRUM = "noise sd error", "nps distance"
MEANS, VARIATION = "non-local means", "total variation"
SOFT_TISSUE = (-300.0, 500.0)
"""Window in HU in which the claims were tested; the loss weights beside it were chosen for it."""

WOLTERINK = Claim(
    "wolterink-ldct",
    "A network trained with a voxel loss alone has the highest PSNR but over-smooths; with an adversary the image "
    "statistics match those of routine dose better; calcium is quantified better than in the low-dose scan.",
    {
        "g-voxel-adv": {"window": SOFT_TISSUE, "adversarial_weight": 1e-2},
        "g-voxel": {"variant": "g-voxel", "window": SOFT_TISSUE},
        # Without a voxel loss only a small learning rate keeps the CT numbers from drifting.
        "g-adv": {"variant": "g-adv", "window": SOFT_TISSUE, "learning_rate": 2e-4},
    },
    (
        Predicate("the voxel loss alone has a higher PSNR than both losses", PSNR, "g-voxel", "g-voxel-adv"),
        Predicate("the voxel loss alone has a higher PSNR than the adversary alone", PSNR, "g-voxel", "g-adv"),
        Predicate("with both losses the noise SD is nearer to routine dose", SD, "g-voxel-adv", "g-voxel"),
        Predicate("with the adversary alone the noise SD is nearer to routine dose", SD, "g-adv", "g-voxel"),
        Predicate("calcium scores err less than in the low-dose scan", "agatston error", "g-voxel-adv"),
    ),
)

WGAN_VGG = Claim(
    "wgan-vgg",
    "The method beats the low-dose scan on PSNR, SSIM and RMSE. A network trained for squared error alone has the "
    "higher PSNR but over-smooths: the method's noise is nearer to that of normal dose, in amount and in texture.",
    {
        "wgan-vgg": {"window": SOFT_TISSUE, "scale": 10.0, "content_weight": 0.125},
        "cnn-mse": {"variant": "cnn-mse", "window": SOFT_TISSUE, "scale": 10.0},
    },
    (
        Predicate("PSNR is higher than the low-dose scan's", PSNR, "wgan-vgg"),
        Predicate("SSIM is higher than the low-dose scan's", SSIM, "wgan-vgg"),
        Predicate("RMSE is lower than the low-dose scan's", RMSE, "wgan-vgg"),
        Predicate("squared error alone has the higher PSNR", PSNR, "cnn-mse", "wgan-vgg"),
        Predicate("the noise SD is nearer to normal dose than with squared error alone", SD, "wgan-vgg", "cnn-mse"),
        Predicate("the noise spectrum is nearer to normal dose, too", SPECTRUM, "wgan-vgg", "cnn-mse"),
    ),
    untested="the scores of readers, who rate the method's overall quality highest.",
)

SAGAN = Claim(
    "sagan-ct",
    "The method beats the low-dose scan, classical denoisers and the same conditional GAN without the sharpness "
    "network on PSNR and SSIM, and loses very little resolution.",
    {
        "sagan-ct": {},
        "pix2pix": {"sharpness_weight": 0.0},
        "plain": {"sharpness_weight": 0.0, "adversarial_weight": 0.0},
    },
    (
        Predicate("PSNR is higher than the low-dose scan's", PSNR, "sagan-ct"),
        Predicate("SSIM is higher than the low-dose scan's", SSIM, "sagan-ct"),
        Predicate("PSNR is higher than that of non-local means", PSNR, "sagan-ct", MEANS),
        Predicate("PSNR is higher than that of total variation", PSNR, "sagan-ct", VARIATION),
        Predicate("PSNR is higher than without the sharpness network", PSNR, "sagan-ct", "pix2pix"),
        Predicate("SSIM is higher than without the sharpness network", SSIM, "sagan-ct", "pix2pix"),
        Predicate(
            "edges are nearer to routine dose than with pixel loss alone", "sharpness error", "sagan-ct", "plain"
        ),
    ),
    untested="line pairs and low contrasts of a test object. For BM3D and dictionaries stand non-local means and total "
    "variation.",
)

CLAIMS = (WOLTERINK, WGAN_VGG, SAGAN)
