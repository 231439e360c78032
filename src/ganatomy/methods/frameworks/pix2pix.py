"""pix2pix: a U-Net that translates images, and a discriminator that scores patches of pairs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import l1_loss

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import keep_dropout, own_statistics
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.unet import Pix2PixUNet
from ganatomy.tasks.translation.task import TranslationConfig, Translator


class Pix2Pix(Translator):
    """Image-to-image translation from aligned pairs, with a conditional discriminator and an L1 loss.

    Isola, Zhu, Zhou & Efros, Image-to-Image Translation with Conditional Adversarial Networks, CVPR 2017.
    arXiv 1611.07004.
    """

    stated_augmentation = "enlarged from 256 to 286 pixels, cut to 256 at a random place, and mirrored"
    revision = 2

    class Config(TranslationConfig):
        """The numbers of the released code."""

        game_rounds: int = 80_000  # updates of each player; 200 epochs of 400 pairs
        batch_size: int = 1  # pairs
        jitter: int = 30  # pixels by which images are enlarged before a random part of the size is cut out; 0 never
        learning_rate: float = 2e-4  # Adam, both players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        l1_weight: float = 100.0  # weight of the mean absolute difference from the true image
        adversarial_weight: float = 1.0  # weight of the game; 0 trains the same network with the L1 loss alone
        levels: int = Field(8, ge=1)  # stride-2 steps of the U-Net; sizes are multiples of 2**levels
        width: int = 64  # channels of the U-Net's first level
        norm: Literal["instance", "batch"] = (
            "instance"  # statistics of each image, as in the paper's batches of one, or of the batch
        )
        dropout: float = 0.5  # dropout rate in the U-Net's inner decoder
        dropout_at_inference: bool = False  # as in the paper; results then differ from call to call
        discriminator_width: int = 64  # channels of the discriminator's first layer
        discriminator_strided: int = 3  # discriminator's stride-2 layers; 1 to 4 see patches of 16, 34, 70, 142 pixels
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "jitter": 6,
                "game_rounds": 600,
                "batch_size": 4,
                "learning_rate": 1e-3,
                "levels": 5,
                "width": 16,
                "dropout": 0.0,
                "discriminator_width": 16,
                "discriminator_strided": 2,
                "ema_halflife": 200.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if any(extent % 2**c.levels for extent in c.size):
            raise UserError(
                f"--levels {c.levels}: rows and columns must be multiples of {2**c.levels}, but --size is "
                f"{' '.join(map(str, c.size))}"
            )
        given, made = self.seen_channels, self.task.out_channels
        self.generator = Pix2PixUNet(given, made, c.width, c.levels, c.norm, c.dropout, scaled=True)
        init_pix2pix(self.generator, c.width)
        self.discriminator = None
        if c.adversarial_weight:
            width, strided = c.discriminator_width, c.discriminator_strided
            self.discriminator = PatchGAN(given + made, width, strided, c.norm, scaled=True)
            init_pix2pix(self.discriminator, c.discriminator_width)

    @property
    def seen_channels(self) -> int:
        """Number of channels of what the networks see of an input."""
        return self.task.in_channels  # type: ignore[no-any-return]

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.levels)

    def inference_mode(self) -> Self:
        self.eval()
        own_statistics(self.generator)
        if self.config.dropout_at_inference:
            keep_dropout(self.generator)
        return self

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = [Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife)]
        if self.discriminator:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        return [Stage("game", self.turns, players, c.game_rounds, self.streams(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c, batch = self.config, next(batches)
        source, true = self.jittered(self.seen(self.image(batch)), self.truth(batch))
        fake = self.translated(source)
        if self.discriminator:
            real_scores = self.discriminator(torch.cat([source, true], dim=1))
            fake_scores = self.discriminator(torch.cat([source, fake.detach()], dim=1))
            yield Turn(
                "discriminator",
                # Halved, so that the discriminator learns more slowly than the generator.
                adversarial=0.5 * nonsaturating_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        losses = {"l1": c.l1_weight * l1_loss(fake, true)}
        if self.discriminator:
            scores = self.discriminator(torch.cat([source, fake], dim=1))
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(scores)
        yield Turn("generator", losses)

    def seen(self, input: Tensor) -> Tensor:
        """Return what the networks see of an input (N, C, H, W): here all of it."""
        return input

    def translated(self, source: Tensor) -> Tensor:
        """Translate what the networks see, (N, C, H, W)."""
        return self.generator(source).tanh()  # type: ignore[no-any-return]

    def restore(self, input: Tensor) -> Tensor:
        return self.translated(self.seen(input))
