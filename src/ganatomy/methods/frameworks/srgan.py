"""SRGAN: a residual super-resolution network, pre-trained for squared error, then trained with a discriminator."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ganatomy.game import Batch, Method, Player, Progress, Stage, Stream, Tiling, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.features import FeatureSource, VGG19Features
from ganatomy.nets.residual import SRDiscriminator, SRResNet
from ganatomy.physics.resolution import Bicubic, enlarged
from ganatomy.tasks.restoration.likeness import BEST, MAE
from ganatomy.tasks.super_resolution.task import SuperResolution, SuperResolutionConfig, parts_of, scale_of


class SRGAN(Method):
    """Super-resolution with a perceptual and an adversarial loss.

    Ledig et al., Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network, CVPR 2017.
    arXiv 1609.04802.
    """

    stated_augmentation: ClassVar[str | None] = "cut at random places, and mirrored in public reimplementations"

    class Config(SuperResolutionConfig):
        """The numbers of the paper; the network trained for squared error alone is its SRResNet."""

        pretrain_rounds: int = 1_000_000  # updates of the pre-training for squared error
        game_rounds: int = 200_000  # updates of each player after pre-training
        batch_size: int = 16  # patches
        patch: int = 96  # side of the fine patches, pixels
        flips: tuple[int, ...] = (1, 2)  # axes along which patches are mirrored at random: 1 rows, 2 columns
        learning_rate: float = 1e-4  # Adam, all players
        drop_at: float = 0.5  # fraction of the game after which the learning rate is a tenth
        adversarial_weight: float = 1e-3  # weight of the game beside the content loss; 0 trains SRResNet
        content_scale: float = Field(12.75, gt=0)  # divisor of the features in the content loss
        pixel_weight: float = 0.0  # weight of the squared error in the game; images in [-1, 1] (our option)
        perceptual_layer: str = "conv5_4"  # layer of VGG-19 for the content loss, after its ReLU
        features: FeatureSource = "auto"  # weights of VGG-19; auto falls back to the substitute and says so
        features_file: Path | None = None  # local file with torchvision's VGG-19 weights
        features_width: float = 1.0  # channel multiplier of the substitute features
        width: int = 64  # channels of the generator
        blocks: int = 16  # residual blocks of the generator
        skip: bool = False  # whether the generator learns the residual to bicubic interpolation (our option)
        discriminator_width: int = 64  # channels of the discriminator's first layer
        discriminator_dense: int = 1024  # units of the discriminator's dense layer
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "pretrain_rounds": 500,
                "game_rounds": 300,
                "batch_size": 8,
                "patch": 48,
                "learning_rate": 1e-3,
                "adversarial_weight": 3e-3,
                "pixel_weight": 1.0,
                "perceptual_layer": "conv2_2",
                "features": "substitute",
                "features_width": 0.25,
                "width": 24,
                "blocks": 3,
                "skip": True,
                "discriminator_width": 12,
                "discriminator_dense": 64,
                "ema_halflife": 200.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.generator = SRResNet(c.channels, c.channels, c.width, c.blocks, c.factor)
        if c.skip:
            for parameter in self.generator.end.parameters():
                nn.init.zeros_(parameter)
        self.discriminator = self.features = None
        if c.adversarial_weight:
            self.discriminator = SRDiscriminator(
                c.channels, (c.patch, c.patch), c.discriminator_width, c.discriminator_dense
            )
            self.features = self.content_features()

    def content_features(self) -> VGG19Features | None:
        """Return the feature network of the content loss; None for a content loss without one."""
        c = self.config
        return VGG19Features(c.perceptual_layer, c.features, c.features_file, width=c.features_width)

    def build_task(self) -> SuperResolution:
        c = self.config
        codec = scale_of(c, (-1.0, 1.0))
        degradation = Bicubic((1, c.factor, c.factor), c.blur)
        selection = BEST if self.adversarial else MAE
        return SuperResolution(degradation, codec, (0.0, 1.0), c.channels, self.dims, c.phantom, parts_of(c), selection)

    @property
    def tiling(self) -> Tiling:
        return Tiling(scale=self.task.degradation.scale)

    @property
    def adversarial(self) -> bool:
        """Whether the generator is trained with a discriminator."""
        return bool(self.config.adversarial_weight)

    def provenance(self) -> dict[str, str]:
        return {"features": self.features.name} if self.features else {}

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate)
        stream = Stream("samples", None, c.batch_size, (1, c.patch, c.patch), flips=c.flips)

        def rate(progress: Progress) -> float:
            return 1.0 if progress.fraction < c.drop_at else 0.1

        generator = Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife)
        pretrain = Stage(
            "srresnet", self.pretrain_turns, [generator], c.pretrain_rounds, stream, validated=not self.adversarial
        )
        if not self.discriminator:
            return [pretrain]
        players = [
            Player("discriminator", (self.discriminator,), moves, rate, adversary=True),
            Player("generator", (self.generator,), moves, rate, ema_halflife=c.ema_halflife),
        ]
        return [pretrain, Stage("game", self.turns, players, c.game_rounds, stream)]

    def coarse(self, fine: Tensor) -> Tensor:
        """Degrade fine images in [-1, 1] to the generator's input, coarse images in [0, 1]."""
        coarse: Tensor = self.task.degradation((fine + 1) / 2)
        return coarse

    def pretrain_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turns of pre-training for squared error."""
        fine = next(batches)["image"]
        yield Turn("generator", error=mse_loss(self.restore(self.coarse(fine)), fine))

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        assert self.discriminator
        c = self.config
        fine = next(batches)["image"]
        fake = self.restore(self.coarse(fine))
        real_scores, fake_scores = self.discriminator(fine), self.discriminator(fake.detach())
        yield Turn(
            "discriminator",
            adversarial=nonsaturating_discriminator(real_scores, fake_scores),
            scores={"real": real_scores, "fake": fake_scores},
        )
        losses = {
            "content": self.content((fake + 1) / 2, (fine + 1) / 2),
            "adversarial": c.adversarial_weight * nonsaturating_generator(self.discriminator(fake)),
        }
        if c.pixel_weight:
            losses["error"] = c.pixel_weight * mse_loss(fake, fine)
        yield Turn("generator", losses)

    def content(self, fake: Tensor, fine: Tensor) -> Tensor:
        """Return the content loss, the scaled distance of features of images (N, C, H, W) in [0, 1], a scalar."""
        assert self.features
        return self.features.distance(fake, fine) / self.config.content_scale**2

    def restore(self, input: Tensor) -> Tensor:
        """Map coarse images (N, C, H, W) in [0, 1] to fine ones (N, C, factor·H, factor·W) in [-1, 1]."""
        made: Tensor = self.generator(input)
        return made + 2 * enlarged(input, self.tiling.scale[1:]) - 1 if self.config.skip else made
