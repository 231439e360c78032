"""AC-GAN: class-conditional images by a discriminator with an auxiliary classifier."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch.nn.functional import cross_entropy

from ganatomy.game import Batch, Turn
from ganatomy.methods.frameworks.pair import Aided, AidedConfig, check_classes, logarithmic
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator, Kernel


class ACGAN(Aided):
    """Class-conditional GAN whose discriminator has a second head that classifies images.

    Odena, Olah & Shlens, Conditional Image Synthesis with Auxiliary Classifier GANs, ICML 2017. arXiv 1610.09585. The
    dense layer makes maps of 4 pixels, which five doublings bring to 128.
    """

    revision = 2
    stated_augmentation = None

    class Config(AidedConfig):
        """The networks of the paper for 128 pixels."""

        size: tuple[int, ...] = (128, 128)  # rows and columns made
        classes: tuple[str, ...] = ("naevus", "melanoma")  # labels made; those of the embedded phantom
        game_rounds: int = 50_000  # updates of each player
        batch_size: int = 100  # images
        learning_rate: float = 2e-4  # Adam, both players; the paper tried 1e-4 to 3e-4
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        class_weight: float = 1.0  # weight of the cross-entropies of the classes, both players
        latent: int = 100  # size of the latent vector beside the class, U(-1, 1) (our choice)
        generator_widths: tuple[int, ...] = (768, 384, 256, 192, 64)  # channels of the dense layer and hidden doublings
        generator_kernel: Kernel = 5  # side of the generator's transposed convolutions
        discriminator_widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)  # channels; every other layer halves
        dropout: float = 0.5  # dropout rate after every layer of the discriminator
        activation_noise: float = 0.0  # SD of noise on the discriminator's hidden layers; the paper tried 0 to 0.2
        real_target: float = 1.0  # target probability of real images; 0.9 is one-sided label smoothing

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (32, 32),
                "game_rounds": 1200,
                "batch_size": 16,
                "learning_rate": 5e-4,
                "generator_widths": (128, 64, 32),
                "generator_kernel": 4,
                "discriminator_widths": (16, 32, 32, 64, 64, 128),
                "dropout": 0.0,
                "ema_halflife": 1000.0,
            },
        }

    config: Config
    prior = "uniform"
    labelled = True

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        check_classes(c.classes)
        self.latent_size = c.latent
        self.dims = len(c.size)
        self.loss = logarithmic("nonsaturating", c.real_target)
        classes, layers = len(c.classes), len(c.discriminator_widths)
        generator = DCGenerator(
            c.latent + classes,
            c.channels,
            c.size,
            c.generator_widths,
            kernel=c.generator_kernel,
            norm=c.generator_norm,
        )
        self.generator = self.referenced(generator, c.generator_norm)
        self.discriminator = DCDiscriminator(
            c.channels,
            c.size,
            c.discriminator_widths,
            kernel=3,
            strides=[2 - layer % 2 for layer in range(layers)],
            norm=c.discriminator_norm,
            dropout=c.dropout,
            noise=c.activation_noise,
            classes=classes,
            discrimination=c.minibatch_discrimination,
        )

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch, weight = next(batches), self.config.class_weight
        real, classify = self.real(batch), self.discriminator.classify
        label = self.drawn_labels(len(real))
        fake = self.sample(self.latents(len(real)), label)

        of_real, of_fake = self.look(real), self.look(fake.detach())
        classes = cross_entropy(classify(of_real), batch["label"])
        classes = classes + cross_entropy(classify(of_fake), label)
        yield self.discriminator_turn(of_real, of_fake, **{"class": weight * classes})

        of_fake = self.look(fake)
        classes = cross_entropy(classify(of_fake), label)
        yield self.generator_turn(real, of_fake, **{"class": weight * classes})
