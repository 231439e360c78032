"""Aggressive prostate cancer by segmentation: a U-Net that a discriminator of whole label maps teaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.game import Balanced, Batch, Player, Stage, Tiling, Turn, adam
from ganatomy.images.augmentation import Augmentation
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import (
    least_squares_discriminator,
    least_squares_generator,
    nonsaturating_discriminator,
    nonsaturating_generator,
)
from ganatomy.losses.segmentation import cross_entropy, squared_error, within_known
from ganatomy.nets.kohl import HALVINGS, SlopedNorm, TransposedUNet, WholeMapDiscriminator
from ganatomy.nets.sizes import check_input
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.expectations import REGISTERED, Expectation
from ganatomy.tasks.segmentation.lesions import LesionConfig, LesionDetector

PROSTATE = Embedded("prostate-mr", size=64, grid={"slices": 12}, subjects=48)
BENT = Augmentation(rotation=(10.0, 0.0, 0.0), elastic=1.0, elastic_smoothness=15.0)
"""Slices that are rotated and bent a little (our choice)."""
CLIPPED = 5.0
"""Standard deviations that images are clipped to (our choice)."""


class AdversarialUNet(LesionDetector):
    """Detection of aggressive prostate cancer in multi-parametric MR, taught by a discriminator in place of pixels.

    A U-Net segments the zones of the prostate and its lesions. A discriminator sees the images beside a label map and
    tells whether an expert drew it; the U-Net has to convince it, and sees the expert's map through it alone. A loss of
    pixels beside it, or in its place, is an option. The discriminator is shown softened maps of experts, since it would
    else know them by their sharpness. Layers and numbers are a reconstruction. Expects registered images on one grid;
    slices are segmented one by one and stacked.

    Kohl et al., Adversarial Networks for the Detection of Aggressive Prostate Cancer, 2017. arXiv 1702.08014.
    """

    stated_augmentation = None
    criteria = ("iou 0.1", "touch", "centre")

    class Config(LesionConfig):
        """Our reconstruction of what the paper proposes; other readings of its loss are presets."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "inputs": {"scale": "zscore", "over": "all"},
            "adc": {"scale": "window", "window": (0.0, 3000.0)},
            "prostate": {"part": "labels:prostate"},
        }

        inputs: tuple[str, ...] = ("t2w", "adc", "dwi")  # registered images: T2-weighted, ADC, high b-value
        labels: str = "prostate"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = {  # classes, the background first
            "background": (0,),
            "transition": (1,),
            "peripheral": (2,),
            "lesion": (3,),
        }
        size: tuple[int, ...] | None = (416, 416)  # rows and columns that slices are cropped or padded to
        fit: Fit = "centre"  # how images get to this size: cropped and padded, not scaled (our choice)
        smallest_lesion: int = Field(5, ge=0, le=1_000_000)  # lesions of fewer voxels are removed (our choice)
        width: int = 64  # channels of the first level of the U-Net (our choice)
        norm: SlopedNorm = "instance"  # norms of the contracting path, also of the rest of the U-Net, or none
        discriminator_width: int = 64  # channels of the first layer of the discriminator (our choice)
        condition_on_image: bool = True  # whether the discriminator also sees the images (our choice)
        positions: bool = True  # whether its score depends on places, not on averages over the whole map (our choice)
        game: Literal["nonsaturating", "least-squares"] = "nonsaturating"  # adversarial losses of both players
        softened: float = Field(0.1, ge=0, lt=1)  # probability of other classes in experts' maps that it is shown
        adversarial_weight: float = Field(1.0, ge=0)  # weight of the adversarial loss; 0 trains without discriminator
        pixel_loss: Literal["none", "squared", "cross-entropy"] = "none"  # loss of pixels beside it
        pixel_weight: float = Field(1.0, gt=0)  # weight of the loss of pixels, where there is one
        warm_up_rounds: int = Field(0, ge=0)  # rounds with the cross-entropy alone before there is a discriminator
        game_rounds: int = 20_000  # rounds of the game; each updates both players once (our choice)
        batch_size: int = 8  # slices (our choice)
        with_lesion: float = Field(0.5, ge=0, le=1)  # share of the slices that show a lesion (our choice)
        flips: tuple[int, ...] = (2,)  # axes along which slices are mirrored at random: 1 rows, 2 columns (our choice)
        augmentation: Augmentation = BENT  # random changes of training slices
        learning_rate: float = 1e-4  # Adam, both players (our choice)
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players (our choice)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "squared": {"pixel_loss": "squared", "warm_up_rounds": 500},
            "hybrid": {"pixel_loss": "cross-entropy", "adversarial_weight": 0.1, "warm_up_rounds": 500},
            "small": {
                "size": (64, 64),
                # 0.2 ml of the phantom: maps of so small a U-Net are speckled.
                "smallest_lesion": 30,
                "width": 8,
                "discriminator_width": 16,
                "game_rounds": 2_400,
                "learning_rate": 4e-4,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0, "pixel_loss": "cross-entropy"}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, classes = config, len(config.regions)
        if not c.adversarial_weight and c.pixel_loss == "none":
            raise UserError("--adversarial-weight 0: no loss is left; add --pixel-loss cross-entropy")
        if c.size is None or len(c.size) != 2:
            raise UserError(
                "--size: the discriminator sees whole slices; give rows and columns, such as --size 416 416"
            )
        self.segmentor = TransposedUNet(self.image_channels, classes, c.width, c.norm)
        self.shown_channels = classes + (self.image_channels if c.condition_on_image else 0)
        self.discriminator = (
            WholeMapDiscriminator(self.shown_channels, c.discriminator_width, c.positions)
            if c.adversarial_weight
            else None
        )

    @property
    def adversarial(self) -> bool:
        """Whether the U-Net is trained against a discriminator."""
        return self.discriminator is not None

    @property
    def exclusive(self) -> bool:
        return True

    @property
    def embedded(self) -> Embedded:
        return PROSTATE

    @property
    def expected(self) -> Sequence[Expectation]:
        return (REGISTERED,)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**HALVINGS)

    def check_sizes(self) -> None:
        rows, columns = self.config.size or ()
        option = f"--size {rows} {columns}"
        check_input(self.segmentor, (1, self.image_channels, rows, columns), option)
        if self.discriminator is not None:
            check_input(self.discriminator, (1, self.shown_channels, rows, columns), option)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        rows, columns = c.size or ()
        moves = adam(c.learning_rate, c.betas)
        segmentor = Player("segmentor", (self.segmentor,), moves)
        players = [segmentor]
        if self.discriminator is not None:
            players.append(Player("discriminator", (self.discriminator,), moves, adversary=True))
        lesions = dict.fromkeys(c.regions[c.lesion_region], c.with_lesion / len(c.regions[c.lesion_region]))
        stream = replace(
            self.annotated(c.batch_size, (1, rows, columns), flips=c.flips),
            place=Balanced(c.labels, lesions) if c.with_lesion else None,
        )
        game = Stage("game", partial(self.turns, False), players, c.game_rounds, stream)
        if not c.warm_up_rounds:
            return [game]
        return [Stage("warm-up", partial(self.turns, True), [segmentor], c.warm_up_rounds, stream), game]

    def turns(self, warm_up: bool, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turns of a round, in the warm-up that of the U-Net with the cross-entropy alone."""
        c = self.config
        batch = next(batches)
        image, truth = self.image(batch), self.truth(batch)
        if warm_up:
            yield Turn("segmentor", {"cross-entropy": cross_entropy(self.logits(image), truth)})
            return
        if self.discriminator is not None:
            with torch.no_grad():
                drawn = self.logits(image).softmax(1)
            real = self.discriminator(self.shown(image, softer(truth, c.softened), truth))
            fake = self.discriminator(self.shown(image, drawn, truth))
            told = (
                nonsaturating_discriminator(real, fake)
                if c.game == "nonsaturating"
                else 2 * least_squares_discriminator(real, fake)
            )
            yield Turn("discriminator", {"adversarial": told}, scores={"real": real, "fake": fake})
        logits = self.logits(image)
        losses = {}
        if self.discriminator is not None:
            score = self.discriminator(self.shown(image, logits.softmax(1), truth))
            fooled = nonsaturating_generator if c.game == "nonsaturating" else least_squares_generator
            losses["adversarial"] = c.adversarial_weight * fooled(score)
        if c.pixel_loss == "squared":
            losses["pixel"] = c.pixel_weight * squared_error(logits.softmax(1), truth)
        elif c.pixel_loss == "cross-entropy":
            losses["pixel"] = c.pixel_weight * cross_entropy(logits, truth)
        yield Turn("segmentor", losses)

    def logits(self, image: Tensor) -> Tensor:
        """Return the logits of the classes, (N, classes, H, W), of images (N, channels, H, W)."""
        return self.segmentor(image.clamp(-CLIPPED, CLIPPED))  # type: ignore[no-any-return]

    def shown(self, image: Tensor, maps: Tensor, truth: Tensor) -> Tensor:
        """Return what the discriminator sees: maps, 0 where the truth is not known, and perhaps the images first."""
        seen = within_known(maps, truth)
        return torch.cat([image.clamp(-CLIPPED, CLIPPED), seen], 1) if self.config.condition_on_image else seen

    def segment(self, image: Tensor) -> Tensor:
        return self.logits(image).softmax(1)


def softer(truth: Tensor, share: float) -> Tensor:
    """Return indicators of classes with a share of their probability spread over the other classes; unknown ones stay.

    Args:
        truth: 1 in the channel of a voxel's class and 0 in the others, or -1 where it is unknown, (N, classes, ...).
        share: probability of all other classes together.
    """
    spread = share / max(truth.shape[1] - 1, 1)
    return torch.where(truth < 0, truth, spread + truth * (1 - share - spread))
