"""Cycle-consistent segmentation of liver lesions with U-Nets whose pooling can be inverted."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Progress, Stage, Tiling, Turn, adam
from ganatomy.losses.adversarial import least_squares_discriminator, least_squares_generator
from ganatomy.losses.segmentation import cross_entropy
from ganatomy.nets.aids import ImagePool
from ganatomy.nets.biased_patchgan import BiasedPatchGAN
from ganatomy.nets.patchgan import init_pix2pix
from ganatomy.nets.polyphase import PolyphaseUNet
from ganatomy.nets.sizes import check_input
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.task import Cleaning, SegmentationConfig, Segmenter

ABDOMEN = Embedded(
    "abdomen-ct", size=96, grid={"slices": 24, "distance_mm": 8.0, "noise": 6.0, "lesions": 8}, subjects=24
)


class PolyphaseCycleGAN(Segmenter):
    """Segmentation of liver and lesions through a cycle between CT slices and label maps.

    One generator predicts label maps of CT slices, another one CT slices of label maps; both are polyphase U-Nets,
    which discard no detail. Each has a discriminator, both are trained to invert each other, and to agree with the
    annotated pairs. Expects abdominal CT after contrast medium.

    Kim & Ye, Cycle-Consistent Adversarial Network with Polyphase U-Nets for Liver Lesion Segmentation, MIDL 2018,
    as far as the survey of Kazeminia et al., arXiv 1809.06222, describes it.
    """

    stated_augmentation = None

    class Config(SegmentationConfig):
        """Networks, weights and schedule are our choice, since no text with the paper's numbers is at hand."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "ct": {"unit": "HU", "window": (-200.0, 250.0)},
            "liver": {"part": "labels:liver"},
        }

        inputs: tuple[str, ...] = ("ct",)  # names of the aligned images, in order of channels
        labels: str = "liver"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = {  # classes, the background first
            "background": (0,),
            "parenchyma": (1,),
            "lesion": (2,),
        }
        judged: Mapping[str, tuple[int, ...]] = {"liver": (1, 2), "lesion": (2,)}  # regions that are judged
        organ: tuple[str, ...] = ("parenchyma", "lesion")  # classes of which only the largest joint component is kept
        game_rounds: int = 200_000  # updates of each player
        epochs: int = Field(200, ge=2)  # steps of the schedule, in the second half of which rates fall to zero
        batch_size: int = 4  # slices
        patch: int = 256  # rows and columns of a random crop
        centred: float = Field(0.5, ge=0, le=1)  # fraction of crops centred on liver or lesions, labels equally often
        learning_rate: float = 2e-4  # Adam, all players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, all players
        adversarial_weight: float = 1.0  # weight of the least-squares games; 0 trains without discriminators
        cycle_weight: float = 10.0  # weight of the mean absolute difference after both generators
        entropy_weight: float = 1.0  # weight of the cross-entropy of predicted label maps
        squared_weight: float = 1.0  # weight of the mean squared error of predicted CT slices
        class_weights: tuple[float, ...] = (1.0, 1.0, 10.0)  # weights of the classes in the cross-entropy
        pool: int = Field(50, ge=0)  # generated images in the history buffer of each discriminator
        widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of the levels of both generators
        discriminator_width: int = 64  # channels of the discriminators' first layer

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "game_rounds": 1000,
                # A quarter of the patches are centred on lesions, which would be lost in large ones.
                "batch_size": 16,
                "patch": 32,
                "learning_rate": 2e-3,
                "widths": (8, 16, 32, 64),
                "discriminator_width": 8,
                # So short a training learns a contrast from pairs, not from cycles.
                "adversarial_weight": 0.1,
                "cycle_weight": 1.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, classes, channels = config, len(config.regions), self.image_channels
        if len(c.class_weights) != classes:
            raise UserError(f"--class-weights: {len(c.class_weights)} numbers, but there are {classes} classes")
        if not (c.entropy_weight or c.cycle_weight or c.adversarial_weight):
            raise UserError("--entropy-weight 0: no loss has a weight; give one of the losses a weight")
        if strange := [name for name in c.organ if name not in c.regions]:
            raise UserError(f"--organ {strange[0]}: no such class; there are {', '.join(c.regions)}")
        self.to_labels = PolyphaseUNet(channels, classes, c.widths)
        self.to_image = PolyphaseUNet(classes, channels, c.widths, "tanh")
        for generator in (self.to_labels, self.to_image):
            init_pix2pix(generator, c.widths[0])
        self.discriminator_labels = self.discriminator_image = None
        if c.adversarial_weight:
            self.discriminator_labels, self.discriminator_image = (
                BiasedPatchGAN(seen, c.discriminator_width, "instance") for seen in (classes, channels)
            )
            for discriminator in (self.discriminator_labels, self.discriminator_image):
                init_pix2pix(discriminator, c.discriminator_width)
            self.pool_labels = ImagePool((classes, c.patch, c.patch), c.pool)
            self.pool_image = ImagePool((channels, c.patch, c.patch), c.pool)

    def check_sizes(self) -> None:
        c = self.config
        check_input(self.to_labels, (c.batch_size, self.image_channels, c.patch, c.patch), f"--patch {c.patch}")
        if self.discriminator_image:
            shape = (c.batch_size, self.image_channels, c.patch, c.patch)
            check_input(self.discriminator_image, shape, f"--patch {c.patch}")

    @property
    def adversarial(self) -> bool:
        """Whether the generators are trained against discriminators."""
        return self.discriminator_labels is not None

    @property
    def exclusive(self) -> bool:
        return True

    @property
    def embedded(self) -> Embedded:
        return ABDOMEN

    @property
    def cleaning(self) -> Cleaning:
        return Cleaning(organ=self.config.organ)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2 ** (len(self.config.widths) - 1))

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        # Label maps alone do not teach the generator of images.
        drawn = c.adversarial_weight or c.cycle_weight or c.squared_weight
        generators = (self.to_labels, self.to_image) if drawn else (self.to_labels,)
        players = [Player("generators", generators, moves, self.rate)]
        if self.discriminator_labels and self.discriminator_image:
            for name, one in (("labels", self.discriminator_labels), ("image", self.discriminator_image)):
                players.append(Player(f"discriminator {name}", (one,), moves, self.rate, adversary=True))
        stream = self.annotated(c.batch_size, (1, c.patch, c.patch), centred=c.centred)
        return [Stage("game", self.turns, players, c.game_rounds, stream)]

    def rate(self, progress: Progress) -> float:
        """Return the factor of the learning rates, which falls in every epoch of the second half of the training."""
        return falling(progress.stage_round * self.config.epochs // max(progress.stage_rounds, 1), self.config.epochs)

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn | tuple[Turn, Turn]]:
        c = self.config
        batch = next(batches)
        image, truth = 2 * self.image(batch) - 1, self.truth(batch)
        known, labels = (truth >= 0).all(1, keepdim=True), truth.clamp_min(0)
        logits = self.to_labels(image)
        made_labels, losses = logits.softmax(1), {}
        if c.entropy_weight:
            losses["entropy"] = c.entropy_weight * cross_entropy(logits, truth, c.class_weights, per_weight=True)
        made_image = self.to_image(labels) if c.adversarial_weight or c.cycle_weight or c.squared_weight else None
        if made_image is not None:
            if c.squared_weight:
                losses["squared"] = c.squared_weight * mse_loss(made_image * known, image * known)
            if c.cycle_weight:
                # Probabilities enter the second generator, since nothing could be learned through their maximum.
                losses["cycle image"] = c.cycle_weight * l1_loss(self.to_image(made_labels), image)
                back = self.to_labels(made_image).softmax(1)
                losses["cycle labels"] = c.cycle_weight * l1_loss(back * known, labels * known)
        if made_image is None or not (self.discriminator_labels and self.discriminator_image):
            yield Turn("generators", losses)
            return
        for name, discriminator, made in (
            ("labels", self.discriminator_labels, made_labels * known),
            ("image", self.discriminator_image, made_image),
        ):
            losses[f"adversarial {name}"] = c.adversarial_weight * least_squares_generator(discriminator(made))
        yield Turn("generators", losses)
        yield (
            self.judgement("labels", self.discriminator_labels, labels, self.pool_labels, made_labels * known),
            self.judgement("image", self.discriminator_image, image, self.pool_image, made_image),
        )

    def judgement(self, name: str, discriminator: BiasedPatchGAN, real: Tensor, pool: ImagePool, made: Tensor) -> Turn:
        """Return the turn of a discriminator, which is also shown what was generated earlier."""
        fake = pool(made, self.noise.uniform(len(made), 2))
        scores = discriminator(real), discriminator(fake)
        losses = {"adversarial": least_squares_discriminator(*scores)}
        return Turn(f"discriminator {name}", losses, scores={"real": scores[0], "fake": scores[1]})

    def segment(self, image: Tensor) -> Tensor:
        probabilities: Tensor = self.to_labels(2 * image - 1).softmax(1)
        return probabilities


def falling(epoch: int, epochs: int = 200) -> float:
    """Return the factor of the learning rate in an epoch, from 0: 1 in the first half, then falling to almost 0."""
    half = epochs // 2
    return 1 - max(0, epoch - half + 1) / (half + 1)
