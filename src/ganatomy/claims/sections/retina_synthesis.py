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

KERNEL, SLICED, COPIED_MAPS, NOISE, REAL = "kernel distance", "sliced wasserstein", "copied maps", "noise", "real"
FEW_COPIES = 0.05
"""Share of sampled maps beyond that of held-out ones that may resemble training maps so much."""

RETINA_AAE = Claim(
    "retina-aae",
    "Pairs of a map of vessels and a photograph that are drawn from noise together are as useful as real ones, and are "
    "no copies of training maps.",
    {"retina-aae": {}, "without adversaries": {"adversarial_weight": 0.0, "code_weight": 0.0}},
    (
        Predicate(
            "pairs are nearer to real ones than those of the same networks without adversaries",
            *(KERNEL, "retina-aae", "without adversaries"),
        ),
        Predicate("patches are nearer at all scales", SLICED, "retina-aae", "without adversaries"),
        Predicate("pairs are nearer to real ones than noise is", KERNEL, "retina-aae", NOISE),
        Predicate(
            "no more maps than held-out ones share as much with a training map",
            *(COPIED_MAPS, "retina-aae", REAL, FEW_COPIES),
        ),
    ),
    untested="the area under the ROC curve of a network that segments vessels after it was trained on samples alone; "
    "`ganatomy study retina-aae --downstream` measures its Dice.",
)

DUAL_GAN = Claim(
    "dual-gan",
    "Maps from one GAN and photographs that a second one paints over them are almost as useful as real pairs, and are "
    "no copies.",
    {"dual-gan": {}, "painter without adversary": {"adversarial_weight": 0.0}},
    (
        Predicate("pairs are nearer to real ones than noise is", KERNEL, "dual-gan", NOISE),
        Predicate(
            "pairs are nearer to real ones than with a painter that learns from L1 alone",
            *(KERNEL, "dual-gan", "painter without adversary"),
        ),
        Predicate("patches are nearer at all scales", SLICED, "dual-gan", "painter without adversary"),
        Predicate(
            "no more maps than held-out ones share as much with a training map",
            *(COPIED_MAPS, "dual-gan", REAL, FEW_COPIES),
        ),
    ),
    untested="the F1 score of a network that segments vessels after it was trained on samples, 0.8877 to 0.8988 with "
    "real pairs in the paper; `ganatomy study dual-gan --downstream` measures it.",
)

CLAIMS: tuple[Claim, ...] = (VESS2RET, RETINA_AAE, DUAL_GAN)
