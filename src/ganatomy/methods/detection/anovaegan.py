"""AnoVAEGAN: anomaly detection by a VAE-GAN of whole healthy slices."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.losses.adversarial import GAMES, gradient_penalty
from ganatomy.losses.matching import kl_standard_normal
from ganatomy.nets.aids import base_size, centre_crop, normalisation
from ganatomy.tasks.anomaly_detection.task import AnomalyConfig, Detection, Detector, Scale, Sign

Latent = Literal["spatial", "dense"]
Adversary = Literal["nonsaturating", "wasserstein", "none"]
MapNorm = Literal["batch", "instance", "layer", "plane", "none"]
"""Norms of feature maps; ``plane`` is over rows and columns of each channel, with a scale and shift per position."""


def map_norm(kind: MapNorm, channels: int, size: Sequence[int]) -> nn.Module:
    """Build the norm of feature maps (N, channels, *size)."""
    return nn.LayerNorm(list(size), eps=1e-3) if kind == "plane" else normalisation(kind, channels)


class Encoder(nn.Module):
    """Encoder of strided 5x5 convolutions that returns the mean and the log standard deviation of the code.

    Args:
        size: rows and columns of the image.
        channels: channels of every halving.
        latent: channels of a spatial code, or size of a dense one.
        kind: whether the code is a map (spatial) or a vector (dense).
        norm: normalisation of the convolutions.
        slope: slope of the leaky ReLUs below zero.
        dropout: dropout rate of the returned values, while training.
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: Sequence[int],
        latent: int,
        kind: Latent,
        norm: MapNorm,
        slope: float,
        dropout: float,
    ):
        super().__init__()
        self.convolutions = halvings(size, channels, norm, slope)
        last = channels[-1]
        if kind == "spatial":
            self.head: nn.Module = nn.Conv2d(last, 2 * latent, 1)
        else:
            positions = torch.Size(base_size(size, len(channels))).numel()
            narrow = nn.Conv2d(last, bottleneck(last), 1)
            self.head = nn.Sequential(narrow, nn.Flatten(), nn.Linear(bottleneck(last) * positions, 2 * latent))
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (N, 1, H, W) as means and log standard deviations, (N, latent) or (N, latent, H / 2**n, W / 2**n)."""
        mean, log_deviation = self.head(self.convolutions(image)).chunk(2, 1)
        return self.dropout(mean), self.dropout(log_deviation)


class Decoder(nn.Module):
    """Decoder of a 1x1 convolution, transposed 5x5 convolutions and a linear 1x1 convolution.

    Args:
        size: rows and columns of the image.
        channels: channels of the first convolution and of every doubling.
        latent: channels of a spatial code, or size of a dense one.
        kind: whether the code is a map (spatial) or a vector (dense).
        norm: normalisation of the convolutions.
        slope: slope of the leaky ReLUs below zero.
    """

    def __init__(
        self, size: Sequence[int], channels: Sequence[int], latent: int, kind: Latent, norm: MapNorm, slope: float
    ):
        super().__init__()
        self.size = tuple(size)
        first, base = channels[0], base_size(size, len(channels) - 1)
        layers: list[nn.Module] = []
        if kind == "dense":
            narrow = bottleneck(first)
            layers = [nn.Linear(latent, narrow * torch.Size(base).numel()), nn.Unflatten(1, (narrow, *base))]
            latent = narrow
        layers += [nn.Conv2d(latent, first, 1, bias=norm == "none"), map_norm(norm, first, base), nn.ReLU()]
        for level, (before, after) in enumerate(pairwise(channels), start=1):
            layers += [
                nn.ConvTranspose2d(before, after, 5, 2, 2, 1, bias=norm == "none"),
                map_norm(norm, after, [length << level for length in base]),
                nn.LeakyReLU(slope),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 1))

    def forward(self, code: Tensor) -> Tensor:
        """Decode (N, latent) or (N, latent, h, w) to (N, 1, *size)."""
        return centre_crop(self.layers(code), self.size)


def halvings(size: Sequence[int], channels: Sequence[int], norm: MapNorm, slope: float) -> nn.Sequential:
    """Build strided 5x5 convolutions of a grey image of a given size, with normalisation and leaky ReLUs."""
    layers: list[nn.Module] = []
    for level, (before, after) in enumerate(pairwise((1, *channels)), start=1):
        layers += [
            nn.Conv2d(before, after, 5, 2, 2, bias=norm == "none"),
            map_norm(norm, after, base_size(size, level)),
            nn.LeakyReLU(slope),
        ]
    return nn.Sequential(*layers)


def bottleneck(channels: int) -> int:
    """Return the number of channels before and behind a dense code."""
    return max(1, channels // 8)


class AnoVAEGAN(Detector):
    """Lesion detection by the residual to the reconstruction of a VAE-GAN that was trained on healthy slices.

    The spatial code preserves location, so images are reconstructed in one pass; a dense code and the VAE without
    discriminator are options. Encoder and decoder are updated together, the decoder also by the adversarial loss.

    Baur et al., Deep Autoencoding Models for Unsupervised Anomaly Segmentation in Brain MR Images, BrainLes 2018.
    doi:10.1007/978-3-030-11723-8_16, arXiv 1804.04488.

    The preset ``study`` has the dense networks of the group's later study, Baur et al., arXiv 2004.03271. There the
    decoder has an optimiser and a turn for the adversarial loss alone, and the critic's reconstructions are drawn anew
    in each of its turns; here one update of the decoder has all its losses, and the reconstruction is shared. The
    study's encoder never updates the statistics of its batch norm, and its penalty takes the norm of the gradient over
    rows alone; here both are what they are called.
    """

    stated_augmentation = None
    revision = 2

    class Config(AnomalyConfig):
        """The paper's losses; widths and post-processing are those of the group's later study, arXiv 2004.03271.

        Percentiles of a volume depend on its lesions; z-scores do so less if lesions are large and bright.
        """

        code: Latent = "spatial"  # whether the code is a map (spatial) or a vector (dense)
        adversary: Adversary = "nonsaturating"  # adversarial loss; wasserstein with gradient penalty in the study
        game_rounds: int = 150_000  # batches; 150 epochs of 8000 slices (our choice)
        batch_size: int = 8  # slices
        learning_rate: float = 1e-3  # Adam, encoder and decoder (our choice)
        critic_learning_rate: float = 1e-4  # Adam, discriminator (our choice)
        betas: tuple[float, float] = (0.5, 0.9)  # Adam, all players
        critic_steps: int = 1  # discriminator turns per batch; 5 in the study
        penalty_weight: float = 10.0  # weight of the gradient penalty of the Wasserstein critic
        reconstruction_weight: float = 1.0  # weight of the absolute differences, summed over the pixels
        divergence_weight: float = 1.0  # weight of the KL divergence, summed over the code
        adversarial_weight: float = 1.0  # weight of the adversarial loss of the decoder
        latent: int = 64  # channels of a spatial code, or size of a dense one
        width: int = 32  # channels at half the size; doubled at every halving
        widest: int = 128  # largest number of channels
        levels: int = Field(4, ge=1)  # halvings of the size; 16 x 16 positions for 256 pixels
        norm: MapNorm = "batch"  # norm of the encoder
        decoder_norm: MapNorm = "batch"  # norm of the decoder; plane is over rows and columns of each channel
        critic_norm: MapNorm = "layer"  # norm of the discriminator; batch forbids the gradient penalty
        negative_slope: float = Field(0.2, ge=0, lt=1)  # slope of all leaky ReLUs below zero
        scores: Literal["image", "positions"] = "image"  # one score per image, or one per position of the last maps
        dropout: float = 0.0  # dropout rate of the code in training; 0.1 to 0.2 in the study
        size: tuple[int, ...] = (256, 256)  # rows and columns of the networks' input
        scale: Scale = "percentiles"  # scale of each volume; percentiles map 0 and the 99.8th to 0 and 1
        residual: Sign = "bright"  # sign of the residual that counts; lesions are bright in FLAIR
        erosion: float = 20.0  # mm by which the tissue mask is eroded; the study erodes 128 pixels by 12
        median: int = 5  # voxels along the sides of the median filter of residual maps
        smallest: int = 8  # voxels of the smallest lesion that is kept

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "study": {
                "size": (128, 128),
                "code": "dense",
                "latent": 128,
                "adversary": "wasserstein",
                "critic_steps": 5,
                "learning_rate": 1e-4,
                "decoder_norm": "plane",
                "critic_norm": "plane",
                "negative_slope": 0.3,
                "scores": "positions",
                "dropout": 0.1,
            },
            "small": {
                "size": (64, 64),
                "scale": "zscore",
                "game_rounds": 800,
                "width": 16,
                "widest": 64,
                "levels": 3,
                "latent": 8,
                "erosion": 6.0,
                "median": 1,
                "smallest": 3,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversary": "none"}

    config: Config
    network_range = (0.0, 1.0)

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        channels = [min(c.width * 2**level, c.widest) for level in range(c.levels)]
        self.encoder = Encoder(c.size, channels, c.latent, c.code, c.norm, c.negative_slope, c.dropout)
        self.decoder = Decoder(
            c.size, [*channels[::-1], channels[0]], c.latent, c.code, c.decoder_norm, c.negative_slope
        )
        self.discriminator = None
        if c.adversary != "none":
            maps = halvings(c.size, channels, c.critic_norm, c.negative_slope)
            positions = torch.Size(base_size(c.size, c.levels)).numel()
            score = [nn.Flatten(), nn.Linear(channels[-1] * positions, 1)]
            if c.scores == "positions":
                score = [nn.Conv2d(channels[-1], 1, 1)]
            self.discriminator = nn.Sequential(maps, *score)

    @property
    def adversarial(self) -> bool:
        """Whether the autoencoder is trained with a discriminator."""
        return self.discriminator is not None

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        if self.discriminator is None:
            players = [Player("autoencoder", (self.encoder, self.decoder), moves)]
        else:
            players = [
                Player("encoder", (self.encoder,), moves),
                Player("decoder", (self.decoder,), moves),
                Player("discriminator", (self.discriminator,), adam(c.critic_learning_rate, c.betas), adversary=True),
            ]
        return [Stage("game", self.turns, players, c.game_rounds, self.streams(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn | tuple[Turn, ...]]:
        c = self.config
        image = next(batches)["image"]
        mean, log_deviation = self.encoder(image)
        code = mean + log_deviation.exp() * self.noise.normal(*mean.shape)
        rebuilt = self.decoder(code)
        shared = {"reconstruction": c.reconstruction_weight * (image - rebuilt).abs().flatten(1).sum(1).mean()}
        divergence = c.divergence_weight * kl_standard_normal(mean, 2 * log_deviation)
        if self.discriminator is None:
            yield Turn("autoencoder", {**shared, "divergence": divergence})
            return
        game = GAMES[c.adversary]
        deceived = c.adversarial_weight * game.generator(self.discriminator(rebuilt))
        yield (
            Turn("encoder", {**shared, "divergence": divergence}),
            Turn("decoder", {**shared, "adversarial": deceived}),
        )
        fake = rebuilt.detach()
        for _ in range(c.critic_steps):
            real_scores, fake_scores = self.discriminator(image), self.discriminator(fake)
            losses = {"adversarial": game.discriminator(real_scores, fake_scores)}
            if c.adversary == "wasserstein":
                mix = self.noise.uniform(len(image))
                losses["penalty"] = c.penalty_weight * gradient_penalty(self.discriminator, image, fake, mix)
            yield Turn("discriminator", losses, scores={"real": real_scores, "fake": fake_scores})

    def detect(self, image: Tensor) -> Detection:
        mean, _ = self.encoder(image)
        healthy = self.decoder(mean)
        residual = self.residual(image, healthy)
        return Detection(residual, residual.flatten(1).mean(1), healthy)
