"""Spatially conditioned GAN: ultrasound frames from the pose of the probe, which the networks see as coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import l1_loss

from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import latents, own_statistics
from ganatomy.nets.spatial import SpatialDiscriminator, SpatialGenerator, init_spatial
from ganatomy.tasks.posed.task import FrameSimulator, PosedConfig


class SpatiallyConditionedGAN(FrameSimulator):
    """Simulation of the ultrasound frame that a probe sees from a pose.

    Hu, Gibson, Lee, Xie, Barratt, Vercauteren & Noble, Freehand Ultrasound Image Simulation with Spatially-Conditioned
    Generative Adversarial Networks, RAMBO 2017, LNCS 10555, 105-115. arXiv 1707.05392. The networks are those of the
    release for NiftyNet.

    The condition is a map of three channels: the position in space of every pixel, from the pose of the frame. The
    generator sees it at its four coarser resolutions, the discriminator beside the frame. Its loss is the sum for real
    and simulated frames, with a target of 0.9 for real ones. In the release, batch norms take the statistics of the
    frames that are sampled together, so that a frame depends on the others of its batch; here each depends on its pose
    and its seed alone (``statistics``).
    """

    stated_augmentation = "none"

    class Config(PosedConfig):
        """The numbers of the release and of a public training script."""

        game_rounds: int = Field(100_000, ge=1)  # updates of each player
        batch_size: Annotated[int, Field(ge=1)] = 36  # frames
        learning_rate: Annotated[float, Field(gt=0)] = 2e-4  # Adam, both players; constant
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        real_target: Annotated[float, Field(gt=0, le=1)] = 0.9  # target probability of real frames
        adversarial_weight: Annotated[float, Field(ge=0)] = 1.0  # weight of the game; 0 trains without a discriminator
        l1_weight: Annotated[float, Field(ge=0)] = 0.0  # weight of the mean absolute difference from the true frame
        latent: Annotated[int, Field(ge=1)] = 100  # length of the noise
        width: Annotated[int, Field(ge=2)] = 512  # channels of the generator's coarsest features
        shortcuts: Annotated[int, Field(ge=1, le=4)] = 4  # resolutions at which the generator sees the map, from coarse
        discriminator_width: Annotated[int, Field(ge=1)] = 32  # channels of the discriminator at the finest resolution
        discriminator_downs: Annotated[int, Field(ge=1, le=8)] = 5  # stride-2 steps of the discriminator
        affine: bool = False  # whether batch norms have a learnable gain and bias
        momentum: Annotated[float, Field(gt=0, le=1)] = (
            0.001  # share of a batch in the running statistics of batch norms
        )
        statistics: Literal["running", "own"] = "running"  # of batch norms when sampling: of training, or of each frame

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (48, 64),
                "game_rounds": 3_000,
                "batch_size": 12,
                "learning_rate": 5e-4,
                "l1_weight": 10.0,
                "latent": 16,
                "width": 64,
                "discriminator_width": 8,
                "discriminator_downs": 4,
                "momentum": 0.02,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0, "l1_weight": 10.0}

        @model_validator(mode="after")
        def _learns(self) -> Self:
            if not self.adversarial_weight and not self.l1_weight:
                raise ValueError("adversarial_weight 0 and l1_weight 0: nothing would be learned; give one of them")
            return self

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.latent_size = c.latent
        self.generator = SpatialGenerator(c.size, c.latent, 3, c.width, c.shortcuts, c.affine, c.momentum)
        init_spatial(self.generator)
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = SpatialDiscriminator(
                c.size, 4, c.discriminator_width, c.discriminator_downs, c.affine, c.momentum
            )
            init_spatial(self.discriminator)

    @property
    def adversarial(self) -> bool:
        return bool(self.config.adversarial_weight)

    def inference_mode(self) -> Self:
        self.eval()
        if self.config.statistics == "own":
            own_statistics(self.generator)
        return self

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = [Player("generator", (self.generator,), moves)]
        if self.discriminator:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        return [Stage("game", self.turns, players, c.game_rounds, [self.stream(c.batch_size)])]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        real, maps = batch[c.target], self.task.coordinates(batch[c.source])
        fake = self.generator(latents(self.noise, len(real), c.latent).to(real), maps)
        if self.discriminator:
            real_scores, fake_scores = self.discriminator(real, maps), self.discriminator(fake.detach(), maps)
            yield Turn(
                "discriminator",
                adversarial=nonsaturating_discriminator(real_scores, fake_scores, c.real_target),
                scores={"real": real_scores, "fake": fake_scores},
            )
        losses = {}
        if c.l1_weight:
            losses["l1"] = c.l1_weight * l1_loss(fake, real)
        if self.discriminator:
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(self.discriminator(fake, maps))
        yield Turn("generator", losses)

    def simulate(self, pose: Tensor, latent: Tensor | None = None) -> Tensor:
        noise = pose.new_zeros(len(pose), self.latent_size) if latent is None else latent
        found: Tensor = self.generator(noise, self.task.coordinates(pose))
        return found
