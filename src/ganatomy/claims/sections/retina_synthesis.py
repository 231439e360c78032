"""Claims of papers that synthesise fundus photographs over maps of vessels."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

PSNR, SHARPNESS, SPECTRUM = "psnr[window]", "sharpness error", "spectrum distance"

VESS2RET = Claim(
    "vess2ret",
    "Photographs painted over maps of vessels keep a high share of the quality of real ones: they are as sharp, and "
    "vessels lie where the map has them.",
    {"vess2ret": {}, "l1": {"adversarial_weight": 0.0}},
    (
        Predicate("sharpness is nearer to the true photographs' than with L1 alone", SHARPNESS, "vess2ret", "l1"),
        Predicate("the spectrum is nearer, too", SPECTRUM, "vess2ret", "l1"),
        Predicate("photographs are nearer to the true ones than any map of single values", PSNR, "vess2ret", STRONGEST),
    ),
    untested="the scores of quality without a reference, ISC and Qv, of the paper; the sharpness of paired photographs "
    "takes their place.",
)

CLAIMS: tuple[Claim, ...] = (VESS2RET,)
