"""DAN: a segmentation network, and an evaluation network that tells results on annotated images from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import exp, floor
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ganatomy.case import Sample
from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Progress, Stage, Stream, Tiling, Turn, adam, sgd
from ganatomy.losses.segmentation import cross_entropy, dice_loss
from ganatomy.nets.dan import BranchedSegmentor, EvaluationNetwork, TwoStemDiscriminator
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.kinds import PHOTOGRAPH
from ganatomy.tasks.segmentation.rules import ObjectRules
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

GLANDS = Embedded("stained-glands", subjects=40)
STEPS, EPOCHS = 200, 300
"""Number of steps in which the weight of the adversarial loss rises along the ramp, and linearly."""
RAMP = 5.0
"""Steepness of the ramp exp(-5 (1 - t)²)."""


class DAN(Segmenter):
    """Segmentation that also learns from images without annotations.

    The evaluation network is shown images with the segmentation network's own results, and scores results on annotated
    images as good and those on images without annotation as poor. The segmentation network learns from annotations,
    and to be scored as well on the other images. The weight of that is small at first.

    Where every case has an annotation, ``halved`` hides those of half of the subjects, and ``every_image`` also draws
    annotated images as ones without.

    Zhang et al., Deep Adversarial Networks for Biomedical Image Segmentation Utilizing Unannotated Images, MICCAI 2017,
    408-416. doi:10.1007/978-3-319-66179-7_47.
    """

    stated_augmentation = None

    class Config(SegmentationConfig):
        """The networks are those of a re-implementation; ``ssl4mis`` follows another one in networks and training."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "inputs": PHOTOGRAPH,
            "labels": {"part": "instances:glands"},
        }

        inputs: tuple[str, ...] = ("image",)  # picture in colour
        labels: str = "glands"  # name of the instance map
        regions: Mapping[str, tuple[int, ...]] = {"background": (0,), "gland": (1,)}  # classes, the background first
        instances: bool = True  # whether the label map numbers objects
        objects: ObjectRules = ObjectRules(smallest=100)  # rules by which objects are made from probabilities
        width: int = 64  # channels of the segmentation network's first layers; all others follow
        evaluation: Literal["vgg", "two-stem"] = "vgg"  # evaluation network; two-stem: that of SSL4MIS
        evaluation_width: int = 64  # channels of the evaluation network's first layers; all others follow
        auxiliary_weight: float = 0.0  # weight of the entropy of each branch's own head, as in DCAN; 0 for no heads
        halved: bool = False  # whether half of the subjects count as not annotated, whatever they have
        every_image: bool = (
            False  # whether annotated images, too, are drawn as ones without, as --label-fraction 1 needs
        )
        supervised_rounds: int = 10_000  # updates of the segmentation network alone (our choice)
        game_rounds: int = 20_000  # updates of both networks (our choice)
        batch_size: int = 4  # annotated patches, and as many without annotation (our choice)
        patch: int = 320  # rows and columns of a random crop, multiples of 32 (our choice)
        flips: tuple[int, ...] = (1, 2)  # axes along which crops are mirrored at random: 1 rows, 2 columns
        quarter_turns: bool = True  # whether crops are rotated by multiples of 90 degrees (our choice)
        optimiser: Literal["adam", "sgd"] = "adam"  # of the segmentation network; sgd with momentum, weights decay
        learning_rate: float = 1e-3  # of the segmentation network
        schedule: Literal["constant", "poly"] = "constant"  # of that rate; poly falls as (1 - t)^0.9
        evaluation_rate: float = 1e-4  # Adam, evaluation network
        entropy_weight: float = 1.0  # weight of the cross-entropy of classes
        dice_weight: float = 0.0  # weight of the soft Dice loss
        adversarial_weight: float = 0.1  # weight of the adversarial loss at the end of the ramp; 0: none
        rise: Literal["ramp", "linear", "constant"] = "ramp"  # of that weight: exp(-5 (1 - t)²), or 1 + 10 t times it

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "ssl4mis": {
                "evaluation": "two-stem",
                "supervised_rounds": 0,
                "game_rounds": 30_000,
                "batch_size": 12,
                "patch": 256,
                "optimiser": "sgd",
                "learning_rate": 1e-2,
                "schedule": "poly",
                "entropy_weight": 0.5,
                "dice_weight": 0.5,
            },
            "small": {
                # A third of the phantom's glands touch: even perfect maps lose most of these as components.
                "objects": {"smallest": 30, "separate": "watershed", "apart": 8},
                "width": 4,
                "evaluation_width": 8,
                "halved": True,
                "supervised_rounds": 500,
                "game_rounds": 300,
                "batch_size": 4,
                "patch": 64,
                "learning_rate": 2e-3,
                "schedule": "poly",
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, channels, classes = config, self.image_channels, len(config.regions)
        if not (c.entropy_weight or c.dice_weight):
            raise UserError("--entropy-weight 0: nothing is learned from annotations; give it or --dice-weight")
        self.segmentor = BranchedSegmentor(channels, classes, c.width / 64, bool(c.auxiliary_weight))
        self.evaluator: EvaluationNetwork | TwoStemDiscriminator | None = None
        if c.adversarial_weight:
            self.evaluator = (
                EvaluationNetwork(channels + self.shown_classes, c.evaluation_width / 64)
                if c.evaluation == "vgg"
                else TwoStemDiscriminator(channels, classes, c.evaluation_width)
            )

    @property
    def shown_classes(self) -> int:
        """Number of classes whose probabilities the evaluation network sees: of two, the second is enough."""
        classes = len(self.config.regions)
        return 1 if classes == 2 else classes

    def check_sizes(self) -> None:
        c = self.config
        if c.patch % 32:
            raise UserError(f"--patch {c.patch}: rows and columns must be multiples of 32")
        if c.evaluation == "two-stem" and c.adversarial_weight and c.patch != 256:
            raise UserError(f"--patch {c.patch}: the two-stem evaluation network takes 256 rows and columns")

    def check_samples(self, samples: Iterable[Sample]) -> Sequence[str]:
        kept = list(samples)
        bare = [sample for sample in kept if self.config.labels not in sample.arrays]
        if self.evaluator and not (bare or self.config.halved or self.config.every_image):
            raise UserError(
                f"every training case has {self.config.labels}, but this system learns from images without, too: add "
                "some, hide some with --label-fraction, half of them with --halved, or draw all with --every-image"
            )
        told = list(super().check_samples(kept))
        if bare and self.config.halved:
            told.append(
                f"{len(bare)} training cases have no {self.config.labels}, and --halved also hides those of half of "
                "the subjects; --no-halved learns from all that there are"
            )
        return told

    @property
    def adversarial(self) -> bool:
        """Whether the segmentation network also learns from images without annotation."""
        return self.evaluator is not None

    @property
    def exclusive(self) -> bool:
        return True

    @property
    def embedded(self) -> Embedded:
        return GLANDS

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=32)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate) if c.optimiser == "adam" else sgd(c.learning_rate, 0.9, weight_decay=1e-4)
        players = [Player("segmentor", (self.segmentor,), moves, self.rate())]
        options: dict[str, Any] = {"flips": c.flips, "quarter_turns": c.quarter_turns}
        patch = (1, c.patch, c.patch)
        annotated = self.annotated(c.batch_size, patch, fold=(1, 2) if c.halved else None, **options)
        alone = c.supervised_rounds + (0 if self.evaluator else c.game_rounds)
        first = Stage("supervised", self.supervised, players, alone, annotated)
        if self.evaluator is None:
            return [first]
        hidden: dict[str, Any] = {} if c.every_image else {"without": (c.labels,)}
        if c.halved:
            hidden = {"fold": (0, 2)}
        others = Stream("unannotated", c.inputs, c.batch_size, patch, augmentation=c.augmentation, **hidden, **options)
        players = [
            *players,
            Player("evaluator", (self.evaluator,), adam(c.evaluation_rate, (0.9, 0.99)), adversary=True),
        ]
        game = Stage("adversarial", self.turns, players, c.game_rounds, [annotated, others])
        return [first, game] if c.supervised_rounds else [game]

    def supervised(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch = next(batches)
        yield Turn("segmentor", self.fit_losses(self.segmentor.levels(self.image(batch)), self.truth(batch)))

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        assert self.evaluator is not None
        batch = next(batches)
        known, others = batch["annotated"], self.image(batch["unannotated"])
        image = torch.cat([self.image(known), others])
        rows = len(image) - len(others)
        # The network that does not learn is in the mode in which it is used.
        self.evaluator.eval()
        levels = self.segmentor.levels(image)
        losses = self.fit_losses([one[:rows] for one in levels], self.truth(known))
        score = self.quality(levels[0][rows:], others)
        losses["adversarial"] = self.adversarial_weight(self.progress) * softplus(-score).mean()
        yield Turn("segmentor", losses)
        self.segmentor.eval()
        self.evaluator.train()
        with torch.no_grad():
            results = self.segmentor(image)
        scores = self.quality(results, image)
        good, poor = scores[:rows], scores[rows:]
        yield Turn(
            "evaluator",
            annotated=softplus(-good).mean(),
            unannotated=softplus(poor).mean(),
            scores={"real": good, "fake": poor},
        )
        self.segmentor.train()

    def fit_losses(self, levels: Sequence[Tensor], truth: Tensor) -> dict[str, Tensor]:
        """Return the losses of logits on annotated images.

        Args:
            levels: logits of the network, then those of the heads of its branches.
            truth: true classes, (N, classes, H, W).
        """
        c, (logits, *heads) = self.config, levels
        losses = {}
        if c.entropy_weight:
            losses["entropy"] = c.entropy_weight * cross_entropy(logits, truth)
        if c.dice_weight:
            losses["dice"] = c.dice_weight * dice_loss(logits.softmax(1), truth)
        if heads:
            losses["auxiliary"] = c.auxiliary_weight * torch.stack([cross_entropy(one, truth) for one in heads]).sum()
        return losses

    def quality(self, logits: Tensor, image: Tensor) -> Tensor:
        """Return the evaluation network's logits for results on images, (N, 1); high for those on annotated ones."""
        maps = logits.softmax(1)
        if isinstance(self.evaluator, TwoStemDiscriminator):
            classes: Tensor = self.evaluator(maps, image)
            return classes[:, 1:] - classes[:, :1]
        assert self.evaluator is not None
        score: Tensor = self.evaluator(torch.cat([image, maps[:, -self.shown_classes :]], dim=1))
        return score

    def adversarial_weight(self, progress: Progress) -> float:
        """Return the weight of the adversarial loss, in steps over its stage."""
        c, done = self.config, progress.fraction
        if c.rise == "linear":
            return c.adversarial_weight * (1 + 10 * (min(floor(EPOCHS * done), EPOCHS - 1) + 1) / EPOCHS)
        risen = exp(-RAMP * (1 - min(floor(STEPS * done) / STEPS, 1)) ** 2) if c.rise == "ramp" else 1.0
        return c.adversarial_weight * risen

    def rate(self) -> Callable[[Progress], float] | None:
        """Return the factor of the segmentation network's learning rate; None for a constant rate."""
        if self.config.schedule == "constant":
            return None
        return lambda progress: (1 - progress.fraction) ** 0.9

    def segment(self, image: Tensor) -> Tensor:
        return self.segmentor(image).softmax(1)  # type: ignore[no-any-return]
