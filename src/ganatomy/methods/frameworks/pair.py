"""Base of the frameworks that make images from noise: generator, discriminator, labels, and some aids."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ganatomy.errors import UserError
from ganatomy.game import Batch, OptimizerFactory, Player, Stage, Turn, adam
from ganatomy.losses.adversarial import GAMES, AdversarialLoss, nonsaturating_discriminator
from ganatomy.losses.matching import feature_matching
from ganatomy.nets.aids import Norm, WithReference
from ganatomy.tasks.synthesis.task import SynthesisConfig, Synthesiser

DiscriminatorNorm = Literal["batch", "instance", "layer", "none"]


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
            Player("discriminator", (self.discriminator,), self.moves, adversary=True),
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
    """Aids that change networks or losses and can be combined; the papers of the frameworks use none of them."""

    generator_norm: Norm = "batch"  # norm of the generator's hidden layers; virtual is of arXiv 1606.03498
    discriminator_norm: DiscriminatorNorm = "batch"  # norm of the discriminator's hidden layers but the first
    feature_matching: bool = False  # whether feature matching replaces the generator's adversarial loss (1606.03498)
    minibatch_discrimination: int = Field(0, ge=0, le=1024)  # kernels of minibatch discrimination; 0: none (1606.03498)


class Aided(Pair):
    """Base of methods with the aids of `AidedConfig`; the discriminator has ``features`` and ``score``."""

    loss: AdversarialLoss

    def look(self, image: Tensor) -> Tensor:
        """Return the discriminator's features of images."""
        return self.discriminator.features(image)  # type: ignore[no-any-return]

    def discriminator_turn(self, real: Tensor, fake: Tensor, **terms: Tensor) -> Turn:
        """Return the discriminator's turn for the features of real and generated images, with further terms."""
        scores = {"real": self.discriminator.score(real), "fake": self.discriminator.score(fake)}
        terms = {"adversarial": self.loss.discriminator(scores["real"], scores["fake"]), **terms}
        return Turn("discriminator", terms, scores=scores)

    def generator_turn(self, real: Tensor, fake: Tensor, **terms: Tensor) -> Turn:
        """Return the generator's turn: adversarial loss or feature matching, and further terms.

        Args:
            real: real images.
            fake: features of generated images.
            terms: further loss terms.
        """
        if self.config.feature_matching:
            return Turn("generator", {"feature matching": feature_matching(self.look(real), fake), **terms})
        return Turn("generator", {"adversarial": self.loss.generator(self.discriminator.score(fake)), **terms})
