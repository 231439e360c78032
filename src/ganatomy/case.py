"""The classes for data: Role, Case, Sample, Task and Prediction describe what a system learns from and predicts.

A *case* shows one object: a patient, a slide, a vessel. It is a set of named *roles*, each of a kind that is a class:
an intensity image, a label map, points, a class, a signal. A role has three forms, and its kind knows the way between
them: the *value* a user holds (an image, points in mm, a word), the *array* that is prepared and stored on the working
grid, and the *tensor* that a network takes. A *sample* is a case on the working grid. A *task* says which roles there
are, how a sample is framed, and what is simulated for training. A *prediction* holds the outputs of a trained method
for a sample.

Nothing in this module knows a network, a device, or a kind of task.
"""

from __future__ import annotations

import copy
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ganatomy.errors import UserError
from ganatomy.images.archives import shown
from ganatomy.images.frames import Fit, Frame, Plane
from ganatomy.images.image import Image, LazyArray
from ganatomy.images.resampling import with_known_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from ganatomy.images.augmentation import Changes, Movement
    from ganatomy.images.codecs import Codec

Split = Literal["train", "val", "test"]
Array = NDArray[Any] | LazyArray
"""Prepared array of a role, (channels, slices, rows, columns); kinds without a grid store four axes, too."""
Volume = NDArray[np.float32]
"""Image of one channel, (slices, rows, columns), in physical units."""
Scores = dict[str, float]
Better = Literal["higher", "lower", "target"]
"""Direction in which a score improves; ``target`` where neither higher nor lower values are better."""

ANONYMOUS = "unnamed"
READING_ATTRIBUTES = ("meaning", "frame", "volume", "labels", "overlapping", "place")
"""Attributes of a source that change what is read from its files, and so the fingerprint of a case."""


class Openable(Protocol):
    """A source, on the disk or in memory, that opens as the value of a role."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Files of the source; empty where it has none, as a phantom."""

    def open(self) -> Any:
        """Return the value of the role, lazily where the format allows."""


@dataclass(frozen=True)
class Held:
    """A source whose value is in memory already.

    Attributes:
        value: value of a role.
        paths: files that the value was read from, if any.
    """

    value: Any
    paths: tuple[Path, ...] = ()

    def open(self) -> Any:
        """Return the value."""
        return self.value


@dataclass(frozen=True)
class Case:
    """The data of one object (a patient, a slide, a vessel): one source for every role.

    Attributes:
        name: unique name in a data set.
        subject: the patient or other subject that the case belongs to; splits are by subject.
        split: side of the split: training, validation or test.
        sources: role to the source of its value.
        label: class of the case, such as a diagnosis; None where it is not known.
        frame: name or number of the time frame, where the object was recorded over time.
        resample_to: role to whose grid the other images are resampled before anything else; None where all must lie on
            one grid.
        site: hospital, scanner or other site where it was recorded, as the data name it; None where they do not.
    """

    name: str
    subject: str
    split: Split
    sources: Mapping[str, Openable]
    label: str | None = None
    resample_to: str | None = None
    frame: str | None = None
    site: str | None = None

    @property
    def fingerprint(self) -> str:
        """Digest that changes when a file of the case changes."""
        facts = []
        for role, source in sorted(self.sources.items()):
            places = [(shown(path), path.stat()) for path in source.paths]
            states = [(str(place.resolve()), state.st_size, state.st_mtime_ns) for place, state in places]
            facts.append(
                (role, states or repr(source), [repr(getattr(source, name, None)) for name in READING_ATTRIBUTES])
            )
        return hashlib.sha256(repr((facts, self.label, self.resample_to)).encode()).hexdigest()

    @property
    def seed(self) -> int:
        """Seed of the simulation for this case; it depends on the name of the case alone."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Role(ABC):
    """A named part of a case, such as an input image or a mask; its subclass is its kind (image, label map, points).

    A new kind is one subclass: reading, framing, cutting, mirroring, encoding and writing are its methods.

    Attributes:
        name: an identifier in the field's terms, such as ``t1`` or ``vessels``; it is a column of manifests and the
            prefix of options.
        optional: whether a case may lack this role.
    """

    name: str
    optional: bool = field(default=False, kw_only=True)

    kind: ClassVar[str]
    on_grid: ClassVar[bool] = True
    """Whether arrays of this kind lie on the working grid, (channels, slices, rows, columns)."""
    has_intensities: ClassVar[bool] = False
    """Whether values are intensities, whose statistics over the training cases are kept."""
    suffix: ClassVar[str | None] = None
    """Suffix of the files that values are written to; None where the format is that of the input image."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Suffixes of the files that values are read from; empty for kinds that are read from images."""
    is_label_map: ClassVar[bool] = False
    """Whether values are labels, which are never interpolated."""

    @property
    def segments(self) -> Mapping[int, str]:
        """Label to name of the regions of a label map; empty where labels have no names."""
        return {}

    @property
    def channels(self) -> int:
        """Number of channels of the role's tensor."""
        return 1

    @property
    def codec(self) -> Codec | None:
        """Mapping of physical values to the range of the networks; None where values are taken as they are."""
        return None

    @abstractmethod
    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Return the source that a cell of a manifest names.

        Args:
            text: text of the cell.
            folder: folder that paths are relative to.
            read: function from an image file to its source.

        Raises:
            UserError: the file does not exist, or this kind cannot read the text.
        """

    def adopt(self, source: Openable) -> Openable:
        """Return a source found in a folder as one that opens as this kind, such as a label map and not an image."""
        return self.source("", Path(), lambda path: source)

    @abstractmethod
    def check(self, value: Any) -> None:
        """Refuse a value that cannot be used as this role.

        Raises:
            UserError: the value does not fit; the message names it and what is wrong.
        """

    def placed(self, value: Any, grid: Image) -> Any:
        """Return the value on the grid of the first image of its case, where its file holds only a part of that grid.

        Args:
            value: value that has been checked.
            grid: first image of the case.
        """
        return value

    def plan(self, value: Any, preparation: Preparation) -> Frame | None:
        """Return the frame from the grid of a value to the working grid; None for kinds without a grid."""
        return None

    @abstractmethod
    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return a value as the array that is prepared and stored.

        Args:
            value: value that the user holds.
            frame: frame of this role, or for kinds without a grid, the frame of the first role that has one.
        """

    @abstractmethod
    def value(self, array: Array, frame: Frame | None, like: Any) -> Any:
        """Return an array as the value that a user gets, on the grid of the source; the inverse of `array`.

        Args:
            array: array on the working grid, in physical units.
            frame: frame between the source and the working grid.
            like: value of the source, whose header and geometry are taken over; None where there is none.
        """

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write a value that `value` returned: an image in the format of the suffix, without suffix as a DICOM folder.

        Args:
            path: path of the file or folder, which is written completely or not at all.
            value: value of this kind.
            derivation: model that made the image, for DICOM.

        Raises:
            UserError: the format cannot hold the value, or the path cannot be written.
        """
        from ganatomy.images.files import write

        write(path, value, derivation=derivation)

    def bind(self, value: Any) -> Self:
        """Return the role with the numbers of one case, such as the percentiles of its image.

        Raises:
            UserError: the value has no such numbers.
        """
        return self

    @property
    def measured(self) -> bool:
        """Whether values mean something, such as CT numbers, so that their scale must not change at random."""
        return True

    @property
    def adaptive(self) -> bool:
        """Whether `bind` gives the role different numbers for every case."""
        return False

    def numbers(self) -> Mapping[str, Any]:
        """Return the numbers that `bind` has set, as values that JSON can hold."""
        return {}

    def with_numbers(self, numbers: Mapping[str, Any]) -> Self:
        """Return the role bound to numbers that `numbers` returned earlier."""
        return self

    @property
    def prepared_as(self) -> str:
        """Text that changes with all that a prepared array depends on besides the value and the preparation.

        It is a part of the key of prepared cases. Codecs are not in it: they are applied later.
        """
        return f"{self.name}: {self.kind}"

    @property
    def checked_as(self) -> str:
        """Text that changes with all that `check` depends on besides the value.

        A prepared case is checked again where it was prepared with another text.
        """
        return repr(self)

    def stored(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type in which prepared arrays of ``dtype`` are stored: float32 unless a kind overrides it."""
        return np.dtype(np.float32)

    def cut(self, array: Array, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """Return the part of an array in a block of voxels, mirrored where the block reaches beyond the edge.

        Args:
            array: array on the working grid.
            start: first slice, row and column; may be negative.
            size: number of slices, rows and columns.
        """
        return cut(np.asarray(array) if not isinstance(array, np.ndarray) else array, start, size)

    def flip(self, patch: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
        """Return a patch mirrored along some axes (0 slices, 1 rows, 2 columns)."""
        return np.flip(patch, tuple(1 + axis for axis in axes))

    def quarter_turns(self, patch: NDArray[Any], turns: int) -> NDArray[Any]:
        """Return a square patch rotated in its plane by a multiple of 90 degrees."""
        return np.rot90(patch, turns, axes=(2, 3))

    def move(self, patch: NDArray[Any], movement: Movement) -> NDArray[Any]:
        """Return a patch that is rotated, scaled, shifted or deformed by a random movement.

        Args:
            patch: patch from `cut`, wider by the movement's reach.
            movement: one movement for all roles of the patch.

        Raises:
            ValueError: this kind cannot be moved.
        """
        raise ValueError(f"{self.name} is of the kind {self.kind}, which cannot be moved: change its images only")

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """Return an encoded patch for a network with ``dims`` spatial axes, (channels, [[slices,] rows,] columns)."""
        import torch

        return spatial(torch.from_numpy(np.array(patch, dtype=np.float32)), dims)

    def encoded(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Map physical values to the range and channels of the networks; any shape with channels first."""
        return np.asarray(values, np.float32)

    def decoded(self, tensor: NDArray[np.float32]) -> NDArray[Any]:
        """Map the output of a network to physical values; any shape with channels first."""
        return tensor

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """Return a random tensor like those of `tensor`, for tests: (channels, *size) in a plausible range."""
        import torch

        return 0.5 + 0.2 * torch.randn(self.channels, *size, generator=generator)

    def overlay(self, array: NDArray[Any]) -> Mapping[str, NDArray[np.bool_]]:
        """Return regions to outline over an image: name to mask, (rows, columns); empty for kinds without regions.

        Args:
            array: one slice of an array, (channels, rows, columns).
        """
        return {}

    def describe(self) -> dict[str, Any]:
        """Return the role as values that JSON can hold, for run files."""
        return {"kind": self.kind, "channels": self.channels, "optional": self.optional}


class Preparation(BaseModel):
    """Settings on which prepared cases depend, and no others: codecs and windows are applied later.

    The digest is the key of prepared cases; a task whose preparation has more settings extends this class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plane: Plane = "axial"  # plane of the slices of the working grid
    spacing: tuple[float, float, float] | None = None  # mm between slices, rows, columns; none keeps the source's
    size: tuple[int, ...] | None = None  # rows and columns, or slices, rows and columns; none takes any size
    fit: Fit = "cover"  # how an image of other proportions is brought to the size
    fill: tuple[tuple[str, float], ...] = ()  # role and the value that its images are padded with, where it is not 0

    @property
    def digest(self) -> str:
        """Digest of all settings: 24 hexadecimal digits."""
        text = f"{type(self).__module__}.{type(self).__qualname__}|{self.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def frame(self, image: Image, role: str) -> Frame:
        """Return the frame from the grid of an image of this role to the working grid."""
        return Frame.plan(image, self.plane, self.spacing, self.size, self.fit, dict(self.fill).get(role, 0.0))


@dataclass(frozen=True, eq=False)
class Sample:
    """A case on the working grid, in physical units.

    Attributes:
        case: the case that was framed.
        arrays: role to array, in memory, memory-mapped or lazy.
        affines: role to the affine (4, 4) of its working grid, for roles on a grid.
        roles: roles of the task, by name.
        frames: role to the frame between its source and the working grid; empty for cases read from the store.
        values: role to the value that the user gave; empty for cases read from the store.
        notes: remarks on this case for the user, in sentences.
        numbers: role to the numbers of its codec for this case, where they have been kept.
    """

    case: Case
    arrays: Mapping[str, Array]
    affines: Mapping[str, NDArray[np.float64]]
    roles: Mapping[str, Role]
    frames: Mapping[str, Frame] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    numbers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def first(self) -> str:
        """Name of the first role on a grid, else of the first role; slices are counted on its grid."""
        return next((name for name in self.arrays if name in self.affines), next(iter(self.arrays)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the working grid, (slices, rows, columns)."""
        _, slices, rows, columns = self.arrays[self.first].shape
        return slices, rows, columns

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Spacing of slices, rows and columns of the working grid in mm; 1 where there is no grid."""
        return self.spacing_of(self.first)

    def spacing_of(self, role: str) -> tuple[float, float, float]:
        """Return the spacing of slices, rows and columns of the grid of a role in mm; 1 where it has no grid."""
        if role not in self.affines:
            return (1.0, 1.0, 1.0)
        slices, rows, columns = np.linalg.norm(self.affines[role][:3, :3], axis=0)
        return float(slices), float(rows), float(columns)

    @cached_property
    def _bound(self) -> dict[str, Role]:
        return {}

    def role(self, name: str) -> Role:
        """Return a role bound to the numbers of this case, which are computed at the first call.

        Raises:
            UserError: the value has no such numbers.
        """
        if name not in self._bound:
            role = self.roles[name]
            if role.adaptive and name in self.numbers:
                role = role.with_numbers(self.numbers[name])
            elif role.adaptive and name in self.values:
                role = role.bind(self.values[name])
            elif role.adaptive and name in self.arrays:
                role = role.bind(self.image(name))
            self._bound[name] = role
        return self._bound[name]

    def image(self, role: str) -> Image:
        """Return the array of a role as an image on the working grid."""
        codec, given = self.roles[role].codec, self.values.get(role)
        unit = given.unit if isinstance(given, Image) else codec.unit if codec else None
        image = Image(self.arrays[role], self.affines[role], unit)
        return replace(image, header=given.header) if isinstance(given, Image) else image

    def slices(self, start: int, stop: int, channels: int = 1) -> dict[str, Volume]:
        """Return slices ``start`` to ``stop`` of every role on a grid, shaped by `in_channels`."""
        placed = {name: values for name, values in self.arrays.items() if name in self.affines}
        return {name: in_channels(slab(values, start, stop), channels) for name, values in placed.items()}

    def with_arrays(self, arrays: Mapping[str, Array], affines: Mapping[str, NDArray[np.float64]]) -> Sample:
        """Return the sample with additional or replaced arrays."""
        return replace(self, arrays=_Arrays(self.arrays, arrays), affines={**self.affines, **affines})

    def without(self, roles: Collection[str]) -> Sample:
        """Return the sample without the arrays of some roles."""
        return replace(self, arrays=_Arrays(self.arrays, left_out=roles))


class _Arrays(Mapping[str, Array]):
    """Arrays of a sample, some of them replaced, added or left out.

    Each is looked up when it is asked for, since arrays of prepared cases are files that are opened then.
    """

    def __init__(self, arrays: Mapping[str, Array], more: Mapping[str, Array] = {}, left_out: Collection[str] = ()):
        self._from = {name: one for one in (arrays, more) for name in one if name not in left_out}

    def __getitem__(self, name: str) -> Array:
        return self._from[name][name]

    def __contains__(self, name: object) -> bool:
        return name in self._from

    def __iter__(self) -> Iterator[str]:
        return iter(self._from)

    def __len__(self) -> int:
        return len(self._from)


class Compared(NamedTuple):
    """An input image that an output is compared with."""

    image: Image
    """The input image on the grid of its source."""
    windows: tuple[Any, Any] | None = None
    """Ranges (`Window`) of the input and of the output where their contrasts differ; None where they are the same."""
    counterfactual: bool = False
    """Whether the output shows what was not there, such as an image without its lesions."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The outputs of a trained method for a sample.

    Attributes:
        arrays: role to array on the working grid, in physical units, computed slab by slab when it is read.
        outputs: role to the value that a user gets, on the grid of the source, the most important one first.
        tables: name to rows of a table, such as volumes in mm³.
        facts: plain values for the note that is written beside an output.
        notes: remarks for the user, in sentences.
        compared: role to the input that it should resemble; such outputs are rounded to the input's integers.
        missing: roles that could not be predicted; files of earlier results that have their names are removed.
    """

    arrays: Mapping[str, Array]
    outputs: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    compared: Mapping[str, Compared] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def __getitem__(self, role: str) -> Any:
        """Return the value that was made for a role, on the grid of the source."""
        return self.outputs[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    @property
    def main(self) -> Any:
        """Most important output, which is the first one."""
        return next(iter(self.outputs.values()))

    def slices(self, start: int, stop: int, channels: int = 1) -> dict[str, Volume]:
        """Return slices ``start`` to ``stop`` of every array, shaped by `in_channels`."""
        return {name: in_channels(slab(values, start, stop), channels) for name, values in self.arrays.items()}


class Task(ABC):
    """A kind of problem, such as segmentation: roles of a case, framing, simulation and validation scores.

    A task is a plug-in. The engine imports this class only, and finds the rest by ``predictors`` and ``judge``.
    """

    name: ClassVar[str]
    predictors: ClassVar[Mapping[str, Any]]
    """Ability, such as ``restore``, to its predictor's class or to ``"module:Class"``; the first is the default."""
    judge: ClassVar[Any]
    """Class of the judge, or ``"module:Class"``."""

    roles: Mapping[str, Role]
    """Name to role, in order."""
    given: str
    """Role of the images of a folder without a manifest."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Groups of roles, any of which makes a case usable (unpaired data); empty means that all roles that are not
    optional are needed."""
    phantom: str | type[Any]
    """Name of the built-in phantom, or its class where it is not part of the package."""
    phantom_subjects: int = 13
    """Number of phantom patients in a data set, unless the user gives another; a fifth, here three, are test patients,
    and fewer decide no comparison."""
    fewest_validation_images: ClassVar[int] = 1
    """Smallest number of validation images from which the validation scores can be computed."""
    constant_scores: Mapping[str, float] = {}
    """Validation score to its value for an empty or constant output, where that is the same for all cases."""
    expects: Mapping[str, Sequence[Any]] = {}
    """Role to properties that its images should have (`ganatomy.roles.expectations`), checked where possible."""
    fitted: Mapping[str, NDArray[Any]]
    """Numbers learned from training cases, by name; empty before training."""
    own_scales: frozenset[str] = frozenset()
    """Roles whose scale is that of one case, in a task that is bound to the case."""

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the roles of a complete sample."""
        return tuple(name for name, role in self.roles.items() if not role.optional)

    @property
    def optional(self) -> tuple[str, ...]:
        """Names of the roles that only some cases have."""
        return tuple(name for name, role in self.roles.items() if role.optional)

    @property
    def label_maps(self) -> tuple[str, ...]:
        """Names of the roles that are label maps."""
        return tuple(name for name, role in self.roles.items() if role.is_label_map)

    @property
    def codecs(self) -> Mapping[str, Codec]:
        """Role to its codec, not yet bound to a case; roles without codec are left out."""
        return {name: role.codec for name, role in self.roles.items() if role.codec is not None}

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes of the role ``label``, where there is one; of other cases, those that `takes_label` says are used."""
        found: tuple[str, ...] = getattr(self.roles.get("label"), "classes", ())
        return found

    def takes_label(self, label: str | None) -> bool:
        """Return whether a case with this label, or without one, is used, in a task with classes."""
        return label in self.classes

    @property
    def preparation(self) -> Preparation:
        """Settings on which prepared cases depend."""
        return Preparation()

    @abstractmethod
    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        """Return the arguments of the phantom for ``size`` rows and columns; None means the task's default."""

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        """Return role to part of the phantom, for a phantom patient with this label."""
        return {self.given: "image"}

    def usable(self, roles: Iterable[str]) -> bool:
        """Return whether a case with these roles can be used for training or evaluation."""
        there = set(roles)
        return self.given in there or any(set(group) <= there for group in self.groups)

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        """Return a sample made from values, lazily; used in training and when a trained method is applied.

        Args:
            values: role to value; roles that the task does not know are ignored.
            case: case of the values; None where a trained method is applied.

        Raises:
            UserError: a value does not fit its role, or two of them do not lie on one grid.
        """
        known = {name: role for name, role in self.roles.items() if name in values}
        for name, role in known.items():
            role.check(values[name])
        values = with_known_pixels(values)
        first = next((values[name] for name in known if isinstance(values[name], Image)), None)
        if first is not None:
            values = {name: role.placed(values[name], first) for name, role in known.items()}
        preparation = self.preparation
        frames = {name: role.plan(values[name], preparation) for name, role in known.items()}
        placed = {name: frame for name, frame in frames.items() if frame is not None}
        check_alignment({name: values[name] for name in placed}, placed)
        grid = next(iter(placed.values()), None)
        arrays = {name: role.array(values[name], placed.get(name, grid)) for name, role in known.items()}
        return Sample(
            case or Case(ANONYMOUS, ANONYMOUS, "test", {}),
            arrays,
            {name: frame.working_affine for name, frame in placed.items()},
            self.roles,
            placed,
            {name: values[name] for name in known},
            (*notes_on(values[name] for name in placed), *self._unexpected(values)),
        )

    def _unexpected(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield a sentence for every image that does not have a property that the system expects."""
        for name, expectations in self.expects.items():
            if not isinstance(values.get(name), Image):
                continue
            for expected in expectations:
                problem = expected.problem(values[name]) if expected.problem else None
                if problem:
                    yield f"{label_of(values[name])} ({name}) should be {expected.words}, but {problem}"

    def simulate(self, sample: Sample, seed: int) -> Sample:
        """Return the sample with arrays simulated for training and evaluation, lazily, such as a low-dose image.

        Args:
            sample: sample from `frame`.
            seed: seed of the case.
        """
        return sample

    def changes(self) -> Changes:
        """Return the random changes of training patches that leave a case true, which may be added to small data sets.

        A movement changes all roles of a patch together. Intensities may change in images that networks are given, and
        not in those that they are to predict. Unless a task overrides this, there are none.
        """
        from ganatomy.images.augmentation import Augmentation, Changes

        return Changes(Augmentation(), "its task does not say which changes would leave its cases true")

    def bound_to(self, sample: Sample) -> Self:
        """Return this task with the scales of one case, with which that case is scored and displayed.

        The copy shares everything else with this task. Roles that the case lacks keep their unbound codecs.
        """
        own = {name: sample.role(name) for name, role in self.roles.items() if role.adaptive and name in sample.arrays}
        bound = copy.copy(self)
        bound.roles = {**self.roles, **own}
        bound.own_scales = frozenset(own)
        return bound

    def same_contrast(self, output: str) -> str | None:
        """Return the input that has the contrast, and so the scale, of an output; None where there is none."""
        return None

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """Return numbers fitted on training cases only, such as an atlas or class weights; saved with the weights.

        Unless a task overrides this, they are statistics of the intensities of every image, with which later inputs
        are compared.
        """
        return intensity_statistics(samples)

    def only_tested(self, label: str | None) -> bool:
        """Return whether cases with this label are never used for training and all go to testing."""
        return False

    def trainable(self, label: str | None, arrays: Mapping[str, Array]) -> NDArray[np.bool_] | None:
        """Return which slices of a case may be used for training, (slices); None means all.

        Args:
            label: label of the case.
            arrays: role to array, (channels, slices, rows, columns) in physical units.
        """
        return None

    def trainable_slices(self, sample: Sample) -> NDArray[np.bool_] | None:
        """Return which slices of a sample may be used for training, (slices); None means all.

        A task overrides this in place of `trainable` where the choice depends on the scale of the case.
        """
        return self.trainable(sample.case.label, sample.arrays)

    def images_in(self, slices: int) -> int:
        """Return the number of images that the validation scores see in consecutive slices of a case."""
        return slices

    @property
    @abstractmethod
    def directions(self) -> Mapping[str, Better]:
        """Validation score to the direction in which it improves."""

    @property
    @abstractmethod
    def selection(self) -> str:
        """Name of the validation score by which the best weights are chosen."""

    @abstractmethod
    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Return the validation scores of some slices of one case, each named with its variant.

        Where the main output has several channels, they are stacked along the slices and count as slices: squared and
        absolute errors are means over all channels, SSIM is the mean over the channels.

        Args:
            output: role to array of a prediction, (channels · slices, rows, columns), in physical units.
            sample: role to array of the case in the same shape; roles with another number of channels are averaged
                and repeated.
            spacing: spacing of slices, rows and columns in mm.
        """


CLOSE = 0.1
"""Largest distance between corners of two grids, as a fraction of a voxel, at which they count as one grid."""


def check_alignment(values: Mapping[str, Any], frames: Mapping[str, Frame]) -> None:
    """Refuse values whose voxels do not lie at the same positions in the patient.

    Raises:
        UserError: two grids differ; the message names both files, the difference and the remedy.
    """
    names = list(frames)
    for name in names[1:]:
        first, other = frames[names[0]], frames[name]
        if (problem := _apart(first, other)) is None:
            continue
        labels = [label_of(values[role]) for role in (name, names[0])]
        raise UserError(
            f"{labels[0]} ({name}) and {labels[1]} ({names[0]}) of the same case do not lie on one grid: {problem}; "
            f"register them, or add --resample-to {names[0]}"
        )


def _apart(first: Frame, other: Frame) -> str | None:
    """Describe how two working grids differ; None where they are the same."""
    if first.turned != other.turned:
        return f"{_extents_text(other.turned)} voxels against {_extents_text(first.turned)}"
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.float64)
    corners[:, :3] *= np.maximum(np.array(first.size) - 1, 0)
    distance = (corners @ (first.working_affine - other.working_affine).T)[:, :3]
    apart = float(np.linalg.norm(distance, axis=1).max())
    steps = np.linalg.norm(first.working_affine[:3, :3], axis=0)
    if apart > CLOSE * steps.min():
        return f"corners are up to {apart:.3g} mm apart"
    return None


def _extents_text(shape: Sequence[int]) -> str:
    return " x ".join(str(extent) for extent in shape)


def label_of(value: Any) -> str:
    """Return the name of a value for messages: its file, where it has one."""
    return value.header.label if isinstance(value, Image) else str(getattr(value, "label", "the value in memory"))


def notes_on(values: Iterable[Any]) -> Iterator[str]:
    """Yield remarks on several values that may not show the same place of the same patient, in sentences."""
    images = [value for value in values if isinstance(value, Image)]
    headers = [image.header for image in images]
    for image in images:
        if image.header.sized_by:
            _, rows, columns = image.spacing
            told = f"{image.header.sized_by} says pixels of {rows:.4g} x {columns:.4g} mm"
            yield f"{image.header.label}: {told}; --pixel-mm states another size"
        if image.header.unspaced and image.header.modality in ("CT", "MR", "PT"):
            told = "its files state no distance of pixels, each of which counts as 1 mm"
            yield f"{image.header.label}: {told}; lengths, areas and volumes in mm are not known"
        if not image.header.placed and image.header.modality in ("CT", "MR", "PT") and image.header.kind == "dicom":
            told = "its files state no positions of the slices; where these lie in the patient is not known"
            yield f"{image.header.label}: {told}"
    frames = {header.frame_of_reference for header in headers} - {None}
    if len({header.subject for header in headers} - {None}) > 1:
        yield "the images are of different patients, according to their files"
    files = [header.paths for header in headers if header.paths]
    if len(set(files)) < len(files):
        yield f"{headers[0].label} is given for more than one role"
    if len(frames) > 1:
        yield "the images have different frames of reference: their grids agree, but they may not be aligned"


def cut(array: NDArray[Any], start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
    """Return a block of a (channels, slices, rows, columns) array, mirrored where it reaches beyond the edge."""
    index = []
    for first, length, extent in zip(start, size, array.shape[1:], strict=True):
        positions = np.arange(first, first + length)
        if first < 0 or first + length > extent:
            positions = mirrored(positions, extent)
        index.append(positions)
    if all(positions[-1] - positions[0] == len(positions) - 1 for positions in index):
        return np.asarray(array[:, *(slice(positions[0], positions[-1] + 1) for positions in index)])
    return np.asarray(array[:, index[0][:, None, None], index[1][:, None], index[2]])


def mirrored(positions: NDArray[np.intp], extent: int) -> NDArray[np.intp]:
    """Reflect indices at the edges of an axis without repeating the edge, as often as necessary."""
    if extent == 1:
        return np.zeros_like(positions)
    folded = np.abs(positions) % (2 * (extent - 1))
    return np.where(folded < extent, folded, 2 * (extent - 1) - folded)


def spatial(values: Tensor, dims: int) -> Tensor:
    """Drop the leading spatial axes of (channels, slices, rows, columns) that a network with ``dims`` axes lacks.

    Raises:
        ValueError: one of these axes is longer than 1.
    """
    dropped = values.shape[1 : 4 - dims]
    if any(extent != 1 for extent in dropped):
        raise ValueError(f"a patch of {tuple(values.shape[1:])} voxels has more than {dims} axes")
    return values.reshape(values.shape[0], *values.shape[4 - dims :])


def slab(array: Array, start: int, stop: int) -> NDArray[Any]:
    """Return slices ``start`` to ``stop`` of an array in memory, memory-mapped or lazy."""
    return array.slab(start, stop) if isinstance(array, LazyArray) else np.asarray(array[:, start:stop])


def grey(values: NDArray[Any]) -> Volume:
    """Average the channels of an array: (channels, slices, rows, columns) to (slices, rows, columns)."""
    return np.asarray(values[0] if len(values) == 1 else values.mean(axis=0))


def in_channels(values: NDArray[Any], channels: int) -> Volume:
    """Stack channels along slices: (N, slices, rows, columns) to (channels · slices, rows, columns).

    Images are scored channel by channel, since red and blue of equal brightness differ. Where ``channels`` is not N,
    the average over the N channels takes the place of every channel.
    """
    if channels == 1:
        return grey(values)
    apart = values if len(values) == channels else np.stack([grey(values)] * channels)
    return np.asarray(apart.reshape(-1, *values.shape[2:]))


QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
"""Quantiles of the intensities of an image that `intensity_statistics` keeps."""
MOST_VOXELS, MOST_SLICES = 2**16, 64
"""Approximate largest number of voxels of a case, and largest number of its slices, that its quantiles are taken over;
both are evenly spaced."""


def intensity_quantiles(array: Array) -> NDArray[np.float32]:
    """Return the `QUANTILES` of an image, (channels, slices, rows, columns), of which a part is read."""
    slices = int(array.shape[1])
    chosen = np.unique(np.linspace(0, slices - 1, min(slices, MOST_SLICES)).round().astype(int))
    size = len(chosen) * math.prod(array.shape) // slices
    step = max(1, size // MOST_VOXELS)
    some = [slab(array, int(number), int(number) + 1).reshape(-1)[::step] for number in chosen]
    return np.asarray(np.quantile(np.concatenate(some), QUANTILES), np.float32)


def intensity_statistics(samples: Iterable[Sample]) -> dict[str, NDArray[np.float32]]:
    """Return quantiles of the intensities of every image role and the ends of scales that are bound per case.

    Returns:
        ``quantiles.ROLE``, (cases, 9) for `QUANTILES`; ``scale.ROLE``, (cases, 2): the values that are mapped to 0 and
        1 in the range of the networks, where codecs are bound per case.
    """
    found: dict[str, list[NDArray[np.float32]]] = {}
    for sample in samples:
        for name, array in sample.arrays.items():
            if not (sample.roles[name].has_intensities and name in sample.affines):
                continue
            found.setdefault(f"quantiles.{name}", []).append(intensity_quantiles(array))
            codec = sample.role(name).codec
            if sample.roles[name].adaptive and codec is not None:
                ends = codec.decode(np.array([0.0, 1.0], np.float32))
                found.setdefault(f"scale.{name}", []).append(np.asarray(ends, np.float32))
    return {name: np.stack(rows) for name, rows in found.items()}
