"""3DSRGAN: reconstruction of thin slices from thick ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn.functional import mse_loss

from ganatomy.game import Batch, Player, Progress, Stage, Stream, Tiling, Turn, adam
from ganatomy.losses.adversarial import least_squares_discriminator, least_squares_generator
from ganatomy.losses.matching import total_variation
from ganatomy.nets.residual import SRDiscriminator
from ganatomy.nets.volumetric import Factors, Upsampler, VolumeSRResNet
from ganatomy.physics.resolution import ThickSlices
from ganatomy.physics.slices import Profile
from ganatomy.tasks.super_resolution.task import VolumeConfig, VolumeResolver


class ThinSliceSRGAN(VolumeResolver):
    """Super-resolution across slices, from 6 mm to 2 mm in T2-FLAIR, with a least-squares discriminator.

    Li, Wang & Yu, Reconstruction of Thin-Slice Medical Images Using Generative Adversarial Network, MLMI 2017, LNCS
    10541, 325-333. doi:10.1007/978-3-319-67389-9_38.
    """

    stated_augmentation = None

    class Config(VolumeConfig):
        """The paper's losses; numbers that it does not state are those of the authors' later network, or ours."""

        factor: PositiveInt = 3  # thin slices per thick slice
        profile: Profile = "box"  # slice profile of simulated thick slices (our choice; the paper's are acquired)
        part: str = "flair"  # image of the phantom that is degraded and restored
        pretrain_rounds: int = 10_080  # updates of the pre-training for squared error (our choice: a fifth of all)
        game_rounds: int = 40_320  # updates of each player after that (our choice: 200 epochs of 252 in all)
        batch_size: int = 16  # patches, as in the authors' later network
        patch_shape: Factors = (24, 64, 64)  # thin slices, rows, columns (our choice)
        flips: tuple[int, ...] = (2,)  # axes along which patches are mirrored: 0 slices, 1 rows, 2 columns (our choice)
        learning_rate: float = 5e-4  # Adam, both players, as in the authors' later network
        decay: float = Field(0.989, gt=0, le=1)  # factor of the learning rate every decay_every updates, as there
        decay_every: int = 252  # updates after which the learning rate falls, as in the later network
        adversarial_weight: float = 0.02  # weight of the game, as in the later network; 0 trains without it
        variation_weight: float = 1e-4  # weight of the total variation of the output (our choice)
        weight_decay: float = 1e-7  # weight of the sum of the generator's squared weights (our choice)
        upsampler: Upsampler = "resize-conv"  # upsampling layers across the slices (our choice)
        width: int = 64  # channels of the generator (our choice)
        blocks: int = 8  # residual blocks (our choice)
        skip: bool = True  # whether the generator learns the residual to linear interpolation (our choice)
        discriminator_width: int = 32  # channels of the discriminator's first layer (our choice)
        discriminator_dense: int = 1024  # units of the discriminator's dense layer (our choice)
        ema_halflife: float | None = None  # patches; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "pretrain_rounds": 450,
                "game_rounds": 150,
                "batch_size": 4,
                "patch_shape": (24, 24, 24),
                "learning_rate": 2e-3,
                "decay_every": 4,
                "width": 16,
                "blocks": 2,
                "discriminator_width": 8,
                "discriminator_dense": 32,
                "ema_halflife": 200.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config
    generator: VolumeSRResNet

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        steps = [(c.factor, 1, 1)]
        self.generator = VolumeSRResNet(
            1, 1, steps, c.width, c.blocks, c.upsampler, c.width, slope=0.2, std=None, skip=c.skip
        )
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = SRDiscriminator(1, c.patch_shape, c.discriminator_width, c.discriminator_dense)

    @property
    def degradation(self) -> ThickSlices:
        return ThickSlices((self.config.factor, 1, 1), self.config.profile)

    @property
    def tiling(self) -> Tiling:
        slices, rows, columns = self.generator.reach
        return Tiling((slices, rows, columns), scale=self.degradation.scale)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate)
        stream = Stream("samples", None, c.batch_size, c.patch_shape, flips=c.flips)

        def rate(progress: Progress) -> float:
            return float(c.decay ** (progress.round // c.decay_every))

        generator = Player("generator", (self.generator,), moves, rate, ema_halflife=c.ema_halflife)
        pretrain = Stage(
            "pretrain", self.pretrain_turns, [generator], c.pretrain_rounds, stream, validated=not self.adversarial
        )
        players = [generator]
        if self.discriminator:
            players = [Player("discriminator", (self.discriminator,), moves, rate, adversary=True), generator]
        return [pretrain, Stage("game", self.turns, players, c.game_rounds, stream)]

    def pretrain_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turn of pre-training for squared error."""
        fine = next(batches)["image"]
        yield Turn("generator", error=mse_loss(self.generator(self.degradation(fine)), fine))

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        fine = next(batches)["image"]
        fake = self.generator(self.degradation(fine))
        losses = {
            "error": mse_loss(fake, fine),
            "variation": c.variation_weight * total_variation(fake),
            "weights": c.weight_decay * self.squared_weights(),
        }
        if self.discriminator:
            real_scores, fake_scores = self.discriminator(fine), self.discriminator(fake.detach())
            yield Turn(
                "discriminator",
                adversarial=least_squares_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
            losses["adversarial"] = c.adversarial_weight * least_squares_generator(self.discriminator(fake))
        yield Turn("generator", losses)

    def squared_weights(self) -> Tensor:
        """Return the sum of the generator's squared weights, without biases and norms."""
        kernels = [weight for weight in self.generator.parameters() if weight.dim() > 1]
        return torch.stack([kernel.square().sum() for kernel in kernels]).sum()
