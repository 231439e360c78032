"""Skin lesions in ordinary photographs: pix2pix from photograph to mask, and the boxes around its components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate, l1_loss

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam, linear_decay
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import keep_dropout, own_statistics
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.sizes import check_input
from ganatomy.nets.unet import Pix2PixUNet
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.lesions import LesionConfig, LesionDetector

PHOTOGRAPHS = Embedded("skin-photograph", size=64, subjects=160)


class SkinLesionCGAN(LesionDetector):
    """Detection of pigmented and other skin lesions in photographs, with a U-Net and a discriminator of patches.

    The U-Net draws the mask of the lesions, the discriminator tells drawn masks from true ones beside the photograph;
    a lesion is a connected component of the mask. The paper adapts pix2pix in a way that is not known, so that layers
    and numbers are those of its release in Torch (Isola et al., arXiv 1611.07004). What counts as a correct detection
    is not known, either: three criteria are reported.

    Udrea & Mitra, Generative Adversarial Neural Networks for Pigmented and Non-Pigmented Skin Lesions Detection in
    Clinical Images, CSCS 2017, 364-368.
    """

    stated_augmentation = None
    criteria = ("iou 0.5", "centre", "dice 0.7")

    class Config(LesionConfig):
        """The numbers of pix2pix in Torch; the preset ``port`` follows its port to PyTorch."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            **LesionConfig.role_defaults,
            "inputs": {"channels": 3, "window": (0.0, 255.0), "unit": None},
            "lesion": {"part": "mask:lesion"},
        }

        inputs: tuple[str, ...] = ("image",)  # names of the photographs, in order of channels
        labels: str = "lesion"  # name of the mask
        regions: Mapping[str, tuple[int, ...]] = {"lesion": (1,)}  # label of the lesions
        size: tuple[int, ...] | None = (256, 256)  # rows and columns that a photograph is brought to
        fit: Fit = "contain"  # how it gets to this size: scaled and padded, so that nothing is cut off (our choice)
        smallest_share: float = Field(
            0.001, ge=0, lt=1
        )  # smaller lesions, as share of a photograph, are removed (ours)
        mask_channels: Literal[1, 3] = 1  # channels of the mask that is drawn; 3 are a grey picture, as in pix2pix
        levels: int = Field(8, ge=2)  # stride-2 steps of the U-Net; sizes are multiples of 2**levels
        width: int = 64  # channels of the U-Net's first level
        dropout: float = 0.5  # dropout rate in the U-Net's inner decoder
        dropout_at_inference: bool = False  # as in pix2pix; results then differ from call to call
        discriminator_width: int = 64  # channels of the discriminator's first layer
        discriminator_strided: int = 3  # its stride-2 layers; 1 to 4 see patches of 16, 34, 70, 142 pixels
        ported: bool = False  # whether networks are those of the port: with biases at the ends, later dropouts
        jitter: int = 30  # pixels by which photographs are enlarged before a random part is cut out; 0 never
        flips: tuple[int, ...] = (2,)  # axes along which photographs are mirrored at random: 1 rows, 2 columns
        batch_size: int = 1  # photographs
        game_rounds: int = 600_000  # updates of each player; 200 epochs of 3000 photographs (our choice)
        learning_rate: float = 2e-4  # Adam, both players
        schedule: Literal["constant", "linear"] = "constant"  # its rate: constant, or falling to 0 in the second half
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        l1_weight: float = 100.0  # weight of the mean absolute difference of drawn and true masks
        adversarial_weight: float = Field(1.0, ge=0)  # weight of the game; 0 trains the U-Net with the L1 loss alone

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "port": {"ported": True, "schedule": "linear"},
            "half-size": {"size": (128, 128), "levels": 7, "jitter": 15},
            "small": {
                "size": (64, 64),
                "levels": 5,
                "width": 16,
                "dropout": 0.0,
                "discriminator_width": 16,
                "discriminator_strided": 2,
                "jitter": 6,
                "batch_size": 4,
                "game_rounds": 2_000,
                "learning_rate": 1e-3,
                "schedule": "linear",
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if c.size is None or len(c.size) != 2:
            raise UserError("--size: the networks see whole photographs; give rows and columns, such as --size 256 256")
        if any(extent % 2**c.levels for extent in c.size):
            raise UserError(
                f"--levels {c.levels}: rows and columns must be multiples of {2**c.levels}, but --size is "
                f"{' '.join(map(str, c.size))}"
            )
        made = c.mask_channels * len(c.regions)
        self.generator = Pix2PixUNet(
            self.image_channels, made, c.width, c.levels, "batch", c.dropout, biased=c.ported, late=c.ported
        )
        init_pix2pix(self.generator, c.width)
        self.discriminator = None
        if c.adversarial_weight:
            seen, strided = self.image_channels + made, c.discriminator_strided
            self.discriminator = PatchGAN(seen, c.discriminator_width, strided, biased_ends=c.ported)
            init_pix2pix(self.discriminator, c.discriminator_width)

    @property
    def adversarial(self) -> bool:
        """Whether the U-Net is trained against a discriminator."""
        return self.discriminator is not None

    @property
    def embedded(self) -> Embedded:
        return PHOTOGRAPHS

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.levels)

    def check_sizes(self) -> None:
        rows, columns = self.config.size or ()
        option, given = f"--size {rows} {columns}", self.image_channels
        check_input(self.generator, (2, given, rows, columns), option)
        if self.discriminator is not None:
            made = self.config.mask_channels * len(self.config.regions)
            check_input(self.discriminator, (2, given + made, rows, columns), option)

    def inference_mode(self) -> Self:
        self.eval()
        own_statistics(self.generator)
        if self.config.dropout_at_inference:
            keep_dropout(self.generator)
        return self

    def stages(self) -> Sequence[Stage]:
        c = self.config
        rows, columns = c.size or ()
        moves, rate = adam(c.learning_rate, c.betas), linear_decay(0.5) if c.schedule == "linear" else None
        players = [Player("generator", (self.generator,), moves, rate)]
        if self.discriminator is not None:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, rate, adversary=True))
        stream = self.annotated(c.batch_size, (1, rows, columns), flips=c.flips)
        return [Stage("game", self.turns, players, c.game_rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        image, truth = self.jittered(self.image(batch), self.truth(batch))
        photograph, true = 2 * image - 1, self.masks(truth)
        drawn = self.generator(photograph).tanh().masked_fill(true == 0, 0)
        if self.discriminator is not None:
            real = self.discriminator(torch.cat([photograph, true], 1))
            fake = self.discriminator(torch.cat([photograph, drawn.detach()], 1))
            # Halved as the paper of pix2pix has it; with Adam that changes nothing but the number that is logged.
            told = 0.5 * nonsaturating_discriminator(real, fake)
            yield Turn("discriminator", {"adversarial": told}, scores={"real": real, "fake": fake})
        losses = {"l1": c.l1_weight * l1_loss(drawn, true)}
        if self.discriminator is not None:
            # The release takes the scores from before the step of the discriminator, with its new weights.
            scores = self.discriminator(torch.cat([photograph, drawn], 1))
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(scores)
        yield Turn("generator", losses)

    def masks(self, truth: Tensor) -> Tensor:
        """Return true masks as the networks see them: -1 outside, 1 inside, 0 where unknown, a grey picture each."""
        masks = (2 * truth - 1).masked_fill(truth < 0, 0)
        return masks.repeat_interleave(self.config.mask_channels, 1)

    def jittered(self, image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Enlarge photographs and masks slightly, and cut both at the same random places; masks stay sharp."""
        more, (rows, columns) = self.config.jitter, image.shape[2:]
        if not more:
            return image, truth
        larger = (rows + more, columns + more)
        photographs, masks = interpolate(image, larger, mode="bilinear"), interpolate(truth, larger, mode="nearest")
        corners = (self.noise.uniform(len(image), 2) * (more + 1)).long().clamp_max(more).tolist()
        both = (
            torch.stack(
                [
                    one[:, top : top + rows, left : left + columns]
                    for one, (top, left) in zip(all_, corners, strict=True)
                ]
            )
            for all_ in (photographs, masks)
        )
        found, cut = both
        return found, cut

    def segment(self, image: Tensor) -> Tensor:
        drawn = self.generator(2 * image - 1).tanh().unflatten(1, (-1, self.config.mask_channels))
        return 0.5 * (drawn.mean(2) + 1)  # type: ignore[no-any-return]
