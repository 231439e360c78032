"""Prostate lesions in three MR sequences at once, by a DCGAN whose discriminator classifies them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Stream, Turn, adam
from ganatomy.images.augmentation import Augmentation
from ganatomy.images.frames import Fit
from ganatomy.losses.matching import RealTarget, class_aware_discriminator, class_aware_generator, realness
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator
from ganatomy.tasks.synthesis.task import Synthesis, SynthesisConfig, Synthesiser


class ProstateLesionDCGAN(Synthesiser):
    """DCGAN of aligned T2, ADC and Ktrans patches around a prostate lesion.

    Kitchen & Seah, Deep Generative Adversarial Neural Networks for Realistic Prostate Lesion MRI Synthesis, 2017.
    arXiv 1708.00129. Defaults are those of the authors' program, with the usual target for real images in place of its
    double one, which ``real_target="paper-code"`` brings back. The program adds five copies of every patch that are
    shifted and rotated about all three axes by normal numbers, before training; here as large a share of the patches is
    moved anew whenever it is drawn, in its plane, by uniform numbers of the same SD, since patches have one slice.
    """

    stated_augmentation = (
        "five more views of every lesion, moved by 1 mm and turned by 0.1 rad (SD) along and about each axis"
    )
    revision = 2

    class Config(SynthesisConfig):
        """The networks and numbers of the authors' program; the scale of every image is mapped to [0, 1]."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "t2": {"window": None, "unit": "a.u."},
            "adc": {"window": (0.0, 3000.0), "unit": "1e-6 mm²/s"},
            "ktrans": {"window": (0.0, 5.0), "unit": "1/min"},
        }

        images: tuple[str, ...] = ("t2", "adc", "ktrans")  # images that are made together, aligned with each other
        size: tuple[int, ...] = (16, 16)  # rows and columns, of 1 mm in the paper
        fit: Fit = "cover"  # fit of training images to the size: cover, contain, or cut into patches
        classes: tuple[str, ...] = ("insignificant", "significant")  # labels that the discriminator classifies
        phantom: str = "prostate-lesion"  # embedded phantom used without --data
        game_rounds: int = 15_000  # updates of each player
        batch_size: int = 200  # patches
        learning_rate: float = 1e-3  # Adam, both players
        betas: tuple[float, float] = (0.1, 0.999)  # Adam, both players
        epsilon: float = 1e-6  # Adam, both players
        latent: int = 25  # size of the latent vector, N(0, 1)
        generator_widths: tuple[int, ...] = (16, 32, 16)  # channels of the dense layer and of the doublings
        discriminator_widths: tuple[int, ...] = (32, 64, 128)  # channels; all but the first convolution halve the size
        moved_share: float = 5 / 6  # share of the patches that are shifted and rotated
        jitter: float = 1.0  # SD of these shifts in pixels, of 1 mm in the paper
        turn: float = Field(0.1, ge=0, le=3)  # SD of these rotations in radians
        noise: float = 0.5  # SD of noise added after the discriminator's convolutions but the last
        dropout: float = 0.5  # dropout rate before the discriminator's class logits
        real_target: RealTarget = "k+1"  # target of real images: their class (k+1), or class and fake (paper-code)
        saturating: bool = True  # whether the generator minimises log(1 - D) instead of -log D
        generator_gain: float = Field(1.43, gt=0)  # gain of the generator's initial weights
        discriminator_gain: float = Field(1.5, gt=0)  # gain of the discriminator's initial weights, 1 in the last layer
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "paper-code": {"real_target": "paper-code"},
            "small": {
                "game_rounds": 3000,
                "batch_size": 32,
                "learning_rate": 5e-4,
                "betas": (0.5, 0.999),
                "saturating": False,
                "ema_halflife": 2000.0,
            },
        }

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if not c.classes:
            raise UserError("--classes: give one label or more, for the discriminator needs a class of real patches")
        self.latent_size = c.latent
        self.generator = DCGenerator(
            c.latent, c.channels, c.size, c.generator_widths, kernel=3, norm="none", output="relu", refine=True
        )
        self.discriminator = DCDiscriminator(
            c.channels,
            c.size,
            c.discriminator_widths,
            kernel=3,
            strides=[1, *[2] * (len(c.discriminator_widths) - 1)],
            norm="none",
            slope=0.1,
            noise=c.noise,
            pooling="mean",
            head_dropout=c.dropout,
            outputs=len(c.classes),
        )
        init_unit_scaling(self.generator, c.generator_gain, bias=0.1)
        image: Any = self.generator.layers[-2]
        # The authors' program has a transposed convolution there, whose last axis is that of the inputs.
        unit_scaling_(image.weight, c.generator_gain, image.in_channels)
        nn.init.zeros_(image.bias)
        init_unit_scaling(self.discriminator, c.discriminator_gain)
        init_unit_scaling(self.discriminator.head, 1.0)

    def build_task(self) -> Synthesis:
        c = self.config
        images = {name: c.roles[name] for name in c.images}
        return Synthesis(images, c.size, c.fit, c.classes, c.phantom, to=(0.0, 1.0))

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas, c.epsilon)
        players = [
            Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife),
            Player("discriminator", (self.discriminator,), moves, adversary=True),
        ]
        return [Stage("game", self.turns, players, c.game_rounds, self.patches())]

    def patches(self) -> Stream:
        """Return the stream of training patches, most of which are shifted and rotated."""
        c, limit = self.config, math.sqrt(3)  # a uniform distribution up to √3 has an SD of 1
        rows, columns = c.size[-2:]
        moved = Augmentation(
            move_share=c.moved_share,
            rotation=(math.degrees(limit * c.turn), 0.0, 0.0),
            shift=(0.0, limit * c.jitter / rows, limit * c.jitter / columns),
        )
        return replace(self.stream(c.batch_size), augmentation=moved)

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c, batch = self.config, next(batches)
        real = self.real(batch)
        fake = self.generator(self.latents(len(real)))
        yield Turn("generator", adversarial=class_aware_generator(self.discriminator(fake), c.saturating))
        with torch.no_grad():
            fake = self.generator(self.latents(len(real)))
        of_real, of_fake = self.discriminator(real), self.discriminator(fake)
        yield Turn(
            "discriminator",
            class_aware=class_aware_discriminator(of_real, batch["label"], of_fake, c.real_target),
            scores={"real": realness(of_real), "fake": realness(of_fake)},
        )

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        return self.generator(latent)  # type: ignore[no-any-return]


def init_unit_scaling(network: nn.Module, gain: float, bias: float = 0.0) -> None:
    """Initialise all weights by uniform unit scaling, and biases by a constant, in place.

    In TensorFlow's layout the last axis of a weight is that of the outputs, or of the inputs of a transposed
    convolution; both are the first axis in PyTorch.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            unit_scaling_(module.weight, gain, len(module.weight))
            if module.bias is not None:
                nn.init.constant_(module.bias, bias)


def unit_scaling_(weight: Tensor, gain: float, last: int) -> None:
    """Draw weights from U(±gain·√(3/n)), in place; n is the product of all axes but the last, of length ``last``."""
    limit = gain * math.sqrt(3 * last / weight.numel())
    nn.init.uniform_(weight, -limit, limit)
