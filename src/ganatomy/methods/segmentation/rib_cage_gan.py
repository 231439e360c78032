"""Rib Cage GAN: cells are segmented by a network that true outlines reach only through a discriminator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import exp
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad, softplus

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Stream, Tiling, Turn, rmsprop
from ganatomy.losses.segmentation import cross_entropy
from ganatomy.nets.aids import own_statistics
from ganatomy.nets.ribcage import BONES, CellEstimator, PlainDiscriminator, Release, RibCage
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.rules import ObjectRules
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

MARGIN = 10
"""Pixels per side that the estimator needs around its output."""
WHOLE = 4096
"""Rows and columns of a tile, so large that a frame is normalised as a whole."""
CELLS = Embedded("fluorescent-cells", subjects=16)
DISCRIMINATORS = {"rib-cage": RibCage, "plain": PlainDiscriminator}


class RibCageGAN(Segmenter):
    """Segmentation of cells into interior, edge and background, taught by a discriminator alone.

    The discriminator sees images with true segmentations, and other images with those of the estimator; no loss
    compares the estimator's output with the truth of the same image. Its "rib cage" has a stream for the image, one for
    the segmentation, and one that joins both at every level. Edges keep touching cells apart: cells are connected
    components of the interior, enlarged by the pixel that their edge takes.

    Arbelle & Riklin Raviv, Microscopy Cell Segmentation via Adversarial Neural Networks, ISBI 2018, 645-648.
    arXiv 1709.05860.
    """

    stated_augmentation = "cut at random places, mirrored, and turned by 0 or 90 degrees"

    class Config(SegmentationConfig):
        """The numbers of the authors' code at the time of the paper; the preset ``code`` follows their last version."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "inputs": {"scale": "zscore", "over": "all"},
            "labels": {"part": "instances:cells"},
        }

        inputs: tuple[str, ...] = ("image",)  # fluorescence image, as z-scores (our choice)
        labels: str = "cells"  # name of the instance map
        regions: Mapping[str, tuple[int, ...]] = {"background": (0,), "interior": (1,), "edge": (2,)}  # classes
        judged: Mapping[str, tuple[int, ...]] = {"cell": (1, 2)}  # regions that are judged
        instances: bool = True  # whether the label map numbers cells; without, its labels are 1 inside, 2 at edges
        objects: ObjectRules = ObjectRules(smallest=50, grow=1)  # rules by which cells are made from the interior
        release: Release = "2017"  # version of the authors' code: kernels, numbers of channels, and norms
        width: int = 16  # channels of the estimator's first layer
        critics: bool = True  # whether there is a discriminator; without, the estimator learns by cross-entropy
        discriminator: Literal["rib-cage", "plain"] = "rib-cage"  # plain: VGG-16 of image and segmentation together
        discriminator_width: int = 8  # channels of the first block's sides; all others of the discriminator follow
        game_rounds: int = 1200  # rounds of 50 updates (our choice; good checkpoints lie between 8,000 and 60,000)
        discriminator_steps: int = Field(10, ge=1)  # updates of the discriminator in a round
        estimator_steps: int = Field(40, ge=1)  # updates of the estimator in a round
        batch_size: int = 70  # images with true segmentations, and as many with predicted ones
        patch: int = 236  # rows and columns of a segmentation; crops of images are 20 pixels larger
        learning_rate: float = 1e-3  # RMSprop, both players
        ema_halflife: float | None = None  # images; average of the estimator used at inference (our option)
        entropy_fraction: float = Field(0.0, ge=0, le=1)  # share of the cross-entropy in the estimator's loss
        ascent: float = Field(0.0, ge=0)  # updates over which the adversarial share rises as 1 - exp(-t / ascent)
        statistics: Literal["image", "running"] = "image"  # of norms at inference: those of each image, or averages

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "code": {
                "release": "2018",
                "discriminator_width": 32,
                "discriminator_steps": 20,
                "estimator_steps": 20,
                "batch_size": 200,
                "patch": 108,
            },
            "small": {
                "width": 8,
                "discriminator_width": 4,
                "game_rounds": 90,
                "discriminator_steps": 3,
                "estimator_steps": 6,
                "batch_size": 6,
                "patch": 64,
                "objects": {"smallest": 15, "grow": 1},
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"critics": False}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, channels = config, self.image_channels
        self.estimator = CellEstimator(channels, len(c.regions), c.width, c.release)
        made = DISCRIMINATORS[c.discriminator]
        size, factor = (c.patch, c.patch), c.discriminator_width / BONES[c.release][0][1]
        self.critic = made(channels, len(c.regions), size, factor, c.release) if c.critics else None
        if c.critics and c.entropy_fraction == 1:
            raise UserError("--entropy-fraction 1: nothing is left of the adversary; train with --no-critics")

    def check_sizes(self) -> None:
        least = 2 ** (3 if self.config.discriminator == "rib-cage" else 4)
        if self.config.patch < least:
            raise UserError(f"--patch {self.config.patch}: the discriminator needs at least {least} rows and columns")

    @property
    def adversarial(self) -> bool:
        """Whether the estimator is trained against a discriminator."""
        return self.critic is not None

    @property
    def exclusive(self) -> bool:
        return True

    @property
    def embedded(self) -> Embedded:
        return CELLS

    @property
    def tiling(self) -> Tiling:
        return Tiling(margin=(0, MARGIN, MARGIN), tile=(1, WHOLE, WHOLE))

    def inference_mode(self) -> Self:
        self.eval()
        if self.config.statistics == "image":
            own_statistics(self.estimator)
        return self

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = rmsprop(c.learning_rate, 0.9)
        players = [Player("estimator", (self.estimator,), moves, ema_halflife=c.ema_halflife)]
        if self.critic:
            players.insert(0, Player("discriminator", (self.critic,), moves, adversary=True))
        # Segmentations are cut with the same margin, so that edges at the border of the patch are those of whole cells.
        options: dict[str, Any] = {
            "margin": (0, MARGIN, MARGIN), "flips": (1, 2), "quarter_turns": True, "wide": frozenset(self.task.roles),
        }  # fmt: skip
        patch = (1, c.patch, c.patch)
        examples = self.annotated(c.batch_size, patch, "examples", **options)
        images = Stream("images", c.inputs, c.batch_size, patch, augmentation=c.augmentation, **options)
        return [Stage("segment", self.turns, players, c.game_rounds, [examples, images])]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        if self.critic:
            for _ in range(c.discriminator_steps):
                batch = next(batches)
                with torch.no_grad():
                    fake = self.maps(self.image(batch["images"])).softmax(1)
                real, scored = self.scores(batch, fake)
                # The mean over true and predicted segmentations together.
                loss = 0.5 * (softplus(-real).mean() + softplus(scored).mean())
                yield Turn("discriminator", adversarial=loss, scores={"real": real, "fake": scored})
        for step in range(c.estimator_steps):
            batch = next(batches)
            share = self.adversarial_share(step)
            losses = {}
            if self.critic:
                # Norms see both halves at once, so that the true half, too, depends on the estimator.
                real, scored = self.scores(batch, self.maps(self.image(batch["images"])).softmax(1))
                losses["adversarial"] = share * 0.5 * (softplus(real).mean() + softplus(-scored).mean())
            if not self.critic or c.entropy_fraction or c.ascent:
                examples = batch["examples"]
                losses["entropy"] = (1 - share) * cross_entropy(
                    self.maps(self.image(examples)), self.inner_truth(examples)
                )
            yield Turn("estimator", losses)

    def adversarial_share(self, step: int) -> float:
        """Return the share of the adversarial loss at an update of the estimator, 0 without a discriminator.

        Args:
            step: number of the update in the round; updates of both players are counted.
        """
        c = self.config
        if not self.critic:
            return 0.0
        updates = self.progress.stage_round * (c.discriminator_steps + c.estimator_steps) + c.discriminator_steps + step
        risen = 1 - exp(-updates / c.ascent) if c.ascent else 1.0
        return (1 - c.entropy_fraction) * risen

    def scores(self, batch: Batch, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Return the discriminator's scores of examples and of other images with maps, scored as one batch."""
        assert self.critic is not None
        images = [_inner(self.image(batch[name])) for name in ("examples", "images")]
        maps = torch.cat([self.inner_truth(batch["examples"]).clamp_min(0), fake])
        real, scored = self.critic(torch.cat(images), maps).chunk(2)
        return real, scored

    def inner_truth(self, batch: Batch) -> Tensor:
        """Return the true classes without the margin, (N, classes, H, W)."""
        return _inner(self.truth(batch))

    def maps(self, image: Tensor) -> Tensor:
        """Return logits of the classes, (N, classes, H, W), 10 pixels per side smaller than the image."""
        # The even kernel of the last version loses a pixel more, at the end of rows and columns.
        even = self.config.release == "2018"
        return self.estimator(pad(image, (0, 1, 0, 1), "replicate") if even else image)  # type: ignore[no-any-return]

    def segment(self, image: Tensor) -> Tensor:
        return self.maps(image).softmax(1)


def _inner(image: Tensor) -> Tensor:
    return image[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
