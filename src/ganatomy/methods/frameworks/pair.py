"""What the base frameworks share: a generator, its opponent, labels, and the aids that steady their game."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Turn, adam
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

OpponentNorm = Literal["batch", "instance", "layer", "none"]
Penalty = Literal["none", "r1", "dragan", "gradient"]

LIVER: Mapping[str, Any] = {
    "size": (32, 32),
    "roles": {"images": {"channels": 1, "window": (-100.0, 300.0), "unit": "HU"}},
    "phantom": "liver-lesion",
}
"""What the small presets learn from."""
LIVER_CLASSES = ("cyst", "metastasis", "haemangioma")


class PairConfig(SynthesisConfig):
    """What every framework can be told besides its paper's numbers."""

    flips: tuple[int, ...] = ()  # axes along which images are mirrored at random: 1 rows, 2 columns
    quarter_turns: bool = False  # whether square images are turned at random, too
    ema_halflife: float | None = None  # images; average of the generator used at inference (our option)


class Pair(Synthesiser):
    """A generator and its opponent; labels, where there are any, join the latent numbers as one-hot vectors."""

    generator: nn.Module
    discriminator: Any

    def stages(self) -> Sequence[Stage]:
        """The discriminator moves first, both by Adam, unless the framework has other players."""
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        return self.game(
            Player("discriminator", (self.discriminator,), moves),
            Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife),
        )

    def game(self, *players: Player) -> list[Stage]:
        """The only stage."""
        c = self.config
        stream = self.stream(c.batch_size, c.flips, c.quarter_turns)
        return [Stage("game", self.turns, players, c.game_rounds, stream)]

    @abstractmethod
    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn | tuple[Turn, ...]]:
        """One round."""

    def condition(self, label: Tensor) -> Tensor:
        """Places of the labels among the classes, (n,), to one-hot vectors (n, classes)."""
        return one_hot(label, len(self.config.classes)).float()

    def drawn_labels(self, rows: int) -> Tensor:
        """Labels to train with, every class equally likely, (rows,)."""
        classes = len(self.config.classes)
        return (self.noise.uniform(rows) * classes).long().clamp(max=classes - 1)

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        if label is not None and self.labelled:
            latent = torch.cat([latent, self.condition(label)], dim=1)
        return self.generator(latent)  # type: ignore[no-any-return]

    def referenced(self, generator: nn.Module, norm: Norm) -> nn.Module:
        """The generator, with a reference batch for virtual batch normalisation if that is its norm."""
        if norm != "virtual":
            return generator
        rows = self.config.batch_size
        latent = self.latents(rows)
        if self.labelled:
            latent = torch.cat([latent, self.condition(self.drawn_labels(rows))], dim=1)
        return WithReference(generator, latent)


def check_classes(classes: Sequence[str]) -> None:
    """Refuse to learn labels where there is nothing to tell apart.

    Raises:
        UserError: fewer than two labels.
    """
    if len(classes) < 2:
        raise UserError("--classes: give two labels or more, for this system makes images of a given class")


def logarithmic(game: Literal["nonsaturating", "minimax"], real_target: float) -> AdversarialLoss:
    """The game of Goodfellow et al., arXiv 1406.2661, perhaps with one-sided label smoothing."""
    return replace(GAMES[game], discriminator=partial(nonsaturating_discriminator, real_target=real_target))


class AidedConfig(PairConfig):
    """Aids to training, which can be combined; the papers of the frameworks use none of them."""

    generator_norm: Norm = "batch"  # of hidden layers; virtual is that of Salimans et al., arXiv 1606.03498
    discriminator_norm: OpponentNorm = "batch"  # of hidden layers but the first
    feature_matching: bool = False  # the generator matches mean features instead (Salimans et al.)
    minibatch_discrimination: int = 0  # kernels with which the discriminator compares images (Salimans et al.)
    instance_noise: float = 0.0  # SD at first of what is added to all the discriminator sees (arXiv 1610.04490)
    noise_until: float = Field(1.0, gt=0)  # part of the training after which no noise is left, linearly (our choice)
    penalty: Penalty = "none"  # on slopes: r1 (arXiv 1801.04406), dragan (1705.07215), gradient (1704.00028)
    penalty_weight: float = 10.0  # of the last two papers; γ/2 of r1


class Look(NamedTuple):
    """What the discriminator has seen."""

    image: Tensor
    """With the noise of that moment."""
    features: Tensor


class Aided(Pair):
    """A pair whose discriminator has ``features`` and ``score``, and whose config is an `AidedConfig`."""

    loss: AdversarialLoss

    def __init__(self, config: AidedConfig):
        super().__init__(config)
        if config.penalty != "none" and config.discriminator_norm == "batch":
            raise UserError(
                f"--penalty {config.penalty}: slopes are those of single images, which batch norm mixes; "
                "add --discriminator-norm layer"
            )

    @property
    def noise_level(self) -> float:
        """Standard deviation of the instance noise now."""
        return float(self.config.instance_noise * max(0.0, 1 - self.progress.fraction / self.config.noise_until))

    def look(self, image: Tensor) -> Look:
        """The discriminator's features of images."""
        if level := self.noise_level:
            image = image + level * self.noise.normal(*image.shape)
        return Look(image, self.discriminator.features(image))

    def discriminator_turn(self, real: Look, fake: Look, **terms: Tensor) -> Turn:
        """Tell real images from generated ones."""
        c = self.config
        scores = {"real": self.discriminator.score(real.features), "fake": self.discriminator.score(fake.features)}
        terms = {"adversarial": self.loss.discriminator(scores["real"], scores["fake"]), **terms}
        if c.penalty != "none":
            terms["penalty"] = c.penalty_weight * self._penalty(real.image, fake.image)
        return Turn("discriminator", terms, scores=scores)

    def generator_turn(self, real: Tensor, fake: Look, **terms: Tensor) -> Turn:
        """Make the discriminator's decision harder, or its features of both kinds of images alike."""
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
