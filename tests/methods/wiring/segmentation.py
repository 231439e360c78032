"""Section 4.3, segmentation: images and the regions to be found in them."""

from wiring import NOISE, Losses, Wiring, alike, doubled, each

IMAGES = ("flair", "t1", "t1c", "t2")
TERMS = ["critic/multi_scale", *each("segmentor", "multi_scale", "dice", "pixel")]
LEVELS = each("generator", "quarter", "half", "main")
ATLAS = each("generator", "intensity", "label", "volume", "smoothness")
WEIGHTS = {f"{name}_weight": doubled(f"generator/{name}") for name in ("intensity", "label", "volume")}
SPINE = [f"generator/{kind} {view}" for kind in ("squared", "entropy", "energy") for view in ("sagittal", "coronal")]
ENERGIES = [f"discriminator/{kind} {view}" for kind in ("real", "fake") for view in ("sagittal", "coronal")]

UNET = {"patch_shape": (1, 32, 32), "width": 4}
VIEWS = ("axial", "coronal", "sagittal")
ADVERSARIAL = [f"generators/adversarial {view}" for view in VIEWS]
SSNET_TERMS = [f"discriminators/adversarial {view}" for view in VIEWS]
SSNET_TERMS += [f"generators/dice {view}" for view in VIEWS] + ADVERSARIAL
POLYPHASE_OF_BOTH = [
    *each("generators", "entropy", "squared"),
    "discriminator labels/adversarial",
    "discriminator image/adversarial",
]
POLYPHASE_OF_CT = each("generators", "cycle image", "adversarial labels")
POLYPHASE_OF_LIVER = each("generators", "cycle labels", "adversarial image")

WIRINGS = [
    # Isensee et al. 2021, online methods: the sum of Dice and cross-entropy, at all levels of the decoder.
    Wiring(
        "unet",
        {
            "segment": Losses(
                alike((*IMAGES, "tumour"), ["network/entropy", "network/dice"]),
                {"dice_weight": doubled("network/dice")},
            )
        },
        options=UNET,
        unused={"weight_decay": "of the optimiser"},
    ),
    # Xue et al. 2018, eq. 2: both players share one distance between x∘S(x) and x∘y; releases add the Dice loss.
    Wiring(
        "segan",
        {
            "segment": Losses(
                alike((*IMAGES, "tumour"), TERMS),
                {"dice_weight": doubled("segmentor/dice"), "pixel_weight": doubled("segmentor/pixel")},
            )
        },
        options={"dice_weight": 1.0, "pixel_weight": 0.5},
        unused={"class_weights": "none are given: the Dice losses of the regions are averaged"},
    ),
    Wiring(
        "segan",
        {
            "segment": Losses(
                {
                    "image": ["critic/multi_scale", *each("segmentor", "multi_scale", "dice")],
                    "tumour": ["critic/multi_scale", *each("segmentor", "multi_scale", "dice")],
                },
                {"dice_weight": doubled("segmentor/dice"), "class_weights": doubled("segmentor/dice")},
            )
        },
        variant="weighted classes of one image with three channels",
        options={
            "inputs": ("image",),
            "roles": {"image": {"channels": 3}},
            "variant": "S3-3C",
            "dice_weight": 1.0,
            "class_weights": (1.0, 3.0, 1.5),
        },
        unused={"pixel_weight": "0: this loss is off"},
    ),
    # Yang et al. 2017: a loss at every level in both stages; the discriminator sees masks and never the CT.
    Wiring(
        "di2in-an",
        {
            "supervised": Losses(alike(("ct", "liver"), LEVELS), {"level_weights": doubled(*LEVELS)}),
            "adversarial": Losses(
                {
                    "ct": ["discriminator/adversarial", *LEVELS, "generator/adversarial"],
                    "liver": ["discriminator/adversarial", *LEVELS],
                },
                {"level_weights": doubled(*LEVELS), "adversarial_weight": doubled("generator/adversarial")},
            ),
        },
    ),
    # Dong et al. 2018: the warped atlas is compared with the image and with its regions; the discriminator sees both.
    Wiring(
        "voxel-atlas-gan",
        {
            "warm-up": Losses(
                {
                    "echo": each("generator", "intensity", "label", "volume"),
                    "ventricle": each("generator", "label", "volume"),
                },
                WEIGHTS,
            ),
            "game": Losses(
                {
                    "echo": ["discriminator/adversarial", *ATLAS, "generator/adversarial"],
                    "ventricle": ["discriminator/adversarial", *each("generator", "label", "volume")],
                },
                WEIGHTS
                | {
                    "smoothness_weight": doubled("generator/smoothness"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            ),
        },
        options={"volume_weight": 2.0, "label_loss": "dice"},
        rounds=2,
    ),
    # Sadanandan et al. 2017: weighted cross-entropy, and a discriminator of images with masks whose weight rises.
    Wiring(
        "spheroid-msan",
        {
            "segment": Losses(
                {
                    "image": ["discriminator/adversarial", *each("segmentor", "entropy", "adversarial")],
                    "spheroids": ["discriminator/adversarial", "segmentor/entropy"],
                    "borders": ["segmentor/entropy"],
                },
                {"adversarial_weight": doubled("segmentor/adversarial")},
            )
        },
    ),
    # Arbelle & Riklin-Raviv 2018: norms see true and predicted segmentations as one batch, so all terms depend on both.
    Wiring(
        "rib-cage-gan",
        {
            "segment": Losses(
                {
                    "image": ["discriminator/adversarial", *each("estimator", "adversarial", "entropy")],
                    "cells": ["discriminator/adversarial", *each("estimator", "adversarial", "entropy")],
                }
            )
        },
        options={"entropy_fraction": 0.3},
    ),
    # Zhang et al. 2017, eq. 1: annotations teach the segmentor alone; the evaluator sees its results, not the truth.
    Wiring(
        "dan",
        {
            "supervised": Losses(
                alike(("image", "glands"), each("segmentor", "entropy", "dice", "auxiliary")),
                {
                    "entropy_weight": doubled("segmentor/entropy"),
                    "dice_weight": doubled("segmentor/dice"),
                    "auxiliary_weight": doubled("segmentor/auxiliary"),
                },
            ),
            "adversarial": Losses(
                {
                    "image": [
                        *each("segmentor", "entropy", "dice", "auxiliary", "adversarial"),
                        *each("evaluator", "annotated", "unannotated"),
                    ],
                    "glands": each("segmentor", "entropy", "dice", "auxiliary"),
                },
                {
                    "entropy_weight": doubled("segmentor/entropy"),
                    "dice_weight": doubled("segmentor/dice"),
                    "auxiliary_weight": doubled("segmentor/auxiliary"),
                    "adversarial_weight": doubled("segmentor/adversarial"),
                },
            ),
        },
        options={"dice_weight": 0.5, "auxiliary_weight": 0.25},
    ),
    # Son et al. 2017: both players see pictures beside vessels; the cross-entropy is of the vessels alone.
    Wiring(
        "v-gan",
        {
            "segment": Losses(
                {
                    "image": ["discriminator/adversarial", *each("segmentor", "entropy", "adversarial")],
                    "vessels": ["discriminator/adversarial", "segmentor/entropy"],
                },
                {"adversarial_weight": doubled("segmentor/adversarial")},
            )
        },
        options={"size": (64, 96)},
    ),
    # Shankaranarayana et al. 2017: pix2pix from photograph to label map; the loss of pixels is L1 or the cross-entropy.
    Wiring(
        "resunet-cgan-odoc",
        {
            "segment": Losses(
                {
                    "image": ["discriminator/adversarial", *each("generator", "pixel", "adversarial")],
                    "disc_cup": ["discriminator/adversarial", "generator/pixel"],
                },
                {"pixel_weight": doubled("generator/pixel")},
            )
        },
        options={"size": (48, 64)},
    ),
    # Lahiri et al. 2017: annotated patches teach both heads, noise one of them.
    Wiring(
        "vessel-dcgan-ssl",
        {
            "segment": Losses(
                {
                    "image": each("discriminator", "entropy", "adversarial"),
                    "vessels": ["discriminator/entropy"],
                    NOISE: ["discriminator/adversarial", "generator/adversarial"],
                },
                {"class_weight": doubled("discriminator/entropy")},
            )
        },
    ),
    # Dai et al. 2018, eq. 2: the critic judges label maps without the image; the segmentor also sees the pixels' loss.
    Wiring(
        "scan-cxr",
        {
            "pretraining": Losses(alike(("radiograph", "organs"), ["segmentor/pixel"])),
            "game": Losses(
                alike(("radiograph", "organs"), ["critic/adversarial", "segmentor/pixel"])
                | {"radiograph": ["critic/adversarial", *each("segmentor", "pixel", "adversarial")]},
                {"adversarial_weight": doubled("segmentor/adversarial")},
            ),
        },
    ),
    # Huo et al. 2018: per view a soft Dice loss, and a discriminator of the slice together with its segmentation.
    Wiring(
        "ssnet",
        {
            "game": Losses(
                {"t1": SSNET_TERMS, "spleen": [term for term in SSNET_TERMS if term not in ADVERSARIAL]},
                {"adversarial_weight": doubled(*ADVERSARIAL)},
            ),
        },
        options={"size": (24, 40, 32)},
        unused={"class_weights": "the Dice loss has none"},
    ),
    # Kim & Ye 2018: a cycle between slices and label maps with a discriminator each, and losses of annotated pairs.
    Wiring(
        "polyphase-cyclegan",
        {
            "game": Losses(
                {"ct": POLYPHASE_OF_CT + POLYPHASE_OF_BOTH, "liver": POLYPHASE_OF_LIVER + POLYPHASE_OF_BOTH},
                {
                    "adversarial_weight": doubled(*each("generators", "adversarial labels", "adversarial image")),
                    "cycle_weight": doubled(*each("generators", "cycle image", "cycle labels")),
                    "entropy_weight": doubled("generators/entropy"),
                    "squared_weight": doubled("generators/squared"),
                },
            ),
        },
        unused={"class_weights": "the loss is divided by them"},
    ),
    # Sekuboyina et al. 2018: each projection has its losses of heat maps and the energy of its discriminator.
    Wiring(
        "btrfly-net",
        {
            "label": Losses(
                {
                    "ct": [*each("discriminator", "fake sagittal", "fake coronal"), *SPINE],
                    "vertebrae": [*ENERGIES, *SPINE[:4]],
                },
                {
                    "entropy_weight": doubled(*SPINE[2:4]),
                    "adversarial_weight": doubled(*SPINE[4:]),
                },
            )
        },
        unused={"weight_decay": "Adam adds it to gradients"},
    ),
]
