"""Section 4.6, synthesis: systems that translate between kinds of light microscopy."""

from wiring import Losses, Wiring, doubled, each

GAME, MASK_GAME = "discriminator/adversarial", "mask discriminator/adversarial"
CELLS = "mask of cells"
WEIGHTS = {
    "l1_weight": doubled("generator/l1"),
    "adversarial_weight": doubled("generator/adversarial"),
    "mask_adversarial_weight": doubled("generator/mask adversarial"),
}
ALL = each("generator", "l1", "adversarial", "mask adversarial")

WIRINGS = [
    # Bayramoglu et al. 2017: pix2pix, which sees components of the spectra.
    Wiring(
        "virtual-he",
        {
            "game": Losses(
                {
                    "hyperspectral": [GAME, *each("generator", "l1", "adversarial")],
                    "stained": [GAME, "generator/l1"],
                },
                {"l1_weight": doubled("generator/l1"), "adversarial_weight": doubled("generator/adversarial")},
            )
        },
        options={"size": (32, 64)},
    ),
    # Han & Yin 2017: one discriminator is shown source and image, the other one mask and image.
    Wiring(
        "twod-microscopy",
        {
            "game": Losses(
                {
                    "dic": [GAME, MASK_GAME, *ALL],
                    CELLS: [GAME, MASK_GAME, *ALL],
                    "phase_contrast": [GAME, MASK_GAME, "generator/l1"],
                },
                WEIGHTS,
            )
        },
        options={"size": (32, 64)},
    ),
    Wiring(
        "twod-microscopy",
        {
            "game": Losses(
                {
                    "dic": [GAME, MASK_GAME, *ALL],
                    "cells": [MASK_GAME, "generator/mask adversarial"],
                    "phase_contrast": [GAME, MASK_GAME, "generator/l1"],
                },
                WEIGHTS,
            )
        },
        variant="given masks that the generator does not see",
        options={"size": (32, 64), "labels": "cells", "mask_seen": False},
    ),
    # What the survey says of the second discriminator: its real image is the source.
    Wiring(
        "twod-microscopy",
        {
            "game": Losses(
                {
                    "dic": [GAME, MASK_GAME, *ALL],
                    CELLS: [GAME, MASK_GAME, *ALL],
                    "phase_contrast": [GAME, "generator/l1"],
                },
                WEIGHTS,
            )
        },
        variant="the source within the mask",
        options={"size": (32, 64), "mask_real": "source", "mask_joined": "product"},
    ),
]
