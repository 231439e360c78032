"""WGAN-GP: Wasserstein GAN whose critic has a gradient penalty."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ganatomy.game import Batch, Player, Stage, Turn, adam, linear_decay
from ganatomy.losses.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from ganatomy.methods.frameworks.pair import Pair, PairConfig, check_classes
from ganatomy.nets.aids import Norm
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator
from ganatomy.nets.residual import PreactivationCritic, PreactivationGenerator


class WGANGP(Pair):
    """GAN with a Wasserstein critic whose gradient norm is driven to one between real and generated images.

    Gulrajani, Ahmed, Arjovsky, Dumoulin & Courville, Improved Training of Wasserstein GANs, NIPS 2017. arXiv
    1704.00028. With ``auxiliary``, images are made by class and the critic classifies, too, as in AC-GAN; the label
    joins the latent vector, where the published code conditions the batch norm.
    """

    stated_augmentation = None

    class Config(PairConfig):
        """The published code for images of 64 pixels."""

        networks: Literal["residual", "dcgan"] = "residual"  # residual blocks, or kernels of 4 with strides
        game_rounds: int = 200_000  # generator updates
        batch_size: int = 64  # images
        generator_factor: int = Field(1, ge=1)  # batches in the generator's update; 2 for labelled images of 32 pixels
        learning_rate: float = 1e-4  # Adam, both players; 2e-4 for images of 32 pixels
        betas: tuple[float, float] = (0.0, 0.9)  # Adam, both players; (0.5, 0.9) for the plain networks
        decay_start: float = 1.0  # fraction of training after which the rate falls to 0; 0 for images of 32 pixels
        critic_steps: int = 5  # critic updates per generator update
        penalty_weight: float = 10.0  # weight of the gradient penalty
        auxiliary: bool = False  # whether images are made by class and the critic has a classifying head
        critic_class_weight: float = 1.0  # weight of the classifying head's cross-entropy on real images
        generator_class_weight: float = 0.1  # weight of its cross-entropy on generated images
        latent: int = 128  # size of the latent vector, N(0, 1)
        widths: tuple[int, ...] = (64, 128, 256, 512)  # channels from the image to the smallest maps
        init_std: float = 0.02  # SD of the critic's initial weights in the networks dcgan
        generator_norm: Norm = "batch"  # norm of the generator's hidden layers
        critic_norm: Literal["layer", "instance", "none"] = "layer"  # norm of the critic's hidden layers

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (32, 32),
                "networks": "dcgan",
                "game_rounds": 1000,
                "batch_size": 32,
                "learning_rate": 1e-3,
                "betas": (0.5, 0.9),
                "critic_steps": 3,
                "init_std": 0.08,
                "widths": (16, 32, 64),
                "critic_norm": "none",
                "ema_halflife": 1000.0,
            },
        }

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if c.auxiliary:
            check_classes(c.classes)
        self.labelled = c.auxiliary
        self.latent_size = c.latent
        self.dims = len(c.size)
        classes = len(c.classes) if c.auxiliary else 0
        inputs, outputs = c.latent + classes, 1 + classes
        self.critic: nn.Module
        if c.networks == "dcgan":
            generator: nn.Module = DCGenerator(
                inputs, c.channels, c.size, c.widths[::-1], kernel=4, norm=c.generator_norm
            )
            self.critic = DCDiscriminator(
                c.channels, c.size, c.widths, kernel=4, norm=c.critic_norm, outputs=outputs, std=c.init_std
            )
        else:
            # The widest layers occur at the two smallest sizes.
            up, down = (c.widths[-1], *c.widths[::-1]), (*c.widths, c.widths[-1])
            generator = PreactivationGenerator(inputs, c.channels, c.size, up, c.generator_norm)
            self.critic = PreactivationCritic(c.channels, c.size, down, c.critic_norm, outputs)
        self.generator = self.referenced(generator, c.generator_norm)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves, schedule = adam(c.learning_rate, c.betas), linear_decay(c.decay_start)
        return self.game(
            Player("critic", (self.critic,), moves, schedule, adversary=True),
            Player("generator", (self.generator,), moves, schedule, ema_halflife=c.ema_halflife),
        )

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        for _ in range(c.critic_steps):
            batch = next(batches)
            real = self.real(batch)
            with torch.no_grad():
                fake = self.made(self.given_labels(len(real)), len(real))
            real_scores, fake_scores = self.critic(real), self.critic(fake)
            mix = self.noise.uniform(len(real))
            terms = {
                "wasserstein": wasserstein_critic(real_scores[:, :1], fake_scores[:, :1]),
                "penalty": c.penalty_weight * gradient_penalty(self.score, real, fake, mix),
            }
            if c.auxiliary:
                terms["class"] = c.critic_class_weight * cross_entropy(real_scores[:, 1:], batch["label"])
            yield Turn("critic", terms, scores={"real": real_scores[:, :1], "fake": fake_scores[:, :1]})
        rows = c.generator_factor * len(real)
        label = self.given_labels(rows)
        scores = self.critic(self.made(label, rows))
        terms = {"wasserstein": wasserstein_generator(scores[:, :1])}
        if label is not None:
            terms["class"] = c.generator_class_weight * cross_entropy(scores[:, 1:], label)
        yield Turn("generator", terms)

    def given_labels(self, rows: int) -> Tensor | None:
        """Draw labels to generate images of, or return None without `auxiliary`."""
        return self.drawn_labels(rows) if self.labelled else None

    def made(self, label: Tensor | None, rows: int) -> Tensor:
        """Generate ``rows`` images, of the given labels if there are any."""
        return self.sample(self.latents(rows), label)

    def score(self, image: Tensor) -> Tensor:
        """Return the critic's scores (N, 1) of images (N, channels, ...)."""
        return self.critic(image)[:, :1]  # type: ignore[no-any-return]
