"""SSNet: segmentation of enlarged spleens with large kernels and a patch discriminator, in three views of a volume."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.images.frames import Fit, Plane
from ganatomy.losses.adversarial import GAMES
from ganatomy.losses.segmentation import cross_entropy, negative_dice
from ganatomy.nets.aids import ImagePool, own_statistics
from ganatomy.nets.biased_patchgan import BiasedPatchGAN
from ganatomy.nets.global_convolution import GlobalConvolutionNetwork
from ganatomy.nets.patchgan import init_pix2pix
from ganatomy.nets.resnet import (
    BLOCKS,
    IMAGENET_WEIGHTS,
    RESNET50_ADDRESS,
    SUBSTITUTE,
    WIDTH,
    TrunkSource,
    load_imagenet,
    resnet50_file,
)
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter
from ganatomy.tasks.segmentation.views import in_plane, plane_of

IMAGENET = (103.939, 116.779, 123.68)
"""Mean grey values, 0 to 255, that are subtracted from the three copies of a slice."""
SPLEEN = Embedded("splenomegaly-mr", size=80, grid={"slices": 40, "distance_mm": 4.0}, subjects=24)
ALL = "all"
"""Name of the networks that learn the slices of all views."""


class SSNet(Segmenter):
    """Segmentation of an enlarged spleen slice by slice in three orthogonal views, fused by a vote.

    In each view a residual network with global convolutions, whose kernels are large and separable, is trained with a
    soft Dice loss and against a discriminator that scores patches of the slice together with its segmentation. Every
    voxel belongs to the spleen where most views say so. Expects abdominal MRI of about equal spacing along all axes.

    Huo et al., Splenomegaly Segmentation using Global Convolutional Kernels and Conditional Generative Adversarial
    Networks, SPIE Medical Imaging 10574, 2018. doi:10.1117/12.2293406, arXiv 1712.00542.
    """

    stated_augmentation = "none"

    class Config(SegmentationConfig):
        """The numbers of the authors' release."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "inputs": {"percentiles": (0.0, 100.0), "over": "all"},
            "spleen": {"part": "mask:spleen"},
        }

        inputs: tuple[str, ...] = ("t1",)  # name of the image
        labels: str = "spleen"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = {"spleen": (1,)}  # regions that exclude each other
        size: tuple[int, ...] | None = (512, 512, 512)  # slices, rows and columns that volumes are resampled to
        fit: Fit = "contain"  # how volumes get to this size: padded, so that proportions stay (our choice)
        views: tuple[Plane, ...] = ("axial", "coronal", "sagittal")  # planes of the slices, with a network for each
        view_all: bool = False  # whether one network learns the slices of all planes, as the release also offers
        game_rounds: int = 98_000  # updates of each generator; 51 epochs of 45 scans, slice by slice (our choice)
        batch_size: int = 12  # slices of each view
        kernel: int = Field(7, ge=1, le=63)  # side of the global convolutions
        separable: bool = True  # whether their kernels are made of columns and rows; as dense ones in the later release
        shared_norm: bool = True  # whether each refinement has a single batch norm, used twice
        batch_statistics: bool = True  # whether slices are normalised by their own statistics at inference, no averages
        trunk: TrunkSource = "auto"  # first weights of the ResNet-50: of ImageNet if on this machine, else random
        trunk_width: int = WIDTH  # channels of its first convolution; only the published width has ImageNet weights
        trunk_blocks: tuple[int, int, int, int] = BLOCKS  # blocks of its four layers
        discriminator_width: int = 64  # channels of the discriminator's first layer
        discriminator_every: int = 100  # rounds from one update of the discriminators to the next
        pool: int = Field(10, ge=0)  # predicted segmentations in the history buffer of each discriminator
        learning_rate: float = 1e-5  # Adam, generators
        discriminator_learning_rate: float = 2e-4  # Adam with betas 0.5 and 0.999, discriminators
        game: Literal["least-squares", "nonsaturating"] = "least-squares"  # adversarial loss, behind a sigmoid
        adversarial_weight: float = 0.01  # weight of the adversarial loss, 0.001 for nonsaturating; 0 trains without
        loss: Literal["pooled-dice", "dice", "cross-entropy"] = "pooled-dice"  # pooled over the batch, or by slice
        class_weights: tuple[float, ...] = (1.0, 10.0)  # weights of background and spleen in the cross-entropy
        doubled_smoothing: bool = False  # whether empty slices count twice in Dice losses, as in the release
        shows_logits: bool = False  # whether discriminators are shown logits, as in the release, or probabilities

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (40, 80, 80),
                "game_rounds": 400,
                "batch_size": 6,
                "trunk_width": 16,
                "trunk_blocks": (1, 1, 1, 1),
                # The coarsest maps of small slices have too few pixels for statistics of their own.
                "shared_norm": False,
                "batch_statistics": False,
                "discriminator_width": 16,
                "discriminator_every": 10,
                "learning_rate": 2e-3,
                "adversarial_weight": 0.05,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if self.image_channels != 1:
            raise UserError(f"--inputs: one image with one channel is needed, but there are {self.image_channels}")
        classes = 1 + len(c.regions)
        if c.loss == "cross-entropy" and len(c.class_weights) != classes:
            raise UserError(
                f"--class-weights: {len(c.class_weights)} numbers, but background and regions are {classes}"
            )
        if c.shared_norm and not c.batch_statistics:
            raise UserError("--no-batch-statistics: running averages need --no-shared-norm, as they mix two places")
        self.generators, self.discriminators, self.pools = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        if c.adversarial_weight:
            for view in c.views:
                self.pools[view] = ImagePool((3 + classes, *plane_of(self.size, view)), c.pool)
        for name in dict.fromkeys(map(self.network_of, c.views)):
            self.generators[name] = GlobalConvolutionNetwork(
                3,
                classes,
                kernel=c.kernel,
                separable=c.separable,
                shared=c.shared_norm,
                width=c.trunk_width,
                blocks=c.trunk_blocks,
            )
            if c.adversarial_weight:
                discriminator = BiasedPatchGAN(3 + classes, c.discriminator_width, padding=2)
                init_pix2pix(discriminator, c.discriminator_width)
                self.discriminators[name] = discriminator
        self.register_buffer("pretrained", torch.tensor(self._load_trunks()))

    def network_of(self, view: Plane) -> str:
        """Return the name of the networks that are trained with the slices of a view."""
        return ALL if self.config.view_all else view

    def _load_trunks(self) -> bool:
        """Load the published weights of the trunks where they are wanted and there; return whether they were."""
        published = (self.config.trunk_width, self.config.trunk_blocks) == (WIDTH, BLOCKS)
        if self.config.trunk == "random" or not published or not resnet50_file().is_file():
            return False
        for generator in self.generators.values():
            load_imagenet(generator.trunk, resnet50_file())  # type: ignore[arg-type]
        return True

    def check_sizes(self) -> None:
        if self.config.trunk == "imagenet" and not self.pretrained:
            raise UserError(
                f"--trunk imagenet: no weights for this trunk in {resnet50_file()}; copy {RESNET50_ADDRESS} there and "
                "keep --trunk-width and --trunk-blocks, or choose --trunk random"
            )

    def provenance(self) -> dict[str, str]:
        return {"trunk": IMAGENET_WEIGHTS if self.pretrained else SUBSTITUTE}

    @property
    def size(self) -> tuple[int, int, int]:
        """Slices, rows and columns of the volumes that the networks are trained with.

        Raises:
            UserError: the configuration has no such size.
        """
        if self.config.size is None or len(self.config.size) != 3 or self.config.plane != "axial":
            raise UserError("--size: slices, rows and columns of axial volumes are needed, such as --size 256 256 256")
        slices, rows, columns = self.config.size
        return slices, rows, columns

    @property
    def adversarial(self) -> bool:
        """Whether the generators are trained against discriminators."""
        return bool(self.config.adversarial_weight)

    @property
    def embedded(self) -> Embedded:
        return SPLEEN

    @property
    def views(self) -> Mapping[Plane, Callable[[Tensor], Tensor]]:
        return {view: partial(self.segment_view, view) for view in self.config.views}

    def inference_mode(self) -> Self:
        self.eval()
        if self.config.batch_statistics:
            own_statistics(self.generators)
        return self

    def stages(self) -> Sequence[Stage]:
        c = self.config
        players = [Player("generators", (self.generators,), adam(c.learning_rate))]
        if self.discriminators:
            moves = adam(c.discriminator_learning_rate, (0.5, 0.999))
            players.append(Player("discriminators", (self.discriminators,), moves, adversary=True))
        streams = [in_plane(self.annotated(c.batch_size, (1, *plane_of(self.size, view))), view) for view in c.views]
        return [Stage("game", self.turns, players, c.game_rounds, streams)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch = next(batches)
        for view in self.config.views:
            yield from self.game(view, batch if len(self.config.views) == 1 else batch[view])

    def game(self, view: Plane, batch: Batch) -> Iterator[Turn]:
        """Yield the turns of one view: its discriminator's in some rounds only, then its generator's.

        A turn steps the networks of its view alone, as the others have no gradient.
        """
        c, name = self.config, self.network_of(view)
        image, truth = copied(self.image(batch)), self.truth(batch)
        background = 1 - truth.amax(1, keepdim=True)
        known, classes = (truth >= 0).all(1, keepdim=True), torch.cat([background, truth], 1)
        logits = self.generators[name](image)
        maps = logits.softmax(1)
        if name in self.discriminators:
            discriminator, pool = self.discriminators[name], self.pools[view]
            real, fake = (torch.cat([image, part * known], 1) for part in (classes, logits if c.shows_logits else maps))
            if self.progress.stage_round % c.discriminator_every == 0:
                scores = discriminator(real), discriminator(pool(fake, self.noise.uniform(len(fake), 2)))
                losses = {f"adversarial {view}": self.judged(*scores)}
                yield Turn("discriminators", losses, scores={"real": scores[0], "fake": scores[1]})
        if c.loss == "cross-entropy":
            losses = {f"entropy {view}": cross_entropy(logits, classes * known, c.class_weights)}
        else:
            pooled = c.loss == "pooled-dice"
            losses = {f"dice {view}": negative_dice(maps[:, 1:], truth, pooled=pooled, doubled=c.doubled_smoothing)}
        if name in self.discriminators:
            fooled = self.scored(discriminator(fake))
            losses[f"adversarial {view}"] = c.adversarial_weight * GAMES[c.game].generator(fooled)
        yield Turn("generators", losses)

    def scored(self, scores: Tensor) -> Tensor:
        """Return scores behind the sigmoid of the release, which the non-saturating loss has in itself."""
        return scores.sigmoid() if self.config.game == "least-squares" else scores

    def judged(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the loss of a discriminator, the mean of its loss for real and for predicted segmentations."""
        found = GAMES[self.config.game].discriminator(self.scored(real), self.scored(fake))
        # The least-squares loss is halved already.
        return found if self.config.game == "least-squares" else 0.5 * found

    def segment_view(self, view: Plane, image: Tensor) -> Tensor:
        """Return the probabilities of the regions (N, regions, H, W) in slices (N, 1, H, W) of one view."""
        maps: Tensor = self.generators[self.network_of(view)](copied(image)).softmax(1)
        return maps[:, 1:]

    def segment(self, image: Tensor) -> Tensor:
        return self.segment_view(self.config.views[0], image)


def copied(image: Tensor) -> Tensor:
    """Return slices (N, 1, H, W) as a network with ImageNet weights expects them, (N, 3, H, W).

    Grey values from the least to the greatest of a slice become 0 to 255, less the means of ImageNet; a constant slice
    is only multiplied by 255.
    """
    low, high = (end((1, 2, 3), keepdim=True) for end in (image.amin, image.amax))
    grey = 255 * torch.where(high > low, (image - low) / (high - low).clamp_min(1e-12), image)
    return grey - torch.tensor(IMAGENET, dtype=grey.dtype, device=grey.device).reshape(1, 3, 1, 1)
