"""Base of the frameworks that make images from noise: generator, discriminator, labels, and training aids."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ganatomy.errors import UserError
from ganatomy.game import Batch, OptimizerFactory, Player, Stage, Turn, adam
from ganatomy.losses.adversarial import (
    GAMES,
    AdversarialLoss,
    dragan_penalty,
    gradient_penalty,
    nonsaturating_discriminator,
    r1_penalty,
)
from ganatomy.losses.matching import feature_matching
from ganatomy.nets.aids import Norm, WithReference
from ganatomy.tasks.synthesis.task import SynthesisConfig, Synthesiser

DiscriminatorNorm = Literal["batch", "instance", "layer", "none"]
Penalty = Literal["none", "r1", "dragan", "gradient"]


class PairConfig(SynthesisConfig):
    """Options of every framework that are not in its paper."""

    flips: tuple[int, ...] = ()  # axes along which images are mirrored at random: 1 rows, 2 columns
    quarter_turns: bool = False  # whether square images are rotated by random multiples of 90 degrees, too
    ema_halflife: float | None = None  # images; average of the generator used at inference (our option)


class Pair(Synthesiser):
    """Base of methods with a generator and a discriminator; labels join the latent vector as one-hot vectors."""

    generator: nn.Module
    discriminator: Any

    @property
    def moves(self) -> OptimizerFactory:
        """Optimiser of both players, Adam."""
        return adam(self.config.learning_rate, self.config.betas)

    def stages(self) -> Sequence[Stage]:
        """Return one stage in which discriminator and generator take turns, in this order."""
        return self.game(
            Player("discriminator", (self.discriminator,), self.moves),
            Player("generator", (self.generator,), self.moves, ema_halflife=self.config.ema_halflife),
        )

    def game(self, *players: Player) -> list[Stage]:
        """Return the single stage of training, with these players."""
        c = self.config
        stream = self.stream(c.batch_size, c.flips, c.quarter_turns)
        return [Stage("game", self.turns, players, c.game_rounds, stream)]

    @abstractmethod
    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn | tuple[Turn, ...]]:
        """Yield the turns of one round."""

    def condition(self, label: Tensor) -> Tensor:
        """Convert class numbers (n,) to one-hot vectors (n, classes)."""
        return one_hot(label, len(self.config.classes)).float()

    def drawn_labels(self, rows: int) -> Tensor:
        """Draw class numbers (rows,), every class equally likely."""
        classes = len(self.config.classes)
        return (self.noise.uniform(rows) * classes).long().clamp(max=classes - 1)

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        if label is not None and self.labelled:
            latent = torch.cat([latent, self.condition(label)], dim=1)
        return self.generator(latent)  # type: ignore[no-any-return]

    def referenced(self, generator: nn.Module, norm: Norm) -> nn.Module:
        """Wrap the generator with a reference batch if its norm is virtual batch normalisation."""
        if norm != "virtual":
            return generator
        rows = self.config.batch_size
        latent = self.latents(rows)
        if self.labelled:
            latent = torch.cat([latent, self.condition(self.drawn_labels(rows))], dim=1)
        return WithReference(generator, latent)


def check_classes(classes: Sequence[str]) -> None:
    """Check that there are at least two classes.

    Raises:
        UserError: There are fewer than two classes.
    """
    if len(classes) < 2:
        raise UserError("--classes: give two labels or more, for this system makes images of a given class")


def logarithmic(game: Literal["nonsaturating", "minimax"], real_target: float) -> AdversarialLoss:
    """Return the losses of Goodfellow et al., arXiv 1406.2661, with one-sided label smoothing by ``real_target``."""
    return replace(GAMES[game], discriminator=partial(nonsaturating_discriminator, real_target=real_target))


class AidedConfig(PairConfig):
    """Options that stabilise training and can be combined; the papers of the frameworks use none of them."""

    generator_norm: Norm = "batch"  # norm of the generator's hidden layers; virtual is of arXiv 1606.03498
    discriminator_norm: DiscriminatorNorm = "batch"  # norm of the discriminator's hidden layers but the first
    feature_matching: bool = False  # whether feature matching replaces the generator's adversarial loss (1606.03498)
    minibatch_discrimination: int = Field(0, ge=0, le=1024)  # kernels of minibatch discrimination; 0: none (1606.03498)
    instance_noise: float = 0.0  # initial SD of noise added to the discriminator's inputs (arXiv 1610.04490)
    noise_until: float = Field(1.0, gt=0)  # fraction of the training at which that noise reaches zero (our choice)
    penalty: Penalty = "none"  # gradient penalty: r1 (arXiv 1801.04406), dragan (1705.07215), gradient (1704.00028)
    penalty_weight: float = 10.0  # weight of the penalty; 10 in the last two papers, γ/2 for r1


class Look(NamedTuple):
    """Images as the discriminator received them, and their features."""

    image: Tensor
    """Images with instance noise."""
    features: Tensor
    """Features of these images, the result of the discriminator's ``features``."""


class Aided(Pair):
    """Base of methods with the aids of `AidedConfig`; the discriminator has ``features`` and ``score``."""

    loss: AdversarialLoss

    def __init__(self, config: AidedConfig):
        super().__init__(config)
        if config.penalty != "none" and config.discriminator_norm == "batch":
            raise UserError(
                f"--penalty {config.penalty}: needs the gradient of each image's score, but batch norm mixes images; "
                "add --discriminator-norm layer"
            )

    @property
    def noise_level(self) -> float:
        """Present standard deviation of the instance noise."""
        return float(self.config.instance_noise * max(0.0, 1 - self.progress.fraction / self.config.noise_until))

    def look(self, image: Tensor) -> Look:
        """Add instance noise to images and compute the discriminator's features."""
        if level := self.noise_level:
            image = image + level * self.noise.normal(*image.shape)
        return Look(image, self.discriminator.features(image))

    def discriminator_turn(self, real: Look, fake: Look, **terms: Tensor) -> Turn:
        """Return the discriminator's turn: adversarial loss, gradient penalty and further terms."""
        c = self.config
        scores = {"real": self.discriminator.score(real.features), "fake": self.discriminator.score(fake.features)}
        terms = {"adversarial": self.loss.discriminator(scores["real"], scores["fake"]), **terms}
        if c.penalty != "none":
            terms["penalty"] = c.penalty_weight * self._penalty(real.image, fake.image)
        return Turn("discriminator", terms, scores=scores)

    def generator_turn(self, real: Tensor, fake: Look, **terms: Tensor) -> Turn:
        """Return the generator's turn: adversarial loss or feature matching, and further terms."""
        if self.config.feature_matching:
            matching = feature_matching(self.look(real).features, fake.features)
            return Turn("generator", {"feature matching": matching, **terms})
        scores = self.discriminator.score(fake.features)
        return Turn("generator", {"adversarial": self.loss.generator(scores), **terms})

    def _penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        match self.config.penalty:
            case "r1":
                return r1_penalty(self.discriminator, real)
            case "dragan":
                return dragan_penalty(self.discriminator, real, self.noise.normal(*real.shape))
            case _:
                return gradient_penalty(self.discriminator, real, fake, self.noise.uniform(len(real)))
