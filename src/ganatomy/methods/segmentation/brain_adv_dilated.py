"""Adversarial dilated CNN: a segmentor of brain tissues against a discriminator of manual and generated maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from ganatomy.game import Balanced, Batch, Player, Stage, Stream, Tiling, Turn, rmsprop
from ganatomy.losses.segmentation import cross_entropy, within_known
from ganatomy.nets.aids import centre_crop
from ganatomy.nets.patchwise import DilatedDiscriminator, DilatedSegmentor
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

PATCH = 25
"""Rows and columns of the maps that are learned, which the discriminator takes."""
NETWORKS: Mapping[str, tuple[tuple[int, ...], int]] = {
    "dilated": ((1, 1, 2, 4, 8, 16, 1), 0),
    "fcn": ((1,) * 15, 256),
}
"""Dilation of every convolution, and channels of the hidden layer of kernels of one pixel, by network."""
MANUAL, GENERATED = 0, 1
"""Classes of the discriminator: maps that readers drew and maps that the segmentor made."""

MRBRAINS: Mapping[str, tuple[int, ...]] = {
    "background": (0,),
    "white": (3, 4),
    "cortex": (1,),
    "nuclei": (2,),
    "cerebellum": (7,),
    "stem": (8,),
    "ventricles": (6,),
    "fluid": (5,),
}
"""Labels of MRBrainS13 by class; nuclei are basal ganglia and thalami, and lesions count as white matter."""
ATLASES: Mapping[str, tuple[int, ...]] = {
    "background": (0, 4, 11, 31, 32, 46, 47, 48, 61, 62, 63, 64, 69, 75, 76),
    "white": (44, 45),
    "cortex": tuple(range(100, 208)),
    "nuclei": (23, 30, 36, 37, *range(55, 61)),
    "cerebellum": (*range(38, 42), 71, 72, 73),
    "stem": (35,),
    "ventricles": (49, 50, 51, 52),
}
"""Labels of the MICCAI 2012 challenge on multi-atlas labelling by class; the assignment is our choice."""
SHOWN = ("background", "white", "cortex", "nuclei", "ventricles", "fluid")
"""Classes that the phantom shows, a cerebrum."""


class BrainAdvDilated(Segmenter):
    """Segmentation of the brain into tissues and structures, with a discriminator of maps beside the image.

    The segmentor, of dilated convolutions or of many small ones, assigns the centre of a patch to classes without
    padding, and later whole slices. The discriminator tells manual maps from the segmentor's probabilities, each shown
    with the image of the same pixels. It minimises both of its cross-entropies; the segmentor minimises that of the
    classes and maximises that of its own maps being called generated. Each of the three terms has samples of its own.

    Moeskops, Veta, Lafarge, Eppenhof, Pluim, Adversarial Training and Dilated Convolutions for Brain MRI Segmentation,
    DLMIA 2017, LNCS 10553:56-64. doi:10.1007/978-3-319-67558-9_7, arXiv 1707.03195.
    """

    stated_augmentation = None

    class Config(SegmentationConfig):
        """The paper's experiment with images of the elderly; the preset ``adults`` is the other one."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "inputs": {"scale": "zscore"},
            "structures": {"part": "labels:structures"},
        }

        inputs: tuple[str, ...] = ("t1",)  # aligned images, in order of channels
        labels: str = "structures"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = MRBRAINS  # label values by class, the background first
        network: Literal["dilated", "fcn"] = "dilated"  # segmentor: dilated convolutions, or fifteen without dilation
        width: int = 32  # channels of the convolutions of both networks
        hidden: int = 256  # channels of the layers of kernels of one pixel (fcn, discriminator)
        dropout: float = 0.5  # share of values dropped before the last layer of both networks (our choice)
        adversarial_weight: float = 1.0  # weight of the discriminator's part in the segmentor's loss; 0 for none
        adversarial: Literal["minimax", "nonsaturating"] = "minimax"  # minimax: the segmentor maximises D's loss
        learning_rate: float = 1e-3  # RMSprop, segmentor
        discriminator_learning_rate: float = 1e-5  # RMSprop, discriminator; small, so that it does not win early
        batch_size: int = 100  # patches of each of the three streams
        game_rounds: int = 100_000  # rounds: 5 epochs of 50 000 patches per class and image, of 8 classes and 5 images

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "adults": {"regions": ATLASES, "game_rounds": 262_500},
            "small": {
                "regions": {name: MRBRAINS[name] for name in SHOWN} | {"white": (3,)},
                "width": 16,
                "hidden": 64,
                "dropout": 0.1,
                "batch_size": 8,
                "game_rounds": 600,
                "learning_rate": 2e-3,
                "discriminator_learning_rate": 1e-3,
                "adversarial_weight": 0.1,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, channels, classes = config, self.image_channels, len(config.regions)
        dilations, hidden = NETWORKS[c.network]
        self.segmentor = DilatedSegmentor(channels, classes, dilations, c.width, c.hidden if hidden else 0, c.dropout)
        self.discriminator = (
            DilatedDiscriminator(channels, classes, c.width, c.hidden, c.dropout) if c.adversarial_weight else None
        )

    @property
    def adversarial(self) -> bool:
        """Whether the segmentor is trained with a discriminator."""
        return self.discriminator is not None

    @property
    def exclusive(self) -> bool:
        return True

    @property
    def embedded(self) -> Embedded:
        return Embedded("brain-structures-mr", grid={"slices": 12, "skull": True}, subjects=20)

    @property
    def tiling(self) -> Tiling:
        return Tiling(margin=(0, self.segmentor.margin, self.segmentor.margin))

    def stages(self) -> Sequence[Stage]:
        c = self.config
        players = [Player("segmentor", (self.segmentor,), rmsprop(c.learning_rate, 0.9))]
        names = ["classes"]
        if self.discriminator:
            moves = rmsprop(c.discriminator_learning_rate, 0.9)
            players.append(Player("discriminator", (self.discriminator,), moves, adversary=True))
            names += ["manual", "generated"]
        return [Stage("segment", self.turns, players, c.game_rounds, [self.patches(name) for name in names])]

    def patches(self, name: str) -> Stream:
        """Return a stream of patches whose centres are of every class equally often."""
        c = self.config
        margin, wide = self.tiling.margin, frozenset(c.inputs)
        stream = self.annotated(c.batch_size, (1, PATCH, PATCH), name, margin=margin, wide=wide)
        shares = {labels if len(labels) > 1 else labels[0]: 1 / len(c.regions) for labels in c.regions.values()}
        return replace(stream, place=Balanced(c.labels, shares))

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        learned = batch["classes"] if self.discriminator else batch
        if self.discriminator:
            image = self.image(batch["generated"])
            with torch.no_grad():
                made = self.segmentor(image).softmax(1)
            truth = self.truth(batch["manual"])
            real = self.judge(within_known(truth, truth), self.image(batch["manual"]))
            fake = self.judge(made, image)
            losses = {"manual": called(real, MANUAL), "generated": called(fake, GENERATED)}
            scores = {"real": real[:, MANUAL] - real[:, GENERATED], "fake": fake[:, MANUAL] - fake[:, GENERATED]}
            yield Turn("discriminator", losses, scores=scores)
        losses = {"classes": cross_entropy(self.segmentor(self.image(learned)), self.truth(learned))}
        if self.discriminator:
            fake = self.judge(self.segmentor(image).softmax(1), image)
            lost = -called(fake, GENERATED) if c.adversarial == "minimax" else called(fake, MANUAL)
            losses["adversarial"] = c.adversarial_weight * lost
        yield Turn("segmentor", losses)

    def judge(self, maps: Tensor, image: Tensor) -> Tensor:
        """Return the discriminator's logits (N, 2, 1, 1) of maps beside the centre of the images that they are of."""
        return self.discriminator(maps, centre_crop(image, maps.shape[2:]))  # type: ignore[misc, no-any-return]

    def segment(self, image: Tensor) -> Tensor:
        return self.segmentor(image).softmax(1)  # type: ignore[no-any-return]


def called(logits: Tensor, answer: int) -> Tensor:
    """Return the cross-entropy of a discriminator's logits (N, 2, ...) for one answer, averaged over samples."""
    return functional.cross_entropy(logits, logits.new_full((len(logits), *logits.shape[2:]), answer).long())
