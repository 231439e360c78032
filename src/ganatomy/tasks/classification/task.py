"""The task of classification: the class of a case, or of each of its slices."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import SerializeAsAny
from torch import Tensor

from ganatomy.case import Better, Preparation, Role, Sample, Scores, Task, Volume
from ganatomy.errors import UserError
from ganatomy.game import Balanced, Batch, Method, RolesConfig, Stream
from ganatomy.images.augmentation import Augmentation, Changes, mild
from ganatomy.images.frames import Fit, Plane
from ganatomy.metrics.calibration import balanced_log_loss, softmax, temperature
from ganatomy.metrics.classification import auc_values, balanced_accuracy_values
from ganatomy.metrics.statistics import count
from ganatomy.roles.classes import UNLABELLED, ClassRole
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.options import RoleOptions

LABEL, SLICES = "label", "slice_labels"
"""Names of the roles of the class of a case, and of the classes of its slices."""
RANGE = (-1.0, 1.0)
"""Range of the images as networks see them."""
BALANCED, AREA, LOSS = "balanced accuracy", "AUC", "log loss"
TO_APEX = np.array([-0.55, 0.62, -0.56])
"""Direction from the base to the apex of an average heart, to the right, front and head (RAS+)."""
SHARES = "shares of classes"
"""Name of the fitted shares of the classes among the labelled training cases or slices, (classes,)."""


class ClassificationConfig(RolesConfig):
    """Options of classification: images and their preparation, classes, and what has a class."""

    role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {"images": ImageOptions}

    images: tuple[str, ...] = ("image",)  # names of the images, in order of channels
    roles: Mapping[str, SerializeAsAny[ImageOptions]] = {}  # options of each image, by its name
    classes: tuple[str, ...] = ()  # names of the classes; of two, the second is the positive one
    rest: str | None = None  # class of all labels that are none of the classes; none leaves out or refuses such cases
    per: Literal["case", "slice"] = "case"  # what has a class: a case (label), or each of its slices (slice_labels)
    end: Literal["basal", "apical"] | None = (
        None  # end of a short-axis stack whose outermost slice decides on the case; none averages over slices
    )
    plane: Plane = "stored"  # plane of the slices
    spacing: tuple[float, float, float] | None = None  # mm between slices, rows and columns; none keeps the image's
    size: tuple[int, ...] = (64, 64)  # rows and columns
    fit: Fit = "contain"  # how images get to this size
    phantom: str = "none"  # embedded phantom to learn from where no data are given
    augmentation: Augmentation = Augmentation()  # random changes of labelled training images

    @property
    def channels(self) -> int:
        """Number of channels of all images together, as networks see them."""
        return sum(self.roles[name].channels for name in self.images)


class Classification(Task):
    """Task of classification: predict the class of each case, or of each slice.

    The role of the class is optional: cases without one are used by methods that learn from unlabelled images, too.

    Args:
        config: images, classes, and preparation.

    Raises:
        UserError: the classes cannot be told apart, or the size is none of slices.
    """

    name = "classification"
    predictors: ClassVar = {"classify": "ganatomy.tasks.classification.predictor:ClassPredictor"}
    judge = "ganatomy.tasks.classification.judge:ClassJudge"
    phantom_subjects = 90
    directions: ClassVar[Mapping[str, Better]] = {LOSS: "lower", BALANCED: "higher", AREA: "higher"}

    def __init__(self, config: ClassificationConfig):
        self.config = config
        if len(config.classes) < 2 or len(set(config.classes)) < len(config.classes):
            raise UserError("--classes: give the names of at least two classes, each once")
        if config.rest is not None and config.rest not in config.classes:
            raise UserError(f"--rest {config.rest}: none of the classes {', '.join(config.classes)}")
        if len(config.size) != 2:
            raise UserError("--size: give rows and columns, since slices are classified")
        self.sliced = config.per == "slice"
        self.label = ClassRole(
            SLICES if self.sliced else LABEL, config.classes, sliced=self.sliced, rest=config.rest, optional=True
        )
        images = {name: config.roles[name].role(name, to=RANGE, clip=True) for name in config.images}
        self.roles: Mapping[str, Role] = {**images, self.label.name: self.label}
        self.images = tuple(images)
        self.given = config.images[0]
        self.phantom = config.phantom

    @property
    def case_classes(self) -> tuple[str, ...]:
        """Names of the classes of whole cases, in the order of the classes."""
        return self.config.classes

    @property
    def preparation(self) -> Preparation:
        c = self.config
        fill = tuple((name, c.roles[name].air) for name in c.images if c.roles[name].air)
        return Preparation(plane=c.plane, spacing=c.spacing, size=c.size, fit=c.fit, fill=fill)

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        if self.phantom == "none":
            raise UserError(f"no phantom has {self.given} and these classes; give images with --data, or --phantom")
        return {"size": size or max(self.config.size)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        parts = {name: self.config.roles[name].part or name for name in self.images}
        return {**parts, **({SLICES: "classes:slices"} if self.sliced else {})}

    def usable(self, roles: Iterable[str]) -> bool:
        return set(self.images) <= set(roles)

    def takes_label(self, label: str | None) -> bool:
        return label is None or self.config.rest is not None or label in self.config.classes

    def changes(self) -> Changes:
        """Return changes of geometry and of intensities; they leave classes as they are."""
        measured = [name for name in self.images if self.roles[name].measured]
        return Changes(mild(self.images, measured))

    def truth(self, sample: Sample) -> NDArray[np.int64]:
        """Return the classes of all slices, or that of the case, (units,); -1 where one is not known."""
        if self.label.name not in sample.arrays:
            return np.full(sample.shape[0] if self.sliced else 1, UNLABELLED)
        return np.asarray(sample.arrays[self.label.name]).reshape(-1).astype(np.int64)

    def units(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits of what has a class, (units, classes), from those of slices: these, or their mean."""
        return logits if self.sliced else logits.mean(axis=0, keepdims=True)

    def deciding(self, sample: Sample) -> slice:
        """Return the slices of a sample whose mean logits decide on the class of the case."""
        return slice(None)

    def case_truth(self, sample: Sample) -> int:
        """Return the class of the case; -1 where it is not known."""
        known = self.truth(sample)[self.deciding(sample)] if self.sliced else self.truth(sample)
        return int(known[0]) if (known == known[0]).all() else UNLABELLED

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """Fit the shares of the classes beside the statistics of intensities."""
        cases = list(samples)
        known = np.concatenate([self.truth(case) for case in cases])
        counts = np.bincount(known[known >= 0], minlength=len(self.config.classes))
        # One case more of each, so that no class is impossible.
        shares = (counts + 1) / (counts + 1).sum()
        return {**super().fit(cases), SHARES: shares.astype(np.float32)}

    @property
    def prior(self) -> NDArray[np.float64]:
        """Logarithm of the shares of the classes in training; 0 before they are fitted."""
        found = self.fitted.get(SHARES)
        return np.zeros(len(self.config.classes)) if found is None else np.log(np.asarray(found, np.float64))

    @property
    def selection(self) -> str:
        return LOSS

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Score the logits (units, classes) of the role of the class against the true classes (units,), -1 unknown.

        The log loss is that with the best temperature, averaged over the classes. Classes are those of the largest
        probability among equally frequent ones.
        """
        logits, truth = np.asarray(output[self.label.name]), np.asarray(sample[self.label.name]).astype(int)
        logits, truth = logits[truth >= 0], truth[truth >= 0]
        if not len(truth):
            return {}
        right = logits.argmax(axis=1) == truth
        return {
            LOSS: balanced_log_loss(softmax(logits / temperature(logits, truth)), truth),
            BALANCED: float(balanced_accuracy_values(right, truth).mean()),
            AREA: float(auc_values(softmax(logits), truth).mean()),
        }


class Coverage(Classification):
    """Task of finding short-axis stacks of the heart whose first or last slice is missing.

    Slices have classes, the second of which is that of the slice at one end of the left ventricle. A stack is complete
    at this end where its outermost slice has this class. Which end is which follows from the positions of the slices in
    the patient, since stacks are stored in both directions.

    Args:
        config: images, classes, preparation, and the end.

    Raises:
        UserError: there are not two classes of slices.
    """

    def __init__(self, config: ClassificationConfig):
        super().__init__(config)
        if len(config.classes) != 2 or not self.sliced:
            raise UserError(f"--end {config.end}: needs --per slice and two classes, that of the outermost slice last")

    @property
    def case_classes(self) -> tuple[str, ...]:
        return f"no {self.config.end} slice", "complete"

    def deciding(self, sample: Sample) -> slice:
        """Return the outermost slice at the end that may be missing."""
        first = base_is_first(sample.affines[self.given]) == (self.config.end == "basal")
        return slice(0, 1) if first else slice(sample.shape[0] - 1, None)


def base_is_first(affine: NDArray[np.float64]) -> bool:
    """Return whether the first slice of a short-axis stack is nearer to the base of the heart than the last one.

    The apex lies to the left, front and feet of the base in all but mirrored hearts.

    Args:
        affine: affine (4, 4) of the grid: slices, rows and columns to mm to the right, front and head (RAS+).
    """
    return bool(affine[:3, 0] @ TO_APEX > 0)


class Classifier(Method):
    """Base class of methods that classify slices; their configuration is a `ClassificationConfig`."""

    @abstractmethod
    def classify(self, image: Tensor) -> Tensor:
        """Return the logits of the classes (N, classes) as if these were equally frequent.

        Args:
            image: slices, (N, channels, rows, columns), in the range of the networks.
        """

    def build_task(self) -> Classification:
        return Classification(self.config) if self.config.end is None else Coverage(self.config)

    @property
    def takes_unlabelled(self) -> bool:
        """Whether images without a class are learned from, too."""
        return False

    def check_samples(self, samples: Iterable[Sample]) -> Sequence[str]:
        """Count the training cases with and without a class."""
        cases, task = list(samples), self.task
        bare = sum(not (task.truth(case) >= 0).any() for case in cases)
        if not bare:
            return ()
        used = "are learned from, too" if self.takes_unlabelled else "are not used"
        return (f"{count(bare, 'training case')} of {len(cases)} without {task.label.name}, whose images {used}",)

    def scaled(self, batch: Batch) -> Tensor:
        """Concatenate the images of a batch as channels."""
        return torch.cat([batch[name] for name in self.task.images], dim=1)

    def with_classes(self, batch_size: int) -> Stream:
        """Return a stream of slices with their classes, each of which is drawn equally often."""
        c, task = self.config, self.task
        stream = Stream(
            "labelled", (*task.images, task.label.name), batch_size, (1, *c.size), augmentation=c.augmentation
        )
        if not task.sliced:
            return replace(stream, balanced=True)
        return replace(
            stream, place=Balanced(task.label.name, dict.fromkeys(range(len(c.classes)), 1 / len(c.classes)))
        )

    def without_classes(self, batch_size: int) -> Stream:
        """Return a stream of slices of cases without a class, which is left out where all have one."""
        c, task = self.config, self.task
        return Stream(
            "unlabelled", task.images, batch_size, (1, *c.size), without=(task.label.name,),
            augmentation=c.augmentation, optional=True,
        )  # fmt: skip
