"""Optic disc and cup together: a residual U-Net against a discriminator of photograph and label map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.segmentation import cross_entropy
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.resunet import ResUNet
from ganatomy.nets.sizes import check_input
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.kinds import PHOTOGRAPH
from ganatomy.tasks.segmentation.measures import NAMED, Measure
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter


class OpticDiscCGAN(Segmenter):
    """Segmentation of optic disc and cup as one label map, made from a photograph as in pix2pix.

    The generator draws one channel for each of background, rim and cup; a discriminator of patches tells drawn maps
    from true ones beside the photograph, or in the plain variant without it. The cup-to-disc ratio follows from the
    label map, in which the disc is the rim together with the cup.

    Shankaranarayana et al., Joint Optic Disc and Cup Segmentation Using Fully Convolutional and Adversarial Networks,
    FIFI 2017, LNCS 10554:168-176. doi:10.1007/978-3-319-67561-9_19. The preset ``small`` differs from the paper:

    - Beside the adversary it learns from the cross-entropy of a softmax; the paper from the L1 loss of maps in [-1, 1].
      That loss is least for the most frequent class of every pixel: in the one run that was tried, of 200 rounds, a
      narrow network found neither disc nor cup by it.
    """

    stated_augmentation = None

    class Config(SegmentationConfig):
        """The variants of the paper; numbers are our choice, those of losses and players the ones of pix2pix."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            **SegmentationConfig.role_defaults,
            "inputs": PHOTOGRAPH,
            "disc_cup": {"part": "labels:disc_cup"},
        }

        inputs: tuple[str, ...] = ("image",)  # names of the photographs, in order of channels
        labels: str = "disc_cup"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = {"background": (0,), "rim": (1,), "cup": (2,)}  # label of each class
        judged: Mapping[str, tuple[int, ...]] = {"disc": (1, 2), "cup": (2,)}  # regions that are judged
        size: tuple[int, ...] | None = (256, 256)  # rows and columns that a picture around the disc is brought to
        adversary: Literal["conditional", "plain", "none"] = "conditional"  # whether it sees the photograph, too
        loss: Literal["l1", "cross-entropy"] = "l1"  # loss of pixels beside the adversarial one
        widths: tuple[int, ...] = (64, 128, 256, 512, 512)  # channels of the levels of the generator
        critic_width: int = 64  # channels of the first layer of the discriminator
        batch_size: int = 4  # pictures
        flips: tuple[int, ...] = (2,)  # axes along which pictures are mirrored at random: 1 rows, 2 columns
        game_rounds: int = 5000  # rounds; 200 passes through 99 pictures
        learning_rate: float = 2e-4  # learning rate of both players
        pixel_weight: float = 100.0  # weight of the loss of pixels

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "widths": (16, 32, 64, 64, 64),
                "critic_width": 16,
                "batch_size": 4,
                "game_rounds": 600,
                # The L1 loss of maps loses cups in such narrow networks: no cup at all is the median of its channel.
                "loss": "cross-entropy",
                "learning_rate": 1e-3,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversary": "none", "loss": "cross-entropy"}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, classes = config, len(config.regions)
        if c.adversary == "none" and not c.pixel_weight:
            raise UserError("--adversary none: no loss has a weight; give --pixel-weight")
        if c.size is None or len(c.size) != 2:
            raise UserError("--size: the networks see whole pictures; give rows and columns, such as --size 256 256")
        self.generator = ResUNet(self.image_channels, classes, c.widths)
        init_pix2pix(self.generator, c.widths[0])
        self.shown_channels = classes + (self.image_channels if c.adversary == "conditional" else 0)
        self.discriminator = PatchGAN(self.shown_channels, c.critic_width) if c.adversary != "none" else None
        if self.discriminator is not None:
            init_pix2pix(self.discriminator, c.critic_width)

    @property
    def adversarial(self) -> bool:
        """Whether the generator is trained against a discriminator."""
        return self.discriminator is not None

    @property
    def exclusive(self) -> bool:
        return True

    @property
    def measures(self) -> Sequence[Measure]:
        return NAMED["cup-to-disc"]

    @property
    def embedded(self) -> Embedded:
        return Embedded("fundus", grid={"around_disc": 4.5, "cup": (0.25, 0.8)}, subjects=60)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2 ** (len(self.config.widths) - 1))

    def check_sizes(self) -> None:
        rows, columns = self.config.size or ()
        option = f"--size {rows} {columns}"
        check_input(self.generator, (1, self.image_channels, rows, columns), option)
        if self.discriminator is not None:
            check_input(self.discriminator, (1, self.shown_channels, rows, columns), option)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        rows, columns = c.size or ()
        moves = adam(c.learning_rate, (0.5, 0.999))
        players = [Player("generator", (self.generator,), moves)]
        if self.discriminator is not None:
            players.append(Player("discriminator", (self.discriminator,), moves, adversary=True))
        stream = self.annotated(c.batch_size, (1, rows, columns), flips=c.flips)
        return [Stage("segment", self.turns, players, c.game_rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        image, truth = self.image(batch), self.truth(batch)
        known = truth >= 0
        true = (2 * truth - 1).masked_fill(~known, 0)
        logits = self.logits(image)
        drawn = self.maps(logits).masked_fill(~known, 0)
        if self.discriminator is not None:
            real, fake = self.score(image, true), self.score(image, drawn.detach())
            adversarial = 0.5 * nonsaturating_discriminator(real, fake)
            yield Turn("discriminator", scores={"real": real, "fake": fake}, adversarial=adversarial)
        losses = {}
        if c.pixel_weight:
            pixels = l1_loss(drawn, true) if c.loss == "l1" else cross_entropy(logits, truth)
            losses["pixel"] = c.pixel_weight * pixels
        if self.discriminator is not None:
            losses["adversarial"] = nonsaturating_generator(self.score(image, drawn))
        yield Turn("generator", losses)

    def logits(self, image: Tensor) -> Tensor:
        """Return what the generator draws of images in [0, 1], (N, classes, H, W), before its last activation."""
        return self.generator(2 * image - 1)  # type: ignore[no-any-return]

    def maps(self, logits: Tensor) -> Tensor:
        """Return maps of the classes in [-1, 1], (N, classes, H, W)."""
        return logits.tanh() if self.config.loss == "l1" else 2 * logits.softmax(1) - 1

    def score(self, image: Tensor, maps: Tensor) -> Tensor:
        """Return the scores of patches of label maps, and of the image beside them where the adversary sees it."""
        assert self.discriminator is not None
        seen = torch.cat([2 * image - 1, maps], 1) if self.config.adversary == "conditional" else maps
        return self.discriminator(seen)  # type: ignore[no-any-return]

    def segment(self, image: Tensor) -> Tensor:
        return 0.5 * (self.maps(self.logits(image)) + 1)
