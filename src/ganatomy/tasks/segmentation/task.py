"""The task of segmentation: assign the voxels of one or several aligned images to regions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import field_validator
from torch import Tensor

from ganatomy.case import Better, Preparation, Role, Sample, Scores, Task, Volume, slab
from ganatomy.errors import UserError
from ganatomy.game import Balanced, Batch, Method, RolesConfig, Stream
from ganatomy.images.augmentation import Augmentation, Changes, mild
from ganatomy.images.codecs import Window
from ganatomy.images.frames import Fit, Plane
from ganatomy.images.image import ComputedArray
from ganatomy.metrics.metric import Mask
from ganatomy.metrics.objects import matched_by_iou
from ganatomy.metrics.segmentation import count_overlap
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.expectations import Expectation
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.instances import EDGE, INSIDE, ObjectRole
from ganatomy.roles.labels import LabelRole, MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.segmentation.codes import named_regions, other_code
from ganatomy.tasks.segmentation.measures import Measure, named
from ganatomy.tasks.segmentation.rules import ObjectRules

RANGE = (0.0, 1.0)
"""Range of the inputs as networks see them; 0 is the background."""
LARGEST = 65535
"""Largest label that can be stored, as uint16."""
ABSENT = Window(low=0.0, high=1.0, to=RANGE, unit=None)
"""Codec of the zeros that replace an input that a case lacks."""


@dataclass(frozen=True)
class Cleaning:
    """Steps that a paper takes between the regions of its network and its results.

    Attributes:
        largest: regions of which only the largest connected component is kept.
        fill: regions whose holes are filled.
        organ: regions that are parts of one organ; only the largest connected component of all of them together is
            kept.
    """

    largest: tuple[str, ...] = ()
    fill: tuple[str, ...] = ()
    organ: tuple[str, ...] = ()


class SegmentationConfig(RolesConfig):
    """Options of segmentation: inputs, regions, and the preparation of cases."""

    role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
        "inputs": ImageOptions,
        "labels": MaskOptions,
        "field_of_view": MaskOptions,
        "observer": MaskOptions,
    }
    role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {"inputs": {"percentiles": (0.0, 99.5), "over": "all"}}

    inputs: tuple[str, ...] = ("flair", "t1", "t1c", "t2")  # names of the aligned images, in order of channels
    optional_inputs: tuple[str, ...] = ()  # inputs that a case may lack; they are replaced by 0, the background
    labels: str = "mask"  # name of the label map
    regions: Mapping[str, tuple[int, ...]] = {"inside": (1,)}  # region to labels; later regions overwrite earlier ones
    judged: Mapping[str, tuple[int, ...]] = {}  # regions that are judged; none means those that are learned
    instances: bool = False  # whether the label map numbers objects such as cells; 1 is their inside, 2 their edge
    objects: ObjectRules = ObjectRules()  # rules by which objects are made from probabilities
    measures: tuple[str, ...] | None = None  # what clinicians read, such as cup-to-disc; none: what the system declares
    lines: bool = False  # whether the region consists of thin lines such as vessels, which Frangi's filter finds, too
    unknown: tuple[int, ...] = ()  # labels of voxels of unknown region, which are neither learned nor judged
    field_of_view: str | None = None  # name of a mask outside of which nothing is learned or judged
    observer: str | None = None  # name of a second observer's label maps, which are judged beside the output
    plane: Plane = "axial"  # plane of the slices
    spacing: tuple[float, float, float] | None = None  # mm between slices, rows and columns; none keeps each volume's
    size: tuple[int, ...] | None = None  # rows and columns, or with slices, to crop or pad to; none keeps each volume's
    fit: Fit = "cover"  # how images get to this size where no spacing is given
    augmentation: Augmentation = Augmentation()  # random changes of training patches

    @field_validator("regions", "judged", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """Accept the name of a code, such as ``brats-2015``, in the place of regions."""
        return named_regions(value)


class Compared(NamedTuple):
    """Masks of a region in the prediction, in the truth, and of known truth, all (slices, rows, columns)."""

    found: Mask
    true: Mask
    known: Mask


class Segmentation(Task):
    """Task of segmentation: predict a label map from aligned images.

    Regions may overlap, or be mutually exclusive classes.

    Args:
        config: names of the roles, regions, and preparation of cases.
        exclusive: whether regions are mutually exclusive and fill the image, the first being the background, so that
            every voxel belongs to the most probable one.
        embedded: embedded phantom; None where no phantom has these roles.
        expected: expectations of every input, of which violations are reported.
        measures: measures of the label map, unless the user names some; those of regions that are not judged are left
            out.
        cleaning: steps that are taken after the network, unless the user chooses others.

    Raises:
        UserError: all inputs are optional, a region has no labels, a measure needs a region that is not judged, or
            there are lines and several judged regions.
    """

    name = "segmentation"
    predictors: ClassVar = {"segment": "ganatomy.tasks.segmentation.predictor:SegmentationPredictor"}
    judge = "ganatomy.tasks.segmentation.judge:SegmentationJudge"

    def __init__(
        self,
        config: SegmentationConfig,
        exclusive: bool = False,
        embedded: Embedded | None = None,
        expected: Sequence[Expectation] = (),
        measures: Sequence[Measure] = (),
        cleaning: Cleaning | None = None,
    ):
        self.config, self.exclusive, self.embedded = config, exclusive, embedded
        self.cleaning = cleaning or Cleaning()
        self.expects = dict.fromkeys(config.inputs, tuple(expected))
        self.inputs, self.labels = config.inputs, config.labels
        _check(config, exclusive)
        unknown: Mapping[int, tuple[str, ...]] = dict.fromkeys(config.unknown, ())
        roles: list[Role] = [
            _image_options(config, name).role(name, to=RANGE, clip=True, optional=name in config.optional_inputs)
            for name in config.inputs
        ]
        pair = tuple(config.regions.values()) == ((1,),) and not unknown
        target = self.label_role(config.regions, unknown=unknown, any_two=pair)
        roles.append(target)
        if config.field_of_view:
            roles.append(LabelRole(config.field_of_view, any_two=True, optional=True))
        if config.observer:
            roles.append(replace(target, name=config.observer, optional=True))
        self.roles: Mapping[str, Role] = {role.name: role for role in roles}
        learned = {name: labels for name, labels in config.regions.items() if 0 not in labels}
        self.judged = self.label_role(config.judged or learned, unknown=unknown)
        names = self.judged.names
        declared = tuple(one for one in measures if set(one.regions) <= set(names))
        if config.lines and len(names) > 1:
            raise UserError(f"--lines: thin lines are judged as one region, not as {', '.join(names)}; see --judged")
        self.measures = declared if config.measures is None else named(config.measures, names)
        self.given = next(name for name in config.inputs if name not in config.optional_inputs)
        self.phantom = embedded.name if embedded else "none"
        self.phantom_subjects = embedded.subjects if embedded else 1

    def label_role(self, regions: Mapping[str, tuple[int, ...]], **options: Any) -> LabelRole:
        """Return the role of the label map with these regions."""
        return LabelRole(self.config.labels, regions, **options)

    @property
    def target(self) -> LabelRole:
        """Role of the label map, with the regions that are learned."""
        role = self.roles[self.labels]
        assert isinstance(role, LabelRole)
        return role

    @property
    def preparation(self) -> Preparation:
        c = self.config
        airs = {name: _image_options(c, name).air for name in self.inputs}
        fill = tuple((name, air) for name, air in airs.items() if air)
        return Preparation(plane=c.plane, spacing=c.spacing, size=c.size, fit=c.fit, fill=fill)

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        if self.embedded is None:
            raise UserError(f"no phantom has {', '.join(self.inputs)} and {self.labels}; give images with --data")
        return {"size": size or self.embedded.size, **self.embedded.grid}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        parts = {name: options.part for name, options in self.config.roles.items()}
        return {name: part or name for name, part in parts.items() if part or name in (*self.inputs, self.labels)}

    def usable(self, roles: Iterable[str]) -> bool:
        """Whether roles include all required inputs; a label map is needed by some streams only."""
        there = set(roles)
        return all(name in there for name in self.required if name != self.labels)

    def changes(self) -> Changes:
        """Return changes of geometry and of the intensities of the inputs, each image on its own."""
        return Changes(mild(self.inputs, [name for name in self.inputs if self.roles[name].measured], sharp=False))

    def simulate(self, sample: Sample, seed: int) -> Sample:
        return self.completed(sample)

    def completed(self, sample: Sample) -> Sample:
        """Return a sample with zeros in place of missing optional inputs."""
        absent = [name for name in self.config.optional_inputs if name not in sample.arrays]
        if not absent:
            return sample
        arrays = {name: _zeros((self.roles[name].channels, *sample.shape)) for name in absent}
        whole = sample.with_arrays(arrays, dict.fromkeys(absent, sample.affines[sample.first]))
        return replace(whole, numbers={**sample.numbers, **dict.fromkeys(absent, ABSENT.model_dump(mode="json"))})

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """Fit the statistics of the inputs, without those that were replaced by zeros."""
        return super().fit(self._acquired(sample) for sample in samples)

    def _acquired(self, sample: Sample) -> Sample:
        absent = {name for name in self.config.optional_inputs if name not in sample.case.sources}
        return replace(sample, arrays={name: array for name, array in sample.arrays.items() if name not in absent})

    @property
    def directions(self) -> Mapping[str, Better]:
        return dict.fromkeys(("dice", *self._each()), "higher")

    @property
    def constant_scores(self) -> Mapping[str, float]:  # type: ignore[override]
        """Dice of an empty output: 0."""
        return dict.fromkeys(self.directions, 0.0)

    @property
    def selection(self) -> str:
        return "dice"

    def _each(self) -> list[str]:
        """Return the names of the Dice of every region, where there are several regions."""
        names = self.judged.names
        return [f"dice {name}" for name in names] if len(names) > 1 else []

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Compute Dice over all slices together, for each region and on average.

        Regions that are empty in both the prediction and the truth are left out, since they would favour empty outputs.
        """
        parts = self.compared(self.inside(output[self.labels]), sample)
        seen = {name: part for name, part in parts.items() if ((part.found | part.true) & part.known).any()}
        dice = {name: count_overlap(*part).dice for name, part in seen.items()}
        if not dice:
            return {}
        each = {f"dice {name}": value for name, value in dice.items()} if self._each() else {}
        return {"dice": float(np.mean(list(dice.values()))), **each}

    def annotation(self, sample: Sample, start: int, stop: int) -> dict[str, Volume]:
        """Return the label map of some slices, and the field of view where there is one."""
        wanted = [self.labels, *([self.config.field_of_view] if self.config.field_of_view else [])]
        return {name: slab(sample.arrays[name], start, stop)[0] for name in wanted if name in sample.arrays}

    def inside(self, labels: Volume) -> NDArray[np.bool_]:
        """Return masks of the judged regions of a label map, (regions, slices, rows, columns)."""
        return np.asarray(self.judged.indicators(labels[None]) == 1)

    def ranked(self, probabilities: NDArray[np.float32]) -> dict[str, Volume]:
        """Return the probabilities of the judged regions, as far as those of the learned regions determine them.

        The probability of a region with the labels of a learned one is that one's; exclusive classes add up; of
        regions that may overlap, which together make up a judged one, the largest probability counts.

        Args:
            probabilities: probabilities of the learned regions, (regions, slices, rows, columns).
        """
        learned = {name: set(labels) for name, labels in self.target.regions.items()}
        found = {}
        for name, labels in self.judged.regions.items():
            alike = [place for place, own in enumerate(learned.values()) if own == set(labels)]
            parts = alike[:1] or [place for place, own in enumerate(learned.values()) if own and own <= set(labels)]
            if set().union(*(list(learned.values())[place] for place in parts)) != set(labels):
                continue
            own = probabilities[parts]
            found[name] = own.sum(0).clip(0, 1) if self.exclusive else own.max(0)
        return found

    def compared(self, found: NDArray[np.bool_], sample: Mapping[str, Volume]) -> dict[str, Compared]:
        """Pair the masks of each judged region with the truth, leaving out regions whose truth is not known anywhere.

        Args:
            found: predicted masks, (regions, slices, rows, columns).
            sample: true label map and perhaps field of view, (slices, rows, columns).
        """
        true = self.judged.indicators(sample[self.labels][None])
        known, field = true >= 0, self.config.field_of_view
        if field is not None and field in sample:
            known &= sample[field] > 0
        parts = zip(self.judged.names, found, true == 1, known, strict=True)
        return {name: Compared(*masks) for name, *masks in parts if masks[2].any()}


class InstanceSegmentation(Segmentation):
    """Task of segmentation into objects: the label map numbers cells, glands or other objects of one kind.

    Networks learn regions of the objects, see `ObjectRole`, and predictions number objects again. The judged region is
    that of all objects together.

    Raises:
        UserError: there are several judged regions, or labels of unknown region.
    """

    predictors: ClassVar = {"segment": "ganatomy.tasks.segmentation.instances:InstancePredictor"}
    judge = "ganatomy.tasks.segmentation.objects:ObjectJudge"

    def __init__(self, config: SegmentationConfig, *arguments: Any, **options: Any):
        super().__init__(config, *arguments, **options)
        if len(self.judged.names) > 1:
            raise UserError(
                f"--instances: objects are judged as one region, not as {', '.join(self.judged.names)}; "
                f"add --judged {config.labels}=1,2"
            )
        if strange := sorted({*self.target.known, *self.judged.known} - {0, INSIDE, EDGE}):
            raise UserError(f"--regions: objects have label {INSIDE} inside and {EDGE} at their edge, not {strange[0]}")

    def label_role(self, regions: Mapping[str, tuple[int, ...]], **options: Any) -> LabelRole:
        """Return the role of the instance map with these regions."""
        return ObjectRole(self.config.labels, regions, **options)

    @property
    def directions(self) -> Mapping[str, Better]:
        return {"object f1": "higher", **super().directions}

    @property
    def selection(self) -> str:
        return "object f1"

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Compute Dice of all objects together, and F1 of objects at an IoU of one half, over all slices together."""
        found, true = output[self.labels], sample[self.labels]
        matched = matched_by_iou(found, true)
        return {"object f1": matched.f1, **super().scores(output, sample, spacing)}


def _image_options(config: SegmentationConfig, name: str) -> ImageOptions:
    options = config.roles[name]
    assert isinstance(options, ImageOptions)
    return options


def _zeros(shape: tuple[int, int, int, int]) -> ComputedArray:
    channels, _, *plane = shape
    return ComputedArray(shape, np.float32, lambda start, stop: np.zeros((channels, stop - start, *plane), np.float32))


def _check(config: SegmentationConfig, exclusive: bool) -> None:
    """Refuse invalid options of inputs and regions.

    Raises:
        UserError: an option is invalid; the message names it.
    """
    if not set(config.inputs) - set(config.optional_inputs):
        raise UserError("--inputs: at least one image must be there in every case")
    if strange := set(config.optional_inputs) - set(config.inputs):
        raise UserError(
            f"--optional-inputs {', '.join(sorted(strange))}: not among the inputs {', '.join(config.inputs)}"
        )
    for option, regions in (("--regions", config.regions), ("--judged", config.judged)):
        if empty := [name for name, labels in regions.items() if not labels]:
            raise UserError(
                f"{option} {empty[0]}: a region has at least one label, as in {option} {empty[0]}=1; a name alone is "
                "the code of a BRATS challenge, such as brats-2017 or brats-2017-classes"
            )
    if not config.regions:
        raise UserError("--regions: give at least one, such as --regions lesion=1")
    classes = [label for labels in config.regions.values() for label in labels]
    for option, labels in (("--regions", classes), ("--unknown", config.unknown)):
        if wrong := [label for label in labels if not 0 <= label <= LARGEST]:
            raise UserError(f"{option}: labels are from 0 to {LARGEST}, got {wrong[0]}")
    if both := sorted(set(classes) & set(config.unknown)):
        raise UserError(f"--unknown {both[0]}: a label of a region in --regions, too; leave it out of one of them")
    judged = [(name, label) for name, labels in config.judged.items() for label in labels]
    if alien := [(name, label) for name, label in judged if label not in {0, *classes}]:
        name, label = alien[0]
        raise UserError(f"--judged {name}={label}: no region in --regions has that label; they have {_listed(classes)}")
    if exclusive and (len(set(classes)) < len(classes) or 0 not in next(iter(config.regions.values()))):
        raise UserError("--regions: classes that exclude each other share no label, and the first is background=0")


def _listed(labels: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(labels))))


class Segmenter(Method):
    """Base class of segmentation methods; their configuration is a `SegmentationConfig`."""

    @property
    def exclusive(self) -> bool:
        """Whether regions are mutually exclusive classes, the first being the background."""
        return False

    @property
    def embedded(self) -> Embedded | None:
        """Embedded phantom to train on where no data are given."""
        return None

    @property
    def expected(self) -> Sequence[Expectation]:
        """Expectations of every input, of which violations are reported."""
        return ()

    @property
    def measures(self) -> Sequence[Measure]:
        """Measures that clinicians read from the label map, of regions by the names that are judged."""
        return ()

    @property
    def cleaning(self) -> Cleaning:
        """Steps that the paper takes after the network; the user may choose others."""
        return Cleaning()

    @property
    def views(self) -> Mapping[Plane, Callable[[Tensor], Tensor]]:
        """Planes in which slices of a volume are segmented and then fused, with the function for slices of each.

        The functions are like `segment`. Empty for methods that see slices of the working plane, or volumes. The
        working plane of a method with views is axial.
        """
        return {}

    @abstractmethod
    def segment(self, image: Tensor) -> Tensor:
        """Predict the probabilities of the regions, (N, regions, [D,] H, W) in [0, 1].

        Args:
            image: images, (N, channels of all inputs, [D,] H, W).
        """

    def build_task(self) -> Segmentation:
        kind = InstanceSegmentation if self.config.instances else Segmentation
        return kind(self.config, self.exclusive, self.embedded, self.expected, self.measures, cleaning=self.cleaning)

    def check_samples(self, samples: Iterable[Sample]) -> Sequence[str]:
        """Check that the label maps of the training cases contain every region.

        Returns:
            A warning for each region that no case contains.

        Raises:
            UserError: no case contains any region, or the label maps follow another code of labels.
        """
        regions = {name: set(labels) for name, labels in self.config.regions.items() if 0 not in labels}
        missing, annotated, seen = dict(regions), 0, set[int]()
        for sample in samples:
            if not missing:
                return ()
            if self.config.labels not in sample.arrays:
                continue
            annotated, array = annotated + 1, sample.arrays[self.config.labels]
            there = (self.task.target.classes(slab(array, at, at + 1)) for at in range(array.shape[1]))
            found = {int(label) for labels in there for label in np.unique(labels)}
            seen |= found
            missing = {name: labels for name, labels in missing.items() if not labels & found}
        if not (annotated and missing):
            return ()
        if code := other_code(self.config.regions, seen):
            raise UserError(
                f"--regions: until 2016 label 3 is the part that does not enhance and 4 the one that does, but "
                f"{self.config.labels} has 3 and no 4, which is the code since {code.first}; give --regions "
                f"brats-{code.first}"
            )
        if missing == regions:
            raise UserError(
                f"no training case has a voxel of {', '.join(missing)} in {self.config.labels}, so nothing could be "
                f"learned; correct --regions (labels {_listed(set().union(*regions.values()))}), or the label maps"
            )
        return [f"no training case has a voxel of {name} in {self.config.labels}" for name in missing]

    @property
    def image_channels(self) -> int:
        """Number of channels of all inputs together."""
        return sum(self.task.roles[name].channels for name in self.config.inputs)

    def annotated(
        self,
        batch_size: int,
        patch: tuple[int, int, int],
        name: str = "annotated",
        centred: float = 0.0,
        more: tuple[str, ...] = (),
        **options: Any,
    ) -> Stream:
        """Return a stream of cases with a label map.

        Args:
            batch_size: number of patches in a batch.
            patch: size of the patches, (slices, rows, columns).
            name: name of the stream.
            centred: share of the patches that are centred on a voxel of a region, equally often for each label.
            more: further roles, which the task of the system makes when a case is prepared.
            options: further options of the stream.
        """
        c = self.config
        roles = (*c.inputs, c.labels, *([c.field_of_view] if c.field_of_view else []), *more)
        place = None
        if centred:
            if c.instances:
                raise UserError("--centred: patches are centred on labels, which --instances has not; leave one out")
            labels = sorted({label for own in c.regions.values() if 0 not in own for label in own})
            place = Balanced(c.labels, dict.fromkeys(labels, centred / len(labels)))
        return Stream(name, roles, batch_size, patch, place=place, augmentation=c.augmentation, **options)

    def image(self, batch: Batch) -> Tensor:
        """Concatenate the inputs of a batch as channels, (N, channels of all inputs, [D,] H, W)."""
        return torch.cat([batch[name] for name in self.config.inputs], dim=1)

    def truth(self, batch: Batch) -> Tensor:
        """Return the true regions of a batch, (N, regions, [D,] H, W).

        Values are 1 inside, 0 outside, and -1 where the label is unknown or outside of the field of view.
        """
        target: Tensor = batch[self.config.labels]
        if self.config.field_of_view is None:
            return target
        return target.masked_fill(batch[self.config.field_of_view] != 1, -1.0)
