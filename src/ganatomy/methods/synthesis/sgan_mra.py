"""Steerable GAN: time-of-flight angiography from T1 and T2, compared with the true one in responses to line filters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import l1_loss

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam, linear_decay
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.steerable import bank, factored, steerable_loss
from ganatomy.nets.aids import Norm
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.residual import ResNetGenerator
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.translation.task import TranslationConfig, Translator

PHANTOM = "brain-mra"
PIXEL = 1.5  # mm, edge of the phantom's pixels: the widest arteries are two pixels wide, and most less than one
AIR = -1.0  # value of air, and of an input that networks are not shown
STRIDED = 2  # halvings of the generator
WIDEST = 200.0  # mm, field of view beyond which there is only air


class SteerableGAN(Translator):
    """Time-of-flight MR angiography of the brain from T1- and T2-weighted MR, learned from pairs.

    The generator is taught by a discriminator of patches, by the absolute difference from the true angiography, and by
    the difference of both images in their responses to filters of lines in all directions, so that thin vessels count.
    It cannot see flow: an occluded vessel may be drawn as if blood were flowing in it.

    Olut, Sahin, Demir & Unal, Generative Adversarial Training for MRA Image Synthesis Using Multi-Contrast MRI, PRIME
    workshop at MICCAI 2018, LNCS 11121. arXiv 1804.04366. Numbers of the paper are known in parts; layers are those of
    the residual generator of pix2pix and its discriminator (Isola et al., arXiv 1611.07004), and the filters those of
    Freeman & Adelson, 1991.
    """

    stated_augmentation = None
    angiogram = True

    class Config(TranslationConfig):
        """Numbers of the paper as far as they are known."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
            "source": ImageOptions,
            "second": ImageOptions,
            "target": ImageOptions,
            "vessels": MaskOptions,
            "organ": MaskOptions,
        }
        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            # Arteries are few and bright: they must not be cut off.
            "target": {"percentiles": (0.1, 99.98)},
            "vessels": {"part": "mask:arteries"},
            "organ": {"part": "mask:brain"},
        }

        source: str = "t1"  # name of the first input
        second: str = "t2"  # name of the second input
        target: str = "mra"  # name of the angiography
        vessels: str | None = "arteries"  # name of a map of the vessels, for the judge; cases may lack it
        organ: str | None = "brain"  # name of the map of the brain, within which vessels are judged; cases may lack it
        shown: Literal["both", "first", "second"] = "both"  # inputs that networks see; others are -1, which is air
        phantom: str = PHANTOM  # embedded phantom to learn from where no data are given
        game_rounds: Annotated[int, Field(ge=1)] = 200_000  # updates of each player; 50 epochs of 40,000 slices (ours)
        batch_size: Annotated[int, Field(ge=1)] = 10  # slices
        learning_rate: Annotated[float, Field(gt=0)] = 2e-4  # Adam, both players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        # 30 of 50 epochs.
        decay_from: Annotated[float, Field(ge=0, le=1)] = 0.6  # fraction of the training after which the rate falls
        adversarial_weight: Annotated[float, Field(ge=0)] = 0.005  # weight of the game; 0 trains without discriminator
        l1_weight: Annotated[float, Field(ge=0)] = 0.8  # weight of the mean absolute difference
        steerable_weight: Annotated[float, Field(ge=0)] = 0.145  # weight of the difference of responses to line filters
        directions: Annotated[int, Field(ge=3, le=360)] = 20  # filters, evenly spaced over half a turn
        taps: Annotated[int, Field(ge=3, le=63)] = 9  # rows and columns of a filter, an odd number
        tap_spacing: Annotated[float, Field(gt=0)] = 0.67  # distance of its samples in units of √2 SDs of its Gaussian
        width: Annotated[int, Field(ge=1)] = 64  # channels of the generator at full size
        blocks: Annotated[int, Field(ge=0)] = 9  # residual blocks
        norm: Norm = "batch"  # normalisation of the generator
        discriminator_width: Annotated[int, Field(ge=1)] = 64  # channels of the discriminator's first layer
        discriminator_strided: Annotated[int, Field(ge=1)] = 3  # its stride-2 layers; 3 see patches of 70 pixels
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (96, 96),
                "game_rounds": 1_500,
                "batch_size": 4,
                "learning_rate": 1e-3,
                "width": 16,
                "blocks": 3,
                "discriminator_width": 16,
                "discriminator_strided": 2,
                "ema_halflife": 100.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config
    weights: Tensor  # of the bank of line filters, (directions, 3)
    shapes: Tensor  # and its basis, (3, taps, taps)

    def __init__(self, config: Config):
        if not config.taps % 2:
            raise UserError(
                f"--taps {config.taps}: a filter has a middle; give an odd number, such as {config.taps + 1}"
            )
        super().__init__(config)
        c = config
        given, made = self.task.in_channels, self.task.out_channels
        self.generator = ResNetGenerator(given, made, c.width, c.blocks, STRIDED, norm=c.norm, biased=c.norm != "batch")
        init_pix2pix(self.generator, c.width)
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = PatchGAN(given + made, c.discriminator_width, c.discriminator_strided)
            init_pix2pix(self.discriminator, c.discriminator_width)
        weights, shapes = factored(bank(c.directions, c.taps, c.tap_spacing))
        self.register_buffer("weights", weights.float(), persistent=False)
        self.register_buffer("shapes", shapes.float(), persistent=False)

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.config.source, self.config.second)

    @property
    def guides(self) -> tuple[str, ...]:
        return tuple(name for name in (self.config.vessels, self.config.organ) if name)

    @property
    def embedded(self) -> Embedded | None:
        if self.config.phantom != PHANTOM:
            return None
        size = max(self.config.size)
        grid = {"slices": 12, "distance_mm": 1.5, "field_mm": min(PIXEL * size, WIDEST)}
        return Embedded(PHANTOM, size, grid, subjects=24)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**STRIDED)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves, rate = adam(c.learning_rate, c.betas), linear_decay(c.decay_from)
        players = [Player("generator", (self.generator,), moves, rate, ema_halflife=c.ema_halflife)]
        if self.discriminator:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, rate, adversary=True))
        return [Stage("game", self.turns, players, c.game_rounds, self.streams(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        given, true = self.seen(self.image(batch)), self.truth(batch)
        fake = self.generator(given)
        if self.discriminator:
            real_scores = self.discriminator(torch.cat([given, true], dim=1))
            fake_scores = self.discriminator(torch.cat([given, fake.detach()], dim=1))
            yield Turn(
                "discriminator",
                adversarial=0.5 * nonsaturating_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        losses = {"l1": c.l1_weight * l1_loss(fake, true)}
        if c.steerable_weight:
            losses["steerable"] = c.steerable_weight * steerable_loss(fake, true, self.weights, self.shapes)
        if self.discriminator:
            scores = self.discriminator(torch.cat([given, fake], dim=1))
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(scores)
        yield Turn("generator", losses)

    def restore(self, input: Tensor) -> Tensor:
        made: Tensor = self.generator(self.seen(input))
        return made

    def seen(self, images: Tensor) -> Tensor:
        """Return both inputs as networks see them: the channels of one that they are not shown are air."""
        if self.config.shown == "both":
            return images
        first = self.task.roles[self.config.source].channels
        hidden = slice(first, None) if self.config.shown == "first" else slice(first)
        images = images.clone()
        images[:, hidden] = AIR
        return images
