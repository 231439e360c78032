"""Claims of papers that predict PET from CT."""

from ganatomy.claims.claim import STRONGEST, Claim, Predicate

ERROR, PSNR, CONTRAST = "mae[window]", "psnr[window]", "contrast"
COLD, MEAN, FOUND, FALSE = "cold error", "SUVmean error", "lesions found", "false lesions"
SHARPNESS = "sharpness error"

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
    untested="that a detector of tumours learns nearly as well from such images as from real ones, which "
    "`ganatomy study m-gan --downstream` measures; the images are those of the phantom.",
)

VIRTUAL_PET = Claim(
    "virtual-pet",
    "The blend of a fully convolutional network, which finds tumours of the liver but blurs, and of a conditional GAN, "
    "which is sharp but misses them, detects more tumours than the GAN and is sharper than the former.",
    {
        "blend": {},
        "fcn": {"variant": "fcn"},
        "cgan": {"variant": "cgan"},
        "l1 loss": {"adversarial_weight": 0.0},
    },
    (
        Predicate("more tumours are found than with the GAN alone", FOUND, "blend", "cgan"),
        Predicate("uptake of tumours is nearer to the true one than with the GAN alone", MEAN, "blend", "cgan"),
        Predicate(
            "no more false tumours are found than with the fully convolutional network", FALSE, "blend", "fcn", 0.25
        ),
        Predicate("the sharpness is nearer to that of real PET than with it alone", SHARPNESS, "blend", "fcn"),
        Predicate("it is nearer than without adversary", SHARPNESS, "blend", "l1 loss"),
        Predicate("PSNR is higher than that of the strongest simple method", PSNR, "blend", STRONGEST),
    ),
    untested="the share of tumours found, 92 % with one false one in four patients in the paper, on its own scans, "
    "which are not public.",
)

CLAIMS = (MULTI_CHANNEL, VIRTUAL_PET)
