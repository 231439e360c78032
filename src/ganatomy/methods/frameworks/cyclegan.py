"""CycleGAN: two generators trained to invert each other, each with a discriminator of its own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganatomy.game import Batch, Player, Progress, Stage, Tiling, Turn, adam, linear_decay
from ganatomy.losses.adversarial import least_squares_discriminator, least_squares_generator
from ganatomy.nets.aids import ImagePool
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.residual import ResNetGenerator
from ganatomy.tasks.translation.task import TranslationConfig, Translator


class CycleGAN(Translator):
    """Unpaired image-to-image translation with cycle consistency.

    Zhu, Park, Isola & Efros, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks,
    ICCV 2017. arXiv 1703.10593.
    """

    stated_augmentation: ClassVar[str | None] = (
        "enlarged from 256 to 286 pixels, cut to 256 at a random place, and mirrored"
    )

    class Config(TranslationConfig):
        """The numbers of the released code; its identity loss, of the paper's paintings only, is off."""

        game_rounds: int = 200_000  # updates of each player; 200 epochs of 1000 images
        batch_size: int = 1  # images of either kind
        jitter: int = 30  # pixels by which images are enlarged before a random part of the size is cut out; 0 never
        learning_rate: float = 2e-4  # Adam, all players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, all players
        decay_from: float = 0.5  # fraction of the training after which the learning rate falls linearly to zero
        adversarial_weight: float = 1.0  # weight of the least-squares game; 0 trains with cycle consistency alone
        cycle_weight: float = 10.0  # weight of the mean absolute difference after translation there and back
        identity_weight: float = 0.0  # weight of the identity loss relative to the cycle; 0.5 in the code
        pool: int = 50  # generated images in the history buffer of each discriminator
        width: int = 64  # channels of the generators at full size
        blocks: int = 9  # residual blocks; 6 at 128 pixels
        strided: int = 2  # halvings of the size in the generators; sizes are multiples of 2**strided
        discriminator_width: int = 64  # channels of the discriminators' first layer
        discriminator_strided: int = 3  # discriminators' stride-2 layers; 1 to 4 see patches of 16, 34, 70, 142 pixels
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
                # With the paper's weights so short a training does not learn to invert contrast: dark stays dark.
                "adversarial_weight": 3.0,
                "cycle_weight": 3.0,
                "discriminator_width": 32,
                "discriminator_strided": 2,
                "ema_halflife": 100.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config
    paired = False

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        roles = self.task.roles
        source, target = (sum(roles[name].channels for name in names) for names in (self.inputs, self.outputs))
        self.to_target, self.to_source = self.generator(source, target), self.generator(target, source)
        for generator in (self.to_source, self.to_target):
            init_pix2pix(generator, c.width)
        self.discriminator_source = self.discriminator_target = None
        if c.adversarial_weight:
            self.discriminator_source = self.discriminator(source)
            self.discriminator_target = self.discriminator(target)
            self.pool_source = ImagePool((source, *c.size), c.pool)
            self.pool_target = ImagePool((target, *c.size), c.pool)

    def generator(self, given: int, made: int) -> nn.Module:
        """Return a generator from ``given`` to ``made`` channels."""
        c = self.config
        return ResNetGenerator(given, made, c.width, c.blocks, c.strided)

    def discriminator(self, channels: int) -> PatchGAN:
        """Return a discriminator of images with some channels, with its initial weights."""
        c = self.config
        discriminator = PatchGAN(channels, c.discriminator_width, c.discriminator_strided, "instance")
        init_pix2pix(discriminator, c.discriminator_width)
        return discriminator

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.strided)

    @property
    def schedule(self) -> Callable[[Progress], float] | None:
        """Factor of all learning rates."""
        return linear_decay(self.config.decay_from)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves, schedule = adam(c.learning_rate, c.betas), self.schedule
        generators = (self.to_target, self.to_source)
        players = [Player("generators", generators, moves, schedule, ema_halflife=c.ema_halflife)]
        if self.discriminator_source and self.discriminator_target:
            players.append(
                Player("discriminator source", (self.discriminator_source,), moves, schedule, adversary=True)
            )
            players.append(
                Player("discriminator target", (self.discriminator_target,), moves, schedule, adversary=True)
            )
        return [Stage("game", self.turns, players, c.game_rounds, self.streams(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn | tuple[Turn, Turn]]:
        c, batch = self.config, next(batches)
        (source,) = self.jittered(self.image(batch["source"]))
        (target,) = self.jittered(self.truth(batch["target"]))
        fake_target, fake_source = self.to_target(source), self.to_source(target)
        losses = {
            **self.cycle("source", source, fake_target, self.to_source(fake_target)),
            **self.cycle("target", target, fake_source, self.to_target(fake_source)),
        }
        if c.identity_weight:
            weight = c.identity_weight * c.cycle_weight
            losses["identity source"] = weight * l1_loss(self.to_source(source), source)
            losses["identity target"] = weight * l1_loss(self.to_target(target), target)
        if not (self.discriminator_source and self.discriminator_target):
            yield Turn("generators", losses)
            return
        for name, discriminator, fake in (
            ("source", self.discriminator_source, fake_source),
            ("target", self.discriminator_target, fake_target),
        ):
            losses[f"adversarial {name}"] = c.adversarial_weight * least_squares_generator(discriminator(fake))
        yield Turn("generators", losses)
        yield (
            self._judgement("source", self.discriminator_source, source, self._recalled(self.pool_source, fake_source)),
            self._judgement("target", self.discriminator_target, target, self._recalled(self.pool_target, fake_target)),
        )

    def cycle(self, name: str, given: Tensor, made: Tensor, back: Tensor) -> dict[str, Tensor]:
        """Return the losses of the cycle that begins with real images.

        Args:
            name: ``source`` or ``target``, the kind of the real images.
            given: real images.
            made: their translation.
            back: its translation back.
        """
        return {f"cycle {name}": self.config.cycle_weight * l1_loss(back, given)}

    def _recalled(self, pool: ImagePool, fakes: Tensor) -> Tensor:
        return pool(fakes, self.noise.uniform(len(fakes), 2))  # type: ignore[no-any-return]

    @staticmethod
    def _judgement(name: str, discriminator: PatchGAN, real: Tensor, fake: Tensor) -> Turn:
        real_scores, fake_scores = discriminator(real), discriminator(fake)
        return Turn(
            f"discriminator {name}",
            adversarial=least_squares_discriminator(real_scores, fake_scores),
            scores={"real": real_scores, "fake": fake_scores},
        )

    def restore(self, input: Tensor) -> Tensor:
        return self.to_target(input)  # type: ignore[no-any-return]
