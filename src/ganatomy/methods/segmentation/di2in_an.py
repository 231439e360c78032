"""DI2IN-AN: livers in whole CT volumes, from a network with outputs at several levels and a discriminator of masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Turn, rmsprop
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.segmentation import binary_cross_entropy
from ganatomy.nets.di2in import DI2IN, MaskDiscriminator
from ganatomy.nets.sizes import check_input
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

ABDOMEN = Embedded("abdomen-ct", size=64, grid={"slices": 48}, subjects=24)
LEVELS = 4
"""Number of levels of the encoder; each but the last has an output."""


class DI2INAN(Segmenter):
    """Liver segmentation in whole volumes of low resolution, regularised by a discriminator of masks.

    The generator predicts the mask at three levels; every level has a loss, the finest one is the output. It is first
    trained by these losses alone, then also against a discriminator that sees masks without the image, true ones or
    the output, so that outputs take the shape of livers. Expects volumes of the abdomen whose centre is inside of the
    patient; a volume that is larger than the size is cropped around its centre.

    Yang et al., Automatic Liver Segmentation Using an Adversarial Image-to-Image Network, MICCAI 2017, LNCS 10435,
    pp. 507-515. doi:10.1007/978-3-319-66179-7_58, arXiv 1707.08037.
    """

    dims = 3
    stated_augmentation = None

    class Config(SegmentationConfig):
        """Numbers of the paper; what it does not state, such as widths, weights, rounds and rates, is our choice."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            **SegmentationConfig.role_defaults,
            "ct": {"window": (-200.0, 250.0)},
            "liver": {"part": "labels:liver"},
        }

        inputs: tuple[str, ...] = ("ct",)  # aligned images, in order of channels
        labels: str = "liver"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = {"liver": (1, 2)}  # region to labels; lesions of the liver are 2
        spacing: tuple[float, float, float] | None = (3.0, 3.0, 3.0)  # mm between slices, rows, columns (our choice)
        size: tuple[int, ...] | None = (128, 128, 128)  # slices, rows and columns to crop or pad to (our choice)
        patch_shape: tuple[int, int, int] = (128, 128, 128)  # slices, rows, columns of a sample; whole volumes
        width: int = 16  # channels of the finest level, doubled at every halving (our choice)
        discriminator_width: int = 32  # channels of the discriminator's first layer, doubled by each (our choice)
        supervised_rounds: int = Field(20_000, ge=1)  # updates before there is a discriminator (our choice)
        game_rounds: int = 20_000  # updates against the discriminator (our choice)
        batch_size: int = 2  # volumes (our choice: a few)
        supervised_learning_rate: float = 1e-3  # RMSprop of the generator before there is a discriminator (our choice)
        learning_rate: float = 1e-4  # RMSprop of the generator against the discriminator (our choice)
        discriminator_learning_rate: float = 1e-4  # RMSprop of the discriminator (our choice)
        alpha: float = Field(0.9, ge=0, lt=1)  # RMSprop: decay of the mean of squared gradients (our choice)
        level_weights: tuple[float, float, float] = (
            0.2,
            0.4,
            1.0,
        )  # weight of the loss of each level, the coarsest first (our choice)
        adversarial_weight: float = (
            0.01  # weight of the adversarial loss; 0 trains without a discriminator (our choice)
        )
        discriminator_steps: int = 1  # turns of the discriminator in a round (our choice)
        generator_steps: int = 1  # turns of the generator in a round (our choice)
        flips: tuple[int, ...] = ()  # axes along which samples are mirrored: 0 slices, 1 rows, 2 columns (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "spacing": (7.5, 20 / 3, 20 / 3),
                "size": (32, 48, 48),
                "patch_shape": (32, 48, 48),
                "width": 8,
                "discriminator_width": 8,
                "supervised_rounds": 160,
                "game_rounds": 120,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, regions = config, len(config.regions)
        if not any(c.level_weights):
            raise UserError("--level-weights: at least one level needs a weight that is not 0")
        self.generator = DI2IN(self.image_channels, regions, [c.width * 2**level for level in range(LEVELS)])
        self.discriminator = (
            MaskDiscriminator(regions, [c.discriminator_width * 2**layer for layer in range(LEVELS)])
            if c.adversarial_weight
            else None
        )

    def check_sizes(self) -> None:
        c = self.config
        shape = " ".join(map(str, c.patch_shape))
        check_input(self.generator, (c.batch_size, self.image_channels, *c.patch_shape), f"--patch-shape {shape}")

    @property
    def adversarial(self) -> bool:
        """Whether the generator is trained against a discriminator."""
        return self.discriminator is not None

    @property
    def embedded(self) -> Embedded:
        return ABDOMEN

    def stages(self) -> Sequence[Stage]:
        c = self.config
        stream = self.annotated(c.batch_size, c.patch_shape, flips=c.flips)
        taught = Player("generator", (self.generator,), rmsprop(c.supervised_learning_rate, c.alpha))
        players = [Player("generator", (self.generator,), rmsprop(c.learning_rate, c.alpha))]
        if self.discriminator is not None:
            moves = rmsprop(c.discriminator_learning_rate, c.alpha)
            players.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        return [
            Stage("supervised", self.supervised_turns, [taught], c.supervised_rounds, stream),
            Stage("adversarial", self.turns, players, c.game_rounds, stream),
        ]

    def supervised_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turn of the generator with the losses of all levels."""
        batch = next(batches)
        yield Turn("generator", self.level_losses(self.generator(self.image(batch)), self.truth(batch)))

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        if self.discriminator is not None:
            for step in range(c.discriminator_steps):
                batch = next(batches) if step else batch
                with torch.no_grad():
                    output = self.generator(self.image(batch))[-1].sigmoid()
                real, fake = self.masks(output, self.truth(batch))
                real_scores, fake_scores = self.discriminator(real), self.discriminator(fake)
                yield Turn(
                    "discriminator",
                    adversarial=nonsaturating_discriminator(real_scores, fake_scores),
                    scores={"real": real_scores, "fake": fake_scores},
                )
        for step in range(c.generator_steps):
            batch = next(batches) if step else batch
            truth = self.truth(batch)
            logits = self.generator(self.image(batch))
            losses = self.level_losses(logits, truth)
            if self.discriminator is not None:
                _, fake = self.masks(logits[-1].sigmoid(), truth)
                losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(self.discriminator(fake))
            yield Turn("generator", losses)

    def level_losses(self, logits: Sequence[Tensor], truth: Tensor) -> dict[str, Tensor]:
        """Return the weighted cross-entropy of every level that has a weight, the coarsest first."""
        names = ("quarter", "half", "main")
        return {
            name: weight * binary_cross_entropy(own, truth)
            for name, weight, own in zip(names, self.config.level_weights, logits, strict=True)
            if weight
        }

    def masks(self, output: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return true and predicted masks as the discriminator sees them, 0 where the label is not known."""
        known = (truth >= 0).to(output)
        return truth.to(output) * known, output * known

    def segment(self, image: Tensor) -> Tensor:
        output: Tensor = self.generator(image)[-1].sigmoid()
        return output
