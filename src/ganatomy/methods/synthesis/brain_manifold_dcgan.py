"""Midline slices of the brain in T1-weighted MR, from a DCGAN of their size."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.images.codecs import Window
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.methods.frameworks.pair import Pair, PairConfig
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator, Kernel
from ganatomy.tasks.framing import Fit
from ganatomy.tasks.synthesis import Synthesis

PATIENTS = 500
"""Of the embedded phantom; the paper has 528."""


class MidlineSlices(Synthesis):
    """One axial slice of each patient, at the same height in all of them."""

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        rows, columns = self.size
        shape = (size, round(size * columns / rows)) if size else (rows, columns)
        return {"shape": shape, "slices": 1}


class BrainManifoldDCGAN(Pair):
    """Whole axial slices of 220 x 172 pixels, from about 500 healthy brains.

    Bermudez, Plassard, Davis, Newton, Resnick & Landman, Learning Implicit Brain MRI Manifolds with Deep Learning, SPIE
    Medical Imaging 2018. arXiv 1801.01847. Slices are to be registered to each other beforehand.
    """

    class Config(PairConfig):
        """The paper's size and length; layers and optimiser are our choices."""

        size: tuple[int, ...] = (220, 172)  # rows and columns, of 1 mm in the paper
        fit: Fit = "contain"  # of training images: inside the size whole, filling it, or patches of it
        channels: int = 1  # of the images
        window: tuple[float, float] = (0.0, 1200.0)  # values mapped to [-1, 1] (our choice)
        window_unit: str | None = "a.u."  # of these values
        phantom: str = "brain-mr"  # learned from where no data are given
        phantom_image: str = "t1"  # the one of its images that is learned from
        game_rounds: int = 24_750  # updates of each player; 1500 epochs of 528 slices
        batch_size: int = 32  # slices (our choice)
        learning_rate: float = 2e-4  # Adam, both players (our choice)
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players (our choice)
        latent: int = 100  # numbers behind a slice, N(0, 1) (our choice)
        generator_widths: tuple[int, ...] = (512, 256, 128, 64, 32)  # channels, from the base up (our choice)
        discriminator_widths: tuple[int, ...] = (32, 64, 128, 256, 512)  # channels of its convolutions (our choice)
        kernel: Kernel = 5  # of all convolutions but the generator's last, which has 3 (our choice)
        dropout: float = 0.3  # rate after every convolution of the discriminator (our choice)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (56, 44),
                "game_rounds": 1000,
                "batch_size": 16,
                "learning_rate": 5e-4,
                "kernel": 4,
                "generator_widths": (128, 64, 32, 16),
                "discriminator_widths": (16, 32, 64, 128),
                "flips": (2,),
                "ema_halflife": 1000.0,
            },
        }

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.latent_size = c.latent
        # What the doublings make too large is cut off: a base of 14 x 11 leads to 224 x 176.
        self.generator = DCGenerator(c.latent, c.channels, c.size, c.generator_widths, kernel=c.kernel, refine=True)
        self.discriminator = DCDiscriminator(
            c.channels, c.size, c.discriminator_widths, kernel=c.kernel, dropout=c.dropout
        )

    @property
    def task(self) -> MidlineSlices:
        c = self.config
        return MidlineSlices(
            {"image": Window(low=c.window[0], high=c.window[1], unit=c.window_unit)},
            c.size,
            c.fit,
            {"image": c.channels},
            c.classes,
            c.phantom,
            {"image": c.phantom_image},
            PATIENTS,
        )

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        return self.game(
            Player("discriminator", (self.discriminator,), moves),
            Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife),
        )

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        real = self.real(next(batches))
        fake = self.generator(self.latents(len(real)))
        of_real, of_fake = self.discriminator(real), self.discriminator(fake.detach())
        yield Turn(
            "discriminator",
            adversarial=nonsaturating_discriminator(of_real, of_fake),
            scores={"real": of_real, "fake": of_fake},
        )
        yield Turn("generator", adversarial=nonsaturating_generator(self.discriminator(fake)))
