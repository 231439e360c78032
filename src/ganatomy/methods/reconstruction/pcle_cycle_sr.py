"""Ravì et al.: unsupervised super-resolution of endomicroscopy with consistency to the measured fibre signals."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ganatomy.game import Batch, Method, Player, Stage, Stream, Turn, adam
from ganatomy.losses.adversarial import GAMES
from ganatomy.losses.matching import total_variation
from ganatomy.nets.residual import SRDiscriminator, SRResNet
from ganatomy.physics.fibre import OUTSIDE, cell_means, whole_cells
from ganatomy.tasks.endomicroscopy.task import MOST_FIBRES, FibreConfig, FibreSuperResolution
from ganatomy.tasks.restoration.likeness import BEST, MAE

INSIDE = 0.5
"""Fraction of a patch that must lie in the field of view for the patch to be used in training (our choice)."""


class PCLECycleSR(Method):
    """Unpaired super-resolution of endomicroscopy, with an adversarial loss and consistency to the fibre signals.

    Ravì, Szczotka, Pereira & Vercauteren, Adversarial training with cycle consistency for unsupervised super-resolution
    in endomicroscopy, Med. Image Anal. 53, 2019. doi:10.1016/j.media.2019.01.011. arXiv 1901.06988. The way back of the
    cycle is no network but a model of the instrument: the mean of the output over the cell of each fibre.
    """

    stated_augmentation = None

    class Config(FibreConfig):
        """The networks of SRGAN without enlargement; loss weights and training of the paper are not known."""

        game_rounds: int = 100_000  # updates of each player (our choice)
        batch_size: int = 16  # patches of either kind (our choice)
        patch: int = 64  # side of the patches, pixels (our choice)
        flips: tuple[int, ...] = (1, 2)  # axes along which patches are mirrored at random (our choice)
        learning_rate: float = 1e-4  # Adam, both players (our choice)
        game: Literal["nonsaturating", "least-squares"] = "nonsaturating"  # adversarial loss (our choice)
        adversarial_weight: float = 1e-3  # weight of the game; 0 trains with the other losses alone (our choice)
        vector_weight: float = 1.0  # weight of the mean difference from fibre signals, in SDs of frames (our choice)
        variation_weight: float = 0.1  # weight of the output's total variation, the paper's l_reg (our choice)
        width: int = 64  # channels of the generator
        blocks: int = 16  # residual blocks of the generator
        discriminator_width: int = 64  # channels of the discriminator's first layer
        discriminator_dense: int = 1024  # units of the discriminator's dense layer
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "game_rounds": 400,
                "batch_size": 8,
                "learning_rate": 1e-3,
                "width": 16,
                "blocks": 2,
                "discriminator_width": 12,
                "discriminator_dense": 64,
                "ema_halflife": 400.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.generator = SRResNet(1, 1, c.width, c.blocks, factor=1)
        # The last layer starts at zero, so that training starts from the frame, which agrees with the fibre signals.
        for parameter in self.generator.end.parameters():
            nn.init.zeros_(parameter)
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = SRDiscriminator(1, (c.patch, c.patch), c.discriminator_width, c.discriminator_dense)

    def build_task(self) -> FibreSuperResolution:
        return FibreSuperResolution(self.config, BEST if self.adversarial else MAE)

    @property
    def adversarial(self) -> bool:
        """Whether the generator is trained with a discriminator."""
        return bool(self.config.adversarial_weight)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate)
        players = [Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife)]
        if self.discriminator:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        patch = (1, c.patch, c.patch)
        streams = (
            Stream(
                "frames",
                ("low", "signal", "cells"),
                c.batch_size,
                patch,
                flips=c.flips,
                accepts=_in_the_field_of_view,
            ),
            Stream("sharp", ("high",), c.batch_size, patch, flips=c.flips),
        )
        return [Stage("game", self.turns, players, c.game_rounds, streams)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        frames, sharp = batch["frames"], batch["sharp"]
        fake = self.restore(frames["low"])
        losses = {}
        if self.discriminator:
            game = GAMES[c.game]
            # Real images get the same field of view, because its edge would otherwise distinguish the two.
            real = self._in_field(sharp["high"], frames["low"])
            real_scores, fake_scores = self.discriminator(real), self.discriminator(fake.detach())
            yield Turn(
                "discriminator",
                adversarial=game.discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
            losses["adversarial"] = c.adversarial_weight * game.generator(self.discriminator(fake))
        if c.vector_weight:
            losses["vectors"] = c.vector_weight * vector_distance(fake, frames["signal"], frames["cells"])
        if c.variation_weight:
            losses["variation"] = c.variation_weight * total_variation(fake)
        yield Turn("generator", losses)

    def restore(self, input: Tensor) -> Tensor:
        """Restore frames (N, 1, H, W) in the range of the codec; pixels outside the field of view stay black."""
        return self._in_field(input + self.generator(input), input)

    def _in_field(self, image: Tensor, frame: Tensor) -> Tensor:
        black: float = self.task.codec.to[0]
        return torch.where(frame > black, image, black)


def vector_distance(image: Tensor, signal: Tensor, cells: Tensor) -> Tensor:
    """Return the mean absolute difference between an image's means over cells and the fibre signals, a scalar.

    Cells that are cut by the patch are left out, because their means are not known.

    Args:
        image: (N, 1, H, W).
        signal: signal of the nearest fibre at each pixel, same shape.
        cells: number of the cell of each pixel divided by `MOST_FIBRES`, negative outside, same shape.
    """
    numbers = (cells * MOST_FIBRES).round()
    # A patch shows some hundred of tens of thousands of fibres, which are numbered anew.
    there, places = torch.unique(numbers, return_inverse=True)
    places = places.where(numbers >= 0, OUTSIDE)
    whole = whole_cells(places, len(there))
    ours, theirs = (cell_means(values, places, len(there))[0] for values in (image, signal))
    return ((ours - theirs).abs() * whole).sum() / whole.sum().clamp_min(1)


def _in_the_field_of_view(patch: Mapping[str, Any]) -> bool:
    return float((patch["cells"] >= 0).mean()) >= INSIDE
