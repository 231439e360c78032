"""The second vocabulary: Role, Case, Sample, Task, Prediction. What a system learns from, and what it makes.

A *case* shows one object: a patient, a slide, a vessel. It is a set of named *roles*, each of a kind that is a class:
an intensity image, a label map, points, a class, a signal. A role has three forms, and its kind knows the way between
them: the *value* a user holds (an image, points in mm, a word), the *array* that is prepared and stored on the working
grid, and the *tensor* that a network sees. A *sample* is a case on the working grid. A *task* says which roles there
are, how a sample is framed, and what is simulated for training. A *prediction* is what a trained method makes of a
sample.

Nothing in this module knows a network, a device, or a kind of task.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ganatomy.errors import UserError
from ganatomy.images.frames import Fit, Frame, Plane
from ganatomy.images.image import Image, LazyArray

if TYPE_CHECKING:
    from torch import Tensor

    from ganatomy.images.augmentation import Movement
    from ganatomy.images.codecs import Codec

Split = Literal["train", "val", "test"]
Array = NDArray[Any] | LazyArray
"""(channels, slices, rows, columns) of a role on a grid; what other kinds store has four axes too."""
Volume = NDArray[np.float32]
"""(slices, rows, columns) in physical units."""
Scores = dict[str, float]
Better = Literal["higher", "lower", "target"]
"""Which side of a score is the better one; ``target`` where neither is."""

ANONYMOUS = "unnamed"
READING = ("meaning", "frame", "labels", "overlapping", "place")
"""Attributes of a source that change what is read from its files."""


class Openable(Protocol):
    """Something on the disk or in memory that opens as the value of a role."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files; empty where it has none, as a phantom."""

    def open(self) -> Any:
        """The value, lazily where the format allows."""


@dataclass(frozen=True)
class Held:
    """A value that is in memory already.

    Attributes:
        value: of a role.
        paths: files that it was read from, if any.
    """

    value: Any
    paths: tuple[Path, ...] = ()

    def open(self) -> Any:
        """The value."""
        return self.value


@dataclass(frozen=True)
class Case:
    """What shows one object, by role.

    Attributes:
        name: unique in a data set.
        subject: whom it belongs to; splits are by subject.
        split: its side.
        sources: role to where its value is read from.
        label: what the object is, such as a diagnosis; None where nobody says.
        frame: name or number of the time frame, of an object that was recorded over time.
        resample_to: role whose grid the other images are brought to before anything else; None where all must lie on
            one grid.
    """

    name: str
    subject: str
    split: Split
    sources: Mapping[str, Openable]
    label: str | None = None
    resample_to: str | None = None
    frame: str | None = None

    @property
    def fingerprint(self) -> str:
        """A digest that changes when a file of the case does."""
        facts = []
        for role, source in sorted(self.sources.items()):
            states = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in source.paths]
            facts.append((role, states or repr(source), [repr(getattr(source, name, None)) for name in READING]))
        return hashlib.sha256(repr((facts, self.label, self.resample_to)).encode()).hexdigest()

    @property
    def seed(self) -> int:
        """Seed of what is simulated for this case; depends on its name alone."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Role(ABC):
    """A part that something plays in a case; its subclass, the kind, says what that something is.

    A new kind is one subclass: reading, framing, cutting, mirroring, encoding and writing live with it.

    Attributes:
        name: an identifier in the field's terms, such as ``t1`` or ``vessels``; it is a column of manifests and the
            prefix of options.
        optional: whether a case may lack it.
    """

    name: str
    optional: bool = field(default=False, kw_only=True)

    kind: ClassVar[str]
    on_grid: ClassVar[bool] = True
    """Whether arrays lie on the working grid, (channels, slices, rows, columns)."""
    has_intensities: ClassVar[bool] = False
    """Whether values are intensities, of which statistics are kept."""
    suffix: ClassVar[str | None] = None
    """Of files that values are written to; None where they are written as the image that they were made from."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Of files that values are read from; empty for kinds that are read from images."""
    is_label_map: ClassVar[bool] = False
    """Whether values are labels, between which there is nothing to interpolate."""

    @property
    def channels(self) -> int:
        """Channels of its tensor."""
        return 1

    @property
    def codec(self) -> Codec | None:
        """How physical values map to the range of the networks; None where values are taken as they are."""
        return None

    @abstractmethod
    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """What a cell of a manifest stands for.

        Args:
            text: of the cell.
            folder: that paths are relative to.
            read: makes a source of an image file.

        Raises:
            UserError: no such file, or a text that this kind does not understand.
        """

    def adopt(self, source: Openable) -> Openable:
        """A source that was found in a folder, to be opened as this kind: label maps as labels and not as pictures."""
        return self.source("", Path(), lambda path: source)

    @abstractmethod
    def check(self, value: Any) -> None:
        """Refuse a value that cannot play this role.

        Raises:
            UserError: naming it and what is wrong.
        """

    def placed(self, value: Any, grid: Image) -> Any:
        """The value on the grid of the first image of its case, where its file holds only a part of that grid.

        Args:
            value: that has been checked.
            grid: of the case.
        """
        return value

    def plan(self, value: Any, preparation: Preparation) -> Frame | None:
        """The way from the grid of a value to the working grid; None for kinds without a grid."""
        return None

    @abstractmethod
    def array(self, value: Any, frame: Frame | None) -> Array:
        """A value as it is prepared and stored.

        Args:
            value: that the user holds.
            frame: of this role, or for kinds without a grid, of the first role that has one.
        """

    @abstractmethod
    def value(self, array: Array, frame: Frame | None, like: Any) -> Any:
        """An array as the value that a user gets, on the grid of the source; the inverse of `array`.

        Args:
            array: on the working grid, in physical units.
            frame: back to the source.
            like: the value that the source had, whose header and geometry are taken over; None where there is none.
        """

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write a value that `value` returned; images by suffix, without one as a DICOM folder.

        Args:
            path: of a file or folder, which appears whole or not at all.
            value: of this kind.
            derivation: for DICOM: which model made the image.

        Raises:
            UserError: the format cannot hold the value, or the place cannot be written.
        """
        from ganatomy.images.files import write

        write(path, value, derivation=derivation)

    def bind(self, value: Any) -> Self:
        """The role with the numbers of one case put in, such as the percentiles of its image.

        Raises:
            UserError: the value has no such numbers.
        """
        return self

    @property
    def adaptive(self) -> bool:
        """Whether `bind` puts in numbers of its own for every case."""
        return False

    def numbers(self) -> Mapping[str, Any]:
        """The numbers that `bind` has put in, as plain values."""
        return {}

    def with_numbers(self, numbers: Mapping[str, Any]) -> Self:
        """The role bound to `numbers` that were kept."""
        return self

    @property
    def prepared_as(self) -> str:
        """What its prepared array depends on beside the value and the preparation; part of the key of prepared cases.

        Codecs are not in it: they are applied later.
        """
        return f"{self.name}: {self.kind}"

    def stored(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """The type in which prepared arrays of ``dtype`` are kept: what networks see as numbers is float32."""
        return np.dtype(np.float32)

    def cut(self, array: Array, start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
        """The part of an array in a block of voxels, mirrored where it reaches beyond the edge.

        Args:
            array: on the working grid.
            start: first slice, row and column; may be negative.
            size: slices, rows and columns.
        """
        return cut(np.asarray(array) if not isinstance(array, np.ndarray) else array, start, size)

    def flip(self, patch: NDArray[Any], axes: Sequence[int]) -> NDArray[Any]:
        """A patch mirrored along some axes (0 slices, 1 rows, 2 columns)."""
        return np.flip(patch, tuple(1 + axis for axis in axes))

    def quarter_turns(self, patch: NDArray[Any], turns: int) -> NDArray[Any]:
        """A square patch turned in its plane by a multiple of 90 degrees."""
        return np.rot90(patch, turns, axes=(2, 3))

    def move(self, patch: NDArray[Any], movement: Movement) -> NDArray[Any]:
        """A patch turned, enlarged, shifted or bent at random.

        Args:
            patch: from `cut`, wider by the movement's reach.
            movement: of everything that the patch holds.

        Raises:
            ValueError: this kind cannot be moved.
        """
        raise ValueError(f"{self.name} is of the kind {self.kind}, which cannot be moved: change its images only")

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """A patch as a network with ``dims`` spatial axes sees it, (channels, [[slices,] rows,] columns), encoded."""
        import torch

        return spatial(torch.from_numpy(np.array(patch, dtype=np.float32)), dims)

    def encoded(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Physical values in the range of the networks, with the channels of tensors; any shape with channels first."""
        return np.asarray(values, np.float32)

    def decoded(self, tensor: NDArray[np.float32]) -> NDArray[Any]:
        """Output of a network in the range of the networks, to physical values; any shape with channels first."""
        return tensor

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """A tensor like those of `tensor`, for tests: (channels, *size) in a plausible range."""
        import torch

        return 0.5 + 0.2 * torch.randn(self.channels, *size, generator=generator)

    def overlay(self, array: NDArray[Any]) -> Mapping[str, NDArray[np.bool_]]:
        """Outlines to draw over an image: name to where it is, (rows, columns); none unless a kind has any.

        Args:
            array: one slice of an array, (channels, rows, columns).
        """
        return {}

    def describe(self) -> dict[str, Any]:
        """The role as plain values, for run files."""
        return {"kind": self.kind, "channels": self.channels, "optional": self.optional}


class Preparation(BaseModel):
    """Everything that changes a prepared case, and nothing else: codecs and windows are applied later.

    Its digest is the key of prepared cases; a task that prepares more extends it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    plane: Plane = "axial"  # of the slices of the working grid
    spacing: tuple[float, float, float] | None = None  # mm between slices, rows, columns; none keeps the source's
    size: tuple[int, ...] | None = None  # rows and columns, or slices, rows and columns; none takes any size
    fit: Fit = "cover"  # how an image of other proportions gets to the size
    fill: tuple[tuple[str, float], ...] = ()  # role and the value around what is padded, where that is not 0

    @property
    def digest(self) -> str:
        """A key of 24 hexadecimal digits."""
        text = f"{type(self).__module__}.{type(self).__qualname__}|{self.model_dump_json()}"
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def frame(self, image: Image, role: str) -> Frame:
        """The frame of an image that plays a role."""
        return Frame.plan(image, self.plane, self.spacing, self.size, self.fit, dict(self.fill).get(role, 0.0))


@dataclass(frozen=True, eq=False)
class Sample:
    """A case on the working grid, in physical units.

    Attributes:
        case: whose.
        arrays: role to array, in memory, memory-mapped or lazy.
        affines: role to (4, 4) of its working grid, for roles on a grid.
        roles: of the task, by name.
        frames: role to the way back to its source; empty for cases read from the store.
        values: role to what the user gave; empty for cases read from the store.
        notes: what a user should know about this case, in sentences.
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
        """The first role on a grid, else the first of all: its grid is what slices are counted on."""
        return next((name for name in self.arrays if name in self.affines), next(iter(self.arrays)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns) of the working grid."""
        _, slices, rows, columns = self.arrays[self.first].shape
        return slices, rows, columns

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """mm between slices, rows and columns of the working grid; 1 where there is no grid."""
        return self.spacing_of(self.first)

    def spacing_of(self, role: str) -> tuple[float, float, float]:
        """mm between slices, rows and columns of the grid of a role."""
        if role not in self.affines:
            return (1.0, 1.0, 1.0)
        slices, rows, columns = np.linalg.norm(self.affines[role][:3, :3], axis=0)
        return float(slices), float(rows), float(columns)

    @cached_property
    def _bound(self) -> dict[str, Role]:
        return {}

    def role(self, name: str) -> Role:
        """A role with the numbers of this case put in, computed when first asked for.

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
        """A role on a grid as an image on the working grid."""
        codec, given = self.roles[role].codec, self.values.get(role)
        unit = given.unit if isinstance(given, Image) else codec.unit if codec else None
        image = Image(self.arrays[role], self.affines[role], unit)
        return replace(image, header=given.header) if isinstance(given, Image) else image

    def slices(self, start: int, stop: int, channels: int = 1) -> dict[str, Volume]:
        """Slices ``start`` to ``stop`` of every role on a grid, (channels · slices, rows, columns): `in_channels`."""
        placed = {name: values for name, values in self.arrays.items() if name in self.affines}
        return {name: in_channels(slab(values, start, stop), channels) for name, values in placed.items()}

    def with_arrays(self, arrays: Mapping[str, Array], affines: Mapping[str, NDArray[np.float64]]) -> Sample:
        """The sample with more roles, or others in place of its own."""
        return replace(self, arrays={**self.arrays, **arrays}, affines={**self.affines, **affines})


class Compared(NamedTuple):
    """An input that an output should resemble."""

    image: Image
    """On the grid of the source."""
    windows: tuple[Any, Any] | None = None
    """Ranges (`Window`) of the input and of the output where their contrasts differ; None where they look alike."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a trained method makes of a sample.

    Attributes:
        arrays: role to array on the working grid, in physical units, computed slab by slab when it is read.
        outputs: role to the value that a user gets, on the grid of the source, the most important one first.
        tables: name to rows of a table, such as volumes in mm³.
        facts: what belongs into the note beside an output.
        notes: what a user should know, in sentences.
        compared: role to the input that it should resemble; such outputs are rounded to the input's integers.
        missing: roles that could not be made; files of earlier results that have their names are removed.
    """

    arrays: Mapping[str, Array]
    outputs: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    compared: Mapping[str, Compared] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def __getitem__(self, role: str) -> Any:
        """The value of a role."""
        return self.outputs[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    @property
    def main(self) -> Any:
        """The most important output."""
        return next(iter(self.outputs.values()))

    def slices(self, start: int, stop: int, channels: int = 1) -> dict[str, Volume]:
        """Slices ``start`` to ``stop`` of every array, (channels · slices, rows, columns): `in_channels`."""
        return {name: in_channels(slab(values, start, stop), channels) for name, values in self.arrays.items()}


class Task(ABC):
    """A kind of work: which roles a case has, how it is framed, what is simulated, and what a score is.

    A task is a plug-in. The engine knows this class alone, and finds the rest by ``predictors`` and ``judge``.
    """

    name: ClassVar[str]
    predictors: ClassVar[Mapping[str, Any]]
    """Ability, such as ``restore``, to the class of its predictor, or to ``"module:Class"``; the first is the usual."""
    judge: ClassVar[Any]
    """The class of the judge, or ``"module:Class"``."""

    roles: Mapping[str, Role]
    """Name to role, in order."""
    given: str
    """The role that the images of a plain folder play."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Groups of roles, any of which makes a case usable (unpaired data); none means that all that are not optional
    are needed."""
    phantom: str | type[Any]
    """Name of the embedded phantom, or its class where it is not part of the package."""
    phantom_subjects: int = 10
    """How many of its patients make a data set, unless the user says."""
    expects: Mapping[str, Sequence[Any]] = {}
    """Role to what its images should be (`ganatomy.roles.expectations`): stated, and checked where it can be seen."""
    fitted: Mapping[str, NDArray[Any]]
    """Numbers learned from training cases, by name; empty before training."""

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
        """How physical values map to the range of the networks, by role, before they are bound to a case."""
        return {name: role.codec for name, role in self.roles.items() if role.codec is not None}

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels that cases carry where there is a role called ``label``; cases with another label are left out."""
        found: tuple[str, ...] = getattr(self.roles.get("label"), "classes", ())
        return found

    @property
    def preparation(self) -> Preparation:
        """Everything that changes a prepared case."""
        return Preparation()

    @abstractmethod
    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        """Arguments of the phantom for ``size`` rows and columns; None means what suits the task."""

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        """Which part of a phantom patient with this label plays which role."""
        return {self.given: "image"}

    def usable(self, roles: Iterable[str]) -> bool:
        """Whether values of these roles make a case to learn from or to be judged on."""
        there = set(roles)
        return self.given in there or any(set(group) <= there for group in self.groups)

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        """A sample from the values at hand, lazily; used in training and when a trained method is applied.

        Args:
            values: role to value; roles that the task does not know are ignored.
            case: whose values they are; None where a trained method is applied.

        Raises:
            UserError: a value cannot play its role, or two of them do not lie on one grid.
        """
        known = {name: role for name, role in self.roles.items() if name in values}
        for name, role in known.items():
            role.check(values[name])
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
        """Sentences on images that are not what the system expects."""
        for name, expectations in self.expects.items():
            if not isinstance(values.get(name), Image):
                continue
            for expected in expectations:
                problem = expected.problem(values[name]) if expected.problem else None
                if problem:
                    yield f"{label_of(values[name])} ({name}) should be {expected.words}, but {problem}"

    def simulate(self, sample: Sample, seed: int) -> Sample:
        """The sample with what is simulated for training and judging, lazily, such as its low-dose partner.

        Args:
            sample: framed.
            seed: of the case.
        """
        return sample

    def same_contrast(self, output: str) -> str | None:
        """The input that an output shares its contrast with, and so its scale; None where there is none."""
        return None

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """Numbers learned from training cases only, saved with the weights, such as an atlas or class weights.

        Unless a task learns more, these are statistics of the intensities of every image, from which it can be told
        later whether an image is like those that were learned from.
        """
        return intensity_statistics(samples)

    def only_tested(self, label: str | None) -> bool:
        """Whether cases with this label are no use for training and all go to testing."""
        return False

    def trainable(self, label: str | None, arrays: Mapping[str, Array]) -> NDArray[np.bool_] | None:
        """Which slices of a case may be trained on; None means all.

        Args:
            label: of the case.
            arrays: its roles, (channels, slices, rows, columns) in physical units.
        """
        return None

    def trainable_slices(self, sample: Sample) -> NDArray[np.bool_] | None:
        """Which slices of a sample may be trained on; None means all.

        A task overrides this in place of `trainable` where it has to know the scale of the case.
        """
        return self.trainable(sample.case.label, sample.arrays)

    @property
    @abstractmethod
    def directions(self) -> Mapping[str, Better]:
        """For every score of validation, which side is better."""

    @property
    @abstractmethod
    def selection(self) -> str:
        """The score that decides which weights are the best."""

    @abstractmethod
    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Numbers of some slices of one case, each named with its variant.

        Where the main output has several channels, these follow one after another and count as slices: squared and
        absolute errors are means over all channels, SSIM is the mean of the channels'.

        Args:
            output: role to (channels · slices, rows, columns) of a prediction, in physical units.
            sample: role to as many slices of the case; roles of other numbers of channels are averaged and repeated.
            spacing: mm between slices, rows and columns.
        """


CLOSE = 0.1
"""Part of a voxel by which corners of two grids may lie apart that are still taken for one."""


def check_alignment(values: Mapping[str, Any], frames: Mapping[str, Frame]) -> None:
    """Refuse values whose voxels do not lie in the same places of the patient.

    Raises:
        UserError: naming both files, how they differ, and the remedy.
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
    """How two working grids differ, in words; None where they are one."""
    if first.turned != other.turned:
        return f"{_by(other.turned)} voxels against {_by(first.turned)}"
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.float64)
    corners[:, :3] *= np.maximum(np.array(first.size) - 1, 0)
    distance = (corners @ (first.working_affine - other.working_affine).T)[:, :3]
    apart = float(np.linalg.norm(distance, axis=1).max())
    steps = np.linalg.norm(first.working_affine[:3, :3], axis=0)
    if apart > CLOSE * steps.min():
        return f"corners are up to {apart:.3g} mm apart"
    return None


def _by(shape: Sequence[int]) -> str:
    return " x ".join(str(extent) for extent in shape)


def label_of(value: Any) -> str:
    """What to call a value in a message: its file, where it has one."""
    return value.header.label if isinstance(value, Image) else str(getattr(value, "label", "the value in memory"))


def notes_on(values: Iterable[Any]) -> Iterator[str]:
    """What should be said about the places of several values, in sentences."""
    headers = [value.header for value in values if isinstance(value, Image)]
    frames = {header.frame_of_reference for header in headers} - {None}
    if len({header.subject for header in headers} - {None}) > 1:
        yield "the images are of different patients, as their files say"
    files = [header.paths for header in headers if header.paths]
    if len(set(files)) < len(files):
        yield f"{headers[0].label} is given for more than one role"
    if len(frames) > 1:
        yield "the images have different frames of reference: that they fit is not known, only that their grids agree"


def cut(array: NDArray[Any], start: Sequence[int], size: Sequence[int]) -> NDArray[Any]:
    """A block of a (channels, slices, rows, columns) array, mirrored where it reaches beyond the edge."""
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
    """Indices reflected at the edges of an axis without repeating the edge, as often as necessary."""
    if extent == 1:
        return np.zeros_like(positions)
    folded = np.abs(positions) % (2 * (extent - 1))
    return np.where(folded < extent, folded, 2 * (extent - 1) - folded)


def spatial(values: Tensor, dims: int) -> Tensor:
    """(channels, slices, rows, columns) without the leading spatial axes that a network of ``dims`` does not have.

    Raises:
        ValueError: one of these axes is longer than 1.
    """
    dropped = values.shape[1 : 4 - dims]
    if any(extent != 1 for extent in dropped):
        raise ValueError(f"a patch of {tuple(values.shape[1:])} voxels has more than {dims} axes")
    return values.reshape(values.shape[0], *values.shape[4 - dims :])


def slab(array: Array, start: int, stop: int) -> NDArray[Any]:
    """Slices ``start`` to ``stop`` of an array in memory, memory-mapped or lazy."""
    return array.slab(start, stop) if isinstance(array, LazyArray) else np.asarray(array[:, start:stop])


def grey(values: NDArray[Any]) -> Volume:
    """(channels, slices, rows, columns) to (slices, rows, columns); several channels are averaged."""
    return np.asarray(values[0] if len(values) == 1 else values.mean(axis=0))


def in_channels(values: NDArray[Any], channels: int) -> Volume:
    """(N, slices, rows, columns) to (channels · slices, rows, columns), channel after channel.

    Images are judged channel by channel, since red and blue of equal brightness are not alike. Where ``channels`` is
    not N, the average over N takes the place of every channel.
    """
    if channels == 1:
        return grey(values)
    apart = values if len(values) == channels else np.stack([grey(values)] * channels)
    return np.asarray(apart.reshape(-1, *values.shape[2:]))


QUANTILES = (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999)
"""Of the intensities of an image, which `intensity_statistics` keeps."""
MOST = 2**16
"""Voxels of a case that stand for it, evenly spaced."""


def intensity_statistics(samples: Iterable[Sample]) -> dict[str, NDArray[np.float32]]:
    """Quantiles of the intensities of every image role, a row per case, and the ends of scales that cases have.

    Returns:
        ``quantiles.ROLE``, (cases, 9) for `QUANTILES`; ``scale.ROLE``, (cases, 2): values that 0 and 1 in the range of
        the networks stand for, where codecs are bound per case.
    """
    found: dict[str, list[NDArray[np.float32]]] = {}
    for sample in samples:
        for name, array in sample.arrays.items():
            if not (sample.roles[name].has_intensities and name in sample.affines):
                continue
            values = np.asarray(array[:] if isinstance(array, np.ndarray) else array).reshape(-1)
            some = values[:: max(1, len(values) // MOST)]
            found.setdefault(f"quantiles.{name}", []).append(np.quantile(some, QUANTILES).astype(np.float32))
            codec = sample.role(name).codec
            if sample.roles[name].adaptive and codec is not None:
                ends = codec.decode(np.array([0.0, 1.0], np.float32))
                found.setdefault(f"scale.{name}", []).append(np.asarray(ends, np.float32))
    return {name: np.stack(rows) for name, rows in found.items()}
