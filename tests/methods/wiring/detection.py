"""Section 4.4, detection: healthy images alone, or images with and without an effect."""

from wiring import NOISE, Losses, Wiring, alike, doubled, each

GAME = "discriminator/adversarial"

WIRINGS = [
    # Schlegl et al. 2017: a DCGAN; residual and discrimination loss belong to the search at inference.
    Wiring(
        "anogan",
        {"game": Losses({"image": [GAME], NOISE: [GAME, "generator/adversarial"]})},
        options={"size": (32, 48)},
        unused={"search_weight": "of the search, not of the training"},
    ),
    # Chen & Konukoglu 2018, eq. 5: ‖x - g(f(x))‖, λ‖z - f(g(f(x)))‖², and a critic of codes against N(0, I).
    Wiring(
        "caae",
        {
            "game": Losses(
                {
                    "image": [
                        *each("encoder", "reconstruction", "consistency", "adversarial"),
                        *each("decoder", "reconstruction", "consistency"),
                        *each("critic", "wasserstein", "penalty"),
                    ],
                    NOISE: each("critic", "wasserstein", "penalty"),
                },
                {
                    "consistency_weight": doubled("encoder/consistency", "decoder/consistency"),
                    "adversarial_weight": doubled("encoder/adversarial"),
                    "penalty_weight": doubled("critic/penalty"),
                },
            )
        },
        options={"size": (48, 64), "critic_steps": 1},
    ),
    # The paper's comparison: codes are shaped by a KL divergence, and drawn.
    Wiring(
        "caae",
        {
            "game": Losses(
                {
                    "image": each("autoencoder", "divergence", "reconstruction", "consistency"),
                    NOISE: each("autoencoder", "reconstruction", "consistency"),
                },
                {
                    "divergence_weight": doubled("autoencoder/divergence"),
                    "consistency_weight": doubled("autoencoder/consistency"),
                },
            )
        },
        variant="vae",
        options={"size": (48, 64), "variant": "vae"},
    ),
    # Baur et al. 2018, eqs. 2 to 4: encoder L_rec + L_KL, decoder L_rec + L_adv, D of images and reconstructions.
    Wiring(
        "anovaegan",
        {
            "game": Losses(
                {
                    "image": [
                        *each("encoder", "reconstruction", "divergence"),
                        *each("decoder", "reconstruction", "adversarial"),
                        GAME,
                    ],
                    NOISE: ["encoder/reconstruction", *each("decoder", "reconstruction", "adversarial"), GAME],
                },
                {
                    "reconstruction_weight": doubled("encoder/reconstruction", "decoder/reconstruction"),
                    "divergence_weight": doubled("encoder/divergence"),
                    "adversarial_weight": doubled("decoder/adversarial"),
                },
            )
        },
        options={"size": (32, 48)},
    ),
    Wiring(
        "anovaegan",
        {
            "game": Losses(
                {
                    "image": [
                        *each("encoder", "reconstruction", "divergence"),
                        *each("decoder", "reconstruction", "adversarial"),
                        *each("discriminator", "adversarial", "penalty"),
                    ],
                    NOISE: [
                        "encoder/reconstruction",
                        *each("decoder", "reconstruction", "adversarial"),
                        *each("discriminator", "adversarial", "penalty"),
                    ],
                },
                {
                    "reconstruction_weight": doubled("encoder/reconstruction", "decoder/reconstruction"),
                    "divergence_weight": doubled("encoder/divergence"),
                    "adversarial_weight": doubled("decoder/adversarial"),
                    "penalty_weight": doubled("discriminator/penalty"),
                },
            )
        },
        variant="wasserstein",
        options={
            "size": (32, 48),
            "code": "dense",
            "adversary": "wasserstein",
            "decoder_norm": "plane",
            "critic_norm": "plane",
            "scores": "positions",
        },
    ),
    # Baumgartner et al. 2018, eq. 3: E D(x0) - E D(x1 + M(x1)) and λ‖M(x1)‖₁; ``baseline`` is x0, ``effect`` is x1.
    Wiring(
        "va-gan",
        {
            "game": Losses(
                {
                    "baseline": each("critic", "wasserstein", "penalty"),
                    "effect": [*each("critic", "wasserstein", "penalty"), *each("generator", "adversarial", "change")],
                    NOISE: ["critic/penalty"],
                },
                {"penalty_weight": doubled("critic/penalty"), "map_weight": doubled("generator/change")},
            )
        },
        options={"size": (32, 48), "critic_steps": 1},
    ),
    Wiring(
        "va-gan",
        {
            "game": Losses(
                {
                    "baseline": each("critic", "wasserstein", "penalty"),
                    "effect": [*each("critic", "wasserstein", "penalty"), *each("generator", "adversarial", "change")],
                    NOISE: ["critic/penalty"],
                },
                {"penalty_weight": doubled("critic/penalty"), "map_weight": doubled("generator/change")},
            )
        },
        variant="volumes",
        options={"size": (16, 32, 48), "critic_steps": 1, "accumulated": 2, "width": 2},
    ),
    # Kohl et al. 2017: the U-Net is taught by the discriminator alone, through which it sees the experts' maps.
    Wiring(
        "kohl-advseg",
        {
            "game": Losses(
                {
                    **alike(("t2w", "adc", "dwi"), [GAME, "segmentor/adversarial"]),
                    "prostate": [GAME],
                },
                {"adversarial_weight": doubled("segmentor/adversarial")},
            )
        },
        options={"size": (64, 80), "width": 4},
        unused={"pixel_weight": "there is no loss of pixels"},
    ),
    # A loss of pixels beside it, with a warm-up, is the survey's reading; this discriminator sees label maps alone.
    Wiring(
        "kohl-advseg",
        {
            "warm-up": Losses(alike(("t2w", "adc", "dwi", "prostate"), ["segmentor/cross-entropy"])),
            "game": Losses(
                {
                    **alike(("t2w", "adc", "dwi"), [GAME, *each("segmentor", "adversarial", "pixel")]),
                    "prostate": [GAME, "segmentor/pixel"],
                },
                {
                    "adversarial_weight": doubled("segmentor/adversarial"),
                    "pixel_weight": doubled("segmentor/pixel"),
                },
            ),
        },
        variant="with squared errors, of label maps alone",
        options={
            "size": (80, 64),
            "width": 4,
            "pixel_loss": "squared",
            "warm_up_rounds": 3,
            "condition_on_image": False,
            "game": "least-squares",
        },
    ),
    # Udrea & Mitra 2017, pix2pix from photograph to mask: both players see the photograph, the L1 loss is of masks.
    Wiring(
        "udrea-lesion-cgan",
        {
            "game": Losses(
                {
                    "image": [GAME, *each("generator", "l1", "adversarial")],
                    "lesion": [GAME, "generator/l1"],
                    NOISE: [GAME, *each("generator", "l1", "adversarial")],
                },
                {
                    "l1_weight": doubled("generator/l1"),
                    "adversarial_weight": doubled("generator/adversarial"),
                },
            )
        },
        options={"size": (32, 64), "mask_channels": 3},
    ),
    # Tuysuzoglu et al. 2018: landmarks, then their contour, then a discriminator that sees frame, maps and contour.
    Wiring(
        "dacal-landmarks",
        {
            "landmarks": Losses(alike(("us", "border", NOISE), ["network/landmarks"])),
            "contour": Losses(
                alike(("us", "border", NOISE), each("network", "landmarks", "contour")),
                {"contour_weight": doubled("network/contour")},
            ),
            "game": Losses(
                {
                    "us": ["discriminator/adversarial", *each("network", "landmarks", "contour", "adversarial")],
                    "border": ["discriminator/adversarial", *each("network", "landmarks", "contour")],
                    NOISE: ["discriminator/adversarial", *each("network", "landmarks", "contour", "adversarial")],
                },
                {
                    "contour_weight": doubled("network/contour"),
                    "adversarial_weight": doubled("network/adversarial"),
                },
            ),
        },
    ),
]
