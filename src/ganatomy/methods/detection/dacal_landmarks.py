"""Adversarial landmarks: points on the border of the prostate in ultrasound, and the contour that connects them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam
from ganatomy.images.augmentation import Augmentation
from ganatomy.images.frames import Plane
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.contours import contour_classes, contour_entropy, one_hot_classes
from ganatomy.losses.heatmaps import emphasised_error, gaussians, read_out
from ganatomy.nets.dacal import LandmarkContourNet, StructureDiscriminator
from ganatomy.nets.sizes import check_input
from ganatomy.phantoms.trus import SIX
from ganatomy.tasks.landmarks.task import Embedded, LandmarkConfig, Landmarks, Locator, Outline

PROSTATE = Embedded("prostate-us", size=256, subjects=40)
LEVELS = 5
"""Levels of the network, so that extents are multiples of 16."""


class DacalLandmarks(Locator):
    """Landmarks on the border of an organ, by a network that also learns how they are connected.

    A network predicts a heat map of every landmark, and the contour through all of them, whose pixels it gives to the
    nearest landmark. A discriminator that sees the frame with both tells true structures from predicted ones. It learns
    the landmarks alone at first, then the contour, then against the discriminator. Positions are read from the
    heat maps with fractions of pixels; the closed spline through them outlines the organ. Expects frames in which all
    landmarks lie.

    Tuysuzoglu et al., Deep Adversarial Context-Aware Landmark Detection for Ultrasound Imaging, MICCAI 2018,
    LNCS 11073. doi:10.1007/978-3-030-00937-3_18, arXiv 1805.10737.
    """

    dims = 2
    stated_augmentation = None

    class Config(LandmarkConfig):
        """The three losses of the paper; networks, weights and schedule are our choices."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "us": {"window": (0.0, 255.0)},
            "border": {"part": "points:border"},
        }

        image: str = "us"  # name of the frame
        landmarks: str = "border"  # name of the landmarks
        names: tuple[str, ...] = SIX  # names of the landmarks, in their order around the organ
        limit_mm: float = Field(10.0, gt=0)  # distance from which a landmark counts as missed (our choice)
        plane: Plane = "stored"  # plane of the slices
        spacing: tuple[float, float, float] | None = None  # mm between slices, rows and columns; none: as the size says
        size: tuple[int, ...] | None = (256, 256)  # rows and columns (our choice)
        width: int = 32  # channels of the network at full size (our choice)
        discriminator_width: int = 32  # channels of the discriminator behind its first layer (our choice)
        discriminator_sees: Literal["both", "contour"] = "both"  # maps that the discriminator is shown (our choice)
        condition: bool = True  # whether it is shown the frame, too (our choice)
        sigma: float = Field(5.0, gt=0)  # SD of the heat of a landmark in pixels (our choice)
        emphasis: float = Field(50.0, ge=0)  # weight of a landmark's pixels beside that of others (our choice)
        reach: float = Field(2.0, gt=0)  # pixels on either side of the contour that belong to it (our choice)
        background: float = Field(0.1, gt=0)  # weight of the contour's background (our choice)
        softness: float = Field(0.1, ge=0, lt=1)  # of the true contour that is shown (our choice)
        averaged: int = Field(
            10, ge=1, le=4096
        )  # pixels around the hottest one whose mean is the position (our choice)
        contour_weight: float = Field(1.0, ge=0)  # weight of the contour's cross-entropy (our choice)
        adversarial_weight: float = Field(
            0.01, ge=0
        )  # weight of the adversarial loss; 0: no discriminator (our choice)
        landmark_rounds: int = 7_500  # updates by the landmarks alone (our choice)
        contour_rounds: int = 7_500  # further updates by landmarks and contour (our choice)
        game_rounds: int = 10_000  # further updates against the discriminator (our choice)
        batch_size: int = 16  # frames (our choice)
        learning_rate: float = 1e-4  # Adam of the network (our choice)
        discriminator_learning_rate: float = 1e-4  # Adam of the discriminator (our choice)
        betas: tuple[float, float] = (0.9, 0.999)  # Adam of the network (our choice)
        discriminator_betas: tuple[float, float] = (0.5, 0.999)  # Adam of the discriminator (our choice)
        flips: tuple[int, ...] = (2,)  # axes along which frames are mirrored: 2 columns (our choice)
        speckle: float = Field(0.1, ge=0)  # SD of noise that multiplies training frames (our choice)
        augmentation: Augmentation = Augmentation(
            rotation=(15.0, 0.0, 0.0), scaling=0.1, shift=(0.0, 0.1, 0.1), gamma=1.5
        )  # random changes of training frames (our choice)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "width": 8,
                "discriminator_width": 8,
                "sigma": 2.0,
                "reach": 1.0,
                "averaged": 3,
                # At this learning rate a larger contour loss wipes out the landmarks when it begins.
                "contour_weight": 0.02,
                "adversarial_weight": 0.001,
                "landmark_rounds": 500,
                "contour_rounds": 300,
                "game_rounds": 300,
                "batch_size": 8,
                "learning_rate": 1e-3,
                "discriminator_learning_rate": 2e-4,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, count = config, len(config.names)
        if c.size is None or len(c.size) != 2:
            raise UserError("--size: give rows and columns of the frames")
        self.network = LandmarkContourNet(1, count, c.width, LEVELS)
        seen = (1 if c.condition else 0) + count + 1 + (count if c.discriminator_sees == "both" else 0)
        self.discriminator = StructureDiscriminator(seen, c.discriminator_width) if c.adversarial_weight else None

    def check_sizes(self) -> None:
        c = self.config
        check_input(self.network, (c.batch_size, 1, *self.size), f"--size {' '.join(map(str, self.size))}")

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the frames."""
        rows, columns = self.config.size or (256, 256)
        return rows, columns

    @property
    def adversarial(self) -> bool:
        """Whether the network is trained against a discriminator."""
        return self.discriminator is not None

    @property
    def embedded(self) -> Embedded:
        return PROSTATE

    def build_task(self) -> Landmarks:
        return Outline(self.config, self.embedded)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2 ** (LEVELS - 1))

    def stages(self) -> Sequence[Stage]:
        c = self.config
        network = Player("network", (self.network,), adam(c.learning_rate, c.betas))
        players, stream = [network], self.images(c.batch_size, (1, *self.size), flips=c.flips)
        if self.discriminator:
            moves = adam(c.discriminator_learning_rate, c.discriminator_betas)
            players.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        return [
            Stage("landmarks", partial(self.turns, False, None), [network], c.landmark_rounds, stream),
            Stage("contour", partial(self.turns, True, None), [network], c.contour_rounds, stream),
            Stage("game", partial(self.turns, True, self.discriminator), players, c.game_rounds, stream),
        ]

    def turns(
        self, contour: bool, discriminator: StructureDiscriminator | None, batches: Iterator[Batch]
    ) -> Iterator[Turn]:
        """Yield the turns of a round; without a discriminator it is that of the network alone."""
        c = self.config
        batch = next(batches)
        points = batch[c.landmarks]
        frame = self.speckled(batch[c.image])
        heat = gaussians(points, frame.shape[2:], c.sigma)
        classes = contour_classes(points, frame.shape[2:], c.reach) if contour else None
        logits, contour_logits = self.network(frame)
        maps, outline = logits.sigmoid(), contour_logits.softmax(1)
        if discriminator and classes is not None:
            true = one_hot_classes(classes, len(c.names) + 1, c.softness)
            real = discriminator(self.shown(frame, heat, true))
            fake = discriminator(self.shown(frame, maps.detach(), outline.detach()))
            losses = {"adversarial": nonsaturating_discriminator(real, fake)}
            yield Turn("discriminator", losses, scores={"real": real, "fake": fake})
        losses = {"landmarks": emphasised_error(maps, heat, c.emphasis)}
        if classes is not None and c.contour_weight:
            losses["contour"] = c.contour_weight * contour_entropy(contour_logits, classes, c.background)
        if discriminator:
            fooled = discriminator(self.shown(frame, maps, outline))
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(fooled)
        yield Turn("network", losses)

    def speckled(self, frame: Tensor) -> Tensor:
        """Return training frames (N, 1, H, W) times random numbers around 1, from 0 to 1."""
        if not self.config.speckle:
            return frame
        noise = self.noise.normal(len(frame), *frame.shape[1:]).to(frame)
        return (frame * (1 + self.config.speckle * noise)).clamp(0, 1)

    def shown(self, frame: Tensor, maps: Tensor, outline: Tensor) -> Tensor:
        """Return what the discriminator sees, (N, channels, H, W)."""
        c = self.config
        parts = [frame] if c.condition else []
        return torch.cat([*parts, *([maps] if c.discriminator_sees == "both" else []), outline], 1)

    def locate(self, image: Tensor) -> Tensor:
        logits, _ = self.network(image)
        return read_out(logits.sigmoid(), self.config.averaged)
