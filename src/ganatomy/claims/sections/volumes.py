"""Claims of papers on super-resolution of volumes."""

from ganatomy.claims.claim import Claim, Predicate

PSNR, SSIM, SHARPNESS = "psnr[window]", "ssim[window]", "sharpness error"

THIN_SLICE = Claim(
    "thin-slice-3dsrgan",
    "The network finds the slices between thick ones with a lower error than interpolation does.",
    {"3dsrgan": {}, "without adversary": {"adversarial_weight": 0.0}},
    (
        Predicate("PSNR, so the squared error, is better than that of splines", PSNR, "3dsrgan"),
        Predicate("so it is without the adversary", PSNR, "without adversary"),
        Predicate("edges are nearer to the true ones than those of splines", SHARPNESS, "3dsrgan"),
    ),
)

SRGAN3D = Claim(
    "srgan3d-brain",
    "The adversary together with the gradient difference beats cubic interpolation in PSNR and in SSIM.",
    {"3d srgan": {}, "without adversary": {"adversarial_weight": 0.0}},
    (
        Predicate("PSNR is higher than that of cubic interpolation", PSNR, "3d srgan"),
        Predicate("SSIM is higher than that of cubic interpolation", SSIM, "3d srgan"),
        Predicate("PSNR is higher without the adversary, too", PSNR, "without adversary"),
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
