"""Fila-GAN and Fila-sGAN: images of vessels and neurons from a map of their filaments, in the style of a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import l1_loss

from ganatomy.case import Sample, slab
from ganatomy.errors import UserError
from ganatomy.game import Batch, Noise, Player, Stage, Tiling, Turn, adam, sgd
from ganatomy.images.files import read
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.matching import total_variation
from ganatomy.losses.style import gram, style_distance
from ganatomy.nets.features import FeatureSource, VGG19Features
from ganatomy.nets.filaments import FilamentGenerator, WholeImageDiscriminator, init_truncated
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.segmentation.kinds import PHOTOGRAPH, painted_retina
from ganatomy.tasks.translation.task import TranslationConfig, Translator

STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
"""Layers of VGG-19 whose Gram matrices are the style; activations are taken behind the ReLU."""
CONTENT = "conv4_2"
"""Layer of VGG-19 whose activations are the content."""


class FilaSGAN(Translator):
    """Synthesis of images of filaments, such as retinal vessels and neurons, from a map of them, a field and noise.

    Every draw of the noise gives another image of the same map. Few images with a map are learned from. In the variant
    Fila-sGAN the images also have the style of one further picture, which needs no map: textures and colours are
    compared by Gram matrices of a frozen VGG-19, and the content with that of the true image of the map. Fila-GAN has a
    pixel loss instead.

    Zhao, Li & Cheng, Synthesizing Filamentary Structured Images with GANs, 2017. arXiv 1706.02185; Synthesizing retinal
    and neuronal images with generative adversarial nets, Medical Image Analysis 49, 2018. Layers and numbers are those
    of the authors' release. It differs from it:

    - VGG-19 has torchvision's weights, for images in [0, 1], and its features are multiplied to the size of those of
      the release, whose weights are for images from 0 to 255.
    - Training images are drawn at random instead of in a fixed order.
    - The picture of the style is brought to the size of the images instead of to 512 pixels.
    - Results are black outside of the field, as the true images are.
    """

    stated_augmentation = "none: the release changes no image"

    class Config(TranslationConfig):
        """The numbers of the release."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
            "source": MaskOptions,
            "field_of_view": MaskOptions,
            "target": ImageOptions,
        }
        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "target": PHOTOGRAPH,
            "field_of_view": {"part": "mask:field"},
            "vessels": {"part": "mask:vessels"},
            "filaments": {"part": "mask:filaments"},
        }

        source: str = "vessels"  # name of the map of filaments
        field_of_view: str = "field"  # name of the mask of the field of view
        target: str = "image"  # name of the images
        size: tuple[int, ...] = (512, 512)  # rows and columns, multiples of 2**(levels + 1)
        flips: tuple[int, ...] = ()  # axes along which images are flipped at random: 1 rows, 2 columns
        phantom: str = "fundus"  # embedded phantom to learn from where no data are given
        variant: Literal["fila-sgan", "fila-gan"] = "fila-sgan"  # with a style, or with a pixel loss
        style: Path | None = None  # picture whose style the images get; none takes that of the first training image
        game_rounds: int = Field(2_000, ge=1)  # updates of the discriminator; 100 epochs of 20 images
        generator_steps: int = 2  # updates of the generator for each of them, with the same noise
        batch_size: int = 1  # images
        learning_rate: float = 2e-4  # Adam, generator
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, generator
        discriminator_learning_rate: float = 8e-5  # plain gradient descent, discriminator
        adversarial_weight: float = Field(1.0, ge=0)  # weight of the game; 0 trains with the other losses alone
        style_weight: float = 10.0  # weight of the mean distance of Gram matrices; Fila-sGAN
        content_weight: float = 1.0  # weight of the mean absolute difference of features; Fila-sGAN
        variation_weight: float = 100.0  # weight of the total variation within the field; Fila-sGAN
        l1_weight: float = 100.0  # weight of the mean absolute difference from the true image; Fila-GAN
        perceptual_range: float = Field(57.6, gt=0)  # factor of features to those of 0 to 255 (our estimate)
        features: FeatureSource = "auto"  # weights of VGG-19; auto falls back to the substitute and says so
        features_file: Path | None = None  # local file with torchvision's VGG-19 weights
        features_width: float = 1.0  # channel multiplier of the substitute features
        latent: int = 400  # size of the noise vector
        training_noise: float = 1e-3  # SD of the noise in training
        noise: float = 1.0  # SD of the noise of results; far above that of training, as in the release
        width: int = 64  # channels of the generator's first level
        levels: int = Field(6, ge=2)  # strided convolutions of the generator
        discriminator_width: int = 32  # channels of the discriminator's first layer
        discriminator_strided: int = Field(5, ge=1)  # strided convolutions of the discriminator
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "neurons": {
                "source": "filaments",
                "phantom": "neurons",
                "roles": {"target": {"channels": 1, "window": None, "unit": "a.u."}},
            },
            "small": {
                "size": (64, 64),
                "game_rounds": 1_500,
                "batch_size": 4,
                "learning_rate": 1e-3,
                "discriminator_learning_rate": 3e-3,
                "variation_weight": 1.0,
                "perceptual_range": 20.0,
                "features": "substitute",
                "features_width": 0.25,
                "latent": 32,
                "width": 16,
                "levels": 4,
                "discriminator_width": 16,
                "discriminator_strided": 4,
                "ema_halflife": 200.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config
    style: Tensor

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.check_sizes()
        given, made = self.task.in_channels, self.task.out_channels
        self.generator = FilamentGenerator(given, made, c.size, c.latent, c.width, c.levels)
        # Narrower networks get larger weights, as in `init_pix2pix`.
        init_truncated(self.generator, 0.02 * (64 / c.width) ** 0.5)
        self.discriminator = self.features = None
        if c.adversarial_weight:
            self.discriminator = WholeImageDiscriminator(
                given + made, c.size, c.discriminator_width, c.discriminator_strided
            )
            init_truncated(self.discriminator, 0.02 * (32 / c.discriminator_width) ** 0.5)
        if c.variant == "fila-sgan":
            self.features = VGG19Features(STYLE[-1], c.features, c.features_file, width=c.features_width)
            self.register_buffer("style", torch.zeros(made, *c.size))
        self.wanted: list[Tensor] = []
        """Gram matrices of the style, computed when they are first needed."""

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.config.source, self.config.field_of_view)

    @property
    def embedded(self) -> Embedded | None:
        retina = painted_retina(self.config.size)
        return retina if self.config.phantom == retina.name else None

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2 ** (self.config.levels + 1))

    def check_sizes(self) -> None:
        c = self.config
        multiple = 2 ** max(c.levels + 1, c.discriminator_strided)
        if any(extent % multiple for extent in c.size):
            raise UserError(
                f"--size {' '.join(map(str, c.size))}: rows and columns must be multiples of {multiple}; see --levels"
            )
        if c.style is not None and not c.style.is_file():
            raise UserError(f"--style {c.style}: no such file; give a picture, or leave it out")

    def provenance(self) -> dict[str, str]:
        if not self.features:
            return {}
        style = self.config.style
        return {"features": self.features.name, "style": style.name if style else "that of the first training image"}

    def fit(self, samples: Iterable[Sample]) -> None:
        """Fit the scales of the images, and keep the picture of the style."""
        cases = list(samples)
        super().fit(cases)
        if not self.features:
            return
        target = self.config.target
        sample = self.task.frame({target: read(self.config.style)}) if self.config.style else cases[0]
        picture = sample.role(target).encoded(slab(sample.arrays[target], 0, 1))[:, 0]
        self.style.copy_(torch.from_numpy(picture))
        self.wanted = []

    def inference_mode(self) -> Self:
        # Batch statistics are used at all times, which are those of the image in the release's batches of one.
        return self.eval()

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = [Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife)]
        if self.discriminator:
            slow = sgd(c.discriminator_learning_rate)
            players.insert(0, Player("discriminator", (self.discriminator,), slow, adversary=True))
        return [Stage("game", self.turns, players, c.game_rounds, self.streams(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        given, true = self.image(batch), self.truth(batch)
        shown, field = 2 * given - 1, given[:, -1:]
        latent = c.training_noise * self.noise.normal(len(given), c.latent)
        fake = self.generator(shown, latent).tanh()
        if self.discriminator:
            real_scores = self.discriminator(torch.cat([true, shown], dim=1))
            fake_scores = self.discriminator(torch.cat([fake.detach(), shown], dim=1))
            yield Turn(
                "discriminator",
                adversarial=nonsaturating_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        for step in range(c.generator_steps):
            if step:
                fake = self.generator(shown, latent).tanh()
            losses = {"l1": c.l1_weight * l1_loss(fake, true)} if not self.features else self.looks(fake, true, field)
            if self.discriminator:
                scores = self.discriminator(torch.cat([fake, shown], dim=1))
                losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(scores)
            yield Turn("generator", losses)

    def looks(self, fake: Tensor, true: Tensor, field: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses of style, content and smoothness of images (N, C, H, W) within their field.

        The total variation is of images that are 0 outside of the field, so that its rim counts, too.
        """
        c = self.config
        assert self.features
        if not self.wanted:
            with torch.no_grad():
                picture = (self.style[None] + 1) / 2
                self.wanted = [gram(one) for one in self.features.activations(picture, STYLE)]
        *textures, content = self.features.activations((fake + 1) / 2 * field, (*STYLE, CONTENT))
        with torch.no_grad():
            (wanted,) = self.features.activations((true + 1) / 2 * field, (CONTENT,))
        # Features grow with the range of the images, and Gram matrices with its square.
        return {
            "style": c.style_weight * c.perceptual_range**2 * style_distance(textures, self.wanted),
            "content": c.content_weight * c.perceptual_range * l1_loss(content, wanted),
            "variation": c.variation_weight * total_variation(fake * field),
        }

    def latent_of(self, seed: int) -> Tensor:
        return self.config.noise * Noise(seed).normal(1, self.config.latent)

    def restore(self, input: Tensor, latent: Tensor | None = None) -> Tensor:
        """Draw images of maps and fields of view (N, 2, H, W), each 0 or 1, for noise (1, latent), or without noise."""
        if latent is None:
            latent = input.new_zeros(1, self.config.latent)
        made: Tensor = self.generator(2 * input - 1, latent.to(input).expand(len(input), -1)).tanh()
        return (made + 1) * input[:, -1:] - 1
