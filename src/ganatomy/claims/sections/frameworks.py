"""Claims of the papers behind the base frameworks."""

from collections.abc import Mapping
from typing import Any

from ganatomy.claims.claim import ALIKE, Claim, Predicate

KERNEL, FRECHET, COVERAGE, ACCURACY = "kernel distance", "frechet distance", "coverage", "label accuracy"
SLICED, TOLD = "sliced wasserstein", "told apart"
NOISE, REAL = "noise", "real"

LIVER: Mapping[str, Any] = {
    "phantom": "liver-lesion",
    "roles": {"images": {"channels": 1, "window": (-100.0, 300.0), "unit": "HU"}},
}
"""Options of the systems for the phantom of lesions in CT, on which claims about images from noise are tested."""
LIVER_CLASSES: Mapping[str, Any] = {**LIVER, "classes": ("cyst", "metastasis", "haemangioma")}
"""Options of the systems that learn the classes of these lesions, too."""

GAN = Claim(
    "gan",
    "A generator that only ever hears a discriminator's opinion comes to make images like the real ones; it learns "
    "better from the non-saturating loss than from the minimax loss.",
    {"gan": {}, "minimax": {"loss": "minimax"}},
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "gan", NOISE),
        Predicate("they cover more of the real images than noise does", COVERAGE, "gan", NOISE),
        Predicate("they are nearer than with the minimax loss", KERNEL, "gan", "minimax"),
    ),
    phantom=LIVER,
)

DCGAN = Claim(
    "dcgan",
    "Strided convolutions with batch normalisation make a generator that learns better images than dense networks do.",
    {"dcgan": {}, "dense": {}},
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "dcgan", NOISE),
        Predicate("samples are nearer to real images than those of dense networks", KERNEL, "dcgan", "dense"),
        Predicate("they cover more of the real images", COVERAGE, "dcgan", "dense"),
    ),
    {"dense": "gan"},
    phantom=LIVER,
)

CGAN = Claim(
    "cgan",
    "Told the label, both players learn it, and the generator makes images of the label asked for.",
    {"cgan": {}},
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "cgan", NOISE),
        Predicate("they cover more of the real images than noise does", COVERAGE, "cgan", NOISE),
        Predicate("labels are recognised as often as those of real images", ACCURACY, "cgan", REAL, ALIKE),
    ),
    phantom=LIVER_CLASSES,
)

AC_GAN = Claim(
    "ac-gan",
    "With a discriminator that classifies, samples show the class asked for, are better than without, and as varied as "
    "real images.",
    {"ac-gan": {}, "without classifier": {"class_weight": 0.0}},
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "ac-gan", NOISE),
        # Without a classifier nobody tells the generator what a class is, so that its labels mean nothing.
        Predicate("classes are recognised as often as those of real images", ACCURACY, "ac-gan", REAL, ALIKE),
        Predicate("samples are nearer to real images than without", KERNEL, "ac-gan", "without classifier"),
        Predicate("they cover as much as other real images do", COVERAGE, "ac-gan", REAL, ALIKE),
    ),
    phantom=LIVER_CLASSES,
)

WGAN = Claim(
    "wgan",
    "The Wasserstein distance makes training robust: the generator goes on learning without batch normalisation, with "
    "which the standard game fails.",
    {
        "wgan": {},
        "wgan without norm": {"generator_norm": "none"},
        "dcgan without norm": {"generator_norm": "none"},
    },
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "wgan", NOISE),
        Predicate(
            "without norm they are nearer than those of the standard game",
            *(KERNEL, "wgan without norm", "dcgan without norm"),
        ),
        Predicate(
            "without norm they cover more of the real images", COVERAGE, "wgan without norm", "dcgan without norm"
        ),
    ),
    {"dcgan without norm": "dcgan"},
    phantom=LIVER,
)

WGAN_GP = Claim(
    "wgan-gp",
    "A penalty on the critic's slope makes better images than clipping its weights, after as many updates of the "
    "generator.",
    # Rates are those that suit either optimiser: as in the papers, Adam's is twice RMSprop's, with which weights are
    # clipped.
    {"wgan-gp": {}, "clipping": {}},
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "wgan-gp", NOISE),
        Predicate("samples are nearer to real images than with clipping", KERNEL, "wgan-gp", "clipping"),
        Predicate("they cover more of the real images than with clipping", COVERAGE, "wgan-gp", "clipping"),
    ),
    {"clipping": "wgan"},
    phantom=LIVER,
    as_long=("clipping",),
)

LSGAN = Claim(
    "lsgan",
    "Least squares make better images than the logarithmic loss of the same networks.",
    {"lsgan": {}, "logarithmic": {"loss": "nonsaturating"}},
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "lsgan", NOISE),
        Predicate("samples are nearer to real images than with the logarithmic loss", KERNEL, "lsgan", "logarithmic"),
        Predicate("so by the Fréchet distance", FRECHET, "lsgan", "logarithmic"),
    ),
    phantom=LIVER,
)

LAPGAN = Claim(
    "lapgan",
    "Images made scale by scale are taken for real far more often than those of one dense GAN for the whole size.",
    {"lapgan": {}, "one scale": {"levels": 0}},
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "lapgan", NOISE),
        Predicate("samples are nearer to real images than those of one scale", KERNEL, "lapgan", "one scale"),
        Predicate("they are harder to tell from real images", TOLD, "lapgan", "one scale"),
        Predicate("their patches are nearer at all scales", SLICED, "lapgan", "one scale"),
    ),
    untested="the judgement of people; a test by the nearest neighbour in feature space takes its place.",
)

PGAN = Claim(
    "pgan",
    "Networks that grow make better and more varied images than the same networks trained at the full size from the "
    "beginning, on as many images.",
    {"pgan": {}, "full size at once": {"grow": False}},
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "pgan", NOISE),
        Predicate("patches are nearer at all scales than without growing", SLICED, "pgan", "full size at once"),
        Predicate("samples are nearer to real images than without growing", KERNEL, "pgan", "full size at once"),
        Predicate("they cover more of the real images", COVERAGE, "pgan", "full size at once"),
    ),
)

AAE = Claim(
    "aae",
    "With an adversary on its codes an autoencoder becomes a generator: draws of the prior decode to images.",
    {"aae": {}, "autoencoder alone": {"adversarial_weight": 0.0}},
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "aae", NOISE),
        Predicate("samples are nearer to real images than without the adversary", KERNEL, "aae", "autoencoder alone"),
        Predicate("they cover more of the real images", COVERAGE, "aae", "autoencoder alone"),
    ),
)

VAE_GAN = Claim(
    "vae-gan",
    "An autoencoder that also plays against the discriminator makes better images than one that only measures likeness "
    "in its features.",
    {"vae-gan": {}, "likeness alone": {"likeness_weight": 1.0}},
    (
        Predicate("samples are nearer to real images than noise is", KERNEL, "vae-gan", NOISE),
        Predicate("samples are nearer to real images than with likeness alone", KERNEL, "vae-gan", "likeness alone"),
        Predicate("their patches are nearer at all scales", SLICED, "vae-gan", "likeness alone"),
    ),
    phantom=LIVER,
)

PSNR, SSIM, ERROR, CONTRAST = "psnr[window]", "ssim[window]", "mae[window]", "contrast"
SHARPNESS, SPECTRUM = "sharpness error", "spectrum distance"

PIX2PIX = Claim(
    "pix2pix",
    "The L1 loss alone makes reasonable but blurred images; with the conditional adversary they are as sharp as real "
    "ones, at the price of a little L1 distance.",
    {"pix2pix": {}, "l1": {"adversarial_weight": 0.0}},
    (
        Predicate("images are nearer to the true ones than the input is", PSNR, "pix2pix"),
        Predicate("sharpness is nearer to the true images' than with L1 alone", SHARPNESS, "pix2pix", "l1"),
        Predicate("the spectrum is nearer, too", SPECTRUM, "pix2pix", "l1"),
        Predicate("L1 alone has the smaller error", ERROR, "l1", "pix2pix"),
    ),
)

CYCLEGAN = Claim(
    "cyclegan",
    "Images are translated without pairs: with the adversaries and the cycle the contrast is that of the other kind, "
    "with the cycle alone it is not; pairs would still be better.",
    {"cyclegan": {}, "cycle alone": {"adversarial_weight": 0.0}, "pix2pix": {}},
    (
        Predicate("tissue correlates better with the true image than the input does", CONTRAST, "cyclegan"),
        Predicate("tissue correlates better than with the cycle alone", CONTRAST, "cyclegan", "cycle alone"),
        Predicate("images are nearer than with the cycle alone", PSNR, "cyclegan", "cycle alone"),
        Predicate("images learned from pairs are nearer", PSNR, "pix2pix", "cyclegan"),
    ),
    {"pix2pix": "pix2pix"},
)

MGAN = Claim(
    "mgan",
    "A network trained against a critic of local patches gives images the texture of the examples in one pass; trained "
    "for squared error alone it smooths the texture away.",
    {"mgan": {}, "squared error": {"adversarial_weight": 0.0}},
    (
        Predicate(
            "the spectrum is nearer to the examples' than with squared error alone", SPECTRUM, "mgan", "squared error"
        ),
        Predicate("it is nearer than the input's", SPECTRUM, "mgan"),
        Predicate("sharpness is nearer than with squared error alone", SHARPNESS, "mgan", "squared error"),
    ),
)

SRGAN = Claim(
    "srgan",
    "SRResNet, trained for squared error, has the higher PSNR and SSIM but smooths; SRGAN's detail is nearer to that "
    "of real images. Both beat bicubic interpolation.",
    {"srgan": {}, "srresnet": {"adversarial_weight": 0.0}},
    (
        Predicate("SRResNet has a higher PSNR than bicubic interpolation", PSNR, "srresnet"),
        Predicate("SRResNet has a higher PSNR than Lanczos interpolation", PSNR, "srresnet", "Lanczos"),
        Predicate("SRResNet has a higher PSNR than SRGAN", PSNR, "srresnet", "srgan"),
        Predicate("SRResNet has a higher SSIM than SRGAN", SSIM, "srresnet", "srgan"),
        Predicate("SRGAN's spectrum is nearer to that of real images", SPECTRUM, "srgan", "srresnet"),
        Predicate("SRGAN's sharpness is nearer, too", SHARPNESS, "srgan", "srresnet"),
    ),
)

CLAIMS: tuple[Claim, ...] = (
    GAN,
    DCGAN,
    CGAN,
    AC_GAN,
    WGAN,
    WGAN_GP,
    LSGAN,
    LAPGAN,
    PGAN,
    AAE,
    VAE_GAN,
    PIX2PIX,
    CYCLEGAN,
    MGAN,
    SRGAN,
)
