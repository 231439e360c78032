"""Section 4.1, de-noising: the routine-dose image is the target, the low-dose one the input."""

from wiring import NOISE, Losses, Wiring, doubled, each

GAME = "discriminator/adversarial"

WIRINGS = [
    # Wolterink et al. 2017: voxel loss ‖G(x) - y‖², and a discriminator of routine-dose sub-volumes.
    Wiring(
        "wolterink-ldct",
        {
            "denoise": Losses(
                {
                    "input": [GAME, *each("generator", "voxel", "adversarial")],
                    # Real and generated sub-volumes are normalised in one batch, so that the deceiving term sees both.
                    "target": [GAME, *each("generator", "voxel", "adversarial")],
                },
                {
                    "voxel_weight": doubled("generator/voxel"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        options={"patch": 24, "patch_slices": 3},
    ),
    # Without the voxel loss there is nothing that the adversary could be weighed against.
    Wiring(
        "wolterink-ldct",
        {
            "denoise": Losses(
                {"input": [GAME, "generator/adversarial"], "target": [GAME, "generator/adversarial"]},
            )
        },
        variant="adversary alone",
        options={"variant": "g-adv", "patch": 24, "discriminator_dims": 3},
    ),
    # Yang et al. 2018, eq. 9: critic with gradient penalty λ, generator with λ1 times the VGG distance.
    Wiring(
        "wgan-vgg",
        {
            "denoise": Losses(
                {
                    "input": [*each("critic", "wasserstein", "penalty"), *each("generator", "adversarial", "content")],
                    "target": [*each("critic", "wasserstein", "penalty"), "generator/content"],
                    NOISE: ["critic/penalty"],
                },
                {"penalty_weight": doubled("critic/penalty"), "content_weight": doubled("generator/content")},
            )
        },
        options={"critic_steps": 1},
    ),
    # Alone, the content is not weighed: the weight of one term has no meaning.
    Wiring(
        "wgan-vgg",
        {"denoise": Losses({"input": ["generator/content"], "target": ["generator/content"]})},
        variant="cnn-vgg",
        options={"variant": "cnn-vgg"},
    ),
    # Yi & Babyn 2018, eq. 6: L1, adversarial and sharpness loss; D sees (x, y) and (x, G(x)), S sees G(x) and y.
    Wiring(
        "sagan-ct",
        {
            "sharpness": Losses({"target": ["sharpness/error"], "input": [], NOISE: ["sharpness/error"]}),
            "denoise": Losses(
                {
                    "input": [GAME, *each("generator", "pixel", "adversarial", "sharpness")],
                    "target": [GAME, *each("generator", "pixel", "sharpness")],
                },
                {
                    "pixel_weight": doubled("generator/pixel"),
                    "adversarial_weight": doubled("generator/adversarial"),
                    "sharpness_weight": doubled("generator/sharpness"),
                },
            ),
        },
    ),
]
