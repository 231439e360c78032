"""PGAN: progressive growing of generator and critic from low to high resolution."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate, one_hot

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.losses.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from ganatomy.methods.frameworks.pair import check_classes
from ganatomy.nets.progressive import SIDES, ProgressiveDiscriminator, ProgressiveGenerator, faded, level_of
from ganatomy.tasks.synthesis.task import SynthesisConfig, Synthesiser


class PGAN(Synthesiser):
    """Wasserstein GAN whose networks grow by layers for twice the size.

    Karras, Aila, Laine & Lehtinen, Progressive Growing of GANs for Improved Quality, Stability, and Variation,
    ICLR 2018. arXiv 1710.10196. Stages alternate: the newest layers fade in, then all are trained. If training stops
    early, samples are images of the present size, enlarged. With labels, as in the published code, the generator is
    told the class and the critic also names it. Real images are averaged to the present size as they are read, where
    the published code has files of every size.
    """

    stated_augmentation = "mirrored"

    class Config(SynthesisConfig):
        """The published code for portraits of 1024 pixels on one GPU."""

        size: tuple[int, ...] = (1024, 1024)  # rows and columns made: equal, a power of two
        grow: bool = True  # whether networks grow; otherwise they learn from as many images at the full size
        start: int = Field(4, ge=4, le=1024)  # initial rows and columns
        fade_images: int = 600_000  # real images shown while a size fades in
        hold_images: int = 600_000  # real images shown before the next size
        final_images: int = 2_400_000  # real images shown at the full size after fading; 12 million in all
        batch_size: int = Field(128, ge=1)  # images of up to 16 pixels a side; halved with every further size
        smallest_batch: int = Field(4, ge=1)  # lower limit of the batch size
        learning_rate: float = 1e-3  # Adam, both players
        learning_rate_at_1024: float = 1.5e-3  # learning rate where images have 1024 rows
        betas: tuple[float, float] = (0.0, 0.99)  # Adam, both players
        ema_decay: float = Field(0.999, gt=0, lt=1)  # decay per update of the generator's average used at inference
        latent: int = 512  # size of the latent vector, N(0, 1)
        base: int = 8192  # channels at 2 pixels a side, halved at every doubling
        maximum: int = 512  # largest number of channels of a layer
        group: int = Field(4, ge=1)  # images per group of the critic's minibatch standard deviation
        penalty_weight: float = 10.0  # weight of the gradient penalty
        gradient_target: float = Field(1.0, gt=0)  # target norm of the critic's gradient
        drift_weight: float = 1e-3  # weight of the squared scores of real images
        use_labels: bool = False  # whether the generator is told the class, and the critic names it
        class_weight: float = 1.0  # weight of the cross-entropies of the classes, both players, with labels
        flips: tuple[int, ...] = (2,)  # axes along which images are mirrored at random: 1 rows, 2 columns
        quarter_turns: bool = False  # whether images are rotated by random multiples of 90 degrees, too (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (32, 32),
                "start": 8,
                "fade_images": 3000,
                "hold_images": 3000,
                "final_images": 12_000,
                "batch_size": 32,
                "ema_decay": 0.99,
                "latent": 64,
                "base": 256,
                "maximum": 64,
                "flips": (1, 2),
                "quarter_turns": True,
            },
        }

    config: Config
    level: Tensor
    alpha: Tensor

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if len(c.size) != 2 or c.size[0] != c.size[1] or not {c.start, c.size[0]} <= set(SIDES) or c.start > c.size[0]:
            raise UserError(
                f"--size {' '.join(map(str, c.size))} --start {c.start}: growing needs square images, not smaller than "
                f"at the start, with {', '.join(map(str, SIDES))} pixels a side"
            )
        if c.use_labels:
            check_classes(c.classes)
        self.latent_size, self.labelled = c.latent, c.use_labels
        told = len(c.classes) if c.use_labels else 0
        self.first, self.last = level_of(c.start), level_of(c.size[0])
        widths = {"size": c.size[0], "base": c.base, "maximum": c.maximum}
        self.generator = ProgressiveGenerator(c.latent + told, c.channels, **widths)
        self.critic = ProgressiveDiscriminator(c.channels, group=c.group, classes=told, **widths)
        # Saved with the weights, because weights are trained for the present size only.
        self.register_buffer("level", torch.tensor(self.first))
        self.register_buffer("alpha", torch.tensor(1.0))

    def stages(self) -> Sequence[Stage]:
        c = self.config
        plan = [(self.first, False, c.hold_images)]
        for level in range(self.first + 1, self.last + 1):
            plan += [(level, True, c.fade_images), (level, False, c.hold_images)]
        plan[-1] = (self.last, False, c.final_images)
        if not c.grow:
            plan = [(self.last, False, sum(images for *_, images in plan))]
        return [self.stage(*step) for step in plan]

    def stage(self, level: int, fading: bool, images: int) -> Stage:
        """Return the stage of training at one size, until ``images`` real images were shown."""
        c, side = self.config, 4 << level
        batch_size = min(c.batch_size, max(c.smallest_batch, 16 * c.batch_size // side))
        moves = adam(c.learning_rate if side < 1024 else c.learning_rate_at_1024, c.betas)
        halflife = -batch_size / math.log2(c.ema_decay)
        roles, block = tuple(self.task.images), c.size[0] // side

        def smaller(drawn: Mapping[str, Any], rng: Any) -> Mapping[str, Any]:
            return {role: averaged(one, block) if role in roles else one for role, one in drawn.items()}

        players = [
            Player("critic", (self.critic,), moves, adversary=True),
            Player("generator", (self.generator,), moves, ema_halflife=halflife),
        ]
        return Stage(
            f"fade to {side}" if fading else f"hold {side}",
            partial(self.turns, level, fading),
            players,
            max(1, images // batch_size),
            replace(self.stream(batch_size, c.flips, c.quarter_turns), transform=smaller),
            # Enlarged images of a smaller size may score better than the first ones of the full size.
            validated=level == self.last and not fading,
        )

    def turns(self, level: int, fading: bool, batches: Iterator[Batch]) -> Iterator[Turn]:
        c, alpha = self.config, self.progress.fraction if fading else 1.0
        self.level.fill_(level)
        self.alpha.fill_(alpha)
        batch, critic = next(batches), partial(self.critic, level=level, alpha=alpha)
        real = self.real(batch)
        # The stage's stream gives images of the present size; a caller's own batches may have the full one.
        real = faded(avg_pool2d(real, real.shape[-1] // (4 << level)), alpha)
        # Images are made of the classes of the real ones, as in the published code.
        label = batch["label"] if self.labelled else None
        fake = self.generator(self.told(self.latents(len(real)), label), level, alpha)
        looks = partial(self.critic.features, level=level, alpha=alpha)
        of_real, of_fake = self.critic.judged(looks(real)), self.critic.judged(looks(fake.detach()))
        mix = self.noise.uniform(len(real))
        losses = {
            "wasserstein": wasserstein_critic(of_real[0], of_fake[0]),
            "penalty": c.penalty_weight * gradient_penalty(critic, real, fake, mix, c.gradient_target),
            "drift": c.drift_weight * of_real[0].square().mean(),
        }
        if label is not None:
            losses["class"] = c.class_weight * (cross_entropy(of_real[1], label) + cross_entropy(of_fake[1], label))
        yield Turn("critic", losses, scores={"real": of_real[0], "fake": of_fake[0]})
        score, classes = self.critic.judged(looks(fake))
        losses = {"wasserstein": wasserstein_generator(score)}
        if label is not None:
            losses["class"] = c.class_weight * cross_entropy(classes, label)
        yield Turn("generator", losses)

    def told(self, latent: Tensor, label: Tensor | None) -> Tensor:
        """Return latent vectors with the indicators of the classes behind them, where there are labels."""
        if label is None or not self.labelled:
            return latent
        return torch.cat([latent, one_hot(label, len(self.config.classes)).to(latent.dtype)], 1)

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        image = self.generator(self.told(latent, label), int(self.level), float(self.alpha))
        return interpolate(image, self.config.size)


def averaged(image: NDArray[Any], block: int) -> NDArray[Any]:
    """Return the means of square blocks of pixels of an image (..., rows, columns)."""
    *front, rows, columns = image.shape
    blocks = image.reshape(*front, rows // block, block, columns // block, block)
    return np.asarray(blocks.mean((-3, -1)), np.float32)
