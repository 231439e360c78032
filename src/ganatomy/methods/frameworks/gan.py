"""GAN: the original adversarial networks of Goodfellow et al., with dense networks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.game import Batch, Player, Stage, Turn, adam, exponential_decay, linear_decay, linear_rise, sgd
from ganatomy.methods.frameworks.pair import Pair, PairConfig, logarithmic
from ganatomy.nets.mlp import MLP, MaxoutDiscriminator, init_uniform


class GAN(Pair):
    """Unconditional GAN with dense networks.

    Goodfellow et al., Generative Adversarial Nets, NIPS 2014. arXiv 1406.2661. Images lie in [-1, 1] instead of [0, 1],
    and the generator's last bias begins at zero instead of at the mean image.
    """

    class Config(PairConfig):
        """The published code for digits of 28 pixels."""

        size: tuple[int, ...] = (28, 28)  # rows and columns made
        game_rounds: int = 250_000  # generator updates; 500 epochs of 50 000 images (our choice)
        batch_size: int = 100  # images
        loss: Literal["nonsaturating", "minimax"] = "nonsaturating"  # loss of the generator
        discriminator_steps: int = 1  # k: discriminator updates per generator update
        real_target: float = 1.0  # target probability of real images; 0.9 is one-sided label smoothing
        optimizer: Literal["sgd", "adam"] = "sgd"  # optimiser of both players
        learning_rate: float = 0.1  # initial learning rate of both players
        rate_divisor: float = Field(1.000004, ge=1)  # divisor of the SGD learning rate, every round
        rate_floor: float = Field(1e-6, ge=0)  # lower limit of the SGD learning rate
        momentum: tuple[float, float] = (0.5, 0.7)  # initial and final momentum of SGD
        momentum_rounds: int = 125_000  # rounds during which the momentum rises; 250 epochs
        betas: tuple[float, float] = (0.5, 0.999)  # betas of Adam
        decay_start: float = 1.0  # fraction of the training after which the rate of Adam falls linearly to 0
        latent: int = 100  # size of the latent vector, U(-1, 1)
        hidden: tuple[int, ...] = (1200, 1200)  # units of the generator's hidden layers
        units: tuple[int, ...] = (240, 240)  # maxout units of the discriminator's hidden layers
        pieces: int = 5  # linear functions per maxout unit
        input_dropout: float = 0.2  # dropout rate of the discriminator's input
        dropout: float = 0.5  # dropout rate after the discriminator's hidden layers
        generator_limit: float = Field(0.05, gt=0)  # initial weights of the generator are uniform up to this size
        discriminator_limit: float = Field(0.005, gt=0)  # those of the discriminator are uniform up to this size

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
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
    prior = "uniform"

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.latent_size = c.latent
        self.dims = len(c.size)
        self.loss = logarithmic(c.loss, c.real_target)
        self.build()

    def build(self) -> None:
        """Build generator and discriminator."""
        c = self.config
        pixels = torch.Size((c.channels, *c.size))
        # Images lie in [-1, 1], where tanh corresponds to the sigmoid of the paper.
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
        """Return a player for a network, with the chosen optimiser and schedules."""
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
        """Return the discriminator's turn for these scores of real and generated images."""
        return Turn(
            "discriminator", adversarial=self.loss.discriminator(real, fake), scores={"real": real, "fake": fake}
        )
