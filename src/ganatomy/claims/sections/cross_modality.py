"""Claims of papers that make images of another modality: CT from MR, MR from CT, PET and angiography from MR."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

PSNR, ERROR, SHARPNESS, CONTRAST = "psnr[window]", "mae[window]", "sharpness error", "contrast"
SIMILARITY, TASK_AREA, VESSELS = "ssim[window]", "task AUC", "vessel Dice"

UNPAIRED_MR2CT = Claim(
    "unpaired-mr2ct",
    "Learned from slices that are not paired, CT from MR has a smaller error than learned from pairs, whose "
    "registration is inexact.",
    {"unpaired": {}, "from pairs": {"from_pairs": True}, "cycle alone": {"adversarial_weight": 0.0}},
    (
        Predicate("CT numbers have a smaller error than learned from pairs", ERROR, "unpaired", "from pairs"),
        Predicate("images are nearer than learned from pairs", PSNR, "unpaired", "from pairs"),
        Predicate("they are nearer than with the cycle alone", PSNR, "unpaired", "cycle alone"),
        Predicate("they are nearer than the strongest simple method makes them", PSNR, "unpaired", STRONGEST),
    ),
)

CARDIAC_CYCLEGAN = Claim(
    "cardiac-cyclegan",
    "Cardiac MR that is made from CT without pairs, each image with its mask of the myocardium, looks like MR: "
    "segmentation learns from it nearly as well as from real MR, and better from both together.",
    {"together": {}, "cycle alone": {"adversarial_weight": 0.0}, "guarded mask": {"guard_weight": 1.0}},
    (
        Predicate(
            "tissue correlates better with true MR than with the cycle alone", CONTRAST, "together", "cycle alone"
        ),
        Predicate("images are nearer than with the cycle alone", PSNR, "together", "cycle alone"),
        Predicate("they are nearer than the strongest simple method makes them", PSNR, "together", STRONGEST),
    ),
    untested="segmentation of real MR by a network that is trained on synthetic MR, alone and beside real MR, which "
    "`ganatomy study cardiac-cyclegan --downstream` measures.",
)

CONTEXT_AWARE_GAN = Claim(
    "context-aware-gan",
    "With an adversary, the gradient difference and an auto-context model, CT from MR has a smaller error and a higher "
    "PSNR than that of the same network trained for the squared error.",
    {
        "context-aware": {},
        "squared error": {"adversarial_weight": 0.0, "gradient_weight": 0.0, "chain": 1},
        "one network": {"chain": 1},
        "without adversary": {"adversarial_weight": 0.0},
        "held-out estimates": {"context_folds": 3},
    },
    (
        Predicate(
            "CT numbers have a smaller error than with the squared error", ERROR, "context-aware", "squared error"
        ),
        Predicate("images are nearer than with the squared error", PSNR, "context-aware", "squared error"),
        Predicate("they are nearer than those of the first network", PSNR, "context-aware", "one network"),
        Predicate("their sharpness is nearer than without adversary", SHARPNESS, "context-aware", "without adversary"),
        Predicate("they are nearer than the strongest simple method makes them", PSNR, "context-aware", STRONGEST),
    ),
    untested="the comparison with random forests of structured outputs and with atlases.",
)

STAINGAN = Claim(
    "staingan",
    "Slides that are given the colours of another scanner by a CycleGAN are nearer to those that this scanner made "
    "than those normalised by Reinhard's, Macenko's and Vahadane's methods.",
    {"staingan": {}, "cycle alone": {"adversarial_weight": 0.0}, "without identity": {"identity_weight": 0.0}},
    (
        Predicate("they are more similar than by Reinhard's method", SIMILARITY, "staingan", "Reinhard"),
        Predicate("they are more similar than by Macenko's method", SIMILARITY, "staingan", "Macenko"),
        Predicate("they are more similar than by Vahadane's method", SIMILARITY, "staingan", "Vahadane"),
        Predicate("they are nearer than by Vahadane's method", PSNR, "staingan", "Vahadane"),
        Predicate("they are nearer than with the cycle alone", PSNR, "staingan", "cycle alone"),
        Predicate("they are nearer than the strongest simple method makes them", PSNR, "staingan", STRONGEST),
    ),
    untested="the area under the curve of a classifier of tumours from the other laboratory, and the FSIM. The "
    "strongest simple methods are fitted to pairs on the phantom, which no one has of real slides.",
)

SST = Claim(
    "sst",
    "A classifier of tumours that was trained on one laboratory's slides tells tumours on another one's slides better "
    "after stain-style transfer than on raw slides and after classical normalisation.",
    {"sst": {}, "without adversary": {"adversarial_weight": 0.0}, "without features": {"feature_weight": 0.0}},
    (
        Predicate("the area is larger than on raw slides", TASK_AREA, "sst"),
        Predicate("it is larger than after histogram matching", TASK_AREA, "sst", "histogram matching"),
        Predicate("it is larger than after Reinhard's method", TASK_AREA, "sst", "Reinhard"),
        Predicate("it is larger than after Macenko's method", TASK_AREA, "sst", "Macenko"),
        Predicate("it is larger than after Vahadane's method", TASK_AREA, "sst", "Vahadane"),
        Predicate("it is larger than without the adversary", TASK_AREA, "sst", "without adversary"),
        Predicate("it is larger than without the loss of features", TASK_AREA, "sst", "without features"),
    ),
    untested="accuracy, recall and average precision, and areas over whole slides.",
)

SKETCHER_REFINER = Claim(
    "sketcher-refiner",
    "Refined with equal weight for lesions, white matter of normal appearance and the other brain, PET of myelin from "
    "MR is nearer to the true one than that of one conditional GAN, which blurs it, and of a U-Net.",
    {
        "refined": {},
        "one cgan": {"refined": False},
        "u-net": {"refined": False, "adversarial_weight": 0.0},
        "held-out sketches": {"sketch_folds": 3},
    },
    (
        Predicate("images are nearer than those of one conditional GAN", PSNR, "refined", "one cgan"),
        Predicate("their errors are smaller", ERROR, "refined", "one cgan"),
        Predicate("their sharpness is nearer to the true images'", SHARPNESS, "refined", "one cgan"),
        Predicate("images are nearer than those of a U-Net", PSNR, "refined", "u-net"),
        Predicate("they are nearer than the strongest simple method makes them", PSNR, "refined", STRONGEST),
    ),
    untested="the means of regions and the overlap of maps of demyelination.",
)

STEERABLE_GAN = Claim(
    "sgan-mra",
    "Compared with the true image in responses to filters of lines, too, angiographies made from T1 and T2 show "
    "vessels better at the same PSNR, and better than those made from one of the two.",
    {
        "steerable": {},
        "without filters": {"steerable_weight": 0.0},
        "without adversary": {"adversarial_weight": 0.0},
        "l1 alone": {"adversarial_weight": 0.0, "steerable_weight": 0.0},
        "t1 alone": {"shown": "first"},
        "t2 alone": {"shown": "second"},
    },
    (
        Predicate("vessels overlap better than without the filters", VESSELS, "steerable", "without filters"),
        Predicate("the PSNR is no lower by 0.3 dB than without them", PSNR, "steerable", "without filters", 0.3),
        Predicate("vessels overlap better than without adversary", VESSELS, "steerable", "without adversary"),
        Predicate("they overlap better than with the absolute difference alone", VESSELS, "steerable", "l1 alone"),
        Predicate("they overlap better than from T1 alone", VESSELS, "steerable", "t1 alone"),
        Predicate("they overlap better than from T2 alone", VESSELS, "steerable", "t2 alone"),
        Predicate("they overlap better than by the strongest simple method", VESSELS, "steerable", STRONGEST),
    ),
    untested="the overlap in the scans of the paper, and whether vessels are drawn through which no blood flows.",
)

CLAIMS = (UNPAIRED_MR2CT, CARDIAC_CYCLEGAN, STAINGAN, SST, CONTEXT_AWARE_GAN, SKETCHER_REFINER, STEERABLE_GAN)
