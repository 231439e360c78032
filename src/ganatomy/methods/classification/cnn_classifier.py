"""A plain convolutional classifier, trained the usual way: what classifying systems with an adversary compare with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Progress, Stage, Turn, adam
from ganatomy.images.augmentation import Augmentation
from ganatomy.nets.semi_coupled import TwoHeads
from ganatomy.tasks.classification.task import ClassificationConfig, Classifier

USUAL = Augmentation(rotation=(10.0, 0.0, 0.0), scaling=0.1, shift=(0.0, 0.05, 0.05), brightness=0.1, contrast=0.1)
"""Random changes of training images that classifiers are usually trained with (our choice)."""


class CNNClassifier(Classifier):
    """Classifies slices or whole cases with a convolutional network and cross-entropy alone, without an adversary.

    The network is a stack of strided convolutions as in the discriminator of SCGAN, so that both are of one size; it is
    trained as classifiers usually are: Adam with a cosine schedule, weight decay, dropout, random movements and
    intensities. It is no system of the survey.

    LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86(11):2278-2324, 1998.
    doi:10.1109/5.726791.
    """

    stated_augmentation = "random movements and intensities, as classifiers are usually trained"

    class Config(ClassificationConfig):
        """Usual numbers, all of them our choice."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "images": {"unit": "HU", "window": (-1000.0, 400.0)},
        }
        compared: ClassVar[Mapping[str, Any]] = {"augmentation": USUAL}

        images: tuple[str, ...] = ("image",)  # names of the images, in order of channels
        classes: tuple[str, ...] = ("benign", "malignant")  # classes; of two, the second is the positive one
        phantom: str = "lung-nodule"  # embedded phantom to learn from where no data are given
        augmentation: Augmentation = USUAL  # random changes of training images
        widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of the convolutions, each of which halves the maps
        dropout: float = 0.3  # dropout rate before the classes
        batch_size: int = 64  # images
        learning_rate: float = 1e-3  # Adam, falling to 0 along a cosine
        weight_decay: float = 1e-4  # of all weights
        game_rounds: int = 5000  # updates of the network

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {"widths": (16, 32, 64, 128), "batch_size": 16, "game_rounds": 600},
        }

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if len(c.size) != 2 or any(extent % 2 ** len(c.widths) for extent in c.size):
            times = 2 ** len(c.widths)
            raise UserError(f"--size {' '.join(map(str, c.size))}: give rows and columns, multiples of {times}")
        network = TwoHeads(c.channels, c.size, c.widths, len(c.classes), realness=False)
        self.network = nn.Sequential(network.trunk, nn.Dropout(c.dropout), network.classes)

    @property
    def adversarial(self) -> bool:
        """Never: the network has no adversary."""
        return False

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, weight_decay=c.weight_decay)
        players = [Player("classifier", (self.network,), moves, cosine)]
        return [Stage("classify", self.turns, players, c.game_rounds, self.with_classes(c.batch_size))]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch = next(batches)
        logits = self.network(self.scaled(batch))
        yield Turn("classifier", entropy=cross_entropy(logits, batch[self.task.label.name]))

    def classify(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image)
        return logits


def cosine(progress: Progress) -> float:
    """Return the factor of the learning rate, which falls from 1 to 0 along half a period of a cosine."""
    return (1 + math.cos(math.pi * progress.fraction)) / 2
