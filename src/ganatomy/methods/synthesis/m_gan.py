"""M-GAN: FDG-PET from a CT and a map of tumours, which may be moved, added and removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import l1_loss, pad

from ganatomy.game import Batch, Player, Stage, Turn, adam, linear_decay
from ganatomy.images.augmentation import Augmentation
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import centre_crop, keep_dropout, own_statistics
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.unet import Pix2PixUNet
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.translation.task import TranslationConfig, Translator

BACKGROUND = -1.0
"""Value of air, of tissue that is no tumour, and of a channel that is not shown."""


class MultiChannelGAN(Translator):
    """Synthesis of FDG-PET in SUV from a CT and a map of tumours, with pix2pix.

    The CT says where organs lie, the map where uptake is high. With another map, the same network makes the PET of a
    patient with other tumours, from which a detector may learn.

    Bi, Kim, Kumar, Feng & Fulham, Synthesis of Positron Emission Tomography (PET) Images via Multi-channel Generative
    Adversarial Networks (GANs), MICCAI workshops 2017, LNCS 10555, 43-51. arXiv 1707.09747. It adapts pix2pix in a way
    that is known in part; other layers and numbers are those of the release of pix2pix (Isola et al., arXiv
    1611.07004). Images of 200 pixels are padded to 256 for the U-Net alone, since the discriminator and the losses need
    no power of two.
    """

    stated_augmentation = None

    class Config(TranslationConfig):
        """The numbers of pix2pix; those of the paper are known in part."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
            "source": ImageOptions,
            "labels": MaskOptions,
            "target": ImageOptions,
            "organ": MaskOptions,
        }
        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "labels": {"part": "labels:lesions"},
            "organ": {"part": "mask:organ"},
        }

        source: str = "ct"  # name of the CT
        labels: str = "lesions"  # name of the map of tumours
        target: str = "pet"  # name of the PET
        organ: str | None = "lungs"  # name of the map of the lungs, in which tumours are counted; none for everywhere
        size: tuple[int, ...] = (200, 200)  # rows and columns; the U-Net sees the next multiple of 2**levels
        flips: tuple[int, ...] = (2,)  # axes along which images are flipped at random: 1 rows, 2 columns
        phantom: str = "chest-pet-ct"  # embedded phantom to learn from where no data are given
        shown: Literal["both", "image", "labels"] = (
            "both"  # what the networks see; channels that they do not see are -1
        )
        augmentation: Augmentation = Augmentation(shift=(0.0, 0.075, 0.075), interpolation="cubic")  # shifts (ours)
        game_rounds: int = Field(200_000, ge=1)  # updates of each player; 200 epochs of 1000 slices (our choice)
        batch_size: int = 1  # slices
        learning_rate: float = 2e-4  # Adam, both players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        decay_from: float = 0.5  # fraction of the training after which the learning rate falls linearly to zero
        l1_weight: float = 100.0  # weight of the mean absolute difference from the true PET
        adversarial_weight: float = Field(1.0, ge=0)  # weight of the game; 0 trains the U-Net with the L1 loss alone
        levels: int = Field(8, ge=1)  # stride-2 steps of the U-Net
        width: int = 64  # channels of the U-Net's first level
        dropout: float = 0.5  # dropout rate in the U-Net's inner decoder
        dropout_at_inference: bool = False  # as in pix2pix; results then differ from call to call
        discriminator_width: int = 64  # channels of the discriminator's first layer
        discriminator_strided: int = 3  # discriminator's stride-2 layers; 1 to 4 see patches of 16, 34, 70, 142 pixels
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "augmentation": {"shift": (0.0, 0.0, 0.0)},
                "game_rounds": 4_000,
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
        given, made = self.task.in_channels, self.task.out_channels
        self.generator = Pix2PixUNet(given, made, c.width, c.levels, "batch", c.dropout)
        init_pix2pix(self.generator, c.width)
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = PatchGAN(given + made, c.discriminator_width, c.discriminator_strided)
            init_pix2pix(self.discriminator, c.discriminator_width)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.config.source, self.config.labels)

    @property
    def guides(self) -> tuple[str, ...]:
        return (self.config.organ,) if self.config.organ else ()

    @property
    def embedded(self) -> Embedded | None:
        usual = Embedded("chest-pet-ct", max(self.config.size), {"slices": 16, "distance_mm": 6.0}, subjects=24)
        return usual if self.config.phantom == usual.name else None

    def inference_mode(self) -> Self:
        self.eval()
        own_statistics(self.generator)
        if self.config.dropout_at_inference:
            keep_dropout(self.generator)
        return self

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves, rate = adam(c.learning_rate, c.betas), linear_decay(c.decay_from)
        players = [Player("generator", (self.generator,), moves, rate, ema_halflife=c.ema_halflife)]
        if self.discriminator:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, rate, adversary=True))
        streams = [replace(stream, augmentation=c.augmentation) for stream in self.streams(c.batch_size)]
        return [Stage("game", self.turns, players, c.game_rounds, streams)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        shown, true = self.shown(self.image(batch)), self.truth(batch)
        fake = self.translated(shown)
        if self.discriminator:
            real_scores = self.discriminator(torch.cat([shown, true], dim=1))
            fake_scores = self.discriminator(torch.cat([shown, fake.detach()], dim=1))
            yield Turn(
                "discriminator",
                adversarial=0.5 * nonsaturating_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        losses = {"l1": c.l1_weight * l1_loss(fake, true)}
        if self.discriminator:
            scores = self.discriminator(torch.cat([shown, fake], dim=1))
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(scores)
        yield Turn("generator", losses)

    def shown(self, image: Tensor) -> Tensor:
        """Return CT and map of tumours as networks see them, both from -1 to 1, without what they are not shown.

        A channel that is not shown is -1, which is background; zero would be halfway to a tumour.
        """
        channels, lesions = self.task.roles[self.config.source].channels, 2 * image[:, -1:] - 1
        ct = image[:, :channels]
        if self.config.shown == "labels":
            ct = torch.full_like(ct, BACKGROUND)
        elif self.config.shown == "image":
            lesions = torch.full_like(lesions, BACKGROUND)
        return torch.cat([ct, lesions], dim=1)

    def translated(self, shown: Tensor) -> Tensor:
        """Translate what networks see, of any extents, which are padded with background for the U-Net."""
        rows, columns = shown.shape[2:]
        more, wider = (-extent % 2**self.config.levels for extent in (rows, columns))
        padded = pad(shown, (wider // 2, wider - wider // 2, more // 2, more - more // 2), value=BACKGROUND)
        return centre_crop(self.generator(padded).tanh(), (rows, columns))

    def restore(self, input: Tensor) -> Tensor:
        return self.translated(self.shown(input))
