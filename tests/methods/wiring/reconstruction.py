"""Section 4.2, reconstruction: undersampled scans and coarse images.

Of a scan the input has the zero-filled image, the mask and the coils. Methods that augment, or draw masks anew, scan
the true image again and take no more than the scanner from the input.
"""

from math import sqrt

from wiring import COILS, IMAGE, MASK, NOISE, NOTHING, Losses, Wiring, alike, doubled, each
from wiring.frameworks import super_resolution

GAME = "discriminator/adversarial"
SCAN = {"size": (32, 64), "coils": 2}


def dealiasing(*losses):
    """Yang et al. 2018, eq. 10: weighed pixel, frequency and VGG losses beside the game, D unconditional."""
    return [GAME, *each("generator", "pixel", *losses, "adversarial")]


def weighed(*losses):
    """Their weights α, β, γ; what the features see is stretched, so that their squared distance grows fourfold."""
    return {
        "pixel_weight": doubled("generator/pixel"),
        "perceptual_weight": doubled("generator/perceptual"),
        "perceptual_range": {"generator/perceptual": 4.0},
        "adversarial_weight": doubled("generator/adversarial"),
        **{f"{loss}_weight": doubled(f"generator/{loss}") for loss in losses},
    }


# Mardani et al. 2017, eq. 6: the pixel loss has what the game leaves, η + λ = 1; the game sets in slowly.
SHARE, GAME_ROUNDS = 0.3, 200
SET_IN = SHARE * (1 - 4 / sqrt(GAME_ROUNDS // 2 + 6))

REFINED = ["critic/adversarial", *each("generators", "image", "direct", "k-space", "smoothness", "adversarial")]
REFINEMENT = [GAME, *each("refiner", "adversarial", "matching", "perceptual", "penalty")]
COMPLETION = [GAME, *each("generator", "squared", "smooth", "k-space", "adversarial")]

WIRINGS = [
    Wiring(
        "dagan",
        {
            "game": Losses(
                {
                    IMAGE: [],
                    **alike((MASK, COILS, "target", "phase", NOISE), dealiasing("frequency", "perceptual")),
                },
                weighed("frequency"),
            )
        },
        options=SCAN,
    ),
    Wiring(
        "dagan",
        {
            "game": Losses(
                {
                    IMAGE: dealiasing("frequency", "perceptual"),
                    MASK: [],
                    "target": [GAME, *each("generator", "pixel", "frequency", "perceptual")],
                    "phase": [],
                },
                weighed("frequency"),
            )
        },
        variant="as scanned",
        options={"size": (32, 64), "augmented": False},
    ),
    # The preprint is the same without the loss of frequencies.
    Wiring(
        "deep-dealiasing",
        {
            "game": Losses(
                {
                    IMAGE: [],
                    **alike((MASK, "target", "phase", NOISE), dealiasing("perceptual")),
                },
                weighed(),
            )
        },
        options={"size": (32, 64)},
        unused={"frequency_weight": "0: this paper does without"},
    ),
    # Seitzer et al. 2018, eqs. 2 to 6: MSE first; then game, feature matching, VGG and the penalty of the correction.
    # Masks are drawn anew in both stages.
    Wiring(
        "csmri-refinement",
        {
            "reconstruction": Losses(
                {IMAGE: [], MASK: [], **alike((COILS, "target", "phase", NOISE), ["recnet/error"])}
            ),
            "refinement": Losses(
                {IMAGE: [], MASK: [], **alike((COILS, "target", "phase", NOISE), REFINEMENT)},
                {
                    "adversarial_weight": doubled("refiner/adversarial"),
                    "matching_weight": doubled("refiner/matching"),
                    "perceptual_weight": doubled("refiner/perceptual"),
                    "penalty_weight": doubled("refiner/penalty"),
                },
            ),
        },
        options={**SCAN, "refinement_batch_size": 2},
    ),
    Wiring(
        "csmri-refinement",
        {
            "reconstruction": Losses(
                {IMAGE: ["recnet/error"], MASK: ["recnet/error"], "target": ["recnet/error"], "phase": ["recnet/error"]}
            ),
            "refinement": Losses(
                {
                    IMAGE: REFINEMENT,
                    MASK: REFINEMENT,
                    "target": [GAME, *each("refiner", "matching", "perceptual")],
                    "phase": [],
                    # The discriminator is shown images made earlier, which the pool draws.
                    NOISE: [GAME],
                },
                {
                    "adversarial_weight": doubled("refiner/adversarial"),
                    "matching_weight": doubled("refiner/matching"),
                    "perceptual_weight": doubled("refiner/perceptual"),
                    "penalty_weight": doubled("refiner/penalty"),
                },
            ),
        },
        variant="one mask",
        options={
            "size": (32, 64),
            "refinement_batch_size": 4,
            "pool": 4,
            "scan": {"pattern": "varden", "fraction": 0.25, "centre": 8, "redrawn": False},
        },
        rounds=1,
    ),
    # Quan et al. 2018, eqs. 5 to 8: cyclic losses in k-space and of images, every generator of the chain. The code
    # weighs them by half the acceleration, in k-space squared, and shrinks all weights.
    Wiring(
        "refinegan",
        {
            "game": Losses(
                {
                    IMAGE: [],
                    **alike((MASK, COILS, "target", "phase", NOISE), REFINED),
                    NOTHING: ["critic/shrinkage", "generators/shrinkage"],
                },
                {
                    "image_weight": doubled("generators/image"),
                    "direct_weight": doubled("generators/direct"),
                    "kspace_weight": doubled("generators/k-space"),
                    "smoothness_weight": doubled("generators/smoothness"),
                    "shrinkage": doubled("critic/shrinkage", "generators/shrinkage"),
                    "adversarial_weight": doubled("generators/adversarial"),
                    "rate": {"generators/image": 2.0, "generators/direct": 2.0, "generators/k-space": 4.0},
                },
            )
        },
        options={**SCAN, "rate": 0.7, "clip": 0.1},
    ),
    Wiring(
        "gancs",
        {
            "warm-up": Losses(
                {
                    **alike((IMAGE, MASK, COILS, "target"), [GAME, "generator/pixel"]),
                    "phase": [],
                }
            ),
            "game": Losses(
                {
                    **alike((IMAGE, MASK, COILS), [GAME, *each("generator", "pixel", "adversarial")]),
                    "target": [GAME, "generator/pixel"],
                    "phase": [],
                },
                {
                    "adversarial_weight": {
                        "generator/adversarial": 2.0,
                        "generator/pixel": (1 - 2 * SET_IN) / (1 - SET_IN),
                    }
                },
            ),
        },
        options={**SCAN, "adversarial_weight": SHARE, "game_rounds": GAME_ROUNDS, "l1_share": 0.6},
    ),
    # Shaul et al. 2020 (release): image losses of magnitudes, k-space loss of the missing samples; the game sees
    # magnitudes, so that the true phase matters in k-space only.
    Wiring(
        "kspace-gan",
        {
            "game": Losses(
                {
                    **alike((IMAGE, MASK, COILS, NOISE), COMPLETION),
                    "target": [GAME, *each("generator", "squared", "smooth", "k-space")],
                    "phase": ["generator/k-space"],
                },
                {
                    "squared_weight": doubled("generator/squared"),
                    "smooth_weight": doubled("generator/smooth"),
                    "kspace_weight": doubled("generator/k-space"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        options={**SCAN, "patience": 1e6},
    ),
    # Chen et al. 2018, eq. 1: L1 and λ of the Wasserstein game; the critic learns alone in between.
    Wiring(
        "mdcsrn",
        {
            "pretrain": Losses({"image": ["generator/error"], "low": ["generator/error"]}),
            "critic": Losses(
                {
                    "image": each("critic", "wasserstein", "penalty"),
                    "low": each("critic", "wasserstein", "penalty"),
                    NOISE: ["critic/penalty"],
                },
                {"penalty_weight": doubled("critic/penalty")},
            ),
            "game": Losses(
                {
                    "image": [*each("critic", "wasserstein", "penalty"), "generator/error"],
                    "low": [*each("critic", "wasserstein", "penalty"), *each("generator", "error", "adversarial")],
                    NOISE: ["critic/penalty"],
                },
                {"penalty_weight": doubled("critic/penalty"), "adversarial_weight": doubled("generator/adversarial")},
            ),
        },
        options={"patch_shape": (12, 16, 20), "critic_steps": 1},
    ),
    # Sánchez & Vilaplana 2018: squared error, gradient difference and the least-squares game with noisy labels.
    Wiring(
        "srgan3d-brain",
        {
            "game": Losses(
                {
                    "image": [GAME, *each("generator", "error", "gradient", "adversarial")],
                    NOISE: [GAME, "generator/adversarial"],
                },
                {
                    "gradient_weight": doubled("generator/gradient"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        options={"patch_shape": (12, 16, 20)},
    ),
    # Li et al. 2017, eq. 5: MSE, game, total variation of the output and the generator's weights.
    Wiring(
        "thin-slice-3dsrgan",
        {
            "pretrain": Losses({"image": ["generator/error"]}),
            "game": Losses(
                {
                    "image": [GAME, *each("generator", "error", "variation", "adversarial")],
                    NOTHING: ["generator/weights"],
                },
                {
                    "adversarial_weight": doubled("generator/adversarial"),
                    "variation_weight": doubled("generator/variation"),
                    "weight_decay": doubled("generator/weights"),
                },
            ),
        },
        options={"patch_shape": (12, 16, 20)},
    ),
    # Ravì et al. 2019: D tells good images from results; the cycle compares results with what the fibres measured.
    Wiring(
        "pcle-cycle-sr",
        {
            "game": Losses(
                {
                    "low": [GAME, *each("generator", "adversarial", "vectors", "variation")],
                    "high": [GAME],
                    "signal": ["generator/vectors"],
                    "cells": ["generator/vectors"],
                },
                {
                    "adversarial_weight": doubled("generator/adversarial"),
                    "vector_weight": doubled("generator/vectors"),
                    "variation_weight": doubled("generator/variation"),
                },
            )
        },
    ),
    # Mahapatra et al. 2017: SRGAN whose content is the squared error of images weighed by their saliency.
    Wiring("saliency-srgan", super_resolution({})),
    Wiring(
        "saliency-srgan",
        super_resolution({"content_scale": {"generator/content": 0.25}}),
        variant="features",
        options={"domain": "vgg"},
    ),
]
