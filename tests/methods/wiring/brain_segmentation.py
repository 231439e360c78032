"""Section 4.3, segmentation of the brain: tumours, structures, and lesions on another scanner."""

from wiring import NOISE, NOTHING, Losses, Wiring, alike, doubled, each

IMAGES = ("flair", "t1", "t1c", "t2")
NARROW = {"widths": (2, 2, 3, 3, 3, 3, 4, 4), "hidden": 4, "domain_width": 3, "domain_batch_size": 1}

WIRINGS = [
    # Li et al. 2017: cross-entropy and λ times the adversarial loss; D is shown the image beside either map.
    Wiring(
        "brats-adv-patch",
        {
            "segment": Losses(
                {
                    **alike(IMAGES, [*each("segmentor", "entropy", "adversarial"), "discriminator/adversarial"]),
                    "tumour": ["segmentor/entropy", "discriminator/adversarial"],
                },
                {"adversarial_weight": doubled("segmentor/adversarial")},
            )
        },
    ),
    # Moeskops et al. 2017: L_s - L_a against L_d + L_a, each of them of samples of its own.
    Wiring(
        "brain-adv-dilated",
        {
            "segment": Losses(
                {
                    "t1": [*each("discriminator", "manual", "generated"), *each("segmentor", "classes", "adversarial")],
                    "structures": ["discriminator/manual", "segmentor/classes"],
                },
                {"adversarial_weight": doubled("segmentor/adversarial")},
            )
        },
    ),
    # Rezaei et al. 2017: a conditional GAN with 100 times the mean absolute error; one D and two G updates a round.
    Wiring(
        "brats-cgan",
        {
            "reference": Losses(alike((*IMAGES, "tumour"), [])),
            "game": Losses(
                {
                    **alike((*IMAGES, NOISE), ["discriminator/adversarial", *each("generator", "l1", "adversarial")]),
                    "tumour": ["discriminator/adversarial", "generator/l1"],
                },
                {
                    "l1_weight": doubled("generator/l1"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            ),
        },
        options={"jitter": 4},
    ),
    # Kamnitsas et al. 2017: L_seg - α L_adv against L_adv, and penalties of the kernels of both networks.
    Wiring(
        "uda-lesion",
        {
            "adapt": Losses(
                {
                    **alike(
                        ("flair", "t2", "t1", "ge"), [*each("segmentor", "classes", "adversarial"), "domain/domain"]
                    ),
                    "lesions": ["segmentor/classes"],
                    NOTHING: [*each("segmentor", "l1", "l2"), *each("domain", "l1", "l2")],
                },
                {
                    "adversarial_weight": doubled("segmentor/adversarial"),
                    "l1_weight": doubled("segmentor/l1", "domain/l1"),
                    "l2_weight": doubled("segmentor/l2", "domain/l2"),
                },
            )
        },
        options=NARROW,
    ),
    Wiring(
        "uda-lesion",
        {
            "adapt": Losses(
                {
                    **alike(("flair", "t2", "t1", "ge", "lesions", "target_lesions"), ["segmentor/classes"]),
                    NOTHING: each("segmentor", "l1", "l2"),
                },
                {"l1_weight": doubled("segmentor/l1"), "l2_weight": doubled("segmentor/l2")},
            )
        },
        variant="supervised on the target, too",
        options={**NARROW, "supervised": True, "adversarial_weight": 0.0},
        unused={"adversarial_weight": "0: there is no domain classifier"},
    ),
]
