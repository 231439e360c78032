"""Claims of papers that simulate ultrasound."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

LANDMARK, PSNR, SHARPNESS, SPECTRUM = "landmark error", "psnr[window]", "sharpness error", "spectrum distance"

SPATIALLY_CONDITIONED = Claim(
    "scgan-us",
    "Frames that are simulated from coordinates of their pixels show the anatomy of poses that were not seen in "
    "training, and look like ultrasound.",
    {
        "spatial": {},
        "coarse coordinates": {"shortcuts": 1},
        "l1 loss": {"adversarial_weight": 0.0, "l1_weight": 10.0},
    },
    (
        Predicate(
            "landmarks are nearer than with coordinates at one resolution", LANDMARK, "spatial", "coarse coordinates"
        ),
        Predicate("they are nearer than in the strongest simple method", LANDMARK, "spatial", STRONGEST),
        Predicate(
            "the sharpness is nearer to that of real frames than without adversary", SHARPNESS, "spatial", "l1 loss"
        ),
        Predicate("the texture is nearer to it, too", SPECTRUM, "spatial", "l1 loss"),
    ),
    untested="whether sonographers can tell simulated frames from real ones; the "
    "landmark error of 6.1 mm in the paper is one of landmarks that were marked by hand in frames of another phantom.",
)

CLAIMS = (SPATIALLY_CONDITIONED,)
