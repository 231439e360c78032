"""Base of DCGANs of lesions by class: a DCGAN for each class, or one AC-GAN for all."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ganatomy.game import Batch, Player, Stage, Turn, adam, over_processes
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.methods.frameworks.pair import Pair, PairConfig, check_classes
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator, Kernel

Variant = Literal["dcgan", "acgan"]


class LesionConfig(PairConfig):
    """Options that the DCGANs of lesions share; their configurations override defaults."""

    variant: Variant = "dcgan"  # a DCGAN for each class, or one AC-GAN with an auxiliary classifier
    batch_size: int = 64  # images of each class (dcgan) or of all classes (acgan)
    learning_rate: float = 2e-4  # Adam, all players
    betas: tuple[float, float] = (0.5, 0.999)  # Adam, all players
    class_weight: float = 1.0  # weight of the auxiliary classifier's cross-entropies, both players
    latent: int = 100  # size of the latent vector beside the class, U(-1, 1)
    kernel: Kernel = 5  # side of all convolutions
    flips: tuple[int, ...] = (1, 2)  # axes along which images are mirrored at random: 1 rows, 2 columns (our choice)
    quarter_turns: bool = True  # whether square images are rotated by random multiples of 90 degrees (our choice)


class LesionDCGAN(Pair):
    """Independent DCGANs for each class, or one AC-GAN; the configuration is a `LesionConfig`.

    The AC-GAN is that of Odena, Olah & Shlens, ICML 2017, arXiv 1610.09585.
    """

    prior = "uniform"

    def __init__(self, config: LesionConfig):
        super().__init__(config)
        c = config
        self.shared = c.variant == "acgan"
        if self.shared:
            check_classes(c.classes)
        self.labelled = len(c.classes) > 1
        self.latent_size = c.latent
        # Without labels there is one DCGAN of all images.
        self.games = c.classes if self.labelled and not self.shared else ("all",)
        pairs = [self.networks(len(c.classes) if self.shared else 0) for _ in self.games]
        self.generators = nn.ModuleList(generator for generator, _ in pairs)
        self.discriminators = nn.ModuleList(discriminator for _, discriminator in pairs)

    @abstractmethod
    def networks(self, classes: int) -> tuple[DCGenerator, DCDiscriminator]:
        """Build an untrained generator and discriminator, conditioned on ``classes`` classes (0 for none)."""

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = []
        for game, generator, discriminator in zip(self.games, self.generators, self.discriminators, strict=True):
            players.append(Player(f"discriminator of {game}", (discriminator,), moves, adversary=True))
            players.append(Player(f"generator of {game}", (generator,), moves, ema_halflife=c.ema_halflife))
        stream = self.stream(c.batch_size * len(self.games), c.flips, c.quarter_turns)
        return [Stage("game", self.turns_by_class if self.shared else self.turns, players, c.game_rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch = next(batches)
        images = self.real(batch)
        for place, game in enumerate(self.games):
            real = images[batch["label"] == place] if self.labelled else images
            if bool(over_processes(torch.tensor(float(len(real) == 0), device=images.device))):
                continue
            discriminator = self.discriminators[place]
            fake = self.generators[place](self.latents(len(real)))
            of_real, of_fake = discriminator(real), discriminator(fake.detach())
            yield Turn(
                f"discriminator of {game}",
                adversarial=nonsaturating_discriminator(of_real, of_fake),
                scores={"real": of_real, "fake": of_fake},
            )
            yield Turn(f"generator of {game}", adversarial=nonsaturating_generator(discriminator(fake)))

    def turns_by_class(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turns of a round of the AC-GAN."""
        batch = next(batches)
        discriminator: Any = self.discriminators[0]
        real, label = self.real(batch), self.drawn_labels(len(batch["label"]))
        fake = self.sample(self.latents(len(real)), label)
        of_real, of_fake = (discriminator.features(images) for images in (real, fake.detach()))
        real_scores, fake_scores = discriminator.score(of_real), discriminator.score(of_fake)
        yield Turn(
            "discriminator of all",
            adversarial=nonsaturating_discriminator(real_scores, fake_scores),
            real_class=self._class_error(discriminator.classify(of_real), batch["label"]),
            fake_class=self._class_error(discriminator.classify(of_fake), label),
            scores={"real": real_scores, "fake": fake_scores},
        )
        of_fake = discriminator.features(fake)
        yield Turn(
            "generator of all",
            adversarial=nonsaturating_generator(discriminator.score(of_fake)),
            fake_class=self._class_error(discriminator.classify(of_fake), label),
        )

    def _class_error(self, logits: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(logits, label) * float(self.config.class_weight)

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        if label is not None and self.shared:
            latent = torch.cat([latent, self.condition(label)], dim=1)
        made = torch.stack([generator(latent) for generator in self.generators])
        place = label if label is not None and not self.shared else torch.zeros_like(latent[:, 0], dtype=torch.long)
        return made[place, torch.arange(len(latent), device=latent.device)]
