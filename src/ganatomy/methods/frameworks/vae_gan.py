"""VAE-GAN: a variational autoencoder whose reconstruction error is measured in features of a discriminator."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.game import Batch, Player, Progress, Stage, Turn, over_processes, rmsprop
from ganatomy.losses.adversarial import GAMES, nonsaturating_discriminator
from ganatomy.losses.matching import kl_standard_normal
from ganatomy.methods.frameworks.pair import Pair, PairConfig
from ganatomy.nets.aids import base_size
from ganatomy.nets.dcgan import DCGenerator
from ganatomy.nets.layers import Convolution, Transposed

UNDECIDED = 0.68
"""Cross-entropy of a discriminator at chance level, about ln 2, as in the published code."""


@torch.no_grad()
def init_uniform(network: nn.Module) -> None:
    """Draw weights from U(-b, b), b² = 1 / (3 · weights per output), as in the published code; biases are zero."""
    for module in network.modules():
        if isinstance(module, Convolution | Transposed | nn.Linear):
            bound = (3 * module.weight[0].numel()) ** -0.5
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def halving(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a convolution that halves the size, with batch norm and ReLU."""
    return [nn.Conv2d(inputs, outputs, 5, 2, 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def dense(inputs: int, outputs: int) -> list[nn.Module]:
    """Return a hidden dense layer with batch norm and ReLU."""
    return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]


class Encoder(nn.Module):
    """Encoder from an image to the mean and the log-variance of its code.

    Args:
        inputs: image channels.
        size: rows and columns.
        widths: channels of the convolutions.
        hidden: units of the dense layer.
        latent: size of the code.
    """

    def __init__(self, inputs: int, size: Sequence[int], widths: Sequence[int], hidden: int, latent: int):
        super().__init__()
        layers = [layer for pair in pairwise((inputs, *widths)) for layer in halving(*pair)]
        positions = torch.Size(base_size(size, len(widths))).numel()
        layers += [nn.Flatten(), *dense(widths[-1] * positions, hidden), nn.Linear(hidden, 2 * latent)]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each (N, latent), of the codes of images (N, inputs, rows, columns)."""
        mean, log_variance = self.layers(image).chunk(2, dim=1)
        return mean, log_variance


class Discriminator(nn.Module):
    """Discriminator that returns the features in which reconstructions are compared, and a raw score.

    Args:
        inputs: image channels.
        size: rows and columns.
        widths: channels of the convolutions, the first at full size and each of the others at half the size before.
        hidden: units of the dense layer.
    """

    def __init__(self, inputs: int, size: Sequence[int], widths: Sequence[int], hidden: int):
        super().__init__()
        *seen, last = [halving(*pair) for pair in pairwise(widths)]
        convolution, *rest = last
        positions = torch.Size(base_size(size, len(widths) - 1)).numel()
        self.features = nn.Sequential(
            nn.Conv2d(inputs, widths[0], 5, padding=2),
            nn.ReLU(),
            *(layer for part in seen for layer in part),
            convolution,
        )
        self.head = nn.Sequential(*rest, nn.Flatten(), *dense(widths[-1] * positions, hidden), nn.Linear(hidden, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last convolution's maps before their norm, and scores (N, 1), of (N, inputs, rows, columns)."""
        features = self.features(image)
        return features, self.head(features)


class VAEGAN(Pair):
    """Variational autoencoder whose decoder is the generator of a GAN; samples images and reconstructs them.

    Larsen, Sønderby, Larochelle & Winther, Autoencoding beyond pixels using a learned similarity metric, ICML 2016.
    arXiv 1512.09300. The three networks are updated simultaneously: the encoder is not trained by the adversarial loss,
    the discriminator is not trained by the reconstruction error. As in the authors' release, images that are compared
    in features, and those that are scored, are normalised together. It differs from that release:

    - Logarithms are exact; the release adds 0.001 to probabilities before them, where ours are computed from scores.
    - Weight decay acts on all parameters; in the release not on biases, gains and the layer of mean and variance, which
      are too few to matter.
    """

    revision = 2
    stated_augmentation = (
        "slightly shifted, scaled and turned, with other gamma, contrast and hue, in the script for faces"
    )

    class Config(PairConfig):
        """The numbers of the paper, and where it is silent those of the release, which the preset ``code`` follows."""

        game_rounds: int = 62_500  # updates; 250 epochs of 250 batches in the release
        batch_size: int = 64  # images
        learning_rate: float = 3e-4  # RMSprop, all players, at the beginning
        last_learning_rate: float = Field(1e-5 / 64, ge=0)  # learning rate at the end
        fall: float = Field(0.75, gt=0)  # power of the share of epochs with which the rate falls towards the last
        epochs: int = Field(250, ge=1)  # parts of the training within which the learning rate is constant
        mean_square_decay: float = Field(0.9, ge=0, lt=1)  # RMSprop, decay of the mean of squared gradients
        weight_decay: float = Field(2e-5 / 64, ge=0)  # multiple of the weights in gradients; L2 of 1e-5 over 64 images
        latent: int = 128  # size of the latent vector, N(0, 1)
        encoder_widths: tuple[int, ...] = (64, 128, 256)  # channels of the encoder's convolutions
        encoder_hidden: int = 1024  # units of the encoder's dense layer
        decoder_widths: tuple[int, ...] = (256, 256, 128, 32)  # channels of the decoder's dense layer and doublings
        discriminator_widths: tuple[int, ...] = (32, 128, 256, 256)  # channels of the discriminator's convolutions
        discriminator_hidden: int = 512  # units of the discriminator's dense layer
        likeness_weight: float = 1e-6  # γ: weight of the decoder's feature error, a sum; 1 - γ for its adversarial loss
        judged: Literal["both", "prior"] = "both"  # scored images: decoded noise and, with both, reconstructions
        game: Literal["minimax", "nonsaturating"] = "minimax"  # adversarial loss of the decoder
        margin_of_balance: float = Field(0.35, ge=0)  # nats by which a player may be ahead before it pauses

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "code": {"learning_rate": 0.025 / 64, "judged": "prior"},
            "small": {
                "size": (32, 32),
                "game_rounds": 800,
                "batch_size": 32,
                "learning_rate": 1e-3,
                "latent": 32,
                "encoder_widths": (16, 32, 48),
                "encoder_hidden": 128,
                "decoder_widths": (64, 48, 32, 16),
                "discriminator_widths": (8, 24, 48, 64),
                "discriminator_hidden": 128,
                "likeness_weight": 1e-2,
                "game": "nonsaturating",
                "ema_halflife": 1000.0,
            },
        }

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.latent_size = c.latent
        self.encoder = Encoder(c.channels, c.size, c.encoder_widths, c.encoder_hidden, c.latent)
        self.decoder = DCGenerator(
            c.latent, c.channels, c.size, c.decoder_widths, kernel=5, refine=True, refine_kernel=5
        )
        self.discriminator = Discriminator(c.channels, c.size, c.discriminator_widths, c.discriminator_hidden)
        init_uniform(self)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = rmsprop(c.learning_rate, c.mean_square_decay, c.weight_decay)

        def schedule(progress: Progress) -> float:
            past = (int(progress.fraction * c.epochs) / c.epochs) ** c.fall
            return float(1 - past * (1 - c.last_learning_rate / c.learning_rate))

        return self.game(
            Player("encoder", (self.encoder,), moves, schedule, ema_halflife=c.ema_halflife),
            Player("decoder", (self.decoder,), moves, schedule, ema_halflife=c.ema_halflife),
            Player("discriminator", (self.discriminator,), moves, schedule, adversary=True),
        )

    def turns(self, batches: Iterator[Batch]) -> Iterator[tuple[Turn, ...]]:
        c = self.config
        real = self.real(next(batches))
        mean, log_variance = self.encoder(real)
        code = mean + (0.5 * log_variance).exp() * self.noise.normal(*mean.shape)
        own = self.decoder(code)
        own_features, features = self.discriminator.features(torch.cat([own, real])).chunk(2)
        shown = self.latents(len(real))
        if c.judged == "both":
            shown = torch.cat([code, shown])
        _, all_scores = self.discriminator(torch.cat([real, self.decoder(shown)]))
        scores, fake_scores = all_scores.tensor_split([len(real)])

        # The features of true images are a given: they depend on the decoder through the shared statistics alone.
        likeness = 0.5 * (own_features - features.detach()).square().flatten(1).sum(1).mean()
        adversarial = nonsaturating_discriminator(scores, fake_scores)
        # A sum over the kinds of generated images, where the discriminator has their mean.
        deceiving = len(fake_scores) / len(real) * GAMES[c.game].generator(fake_scores)
        decoder_moves, discriminator_moves = self.balance(scores, fake_scores)

        move = [Turn("encoder", prior=kl_standard_normal(mean, log_variance), likeness=likeness)]
        if decoder_moves:
            gamma = c.likeness_weight
            move.append(Turn("decoder", likeness=gamma * likeness, adversarial=(1 - gamma) * deceiving))
        if discriminator_moves:
            seen = {"real": scores, "fake": fake_scores}
            move.append(Turn("discriminator", adversarial=0.5 * adversarial, scores=seen))
        yield tuple(move)

    def balance(self, real: Tensor, fake: Tensor) -> tuple[bool, bool]:
        """Return whether decoder and discriminator are updated, given the scores; one that is far ahead pauses."""
        costs = torch.stack([nn.functional.softplus(-real).mean(), nn.functional.softplus(fake).mean()])
        costs = over_processes(costs.detach())
        margin = self.config.margin_of_balance
        decoder_ahead = bool((costs > UNDECIDED + margin).any())
        discriminator_ahead = bool((costs < UNDECIDED - margin).any())
        if decoder_ahead and discriminator_ahead:
            return True, True
        return not decoder_ahead, not discriminator_ahead

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        return self.decoder(latent)  # type: ignore[no-any-return]

    def reconstruct(self, image: Tensor) -> Tensor:
        """Decode the mean codes of images (N, channels, rows, columns)."""
        mean, _ = self.encoder(image)
        return self.decoder(mean)  # type: ignore[no-any-return]
