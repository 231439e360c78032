"""SCAN: segmentation of chest radiographs with a critic that judges whether label maps are plausible as a whole."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.segmentation import cross_entropy
from ganatomy.nets.scan import STRIDE, ScanCritic, ScanSegmentor
from ganatomy.nets.sizes import check_input
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.measures import CARDIOTHORACIC, Measure
from ganatomy.tasks.segmentation.task import Cleaning, SegmentationConfig, Segmenter

CHEST = Embedded("chest-radiograph", size=96, subjects=40)


class SCAN(Segmenter):
    """Segmentation of lungs and heart, where a critic of label maps corrects what breaks their structure.

    The segmentor is first trained with the cross-entropy of pixels alone. Then a critic learns to tell true label maps
    from predicted ones, without the image, and the segmentor also has to convince it. Of every organ the largest
    connected component is kept, and its holes are filled. Expects frontal chest radiographs.

    Dai et al., SCAN: Structure Correcting Adversarial Network for Organ Segmentation in Chest X-rays, DLMIA 2018,
    LNCS 11045:263-273. doi:10.1007/978-3-030-00889-5_30, arXiv 1703.08770.
    """

    stated_augmentation = None

    class Config(SegmentationConfig):
        """The networks of the paper; what it does not say is our choice."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "inputs": {"scale": "zscore", "over": "all"},
            "organs": {"part": "labels:organs"},
        }

        inputs: tuple[str, ...] = ("radiograph",)  # names of the aligned images, in order of channels
        labels: str = "organs"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = {  # classes, the background first
            "background": (0,),
            "left_lung": (1,),
            "right_lung": (2,),
            "heart": (3,),
        }
        size: tuple[int, int] | None = (400, 400)  # rows and columns
        fit: Fit = "contain"  # how radiographs get to this size: padded, so that nothing is cut off (our choice)
        pretraining_rounds: int = 3_700  # updates of the segmentor before there is a critic (our choice)
        game_rounds: int = 3_700  # updates of the segmentor against the critic (our choice)
        critic_steps: int = 1  # updates of the critic for each of the segmentor (our choice)
        batch_size: int = 10  # radiographs (our choice)
        width: int = 8  # channels of the segmentor at full size
        critic_width: int = 8  # channels of the critic at full size
        critic_sees_image: bool = False  # whether the critic is also shown the radiograph
        learning_rate: float = 2e-4  # Adam, both players (our choice)
        betas: tuple[float, float] = (0.9, 0.999)  # Adam, both players (our choice)
        adversarial_weight: float = Field(0.01, ge=0)  # weight of the adversarial loss; 0 trains without a critic

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (96, 96),
                "pretraining_rounds": 250,
                "game_rounds": 300,
                "batch_size": 4,
                "learning_rate": 1e-3,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, classes = config, len(config.regions)
        self.segmentor = ScanSegmentor(self.image_channels, classes, c.width)
        seen = classes + (self.image_channels if c.critic_sees_image else 0)
        self.critic = ScanCritic(seen, c.critic_width) if c.adversarial_weight else None

    def check_sizes(self) -> None:
        c = self.config
        check_input(self.segmentor, (c.batch_size, self.image_channels, *self.size), f"--size {self.size}")

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the radiographs that the networks are trained with."""
        rows, columns = self.config.size or (400, 400)
        return rows, columns

    @property
    def adversarial(self) -> bool:
        """Whether the segmentor is trained against a critic."""
        return self.critic is not None

    @property
    def exclusive(self) -> bool:
        return True

    @property
    def embedded(self) -> Embedded:
        return CHEST

    @property
    def cleaning(self) -> Cleaning:
        organs = tuple(name for name, labels in self.config.regions.items() if any(labels))
        return Cleaning(largest=organs, fill=organs)

    @property
    def measures(self) -> Sequence[Measure]:
        return (CARDIOTHORACIC,)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=STRIDE)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        segmentor = Player("segmentor", (self.segmentor,), moves)
        players, stream = [segmentor], self.annotated(c.batch_size, (1, *self.size))
        if self.critic:
            players.append(Player("critic", (self.critic,), moves, adversary=True))
        return [
            Stage("pretraining", partial(self.turns, None), [segmentor], c.pretraining_rounds, stream),
            Stage("game", partial(self.turns, self.critic), players, c.game_rounds, stream),
        ]

    def turns(self, critic: ScanCritic | None, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turns of a round, which are those of the segmentor alone where there is no critic."""
        for _ in range(self.config.critic_steps):
            if critic is None:
                break
            batch = next(batches)
            image, truth = self.image(batch), self.truth(batch)
            with torch.no_grad():
                maps = self.segmentor(image).softmax(1)
            real, fake = critic(self.shown(image, truth, truth)), critic(self.shown(image, maps, truth))
            losses = {"adversarial": nonsaturating_discriminator(real, fake)}
            yield Turn("critic", losses, scores={"real": real, "fake": fake})
        batch = next(batches)
        image, truth = self.image(batch), self.truth(batch)
        logits = self.segmentor(image)
        losses = {"pixel": cross_entropy(logits, truth)}
        if critic:
            fooled = critic(self.shown(image, logits.softmax(1), truth))
            losses["adversarial"] = self.config.adversarial_weight * nonsaturating_generator(fooled)
        yield Turn("segmentor", losses)

    def shown(self, image: Tensor, maps: Tensor, truth: Tensor) -> Tensor:
        """Return what the critic sees: maps (N, classes, H, W), 0 where the truth is unknown, and perhaps the image."""
        seen = maps.masked_fill(truth < 0, 0)
        return torch.cat([seen, image], 1) if self.config.critic_sees_image else seen

    def segment(self, image: Tensor) -> Tensor:
        probabilities: Tensor = self.segmentor(image).softmax(1)
        return probabilities
