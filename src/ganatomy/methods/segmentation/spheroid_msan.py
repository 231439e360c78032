"""Multi-scale deep adversarial network: clusters of cells, with an adversary whose weight grows during training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from torch import Tensor

from ganatomy.case import Preparation, Sample, slab
from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Progress, Stage, Tiling, Turn, adam
from ganatomy.images.image import ComputedArray
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.segmentation import binary_cross_entropy
from ganatomy.nets.spheroid import MaskDiscriminator, MultiScaleUNet
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageRole
from ganatomy.roles.labels import share_of
from ganatomy.tasks.segmentation.borders import border_weights
from ganatomy.tasks.segmentation.rules import ObjectRules
from ganatomy.tasks.segmentation.task import InstanceSegmentation, Segmentation, SegmentationConfig, Segmenter

BORDERS, INSIDE_SHARE = "borders", "inside"
"""Role of the weights between objects, and name of the fitted share of pixels inside of objects."""
SPHEROIDS = Embedded("spheroids", subjects=40)


class BorderRole(ImageRole):
    """Weights between objects, which are no intensities of an image."""

    has_intensities: ClassVar[bool] = False


class BorderPreparation(Preparation):
    """Settings of prepared cases, with those of the weights between objects."""

    border_height: float
    border_sigma: float


class SpheroidMasks(Segmentation):
    """Task of segmentation with weights of pixels between objects, which are made when a case is prepared.

    Where the label map does not number objects, they are the connected components of the region in each slice.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.roles = {**self.roles, BORDERS: BorderRole(BORDERS, optional=True, checked=False)}

    @property
    def preparation(self) -> BorderPreparation:
        c: Any = self.config
        return BorderPreparation(
            **super().preparation.model_dump(), border_height=c.border_height, border_sigma=c.border_sigma
        )

    def simulate(self, sample: Sample, seed: int) -> Sample:
        sample = super().simulate(sample, seed)
        if self.labels not in sample.arrays:
            return sample
        array = sample.arrays[self.labels]
        borders = ComputedArray(array.shape, np.float32, lambda start, stop: self._borders(slab(array, start, stop)))
        return sample.with_arrays({BORDERS: borders}, {BORDERS: sample.affines[self.labels]})

    def _borders(self, labels: NDArray[Any]) -> NDArray[np.float32]:
        c: Any = self.config
        parts = labels[0] if c.instances else [ndimage.label(one)[0] for one in self.inside(labels[0])[0]]
        return np.stack([border_weights(one, c.border_height, c.border_sigma) for one in parts])[None]

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """Fit the statistics of the inputs, and the share of pixels inside of objects."""
        kept = list(samples)
        shares = [
            share_of(sample.arrays[self.labels], lambda labels: self.inside(labels[0])).mean()
            for sample in kept
            if self.labels in sample.arrays
        ]
        return {**super().fit(kept), INSIDE_SHARE: np.array(np.mean(shares) if shares else 0.5, np.float32)}


class SpheroidInstances(SpheroidMasks, InstanceSegmentation):
    """Task of segmentation into spheroids that an instance map numbers, with weights of pixels between them."""


class SpheroidMSAN(Segmenter):
    """Segmentation of spheroids by a multi-scale network with weighted cross-entropy and a slowly rising adversary.

    The discriminator sees images with true or predicted masks. Its weight in the segmentor's loss rises linearly from
    0, since a fixed one makes training unstable. Pixels between close objects, and those of the rarer class, weigh
    more. Objects are connected components of the mask, or basins of its watershed.

    Sadanandan, Karlsson & Wählby, Spheroid Segmentation Using Multiscale Deep Adversarial Networks, ICCV Workshops
    2017, 36-41. doi:10.1109/ICCVW.2017.11.
    """

    stated_augmentation = None

    class Config(SegmentationConfig):
        """The paper states the idea and few numbers; widths, weights and the schedule are our choice throughout."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "inputs": {"percentiles": (1.0, 99.0), "over": "all"},
            "labels": {"part": "instances:spheroids"},
        }

        inputs: tuple[str, ...] = ("image",)  # bright-field image
        labels: str = "spheroids"  # name of the instance map
        regions: Mapping[str, tuple[int, ...]] = {"spheroid": (1,)}  # inside of objects
        instances: bool = True  # whether the label map numbers objects; each connected part of a mask is one otherwise
        objects: ObjectRules = ObjectRules(smallest=20)  # rules by which objects are made from probabilities
        width: int = 32  # channels of the segmentor at full size
        scales: bool = True  # whether the image is seen at several scales; without, a residual U-Net with one head
        discriminator_width: int = 32  # channels of the first layer of the discriminator
        game_rounds: int = 20_000  # updates of both players
        batch_size: int = 4  # patches
        patch: int = 256  # rows and columns of a random crop, multiples of 8
        flips: tuple[int, ...] = (1, 2)  # axes along which crops are mirrored at random: 1 rows, 2 columns
        quarter_turns: bool = True  # whether crops are rotated by multiples of 90 degrees
        learning_rate: float = 1e-4  # Adam, both players
        adversarial_weight: float = 0.1  # weight of the adversarial loss at the end; 0 trains without a discriminator
        rise: Literal["linear", "constant"] = "linear"  # how that weight gets there: linearly from 0, or at once
        balanced: bool = True  # whether pixels of the rarer class weigh more, as often as they are rarer in training
        border_height: float = Field(10.0, ge=0)  # additional weight of background pixels where objects touch
        border_sigma: float = Field(5.0, gt=0)  # pixels; width of the weights between objects

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "width": 12,
                "discriminator_width": 12,
                "game_rounds": 350,
                "batch_size": 4,
                "patch": 96,
                "learning_rate": 2e-3,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, channels = config, self.image_channels
        if len(c.regions) > 1:
            raise UserError(f"--regions: this system finds objects of one kind, not {', '.join(c.regions)}")
        self.segmentor = MultiScaleUNet(channels, c.width, c.scales)
        self.discriminator = (
            MaskDiscriminator(channels + 1, c.discriminator_width) if c.adversarial_weight else None
        )  # fmt: skip

    def build_task(self) -> Segmentation:
        kind = SpheroidInstances if self.config.instances else SpheroidMasks
        return kind(self.config, self.exclusive, self.embedded, self.expected, self.measures)

    def check_sizes(self) -> None:
        if self.config.patch % 8:
            raise UserError(f"--patch {self.config.patch}: rows and columns must be multiples of 8")

    @property
    def adversarial(self) -> bool:
        """Whether the segmentor is trained against a discriminator."""
        return self.discriminator is not None

    @property
    def embedded(self) -> Embedded:
        return SPHEROIDS

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=8)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate)
        players = [Player("segmentor", (self.segmentor,), moves)]
        if self.discriminator:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        stream = self.annotated(
            c.batch_size, (1, c.patch, c.patch), flips=c.flips, quarter_turns=c.quarter_turns, more=(BORDERS,)
        )
        return [Stage("segment", self.turns, players, c.game_rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch = next(batches)
        image, truth = self.image(batch), self.truth(batch)
        known = truth >= 0
        true = truth.clamp_min(0)
        logits = self.segmentor(image)
        mask = logits.sigmoid() * known
        if self.discriminator:
            real, fake = (self.discriminator(torch.cat([image, one], dim=1)) for one in (true, mask.detach()))
            yield Turn(
                "discriminator",
                adversarial=0.5 * nonsaturating_discriminator(real, fake),
                scores={"real": real, "fake": fake},
            )
        losses = {"entropy": binary_cross_entropy(logits, truth, self.pixel_weights(true) + batch[BORDERS])}
        if self.discriminator and (alpha := self.alpha(self.progress)):
            score = self.discriminator(torch.cat([image, mask], dim=1))
            losses["adversarial"] = alpha * nonsaturating_generator(score)
        yield Turn("segmentor", losses)

    def alpha(self, progress: Progress) -> float:
        """Return the weight of the adversarial loss, which rises linearly over training unless it is constant."""
        c = self.config
        return c.adversarial_weight * (progress.fraction if c.rise == "linear" else 1.0)

    def pixel_weights(self, true: Tensor) -> Tensor:
        """Return 1 for pixels of the class that is more frequent in training, and for the other how much rarer it is.

        Args:
            true: 1 inside of objects, 0 outside, any shape.
        """
        share = float(self.fitted.numbers.get(INSIDE_SHARE, 0.5))
        if not self.config.balanced or not 0 < share < 1:
            return torch.ones_like(true)
        inside, outside = max(1.0, (1 - share) / share), max(1.0, share / (1 - share))
        return torch.where(true > 0, inside, outside)

    def segment(self, image: Tensor) -> Tensor:
        return self.segmentor(image).sigmoid()  # type: ignore[no-any-return]
