"""Claims of papers that synthesise images from noise."""

from ganatomy.claims.claim import Claim, Predicate

KERNEL, SLICED, HISTOGRAM = "kernel distance", "sliced wasserstein", "histogram distance"
COVERAGE, ACCURACY = "coverage", "label accuracy"
NOISE = "noise"

MELANOGANS = Claim(
    "melanogans",
    "At 256 pixels all three models match the colours of the data, but one DCGAN for the whole size fails to make "
    "believable lesions where the pyramids succeed, trained level by level best.",
    {"ddgan": {}, "lapgan": {"variant": "lapgan"}, "dcgan": {"variant": "dcgan"}},
    (
        Predicate("samples of the cascade are nearer to real images than those of the DCGAN", KERNEL, "ddgan", "dcgan"),
        Predicate("so are those of the pyramid trained level by level", KERNEL, "lapgan", "dcgan"),
        Predicate("these are nearer than those of the cascade", KERNEL, "lapgan", "ddgan"),
        Predicate("colours of the DCGAN's samples match better than those of noise", HISTOGRAM, "dcgan", NOISE),
    ),
)

PGAN_SKIN = Claim(
    "pgan-skin",
    "Progressive growing makes patches of all scales that are nearer to real ones than those of a DCGAN and a LAPGAN; "
    "its lesions are hard to tell from real ones.",
    {"pgan": {}, "dcgan": {"variant": "dcgan"}, "lapgan": {"variant": "lapgan"}},
    (
        Predicate("patches are nearer at all scales than the DCGAN's", SLICED, "pgan", "dcgan"),
        Predicate("patches are nearer at all scales than the LAPGAN's", SLICED, "pgan", "lapgan"),
        Predicate("samples are nearer to real images than the DCGAN's", KERNEL, "pgan", "dcgan"),
        Predicate("samples are nearer to real images than the LAPGAN's", KERNEL, "pgan", "lapgan"),
    ),
    {"dcgan": "melanogans", "lapgan": "melanogans"},
)

LIVER = Claim(
    "liver-dcgan-aug",
    "Lesions from a DCGAN of each kind are worth more to a classifier than those of one AC-GAN of all kinds.",
    # The AC-GAN's batch holds as many lesions of each of the three kinds as a batch of the DCGAN.
    {"dcgan": {}, "acgan": {"variant": "acgan", "batch_size": 48}},
    (
        Predicate("samples are nearer to real lesions than noise is", KERNEL, "dcgan", NOISE),
        Predicate("kinds are recognised more often than in those of the AC-GAN", ACCURACY, "dcgan", "acgan"),
        Predicate("samples are nearer to real lesions than those of the AC-GAN", KERNEL, "dcgan", "acgan"),
    ),
    phantom={"roles": {"images": {"window": (-100.0, 300.0)}}},
)

NODULE = Claim(
    "nodule-dcgan-vtt",
    "Nodules from a DCGAN of each kind are hard to tell from real ones.",
    {"dcgan": {}},
    (
        Predicate("samples are nearer to real nodules than noise is", KERNEL, "dcgan", NOISE),
        Predicate("their patches are nearer at all scales", SLICED, "dcgan", NOISE),
        Predicate("they cover more of the real nodules than noise does", COVERAGE, "dcgan", NOISE),
    ),
)

PROSTATE = Claim(
    "prostate-lesion-dcgan",
    "One latent vector makes plausible lesions in three sequences at once, aligned with each other.",
    {"prostate-lesion-dcgan": {}},
    (
        Predicate("samples are nearer to real lesions than noise is", KERNEL, "prostate-lesion-dcgan", NOISE),
        Predicate("they cover more of the real lesions", COVERAGE, "prostate-lesion-dcgan", NOISE),
        Predicate("their intensities are nearer", HISTOGRAM, "prostate-lesion-dcgan", NOISE),
    ),
)

BRAIN = Claim(
    "brain-manifold-dcgan",
    "A DCGAN learns whole slices of the brain from some hundreds; their quality overlaps with that of real ones.",
    {"brain-manifold-dcgan": {}},
    (
        Predicate("samples are nearer to real slices than noise is", KERNEL, "brain-manifold-dcgan", NOISE),
        Predicate("their patches are nearer at all scales", SLICED, "brain-manifold-dcgan", NOISE),
        Predicate("they cover more of the real slices", COVERAGE, "brain-manifold-dcgan", NOISE),
    ),
)

CLAIMS: tuple[Claim, ...] = (LIVER, NODULE, PROSTATE, BRAIN, MELANOGANS, PGAN_SKIN)
