"""mDCSRN-GAN: a densely connected super-resolution network, pre-trained for L1 error, then refined by a WGAN."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, PositiveInt
from torch.nn.functional import l1_loss

from ganatomy.game import Batch, Player, Stage, Stream, Tiling, Turn, adam
from ganatomy.losses.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from ganatomy.nets.dense import MultiLevelDense
from ganatomy.nets.residual import SRDiscriminator
from ganatomy.nets.volumetric import Factors
from ganatomy.physics.resolution import Truncation
from ganatomy.physics.slices import Window
from ganatomy.tasks.super_resolution.task import VolumeConfig, VolumeResolver


class MDCSRN(VolumeResolver):
    """Super-resolution of T1 volumes from truncated k-space, as of a four times shorter scan.

    Chen et al., Efficient and Accurate MRI Super-Resolution using a Generative Adversarial Network and 3D Multi-Level
    Densely Connected Network, MICCAI 2018, LNCS 11070, 91-99. arXiv 1803.01417.
    """

    span = (0.0, 1.0)

    stated_augmentation = None

    class Config(VolumeConfig):
        """The numbers of the paper; without the critic training ends after its first stage."""

        factors: tuple[PositiveInt, PositiveInt, PositiveInt] = (
            1,
            2,
            2,
        )  # truncation of k-space along slices, rows, columns
        apodisation: Window = "none"  # window of the kept part of k-space; hann reduces ringing (our option)
        trim: int | None = Field(3, ge=0)  # voxels cropped from each side of a tile; None: the receptive field
        pretrain_rounds: int = 500_000  # updates of the pre-training for absolute error
        critic_rounds: int = 10_000  # updates of the critic alone after that
        game_rounds: int = 550_000  # updates of the generator in the game
        critic_steps: int = 7  # updates of the critic before each of the generator
        burst: int = Field(200, ge=0)  # more updates of the critic after every burst_every updates of the generator
        burst_every: int = 500  # updates of the generator between bursts of the critic
        batch_size: int = 2  # patches
        patch_shape: Factors = (64, 64, 64)  # slices, rows, columns
        flips: tuple[int, ...] = ()  # axes along which patches are mirrored at random: 0 slices, 1 rows, 2 columns
        learning_rate: float = 1e-4  # Adam, for absolute error
        game_learning_rate: float = 5e-6  # Adam, both players
        adversarial_weight: float = 1e-3  # weight of the game beside the absolute error; 0 ends with pre-training
        penalty_weight: float = 10.0  # weight of the gradient penalty, as in WGAN-GP
        blocks: int = 4  # dense blocks
        units: int = 4  # units of a dense block
        growth: int = 16  # channels that a unit adds
        critic_width: int = 64  # channels of the critic's first layer
        critic_dense: int = 1024  # units of the critic's dense layer
        ema_halflife: float | None = None  # patches; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "pretrain_rounds": 300,
                "critic_rounds": 60,
                "game_rounds": 60,
                "critic_steps": 5,
                "batch_size": 4,
                "patch_shape": (24, 24, 24),
                "flips": (2,),
                "learning_rate": 2e-3,
                "game_learning_rate": 5e-4,
                "adversarial_weight": 0.06,
                "trim": None,
                "blocks": 2,
                "units": 2,
                "growth": 8,
                "critic_width": 8,
                "critic_dense": 32,
                "ema_halflife": 60.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config
    generator: MultiLevelDense

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.generator = MultiLevelDense(c.blocks, c.units, c.growth)
        self.critic = None
        if c.adversarial_weight:
            self.critic = SRDiscriminator(1, c.patch_shape, c.critic_width, c.critic_dense, norm="layer")

    @property
    def degradation(self) -> Truncation:
        return Truncation(self.config.factors, self.config.apodisation)

    @property
    def tiling(self) -> Tiling:
        trim = self.generator.reach if self.config.trim is None else self.config.trim
        return Tiling((trim, trim, trim), scale=self.degradation.scale)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        stream = Stream("samples", None, c.batch_size, c.patch_shape, flips=c.flips)

        def generator(learning_rate: float) -> Player:
            return Player("generator", (self.generator,), adam(learning_rate), ema_halflife=c.ema_halflife)

        first = [generator(c.learning_rate)]
        pretrain = Stage(
            "pretrain", self.pretrain_turns, first, c.pretrain_rounds, stream, validated=not self.adversarial
        )
        if not self.critic:
            return [pretrain]
        critic = Player("critic", (self.critic,), adam(c.game_learning_rate), adversary=True)
        alone = Stage("critic", self.critic_turns, [critic], c.critic_rounds, stream, validated=False)
        players = [critic, generator(c.game_learning_rate)]
        return [pretrain, alone, Stage("game", self.turns, players, c.game_rounds, stream)]

    def pretrain_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turn of pre-training for absolute error."""
        batch = next(batches)
        yield Turn("generator", error=l1_loss(self.generator(batch["low"]), batch["image"]))

    def critic_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield one turn of the critic against the present generator."""
        assert self.critic
        c, batch = self.config, next(batches)
        fine, fake = batch["image"], self.generator(batch["low"]).detach()
        scores = {"real": self.critic(fine), "fake": self.critic(fake)}
        penalty = gradient_penalty(self.critic, fine, fake, self.noise.uniform(len(fine)))
        wasserstein = wasserstein_critic(**scores)
        yield Turn("critic", wasserstein=wasserstein, penalty=c.penalty_weight * penalty, scores=scores)

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the critic's turns of a round, then one turn of the generator."""
        assert self.critic
        c, done = self.config, self.progress.stage_round
        more = c.burst if done and done % c.burst_every == 0 else 0
        for _ in range(more + c.critic_steps):
            yield from self.critic_turns(batches)
        batch = next(batches)
        fake = self.generator(batch["low"])
        game = wasserstein_generator(self.critic(fake))
        yield Turn("generator", error=l1_loss(fake, batch["image"]), adversarial=c.adversarial_weight * game)
