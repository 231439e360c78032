"""CT of the head from MR without pairs: CycleGAN on sagittal slices, which are stacked to a volume again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import l1_loss, pad

from ganatomy.game import Batch, Player, Stage, Turn, adam, linear_decay
from ganatomy.images.frames import Plane
from ganatomy.losses.adversarial import least_squares_generator
from ganatomy.methods.frameworks.cyclegan import CycleGAN
from ganatomy.phantoms.embedded import Embedded

HEADS = Embedded(
    "head-mr-ct", size=64, grid={"slices": 32, "distance_mm": 3.75, "misregistration_mm": 3.0}, subjects=16
)
CT: Mapping[str, Any] = {"unit": "HU", "window": (-600.0, 1400.0)}
"""Scale of CT."""
BACKGROUND = -1.0
"""Value of air in the range of the networks."""


class UnpairedMR2CT(CycleGAN):
    """Synthesis of CT from MR of the brain, learned from slices of both that are drawn independently of each other.

    Networks and losses are those of CycleGAN, without an identity loss. Slices are sagittal and are shifted at random;
    the translated slices are stacked, which nothing makes consistent from slice to slice. With ``from_pairs``, the
    paper's comparison, the same generator and the discriminator of CT learn from slices of one patient at one place,
    with a loss of absolute differences.

    Differences from the paper: MR is scaled by percentiles of each image, since a range of arbitrary units fits one
    scanner only; values are not rounded to 256 grey levels; images are not masked, so remove what lies outside of the
    head, such as the table, beforehand.

    Wolterink, Dinkla, Savenije, Seevinck, van den Berg & Išgum, Deep MR to CT Synthesis using Unpaired Data, SASHIMI
    2017, LNCS 10557:14-23. arXiv 1708.01155.
    """

    stated_augmentation = "padded from 256 to 286 pixels with background, and cut to 256 at a random place"

    class Config(CycleGAN.Config):
        """Numbers of the published CycleGAN; those of slices and windows are usual ones where the paper is unknown."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "source": {"percentiles": (0.0, 99.5)},
            "target": CT,
            "ct": CT,
        }

        source: str = "t1"  # name of the MR images, which is also the prefix of their options
        target: str = "ct"  # name of the CT images
        plane: Plane = "sagittal"  # plane of the slices
        spacing: tuple[float, float, float] | None = (1.0, 0.87, 0.87)  # mm between slices, rows and columns
        phantom: str = HEADS.name  # embedded phantom to learn from where no data are given
        from_pairs: bool = False  # whether slices of both kinds are those of one patient at one place (the comparison)
        game_rounds: int = 658_800  # updates of each player; 200 epochs of 18 volumes of 183 slices
        jitter: int = 30  # pixels of background added to slices before a random part is cut out; 0 never
        flips: tuple[int, ...] = ()  # axes along which slices are mirrored at random: 1 rows, 2 columns
        l1_weight: float = Field(100.0, ge=0)  # with pairs: weight of the mean absolute difference, as in pix2pix

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (32, 64),
                "spacing": None,
                "jitter": 6,
                "game_rounds": 1_500,
                "batch_size": 2,
                "learning_rate": 1e-3,
                "width": 12,
                "blocks": 3,
                "strided": 1,
                "discriminator_width": 24,
                "discriminator_strided": 2,
                "ema_halflife": 100.0,
            },
        }

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        if config.from_pairs:
            del self.to_source
            self.discriminator_source = None

    @property
    def paired(self) -> bool:  # type: ignore[override]
        """Whether slices of both kinds are drawn together."""
        return bool(self.config.from_pairs)

    @property
    def embedded(self) -> Embedded:
        return HEADS

    def stages(self) -> Sequence[Stage]:
        c = self.config
        if not c.from_pairs:
            return super().stages()
        moves, schedule = adam(c.learning_rate, c.betas), linear_decay(c.decay_from)
        players = [Player("generator", (self.to_target,), moves, schedule, ema_halflife=c.ema_halflife)]
        if self.discriminator_target:
            players.append(
                Player("discriminator target", (self.discriminator_target,), moves, schedule, adversary=True)
            )
        return [Stage("game", self.paired_turns, players, c.game_rounds, self.streams(c.batch_size))]

    def paired_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c, task = self.config, self.task
        batch = next(batches)
        source, true = self.jittered(batch[task.input], batch[task.output])
        fake = self.to_target(source)
        losses = {"l1": c.l1_weight * l1_loss(fake, true)}
        if not self.discriminator_target:
            yield Turn("generator", losses)
            return
        losses["adversarial"] = c.adversarial_weight * least_squares_generator(self.discriminator_target(fake))
        yield Turn("generator", losses)
        yield self._judgement("target", self.discriminator_target, true, self._recalled(self.pool_target, fake))

    def enlarged(self, images: Tensor, more: int) -> Tensor:
        """Return slices with background around them, from which parts of their size are cut: slices shift."""
        before, after = more // 2, more - more // 2
        return pad(images, (before, after, before, after), value=BACKGROUND)
