"""Section 4.6, synthesis: systems that predict PET from CT."""

from wiring import Losses, Wiring, alike, doubled, each

GAME = "discriminator/adversarial"

WIRINGS = [
    # Bi et al. 2017: pix2pix from CT and map of tumours to PET; both players see both.
    Wiring(
        "m-gan",
        {
            "game": Losses(
                {
                    **alike(("ct", "lesions"), [GAME, *each("generator", "l1", "adversarial")]),
                    "pet": [GAME, "generator/l1"],
                },
                {
                    "l1_weight": doubled("generator/l1"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        options={"size": (32, 64)},
    ),
    # The paper's comparisons keep the channel and show nothing in it.
    Wiring(
        "m-gan",
        {
            "game": Losses(
                {
                    "ct": [GAME, *each("generator", "l1", "adversarial")],
                    "lesions": [],
                    "pet": [GAME, "generator/l1"],
                },
                {
                    "l1_weight": doubled("generator/l1"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        variant="CT only",
        options={"size": (32, 64), "shown": "image"},
    ),
    Wiring(
        "m-gan",
        {
            "game": Losses(
                {
                    "ct": [],
                    "lesions": [GAME, *each("generator", "l1", "adversarial")],
                    "pet": [GAME, "generator/l1"],
                },
                {
                    "l1_weight": doubled("generator/l1"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        variant="labels only",
        options={"size": (32, 64), "shown": "labels"},
    ),
    # Ben-Cohen et al. 2017: an FCN and pix2pix, each trained alone; errors of the former are in SUV.
    Wiring(
        "virtual-pet",
        {
            "fcn": Losses(alike(("ct", "pet"), ["fcn/error"])),
            "game": Losses(
                {
                    "ct": [GAME, *each("generator", "l1", "adversarial")],
                    "pet": [GAME, "generator/l1"],
                },
                {
                    "l1_weight": doubled("generator/l1"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            ),
        },
        options={"size": (32, 64)},
    ),
    Wiring(
        "virtual-pet",
        {"fcn": Losses(alike(("ct", "pet"), ["fcn/error"]))},
        variant="the FCN alone, with one mean",
        options={"size": (32, 64), "variant": "fcn", "split_loss": False},
        unused={"l1_weight": "there is no U-Net", "adversarial_weight": "there is no U-Net"},
    ),
]
