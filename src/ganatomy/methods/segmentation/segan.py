"""SegAN: segmentation with a critic that compares images masked by predicted and by true maps at several scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Progress, Stage, Tiling, Turn, adam, linear_decay, rmsprop
from ganatomy.losses.segmentation import ScaleMode, binary_cross_entropy, cross_entropy, dice_loss, multi_scale_l1
from ganatomy.nets.segan import (
    BratsCritic,
    BratsSegmentor,
    IsicCritic,
    IsicSegmentor,
    PaperCritic,
    PaperSegmentor,
    gumbel_softmax,
    masked_images,
)
from ganatomy.nets.sizes import check_input
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.expectations import BRAIN_EXTRACTED, REGISTERED, Expectation
from ganatomy.tasks.segmentation.codes import BRATS_2015, BRATS_2015_CLASSES, BRATS_2017
from ganatomy.tasks.segmentation.kinds import BRAIN, PHOTOGRAPH, TUMOUR
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

Variant = Literal["S1-1C", "S3-1C", "S3-3C"]
Schedule = Literal["constant", "linear", "isic", "brats"]

NETWORKS: Mapping[str, tuple[type[nn.Module], type[nn.Module], int]] = {
    "paper": (PaperSegmentor, PaperCritic, 16),
    "isic": (IsicSegmentor, IsicCritic, 64),
    "brats": (BratsSegmentor, BratsCritic, 64),
}
"""Segmentor class, critic class, and the divisor that extents of slices should have, by architecture."""
SKIN = Embedded("skin-lesion", subjects=40)


class SegAN(Segmenter):
    """Multi-region segmentation with an adversarial multi-scale L1 loss instead of a pixel loss.

    The critic returns feature maps of the image masked by regions and no score. It maximises the mean absolute
    difference between those of predicted and true regions, the segmentor minimises it. Expects aligned, brain-extracted
    volumes of about 1 mm; slices are segmented one by one and stacked.

    Xue et al., SegAN: Adversarial Network with Multi-scale L1 Loss for Medical Image Segmentation,
    Neuroinformatics 16:383-392, 2018. doi:10.1007/s12021-018-9377-x, arXiv 1706.01805.
    """

    stated_augmentation = "cut at random places; in the release for skin lesions also resized and mirrored"

    class Config(SegmentationConfig):
        """The numbers of the paper; the presets ``isic`` and ``brats`` follow the authors' releases."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            **SegmentationConfig.role_defaults,
            **TUMOUR,
            "lesion": {"part": "mask:lesion"},
        }

        inputs: tuple[str, ...] = ("flair", "t1c", "t2")  # aligned images, in order of channels; three in the paper
        labels: str = "tumour"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = BRATS_2017  # label values by region; later regions overwrite others
        spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0)  # mm between slices, rows, columns; as in BRATS
        size: tuple[int, ...] | None = (180, 180)  # rows and columns of the centre that is cropped from each slice
        variant: Variant = "S1-1C"  # S1-1C: both networks per region; S3-1C: one of each; S3-3C: a critic per region
        architecture: Literal["paper", "isic", "brats"] = "paper"  # networks of the paper or of the authors' releases
        width: int = 64  # channels of the first stage of the segmentor
        critic_width: int = 64  # channels of the first stage of the critic
        game_rounds: int = 50_000  # updates of the segmentor (our choice; the paper's number is not known)
        batch_size: int = 64  # slices
        patch: int = 160  # rows and columns of a random crop
        flips: tuple[int, ...] = ()  # axes along which crops are mirrored at random: 1 rows, 2 columns
        centred: float = Field(
            0.0, ge=0, le=1
        )  # fraction of crops centred on a region, labels equally often (our option)
        optimiser: Literal["rmsprop", "adam"] = "rmsprop"  # optimiser of both players; adam with betas 0.5 and 0.999
        learning_rate: float = 2e-5  # learning rate of both players
        schedule: Schedule = "constant"  # learning rate: constant, linear decay in the second half, or as released
        epoch_rounds: int = Field(500, ge=1)  # rounds per epoch of a schedule; slices / batch size in the releases
        critics: bool = True  # whether there are critics; without them another loss needs a weight
        clip: float = Field(0.05, gt=0)  # largest absolute parameter of the critics, applied after each of their turns
        scale_mode: ScaleMode = "per_stage_mean"  # concat_mean: one mean of all feature maps, times the multipliers
        dice_weight: float = 0.0  # weight of the soft Dice loss; 1 in the releases
        class_weights: tuple[float, ...] = ()  # weight of each region's Dice loss in a sum; empty for their mean
        pixel_weight: float = 0.0  # weight of the cross-entropy of pixels, for comparison

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "isic": {
                "inputs": ("image",),
                "roles": {"inputs": PHOTOGRAPH},
                "labels": "lesion",
                "regions": {"lesion": (1,)},
                "architecture": "isic",
                "variant": "S3-1C",
                "spacing": None,
                "size": (135, 180),
                "batch_size": 36,
                "patch": 128,
                "flips": (1, 2),
                "optimiser": "adam",
                "learning_rate": 2e-4,
                "schedule": "isic",
                "epoch_rounds": 56,
                "game_rounds": 11_200,
                "scale_mode": "concat_mean",
                "dice_weight": 1.0,
            },
            "brats": {
                "inputs": ("t1c", "t1", "flair", "t2"),
                "regions": BRATS_2015_CLASSES,
                "judged": BRATS_2015,
                "architecture": "brats",
                "variant": "S3-1C",
                "size": (192, 192),
                "batch_size": 15,
                "patch": 192,
                "optimiser": "adam",
                "schedule": "brats",
                "epoch_rounds": 2466,
                "game_rounds": 1_233_000,
                "scale_mode": "concat_mean",
                "dice_weight": 1.0,
                "class_weights": (1.0, 3.0, 1.0, 2.0, 1.5),
            },
            "small": {
                "inputs": ("flair", "t1", "t1c", "t2"),
                "variant": "S3-1C",
                "spacing": None,
                "size": None,
                "width": 16,
                "critic_width": 16,
                "game_rounds": 600,
                "batch_size": 8,
                "patch": 96,
                "flips": (2,),
                "optimiser": "adam",
                "learning_rate": 2e-3,
                "schedule": "linear",
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"critics": False, "dice_weight": 1.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        if not (config.critics or config.dice_weight or config.pixel_weight):
            raise UserError("--no-critics: no loss has a weight; add --dice-weight or --pixel-weight")
        if self.exclusive and config.variant == "S1-1C":
            raise UserError("--variant S1-1C: classes that exclude each other share a segmentor; use S3-1C or S3-3C")
        c, channels, regions = config, self.image_channels, len(config.regions)
        if c.class_weights and len(c.class_weights) != regions:
            raise UserError(f"--class-weights: {len(c.class_weights)} numbers, but there are {regions} regions")
        segmentor, critic, _ = NETWORKS[c.architecture]
        alone = c.variant == "S1-1C"
        self.segmentors = nn.ModuleList(
            segmentor(channels, 1 if alone else regions, c.width) for _ in range(regions if alone else 1)
        )
        seen = channels * (regions if c.variant == "S3-1C" else 1)
        self.critics = nn.ModuleList(
            critic(seen, c.critic_width) for _ in range(1 if c.variant == "S3-1C" else regions)
        ) if c.critics else None  # fmt: skip

    def check_sizes(self) -> None:
        c = self.config
        check_input(self.segmentors[0], (c.batch_size, self.image_channels, c.patch, c.patch), f"--patch {c.patch}")

    @property
    def adversarial(self) -> bool:
        """Whether the segmentors are trained with critics."""
        return self.critics is not None

    @property
    def exclusive(self) -> bool:
        return self.config.architecture == "brats"

    @property
    def embedded(self) -> Embedded:
        return SKIN if self.config.labels == "lesion" else BRAIN

    @property
    def expected(self) -> Sequence[Expectation]:
        return () if self.config.labels == "lesion" else (BRAIN_EXTRACTED, REGISTERED)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=NETWORKS[self.config.architecture][2])

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = rmsprop(c.learning_rate) if c.optimiser == "rmsprop" else adam(c.learning_rate, (0.5, 0.999))
        players = [Player("segmentor", (self.segmentors,), moves, self.rate(), restart=self.restart())]
        if self.critics:
            players.append(
                Player("critic", (self.critics,), moves, self.rate(), restart=self.restart(), adversary=True)
            )
        stream = self.annotated(c.batch_size, (1, c.patch, c.patch), centred=c.centred, flips=c.flips)
        return [Stage("segment", self.turns, players, c.game_rounds, stream)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        image, truth = self.image(batch), self.truth(batch)
        if self.critics:
            with torch.no_grad():
                maps = self.maps(self.logits(image))
            yield Turn("critic", multi_scale=-self.distance(image, maps, truth))
            with torch.no_grad():
                for parameter in self.critics.parameters():
                    parameter.clamp_(-c.clip, c.clip)
        logits = self.logits(image)
        maps, losses = self.maps(logits), {}
        if self.critics:
            losses["multi_scale"] = self.distance(image, maps, truth)
        if c.dice_weight:
            losses["dice"] = c.dice_weight * dice_loss(maps, truth, c.class_weights or None)
        if c.pixel_weight:
            entropy = cross_entropy if self.exclusive else binary_cross_entropy
            losses["pixel"] = c.pixel_weight * entropy(logits, truth)
        yield Turn("segmentor", losses)

    def logits(self, image: Tensor) -> Tensor:
        """Return logits (N, regions, H, W) of images (N, channels, H, W)."""
        return torch.cat([segmentor(image) for segmentor in self.segmentors], dim=1)

    def maps(self, logits: Tensor) -> Tensor:
        """Return the maps of regions for training, (N, regions, H, W); those of exclusive classes have Gumbel noise."""
        if not self.exclusive:
            return logits.sigmoid()
        rows, *shape = logits.shape
        return gumbel_softmax(logits, self.noise.uniform(rows, *shape), brats_temperature(self.epoch(self.progress)))

    def distance(self, image: Tensor, maps: Tensor, truth: Tensor) -> Tensor:
        """Return the multi-scale L1 distance of predicted and true regions in the feature maps of the critics."""
        assert self.critics is not None
        parts = [slice(None)] if len(self.critics) == 1 else [slice(at, at + 1) for at in range(len(self.critics))]
        distances = []
        for critic, part in zip(self.critics, parts, strict=True):
            known, multipliers = truth[:, part] >= 0, getattr(critic, "multipliers", None)
            predicted, true = (critic(masked_images(image, regions[:, part], known)) for regions in (maps, truth))
            distances.append(multi_scale_l1(predicted, true, self.config.scale_mode, multipliers))
        # Each pair of segmentor and critic has a loss of its own; with a shared segmentor losses are averaged.
        return torch.stack(distances).sum() if self.config.variant == "S1-1C" else torch.stack(distances).mean()

    def segment(self, image: Tensor) -> Tensor:
        logits = self.logits(image)
        maps = logits.softmax(1) if self.exclusive else logits.sigmoid()
        # Where all images are 0, the masked images do not depend on the maps, which stay untrained there: background.
        nothing = torch.zeros_like(maps[:1, :, :1, :1])
        nothing[:, 0] = float(self.exclusive)
        return torch.where((image != 0).any(dim=1, keepdim=True), maps, nothing)

    def epoch(self, progress: Progress) -> int:
        """Return the number of completed epochs of the schedule."""
        return progress.stage_round // self.config.epoch_rounds

    def rate(self) -> Callable[[Progress], float] | None:
        """Return the schedule of the learning rate's factor; None for a constant rate."""
        c = self.config
        if c.schedule in ("constant", "linear"):
            return linear_decay(0.5) if c.schedule == "linear" else None
        rates = isic_learning_rate if c.schedule == "isic" else brats_learning_rate
        return lambda progress: rates(self.epoch(progress), c.learning_rate) / c.learning_rate

    def restart(self) -> Callable[[Progress], bool] | None:
        """Return where optimisers restart as in the releases: after every epoch (BRATS) or at every halving (ISIC)."""
        c = self.config
        if c.schedule in ("constant", "linear"):
            return None
        every = 25 if c.schedule == "isic" else 1

        def begins(progress: Progress) -> bool:
            completed, rest = divmod(progress.stage_round, c.epoch_rounds)
            return completed > 0 and rest == 0 and (completed - 1) % every == 0

        return begins


def isic_learning_rate(epoch: int, initial: float = 2e-4) -> float:
    """Return the learning rate of an epoch, from 0: halved at the end of epochs 0, 25, 50, ..., not below 1e-8."""
    return max(initial * 0.5 ** -(-epoch // 25), 1e-8)


def brats_learning_rate(epoch: int, initial: float = 2e-5) -> float:
    """Return the learning rate of an epoch, from 0: halved at the end of epochs 10, 20, ...

    A rate of 2e-6 or less is replaced by 2e-6 minus 1e-7 for every completed epoch, at least 1e-7.
    """
    rate = initial
    for done in range(epoch):
        if done and done % 10 == 0:
            rate *= 0.5
        if rate <= 2e-6:
            rate = max(2e-6 - done * 1e-7, 1e-7)
    return rate


def brats_temperature(epoch: int) -> float:
    """Return the Gumbel-softmax temperature of an epoch, from 0: times 0.9 after epochs 10, 20, ..., at least 0.4."""
    return max(0.9 ** (max(epoch - 1, 0) // 10), 0.4)
