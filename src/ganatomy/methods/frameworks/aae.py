"""Adversarial autoencoder: a discriminator makes the codes of an autoencoder follow a prior that can be sampled."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Progress, Stage, Turn, adam, sgd
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.methods.frameworks.pair import Pair, PairConfig, check_classes
from ganatomy.nets.mlp import MLP

Shape = Literal["normal", "mixture", "swiss-roll"]

# Geometry of the mixture and of the Swiss roll; all numbers are our choice.
DISTANCE = 3.0  # distance of the mixture's components from the origin
ALONG, ACROSS = 0.8, 0.2  # SD of a component in radial and in tangential direction
TURNS, RADIUS, THICKNESS = 2.0, 3.0, 0.05  # turns, outer radius and SD across the Swiss roll


def uniform(normal: Tensor) -> Tensor:
    """Transform draws from N(0, 1) to draws from U(0, 1)."""
    return torch.special.ndtr(normal)  # type: ignore[no-any-return]


def mixture(latent: Tensor, components: int, label: Tensor | None = None) -> Tensor:
    """Transform draws from N(0, 1), (N, 3), to a mixture of Gaussians around the origin, (N, 2).

    The component is given by ``label`` or, without labels, drawn by the third number.
    """
    radial, tangential, choice = latent.unbind(1)
    if label is None:
        label = (components * uniform(choice)).long().clamp(max=components - 1)
    angle = 2 * math.pi * label / components
    out, around = DISTANCE + ALONG * radial, ACROSS * tangential
    return torch.stack([out * angle.cos() - around * angle.sin(), out * angle.sin() + around * angle.cos()], dim=1)


def swiss_roll(latent: Tensor, components: int, label: Tensor | None = None) -> Tensor:
    """Transform draws from N(0, 1), (N, 2), to a spiral from the origin, (N, 2), divided into a part for each label."""
    place, off = uniform(latent[:, 0]), latent[:, 1]
    if label is not None:
        place = (label + place) / components
    # The square root makes the density constant along the spiral.
    angle, radius = 2 * math.pi * TURNS * place.sqrt(), RADIUS * place.sqrt() + THICKNESS * off
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


class AAE(Pair):
    """Autoencoder whose codes are matched to a prior by a discriminator; samples images and reconstructs them.

    Makhzani, Shlens, Jaitly, Goodfellow & Frey, Adversarial Autoencoders, 2015. arXiv 1511.05644.
    """

    stated_augmentation = None

    class Config(PairConfig):
        """Dense networks for images of 28 pixels."""

        size: tuple[int, ...] = (28, 28)  # rows and columns made
        game_rounds: int = 60_000  # updates; 100 epochs of 60 000 images (our choice)
        batch_size: int = 100  # images (our choice)
        shape: Shape = "normal"  # prior of the codes; mixture and swiss-roll need a latent size of 2
        latent: int = 8  # size of a code
        scale: float = Field(5.0, gt=0)  # SD of the normal prior
        components: int = Field(10, ge=1)  # components of the mixture without labels
        use_labels: bool = False  # whether each class has its own part of the mixture or of the Swiss roll
        encoder: Literal["deterministic", "gaussian"] = "deterministic"  # whether codes have a variance
        widths: tuple[int, ...] = (1000, 1000)  # units of the hidden layers of all three networks (our choice)
        optimiser: Literal["sgd", "adam"] = "sgd"  # optimiser of both players (our choice)
        learning_rate: float = 0.01  # learning rate of the autoencoder (our choice)
        discriminator_rate: float = 0.1  # learning rate of the discriminator (our choice)
        momentum: float = 0.9  # momentum of SGD (our choice)
        betas: tuple[float, float] = (0.5, 0.999)  # betas of Adam (our choice)
        adversarial_weight: float = 10.0  # adversarial loss of the encoder; ratio of the learning rates (our choice)
        cut_at: float = 0.5  # fraction of the training after which learning rates are a tenth (our choice)
        input_noise: float = 0.0  # SD of noise added to images that are encoded for reconstruction

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (32, 32),
                "game_rounds": 2500,
                "batch_size": 64,
                "scale": 1.0,
                "encoder": "gaussian",
                "widths": (256, 256),
                "optimiser": "adam",
                "learning_rate": 1e-3,
                "discriminator_rate": 3e-4,
                "adversarial_weight": 0.02,
            },
        }

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if c.shape != "normal" and c.latent != 2:
            raise UserError(f"--latent {c.latent}: a {c.shape} has two dimensions; add --latent 2")
        if c.use_labels and c.shape == "normal":
            raise UserError("--use-labels: normal codes have no parts for classes; add --shape mixture --latent 2")
        if c.use_labels:
            check_classes(c.classes)
        self.labelled = c.use_labels
        self.latent_size = c.latent + (c.shape == "mixture")
        self.image_shape = (c.channels, *c.size)
        self.dims = len(c.size)
        pixels, told = math.prod(self.image_shape), len(c.classes) if c.use_labels else 0
        outputs = c.latent * (2 if c.encoder == "gaussian" else 1)
        self.encoder = nn.Sequential(nn.Flatten(), MLP((pixels, *c.widths, outputs)))
        self.decoder = MLP((c.latent, *c.widths, pixels), output="tanh")
        self.discriminator = MLP((c.latent + told, *c.widths, 1))

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = partial(adam, betas=c.betas) if c.optimiser == "adam" else partial(sgd, momentum=c.momentum)
        autoencoder = (self.encoder, self.decoder)
        return self.game(
            Player("autoencoder", autoencoder, moves(c.learning_rate), self._cut, ema_halflife=c.ema_halflife),
            Player("discriminator", (self.discriminator,), moves(c.discriminator_rate), self._cut, adversary=True),
        )

    def _cut(self, progress: Progress) -> float:
        return 1.0 if progress.fraction < self.config.cut_at else 0.1

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c, batch = self.config, next(batches)
        real = self.real(batch)
        label, drawn = (batch["label"], self.drawn_labels(len(real))) if self.labelled else (None, None)
        shown = real + c.input_noise * self.noise.normal(*real.shape) if c.input_noise else real
        yield Turn("autoencoder", reconstruction=mse_loss(self.decode(self.encode(shown)), real))

        code, wanted = self.encode(real), self.code(self.latents(len(real)), drawn)
        of_code, of_prior = self.judge(code.detach(), label), self.judge(wanted, drawn)
        yield Turn(
            "discriminator",
            adversarial=nonsaturating_discriminator(of_prior, of_code),
            scores={"prior": of_prior, "code": of_code},
        )
        yield Turn("autoencoder", adversarial=c.adversarial_weight * nonsaturating_generator(self.judge(code, label)))

    def judge(self, code: Tensor, label: Tensor | None) -> Tensor:
        """Return the discriminator's scores of codes (N, latent), joined by their labels where these are used."""
        if label is not None:
            code = torch.cat([code, self.condition(label)], dim=1)
        return self.discriminator(code)  # type: ignore[no-any-return]

    def code(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Transform draws from N(0, 1), (N, latent_size), to draws from the prior, (N, latent)."""
        c = self.config
        if c.shape == "normal":
            return latent * float(c.scale)
        components = len(c.classes) if self.labelled else c.components
        return (mixture if c.shape == "mixture" else swiss_roll)(latent, components, label)

    def encode(self, image: Tensor) -> Tensor:
        """Encode images (N, channels, rows, columns) as codes (N, latent)."""
        code: Tensor = self.encoder(image)
        if self.config.encoder == "deterministic":
            return code
        mean, log_variance = code.chunk(2, dim=1)
        return mean + (0.5 * log_variance).exp() * self.noise.normal(*mean.shape) if self.training else mean

    def decode(self, code: Tensor) -> Tensor:
        """Decode codes (N, latent) to images (N, channels, rows, columns)."""
        return self.decoder(code).unflatten(1, self.image_shape)  # type: ignore[no-any-return]

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        return self.decode(self.code(latent, label if self.labelled else None))

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encode and decode images (N, channels, rows, columns)."""
        return self.decode(self.encode(image))
