"""Synthetic lung nodules for a visual Turing test with radiologists."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ganatomy.methods.synthesis.lesion_dcgan import LesionConfig, LesionDCGAN
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator


class NoduleDCGAN(LesionDCGAN):
    """DCGANs of CT patches around benign and around malignant lung nodules.

    Chuquicusma, Hussein, Burt & Bagci, How to Fool Radiologists with Generative Adversarial Networks? A Visual Turing
    Test for Lung Cancer Diagnosis, ISBI 2018. arXiv 1710.09762. Raters see all images after a filter that hides
    upsampling artefacts, such as those of `ganatomy.metrics.display`.
    """

    stated_augmentation = None

    class Config(LesionConfig):
        """The paper's three transposed convolutions and two convolutions; most other numbers are our choice."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "images": {"window": (-1000.0, 400.0), "unit": "HU"}
        }

        size: tuple[int, ...] = (56, 56)  # rows and columns around a nodule
        classes: tuple[str, ...] = ("benign", "malignant")  # kinds of nodule
        phantom: str = "lung-nodule"  # embedded phantom used without --data
        game_rounds: int = 2_500  # updates of each player; 200 epochs of 800 nodules (our choice)
        generator_widths: tuple[int, ...] = (256, 128, 64)  # channels of the dense layer and hidden doublings
        discriminator_widths: tuple[int, ...] = (64, 128)  # channels of the discriminator's convolutions

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (32, 32),
                "game_rounds": 1800,
                "batch_size": 16,
                "learning_rate": 5e-4,
                "kernel": 4,
                "generator_widths": (128, 64, 32),
                "discriminator_widths": (32, 64),
                "ema_halflife": 1000.0,
            },
        }

    config: Config

    def networks(self, classes: int) -> tuple[DCGenerator, DCDiscriminator]:
        c = self.config
        return (
            DCGenerator(c.latent + classes, c.channels, c.size, c.generator_widths, kernel=c.kernel),
            DCDiscriminator(c.channels, c.size, c.discriminator_widths, kernel=c.kernel, classes=classes),
        )
