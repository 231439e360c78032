"""V-GAN: retinal vessels, drawn against discriminators that look at pixels, at patches or at the whole picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam
from ganatomy.images.augmentation import Augmentation
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.segmentation import binary_cross_entropy
from ganatomy.nets.aids import evaluated
from ganatomy.nets.sizes import check_input
from ganatomy.nets.vgan import VesselDiscriminator, VesselUNet, View, standardised
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.kinds import RETINA, VESSELS
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

ROTATIONS = Augmentation(rotation=(180.0, 0.0, 0.0), interpolation="cubic")
"""Rotations of the release, by any angle instead of multiples of 3 or 5 degrees."""


class VGAN(Segmenter):
    """Segmentation of retinal vessels in whole fundus photographs, against a discriminator of photograph and vessels.

    A round trains the discriminator for many steps, with vessels drawn by the segmentor in its inference mode, and then
    the segmentor for as many. Every picture is standardised over its own field of view.

    Son et al., Retinal Vessel Segmentation in Fundoscopic Images with Generative Adversarial Networks, 2017.
    arXiv 1706.09318.
    """

    stated_augmentation = "mirrored from left to right and rotated by multiples of 5 degrees"

    class Config(SegmentationConfig):
        """The numbers of the paper and of its first release; the preset ``code`` follows the second release."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            **SegmentationConfig.role_defaults,
            **VESSELS,
        }

        inputs: tuple[str, ...] = ("image",)  # names of the photographs, in order of channels
        labels: str = "vessels"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = {"vessels": (1,)}  # label values of the vessels
        lines: bool = True  # whether Frangi's filter of thin lines is judged beside
        size: tuple[int, ...] | None = (640, 640)  # rows and columns that a picture is padded to; 720 for STARE
        fit: Fit = "centre"  # how pictures get to this size: padded with black, as in the paper, or scaled
        augmentation: Augmentation = ROTATIONS  # random changes of training pictures
        flips: tuple[int, ...] = (2,)  # axes along which pictures are mirrored at random: 1 rows, 2 columns
        discriminator: View | Literal["none"] = "image"  # what a score is for; none trains with the cross-entropy alone
        width: int = 32  # channels of the first layers of both networks
        norm_momentum: float = Field(0.01, gt=0, le=1)  # weight of a new batch in the averages of batch norms
        batch_size: int = 8  # pictures (our choice; the paper's number is not known)
        steps: int = Field(342, ge=1)  # steps of either player in a round: 2736 rotated pictures in batches of 8
        game_rounds: int = 31  # rounds; with --validate-every 1 weights are chosen among all of them, as in the paper
        learning_rate: float = 2e-4  # learning rate of both players, constant
        adversarial_weight: float = 0.1  # weight of the adversarial loss of the segmentor beside the cross-entropy
        field_above: float = Field(40.0, ge=0, lt=255)  # red that the field of view exceeds, to standardise pictures
        frozen: bool = True  # whether the discriminator rests in steps of the segmentor; the release trains it on

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "code": {"steps": 570, "game_rounds": 10, "frozen": False},
            "small": {
                "size": (128, 128),
                "fit": "cover",
                "width": 8,
                "norm_momentum": 0.1,
                "batch_size": 4,
                "steps": 5,
                "game_rounds": 90,
                "learning_rate": 3e-3,
                # At this rate the discriminator wins at once; with the paper's weight no vessel appeared in 75 rounds.
                "adversarial_weight": 0.01,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"discriminator": "none"}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, channels = config, self.image_channels
        if c.size is None or len(c.size) != 2:
            raise UserError("--size: the networks see whole pictures; give rows and columns, such as --size 640 640")
        self.segmentor = VesselUNet(channels, c.width, c.norm_momentum)
        view = None if c.discriminator == "none" else c.discriminator
        self.discriminator = VesselDiscriminator(channels + len(c.regions), view, c.width) if view else None

    @property
    def adversarial(self) -> bool:
        """Whether the segmentor is trained against a discriminator."""
        return self.discriminator is not None

    @property
    def embedded(self) -> Embedded:
        return RETINA

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=16)

    def check_sizes(self) -> None:
        c = self.config
        rows, columns = c.size or ()
        option = f"--size {rows} {columns}"
        check_input(self.segmentor, (1, self.image_channels, rows, columns), option)
        if self.discriminator is not None:
            check_input(self.discriminator, (1, self.image_channels + len(c.regions), rows, columns), option)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        rows, columns = c.size or ()
        players = [Player("segmentor", (self.segmentor,), adam(c.learning_rate, (0.5, 0.999)))]
        if self.discriminator is not None:
            moves = adam(c.learning_rate, (0.5, 0.999))
            players.append(Player("discriminator", (self.discriminator,), moves, adversary=True))
        stream = self.annotated(c.batch_size, (1, rows, columns), flips=c.flips)
        return [Stage("segment", self.turns, players, c.game_rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn | tuple[Turn, ...]]:
        c = self.config
        if self.discriminator is not None:
            for _ in range(c.steps):
                batch = next(batches)
                image, truth = standardised(self.image(batch), c.field_above / 255), self.truth(batch)
                with torch.no_grad(), evaluated(self.segmentor):
                    vessels = self.segmentor(image).sigmoid()
                # True and drawn vessels share the statistics of one batch.
                pairs = [torch.cat([image, shown(maps, truth)], 1) for maps in (truth, vessels)]
                real, fake = self.discriminator(torch.cat(pairs)).chunk(2)
                adversarial = 0.5 * nonsaturating_discriminator(real, fake)
                yield Turn("discriminator", scores={"real": real, "fake": fake}, adversarial=adversarial)
        for _ in range(c.steps):
            batch = next(batches)
            image, truth = standardised(self.image(batch), c.field_above / 255), self.truth(batch)
            logits = self.segmentor(image)
            losses = {"entropy": binary_cross_entropy(logits, truth)}
            if self.discriminator is None:
                yield Turn("segmentor", losses)
                continue
            score = self.discriminator(torch.cat([image, shown(logits.sigmoid(), truth)], 1))
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(score)
            if c.frozen:
                yield Turn("segmentor", losses)
            else:
                yield Turn("segmentor", losses), Turn("discriminator", misled=losses["adversarial"])

    def segment(self, image: Tensor) -> Tensor:
        return self.segmentor(standardised(image, self.config.field_above / 255)).sigmoid()  # type: ignore[no-any-return]


def shown(maps: Tensor, truth: Tensor) -> Tensor:
    """Return maps of regions as discriminators see them: 0 where the truth is not known."""
    return maps.masked_fill(truth < 0, 0)
