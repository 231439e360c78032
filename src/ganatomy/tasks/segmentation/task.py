"""Segmentation: which regions every voxel of one or several aligned images belongs to."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Better, Preparation, Role, Sample, Scores, Task, Volume, slab
from ganatomy.errors import UserError
from ganatomy.game import Balanced, Batch, Method, RolesConfig, Stream
from ganatomy.images.augmentation import Augmentation
from ganatomy.images.codecs import Window
from ganatomy.images.frames import Fit, Plane
from ganatomy.images.image import ComputedArray
from ganatomy.metrics.metric import Mask
from ganatomy.metrics.segmentation import count_overlap
from ganatomy.roles.expectations import Expectation
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import LabelRole
from ganatomy.roles.options import RoleOptions

RANGE = (0.0, 1.0)
"""Of the inputs as networks see them; 0 is the background."""
LARGEST = 65535
"""Largest label that is stored, as uint16."""
ABSENT = Window(low=0.0, high=1.0, to=RANGE, unit=None)
"""Scale of the zeros that stand for an input that a case lacks."""


class MaskOptions(RoleOptions):
    """Options of a label map."""

    noun = "mask"


@dataclass(frozen=True)
class Embedded:
    """The phantom that a system is trained on where no data are given.

    Attributes:
        name: of the phantom, whose parts play the roles of their names or of their option ``part``.
        size: rows and columns, unless the user says.
        grid: other arguments of the phantom, such as the number of slices.
        subjects: how many patients make a data set.
    """

    name: str
    size: int = 128
    grid: Mapping[str, Any] = field(default_factory=dict)
    subjects: int = 20


class SegmentationConfig(RolesConfig):
    """Options of every system that segments."""

    role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
        "inputs": ImageOptions,
        "labels": MaskOptions,
        "field_of_view": MaskOptions,
        "observer": MaskOptions,
    }
    role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "inputs": {"scale": "percentile", "percentiles": (0.0, 99.5), "over": "all"}
    }

    inputs: tuple[str, ...] = ("flair", "t1", "t1c", "t2")  # names of the aligned images, in order of channels
    optional_inputs: tuple[str, ...] = ()  # inputs that a case may lack; the network sees 0, background, in their place
    labels: str = "mask"  # name of the label map
    regions: Mapping[str, tuple[int, ...]] = {"inside": (1,)}  # name to labels; where they overlap, the later counts
    judged: Mapping[str, tuple[int, ...]] = {}  # regions that are judged; none means those that are learned
    unknown: tuple[int, ...] = ()  # labels of voxels that nobody assigned to a region; they count nowhere
    field_of_view: str | None = None  # name of a mask outside of which nothing is learned or judged
    observer: str | None = None  # name of a second observer's label maps, which are judged beside the output
    plane: Plane = "axial"  # of the slices that are cut
    spacing: tuple[float, float, float] | None = None  # mm between slices, rows and columns; none keeps each volume's
    size: tuple[int, ...] | None = None  # rows and columns to crop or pad to, or with slices; none takes any size
    fit: Fit = "cover"  # how images get to the size where no spacing is given
    augmentation: Augmentation = Augmentation()  # random changes of training patches


class Compared(NamedTuple):
    """A region of a prediction and of the truth, (slices, rows, columns), and where the truth is known."""

    found: Mask
    true: Mask
    known: Mask


class Segmentation(Task):
    """Inputs show the same voxels; the label map is made from them.

    Regions may overlap, or be classes that exclude each other.

    Args:
        config: names of the roles, regions, and how cases are prepared.
        exclusive: whether regions exclude each other and fill the image, the first being the background: every voxel
            then belongs to the most probable one.
        embedded: the phantom; None where there is none with these roles.
        expected: what every input should be.

    Raises:
        UserError: no input that every case has, or regions without labels.
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
    ):
        self.config, self.exclusive, self.embedded = config, exclusive, embedded
        self.expects = dict.fromkeys(config.inputs, tuple(expected))
        self.inputs, self.labels = config.inputs, config.labels
        _check(config, exclusive)
        unknown: Mapping[int, tuple[str, ...]] = dict.fromkeys(config.unknown, ())
        roles: list[Role] = [
            _image_options(config, name).role(name, to=RANGE, clip=True, optional=name in config.optional_inputs)
            for name in config.inputs
        ]
        pair = tuple(config.regions.values()) == ((1,),) and not unknown
        target = LabelRole(config.labels, config.regions, unknown=unknown, any_two=pair)
        roles.append(target)
        if config.field_of_view:
            roles.append(LabelRole(config.field_of_view, any_two=True, optional=True))
        if config.observer:
            roles.append(replace(target, name=config.observer, optional=True))
        self.roles: Mapping[str, Role] = {role.name: role for role in roles}
        learned = {name: labels for name, labels in config.regions.items() if any(labels)}
        self.judged = LabelRole(config.labels, config.judged or learned, unknown=unknown)
        self.given = next(name for name in config.inputs if name not in config.optional_inputs)
        self.phantom = embedded.name if embedded else "none"
        self.phantom_subjects = embedded.subjects if embedded else 1

    @property
    def target(self) -> LabelRole:
        """The role of the label map, with the regions that are learned."""
        role = self.roles[self.labels]
        assert isinstance(role, LabelRole)
        return role

    @property
    def preparation(self) -> Preparation:
        c = self.config
        return Preparation(plane=c.plane, spacing=c.spacing, size=c.size, fit=c.fit)

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        if self.embedded is None:
            raise UserError(f"no phantom has {', '.join(self.inputs)} and {self.labels}; give images with --data")
        return {"size": size or self.embedded.size, **self.embedded.grid}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        parts = {name: self.config.roles[name].part for name in self.roles}
        return {name: part or name for name, part in parts.items() if part or name in (*self.inputs, self.labels)}

    def usable(self, roles: Iterable[str]) -> bool:
        """Whether there are all inputs that every case has; the label map is a matter of each stream."""
        there = set(roles)
        return all(name in there for name in self.required if name != self.labels)

    def simulate(self, sample: Sample, seed: int) -> Sample:
        return self.completed(sample)

    def completed(self, sample: Sample) -> Sample:
        """The sample with zeros in place of optional inputs that it lacks."""
        absent = [name for name in self.config.optional_inputs if name not in sample.arrays]
        if not absent:
            return sample
        arrays = {name: _zeros((self.roles[name].channels, *sample.shape)) for name in absent}
        whole = sample.with_arrays(arrays, dict.fromkeys(absent, sample.affines[sample.first]))
        return replace(whole, numbers={**sample.numbers, **dict.fromkeys(absent, ABSENT.model_dump(mode="json"))})

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """Statistics of the inputs that cases really have."""
        return super().fit(self._acquired(sample) for sample in samples)

    def _acquired(self, sample: Sample) -> Sample:
        absent = {name for name in self.config.optional_inputs if name not in sample.case.sources}
        return replace(sample, arrays={name: array for name, array in sample.arrays.items() if name not in absent})

    @property
    def directions(self) -> Mapping[str, Better]:
        return dict.fromkeys(("dice", *self._each()), "higher")

    @property
    def selection(self) -> str:
        return "dice"

    def _each(self) -> list[str]:
        """Names of the Dice of each region, where there are several."""
        names = self.judged.names
        return [f"dice {name}" for name in names] if len(names) > 1 else []

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Dice of the slices together, of each region and on average, without regions that are neither there nor found.

        These would make an output that is empty look good.
        """
        parts = self.compared(self.inside(output[self.labels]), sample)
        seen = {name: part for name, part in parts.items() if ((part.found | part.true) & part.known).any()}
        dice = {name: count_overlap(*part).dice for name, part in seen.items()}
        if not dice:
            return {}
        each = {f"dice {name}": value for name, value in dice.items()} if self._each() else {}
        return {"dice": float(np.mean(list(dice.values()))), **each}

    def annotation(self, sample: Sample, start: int, stop: int) -> dict[str, Volume]:
        """What some slices of a case are compared with: the label map, and the field of view where there is one."""
        wanted = [self.labels, *([self.config.field_of_view] if self.config.field_of_view else [])]
        return {name: slab(sample.arrays[name], start, stop)[0] for name in wanted if name in sample.arrays}

    def inside(self, labels: Volume) -> NDArray[np.bool_]:
        """The judged regions of a label map without unknown labels, (regions, slices, rows, columns)."""
        return np.asarray(self.judged.indicators(labels[None]) == 1)

    def compared(self, found: NDArray[np.bool_], sample: Mapping[str, Volume]) -> dict[str, Compared]:
        """Each judged region beside its truth, without those that are nowhere known.

        Args:
            found: (regions, slices, rows, columns).
            sample: the label map and perhaps the field of view, (slices, rows, columns).
        """
        true = self.judged.indicators(sample[self.labels][None])
        known, field = true >= 0, self.config.field_of_view
        if field is not None and field in sample:
            known &= sample[field] > 0
        parts = zip(self.judged.names, found, true == 1, known, strict=True)
        return {name: Compared(*masks) for name, *masks in parts if masks[2].any()}


def _image_options(config: SegmentationConfig, name: str) -> ImageOptions:
    options = config.roles[name]
    assert isinstance(options, ImageOptions)
    return options


def _zeros(shape: tuple[int, int, int, int]) -> ComputedArray:
    channels, _, *plane = shape
    return ComputedArray(shape, np.float32, lambda start, stop: np.zeros((channels, stop - start, *plane), np.float32))


def _check(config: SegmentationConfig, exclusive: bool) -> None:
    """Refuse options with which nothing could be segmented.

    Raises:
        UserError: naming the option.
    """
    if not set(config.inputs) - set(config.optional_inputs):
        raise UserError("--inputs: at least one image must be there in every case")
    if strange := set(config.optional_inputs) - set(config.inputs):
        raise UserError(
            f"--optional-inputs {', '.join(sorted(strange))}: not among the inputs {', '.join(config.inputs)}"
        )
    for option, regions in (("--regions", config.regions), ("--judged", config.judged)):
        if empty := [name for name, labels in regions.items() if not labels]:
            raise UserError(f"{option} {empty[0]}: a region has at least one label, as in {option} {empty[0]}=1")
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
    if exclusive and (len(set(classes)) < len(classes) or next(iter(config.regions.values())) != (0,)):
        raise UserError("--regions: classes that exclude each other share no label, and the first is background=0")


def _listed(labels: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(labels))))


class Segmenter(Method):
    """A method whose task is segmentation; its configuration is a `SegmentationConfig`."""

    @property
    def exclusive(self) -> bool:
        """Whether regions are classes that exclude each other, the first being the background."""
        return False

    @property
    def embedded(self) -> Embedded | None:
        """The phantom that it is trained on where no data are given."""
        return None

    @property
    def expected(self) -> Sequence[Expectation]:
        """What every input should be."""
        return ()

    @abstractmethod
    def segment(self, image: Tensor) -> Tensor:
        """Probabilities of the regions, (N, regions, [D,] H, W) in [0, 1].

        Args:
            image: (N, channels of all inputs, [D,] H, W).
        """

    def build_task(self) -> Segmentation:
        return Segmentation(self.config, self.exclusive, self.embedded, self.expected)

    def check_samples(self, samples: Iterable[Sample]) -> Sequence[str]:
        """Look for every region in the label maps of the training cases, until all are found.

        Raises:
            UserError: no voxel of any region anywhere.
        """
        regions = {name: set(labels) - {0} for name, labels in self.config.regions.items()}
        regions = {name: labels for name, labels in regions.items() if labels}
        missing, annotated = dict(regions), 0
        for sample in samples:
            if not missing:
                return ()
            if self.config.labels not in sample.arrays:
                continue
            annotated, array = annotated + 1, sample.arrays[self.config.labels]
            found = {int(label) for at in range(array.shape[1]) for label in np.unique(slab(array, at, at + 1))}
            missing = {name: labels for name, labels in missing.items() if not labels & found}
        if not (annotated and missing):
            return ()
        if missing == regions:
            raise UserError(
                f"no training case has a voxel of {', '.join(missing)} in {self.config.labels}, so nothing could be "
                f"learned; correct --regions (labels {_listed(set().union(*regions.values()))}), or the label maps"
            )
        return [f"no training case has a voxel of {name} in {self.config.labels}" for name in missing]

    @property
    def image_channels(self) -> int:
        """Channels of all inputs together."""
        return sum(self.task.roles[name].channels for name in self.config.inputs)

    def annotated(
        self,
        batch_size: int,
        patch: tuple[int, int, int],
        name: str = "annotated",
        centred: float = 0.0,
        **options: Any,
    ) -> Stream:
        """The stream of cases with a label map.

        Args:
            batch_size: patches of a batch.
            patch: (slices, rows, columns).
            name: of the stream.
            centred: share of the patches that are centred on a voxel of a region, equally often of each label.
            options: others of the stream.
        """
        c = self.config
        roles = (*c.inputs, c.labels, *([c.field_of_view] if c.field_of_view else []))
        place = None
        if centred:
            labels = sorted({label for own in c.regions.values() for label in own} - {0})
            place = Balanced(c.labels, dict.fromkeys(labels, centred / len(labels)))
        return Stream(name, roles, batch_size, patch, place=place, augmentation=c.augmentation, **options)

    def image(self, batch: Batch) -> Tensor:
        """The inputs of a batch as channels, (N, channels of all inputs, [D,] H, W)."""
        return torch.cat([batch[name] for name in self.config.inputs], dim=1)

    def truth(self, batch: Batch) -> Tensor:
        """The regions of a batch, (N, regions, [D,] H, W): 1 inside, 0 outside, -1 unknown or out of the field."""
        target: Tensor = batch[self.config.labels]
        if self.config.field_of_view is None:
            return target
        return target.masked_fill(batch[self.config.field_of_view] != 1, -1.0)
