"""DCGAN: generator and discriminator made of strided convolutions."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch

from ganatomy.game import Batch, OptimizerFactory, Turn, adam
from ganatomy.methods.frameworks.pair import Aided, AidedConfig, logarithmic
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator, Kernel


class DCGAN(Aided):
    """Unconditional GAN with convolutional networks.

    Radford, Metz & Chintala, Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
    Networks, ICLR 2016. arXiv 1511.06434. Images are generated with running averages of the batch norms' statistics,
    where the published code uses those of the generated batch: here an image does not depend on others. The
    discriminator moves first in a round, there the generator.
    """

    stated_augmentation = None
    revision = 2

    class Config(AidedConfig):
        """The published code for faces of 64 pixels: kernels of 5, and 128 channels next to the image."""

        game_rounds: int = 39_000  # updates of each player; 25 epochs of 200 000 images (our choice)
        batch_size: int = 128  # images
        learning_rate: float = 2e-4  # Adam, both players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        weight_decay: float = 1e-5  # multiple of the weights that is added to their gradient, both players
        latent: int = 100  # size of the latent vector, U(-1, 1)
        width: int = 128  # channels of the layers next to the image; doubled at every halving of the size
        stages: int = 4  # halvings of the size in the discriminator, doublings in the generator
        kernel: Kernel = 5  # side of all convolutions
        end_bias: bool = False  # whether the layers next to images and scores have a bias; the published code has none
        real_target: float = 1.0  # target probability of real images; 0.9 is one-sided label smoothing

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (32, 32),
                "game_rounds": 1500,
                "batch_size": 32,
                "width": 32,
                "stages": 3,
                "kernel": 4,
                "end_bias": True,
                "ema_halflife": 1000.0,
            },
        }

    config: Config
    prior = "uniform"

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        widths = [c.width * 2**level for level in range(c.stages)]
        self.latent_size = c.latent
        self.dims = len(c.size)
        self.loss = logarithmic("nonsaturating", c.real_target)
        generator = DCGenerator(
            c.latent,
            c.channels,
            c.size,
            widths[::-1],
            kernel=c.kernel,
            norm=c.generator_norm,
            unit_norm=True,
            end_bias=c.end_bias,
        )
        self.generator = self.referenced(generator, c.generator_norm)
        self.discriminator = DCDiscriminator(
            c.channels,
            c.size,
            widths,
            kernel=c.kernel,
            norm=c.discriminator_norm,
            discrimination=c.minibatch_discrimination,
            end_bias=c.end_bias,
        )

    @property
    def moves(self) -> OptimizerFactory:
        c = self.config
        return adam(c.learning_rate, c.betas, weight_decay=c.weight_decay)

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        real = self.real(next(batches))
        with torch.no_grad():
            fake = self.generator(self.latents(len(real)))
        yield self.discriminator_turn(self.look(real), self.look(fake))
        yield self.generator_turn(real, self.look(self.generator(self.latents(len(real)))))
