"""LSGAN: the discriminator regresses scores to targets by least squares instead of classifying."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.game import Batch, Turn
from ganatomy.losses.adversarial import GAMES, AdversarialLoss, least_squares_discriminator, least_squares_generator
from ganatomy.methods.frameworks.pair import Aided, AidedConfig
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator, Kernel


class LSGAN(Aided):
    """Unconditional GAN with the least-squares loss, which also penalises scores far beyond the decision boundary.

    Mao, Li, Xie, Lau, Wang & Smolley, Least Squares Generative Adversarial Networks, ICCV 2017. arXiv 1611.04076.
    The coding a -1, b 1, c 0 minimises a Pearson χ² divergence; 0, 1, 1 is that of the authors' experiments.
    """

    revision = 2
    stated_augmentation = None

    class Config(AidedConfig):
        """The published networks for scenes of 112 pixels."""

        size: tuple[int, ...] = (112, 112)  # rows and columns made
        game_rounds: int = 100_000  # updates of each player (our choice)
        batch_size: int = 64  # images
        learning_rate: float = 1e-3  # Adam, both players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        loss: Literal["least-squares", "nonsaturating"] = "least-squares"  # nonsaturating is the paper's comparison
        a: float = 0.0  # the discriminator's target score of generated images
        b: float = 1.0  # the discriminator's target score of real images
        c: float = 1.0  # the generator's target score of its images
        latent: int = 1024  # size of the latent vector, U(-1, 1)
        generator_widths: tuple[int, ...] = (
            256,
            256,
            256,
            256,
            256,
            128,
            64,
        )  # channels of the dense and hidden layers
        generator_strides: tuple[int, ...] = (2, 1, 2, 1, 2, 2)  # strides of the generator's hidden layers, kernel 3
        discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)  # channels; each layer halves the size
        discriminator_kernel: Kernel = 5  # side of the discriminator's convolutions

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (32, 32),
                "game_rounds": 1500,
                "batch_size": 16,
                "learning_rate": 5e-4,
                "latent": 100,
                "generator_widths": (128, 64, 64, 64, 32),
                "generator_strides": (2, 1, 2, 2),
                "discriminator_widths": (16, 32, 64),
                "ema_halflife": 1000.0,
            },
        }

    config: Config
    prior = "uniform"

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if len(c.generator_strides) != len(c.generator_widths) - 1:
            raise UserError("--generator-strides: one fewer than --generator-widths are needed, one between two layers")
        self.latent_size = c.latent
        self.dims = len(c.size)
        self.loss = least_squares(c.a, c.b, c.c) if c.loss == "least-squares" else GAMES["nonsaturating"]
        generator = DCGenerator(
            c.latent,
            c.channels,
            c.size,
            c.generator_widths,
            kernel=3,
            strides=c.generator_strides,
            norm=c.generator_norm,
            refine=True,
        )
        self.generator = self.referenced(generator, c.generator_norm)
        self.discriminator = DCDiscriminator(
            c.channels,
            c.size,
            c.discriminator_widths,
            kernel=c.discriminator_kernel,
            norm=c.discriminator_norm,
            discrimination=c.minibatch_discrimination,
        )

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        real = self.real(next(batches))
        fake = self.generator(self.latents(len(real)))
        yield self.discriminator_turn(self.look(real), self.look(fake.detach()))
        yield self.generator_turn(real, self.look(fake))


def least_squares(a: float, b: float, c: float) -> AdversarialLoss:
    """Return the losses of Mao et al. for discriminator and generator, with the factor ½ of the paper."""

    def generator(fake: Tensor) -> Tensor:
        return 0.5 * least_squares_generator(fake, c=c)

    return AdversarialLoss(partial(least_squares_discriminator, a=a, b=b), generator)
