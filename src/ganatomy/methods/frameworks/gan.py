"""GAN: the original adversarial networks of Goodfellow et al., with dense and with convolutional networks."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Turn, adam, exponential_decay, linear_decay, linear_rise, sgd
from ganatomy.methods.frameworks.pair import Pair, PairConfig, logarithmic
from ganatomy.nets.aids import Prior
from ganatomy.nets.mlp import (
    MLP,
    DeconvolutionGenerator,
    MaxoutConvolutionDiscriminator,
    MaxoutDiscriminator,
    init_uniform,
)


class OriginalConfig(PairConfig):
    """Options of the original game and its dense networks."""

    size: tuple[int, ...] = (28, 28)  # rows and columns made
    game_rounds: int = 250_000  # generator updates; 500 epochs of 50 000 images (our choice)
    batch_size: int = 100  # images
    loss: Literal["nonsaturating", "minimax"] = "nonsaturating"  # loss of the generator
    discriminator_weight: float = 1.0  # weight of the discriminator's loss; 0.5 in the published code
    simultaneous: bool = False  # whether both players move at once, judged on the same images, as in the published code
    discriminator_steps: int = 1  # k: discriminator updates per generator update
    real_target: float = 1.0  # target probability of real images; 0.9 is one-sided label smoothing
    optimizer: Literal["sgd", "adam"] = "sgd"  # optimiser of both players
    learning_rate: float = 0.1  # initial learning rate of both players
    rate_divisor: float = Field(1.000004, ge=1)  # divisor of the SGD learning rate, every round
    rate_floor: float = Field(1e-6, ge=0)  # lower limit of the SGD learning rate
    momentum: tuple[float, float] = (0.5, 0.7)  # initial and final momentum of SGD
    momentum_rounds: int = 125_000  # rounds during which the momentum rises; 250 epochs
    betas: tuple[float, float] = (0.5, 0.999)  # betas of Adam
    weight_decay: float = 0.0  # weight of the squared weights in Adam's gradient
    decay_start: float = 1.0  # fraction of the training after which the rate of Adam falls linearly to 0
    latent: int = 100  # size of the latent vector
    hidden: tuple[int, ...] = (1200, 1200)  # units of the generator's hidden layers
    units: tuple[int, ...] = (240, 240)  # maxout units of the discriminator's hidden layers
    pieces: int = 5  # linear functions per maxout unit
    input_dropout: float = 0.2  # dropout rate of the discriminator's input
    dropout: float = 0.5  # dropout rate after the discriminator's hidden layers
    generator_limit: float = Field(0.05, gt=0)  # initial weights of the generator are uniform up to this size
    discriminator_limit: float = Field(0.005, gt=0)  # those of the discriminator are uniform up to this size


class OriginalGame(Pair):
    """Base of the original game of generator and discriminator."""

    config: OriginalConfig
    prior: Prior = "uniform"

    def __init__(self, config: OriginalConfig):
        super().__init__(config)
        c = config
        if c.simultaneous and c.discriminator_steps != 1:
            raise UserError(
                f"--discriminator-steps {c.discriminator_steps}: both players move at once; leave out --simultaneous"
            )
        self.latent_size = c.latent
        self.dims = len(c.size)
        self.loss = logarithmic(c.loss, c.real_target)
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Build generator and discriminator."""

    def stages(self) -> Sequence[Stage]:
        return self.game(
            self.player("discriminator", self.discriminator),
            self.player("generator", self.generator, self.config.ema_halflife),
        )

    def player(self, name: str, network: nn.Module, ema_halflife: float | None = None) -> Player:
        """Return a player for a network, with the chosen optimiser and schedules."""
        c = self.config
        if c.optimizer == "adam":
            moves = adam(c.learning_rate, c.betas, weight_decay=c.weight_decay)
            schedule, momentum = linear_decay(c.decay_start), None
        else:
            moves = sgd(c.learning_rate, c.momentum[0])
            schedule = exponential_decay(c.rate_divisor, c.rate_floor / c.learning_rate)
            momentum = linear_rise(*c.momentum, c.momentum_rounds)
        judges = network is self.discriminator
        return Player(name, (network,), moves, schedule, momentum=momentum, ema_halflife=ema_halflife, adversary=judges)

    def told(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return what both players are told about the samples of a batch beside the images; nothing by default."""
        return ()

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn | tuple[Turn, ...]]:
        if self.config.simultaneous:
            batch = next(batches)
            real, told = self.real(batch), self.told(batch)
            fake_scores = self.discriminator(self.generator(self.latents(len(real)), *told), *told)
            real_scores = self.discriminator(real, *told)
            yield self.discriminator_turn(real_scores, fake_scores), self.generator_turn(fake_scores)
            return
        for _ in range(self.config.discriminator_steps):
            batch = next(batches)
            real, told = self.real(batch), self.told(batch)
            with torch.no_grad():
                fake = self.generator(self.latents(len(real)), *told)
            yield self.discriminator_turn(self.discriminator(real, *told), self.discriminator(fake, *told))
        fake = self.generator(self.latents(len(real)), *told)
        yield self.generator_turn(self.discriminator(fake, *told))

    def discriminator_turn(self, real: Tensor, fake: Tensor) -> Turn:
        """Return the discriminator's turn for these scores of real and generated images."""
        loss = self.config.discriminator_weight * self.loss.discriminator(real, fake)
        return Turn("discriminator", adversarial=loss, scores={"real": real, "fake": fake})

    def generator_turn(self, fake: Tensor) -> Turn:
        """Return the generator's turn for these scores of generated images."""
        return Turn("generator", adversarial=self.loss.generator(fake))


class GAN(OriginalGame):
    """Unconditional GAN with dense networks, or with the convolutional ones of the same paper.

    Goodfellow et al., Generative Adversarial Nets, NIPS 2014. arXiv 1406.2661. Losses and order of the moves are those
    of the paper's algorithm 1. The published code (preset ``code``) halves the discriminator's loss and moves both
    players at once, judged on the same generated images. Images lie in [-1, 1] instead of [0, 1] (dense) or instead of
    having a contrast of 55 (convolutional), which ends the dense generator with a tanh, and the generator's last bias
    begins at zero instead of at the mean image: images here have a unit and a window of their own.
    """

    stated_augmentation = None
    revision = 2

    class Config(OriginalConfig):
        """The published code for digits of 28 pixels; preset ``convolutional`` is that for photographs of 32 pixels."""

        latent: int = 100  # size of the latent vector, U(-√3, √3); N(0, 1) for the convolutional networks
        networks: Literal["mlp", "convolutional"] = "mlp"  # networks of both players: dense or convolutional
        map_width: int = 80  # convolutional: channels of the maps that the generator enlarges to the image
        filter_widths: tuple[int, int, int] = (
            32,
            32,
            192,
        )  # convolutional: channels of the discriminator's convolutions
        filter_pieces: int = Field(2, ge=1, le=64)  # convolutional: convolutions per channel

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "code": {"discriminator_weight": 0.5, "simultaneous": True},
            "convolutional": {
                "networks": "convolutional",
                "size": (32, 32),
                "batch_size": 128,
                "learning_rate": 0.004,
                "hidden": (8000,),
                "units": (500,),
            },
            "small": {
                "size": (32, 32),
                "game_rounds": 3000,
                "batch_size": 32,
                "optimizer": "adam",
                "learning_rate": 2e-4,
                "hidden": (256, 512),
                "units": (128, 64),
                "pieces": 3,
                "dropout": 0.3,
                "discriminator_limit": 0.05,
                "ema_halflife": 1000.0,
            },
        }

    config: Config
    prior_limit = math.sqrt(3)  # a variance of 1, as in the published code

    def build(self) -> None:
        c = self.config
        if c.networks == "convolutional":
            self.prior = "normal"
            if len(c.hidden) != 1:
                raise UserError(
                    f"--hidden {' '.join(map(str, c.hidden))}: the convolutional generator has one hidden layer; "
                    "give one number"
                )
            self.generator = DeconvolutionGenerator(
                c.latent, c.hidden[0], c.map_width, c.channels, c.size, c.generator_limit
            )
            self.discriminator: nn.Module = MaxoutConvolutionDiscriminator(
                c.channels,
                c.size,
                c.filter_widths,
                c.filter_pieces,
                c.units,
                c.pieces,
                c.input_dropout,
                c.dropout,
                c.discriminator_limit,
            )
            return
        pixels = torch.Size((c.channels, *c.size))
        # Images lie in [-1, 1], where tanh corresponds to the sigmoid of the paper.
        dense = MLP((c.latent, *c.hidden, pixels.numel()), output="tanh")
        init_uniform(dense, c.generator_limit)
        self.generator = nn.Sequential(dense, nn.Unflatten(1, pixels))
        self.discriminator = MaxoutDiscriminator(
            pixels.numel(), c.units, c.pieces, c.input_dropout, c.dropout, c.discriminator_limit
        )
