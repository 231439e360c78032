"""Claims of papers that synthesise images of filaments from a map of them."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

PSNR, SHARPNESS, SPECTRUM = "psnr[window]", "sharpness error", "spectrum distance"

FILA = Claim(
    "fila-sgan",
    "From few images with a map of their filaments, a network learns to draw realistic images of other maps; with a "
    "style it takes the textures of a picture.",
    {
        "fila-sgan": {},
        "fila-gan": {"variant": "fila-gan"},
        "no adversary": {"adversarial_weight": 0.0},
        "l1 alone": {"variant": "fila-gan", "adversarial_weight": 0.0},
    },
    (
        Predicate(
            "the spectrum is nearer to real images' than without adversary", SPECTRUM, "fila-sgan", "no adversary"
        ),
        Predicate("sharpness is nearer than without adversary", SHARPNESS, "fila-sgan", "no adversary"),
        Predicate("sharpness of Fila-GAN is nearer than with L1 alone", SHARPNESS, "fila-gan", "l1 alone"),
        Predicate("the spectrum is nearer with a style than with a pixel loss", SPECTRUM, "fila-sgan", "fila-gan"),
        Predicate("images of Fila-GAN are nearer to true ones than any simple method's", PSNR, "fila-gan", STRONGEST),
    ),
    untested="that a segmenter of vessels gains from synthetic images beside real ones, which `ganatomy study "
    "fila-sgan --downstream` measures, and diversity; the features are those of a network with random weights unless "
    "those of ImageNet are given.",
)

CLAIMS: tuple[Claim, ...] = (FILA,)
