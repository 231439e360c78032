"""Claims of papers that predict PET from CT."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

ERROR, PSNR, CONTRAST = "mae[window]", "psnr[window]", "contrast"
COLD, MEAN = "cold error", "SUVmean error"

MULTI_CHANNEL = Claim(
    "m-gan",
    "PET made from CT and a map of tumours together is closer to real PET than that made from either alone.",
    {"both": {}, "ct": {"shown": "image"}, "labels": {"shown": "labels"}, "l1 loss": {"adversarial_weight": 0.0}},
    (
        Predicate("the error is smaller than with CT alone", ERROR, "both", "ct"),
        Predicate("it is smaller than with the map alone", ERROR, "both", "labels"),
        Predicate("uptake of tumours is nearer to the true one than with CT alone", MEAN, "both", "ct"),
        Predicate("uptake elsewhere is nearer to it than with the map alone", COLD, "both", "labels"),
        Predicate("tissue correlates better with the true PET than without adversary", CONTRAST, "both", "l1 loss"),
        Predicate("PSNR is higher than that of the strongest simple method", PSNR, "both", STRONGEST),
    ),
    untested="that a detector of tumours learns nearly as well from such images as from real ones; the images are "
    "those of the phantom.",
)

CLAIMS = (MULTI_CHANNEL,)
