"""3D SRGAN for brain MR: squared error, gradient difference, and a least-squares game with noisy labels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ganatomy.game import Batch, Player, Progress, Stage, Stream, Tiling, Turn, adam
from ganatomy.losses.adversarial import least_squares_discriminator, least_squares_generator
from ganatomy.losses.matching import gradient_difference
from ganatomy.nets.residual import SRDiscriminator
from ganatomy.nets.volumetric import Factors, Upsampler, VolumeSRResNet
from ganatomy.physics.resolution import Decimation
from ganatomy.tasks.super_resolution.task import VolumeConfig, VolumeResolver


class SRGAN3D(VolumeResolver):
    """Isotropic super-resolution of T1 volumes of the brain.

    Sánchez & Vilaplana, Brain MRI super-resolution using 3D generative adversarial networks, MIDL 2018, abstract track.
    arXiv 1812.11440. It differs from the authors' release:

    - Volumes are normalised by running averages when the network is applied, so that they can be cut into parts; the
      release takes the statistics of what it is given.
    - Intensities are scaled by a window of the volume; in the release, every patch is scaled by its own maximum.
    - Volumes are blurred along their three axes; in the release also across the batch, at the same time.
    - Labels are exchanged for every volume with some probability; in the release for all volumes of a training or none.
    """

    stated_augmentation = None
    revision = 2

    class Config(VolumeConfig):
        """The numbers of the released code; without the game, squared error and gradient difference remain."""

        factor: Literal[2, 4] = 4  # output voxels per input voxel along every axis
        blur: PositiveFloat = 1.0  # SD of the Gaussian before downsampling, fine voxels
        game_rounds: int = 18_800  # updates of each player: 10 epochs of 470 volumes with 4 batches each
        batch_size: int = 2  # patches
        patch_shape: Factors = (92, 128, 128)  # fine voxels: slices, rows, columns
        flips: tuple[int, ...] = ()  # axes along which patches are mirrored at random: 0 slices, 1 rows, 2 columns
        learning_rate: float = 1e-4  # Adam, both players, divided by 1 + decay · updates / decay_every
        decay: float = Field(0.0, ge=0, le=1)  # decay of the learning rate; the code states 0.5 and never applies it
        decay_every: int = Field(4920, ge=1)  # updates in which the divisor of the learning rate grows by decay
        gradient_weight: float = 1.0  # weight of the gradient difference, a sum like the squared error
        adversarial_weight: float = 0.1  # weight of the game beside errors summed over voxels; 0 trains without it
        real_labels: tuple[float, float] = (0.7, 1.2)  # range from which labels of real volumes are drawn
        fake_labels: tuple[float, float] = (0.0, 0.3)  # range from which labels of generated volumes are drawn
        label_flips: float = 0.1  # probability with which real and fake labels are exchanged for the discriminator
        upsampler: Upsampler = "sub-pixel-nn"  # upsampling layers; with resize-conv the output is a tanh
        width: int = 32  # channels of the residual blocks
        blocks: int = 6  # residual blocks
        wide: int = 64  # channels of the upsampling
        discriminator_width: int = 32  # channels of the discriminator's first layer
        discriminator_dense: int = 1024  # units of the discriminator's dense layer
        ema_halflife: float | None = None  # patches; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "factor": 2,
                "game_rounds": 600,
                "batch_size": 4,
                "patch_shape": (24, 24, 24),
                "flips": (2,),
                "learning_rate": 2e-3,
                "decay": 1.0,
                "decay_every": 200,
                "width": 16,
                "blocks": 2,
                "wide": 16,
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
        steps = [(2, 2, 2)] * (c.factor.bit_length() - 1)
        output: Literal["tanh", "linear"] = "tanh" if c.upsampler == "resize-conv" else "linear"
        self.generator = VolumeSRResNet(1, 1, steps, c.width, c.blocks, c.upsampler, c.wide, output=output)
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = SRDiscriminator(
                1, c.patch_shape, c.discriminator_width, c.discriminator_dense, slope=0.3
            )
            for layer in self.discriminator:
                if isinstance(layer, nn.Conv3d):
                    nn.init.normal_(layer.weight, 0.0, 0.02)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)

    @property
    def degradation(self) -> Decimation:
        c = self.config
        return Decimation((c.factor, c.factor, c.factor), c.blur)

    @property
    def tiling(self) -> Tiling:
        slices, rows, columns = self.generator.reach
        return Tiling((slices, rows, columns), scale=self.degradation.scale)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate)

        def rate(progress: Progress) -> float:
            return 1 / (1 + c.decay * progress.stage_round / c.decay_every)

        generator = Player("generator", (self.generator,), moves, rate, ema_halflife=c.ema_halflife)
        players = [generator]
        if self.discriminator:
            players = [Player("discriminator", (self.discriminator,), moves, rate, adversary=True), generator]
        return [
            Stage(
                "game",
                self.turns,
                players,
                c.game_rounds,
                Stream("samples", None, c.batch_size, c.patch_shape, flips=c.flips),
            )
        ]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        fine = next(batches)["image"]
        fake = self.generator(self.degradation(fine))
        losses = {
            "error": mse_loss(fake, fine, reduction="sum"),
            "gradient": c.gradient_weight * gradient_difference(fake, fine, "sum"),
        }
        if self.discriminator:
            real_scores, fake_scores = self.discriminator(fine), self.discriminator(fake.detach())
            real_labels, fake_labels = self.exchanged(
                self.labels(c.real_labels, fine), self.labels(c.fake_labels, fine)
            )
            yield Turn(
                "discriminator",
                adversarial=2 * least_squares_discriminator(real_scores, fake_scores, a=fake_labels, b=real_labels),
                scores={"real": real_scores, "fake": fake_scores},
            )
            aim = self.labels(c.real_labels, fine)
            losses["adversarial"] = c.adversarial_weight * least_squares_generator(self.discriminator(fake), c=aim)
        yield Turn("generator", losses)

    def labels(self, limits: tuple[float, float], batch: Tensor) -> Tensor:
        """Draw a label for every volume of a batch, (N, 1)."""
        low, high = limits
        return low + (high - low) * self.noise.uniform(len(batch), 1)

    def exchanged(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """With the probability `label_flips`, exchange each real volume with a generated one."""
        swap = self.noise.uniform(len(real), 1) < self.config.label_flips
        return torch.where(swap, fake, real), torch.where(swap, real, fake)
