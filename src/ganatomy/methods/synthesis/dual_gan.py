"""Dual GAN: a DCGAN of vessel maps, and a conditional GAN that paints photographs over maps, trained by themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, l1_loss

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam, rmsprop
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import evaluated
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator
from ganatomy.nets.layers import init_glorot, init_truncated
from ganatomy.nets.patchgan import PatchGAN
from ganatomy.nets.strided_unet import StridedUNet, widths_of
from ganatomy.tasks.synthesis.maps import MapSynthesisConfig, PaintedSynthesis, Painter


class DualGAN(Painter):
    """Samples a vessel map with a DCGAN, and paints the fundus photograph over it with a conditional GAN.

    Guibas, Virdi & Li, Synthetic Medical Images from Dual Generative Adversarial Networks, 2017. arXiv 1709.01872.

    The first stage learns from maps alone, those without a photograph included, the second one from pairs, and neither
    changes the networks of the other. They are those of the authors' release. Its discriminator of photographs takes
    map and photograph in another order as it learns than as it is misled; here the map is always first. Maps and pairs
    are drawn at random, and no case is left out. Without its adversaries nothing remains that samples maps, so the
    system has no baseline; with ``adversarial_weight`` 0 the painter alone is trained without one.
    """

    stated_augmentation = None
    prior = "uniform"

    class Config(MapSynthesisConfig):
        """The numbers of the authors' release; lengths of the stages are our choice."""

        size: tuple[int, ...] = (512, 512)  # rows and columns, multiples of 2**levels
        coarseness: int = Field(1, ge=1, le=16)  # factor by which maps are sampled smaller, and enlarged to be painted
        map_rounds: int = 5000  # rounds of the first stage (our choice); 0 trains the second one alone
        game_rounds: int = 3700  # rounds of the second stage: 100 epochs of 1200 pairs (our choice of their number)
        map_batch_size: int = 7  # maps
        batch_size: int = 32  # pairs for each of the two updates of a round
        latent: int = 100  # size of the latent vector, U(-1, 1)
        generator_steps: int = 2  # updates of the generator of maps in a round, with one latent vector
        map_learning_rate: float = 2e-4  # Adam, both players of the first stage; constant
        map_betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players of the first stage
        learning_rate: float = 1e-3  # RMSprop, both players of the second stage; constant
        decay: float = Field(0.9, gt=0, lt=1)  # RMSprop: decay of the mean of squared gradients
        l1_weight: float = 100.0  # weight of the mean absolute difference (our choice after pix2pix; 1 in the release)
        adversarial_weight: float = 1.0  # weight of the game of the second stage; 0 leaves its discriminator out
        map_widths: tuple[int, ...] = (512, 256, 128, 64)  # channels of the generator of maps, coarsest first
        map_discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of the discriminator of maps
        levels: int = Field(8, ge=2)  # strided convolutions of the painter
        width: int = 64  # channels of the painter's first level, which double up to eight times that
        norm_momentum: float = Field(0.01, gt=0, le=1)  # weight of a new batch in the averages of the painter's norms
        dropout: float = 0.5  # dropout rate in the painter's inner decoder
        discriminator_width: int = 64  # channels of the first layer of the discriminator of photographs
        discriminator_strided: int = 3  # its strided layers; 1 to 4 see patches of 16, 34, 70, 142 pixels
        map_channels: Literal[1, 3] = 3  # channels of the map as painter and discriminator see it, which are equal
        smallest: int = 20  # pixels; smaller parts of sampled maps are removed (our choice)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "code": {"l1_weight": 1.0, "smallest": 0},
            "small": {
                "size": (64, 64),
                "map_rounds": 1500,
                "game_rounds": 800,
                "map_batch_size": 16,
                "batch_size": 8,
                "latent": 32,
                "map_learning_rate": 1e-3,
                "learning_rate": 4e-3,
                "map_widths": (64, 32, 16, 8),
                "map_discriminator_widths": (8, 16, 32, 64),
                "levels": 5,
                "width": 16,
                "norm_momentum": 0.1,
                "dropout": 0.0,
                "discriminator_width": 16,
                "discriminator_strided": 2,
                "smallest": 4,
            },
        }

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, channels = config, config.channels
        step = 2**c.levels
        if any(extent % step or extent % c.coarseness for extent in c.size):
            raise UserError(
                f"--size {' '.join(map(str, c.size))}: rows and columns must be multiples of {step}, for --levels "
                f"{c.levels}, and of --coarseness {c.coarseness}"
            )
        if not (c.l1_weight or c.adversarial_weight):
            raise UserError("--l1-weight 0 --adversarial-weight 0: nothing is left to learn painting from")
        self.latent_size = c.latent
        size = tuple(extent // c.coarseness for extent in c.size)
        self.map_generator = DCGenerator(c.latent, 1, size, c.map_widths, biased=True, same=True)
        self.map_discriminator = DCDiscriminator(1, size, c.map_discriminator_widths, biased=True, same=True)
        for network in (self.map_generator, self.map_discriminator):
            init_truncated(network)
        widths = widths_of(c.width, c.levels)
        self.painter = StridedUNet(
            c.map_channels,
            channels,
            widths,
            widths[-2::-1],
            kernels=(4, 4),
            point=False,
            activated=True,
            statistics="running",
            momentum=c.norm_momentum,
            dropout=c.dropout,
            normalised_end=True,
        )
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = PatchGAN(
                c.map_channels + channels, c.discriminator_width, c.discriminator_strided, norm="none"
            )
            init_glorot(self.discriminator)

    def build_task(self) -> PaintedSynthesis:
        return PaintedSynthesis(self.config, maps_alone=True)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.levels)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.map_learning_rate, c.map_betas)
        maps = [
            Player("map discriminator", (self.map_discriminator,), moves, adversary=True),
            Player("map generator", (self.map_generator,), moves),
        ]
        alone = replace(self.stream(c.map_batch_size, c.flips), name="maps", roles=(c.labels,))
        moves = rmsprop(c.learning_rate, c.decay)
        painting = [Player("painter", (self.painter,), moves)]
        if self.discriminator is not None:
            painting.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        pairs = self.stream(c.batch_size, c.flips)
        first = Stage("maps", self.map_turns, maps, c.map_rounds, alone, validated=False)
        second = Stage("photographs", self.turns, painting, c.game_rounds, pairs)
        return [first, second] if c.map_rounds else [second]

    def map_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turns of a round of the DCGAN of maps."""
        real = avg_pool2d(2 * self.maps(next(batches)) - 1, self.config.coarseness)
        latent = self.latents(len(real))
        of_real = self.map_discriminator(real)
        of_fake = self.map_discriminator(self.map_generator(latent).detach())
        losses = {"adversarial": nonsaturating_discriminator(of_real, of_fake)}
        yield Turn("map discriminator", losses, scores={"real": of_real, "fake": of_fake})
        for _ in range(self.config.generator_steps):
            score = self.map_discriminator(self.map_generator(latent))
            yield Turn("map generator", adversarial=nonsaturating_generator(score))

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turns of a round of the conditional GAN, each with a batch of its own."""
        c = self.config
        if self.discriminator is not None:
            batch = next(batches)
            shown = self.shown(2 * self.maps(batch) - 1)
            with torch.no_grad(), evaluated(self.painter):
                painted = self.painter(shown).tanh()
            real = self.discriminator(torch.cat([shown, self.photographs(batch)], dim=1))
            fake = self.discriminator(torch.cat([shown, painted], dim=1))
            losses = {"adversarial": 0.5 * nonsaturating_discriminator(real, fake)}
            yield Turn("discriminator", losses, scores={"real": real, "fake": fake})
        batch = next(batches)
        shown = self.shown(2 * self.maps(batch) - 1)
        painted = self.painter(shown).tanh()
        losses = {"l1": c.l1_weight * l1_loss(painted, self.photographs(batch))} if c.l1_weight else {}
        if self.discriminator is not None:
            score = self.discriminator(torch.cat([shown, painted], dim=1))
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(score)
        yield Turn("painter", losses)

    def shown(self, maps: Tensor) -> Tensor:
        """Return maps (N, 1, H, W), from -1 to 1, with the channels that painter and discriminator see."""
        return maps.expand(-1, self.config.map_channels, -1, -1)

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate maps, each pixel of which is inside or outside, and photographs painted over these maps."""
        c = self.config
        maps = self.map_generator(latent)
        if c.coarseness > 1:
            maps = interpolate(maps, scale_factor=float(c.coarseness), mode="bilinear")
        maps = without_specks(torch.where(maps > 0, 1.0, -1.0), c.smallest)
        return torch.cat([maps, self.restore(maps)], dim=1)

    def restore(self, input: Tensor) -> Tensor:
        return self.painter(self.shown(input)).tanh()  # type: ignore[no-any-return]


def without_specks(maps: Tensor, smallest: int) -> Tensor:
    """Return maps (N, 1, H, W), -1 outside and 1 inside, without connected parts of fewer pixels; corners connect."""
    if smallest < 2:
        return maps
    kept = np.empty(maps.shape, bool)
    for place, inside in enumerate((maps > 0).cpu().numpy()):
        parts, _ = ndimage.label(inside, np.ones((3, 3, 3)))
        large = np.bincount(parts.ravel()) >= smallest
        large[0] = False
        kept[place] = large[parts]
    return torch.where(torch.from_numpy(kept).to(maps.device), 1.0, -1.0)
