"""Claims of papers that synthesise images from noise."""

from ganatomy.claims.claim import ALIKE, Claim, Predicate

KERNEL, SLICED, HISTOGRAM = "kernel distance", "sliced wasserstein", "histogram distance"
COVERAGE, ACCURACY, TOLD = "coverage", "label accuracy", "told apart"
CHANNELS, COPIES, HEAD = "cross-channel error", "copies", "psnr[head]"
NOISE, REAL = "noise", "real"
READERS = "the judgement of readers; a test by the nearest neighbour in feature space takes its place."
COLOURS = 5.0
"""Distance of histograms, of 255, within which colours count as equal."""
ALIGNED = 0.25
"""Norm of the difference of three channels' correlations, each by 0.1."""
FEW_COPIES = 0.05
"""Share of samples beyond that of held-out images that may resemble training images so much."""

MELANOGANS = Claim(
    "melanogans",
    "All three models match the colours of the data, but one DCGAN for the whole size fails to make believable lesions "
    "where the pyramids succeed, trained level by level best (256 pixels in the paper, 32 in the preset small).",
    {"ddgan": {}, "lapgan": {"variant": "lapgan"}, "dcgan": {"variant": "dcgan"}},
    (
        Predicate("samples of the cascade are nearer to real images than those of the DCGAN", KERNEL, "ddgan", "dcgan"),
        Predicate("so are those of the pyramid trained level by level", KERNEL, "lapgan", "dcgan"),
        Predicate("these are nearer than those of the cascade", KERNEL, "lapgan", "ddgan"),
        Predicate("colours of the DCGAN's samples match those of real images", HISTOGRAM, "dcgan", REAL, COLOURS),
        Predicate("so do those of the cascade", HISTOGRAM, "ddgan", REAL, COLOURS),
        Predicate("so do those of the pyramid trained level by level", HISTOGRAM, "lapgan", REAL, COLOURS),
        Predicate("samples of the cascade are harder to tell from real images", TOLD, "ddgan", "dcgan"),
        Predicate("so are those of the pyramid trained level by level", TOLD, "lapgan", "dcgan"),
    ),
    untested="the use of generated melanomas for a classifier, and realism to the eye.",
)

PGAN_SKIN = Claim(
    "pgan-skin",
    "Progressive growing makes patches of all scales that are nearer to real ones than those of a DCGAN and a LAPGAN; "
    "its lesions are hard to tell from real ones (256 pixels in the paper, 32 in the preset small).",
    {"pgan": {}, "dcgan": {"variant": "dcgan"}, "lapgan": {"variant": "lapgan"}},
    (
        Predicate("patches are nearer at all scales than the DCGAN's", SLICED, "pgan", "dcgan"),
        Predicate("patches are nearer at all scales than the LAPGAN's", SLICED, "pgan", "lapgan"),
        Predicate("samples are nearer to real images than the DCGAN's", KERNEL, "pgan", "dcgan"),
        Predicate("samples are nearer to real images than the LAPGAN's", KERNEL, "pgan", "lapgan"),
        Predicate("they are told from real lesions hardly better than by guessing", TOLD, "pgan", REAL, ALIKE),
    ),
    {"dcgan": "melanogans", "lapgan": "melanogans"},
    untested=READERS,
)

LIVER = Claim(
    "liver-dcgan-aug",
    "Lesions from a DCGAN of each kind raise the accuracy of a classifier above that of classic augmentation alone, "
    "and by more than those of one AC-GAN of all kinds.",
    # The AC-GAN's batch holds as many lesions of each of the three kinds as a batch of the DCGAN.
    {"dcgan": {}, "acgan": {"variant": "acgan", "batch_size": 48}},
    (
        Predicate("samples are nearer to real lesions than noise is", KERNEL, "dcgan", NOISE),
        Predicate("kinds are recognised more often than in those of the AC-GAN", ACCURACY, "dcgan", "acgan"),
        Predicate("samples are nearer to real lesions than those of the AC-GAN", KERNEL, "dcgan", "acgan"),
    ),
    phantom={"roles": {"images": {"window": (-100.0, 300.0)}}},
    untested="the accuracy of classifiers itself, 7 points higher over folds of patients in the paper, which `ganatomy "
    "study liver-dcgan-aug --downstream` measures; here only whether lesions look like real ones of their kind.",
)

NODULE = Claim(
    "nodule-dcgan-vtt",
    "Nodules from a DCGAN of each kind are hard to tell from real ones.",
    {"dcgan": {}},
    (
        Predicate("samples are told from real nodules hardly better than by guessing", TOLD, "dcgan", REAL, ALIKE),
        Predicate("they are harder to tell from them than noise is", TOLD, "dcgan", NOISE),
        Predicate("they cover as much as other real nodules do", COVERAGE, "dcgan", REAL, ALIKE),
        Predicate("no more of them than of real ones resemble training images", COPIES, "dcgan", REAL, FEW_COPIES),
    ),
    untested=READERS,
)

PROSTATE = Claim(
    "prostate-lesion-dcgan",
    "One latent vector makes plausible lesions in three sequences at once, aligned with each other.",
    {"prostate-lesion-dcgan": {}},
    (
        Predicate("samples are harder to tell from real lesions than noise is", TOLD, "prostate-lesion-dcgan", NOISE),
        Predicate("they cover as much as other real lesions do", COVERAGE, "prostate-lesion-dcgan", REAL, ALIKE),
        Predicate("sequences go together as in real lesions", CHANNELS, "prostate-lesion-dcgan", REAL, ALIGNED),
        Predicate(
            "no more of them than of real lesions resemble training images",
            *(COPIES, "prostate-lesion-dcgan", REAL, FEW_COPIES),
        ),
    ),
)

BRAIN = Claim(
    "brain-manifold-dcgan",
    "A DCGAN learns whole slices of the brain from some hundreds: their quality overlaps with that of real ones, and "
    "none repeats a training slice. An autoencoder with skips removes noise better than a classical filter.",
    {
        "brain-manifold-dcgan": {},
        "denoiser": {"variant": "denoiser", "learning_rate": 1e-3, "betas": (0.9, 0.999), "ema_halflife": None},
    },
    (
        Predicate(
            "samples are told from real slices hardly better than by guessing",
            *(TOLD, "brain-manifold-dcgan", REAL, ALIKE),
        ),
        Predicate("they are harder to tell from them than noise is", TOLD, "brain-manifold-dcgan", NOISE),
        Predicate(
            "no more of them than of held-out slices resemble training slices",
            *(COPIES, "brain-manifold-dcgan", REAL, FEW_COPIES),
        ),
        Predicate("the autoencoder's PSNR is higher than that of non-local means", HEAD, "denoiser", "non-local means"),
    ),
    untested="the scores of experts, and SUSAN, a filter for which non-local means stand.",
)

CLAIMS: tuple[Claim, ...] = (LIVER, NODULE, PROSTATE, BRAIN, MELANOGANS, PGAN_SKIN)
