"""LAPGAN: a GAN for small images, and conditional GANs that add detail scale by scale."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Progress, Stage, Turn, adam, exponential_decay, linear_rise, sgd
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import base_size
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator
from ganatomy.nets.mlp import MLP
from ganatomy.nets.pyramid import low_pass_pyramid, upsample
from ganatomy.tasks.synthesis.task import SynthesisConfig, Synthesiser

Size = tuple[int, ...]


class DetailGenerator(nn.Module):
    """Generator of the detail that a low-pass image lacks: three convolutions on image and noise, linear output."""

    def __init__(self, channels: int, width: int = 64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels + 1, width, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(width, width, 7, padding=3),
            nn.ReLU(),
            nn.Conv2d(width, channels, 5, padding=2),
        )

    def forward(self, low: Tensor, noise: Tensor) -> Tensor:
        """Return the detail (N, channels, H, W) for images (N, channels, H, W) and noise (N, H * W)."""
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


class LAPGAN(Synthesiser):
    """Laplacian pyramid of GANs: one for small images, and a conditional one for every scale that adds detail.

    Denton, Chintala, Szlam & Fergus, Deep Generative Image Models using a Laplacian Pyramid of Adversarial Networks,
    NIPS 2015. arXiv 1506.05751. The scales learn from real low-pass images and are independent of each other, so all
    are trained in the same stage. Images lie in [-1, 1], where the published code subtracts the mean of the training
    images and divides by their SD: the windows of images are options here. The paper's class-conditional form is not
    offered.
    """

    stated_augmentation: ClassVar[str | None] = "cut at random places and mirrored, in the release for large images"

    class Config(SynthesisConfig):
        """The published code for photographs of 32 pixels."""

        size: tuple[int, ...] = (32, 32)  # rows and columns made
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
        self.parts = [c.latent, *[rows * columns for rows, columns in self.sizes[1:]]]
        self.latent_size = sum(self.parts)
        generator, discriminator = self._coarse_dcgan() if c.coarse == "dcgan" else self._coarse_dense()
        self.generators, self.discriminators = nn.ModuleList([generator]), nn.ModuleList([discriminator])
        for size in self.sizes[1:]:
            self.generators.append(DetailGenerator(c.channels, c.width))
            self.discriminators.append(DetailDiscriminator(c.channels, size, c.width, c.dropout))

    def _coarse_dense(self) -> tuple[nn.Module, nn.Module]:
        c = self.config
        shape = (c.channels, *self.sizes[0])
        pixels = math.prod(shape)
        generator = nn.Sequential(MLP((c.latent, c.hidden, c.hidden, pixels)), nn.Unflatten(1, shape))
        sizes = (pixels, c.critic_hidden, c.critic_hidden, 1)
        return generator, nn.Sequential(nn.Flatten(), MLP(sizes, dropout=c.dropout))

    def _coarse_dcgan(self) -> tuple[nn.Module, nn.Module]:
        c, size = self.config, self.sizes[0]
        widths = [c.widest >> halving for halving in range(max(1, round(math.log2(min(size) / 4))))]
        generator = DCGenerator(c.latent, c.channels, size, widths, kernel=4)
        return generator, DCDiscriminator(c.channels, size, widths[::-1], kernel=4)

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

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        real = low_pass_pyramid(self.real(next(batches)), self.levels)
        fake = self.scales(self.latents(len(real[0])), real)
        for (rows, _), real_image, fake_image, discriminator in zip(
            self.sizes, real, fake, self.discriminators, strict=True
        ):
            yield self.judged(f"discriminator {rows}", discriminator, real_image, fake_image)
            yield Turn(f"generator {rows}", adversarial=nonsaturating_generator(discriminator(fake_image)))

    def judged(self, player: str, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Turn:
        """Return the turn of the discriminator of one scale."""
        real_scores, fake_scores = discriminator(real), discriminator(fake.detach())
        return Turn(
            player,
            adversarial=nonsaturating_discriminator(real_scores, fake_scores),
            scores={"real": real_scores, "fake": fake_scores},
        )

    def scales(self, latent: Tensor, real: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Generate images of all scales, coarsest first.

        Args:
            latent: latent vectors (N, latent_size).
            real: real images of all scales, to which detail is added in training; None to build every scale on the
                generated image of the scale before.
        """
        first, *planes = torch.split(latent, self.parts, dim=1)
        made = [self.generators[0](first)]
        for level, plane in enumerate(planes, start=1):
            made.append(self.finer(level, (real or made)[level - 1], plane))
        return made

    def finer(self, level: int, coarser: Tensor, noise: Tensor) -> Tensor:
        """Generate the image of a scale from the one before and from noise (N, rows * columns)."""
        low = upsample(coarser, self.sizes[level])
        return low + self.generators[level](low, noise)  # type: ignore[no-any-return]

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        return self.scales(latent)[-1]
