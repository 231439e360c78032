"""Adversarial domain adaptation: DeepMedic against a classifier that tells from its features where images are from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ganatomy.errors import UserError
from ganatomy.game import Balanced, Batch, Player, Progress, Stage, Stream, Tiling, Turn, nesterov_rmsprop
from ganatomy.nets.deepmedic import (
    MARGIN,
    RESIDUAL,
    WIDTHS,
    DeepMedic,
    DomainClassifier,
    connected,
    convolution_weights,
)
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.expectations import BRAIN_EXTRACTED, REGISTERED, Expectation
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.segmentation.task import Segmentation, SegmentationConfig, Segmenter

OUTPUT = 9
"""Side of the part of a segment that is predicted in training; the domain classifier decides once for it."""
TILE = 29
"""Side of the output of one pass at inference."""
HALVED = (12, 16, 19, 22, 25, 28, 31, 34)
"""Numbers of epochs after which the learning rate is halved."""
SOURCE, TARGET = 0, 1
"""Classes of the domain classifier."""
Epoch = Annotated[int, Field(ge=0, le=1_000_000)]
Layer = Annotated[int, Field(ge=4, le=10)]


class Adaptation(Segmentation):
    """Segmentation of images of a target domain, learned from label maps of a source domain.

    Training cases with a label map are of the source domain, those without one of the target domain. The latter may
    have label maps of another name, which only a comparison learns from.
    """

    def __init__(self, config: SegmentationConfig, embedded: Embedded, expected: Sequence[Expectation]):
        super().__init__(config, True, embedded, expected)
        self.target_labels: str = config.target_labels  # type: ignore[attr-defined]
        extra = replace(self.target, name=self.target_labels, optional=True)
        self.roles = {**self.roles, self.target_labels: extra}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        parts = {name: name for name in self.inputs}
        return {**parts, self.target_labels if label == "target" else self.labels: "labels:lesions"}


class UDALesion(Segmenter):
    """Segmentation of brain lesions on a scanner whose images have no annotation, in 3D.

    DeepMedic learns lesions from annotated images of a source domain. A domain classifier is shown its features, of
    layers of both paths, and learns whether they are of the source or of the target domain. The segmentor minimises
    the log loss of the annotation minus α times that of the domain, whose features it so makes alike; α rises with the
    epochs. Both players move at once, for one batch of annotated segments and others of either domain. Cases without a
    label map are the target domain; the label maps of ``target_labels`` are for comparison only, with ``supervised``.

    Kamnitsas, Baumgartner, Ledig, Newcombe, Simpson, Kane, Menon, Nori, Criminisi, Rueckert, Glocker, Unsupervised
    Domain Adaptation in Brain Lesion Segmentation with Adversarial Networks, IPMI 2017, LNCS 10265:597-609.
    doi:10.1007/978-3-319-59050-9_47, arXiv 1612.08894.
    """

    dims = 3

    stated_augmentation = "mirrored from left to right"

    class Config(SegmentationConfig):
        """Numbers of the paper and of the authors' program of that time; images are axial, brain-extracted, 1 mm."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
            **SegmentationConfig.role_fields,
            "target_labels": MaskOptions,
        }
        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"inputs": {"scale": "zscore"}}

        inputs: tuple[str, ...] = ("flair", "t2", "pd", "t1", "ge")  # aligned images, in order of channels
        labels: str = "lesions"  # name of the label map of source cases, which target cases lack
        target_labels: str = "target_lesions"  # name of the label map of target cases, learned if supervised
        regions: Mapping[str, tuple[int, ...]] = {"background": (0,), "lesion": (1,)}  # label values by class
        spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0)  # mm between slices, rows and columns
        widths: tuple[int, ...] = WIDTHS  # channels of the eight convolutions of either path
        hidden: int = 150  # channels of the two hidden layers that follow both paths
        dropout: float = 0.5  # share of values dropped before the last two layers of the segmentor and the last of D
        domain_width: int = 100  # channels of the domain classifier
        taps: tuple[Layer, ...] = RESIDUAL  # layers whose features the domain classifier is shown: 4, 6, 8 and 10
        adversarial_weight: float = 0.05  # largest α; 0 trains on the source alone
        ramp: tuple[Epoch, Epoch] = (10, 35)  # epochs between which α rises from 0 to its largest value
        supervised: bool = False  # whether target_labels are learned from, too, half of the annotated segments
        l1_weight: float = 1e-6  # weight of the sum of absolute kernel weights, of both networks
        l2_weight: float = 1e-4  # weight of the sum of squared kernel weights, of both networks
        learning_rate: float = 1e-3  # RMSprop with epsilon within the root, both networks
        domain_learning_rate: float | None = Field(None, gt=0)  # of the domain classifier; none means that of both
        momentum: float = Field(0.6, ge=0, lt=1)  # Nesterov's momentum; steps are multiplied by 1 minus it
        batch_size: int = 10  # annotated segments of 25 x 25 x 25 voxels, of which 9 x 9 x 9 are learned
        domain_batch_size: int = 10  # segments of either domain that the domain classifier is shown
        centred: float = Field(0.5, ge=0, le=1)  # share of annotated segments centred on a lesion
        epoch_rounds: int = Field(2_000, ge=1)  # rounds per epoch: 20 times 1000 segments
        game_rounds: int = 70_000  # rounds, 35 epochs

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "inputs": ("flair", "t2", "t1", "ge"),
                "spacing": None,
                "widths": (6, 6, 8, 8, 8, 8, 10, 10),
                "hidden": 24,
                "domain_width": 16,
                "dropout": 0.1,
                # With the paper's weight so short a training leaves the domains apart.
                "adversarial_weight": 1.0,
                "ramp": (5, 20),
                "domain_learning_rate": 1e-2,
                "batch_size": 6,
                "domain_batch_size": 3,
                "epoch_rounds": 10,
                "game_rounds": 350,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if len(c.widths) != len(WIDTHS):
            raise UserError(f"--widths: {len(c.widths)} numbers, but either path has {len(WIDTHS)} convolutions")
        if not c.taps or set(c.taps) - set(RESIDUAL):
            raise UserError(f"--taps {' '.join(map(str, c.taps))}: choose among {' '.join(map(str, RESIDUAL))}")
        if c.ramp[0] >= c.ramp[1]:
            raise UserError(f"--ramp {c.ramp[0]} {c.ramp[1]}: the weight has to rise from an earlier to a later epoch")
        self.segmentor = DeepMedic(self.image_channels, len(c.regions), c.widths, c.hidden, c.dropout)
        self.domain = None
        if c.adversarial_weight:
            shown = sum(c.hidden if layer == 10 else 2 * c.widths[layer - 1] for layer in c.taps)
            self.domain = DomainClassifier(shown, c.domain_width, c.dropout)

    def build_task(self) -> Adaptation:
        return Adaptation(self.config, self.embedded, self.expected)

    @property
    def adversarial(self) -> bool:
        """Whether the segmentor is trained with a domain classifier."""
        return self.domain is not None

    @property
    def exclusive(self) -> bool:
        return True

    @property
    def embedded(self) -> Embedded:
        return Embedded("two-scanners-mr", size=48, grid={"slices": 32}, subjects=30)

    @property
    def expected(self) -> Sequence[Expectation]:
        return (BRAIN_EXTRACTED, REGISTERED)

    @property
    def tiling(self) -> Tiling:
        return Tiling(margin=(MARGIN,) * 3, tile=(TILE,) * 3)

    def stages(self) -> Sequence[Stage]:
        c = self.config

        def rate(progress: Progress) -> float:
            return 0.5 ** sum(progress.stage_round >= epoch * c.epoch_rounds for epoch in HALVED)

        moves, others = (
            nesterov_rmsprop(each, momentum=c.momentum)
            for each in (c.learning_rate, c.domain_learning_rate or c.learning_rate)
        )
        players = [Player("segmentor", (self.segmentor,), moves, rate)]
        shared = max(1, c.batch_size // 2) if c.supervised else c.batch_size
        streams = [self.segments("annotated", shared, c.labels, centred=c.centred)]
        if c.supervised:
            streams.append(
                self.segments("supervised", max(1, c.batch_size - shared), c.target_labels, centred=c.centred)
            )
        if self.domain:
            players.append(Player("domain", (self.domain,), others, rate, adversary=True))
            streams += [
                self.segments("source", c.domain_batch_size, c.labels, accepts=self.within),
                self.segments("target", c.domain_batch_size, None, accepts=self.within, without=(c.labels,)),
            ]
        return [Stage("adapt", self.turns, players, c.game_rounds, streams)]

    def segments(self, name: str, count: int, labels: str | None, centred: float = 0.0, **options: Any) -> Stream:
        """Return a stream of segments, of cases with label maps of some name or of all cases."""
        c = self.config
        stream = self.annotated(
            count, (OUTPUT,) * 3, name, centred, margin=(MARGIN,) * 3, wide=frozenset(c.inputs), flips=(2,), **options
        )
        place = stream.place
        if labels and isinstance(place, Balanced):
            place = replace(place, role=labels)
        return replace(stream, roles=(*c.inputs, *([labels] if labels else [])), place=place)

    def within(self, patch: Mapping[str, Any]) -> bool:
        """Return whether the middle of a segment, in physical units, lies in the brain, outside of which all is 0."""
        image = patch[self.config.inputs[0]]
        return bool(image[(0, *(extent // 2 for extent in image.shape[1:]))] != 0)

    def turns(self, batches: Iterator[Batch]) -> Iterator[tuple[Turn, ...]]:
        c = self.config
        drawn = next(batches)
        batch = drawn if "annotated" in drawn else {"annotated": drawn}
        names = [(name, labels) for name, labels in self.learned if name in batch]
        truth = torch.cat([batch[name][labels] for name, labels in names])
        domains = [name for name in ("source", "target") if name in batch]
        image = torch.cat([self.image(batch[name]) for name in (*(name for name, _ in names), *domains)])
        logits, tapped = self.segmentor.features(image)
        annotated = len(truth)
        losses = {"classes": log_loss(logits[:annotated], truth), **self.penalties(self.segmentor)}
        if not self.domain:
            yield (Turn("segmentor", losses),)
            return
        shown = connected(tapped, c.taps)[annotated:]
        answers = self.domain(shown)
        source = len(batch["source"][c.inputs[0]])
        domain = one_hot_domains(answers, source)
        told = log_loss(answers, domain)
        # Each player's gradient is that of its own parameters, so one loss serves both: D's, and the segmentor's
        # reversed and weighted by α.
        if alpha := self.alpha(self.progress):
            losses["adversarial"] = -alpha * told
        margins = answers[:, SOURCE] - answers[:, TARGET]
        scores = {"source": margins[:source], "target": margins[source:]}
        terms = {"domain": told, **self.penalties(self.domain)}
        yield Turn("segmentor", losses), Turn("domain", terms, scores=scores)

    @property
    def learned(self) -> tuple[tuple[str, str], ...]:
        """Names of the streams with annotations, and of their label maps."""
        return (("annotated", self.config.labels), ("supervised", self.config.target_labels))

    def penalties(self, network: nn.Module) -> dict[str, Tensor]:
        """Return the weighted sums of absolute and of squared kernel weights of a network."""
        c, weights = self.config, convolution_weights(network)
        return {
            "l1": c.l1_weight * torch.stack([weight.abs().sum() for weight in weights]).sum(),
            "l2": c.l2_weight * torch.stack([weight.square().sum() for weight in weights]).sum(),
        }

    def alpha(self, progress: Progress) -> float:
        """Return the weight α of the domain's loss, which rises linearly from epoch to epoch."""
        c = self.config
        start, stop = c.ramp
        share = (progress.stage_round // c.epoch_rounds - start) / (stop - start)
        return c.adversarial_weight * min(max(share, 0.0), 1.0)

    def segment(self, image: Tensor) -> Tensor:
        return self.segmentor(image).softmax(1)  # type: ignore[no-any-return]


def log_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean of -ln(p + 1e-6) of the probability p of the true class, over voxels of known class.

    Args:
        logits: (N, classes, ...).
        target: 1 in the channel of the class and 0 or -1 in the others, same shape.
    """
    known = target == 1
    losses = -(logits.softmax(1) + 1e-6).log()
    return losses.masked_fill(~known, 0).sum() / known.sum().clamp_min(1)


def one_hot_domains(answers: Tensor, source: int) -> Tensor:
    """Return the true domains of segments as a target of `log_loss`, of which the first ones are of the source."""
    domains = torch.full((len(answers),), TARGET, device=answers.device)
    domains[:source] = SOURCE
    return functional.one_hot(domains, 2).reshape_as(answers)
