"""VA-GAN: visual feature attribution by an additive map that makes diseased images look healthy."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.losses.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from ganatomy.nets.layers import (
    ADAPTIVE_AVERAGE_POOL,
    BATCH_NORM,
    CONVOLUTION,
    MAX_POOL,
    TRANSPOSED,
    Convolution,
    Transposed,
)
from ganatomy.tasks.anomaly_detection.task import AnomalyConfig, Detection, Detector, FeatureAttribution, Scale


class MapGenerator(nn.Module):
    """U-Net that returns an additive map with linear output; extents are multiples of 8.

    Args:
        dims: spatial axes, 1 to 3.
        width: channels at full size; doubled at every halving.
    """

    def __init__(self, dims: int, width: int = 16):
        super().__init__()
        widths = [width * 2**level for level in range(4)]
        self.pool = MAX_POOL[dims](2)
        self.down = nn.ModuleList(pair(before, after, dims) for before, after in pairwise((1, *widths)))
        # The published code enlarges to as many channels at every level.
        self.enlarge = nn.ModuleList(
            nn.Sequential(TRANSPOSED[dims](before, width, 4, 2, 1, bias=False), *normalised(width, dims))
            for before in (widths[3], widths[2], widths[1])
        )
        self.up = nn.ModuleList(pair(width + skip, skip, dims) for skip in (widths[2], widths[1]))
        self.last = nn.Sequential(
            convolution(2 * width, width, dims), *normalised(width, dims), CONVOLUTION[dims](width, 1, 3, padding=1)
        )
        init_he(self)

    def forward(self, image: Tensor) -> Tensor:
        """Return the additive map of images (N, 1, ...), of their shape."""
        skips: list[Tensor] = []
        for level, down in enumerate(self.down):
            image = down(self.pool(image) if level else image)
            skips.append(image)
        image = skips.pop()
        for enlarge, up in zip(self.enlarge, (*self.up, self.last), strict=True):
            image = up(torch.cat([enlarge(image), skips.pop()], 1))
        return image


class Critic(nn.Sequential):
    """Critic of convolutions and pooling without normalisation, with a mean over positions; (N, 1, ...) to (N, 1).

    Args:
        dims: spatial axes, 1 to 3.
        width: channels at full size; doubled at every halving.
    """

    def __init__(self, dims: int, width: int = 16):
        layers: list[nn.Module] = []
        before = 1
        for level, count in enumerate((1, 1, 2, 2, 3)):
            after = width * 2**level
            layers += [MAX_POOL[dims](2)] if level else []
            for _ in range(count):
                layers += [CONVOLUTION[dims](before, after, 3, padding=1), nn.ReLU()]
                before = after
        super().__init__(*layers, CONVOLUTION[dims](before, 1, 1), ADAPTIVE_AVERAGE_POOL[dims](1), nn.Flatten())
        init_he(self)


def convolution(before: int, after: int, dims: int) -> nn.Module:
    """Build a convolution of kernel 3 that keeps the size, without bias since a normalisation follows."""
    return CONVOLUTION[dims](before, after, 3, padding=1, bias=False)


def normalised(width: int, dims: int) -> list[nn.Module]:
    """Build batch normalisation with the published code's constants, and ReLU."""
    return [BATCH_NORM[dims](width, eps=1e-3, momentum=0.01), nn.ReLU()]


def pair(before: int, after: int, dims: int) -> nn.Sequential:
    """Build two normalised convolutions with ReLUs."""
    return nn.Sequential(
        convolution(before, after, dims), *normalised(after, dims),
        convolution(after, after, dims), *normalised(after, dims),
    )  # fmt: skip


def init_he(network: nn.Module) -> None:
    """Draw weights from N(0, 2 / fan-in) and set biases to zero, in place."""
    for module in network.modules():
        if isinstance(module, Convolution | Transposed):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def first_axis_penalty(critic: nn.Module, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """Return the gradient penalty of the released code, whose norm is over the first spatial axis only.

    Args:
        critic: maps (N, C, ...) to scores with N rows.
        real: real images (N, C, ...).
        fake: generated images of the same shape.
        mix: N interpolation weights in [0, 1].
    """
    weight = mix.reshape(-1, *[1] * (real.dim() - 1))
    point = torch.lerp(real.detach(), fake.detach(), weight).requires_grad_()
    (slope,) = torch.autograd.grad(critic(point).sum(), point, create_graph=True)
    norms: Tensor = torch.linalg.vector_norm(slope, dim=2)
    return (norms - 1).square().mean()


class VAGAN(Detector):
    """Maps of a disease's effect, learned from two groups of images with and without it.

    A generator adds a map to an image with the effect; a critic compares the sum with images without it, and an L1 loss
    keeps the map small. Images are 2D or 3D, depending on ``--size``.

    Baumgartner et al., Visual Feature Attribution using Wasserstein GANs, CVPR 2018. arXiv 1711.08998.
    """

    stated_augmentation = None

    class Config(AnomalyConfig):
        """The paper's experiment on synthetic images with the authors' code; ``volumes`` is that on brains.

        The weight of the map suits large images; in smaller ones its mean weighs more relative to the critic.
        """

        game_rounds: int = 100_000  # generator updates
        batch_size: int = 32  # images of each group
        accumulated: int = Field(1, ge=1, le=64)  # batches over which one update averages; all are in memory together
        learning_rate: float = 1e-3  # Adam, both players; the authors later prefer 1e-4 in 2D
        betas: tuple[float, float] = (0.0, 0.9)  # Adam, both players
        critic_steps: int = 5  # critic turns per generator turn
        many_steps: int = 100  # critic turns in the first first_rounds rounds and in every often-th round
        first_rounds: int = 25  # initial number of rounds with many_steps critic turns
        often: int = Field(100, ge=1)  # later on, every so many rounds have many_steps critic turns
        penalty_weight: float = 10.0  # weight of the gradient penalty
        first_axis: bool = False  # whether the penalty's norm is over the first axis only, as in the released code
        map_weight: float = 100.0  # weight of the mean absolute map
        tanh: bool = True  # whether the sum of image and map is bounded by tanh
        width: int = 16  # channels of both networks at full size
        size: tuple[int, ...] = (112, 112)  # rows and columns, for volumes preceded by slices; multiples of 16
        scale: Scale = "percentiles"  # scale of each case, mapped to [-1, 1]
        percentiles: tuple[float, float] = (0.0, 100.0)  # percentiles of a case's voxels that are mapped to the ends
        window_unit: str | None = None  # unit of the images' values
        normal: tuple[str, ...] = ("baseline", "healthy")  # labels of the images without the effect
        phantom: str = "squares"  # embedded phantom used without --data
        phantom_image: str = "image"  # image of the phantom that is examined

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "volumes": {
                "size": (128, 160, 112),
                "batch_size": 2,
                "accumulated": 6,
                "percentiles": (5.0, 95.0),
                "phantom": "brain-mr",
                "phantom_image": "t1",
            },
            "small": {
                "size": (48, 48),
                "game_rounds": 300,
                "batch_size": 8,
                "many_steps": 10,
                "first_rounds": 40,
                "map_weight": 20.0,
                "width": 8,
            },
        }

    config: Config
    task_class = FeatureAttribution

    def __init__(self, config: Config):
        super().__init__(config)
        self.dims = len(config.size)
        self.generator = MapGenerator(self.dims, config.width)
        self.critic = Critic(self.dims, config.width)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = [
            Player("critic", (self.critic,), moves, adversary=True),
            Player("generator", (self.generator,), moves),
        ]
        return [Stage("game", self.turns, players, c.game_rounds, self.streams(c.batch_size, ("baseline", "effect")))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        for _ in range(self.critic_turns):
            yield averaged([self.critic_turn(next(batches)) for _ in range(c.accumulated)])
        yield averaged([self.generator_turn(next(batches)["effect"]["effect"]) for _ in range(c.accumulated)])

    @property
    def critic_turns(self) -> int:
        """Number of critic turns in the present round."""
        c, number = self.config, self.progress.stage_round
        return c.many_steps if number < c.first_rounds or number % c.often == 0 else c.critic_steps

    def critic_turn(self, batch: Batch) -> Turn:
        """Return the critic's turn; high scores mean images without the effect."""
        real = batch["baseline"]["baseline"]
        with torch.no_grad():
            fake = self.changed(batch["effect"]["effect"])
        real_scores, fake_scores = self.critic(real), self.critic(fake)
        penalty = first_axis_penalty if self.config.first_axis else gradient_penalty
        mix = self.noise.uniform(len(real))
        return Turn(
            "critic",
            wasserstein=wasserstein_critic(real_scores, fake_scores),
            penalty=self.config.penalty_weight * penalty(self.critic, real, fake, mix),
            scores={"real": real_scores, "fake": fake_scores},
        )

    def generator_turn(self, image: Tensor) -> Turn:
        """Return the generator's turn: the critic's score of changed images and the L1 norm of the map."""
        changed = self.changed(image)
        return Turn(
            "generator",
            adversarial=wasserstein_generator(self.critic(changed)),
            change=self.config.map_weight * (changed - image).abs().mean(),
        )

    def changed(self, image: Tensor) -> Tensor:
        """Return the image with the effect removed, of the same shape."""
        total: Tensor = image + self.generator(image)
        return total.tanh() if self.config.tanh else total

    def detect(self, image: Tensor) -> Detection:
        healthy = self.changed(image)
        change = self.residual(image, healthy)
        return Detection(change, change.flatten(1).mean(1), healthy)


def averaged(turns: Sequence[Turn]) -> Turn:
    """Combine several turns to one with the means of their losses."""
    if len(turns) == 1:
        return turns[0]
    first = turns[0]
    losses = {name: torch.stack([turn.losses[name] for turn in turns]).mean() for name in first.losses}
    scores = {name: torch.cat([turn.scores[name] for turn in turns]) for name in first.scores}
    return Turn(first.player, losses, scores=scores)
