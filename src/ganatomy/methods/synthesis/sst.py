"""Stain-style transfer: slides of any laboratory in the colours of one, with what a tumour classifier sees kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from ganatomy.case import Sample
from ganatomy.errors import UserError
from ganatomy.game import Balanced, Batch, Player, Stage, Stream, Tiling, Turn, adam, sgd
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.matching import softmax_divergence
from ganatomy.nets.aids import own_statistics
from ganatomy.nets.dcgan import DCDiscriminator
from ganatomy.nets.fusionnet import FusionNet
from ganatomy.nets.resnet34 import ResNet34Classifier
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.segmentation.kinds import PHOTOGRAPH
from ganatomy.tasks.translation.task import TranslationConfig, Translator

SLIDES = Embedded("two-laboratory-tumours", size=64, subjects=200)
PICTURE: Mapping[str, Any] = {**PHOTOGRAPH, "window": (0.0, 256.0)}
"""Options of slides, whose values v the networks see as (v - 128) / 128."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey, ITU-R BT.601."""
LEVELS = 256  # number of values of 8 bits


class StainStyleTransfer(Translator):
    """Normalisation of stains that preserves the features of a classifier of tumours.

    Networks see slides in grey and colour them as the target laboratory does, which they learn from slides of this
    laboratory alone. A classifier of tumours is trained first, on the same patches with a map of tumours, and then
    frozen; the last features before its decision must be the same in a coloured patch as in the true one. Slides of
    other laboratories are needed only when the system is applied.

    Cho, Lim, Choi & Min, Neural Stain-Style Transfer Learning using GAN for Histopathological Images, 2017.
    arXiv 1710.08543. Networks and numbers are those of a reimplementation by others (hw-liang/DSCSI-GAN), since the
    authors have released none. Differences from it: the classifier begins with random weights and not with those of
    ImageNet, and is that of the last round and not of the least validation loss; patches are drawn at random; values
    are rounded and not cut to 8 bits.
    """

    stated_augmentation = "mirrored from left to right, and turned by multiples of 90 degrees"
    paired = False

    class Config(TranslationConfig):
        """The numbers of the reimplementation; those of the paper are not known."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
            "source": ImageOptions,
            "target": ImageOptions,
            "labels": MaskOptions,
        }
        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "source": PICTURE,
            "target": PICTURE,
            "labels": {"part": "mask:tumour"},
        }

        source: str = "scanner_b"  # name of the slides that are normalised, which is also the prefix of their options
        target: str = "scanner_a"  # name of the slides whose colours are wanted
        labels: str = "tumour"  # name of the map of tumours on the target's slides; all that is not 0 is tumour
        flips: tuple[int, ...] = (2,)  # axes along which images are flipped at random: 1 rows, 2 columns
        quarter_turns: bool = True  # whether square patches are rotated by multiples of 90 degrees
        phantom: str = SLIDES.name  # embedded phantom to learn from where no data are given
        tumour_share: float = 0.1  # share of a patch from which on tumour makes it one of tumour (our choice)
        classifier_rounds: int = Field(250_000, ge=1)  # updates of the classifier (our choice)
        classifier_learning_rate: float = 2e-4  # gradient descent with momentum, classifier
        classifier_momentum: float = 0.9  # momentum, classifier
        classifier_weight_decay: Annotated[float, Field(ge=0)] = 1e-5  # multiple of its weights added to their gradient
        game_rounds: int = Field(250_000, ge=1)  # updates of each player; 5 epochs of 400,000 patches
        batch_size: int = 8  # patches, of which about half are of tumour
        learning_rate: float = 2e-4  # Adam, both players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        adversarial_weight: float = Field(0.2, ge=0)  # weight of the game; 0 trains with the other losses alone
        feature_weight: float = 0.4  # weight of the divergence of the classifier's features
        reconstruction_weight: float = 0.4  # weight of the mean squared difference from the true colours
        divergence: Literal["mean", "batchmean"] = (
            "mean"  # divergence over samples and features, or over samples alone, which is larger by their number
        )
        statistics: Literal["running", "image"] = (
            "running"  # those of batch norms at inference: of the training, or of each image, as in the release
        )
        width: int = 16  # channels of the generator at full size
        halvings: int = Field(4, ge=1)  # halvings of the size in the generator; sizes are multiples of 2**halvings
        discriminator_widths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)  # channels of its convolutions
        classifier_width: int = 64  # channels of the classifier's first convolution
        classifier_blocks: Annotated[tuple[int, ...], Field(min_length=1, max_length=6)] = (3, 4, 6, 3)  # of ResNet-34
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "classifier_rounds": 300,
                "classifier_learning_rate": 1e-2,
                "game_rounds": 600,
                "learning_rate": 1e-3,
                "divergence": "batchmean",
                "width": 8,
                "halvings": 2,
                "discriminator_widths": (16, 32, 64, 64),
                "classifier_width": 8,
                "classifier_blocks": (1, 1, 1, 1),
                "ema_halflife": 400.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        self.check_sizes()
        made = self.task.out_channels
        self.classifier = ResNet34Classifier(made, 2, c.size, c.classifier_width, c.classifier_blocks)
        self.generator = FusionNet(1, made, c.width, c.halvings)
        self.discriminator = None
        if c.adversarial_weight:
            self.discriminator = DCDiscriminator(made, c.size, c.discriminator_widths, kernel=4, biased=True)

    @property
    def guides(self) -> tuple[str, ...]:
        return (self.config.labels,)

    @property
    def finding(self) -> str:
        return self.config.labels

    @property
    def embedded(self) -> Embedded | None:
        return SLIDES if self.config.phantom == SLIDES.name else None

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.halvings)

    def check_sizes(self) -> None:
        c = self.config
        multiple = 2 ** max(c.halvings, len(c.discriminator_widths))
        size = " ".join(map(str, c.size))
        if any(extent % multiple for extent in c.size):
            raise UserError(
                f"--size {size}: rows and columns must be multiples of {multiple}; see --halvings and "
                "--discriminator-widths"
            )
        if c.quarter_turns and c.size[0] != c.size[1]:
            raise UserError(f"--size {size}: only square patches can be turned; add --no-quarter-turns")
        for role in (c.source, c.target):
            if c.roles[role].channels != 3:  # type: ignore[attr-defined]
                raise UserError(f"--{role}.channels: slides have 3, red, green and blue")

    def check_samples(self, samples: Iterable[Sample]) -> Sequence[str]:
        c = self.config
        shares = [
            float((np.asarray(sample.arrays[c.labels]) > 0).mean())
            for sample in samples
            if {c.target, c.labels} <= set(sample.arrays)
        ]
        if not shares:
            raise UserError(
                f"no training case has both a {c.target} image and a {c.labels} map, which the classifier of tumours "
                "learns from; add maps, also to cases without a tumour, where they are 0 everywhere"
            )
        if max(shares) == 0 or min(shares) == 1:
            kind = "any tumour" if max(shares) == 0 else "normal tissue"
            raise UserError(f"{c.labels}: no training case has {kind}, so nothing can be learned about tumours")
        return ()

    def inference_mode(self) -> Self:
        self.eval()
        if self.config.statistics == "image":
            own_statistics(self.generator)
        return self

    def stages(self) -> Sequence[Stage]:
        c = self.config
        patches = Stream(
            "target",
            (c.target, c.labels),
            c.batch_size,
            (1, *c.size),  # type: ignore[arg-type]
            flips=c.flips,
            quarter_turns=c.quarter_turns,
            place=Balanced(c.labels, {1: 0.5}),
        )
        slow = sgd(c.classifier_learning_rate, c.classifier_momentum, weight_decay=c.classifier_weight_decay)
        moves = adam(c.learning_rate, c.betas)
        players = [Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife)]
        if self.discriminator:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        classifier = [Player("classifier", (self.classifier,), slow)]
        return [
            Stage("classifier", self.classifier_turns, classifier, c.classifier_rounds, patches, validated=False),
            Stage("game", self.turns, players, c.game_rounds, patches),
        ]

    def classifier_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        ill = batch[c.labels].flatten(1).mean(1) >= c.tumour_share
        yield Turn("classifier", entropy=cross_entropy(self.classifier(batch[c.target]), ill.long()))

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        true = next(batches)[c.target]
        fake = self.restore(true)
        if self.discriminator:
            real_scores, fake_scores = self.discriminator(true), self.discriminator(fake.detach())
            yield Turn(
                "discriminator",
                adversarial=nonsaturating_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        losses = {"reconstruction": c.reconstruction_weight * mse_loss(fake, true)}
        if c.feature_weight:
            losses["features"] = c.feature_weight * self.feature_distance(true, fake)
        if self.discriminator:
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(self.discriminator(fake))
        yield Turn("generator", losses)

    def feature_distance(self, true: Tensor, fake: Tensor) -> Tensor:
        """Return the divergence of the frozen classifier's features of coloured patches from those of true ones."""
        self.classifier.eval()
        with torch.no_grad():
            wanted = self.classifier.features(true)
        return softmax_divergence(wanted, self.classifier.features(fake), self.config.divergence)

    def restore(self, input: Tensor) -> Tensor:
        return self.generator(grey(input)).tanh()  # type: ignore[no-any-return]


def grey(image: Tensor) -> Tensor:
    """Return the luma (N, 1, H, W) of images (N, 3, H, W), rounded to 8 bits, both as (v - 128) / 128."""
    weights = image.new_tensor(LUMA)[None, :, None, None]
    levels = ((image + 1) / 2 * LEVELS * weights).sum(1, keepdim=True)
    return (levels + 0.5).floor() / (LEVELS / 2) - 1
