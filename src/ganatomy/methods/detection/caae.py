"""cAAE: anomaly detection by an adversarial autoencoder with consistent codes of images and reconstructions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.losses.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from ganatomy.losses.matching import kl_standard_normal
from ganatomy.nets.aids import Norm
from ganatomy.nets.mlp import MLP
from ganatomy.nets.residual import ResidualDecoder, ResidualEncoder
from ganatomy.tasks.anomaly_detection.task import AnomalyConfig, Detection, Detector, Scale

Variant = Literal["aae", "vae", "ae"]
"""Constraint on the codes: a critic (aae), the KL divergence (vae), or none (ae)."""
Distances = Literal["sums", "means"]
"""Norms of errors: L2 norm of images and squared L2 norm of codes (sums), or mean squared errors of both (means)."""


class CAAE(Detector):
    """Lesion detection by the residual to the reconstruction of an adversarial autoencoder of healthy brains.

    A critic matches the codes to N(0, 1); a consistency loss makes codes of image and reconstruction equal. Without it
    (``--consistency-weight 0``) this is the adversarial autoencoder. One Adam updates the encoder in both of its turns,
    where the published code has one for each, and reconstructions are encoded with the statistics of their batch, where
    the published code uses running averages.

    Chen & Konukoglu, Unsupervised Detection of Lesions in Brain MRI using constrained adversarial auto-encoders,
    MIDL 2018. arXiv 1806.04972.
    """

    stated_augmentation = None
    revision = 2

    class Config(AnomalyConfig):
        """The numbers of the authors' code unless another source is given."""

        variant: Variant = "aae"  # constraint on the codes: critic (aae), KL divergence (vae), none (ae)
        game_rounds: int = 180_000  # batches; 300 epochs of 38 400 slices (our choice)
        batch_size: int = 64  # slices
        learning_rate: float = 2e-5  # Adam, all players
        betas: tuple[float, float] = (0.5, 0.9)  # Adam, all players
        critic_steps: int = 20  # critic turns per batch
        warm_up: float = 20 / 300  # fraction of training with warm_up_steps critic turns: 20 of 300 epochs
        warm_up_steps: int = 200  # critic turns per batch in that part
        distances: Distances = "sums"  # errors of images and codes as sums, or means as in arXiv 2004.03271
        consistency_weight: float = 0.5  # weight of the squared distance between codes of image and reconstruction
        adversarial_weight: float = 1.0  # weight of the critic's score in the encoder's turn
        penalty_weight: float = 10.0  # weight of the gradient penalty
        divergence_weight: float = 1.0  # weight of the KL divergence of the variant vae
        latent: int = 128  # size of a code
        width: int = 16  # channels at full size; doubled at every halving
        levels: int = 4  # halvings of the size
        norm: Norm = "batch"  # norm of encoder and decoder
        critic_widths: tuple[int, ...] = (200, 400)  # units of the critic's dense layers
        size: tuple[int, ...] = (256, 256)  # rows and columns of the networks' input
        scale: Scale = "zscore"  # scale of each volume; zscore is by mean and standard deviation of the brain
        phantom_image: str = "t2"  # image of the phantom that is examined

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "game_rounds": 500,
                "batch_size": 16,
                "learning_rate": 1e-3,
                "critic_steps": 3,
                "warm_up": 0.0,
                "latent": 64,
                "width": 8,
                "residual": "bright",
                "erosion": 6.0,
                "smallest": 3,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"variant": "vae"}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        codes = c.latent * (2 if c.variant == "vae" else 1)
        self.encoder = ResidualEncoder(1, c.size, codes, c.width, c.levels, c.norm)
        self.decoder = ResidualDecoder(c.latent, 1, c.size, c.width, c.levels, c.norm)
        self.critic = MLP((c.latent, *c.critic_widths, 1), "leaky") if c.variant == "aae" else None
        for layer in self.critic or ():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, 0.01)

    @property
    def adversarial(self) -> bool:
        """Whether the encoder is trained with a critic."""
        return self.critic is not None

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        if self.critic is None:
            players = [Player("autoencoder", (self.encoder, self.decoder), moves)]
        else:
            parts = {"encoder": self.encoder, "decoder": self.decoder, "critic": self.critic}
            players = [
                Player(name, (network,), moves, adversary=network is self.critic) for name, network in parts.items()
            ]
        return [Stage("game", self.turns, players, c.game_rounds, self.streams(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn | tuple[Turn, ...]]:
        image = next(batches)["image"]
        losses = self.rebuilding(image)
        if self.critic is None:
            yield Turn("autoencoder", losses)
            return
        yield Turn("encoder", losses), Turn("decoder", losses)
        prior = self.noise.normal(len(image), self.config.latent)
        with torch.no_grad():
            codes = self.encoder(image)
        for _ in range(self.critic_turns):
            real_scores, fake_scores = self.critic(prior), self.critic(codes)
            mix = self.noise.uniform(len(image))
            yield Turn(
                "critic",
                wasserstein=wasserstein_critic(real_scores, fake_scores),
                penalty=self.config.penalty_weight * gradient_penalty(self.critic, prior, codes, mix),
                scores={"real": real_scores, "fake": fake_scores},
            )
        scores = self.critic(self.encoder(image))
        yield Turn("encoder", adversarial=self.config.adversarial_weight * wasserstein_generator(scores))

    @property
    def critic_turns(self) -> int:
        """Number of critic turns in the present round."""
        c = self.config
        return c.warm_up_steps if self.progress.fraction < c.warm_up else c.critic_steps

    def rebuilding(self, image: Tensor) -> dict[str, Tensor]:
        """Return the losses that encoder and decoder share, by name."""
        c = self.config
        losses = {}
        mean = codes = self.encoder(image)
        if c.variant == "vae":
            mean, log_variance = codes.chunk(2, 1)
            codes = mean + (0.5 * log_variance).exp() * self.noise.normal(len(image), c.latent)
            losses["divergence"] = c.divergence_weight * kl_standard_normal(mean, log_variance)
        rebuilt = self.decoder(codes)
        error = (image - rebuilt).square().flatten(1)
        sums = c.distances == "sums"
        losses["reconstruction"] = (error.sum(1) + 1e-8).sqrt().mean() if sums else error.mean()
        if c.consistency_weight:
            apart = (mean - self.encode(rebuilt)).square()
            losses["consistency"] = c.consistency_weight * (apart.sum(1).mean() if sums else apart.mean())
        return losses

    def encode(self, image: Tensor) -> Tensor:
        """Encode images as codes; for the variant ``vae`` these are the means."""
        codes: Tensor = self.encoder(image)
        return codes[:, : self.config.latent]

    def detect(self, image: Tensor) -> Detection:
        healthy = self.decoder(self.encode(image))
        residual = self.residual(image, healthy)
        return Detection(residual, residual.flatten(1).mean(1), healthy)
