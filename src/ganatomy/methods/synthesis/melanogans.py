"""MelanoGANs: large images of skin lesions by a DCGAN, a LAPGAN or a deeply discriminated GAN."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from ganatomy.game import Batch, Stage, Turn
from ganatomy.losses.adversarial import nonsaturating_generator
from ganatomy.methods.frameworks.lapgan import LAPGAN

Variant = Literal["dcgan", "lapgan", "ddgan"]


class MelanoGANs(LAPGAN):
    """Dermoscopic images of skin lesions by a DCGAN, a LAPGAN, or a pyramid that is trained as one network.

    Baur, Albarqouni & Navab, MelanoGANs: High Resolution Skin Lesion Synthesis with GANs, 2018. arXiv 1804.04338.
    The third, the deeply discriminated GAN (ddgan), is a cascade from noise to the full size with a discriminator for
    every scale, so that gradients of the finest scale reach the coarsest generator. A DCGAN is a pyramid without
    levels.
    """

    stated_augmentation = None
    revision = 1

    class Config(LAPGAN.Config):
        """The paper's sizes; layers, optimiser and batches are our choices where it does not state them."""

        variant: Variant = "ddgan"  # dcgan: one network; lapgan: levels trained apart; ddgan: levels trained together
        size: tuple[int, ...] = (256, 256)  # rows and columns made
        standardise: Literal["pixel", "channel", "none"] = "none"  # whose mean and SD are used; none: not at all
        coarse: Literal["dense", "dcgan"] = "dcgan"  # networks of the coarsest scale
        game_rounds: int = 40_000  # updates of every player (our choice)
        batch_size: int = 16  # images (our choice)
        optimiser: Literal["sgd", "adam"] = "adam"  # optimiser of all players (our choice)
        learning_rate: float = 2e-4  # learning rate of either optimiser (our choice)
        scale_weights: tuple[float, ...] = Field((1.0,), min_length=1)  # ddgan: loss weights by scale, coarsest first
        flips: tuple[int, ...] = (1, 2)  # axes along which images are mirrored at random: 1 rows, 2 columns
        quarter_turns: bool = True  # whether square images are rotated by random multiples of 90 degrees (our choice)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "dcgan256": {"variant": "dcgan"},
            "lapgan256": {"variant": "lapgan"},
            "ddgan256": {"variant": "ddgan"},
            "melanoma": {"classes": ("melanoma",)},
            "small": {
                "size": (32, 32),
                "game_rounds": 1500,
                "batch_size": 32,
                "learning_rate": 5e-4,
                "widest": 128,
                "width": 16,
                "ema_halflife": 2000.0,
            },
        }

    config: Config

    @property
    def levels(self) -> int:
        return 0 if self.config.variant == "dcgan" else self.config.levels

    def stages(self) -> Sequence[Stage]:
        if self.config.variant != "ddgan":
            return super().stages()
        c = self.config
        players = [
            self.player(f"discriminator {rows}", discriminator)
            for (rows, _), discriminator in zip(self.sizes, self.discriminators, strict=True)
        ]
        players.append(self.player("cascade", self.generators, c.ema_halflife))
        stream = self.stream(c.batch_size, c.flips, c.quarter_turns)
        return [Stage("game", self.deep_turns, players, c.game_rounds, stream)]

    def deep_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turns of a round of the cascade: the discriminators of all scales, then the cascade."""
        real, told = self.shown(next(batches))
        fake = self.scales(self.latents(len(real[0])), None, *told)
        scales = list(zip(self.sizes, real, fake, self.discriminators, strict=True))
        for (rows, _), real_image, fake_image, discriminator in scales:
            yield self.judged(f"discriminator {rows}", discriminator, real_image, fake_image, *told)
        yield Turn(
            "cascade",
            {
                f"adversarial {rows}": self.weight(level) * nonsaturating_generator(discriminator(fake_image, *told))
                for level, ((rows, _), _, fake_image, discriminator) in enumerate(scales)
            },
        )

    def weight(self, level: int) -> float:
        """Return the weight of a scale, counted from the coarsest, in the loss of the cascade."""
        weights = self.config.scale_weights
        return weights[min(level, len(weights) - 1)]
