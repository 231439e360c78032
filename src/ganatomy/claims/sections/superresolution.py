"""Claims of papers on super-resolution of the retina and of endomicroscopy."""

from ganatomy.claims.claim import Claim, Predicate

PSNR, SSIM, TOTAL, FIBRES = "psnr[window]", "ssim[window]", "total score", "fibre error"
INTERPRETABILITY = "semantic interpretability"

SALIENCY_SRGAN = Claim(
    "saliency-srgan",
    "Weighting errors by saliency super-resolves the retina better than the same network that takes all pixels alike, "
    "and vessels can be segmented in the result.",
    {"saliency": {}, "all pixels alike": {"saliency": "none"}},
    (
        Predicate("SSIM is higher than that of interpolation", SSIM, "saliency"),
        Predicate("PSNR is higher than that of interpolation", PSNR, "saliency"),
        Predicate("PSNR is higher than that of Lanczos interpolation", PSNR, "saliency", "Lanczos"),
        Predicate("SSIM is higher than without saliency", SSIM, "saliency", "all pixels alike"),
        Predicate(
            "PSNR is higher, so the squared error lower, than without saliency", PSNR, "saliency", "all pixels alike"
        ),
        Predicate("a segmenter finds more of the vessels than after interpolation", INTERPRETABILITY, "saliency"),
    ),
)

PCLE_CYCLE_SR = Claim(
    "pcle-cycle-sr",
    "Without pairs, an adversary and a cycle through the fibres sharpen endomicroscopy beyond interpolation between "
    "fibres, and the image stays one that the fibres would have seen.",
    {"cycle": {}, "without adversary": {"adversarial_weight": 0.0}, "without cycle": {"vector_weight": 0.0}},
    (
        Predicate("SSIM is higher than that of the interpolated frame", SSIM, "cycle"),
        Predicate("the total score is higher than the interpolated frame's", TOTAL, "cycle"),
        Predicate("the total score is higher than that of unsharp masking", TOTAL, "cycle", "unsharp mask"),
        Predicate("SSIM is higher than without the cycle", SSIM, "cycle", "without cycle"),
        Predicate("it is nearer to what the fibres measured than without the cycle", FIBRES, "cycle", "without cycle"),
        Predicate("the total score is higher than without the adversary", TOTAL, "cycle", "without adversary"),
    ),
)

CLAIMS = (SALIENCY_SRGAN, PCLE_CYCLE_SR)
