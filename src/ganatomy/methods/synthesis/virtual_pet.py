"""Virtual PET: FDG-PET predicted from CT by a fully convolutional network and a conditional GAN, which are blended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Stream, Tiling, Turn, adam, linear_decay
from ganatomy.images.augmentation import Augmentation
from ganatomy.images.codecs import Window
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.uptake import split_squared_error
from ganatomy.nets.aids import keep_dropout, own_statistics
from ganatomy.nets.fcn import FCN4s, as_natural_image
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.unet import Pix2PixUNet
from ganatomy.phantoms.embedded import Embedded
from ganatomy.physics.slices import gaussian_means
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.translation.task import TranslationConfig, Translator

SOFT_TISSUE = (-160.0, 240.0)
"""HU that are mapped to the range of the networks."""
STRIDE = 32
"""Pixels of a side to one pixel of the coarsest map of the FCN."""


class VirtualPET(Translator):
    """Prediction of FDG-PET in SUV from CT, for lesions of the liver.

    A fully convolutional network of stride 4 finds tumours, but its images are blurred; a conditional GAN makes sharp
    images, but too little uptake in tumours. The image of the former is taken where it shows uptake above a threshold,
    that of the latter elsewhere. Both networks are trained one after the other, from slices of CT and PET of one
    session; the former sees the slices above and below, too, and at the ends of a scan the last slice twice.

    Ben-Cohen, Klang, Raskin, Amitai & Greenspan, Virtual PET Images from CT Data Using Deep Convolutional Networks:
    Initial Results, SASHIMI 2017, LNCS 10557, 49-57. arXiv 1707.09585. The loss that weighs high and low uptake alike
    is of its successor, arXiv 1802.07846. Layers and numbers that neither is known to give are those of FCN-4s (Long et
    al., arXiv 1411.4038), without its dense layers, and of the release of pix2pix (Isola et al., arXiv 1611.07004).
    Predictions of the FCN, whose output is linear, are limited to the window of the PET.
    """

    stated_augmentation = None
    dims = 3

    class Config(TranslationConfig):
        """Numbers of the paper where they are known; the loss of the FCN, and the threshold, are in SUV."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
            "source": ImageOptions,
            "target": ImageOptions,
            "labels": MaskOptions,
            "organ": MaskOptions,
        }
        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "source": {"window": SOFT_TISSUE, "unit": "HU"},
            "ct": {"window": SOFT_TISSUE},
            "target": {"window": (0.0, 20.0), "unit": "SUV"},
            "labels": {"part": "labels:lesions"},
            "organ": {"part": "mask:organ"},
        }

        source: str = "ct"  # name of the CT
        target: str = "pet"  # name of the PET
        labels: str | None = "lesions"  # name of the map of tumours, which only the judge sees; none for no such map
        organ: str | None = "liver"  # name of the map of the liver, in which tumours are counted; none for everywhere
        size: tuple[int, ...] = (512, 512)  # rows and columns
        flips: tuple[int, ...] = (2,)  # axes along which images are flipped at random: 1 rows, 2 columns
        phantom: str = "liver-pet-ct"  # embedded phantom to learn from where no data are given
        augmentation: Augmentation = Augmentation(shift=(0.0, 0.05, 0.05), interpolation="cubic")  # shifts (our choice)
        variant: Literal["blend", "fcn", "cgan"] = "blend"  # both networks, or one of them alone
        threshold: float = Field(2.5, gt=0)  # SUV of the FCN above which its image is taken
        feather: float = Field(0.0, ge=0)  # SD in pixels by which the border between both is smoothed; 0 is sharp
        fcn_rounds: int = Field(85_000, ge=1)  # updates of the FCN; 400 epochs of 850 slices (our choice)
        fcn_batch_size: int = Field(4, ge=1)  # slices of the FCN
        fcn_learning_rate: float = 1e-4  # Adam, FCN
        fcn_widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512)  # channels of the blocks of the FCN
        split_loss: bool = True  # whether errors of high and low uptake are averaged apart; otherwise all together
        vgg16_file: Path | None = None  # torchvision's VGG-16 weights, with which the FCN begins; else random ones
        game_rounds: int = Field(170_000, ge=1)  # updates of each player of the game; 200 epochs of 850 slices (ours)
        batch_size: int = 1  # slices of the game
        learning_rate: float = 2e-4  # Adam, both players of the game
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players of the game
        decay_from: float = 0.5  # fraction of the game after which the learning rate falls linearly to zero
        l1_weight: float = 100.0  # weight of the mean absolute difference from the true PET, which is in [-1, 1]
        adversarial_weight: float = Field(1.0, ge=0)  # weight of the game; 0 trains the U-Net with the L1 loss alone
        levels: int = Field(8, ge=1)  # stride-2 steps of the U-Net
        width: int = 64  # channels of the U-Net's first level
        dropout: float = 0.5  # dropout rate in the U-Net's inner decoder
        dropout_at_inference: bool = False  # as in pix2pix; results then differ from call to call
        discriminator_width: int = 64  # channels of the discriminator's first layer
        discriminator_strided: int = 3  # discriminator's stride-2 layers; 1 to 4 see patches of 16, 34, 70, 142 pixels
        ema_halflife: float | None = None  # images; average of the U-Net used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "augmentation": {"shift": (0.0, 0.0, 0.0)},
                "fcn_rounds": 2_000,
                "fcn_batch_size": 4,
                "fcn_learning_rate": 1e-3,
                "fcn_widths": (12, 24, 32, 48, 48),
                "game_rounds": 3_000,
                "batch_size": 4,
                "learning_rate": 1e-3,
                "levels": 5,
                "width": 16,
                "dropout": 0.0,
                "discriminator_width": 16,
                "discriminator_strided": 2,
                "ema_halflife": 400.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        codec = self.task.roles[c.target].codec
        if not isinstance(codec, Window):
            raise UserError(
                f"--{c.target}.scale {c.roles[c.target].scale}: the loss and the threshold are in SUV, which needs a "  # type: ignore[attr-defined]
                f"window that is the same in all images, such as --{c.target}.window 0 20"
            )
        self.low, self.high = codec.low, codec.high
        if not self.low < c.threshold < self.high:
            raise UserError(f"--threshold {c.threshold:g}: lies outside of --{c.target}.window")
        given, made = self.task.in_channels, self.task.out_channels
        self.fcn = self.generator = self.discriminator = None
        if c.variant != "cgan":
            self.fcn = FCN4s(3 * given, made, c.fcn_widths)
        if c.variant != "fcn":
            self.generator = Pix2PixUNet(given, made, c.width, c.levels, "batch", c.dropout)
            init_pix2pix(self.generator, c.width)
            if self.adversarial:
                self.discriminator = PatchGAN(given + made, c.discriminator_width, c.discriminator_strided)
                init_pix2pix(self.discriminator, c.discriminator_width)

    @property
    def adversarial(self) -> bool:
        """Whether the U-Net is trained against a discriminator."""
        return bool(self.config.adversarial_weight) and self.config.variant != "fcn"

    @property
    def guides(self) -> tuple[str, ...]:
        return tuple(name for name in (self.config.labels, self.config.organ) if name)

    @property
    def embedded(self) -> Embedded | None:
        usual = Embedded("liver-pet-ct", max(self.config.size), {"slices": 16, "distance_mm": 6.0}, subjects=24)
        return usual if self.config.phantom == usual.name else None

    @property
    def tiling(self) -> Tiling:
        multiple = max(STRIDE, 2**self.config.levels)
        return Tiling((1, 0, 0), multiple, tile=(1, *self.extents), ends="repeated")

    @property
    def extents(self) -> tuple[int, int]:
        """Rows and columns of the slices."""
        rows, columns = self.config.size
        return rows, columns

    def check_sizes(self) -> None:
        c = self.config
        multiple = max(STRIDE, 2**c.levels)
        if any(extent % multiple for extent in c.size):
            raise UserError(
                f"--size {' '.join(map(str, c.size))}: rows and columns must be multiples of {multiple}; see --levels"
            )
        if c.vgg16_file is not None and not c.vgg16_file.is_file():
            raise UserError(f"--vgg16-file {c.vgg16_file}: no such file; give torchvision's weights, or leave it out")

    def provenance(self) -> dict[str, str]:
        file = self.config.vgg16_file
        return {"FCN": f"began with the VGG-16 of {file.name}"} if file and self.fcn else {}

    def inference_mode(self) -> Self:
        self.eval()
        if self.generator:
            own_statistics(self.generator)
            if self.config.dropout_at_inference:
                keep_dropout(self.generator)
        return self

    def stages(self) -> Sequence[Stage]:
        c, found = self.config, []
        if self.fcn:
            player = Player("fcn", (self.fcn,), adam(c.fcn_learning_rate))
            found.append(
                Stage(
                    "fcn",
                    self.fcn_turns,
                    [player],
                    c.fcn_rounds,
                    self.slices(c.fcn_batch_size),
                    begin=self.begin_with_vgg16,
                    validated=self.generator is None,
                )
            )
        if self.generator:
            moves, rate = adam(c.learning_rate, c.betas), linear_decay(c.decay_from)
            players = [Player("generator", (self.generator,), moves, rate, ema_halflife=c.ema_halflife)]
            if self.discriminator:
                players.insert(0, Player("discriminator", (self.discriminator,), moves, rate, adversary=True))
            found.append(Stage("game", self.turns, players, c.game_rounds, self.slices(c.batch_size)))
        return found

    def slices(self, batch_size: int) -> Stream:
        """Return the stream of slices of PET, with the CT of each and its two neighbours."""
        c = self.config
        return Stream(
            "pairs",
            (*self.inputs, *self.outputs),
            batch_size,
            (1, *self.extents),
            margin=(1, 0, 0),
            wide=frozenset(self.inputs),
            flips=c.flips,
            augmentation=c.augmentation,
        )

    def begin_with_vgg16(self) -> None:
        """Load the weights of VGG-16 into the FCN where the user gave them."""
        if self.fcn and (file := self.config.vgg16_file):
            self.fcn.load_vgg16(file)

    def fcn_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turn of the FCN; its squared errors are in SUV."""
        batch = next(batches)
        made, true = (self.uptake(image) for image in (self.blurred(self.image(batch)), self.truth(batch)))
        if self.config.split_loss:
            yield Turn("fcn", error=split_squared_error(made, true, self.config.threshold))
        else:
            yield Turn("fcn", error=mse_loss(made, true))

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        ct, true = self.image(batch)[:, :, 1], self.truth(batch)[:, :, 0]
        fake = self.sharp(ct)
        if self.discriminator:
            real_scores = self.discriminator(torch.cat([ct, true], dim=1))
            fake_scores = self.discriminator(torch.cat([ct, fake.detach()], dim=1))
            yield Turn(
                "discriminator",
                adversarial=0.5 * nonsaturating_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        losses = {"l1": c.l1_weight * l1_loss(fake, true)}
        if self.discriminator:
            scores = self.discriminator(torch.cat([ct, fake], dim=1))
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(scores)
        yield Turn("generator", losses)

    def blurred(self, image: Tensor) -> Tensor:
        """Predict slices of PET (N, 1, D, H, W) with the FCN, from slices of CT (N, 1, D + 2, H, W)."""
        assert self.fcn
        threes = image.unfold(2, 3, 1).permute(0, 2, 5, 1, 3, 4)
        seen = threes.flatten(2, 3).flatten(0, 1)
        made: Tensor = self.fcn(as_natural_image(seen) if self.config.vgg16_file else seen)
        return made.reshape(len(image), -1, *made.shape[1:]).transpose(1, 2)

    def sharp(self, ct: Tensor) -> Tensor:
        """Translate slices of CT (N, 1, H, W) with the U-Net."""
        assert self.generator
        made: Tensor = self.generator(ct).tanh()
        return made

    def uptake(self, image: Tensor) -> Tensor:
        """Convert PET from the range of the networks to SUV."""
        return self.low + (image + 1) / 2 * (self.high - self.low)

    def blend(self, blurred: Tensor, sharp: Tensor) -> Tensor:
        """Return the image of the FCN where it is above the threshold, and that of the U-Net elsewhere."""
        hot = (self.uptake(blurred) > self.config.threshold).to(blurred)
        if sigma := self.config.feather:
            hot = gaussian_means(gaussian_means(hot, 1, sigma, -1), 1, sigma, -2)
        return hot * blurred + (1 - hot) * sharp

    def restore(self, input: Tensor) -> Tensor:
        blurred = self.blurred(input).clamp(-1, 1) if self.fcn else None
        if self.generator is None:
            assert blurred is not None
            return blurred
        slices = input[:, :, 1:-1].transpose(1, 2)
        made = self.sharp(slices.flatten(0, 1))
        sharp = made.reshape(*slices.shape[:2], *made.shape[1:]).transpose(1, 2)
        return sharp if blurred is None else self.blend(blurred, sharp)
