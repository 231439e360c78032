"""StainGAN: CycleGAN between the colours of two laboratories or scanners, on slides of histology."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from pydantic import Field
from torch import nn

from ganatomy.game import Progress
from ganatomy.methods.frameworks.cyclegan import CycleGAN
from ganatomy.nets.aids import keep_dropout
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.residual import ResNetGenerator
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.kinds import PHOTOGRAPH

SLIDES = Embedded("two-laboratory-nuclei", size=64, subjects=60)


class StainGAN(CycleGAN):
    """Transfer of the colours of slides from one laboratory or scanner to another, learned without pairs.

    Networks and losses are those of CycleGAN, with dropout in the residual blocks; no reference slide is needed. Norms
    use the statistics of the image that is translated, so colours depend on what else an image shows: translate large
    images as a whole. A CycleGAN may recolour nuclei or make them up, so count them before and after.

    Difference from the release: biases begin at 0, and not with random values. Numbers of the paper are known in parts.

    Shaban, Baur, Navab & Albarqouni, StainGAN: Stain Style Transfer for Digital Histological Images, ISBI 2019.
    arXiv 1804.01601.
    """

    stated_augmentation = None

    class Config(CycleGAN.Config):
        """Numbers of the paper where they are known, otherwise those of the authors' release."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"source": PHOTOGRAPH, "target": PHOTOGRAPH}

        source: str = "scanner_a"  # name of the given slides, which is also the prefix of their options
        target: str = "scanner_b"  # name of the slides whose colours are wanted
        phantom: str = SLIDES.name  # embedded phantom to learn from where no data are given
        game_rounds: int = 65_000  # updates of each player; 26 epochs of 10,000 patches
        epochs: int = Field(26, ge=1)  # parts of the training with one learning rate each
        batch_size: int = 4  # images of either kind
        jitter: int = 0  # pixels by which images are enlarged before a random part of the size is cut out; 0 never
        dropout: float = 0.5  # dropout rate in the residual blocks
        dropout_at_inference: bool = False  # as in the release; results then differ from call to call

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            # The last of the 200 epochs has a rate of 0: the release ends before it.
            "code": {"game_rounds": 500_000, "epochs": 200, "identity_weight": 0.5, "dropout_at_inference": True},
            "small": {
                "size": (64, 64),
                "game_rounds": 1_000,
                "batch_size": 2,
                "learning_rate": 1e-3,
                "width": 12,
                "blocks": 3,
                "strided": 1,
                "dropout": 0.0,
                "identity_weight": 0.5,
                "discriminator_width": 24,
                "discriminator_strided": 2,
                "ema_halflife": 100.0,
            },
        }

    config: Config

    @property
    def embedded(self) -> Embedded | None:
        return SLIDES if self.config.phantom == SLIDES.name else None

    def generator(self, given: int, made: int) -> nn.Module:
        """Return a generator with dropout in its residual blocks."""
        c = self.config
        return ResNetGenerator(given, made, c.width, c.blocks, c.strided, dropout=c.dropout)

    def discriminator(self, channels: int) -> PatchGAN:
        """Return a discriminator whose convolutions all have a bias, which has no effect before norms."""
        c = self.config
        network = PatchGAN(channels, c.discriminator_width, c.discriminator_strided, "instance", biased=True)
        init_pix2pix(network, c.discriminator_width)
        return network

    def inference_mode(self) -> Self:
        self.eval()
        if self.config.dropout_at_inference:
            keep_dropout(self.to_target)
        return self

    @property
    def schedule(self) -> Callable[[Progress], float]:
        """Factor of all learning rates, which falls once an epoch to 0 in the last one."""
        c = self.config
        steady = round(c.decay_from * c.epochs)

        def factor(progress: Progress) -> float:
            epoch = progress.stage_round * c.epochs // max(progress.stage_rounds, 1)
            return max(0.0, 1 - max(0, epoch + 2 - steady) / (c.epochs - steady + 1))

        return factor
