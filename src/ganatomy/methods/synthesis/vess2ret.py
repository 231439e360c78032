"""vess2ret: fundus photographs painted over maps of vessels, by a U-Net against a discriminator of patches of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import l1_loss

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import evaluated
from ganatomy.nets.strided_unet import Statistics, StridedDiscriminator, StridedUNet, widths_of
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.segmentation.kinds import PHOTOGRAPH, painted_retina
from ganatomy.tasks.translation.task import TranslationConfig, Translator


class Vess2Ret(Translator):
    """Paints a fundus photograph over a map of vessels, which is 1 in vessels and 0 elsewhere.

    Costa et al., Towards Adversarial Retinal Image Synthesis, 2017. arXiv 1701.08974.

    A round trains the discriminator for many steps, with photographs painted without dropout, and then the painter for
    as many. Networks and numbers are those of the authors' release. Real pairs that the discriminator is shown are
    drawn independently of the maps that are painted. All convolutions are padded alike on all sides, as with Theano.
    """

    stated_augmentation = None

    class Config(TranslationConfig):
        """The numbers of the authors' release, for 614 training pairs."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {"source": MaskOptions, "target": ImageOptions}
        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "target": PHOTOGRAPH,
            "vessels": {"part": "mask:vessels"},
        }

        source: str = "vessels"  # name of the maps of vessels, which have two values
        target: str = "image"  # name of the photographs
        size: tuple[int, ...] = (512, 512)  # rows and columns, multiples of 2**levels
        fit: Fit = "contain"  # how images get to this size: fit inside it, fill it, or be cut into patches
        flips: tuple[int, ...] = ()  # axes along which pairs are mirrored at random: 1 rows, 2 columns
        phantom: str = "fundus"  # embedded phantom to learn from where no data are given
        game_rounds: int = 3000  # rounds; 100 epochs of 30 rounds
        steps: int = Field(20, ge=1)  # steps of either player in a round
        batch_size: int = 1  # pairs
        learning_rate: float = 2e-4  # Adam, both players; constant
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        l1_weight: float = 100.0  # weight of the mean absolute difference from the true photograph
        adversarial_weight: float = 1.0  # weight of the game; 0 trains the same network without the discriminator
        levels: int = Field(8, ge=2)  # strided convolutions of the painter, before one that makes 1 pixel of 2
        width: int = 64  # channels of the painter's first level, which double up to eight times that
        statistics: Statistics = "image"  # statistics of norms: of each image, as in batches of one, or of the batch
        dropout: float = 0.5  # dropout rate in the painter's three innermost levels
        discriminator_widths: tuple[int, ...] = (32, 64, 128, 256)  # channels of the discriminator; four see 63 pixels

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "game_rounds": 120,
                "steps": 5,
                "batch_size": 4,
                "learning_rate": 1e-3,
                "levels": 5,
                "width": 16,
                "dropout": 0.0,
                "discriminator_widths": (16, 32, 64),
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, step = config, 2**config.levels
        if len(c.size) != 2 or any(extent % step for extent in c.size):
            raise UserError(
                f"--levels {c.levels}: rows and columns must be multiples of {step}, but --size is "
                f"{' '.join(map(str, c.size))}"
            )
        given, made = self.task.in_channels, self.task.out_channels
        widths = widths_of(c.width, c.levels)
        self.painter = StridedUNet(given, made, widths, widths[::-1], statistics=c.statistics, dropout=c.dropout)
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = StridedDiscriminator(given + made, c.discriminator_widths)

    @property
    def embedded(self) -> Embedded | None:
        retina = painted_retina(self.config.size)
        return retina if self.config.phantom == retina.name else None

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.levels)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = [Player("painter", (self.painter,), moves)]
        if self.discriminator is not None:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        return [Stage("game", self.turns, players, c.game_rounds, self.streams(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        for _ in range(c.steps if self.discriminator is not None else 0):
            assert self.discriminator is not None
            vessels, other = self.image(next(batches)), next(batches)
            with torch.no_grad(), evaluated(self.painter):
                painted = self.restore(vessels)
            real = self.discriminator(torch.cat([self.image(other), self.truth(other)], dim=1))
            fake = self.discriminator(torch.cat([vessels, painted], dim=1))
            losses = {"adversarial": 0.5 * nonsaturating_discriminator(real, fake)}
            yield Turn("discriminator", losses, scores={"real": real, "fake": fake})
        for _ in range(c.steps):
            batch = next(batches)
            vessels = self.image(batch)
            painted = self.restore(vessels)
            losses = {"l1": c.l1_weight * l1_loss(painted, self.truth(batch))}
            if self.discriminator is not None:
                score = self.discriminator(torch.cat([vessels, painted], dim=1))
                losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(score)
            yield Turn("painter", losses)

    def restore(self, input: Tensor) -> Tensor:
        return self.painter(input).tanh()  # type: ignore[no-any-return]
