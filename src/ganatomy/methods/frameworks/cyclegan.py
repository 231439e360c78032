"""CycleGAN: two translators that must undo each other, each with a discriminator of its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import l1_loss

from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam, linear_decay
from ganatomy.losses.adversarial import least_squares_discriminator, least_squares_generator
from ganatomy.nets.aids import ImagePool
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.residual import ResNetGenerator
from ganatomy.tasks.translation.task import TranslationConfig, Translator


class CycleGAN(Translator):
    """Translation learned from images of both kinds that need not show the same patients.

    Zhu, Park, Isola & Efros, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks,
    ICCV 2017. arXiv 1703.10593.
    """

    class Config(TranslationConfig):
        """The numbers of the released code; its identity loss, of the paper's paintings only, is off."""

        game_rounds: int = 200_000  # updates of each player; 200 epochs of 1000 images
        batch_size: int = 1  # images of either kind
        jitter: int = 30  # pixels by which images are enlarged before a random part of the size is cut out; 0 never
        learning_rate: float = 2e-4  # Adam, all players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, all players
        decay_from: float = 0.5  # part of training after which the rate falls linearly to zero
        adversarial_weight: float = 1.0  # least-squares game; 0 leaves the cycle alone
        cycle_weight: float = 10.0  # mean absolute difference after there and back
        identity_weight: float = 0.0  # of images of the kind that is made, relative to the cycle; 0.5 in the code
        pool: int = 50  # earlier fakes that the discriminators may be shown again
        width: int = 64  # channels of the generators at full size
        blocks: int = 9  # residual blocks; 6 at 128 pixels
        strided: int = 2  # halvings of the size in the generators; sizes are multiples of 2**strided
        critic_width: int = 64  # channels of the discriminators' first layer
        critic_strided: int = 3  # their stride-2 layers; 1, 2, 3, 4 see patches of 16, 34, 70, 142 pixels
        ema_halflife: float | None = None  # images; average of the generators used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "jitter": 6,
                "game_rounds": 700,
                "batch_size": 2,
                "learning_rate": 1e-3,
                "width": 12,
                "blocks": 3,
                "strided": 1,
                # With the paper's weights so short a training keeps the order of grey values, dark stays dark.
                "adversarial_weight": 3.0,
                "cycle_weight": 3.0,
                "critic_width": 32,
                "critic_strided": 2,
                "ema_halflife": 100.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config
    paired = False

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        a, b = c.channels
        self.to_b = ResNetGenerator(a, b, c.width, c.blocks, c.strided)
        self.to_a = ResNetGenerator(b, a, c.width, c.blocks, c.strided)
        for generator in (self.to_a, self.to_b):
            init_pix2pix(generator, c.width)
        self.discriminator_a = self.discriminator_b = None
        if c.adversarial_weight:
            self.discriminator_a = self._discriminator(a)
            self.discriminator_b = self._discriminator(b)
            self.pool_a, self.pool_b = ImagePool((a, *c.size), c.pool), ImagePool((b, *c.size), c.pool)

    def _discriminator(self, channels: int) -> PatchGAN:
        c = self.config
        discriminator = PatchGAN(channels, c.critic_width, c.critic_strided, "instance")
        init_pix2pix(discriminator, c.critic_width)
        return discriminator

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.strided)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves, schedule = adam(c.learning_rate, c.betas), linear_decay(c.decay_from)
        players = [Player("generators", (self.to_b, self.to_a), moves, schedule, ema_halflife=c.ema_halflife)]
        if self.discriminator_a and self.discriminator_b:
            players.append(Player("discriminator a", (self.discriminator_a,), moves, schedule))
            players.append(Player("discriminator b", (self.discriminator_b,), moves, schedule))
        return [Stage("game", self.turns, players, c.game_rounds, self.stream(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn | tuple[Turn, Turn]]:
        c = self.config
        batch = self.jittered(next(batches))
        a, b = batch["a"], batch["b"]
        fake_b, fake_a = self.to_b(a), self.to_a(b)
        losses = {
            "cycle a": c.cycle_weight * l1_loss(self.to_a(fake_b), a),
            "cycle b": c.cycle_weight * l1_loss(self.to_b(fake_a), b),
        }
        if c.identity_weight:
            weight = c.identity_weight * c.cycle_weight
            losses["identity a"] = weight * l1_loss(self.to_a(a), a)
            losses["identity b"] = weight * l1_loss(self.to_b(b), b)
        if not (self.discriminator_a and self.discriminator_b):
            yield Turn("generators", losses)
            return
        losses["adversarial a"] = c.adversarial_weight * least_squares_generator(self.discriminator_a(fake_a))
        losses["adversarial b"] = c.adversarial_weight * least_squares_generator(self.discriminator_b(fake_b))
        yield Turn("generators", losses)
        yield (
            self._judgement("discriminator a", self.discriminator_a, a, self._recalled(self.pool_a, fake_a)),
            self._judgement("discriminator b", self.discriminator_b, b, self._recalled(self.pool_b, fake_b)),
        )

    def _recalled(self, pool: ImagePool, fakes: Tensor) -> Tensor:
        return pool(fakes, self.noise.uniform(len(fakes), 2))  # type: ignore[no-any-return]

    @staticmethod
    def _judgement(player: str, discriminator: PatchGAN, real: Tensor, fake: Tensor) -> Turn:
        real_scores, fake_scores = discriminator(real), discriminator(fake)
        return Turn(
            player,
            adversarial=least_squares_discriminator(real_scores, fake_scores),
            scores={"real": real_scores, "fake": fake_scores},
        )

    def restore(self, input: Tensor) -> Tensor:
        return (self.to_b if self.task.product == "b" else self.to_a)(input)  # type: ignore[no-any-return]
