"""GAN: the first game of a generator and a discriminator."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ganatomy.game import Batch, Player, Stage, Turn, adam, exponential_decay, linear_decay, linear_rise, sgd
from ganatomy.methods.frameworks.pair import LIVER, Pair, PairConfig, logarithmic
from ganatomy.nets.mlp import MLP, MaxoutDiscriminator, init_uniform


class GAN(Pair):
    """Images from noise with dense networks.

    Goodfellow et al., Generative Adversarial Nets, NIPS 2014. arXiv 1406.2661. Images lie in [-1, 1] instead of [0, 1],
    and the generator's last bias begins at zero instead of at the mean image.
    """

    class Config(PairConfig):
        """The published code for digits of 28 pixels."""

        size: tuple[int, ...] = (28, 28)  # rows and columns made
        game_rounds: int = 250_000  # generator updates; 500 epochs of 50 000 images (our choice)
        batch_size: int = 100  # images
        loss: Literal["nonsaturating", "minimax"] = "nonsaturating"  # of the generator
        discriminator_steps: int = 1  # k: discriminator updates per generator update
        real_target: float = 1.0  # probability asked for real images; 0.9 is one-sided label smoothing
        optimizer: Literal["sgd", "adam"] = "sgd"  # of both players
        learning_rate: float = 0.1  # at first
        rate_divisor: float = 1.000004  # of the SGD learning rate, every round
        rate_floor: float = 1e-6  # of the SGD learning rate
        momentum: tuple[float, float] = (0.5, 0.7)  # SGD, at first and at last
        momentum_rounds: int = 125_000  # rounds in which it rises; 250 epochs
        betas: tuple[float, float] = (0.5, 0.999)  # Adam
        decay_start: float = 1.0  # part of the training after which the rate of Adam falls to 0 linearly
        latent: int = 100  # numbers behind an image, U(-1, 1)
        hidden: tuple[int, ...] = (1200, 1200)  # units of the generator's hidden layers
        units: tuple[int, ...] = (240, 240)  # maxout units of the discriminator's hidden layers
        pieces: int = 5  # linear functions per maxout unit
        input_dropout: float = 0.2  # rate of the discriminator's input
        dropout: float = 0.5  # rate after the discriminator's hidden layers
        generator_limit: float = 0.05  # weights begin uniform up to this
        discriminator_limit: float = 0.005  # weights begin uniform up to this

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                **LIVER,
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
    prior = "uniform"

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.latent_size = c.latent
        self.dims = len(c.size)
        self.loss = logarithmic(c.loss, c.real_target)
        self.build()

    def build(self) -> None:
        """Make both networks."""
        c = self.config
        pixels = torch.Size((c.channels, *c.size))
        # In the range of images, tanh is the sigmoid of the paper.
        dense = MLP((c.latent, *c.hidden, pixels.numel()), output="tanh")
        init_uniform(dense, c.generator_limit)
        self.generator = nn.Sequential(dense, nn.Unflatten(1, pixels))
        self.discriminator: nn.Module = MaxoutDiscriminator(
            pixels.numel(), c.units, c.pieces, c.input_dropout, c.dropout, c.discriminator_limit
        )

    def stages(self) -> Sequence[Stage]:
        return self.game(
            self.player("discriminator", self.discriminator),
            self.player("generator", self.generator, self.config.ema_halflife),
        )

    def player(self, name: str, network: nn.Module, ema_halflife: float | None = None) -> Player:
        """A network that moves by the chosen rule."""
        c = self.config
        if c.optimizer == "adam":
            moves, schedule, momentum = adam(c.learning_rate, c.betas), linear_decay(c.decay_start), None
        else:
            moves = sgd(c.learning_rate, c.momentum[0])
            schedule = exponential_decay(c.rate_divisor, c.rate_floor / c.learning_rate)
            momentum = linear_rise(*c.momentum, c.momentum_rounds)
        return Player(name, (network,), moves, schedule, momentum=momentum, ema_halflife=ema_halflife)

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        for _ in range(self.config.discriminator_steps):
            real = self.real(next(batches))
            with torch.no_grad():
                fake = self.generator(self.latents(len(real)))
            yield self.discriminator_turn(self.discriminator(real), self.discriminator(fake))
        fake = self.generator(self.latents(len(real)))
        yield Turn("generator", adversarial=self.loss.generator(self.discriminator(fake)))

    def discriminator_turn(self, real: Tensor, fake: Tensor) -> Turn:
        """Tell apart what has these scores."""
        return Turn(
            "discriminator", adversarial=self.loss.discriminator(real, fake), scores={"real": real, "fake": fake}
        )
