"""Synthetic liver lesions for training a classifier: a DCGAN of each kind, or an AC-GAN of all."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from ganatomy.methods.synthesis.lesion_dcgan import LesionConfig, LesionDCGAN
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator


class LiverDCGAN(LesionDCGAN):
    """DCGANs of cysts, metastases and haemangiomas in portal-venous CT.

    Frid-Adar, Diamant, Klang, Amitai, Goldberger & Greenspan, GAN-based Synthetic Medical Image Augmentation for
    Increased CNN Performance in Liver Lesion Classification, Neurocomputing 321:321-331, 2018. arXiv 1803.01229. Their
    training lesions are augmented as by `ganatomy.studies.lesion_views.classic_views`.
    """

    stated_augmentation = "every lesion is turned, mirrored, shifted and scaled, 480 views of it, before the training"

    class Config(LesionConfig):
        """The paper's DCGANs, one of each kind of lesion, trained side by side."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"images": {"window": (-100.0, 200.0), "unit": "HU"}}

        size: tuple[int, ...] = (64, 64)  # rows and columns around a lesion
        classes: tuple[str, ...] = ("cyst", "metastasis", "haemangioma")  # kinds of lesion
        phantom: str = "liver-lesion"  # embedded phantom used without --data
        game_rounds: int = 3_600  # updates of each player: 70 epochs of 3300 augmented lesions of a kind (our guess)
        generator_widths: tuple[int, ...] = (1024, 512, 256, 128)  # channels of the dense layer and hidden doublings
        discriminator: Literal["dcgan", "odena"] = "dcgan"  # layers of the discriminator: DCGAN's or the AC-GAN paper's
        discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of the dcgan discriminator (our choice)
        odena_widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)  # channels of the odena discriminator (our choice)
        odena_dropout: float = 0.5  # dropout rate after every layer of the odena discriminator (our choice)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "acgan": {"variant": "acgan", "learning_rate": 1e-4, "game_rounds": 7_800},
            "small": {
                "size": (32, 32),
                "game_rounds": 900,
                "batch_size": 16,
                "learning_rate": 5e-4,
                "kernel": 4,
                "generator_widths": (128, 64, 32),
                "discriminator_widths": (32, 64, 128),
                "ema_halflife": 1000.0,
            },
        }

    config: Config

    def networks(self, classes: int) -> tuple[DCGenerator, DCDiscriminator]:
        c = self.config
        generator = DCGenerator(c.latent + classes, c.channels, c.size, c.generator_widths, kernel=c.kernel)
        if c.discriminator == "dcgan":
            return generator, DCDiscriminator(
                c.channels, c.size, c.discriminator_widths, kernel=c.kernel, classes=classes
            )
        strides = [2 - layer % 2 for layer in range(len(c.odena_widths))]
        return generator, DCDiscriminator(
            c.channels, c.size, c.odena_widths, kernel=3, strides=strides, dropout=c.odena_dropout, classes=classes
        )
