"""Claims of papers on super-resolution of volumes."""

from ganatomy.claims.claim import Claim, Predicate

PSNR, SSIM, SHARPNESS = "psnr[window]", "ssim[window]", "sharpness error"
LANCZOS = "Lanczos"
"""Interpolation by a windowed sinc, the strongest that the judge knows."""

THIN_SLICE = Claim(
    "thin-slice-3dsrgan",
    "With its adversary, the network finds the slices between thick ones with a lower error than interpolation and "
    "than a network that is trained for squared error alone.",
    {"3dsrgan": {}, "without adversary": {"adversarial_weight": 0.0}},
    (
        Predicate("PSNR, so the squared error, is better than that of splines", PSNR, "3dsrgan"),
        Predicate("it is better than that of Lanczos interpolation", PSNR, "3dsrgan", LANCZOS),
        Predicate("it is better than without the adversary", PSNR, "3dsrgan", "without adversary"),
        Predicate("edges are nearer to the true ones than those of splines", SHARPNESS, "3dsrgan"),
        Predicate("they are nearer than without the adversary", SHARPNESS, "3dsrgan", "without adversary"),
    ),
    untested="thick slices that were acquired: here they are simulated from thin ones. For the 3D SRCNN stands the "
    "same network without its adversary.",
)

SRGAN3D = Claim(
    "srgan3d-brain",
    "Trained with an adversary and the gradient difference, the network beats cubic interpolation in PSNR and in SSIM.",
    {"3d srgan": {}, "without adversary": {"adversarial_weight": 0.0}},
    (
        Predicate("PSNR is higher than that of cubic interpolation", PSNR, "3d srgan"),
        Predicate("SSIM is higher than that of cubic interpolation", SSIM, "3d srgan"),
        Predicate("PSNR is higher than that of Lanczos interpolation", PSNR, "3d srgan", LANCZOS),
        Predicate("SSIM is higher than that of Lanczos interpolation", SSIM, "3d srgan", LANCZOS),
        Predicate("PSNR is higher than without the adversary", PSNR, "3d srgan", "without adversary"),
        Predicate("SSIM is higher than without the adversary", SSIM, "3d srgan", "without adversary"),
    ),
)

MDCSRN = Claim(
    "mdcsrn",
    "The dense network beats interpolation of the truncated k-space; the critic makes its volumes sharper at a slightly"
    " lower PSNR.",
    {"mdcsrn-gan": {}, "mdcsrn": {"adversarial_weight": 0.0}},
    (
        Predicate("PSNR is higher than the interpolated image's", PSNR, "mdcsrn"),
        Predicate("SSIM is higher than the interpolated image's", SSIM, "mdcsrn"),
        Predicate("so is PSNR with the critic", PSNR, "mdcsrn-gan"),
        Predicate("edges are nearer to the true ones with the critic", SHARPNESS, "mdcsrn-gan", "mdcsrn"),
        Predicate("PSNR is higher without it", PSNR, "mdcsrn", "mdcsrn-gan"),
    ),
)

CLAIMS = (THIN_SLICE, SRGAN3D, MDCSRN)
