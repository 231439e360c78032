"""End-to-end synthesis of the retina: an adversarial autoencoder draws vessels, and a U-Net paints the photograph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import evaluated
from ganatomy.nets.layers import init_glorot
from ganatomy.nets.mlp import MLP
from ganatomy.nets.retina_aae import MapDecoder, MapEncoder
from ganatomy.nets.strided_unet import Statistics, StridedDiscriminator, StridedUNet, widths_of
from ganatomy.tasks.synthesis.maps import MapSynthesisConfig, PaintedSynthesis, Painter


class RetinaAAE(Painter):
    """Samples a vessel map with an adversarial autoencoder and paints the fundus photograph over it.

    Costa et al., End-to-End Adversarial Retinal Image Synthesis, IEEE Transactions on Medical Imaging 37(3):781-791,
    2018. doi:10.1109/TMI.2017.2759102.

    Three adversarial parties take turns in blocks: a discriminator of pairs of map and photograph, a discriminator of
    codes, and autoencoder and painter together. The networks are those of the authors' release, without a convolution
    that it leaves unused. Real pairs that the discriminator is shown are drawn independently of those that are encoded.
    """

    stated_augmentation = None

    class Config(MapSynthesisConfig):
        """The numbers of the authors' release, for 614 training pairs."""

        size: tuple[int, ...] = (256, 256)  # rows and columns, a power of 2
        game_rounds: int = 3000  # rounds; 100 epochs of 30 rounds
        steps: int = 20  # steps of each of the three parties in a round
        batch_size: int = 1  # pairs of map and photograph
        learning_rate: float = 2e-4  # Adam, autoencoder with painter, and discriminator of pairs; constant
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, these two
        code_rate: float = 1e-3  # Adam, discriminator of codes; constant
        code_betas: tuple[float, float] = (0.9, 0.999)  # Adam, discriminator of codes
        map_weight: float = 100.0  # weight of the cross-entropy of maps that are encoded and decoded
        l1_weight: float = 100.0  # weight of the mean absolute difference of painted and true photographs
        adversarial_weight: float = 1.0  # weight of the discriminator of pairs; 0 leaves it out
        code_weight: float = 1.0  # weight of the discriminator of codes; 0 leaves it out
        shown_map: Literal["decoded", "true"] = "decoded"  # map beside painted photographs as the discriminator learns
        latent: int = 16  # size of the code of a map, N(0, 1); the paper's is not known
        width: int = 32  # channels of the first layers of autoencoder and painter
        halving: bool = False  # whether the encoder halves maps in its first level, too, which the release omits
        statistics: Statistics = "image"  # statistics of norms: of each image, as in batches of one, or of the batch
        dropout: float = 0.5  # dropout rate in the inner layers of encoder, decoder and painter
        discriminator_widths: tuple[int, ...] = (32, 64, 128)  # channels of the discriminator; three see 31 pixels
        code_units: int = 32  # units of the discriminator of codes

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "code": {"shown_map": "true"},
            "small": {
                "size": (64, 64),
                "game_rounds": 500,
                "steps": 5,
                "batch_size": 4,
                "learning_rate": 1e-3,
                "latent": 8,
                "width": 8,
                "dropout": 0.0,
                "discriminator_widths": (16, 32, 64),
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0, "code_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, channels = config, config.channels
        doublings = c.size[0].bit_length() - 1
        if set(c.size) != {2**doublings} or doublings < 5:
            raise UserError(f"--size {' '.join(map(str, c.size))}: rows and columns must be one power of 2, from 32 on")
        if not (c.map_weight and c.l1_weight):
            raise UserError("--map-weight and --l1-weight: both maps and photographs are learned; neither can be 0")
        levels = doublings - 1
        self.latent_size = c.latent
        options: dict[str, Any] = {"statistics": c.statistics, "dropout": c.dropout}
        self.encoder = MapEncoder(c.width, levels, c.latent, halving=c.halving, **options)
        self.decoder = MapDecoder(c.latent, c.width, doublings, **options)
        widths = widths_of(c.width, levels)
        self.painter = StridedUNet(1, channels, widths, widths[::-1], **options)
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = StridedDiscriminator(1 + channels, c.discriminator_widths)
        self.code_discriminator = None
        if c.code_weight:
            self.code_discriminator = MLP((c.latent, c.code_units, 1), activation="leaky")
            init_glorot(self.code_discriminator)

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator of pairs or of codes."""
        return bool(self.config.adversarial_weight or self.config.code_weight)

    def build_task(self) -> PaintedSynthesis:
        return PaintedSynthesis(self.config)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2 ** (self.config.size[0].bit_length() - 2))

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = []
        if self.discriminator is not None:
            players.append(Player("discriminator", (self.discriminator,), moves, adversary=True))
        if self.code_discriminator is not None:
            codes = adam(c.code_rate, c.code_betas)
            players.append(Player("code discriminator", (self.code_discriminator,), codes, adversary=True))
        players.append(Player("generators", (self.encoder, self.decoder, self.painter), moves))
        return [Stage("game", self.turns, players, c.game_rounds, self.stream(c.batch_size, c.flips))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        for _ in range(c.steps if self.discriminator is not None else 0):
            yield self.discriminator_turn(next(batches), next(batches))
        for _ in range(c.steps if self.code_discriminator is not None else 0):
            yield self.code_turn(next(batches))
        for _ in range(c.steps):
            yield self.generators_turn(next(batches))

    def discriminator_turn(self, encoded: Batch, other: Batch) -> Turn:
        """Return the turn of the discriminator of pairs, which is shown generated pairs without dropout.

        Args:
            encoded: samples whose maps are encoded.
            other: samples that are shown as real ones.
        """
        assert self.discriminator is not None
        true = self.maps(encoded)
        with torch.no_grad(), evaluated(self):
            decoded = self.decoder(self.code(true)).sigmoid()
            painted = self.paint(decoded)
        shown = decoded if self.config.shown_map == "decoded" else true
        real = self.discriminator(torch.cat([self.maps(other), self.photographs(other)], dim=1))
        fake = self.discriminator(torch.cat([shown, painted], dim=1))
        losses = {"adversarial": 0.5 * nonsaturating_discriminator(real, fake)}
        return Turn("discriminator", losses, scores={"real": real, "fake": fake})

    def code_turn(self, batch: Batch) -> Turn:
        """Return the turn of the discriminator of codes, to which draws from N(0, 1) are real ones."""
        assert self.code_discriminator is not None
        with torch.no_grad(), evaluated(self):
            code = self.code(self.maps(batch))
        real, fake = self.code_discriminator(self.latents(len(code))), self.code_discriminator(code)
        losses = {"adversarial": 0.5 * nonsaturating_discriminator(real, fake)}
        return Turn("code discriminator", losses, scores={"prior": real, "code": fake})

    def generators_turn(self, batch: Batch) -> Turn:
        """Return the turn of encoder, decoder and painter together; the painter is given the soft, decoded map."""
        c, true = self.config, self.maps(batch)
        code = self.code(true)
        logits = self.decoder(code)
        decoded = logits.sigmoid()
        painted = self.paint(decoded)
        losses = {
            "map": c.map_weight * binary_cross_entropy_with_logits(logits, true),
            "l1": c.l1_weight * l1_loss(painted, self.photographs(batch)),
        }
        if self.discriminator is not None:
            score = self.discriminator(torch.cat([decoded, painted], dim=1))
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(score)
        if self.code_discriminator is not None:
            losses["code"] = c.code_weight * nonsaturating_generator(self.code_discriminator(code))
        return Turn("generators", losses)

    def code(self, maps: Tensor) -> Tensor:
        """Draw codes (N, latent) of maps (N, 1, H, W); they are drawn at inference, too."""
        mean, log_variance = self.encoder(maps)
        return mean + (0.5 * log_variance).exp() * self.noise.normal(*mean.shape)  # type: ignore[no-any-return]

    def paint(self, maps: Tensor) -> Tensor:
        """Paint photographs (N, channels, H, W), from -1 to 1, over maps (N, 1, H, W) from 0 to 1."""
        return self.painter(maps).tanh()  # type: ignore[no-any-return]

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate maps, each pixel of which is inside or outside, and photographs painted over the soft maps."""
        decoded = self.decoder(latent).sigmoid()
        return torch.cat([self.sharp(decoded), self.paint(decoded)], dim=1)

    def restore(self, input: Tensor) -> Tensor:
        return self.paint(0.5 * (input + 1))
