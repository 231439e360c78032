"""WGAN-VGG: low-dose CT denoising with a Wasserstein critic and a perceptual loss."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.game import Batch, MethodConfig, Player, Stage, Stream, Tiling, Turn, adam, linear_decay
from ganatomy.losses.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from ganatomy.nets.features import FeatureSource, VGG19Features
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoiser, mostly_air

Variant = Literal["cnn-mse", "cnn-vgg", "wgan", "wgan-mse", "wgan-vgg"]


class Generator(nn.Sequential):
    """Generator of eight 3x3 convolutions, each followed by a ReLU, including the last; no bias, no norm, no skip.

    (N, 1, H, W) to (N, 1, H - 16, W - 16) without padding.
    """

    def __init__(self, width: int = 32, padding: int = 0, start: str = "xavier"):
        channels = [1, *[width] * 7, 1]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            convolution = nn.Conv2d(before, after, 3, padding=padding, bias=False)
            nn.init.xavier_uniform_(convolution.weight)
            if start == "identity":
                with torch.no_grad():
                    convolution.weight[0] = 0
                    convolution.weight[0, 0, 1, 1] = 1
            layers += [convolution, nn.ReLU()]
        super().__init__(*layers)


class Critic(nn.Sequential):
    """Critic of six convolutions in three scales and two dense layers; one raw score per patch, no norm.

    He initialisation gives an initial gradient norm near one; PyTorch's default would be a hundred times smaller.
    """

    def __init__(self, patch: int, width: int = 64, dense: int = 1024):
        layers: list[nn.Module] = []
        before = 1
        for after in (width, 2 * width, 4 * width):
            for stride in (1, 2):
                layers += [nn.Conv2d(before, after, 3, stride, 1), nn.LeakyReLU(0.2)]
                before = after
        side = -(-patch // 8)
        layers += [
            nn.Flatten(),
            nn.Linear(before * side * side, dense),
            nn.LeakyReLU(0.2),
            nn.Linear(dense, 1),
        ]
        super().__init__(*layers)
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=0.2)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class WGANVGG(CTDenoiser):
    """Low-dose CT denoising with a Wasserstein critic and a perceptual loss.

    Yang et al., Low-Dose CT Image Denoising Using a GAN with Wasserstein Distance and Perceptual Loss,
    IEEE TMI 37(6):1348-1357, 2018. doi:10.1109/TMI.2018.2827462, arXiv 1708.00961.

    It differs from the authors' release, in the preset ``code``, too:

    - VGG-19 has torchvision's weights, for images in [0, 1], and its features are multiplied to the size of those of
      the release, whose weights are for images from 0 to 255.
    - The penalty is of the slope over the whole patch, as in the paper; in the release it is of that over every column.
    - The critic's weights are drawn after He instead of Glorot, so that its slope is near one from the beginning.
    """

    stated_augmentation = None
    revision = 2

    class Config(MethodConfig):
        """The numbers of the paper where it gives them; the preset ``code`` follows the authors' release."""

        variant: Variant = "wgan-vgg"  # one of the paper's five combinations of losses
        game_rounds: int = 78_200  # generator updates (as commonly reimplemented)
        batch_size: int = 128  # patches
        patch: int = 64  # side of the target patch, pixels
        critic_steps: int = 4  # critic turns per generator turn
        learning_rate: float = 1e-5  # Adam, both players
        betas: tuple[float, float] = (0.5, 0.9)  # Adam
        decay_from: float = 1.0  # fraction of training after which the rate falls to zero linearly (our option)
        penalty_weight: float = 10.0  # weight of the gradient penalty
        content_weight: float = 0.1  # weight of the perceptual or squared error beside the critic
        content_sum: bool = False  # whether that error is half the sum over features or pixels, not the mean
        perceptual_range: float = Field(57.6, gt=0)  # factor of features to those of 0 to 255 (our estimate)
        perceptual_layer: str = "conv5_4"  # layer of VGG-19 for the perceptual loss
        perceptual_relu: bool = True  # whether features are taken after the layer's ReLU
        features: FeatureSource = "auto"  # weights of VGG-19; auto falls back to the substitute and says so
        features_file: Path | None = None  # local file with torchvision's VGG-19 weights
        features_width: float = 1.0  # channel multiplier of the substitute features
        width: int = 32  # channels of the generator
        critic_width: int = 64  # channels of the critic's first scale
        critic_dense: int = 1024  # units of the critic's dense layer
        padding: Literal[0, 1] = 0  # padding of convolutions; 0 loses 8 pixels a side as in the release, 1 none
        start: Literal["xavier", "identity"] = "xavier"  # initial weights; identity returns the input (our choice)
        window: tuple[float, float] = (-1024.0, 3072.0)  # HU mapped to [0, scale]
        scale: float = Field(1.0, gt=0)  # upper end of the range; more shows a critic faint noise (our option)
        max_air: float = 0.5  # patches with a larger fraction of air are left out
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)
        scan: LowDoseScan = LowDoseScan(dose_fraction=0.25)  # simulation of the low-dose scan

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "code": {"penalty_weight": 1.0, "learning_rate": 1e-4, "content_sum": True},
            "small": {
                "game_rounds": 500,
                "batch_size": 8,
                "patch": 48,
                "critic_steps": 2,
                "learning_rate": 1e-3,
                "decay_from": 0.4,
                "content_weight": 3.125,
                "content_sum": True,
                "perceptual_range": 1.0,
                "width": 24,
                "critic_width": 16,
                "critic_dense": 64,
                "start": "identity",
                "scale": 50.0,
                "features": "substitute",
                "features_width": 0.25,
                "perceptual_layer": "conv2_2",
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"variant": "cnn-mse"}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.generator = Generator(c.width, c.padding, c.start)
        self.critic = Critic(c.patch, c.critic_width, c.critic_dense) if "wgan" in c.variant else None
        self.features = (
            VGG19Features(c.perceptual_layer, c.features, c.features_file, c.perceptual_relu, c.features_width)
            if "vgg" in c.variant
            else None
        )

    @property
    def network_range(self) -> tuple[float, float]:
        return (0.0, self.config.scale)

    @property
    def tiling(self) -> Tiling:
        lost = 0 if self.config.padding else 8
        return Tiling(margin=(0, lost, lost))

    def provenance(self) -> dict[str, str]:
        return {"features": self.features.name} if self.features else {}

    @property
    def adversarial(self) -> bool:
        """Whether the generator is trained against a Wasserstein critic, and not by the other losses alone."""
        return self.critic is not None

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        schedule = linear_decay(c.decay_from)
        players = [Player("generator", (self.generator,), moves, schedule, ema_halflife=c.ema_halflife)]
        if self.critic:
            players.append(Player("critic", (self.critic,), moves, schedule, adversary=True))
        stream = Stream(
            "samples", None, c.batch_size, (1, c.patch, c.patch), self.tiling.margin, accepts=mostly_air(c.max_air)
        )
        # A round without a critic draws one batch, so the variants without a critic get more rounds for as many images.
        rounds = c.game_rounds * (1 if self.critic else c.critic_steps + 1)
        return [Stage("denoise", self.turns, players, rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        if self.critic:
            for _ in range(self.config.critic_steps):
                batch = next(batches)
                with torch.no_grad():
                    fake = self.generate(batch["input"])
                target = self.inside(batch["target"])
                real_scores, fake_scores = self.critic(torch.cat([target, fake])).chunk(2)
                mix = self.noise.uniform(len(fake))
                yield Turn(
                    "critic",
                    wasserstein=wasserstein_critic(real_scores, fake_scores),
                    penalty=self.config.penalty_weight * gradient_penalty(self.critic, target, fake, mix),
                    scores={"real": real_scores, "fake": fake_scores},
                )
        batch = next(batches)
        fake = self.generate(batch["input"])
        losses = {}
        if self.critic:
            losses["adversarial"] = wasserstein_generator(self.critic(fake))
        if self.config.variant != "wgan":
            losses["content"] = self.content(fake, self.inside(batch["target"]))
        yield Turn("generator", losses)

    def content(self, fake: Tensor, target: Tensor) -> Tensor:
        """Return the weighted perceptual or squared error; without a critic its weight is one."""
        c = self.config
        weight = (c.content_weight if self.critic else 1.0) * (0.5 if c.content_sum else 1.0)
        if self.features:
            distance = self.features.distance(fake / c.scale, target / c.scale, summed=c.content_sum)
            return weight * c.perceptual_range**2 * distance
        return weight * nn.functional.mse_loss(fake, target) * (fake[0].numel() if c.content_sum else 1)
