"""Adversarial patch network: a segmentor of tumours in patches against a discriminator of the maps it makes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ganatomy.game import Batch, Player, Progress, Stage, Tiling, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.segmentation import cross_entropy, within_known
from ganatomy.nets.patchwise import CentreDiscriminator, CentreSegmentor
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.expectations import BRAIN_EXTRACTED, REGISTERED, Expectation
from ganatomy.tasks.segmentation.codes import BRATS_2017, BRATS_2017_CLASSES
from ganatomy.tasks.segmentation.kinds import BRAIN, TUMOUR
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

PATCH = 15
"""Rows and columns of the maps that the discriminator takes; it is shown the image around them, 31 x 31 pixels."""


class BratsAdvPatch(Segmenter):
    """Segmentation of tumour tissues patch by patch, with a discriminator of probabilities and true classes.

    The segmentor assigns the centre of a patch to classes by convolutions without padding. The discriminator is shown
    a patch of the image and the map of its centre, true or predicted. The segmentor minimises the cross-entropy of the
    classes and, weighted by λ, that of its maps being called true, as in Luc et al., arXiv 1611.08408; it moves first
    in every round. Expects aligned, brain-extracted volumes of about 1 mm.

    Li, Wang, Yu, Brain Tumor Segmentation Using an Adversarial Network, BrainLes 2017, LNCS 10670:123-132, 2018.
    doi:10.1007/978-3-319-75238-9_11.
    """

    stated_augmentation = None

    class Config(SegmentationConfig):
        """Patches and networks of the paper's task; the optimiser and λ follow a public re-implementation."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "inputs": {"scale": "zscore"},
            **TUMOUR,
        }

        inputs: tuple[str, ...] = ("flair", "t1", "t1c", "t2")  # aligned images, in order of channels (our choice)
        labels: str = "tumour"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = BRATS_2017_CLASSES  # label values by class, the background first
        judged: Mapping[str, tuple[int, ...]] = BRATS_2017  # regions that are judged
        spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0)  # mm between slices, rows, columns; as in BRATS
        width: int = 64  # channels of the segmentor's first convolutions
        discriminator_width: int = 16  # channels of the discriminator's first convolutions of the image
        dropout: float = 0.25  # share of feature maps dropped before the segmentor's last two convolutions
        adversarial_weight: float = 1.0  # λ; 0 trains without the discriminator
        learning_rate: float = 1e-3  # Adam, segmentor
        discriminator_learning_rate: float = 1e-4  # Adam, discriminator
        decay: float = Field(0.96, gt=0, le=1)  # factor of both learning rates after every epoch
        epoch_rounds: int = Field(1_000, ge=1)  # rounds per epoch (our choice)
        longest_gradient: float = Field(0.2, gt=0)  # largest norm of the gradient of either player
        game_rounds: int = 50_000  # rounds, each with one update of both players (our choice)
        batch_size: int = 128  # patches
        centred: float = Field(
            0.75, ge=0, le=1
        )  # share of patches centred on a tumour class, equally often (our choice)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "spacing": None,
                "width": 16,
                "discriminator_width": 8,
                "epoch_rounds": 25,
                "game_rounds": 600,
                "batch_size": 32,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, channels, classes = config, self.image_channels, len(config.regions)
        self.segmentor = CentreSegmentor(channels, classes, c.width, c.dropout)
        self.discriminator = (
            CentreDiscriminator(channels, classes, c.discriminator_width) if c.adversarial_weight else None
        )

    @property
    def adversarial(self) -> bool:
        """Whether the segmentor is trained with a discriminator."""
        return self.discriminator is not None

    @property
    def exclusive(self) -> bool:
        return True

    @property
    def embedded(self) -> Embedded:
        return BRAIN

    @property
    def expected(self) -> Sequence[Expectation]:
        return (BRAIN_EXTRACTED, REGISTERED)

    @property
    def tiling(self) -> Tiling:
        return Tiling(margin=(0, CentreSegmentor.margin, CentreSegmentor.margin))

    def stages(self) -> Sequence[Stage]:
        c = self.config

        def rate(progress: Progress) -> float:
            return c.decay ** (progress.stage_round // c.epoch_rounds)

        moves, slow = adam(c.learning_rate), adam(c.discriminator_learning_rate)
        limit = c.longest_gradient
        players = [Player("segmentor", (self.segmentor,), moves, rate, max_gradient_norm=limit)]
        if self.discriminator:
            parts = (self.discriminator,)
            players.append(Player("discriminator", parts, slow, rate, max_gradient_norm=limit, adversary=True))
        stream = self.annotated(
            c.batch_size, (1, PATCH, PATCH), centred=c.centred, margin=self.tiling.margin, wide=frozenset(c.inputs)
        )
        return [Stage("segment", self.turns, players, c.game_rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        image, truth = self.image(batch), self.truth(batch)
        logits = self.segmentor(image)
        losses = {"entropy": cross_entropy(logits, truth)}
        if self.discriminator:
            scores = self.discriminator(within_known(logits.softmax(1), truth), image)
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(scores)
        yield Turn("segmentor", losses)
        if self.discriminator:
            with torch.no_grad():
                made = self.segmentor(image).softmax(1)
            real, fake = (self.discriminator(within_known(maps, truth), image) for maps in (truth, made))
            loss = 0.5 * nonsaturating_discriminator(real, fake)
            yield Turn("discriminator", adversarial=loss, scores={"real": real, "fake": fake})

    def segment(self, image: Tensor) -> Tensor:
        return self.segmentor(image).softmax(1)  # type: ignore[no-any-return]
