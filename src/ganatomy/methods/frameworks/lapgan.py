"""LAPGAN: a GAN for small images, and conditional GANs that add detail scale by scale."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ganatomy.case import Sample
from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Progress, Stage, Turn, adam, exponential_decay, linear_rise, sgd
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.methods.frameworks.pair import check_classes
from ganatomy.nets.aids import base_size
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator
from ganatomy.nets.mlp import MLP
from ganatomy.nets.pyramid import low_pass_pyramid, upsample
from ganatomy.tasks.synthesis.task import SynthesisConfig, Synthesiser

Size = tuple[int, ...]
EPS = 1e-6
"""Smallest SD that is divided by, that of pixels without variation (our choice)."""


class Standardisation(nn.Module):
    """Map from images (N, C, H, W) to standard deviations from the mean of the training images, and back.

    Mean and SD are buffers of the given shape, (C, H, W) or (C, 1, 1): 0 and 1 until `fit` has seen the images.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, shape: Size):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("sd", torch.ones(shape))

    def fit(self, cases: Iterable[np.ndarray[Any, Any]]) -> None:
        """Set mean and SD to those of the slices of all cases, each (C, slices, H, W)."""
        axes = (1, *(axis + 1 for axis in (1, 2) if self.mean.shape[axis] == 1))
        count, total, squares = 0, np.zeros(self.mean.shape), np.zeros(self.mean.shape)
        for case in cases:
            values = np.asarray(case, np.float64)
            count += math.prod(values.shape[axis] for axis in axes)
            total += values.sum(axes).reshape(total.shape)
            squares += np.square(values).sum(axes).reshape(total.shape)
        mean = total / count
        self.mean.copy_(torch.from_numpy(mean))
        self.sd.copy_(torch.from_numpy(np.sqrt(np.maximum(squares / count - mean**2, 0))))

    def forward(self, image: Tensor) -> Tensor:
        """Standardise images."""
        return (image - self.mean) / self.sd.clamp(min=EPS)

    def undo(self, image: Tensor) -> Tensor:
        """Map standardised images back to the range of the training images."""
        return image * self.sd.clamp(min=EPS) + self.mean


class DetailGenerator(nn.Module):
    """Generator of the detail that a low-pass image lacks: three convolutions on image and noise, linear output.

    Args:
        channels: image channels.
        width: channels of the hidden layers.
        told: channels of what is told beside the low-pass image, such as the class.
    """

    def __init__(self, channels: int, width: int = 64, told: int = 0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + told + 1, width, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(width, width, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(width, channels, 5, padding=2),
        )

    def forward(self, low: Tensor, noise: Tensor) -> Tensor:
        """Return the detail (N, channels, H, W) for images (N, channels + told, H, W) and noise (N, H * W)."""
        plane = noise.reshape(-1, 1, *low.shape[2:])
        return self.layers(torch.cat([low, plane], dim=1))  # type: ignore[no-any-return]


class DetailDiscriminator(nn.Sequential):
    """Discriminator of one scale: two convolutions without padding, the second strided, and a dense layer.

    (N, channels, *size) to raw scores (N, 1). Its input is the sum of detail and low-pass image.
    """

    def __init__(self, channels: int, size: Size, width: int = 64, dropout: float = 0.5):
        rows, columns = ((length - 4 - 5) // 2 + 1 for length in size)
        super().__init__(
            nn.Conv2d(channels, width, 5),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(width * rows * columns, 1),
        )


class ToldPlane(nn.Module):
    """Network of images that is told the class: a dense layer with a ReLU makes one more channel of the class.

    Args:
        network: network that takes images with one more channel first.
        classes: number of classes.
        size: rows and columns of the images.
    """

    def __init__(self, network: nn.Module, classes: int, size: Size):
        super().__init__()
        self.plane = nn.Sequential(nn.Linear(classes, math.prod(size)), nn.ReLU(), nn.Unflatten(1, (1, *size)))
        self.network = network

    def forward(self, image: Tensor, *rest: Tensor) -> Tensor:
        """Apply the network to images (N, C, *size), further inputs, and the last of them, classes (N, classes)."""
        *others, condition = rest
        return self.network(torch.cat([image, self.plane(condition)], dim=1), *others)  # type: ignore[no-any-return]


class ToldVector(nn.Module):
    """Network of vectors that is told the class by further numbers: (N, ...) and (N, classes) in, flattened."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, sample: Tensor, condition: Tensor) -> Tensor:
        """Apply the network to samples of any shape with classes."""
        return self.network(torch.cat([sample.flatten(1), condition], dim=1))  # type: ignore[no-any-return]


class LAPGAN(Synthesiser):
    """Laplacian pyramid of GANs: one for small images, and a conditional one for every scale that adds detail.

    Denton, Chintala, Szlam & Fergus, Deep Generative Image Models using a Laplacian Pyramid of Adversarial Networks,
    NIPS 2015. arXiv 1506.05751. The scales learn from real low-pass images and are independent of each other, so all
    are trained in the same stage. Images are standardised by mean and SD of the training images, of each pixel as in
    the published code for 32 pixels, or of each channel as in that for large images. In the class-conditional form,
    all generators and discriminators are told the class, the dense ones by a one-hot vector and the others by a plane.
    """

    stated_augmentation: ClassVar[str | None] = "cut at random places and mirrored, in the release for large images"
    revision = 2

    class Config(SynthesisConfig):
        """The published code for photographs of 32 pixels."""

        size: tuple[int, ...] = (32, 32)  # rows and columns made
        standardise: Literal["pixel", "channel", "none"] = "pixel"  # whose mean and SD over training images are used
        use_labels: bool = False  # whether generators and discriminators are told the class
        levels: int = Field(2, ge=0)  # scales that add detail, each of twice the size of the one before (our choice)
        coarse: Literal["dense", "dcgan"] = "dense"  # networks of the coarsest scale
        game_rounds: int = 200_000  # updates of every player (our choice)
        batch_size: int = 64  # real images; with as many generated ones they make the batches of 128
        optimiser: Literal["sgd", "adam"] = "sgd"  # optimiser of all players
        learning_rate: float = 0.02  # learning rate of either optimiser
        epoch_rounds: int = Field(704, ge=1)  # rounds per epoch of sgd: 45 000 images
        epoch_decay: float = Field(1.000004, ge=1)  # the learning rate is divided by this in every epoch
        momentum: float = 0.5  # initial momentum of SGD
        final_momentum: float = 0.7  # final momentum of SGD
        momentum_epochs: int = Field(250, ge=1)  # epochs during which the momentum rises, 0.0008 in each
        betas: tuple[float, float] = (0.5, 0.999)  # betas of Adam (our choice)
        latent: int = 100  # latent size of the coarsest image, U(-1, 1); further scales have one number per pixel
        hidden: int = 1200  # units in both hidden layers of a dense generator (our choice)
        critic_hidden: int = 600  # units in both hidden layers of a dense discriminator (our choice)
        widest: int = 1024  # channels of a DCGAN at its smallest size, halved at every doubling (our choice)
        width: int = 64  # channels of generators and discriminators of the scales that add detail
        dropout: float = 0.5  # dropout rate in all discriminators but a DCGAN's
        flips: tuple[int, ...] = ()  # axes along which images are mirrored at random: 1 rows, 2 columns
        quarter_turns: bool = False  # whether square images are turned at random, too
        ema_halflife: float | None = None  # images; average of the generators used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "game_rounds": 1500,
                "batch_size": 32,
                "hidden": 256,
                "critic_hidden": 128,
                "width": 16,
                "optimiser": "adam",
                "learning_rate": 5e-4,
                "flips": (1, 2),
                "quarter_turns": True,
                "ema_halflife": 2000.0,
            },
        }

    config: Config
    prior = "uniform"

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if len(c.size) != 2:
            raise UserError(f"--size {' '.join(map(str, c.size))}: the pyramid needs rows and columns, two numbers")
        self.sizes = [base_size(c.size, level) for level in reversed(range(self.levels + 1))]
        if min(self.sizes[0]) < 5:
            raise UserError(
                f"--size {c.size[0]} {c.size[1]}: {self.levels} halvings leave fewer than 5 rows or columns; "
                f"give at least {4 * 2**self.levels + 1} of each, or fewer --levels"
            )
        if c.standardise == "pixel" and c.fit == "patches":
            raise UserError("--standardise pixel: patches have no fixed pixels; add --standardise channel")
        if c.use_labels:
            check_classes(c.classes)
        self.labelled = c.use_labels
        self.parts = [c.latent, *[rows * columns for rows, columns in self.sizes[1:]]]
        self.latent_size = sum(self.parts)
        generator, discriminator = self._coarse_dcgan() if c.coarse == "dcgan" else self._coarse_dense()
        self.generators, self.discriminators = nn.ModuleList([generator]), nn.ModuleList([discriminator])
        for size in self.sizes[1:]:
            told = int(self.labelled)
            made = DetailGenerator(c.channels, c.width, told)
            judge = DetailDiscriminator(c.channels + told, size, c.width, c.dropout)
            self.generators.append(self._told(made, size))
            self.discriminators.append(self._told(judge, size))
        # Made last and without random numbers: networks without it have the same weights and names.
        self.standardisation = None
        if c.standardise != "none":
            self.standardisation = Standardisation((c.channels, *(c.size if c.standardise == "pixel" else (1, 1))))

    def _told(self, network: nn.Module, size: Size) -> nn.Module:
        return ToldPlane(network, len(self.config.classes), size) if self.labelled else network

    def _coarse_dense(self) -> tuple[nn.Module, nn.Module]:
        c, told = self.config, self._told_numbers
        shape = (c.channels, *self.sizes[0])
        pixels = math.prod(shape)
        generator = nn.Sequential(MLP((c.latent + told, c.hidden, c.hidden, pixels)), nn.Unflatten(1, shape))
        sizes = (pixels + told, c.critic_hidden, c.critic_hidden, 1)
        discriminator = MLP(sizes, dropout=c.dropout)
        if self.labelled:
            return ToldVector(generator), ToldVector(discriminator)
        return generator, nn.Sequential(nn.Flatten(), discriminator)

    def _coarse_dcgan(self) -> tuple[nn.Module, nn.Module]:
        c, size = self.config, self.sizes[0]
        widths = [c.widest >> halving for halving in range(max(1, round(math.log2(min(size) / 4))))]
        # Standardised images are not limited to the range of a tanh.
        output: Literal["tanh", "linear"] = "tanh" if c.standardise == "none" else "linear"
        made = DCGenerator(c.latent + self._told_numbers, c.channels, size, widths, kernel=4, output=output)
        judge = DCDiscriminator(c.channels + self.labelled, size, widths[::-1], kernel=4)
        return ToldVector(made) if self.labelled else made, self._told(judge, size)

    @property
    def _told_numbers(self) -> int:
        """Size of the one-hot vector of the class; 0 where networks are not told it."""
        return len(self.config.classes) if self.labelled else 0

    @property
    def levels(self) -> int:
        """Number of scales that add detail."""
        levels: int = self.config.levels
        return levels

    def stages(self) -> Sequence[Stage]:
        c, players = self.config, []
        for (rows, _), generator, discriminator in zip(self.sizes, self.generators, self.discriminators, strict=True):
            players.append(self.player(f"discriminator {rows}", discriminator))
            players.append(self.player(f"generator {rows}", generator, c.ema_halflife))
        stream = self.stream(c.batch_size, c.flips, c.quarter_turns)
        return [Stage("game", self.turns, players, c.game_rounds, stream)]

    def player(self, name: str, module: nn.Module, ema_halflife: float | None = None) -> Player:
        """Return a player for one network, with the chosen optimiser and schedules."""
        c, judges = self.config, module in list(self.discriminators)
        if c.optimiser == "adam":
            moves = adam(c.learning_rate, c.betas)
            return Player(name, (module,), moves, ema_halflife=ema_halflife, adversary=judges)
        momentum = linear_rise(c.momentum, c.final_momentum, c.momentum_epochs * c.epoch_rounds)
        decay = exponential_decay(c.epoch_decay ** (1 / c.epoch_rounds))

        def rate(progress: Progress) -> float:
            # The published numbers are for Torch 7, whose SGD weights every new gradient with 1 - momentum.
            return (1 - momentum(progress)) * decay(progress)

        return Player(name, (module,), sgd(c.learning_rate, c.momentum), rate, momentum, ema_halflife, adversary=judges)

    def fit(self, samples: Iterable[Sample]) -> None:
        kept = list(samples)
        super().fit(kept)
        if self.standardisation is not None:
            names = self.task.images
            self.standardisation.fit(
                np.concatenate([one.role(name).encoded(np.asarray(one.arrays[name])) for name in names]) for one in kept
            )

    def shown(self, batch: Batch) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """Return the real images of all scales, coarsest first, and what all networks are told beside images."""
        real = self.real(batch)
        if self.standardisation is not None:
            real = self.standardisation(real)
        return low_pass_pyramid(real, self.levels), self.told(batch["label"] if self.labelled else None)

    def told(self, label: Tensor | None) -> tuple[Tensor, ...]:
        """Return the further input of all networks, classes (N, classes); nothing where they are not told."""
        if label is None or not self.labelled:
            return ()
        return (one_hot(label, len(self.config.classes)).float(),)

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        real, told = self.shown(next(batches))
        fake = self.scales(self.latents(len(real[0])), real, *told)
        for (rows, _), real_image, fake_image, discriminator in zip(
            self.sizes, real, fake, self.discriminators, strict=True
        ):
            yield self.judged(f"discriminator {rows}", discriminator, real_image, fake_image, *told)
            yield Turn(f"generator {rows}", adversarial=nonsaturating_generator(discriminator(fake_image, *told)))

    def judged(self, player: str, discriminator: nn.Module, real: Tensor, fake: Tensor, *told: Tensor) -> Turn:
        """Return the turn of the discriminator of one scale."""
        real_scores, fake_scores = discriminator(real, *told), discriminator(fake.detach(), *told)
        return Turn(
            player,
            adversarial=nonsaturating_discriminator(real_scores, fake_scores),
            scores={"real": real_scores, "fake": fake_scores},
        )

    def scales(self, latent: Tensor, real: Sequence[Tensor] | None = None, *told: Tensor) -> list[Tensor]:
        """Generate images of all scales, coarsest first, standardised where the method does so.

        Args:
            latent: latent vectors (N, latent_size).
            real: real images of all scales, to which detail is added in training; None to build every scale on the
                generated image of the scale before.
            told: classes (N, classes), where the networks are told them.
        """
        first, *planes = torch.split(latent, self.parts, dim=1)
        made = [self.generators[0](first, *told)]
        for level, plane in enumerate(planes, start=1):
            made.append(self.finer(level, (real or made)[level - 1], plane, *told))
        return made

    def finer(self, level: int, coarser: Tensor, noise: Tensor, *told: Tensor) -> Tensor:
        """Generate the image of a scale from the one before and from noise (N, rows * columns)."""
        low = upsample(coarser, self.sizes[level])
        return low + self.generators[level](low, noise, *told)  # type: ignore[no-any-return]

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        image = self.scales(latent, None, *self.told(label))[-1]
        return image if self.standardisation is None else self.standardisation.undo(image)
