"""WGAN: Wasserstein GAN whose critic has clipped weights."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.game import Batch, Player, Stage, Turn, rmsprop
from ganatomy.losses.adversarial import wasserstein_critic, wasserstein_generator
from ganatomy.methods.frameworks.pair import DiscriminatorNorm, Pair, PairConfig
from ganatomy.nets.aids import Norm
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator
from ganatomy.nets.mlp import MLP


class WGAN(Pair):
    """Unconditional GAN with a Wasserstein critic; minus the critic's loss estimates the distance to real images.

    Arjovsky, Chintala & Bottou, Wasserstein Generative Adversarial Networks, ICML 2017. arXiv 1701.07875. The
    critic is clipped after each of its updates, as in the paper's algorithm 1; the published code clips before them.
    """

    stated_augmentation = None
    revision = 2

    class Config(PairConfig):
        """The published code: the networks of DCGAN with kernels of 4, for images of 64 pixels."""

        networks: Literal["dcgan", "mlp"] = "dcgan"  # networks of both players: convolutional or dense
        game_rounds: int = 100_000  # generator updates (our choice)
        batch_size: int = 64  # images
        learning_rate: float = 5e-5  # RMSprop, both players
        critic_steps: int = 5  # critic updates per generator update
        warm_critic_steps: int = 100  # critic updates in rounds that bring the critic near its optimum
        warm_rounds: int = 25  # initial number of rounds with warm_critic_steps
        warm_every: int = 500  # later on, every so many rounds have warm_critic_steps
        clip: float = Field(0.01, gt=0)  # largest absolute weight of the critic
        latent: int = 100  # size of the latent vector, N(0, 1)
        width: int = 64  # channels of the layers next to the image; doubled at every halving of the size
        stages: int = 4  # halvings of the size in the critic, doublings in the generator
        generator_norm: Norm = "batch"  # norm of the generator's hidden layers
        critic_norm: DiscriminatorNorm = "batch"  # norm of the critic's hidden layers but the first
        hidden: tuple[int, ...] = (512, 512, 512, 512)  # units of the hidden layers of mlp; 64 64 64 in the code

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (32, 32),
                "game_rounds": 500,
                "batch_size": 32,
                "learning_rate": 5e-4,
                "warm_critic_steps": 10,
                "warm_rounds": 10,
                "width": 16,
                "stages": 3,
                "ema_halflife": 1000.0,
            },
        }

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.latent_size = c.latent
        self.dims = len(c.size)
        widths = [c.width * 2**level for level in range(c.stages)]
        self.critic: nn.Module
        if c.networks == "mlp":
            pixels = torch.Size((c.channels, *c.size))
            unflatten = nn.Unflatten(1, pixels)
            self.generator = nn.Sequential(MLP((c.latent, *c.hidden, pixels.numel())), unflatten)
            self.critic = nn.Sequential(nn.Flatten(), MLP((pixels.numel(), *c.hidden, 1)))
        else:
            generator = DCGenerator(
                c.latent, c.channels, c.size, widths[::-1], kernel=4, norm=c.generator_norm, end_bias=False
            )
            self.generator = self.referenced(generator, c.generator_norm)
            self.critic = DCDiscriminator(c.channels, c.size, widths, kernel=4, norm=c.critic_norm, end_bias=False)

    @property
    def critic_steps(self) -> int:
        """Number of critic updates in the present round."""
        c, done = self.config, self.progress.stage_round
        warm = done < c.warm_rounds or done % c.warm_every == 0
        return c.warm_critic_steps if warm else c.critic_steps

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = rmsprop(c.learning_rate)
        return self.game(
            Player("critic", (self.critic,), moves, adversary=True),
            Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife),
        )

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        for _ in range(self.critic_steps):
            real = self.real(next(batches))
            with torch.no_grad():
                fake = self.generator(self.latents(len(real)))
            real_scores, fake_scores = self.critic(real), self.critic(fake)
            yield Turn(
                "critic",
                wasserstein=wasserstein_critic(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
            clip_(self.critic, self.config.clip)
        fake = self.generator(self.latents(len(real)))
        yield Turn("generator", wasserstein=wasserstein_generator(self.critic(fake)))


@torch.no_grad()
def clip_(network: nn.Module, limit: float) -> None:
    """Clip every parameter to [-limit, limit], in place."""
    parameters: list[Tensor] = list(network.parameters())
    torch._foreach_clamp_min_(parameters, -limit)
    torch._foreach_clamp_max_(parameters, limit)
