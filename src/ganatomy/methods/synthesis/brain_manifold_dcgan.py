"""Midline slices of T1-weighted brain MR: synthesis by a DCGAN, and denoising by an autoencoder."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss, relu

from ganatomy.game import Batch, Method, MethodConfig, Player, Stage, Stream, Turn, adam
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.methods.frameworks.pair import Pair, PairConfig
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator, Kernel
from ganatomy.tasks.mr_denoising.task import MRDenoising
from ganatomy.tasks.synthesis.task import Synthesis

PATIENTS = 500
"""Number of patients of the embedded phantom; the paper has 528."""
DENOISER_MOVES: Mapping[str, Any] = {"learning_rate": 1e-3, "betas": (0.9, 0.999)}
"""Options of Adam for the autoencoder (our choice)."""


class Midline:
    """Mixin of tasks on one axial slice per patient, at the same height in all of them."""

    size: tuple[int, ...]

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        rows, columns = self.size
        shape = (size, round(size * columns / rows)) if size else (rows, columns)
        return {"shape": shape, "slices": 1}


class MidlineSlices(Midline, Synthesis):
    """Synthesis of midline slices."""


class NoisyMidlineSlices(Midline, MRDenoising):
    """Denoising of midline slices; the phantom is noise-free, so that the target is clean."""

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {**super().phantom_grid(size), "noise": 0.0}


class BrainManifoldDCGAN(Pair):
    """DCGAN of whole axial slices of 220 x 172 pixels, trained on about 500 healthy brains.

    Bermudez, Plassard, Davis, Newton, Resnick & Landman, Learning Implicit Brain MRI Manifolds with Deep Learning, SPIE
    Medical Imaging 2018. arXiv 1801.01847. Slices must be registered to each other beforehand. The paper's second
    model, a denoising autoencoder, is the variant ``denoiser``.
    """

    stated_augmentation = None

    class Config(PairConfig):
        """The paper's size and length; layers and optimiser are our choices."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "images": {"window": None, "unit": "a.u."},
            "image": {"part": "t1"},
        }

        variant: Literal["dcgan", "denoiser"] = "dcgan"  # whether slices are generated or denoised
        size: tuple[int, ...] = (220, 172)  # rows and columns, of 1 mm in the paper
        fit: Fit = "contain"  # fit of training images to the size: contain, cover, or cut into patches
        phantom: str = "brain-mr"  # embedded phantom used without --data
        game_rounds: int = 24_750  # updates of each player; 1500 epochs of 528 slices
        batch_size: int = 32  # slices (our choice)
        learning_rate: float = 2e-4  # Adam, both players (our choice)
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players (our choice)
        latent: int = 100  # size of the latent vector, N(0, 1) (our choice)
        generator_widths: tuple[int, ...] = (512, 256, 128, 64, 32)  # generator channels, coarsest first (our choice)
        discriminator_widths: tuple[int, ...] = (32, 64, 128, 256, 512)  # discriminator channels (our choice)
        kernel: Kernel = 5  # side of all convolutions but the generator's last, which has 3 (our choice)
        dropout: float = 0.3  # dropout rate after every convolution of the discriminator (our choice)
        snr: float = Field(10.0, gt=0)  # mean of the head / SD of the noise of slices to denoise; paper 1, 10, 100
        denoiser_depth: int = Field(10, ge=1)  # convolutions of the autoencoder, and as many transposed (our choice)
        denoiser_width: int = 64  # channels of the autoencoder's layers (our choice)

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
                "denoiser_depth": 4,
                "denoiser_width": 16,
                "flips": (2,),
                "ema_halflife": 1000.0,
            },
            "denoiser": {"variant": "denoiser", "game_rounds": 49_500, "batch_size": 16, **DENOISER_MOVES},
            "small-denoiser": {
                "variant": "denoiser",
                "size": (56, 44),
                "game_rounds": 800,
                "batch_size": 8,
                "denoiser_depth": 4,
                "denoiser_width": 16,
                "flips": (2,),
                **DENOISER_MOVES,
            },
        }

    config: Config

    @classmethod
    def of(cls, config: MethodConfig) -> Method:
        assert isinstance(config, cls.Config)
        return BrainDenoiser(config) if config.variant == "denoiser" else cls(config)

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.latent_size = c.latent
        # Doublings of a base of 14 x 11 lead to 224 x 176, from which the size is cropped.
        self.generator = DCGenerator(c.latent, c.channels, c.size, c.generator_widths, kernel=c.kernel, refine=True)
        self.discriminator = DCDiscriminator(
            c.channels, c.size, c.discriminator_widths, kernel=c.kernel, dropout=c.dropout
        )

    def build_task(self) -> MidlineSlices:
        c = self.config
        images = {name: c.roles[name] for name in c.images}
        return MidlineSlices(images, c.size, c.fit, c.classes, c.phantom, PATIENTS)

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


class SkipAutoencoder(nn.Module):
    """Autoencoder of convolutions and as many transposed ones, of constant width, without strides.

    The input of every second convolution is added to the output of the mirrored transposed one, and the image to the
    result, so that training starts from the identity (our choice).

    Args:
        channels: image channels.
        width: channels of the hidden layers.
        depth: number of convolutions.
    """

    def __init__(self, channels: int, width: int, depth: int):
        super().__init__()
        widths = [channels, *[width] * depth]
        self.encoder = nn.ModuleList(nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairwise(widths))
        self.decoder = nn.ModuleList(
            nn.ConvTranspose2d(inputs, outputs, 3, padding=1) for inputs, outputs in pairwise(reversed(widths))
        )
        last = self.decoder[-1]
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or parameter is last.weight:
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Restore images (N, channels, rows, columns)."""
        made, skips = image, []
        for number, layer in enumerate(self.encoder):
            skips.append(made if number % 2 == 0 else None)
            made = relu(layer(made))
        for layer in self.decoder:
            made, skip = layer(made), skips.pop()
            if skip is not None:
                made = made + skip
            if skips:
                made = relu(made)
        return made


class BrainDenoiser(Method):
    """Denoising autoencoder for slices of one noise level, trained for squared error without a discriminator."""

    Config = BrainManifoldDCGAN.Config
    config: BrainManifoldDCGAN.Config

    def __init__(self, config: BrainManifoldDCGAN.Config):
        super().__init__(config)
        self.autoencoder = SkipAutoencoder(1, config.denoiser_width, config.denoiser_depth)

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator, which this baseline does not have."""
        return False

    def build_task(self) -> NoisyMidlineSlices:
        c = self.config
        name = c.images[0]
        image = c.roles[name]
        return NoisyMidlineSlices(
            image.codec((0.0, 1.0)), c.snr, c.size, c.phantom, image.part or name, PATIENTS, f"--{name}.window"
        )

    def stages(self) -> Sequence[Stage]:
        c = self.config
        player = Player("autoencoder", (self.autoencoder,), adam(c.learning_rate, c.betas), ema_halflife=c.ema_halflife)
        stream = Stream(
            "samples", None, c.batch_size, (1, c.size[0], c.size[1]), flips=c.flips, quarter_turns=c.quarter_turns
        )
        return [Stage("denoise", self.turns, [player], c.game_rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch = next(batches)
        yield Turn("autoencoder", error=mse_loss(self.autoencoder(batch["input"]), batch["target"]))

    def restore(self, input: Tensor) -> Tensor:
        """Denoise slices (N, 1, H, W), whose window is [0, 1]."""
        return self.autoencoder(input)  # type: ignore[no-any-return]
