"""A trained method at work on samples: all that the engine knows of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from ganatomy.case import Array, Prediction, Role, Sample, Scores, Task, slab
from ganatomy.catalogue import attribute
from ganatomy.data.batches import Range
from ganatomy.errors import UserError
from ganatomy.game import Method
from ganatomy.images.codecs import Window
from ganatomy.images.image import ComputedArray, LazyArray
from ganatomy.inference.tiling import Reader, Tiler


def spread(pieces: Sequence[Range], slices: int) -> Iterator[Range]:
    """A few slices in the middle of evenly chosen pieces.

    Args:
        pieces: of validation cases.
        slices: how many are wanted altogether, about.
    """
    chosen = np.unique(np.linspace(0, len(pieces) - 1, min(len(pieces), slices)).astype(int))
    for item in (pieces[index] for index in chosen):
        count = min(item.slices, max(1, slices // len(chosen)))
        start = item.start + (item.slices - count) // 2
        yield Range(item.sample, start, start + count)


class Options(BaseModel):
    """Choices that a predictor adds to the commands that use it; the base has none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Options of these names and values.

        Raises:
            UserError: no such option, or a value that it does not take.
        """
        for name in values:
            if name not in cls.model_fields:
                there = ", ".join(_option(field) for field in cls.model_fields) or "none"
                raise UserError(f"{_option(name)}: no option of this system here; there are {there}")
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else next(iter(values))
            raise UserError(f"{_option(name)} {first.get('input')}: {first['msg'].lower()}") from None


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


class Predictor(ABC):
    """A trained method with one of its abilities, ready for samples.

    Validation, judges, calibration, ``apply``, ``sample``, ``derive`` and the Python API know a method through this
    class alone. A kind of task brings a subclass for each ability.

    Args:
        method: in its inference mode, on ``device``.
        device: where networks run.
        options: of the class ``Options``; None means its defaults.
        calibration: what `calibrate` found for the weights of the method, None where nobody has calibrated them.
    """

    Options: ClassVar[type[Options]] = Options
    calibrates: ClassVar[bool] = False
    """Whether `calibrate` has anything to find."""

    def __init__(
        self,
        method: Method,
        device: torch.device | str = "cpu",
        options: BaseModel | None = None,
        calibration: Mapping[str, Any] | None = None,
    ):
        self.method, self.device, self.calibration = method, device, calibration
        self.options: Any = options or self.Options()

    @property
    def task(self) -> Any:
        """The task of the method."""
        return self.method.task

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Roles that must be given, the main one first; empty where everything is made from noise."""

    @property
    def optional(self) -> tuple[str, ...]:
        """Roles that may be given, too."""
        return ()

    @property
    @abstractmethod
    def outputs(self) -> Mapping[str, Role]:
        """Roles that are made, the main one first."""

    @property
    def real(self) -> bool:
        """Whether the main output consists of real numbers that are no image of the input's kind, such as a map."""
        return False

    @abstractmethod
    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Everything the method makes of a sample, lazily where a volume is large.

        Args:
            sample: with the roles of ``inputs``.
            seed: of what is drawn, where anything is.
        """

    def sample_of(self, values: Mapping[str, Any]) -> Sample:
        """The sample of values that a user gives.

        Raises:
            UserError: a role is missing or unknown, or a value does not fit the method.
        """
        known = (*self.inputs, *self.optional)
        if unknown := [name for name in values if name not in known]:
            raise UserError(f"{unknown[0]}: not an input of this system; it takes {', '.join(known) or 'nothing'}")
        if missing := [name for name in self.inputs if name not in values]:
            raise UserError(f"{', '.join(missing)}: missing; this system needs {', '.join(self.inputs)}")
        return self.task.frame(values)  # type: ignore[no-any-return]

    def takes(self, sample: Sample) -> bool:
        """Whether a case has what `predict` needs."""
        return all(role in sample.arrays for role in self.inputs)

    def validate(self, pieces: Sequence[Range], slices: int) -> Scores:
        """Means of the task's scores over some slices of validation cases, in physical units.

        Scores that are not finite for a piece are left out of their mean.

        Args:
            pieces: slices that may be looked at.
            slices: how many are looked at altogether, about.
        """
        found: dict[str, list[float]] = {}
        able = [piece for piece in pieces if self.takes(piece.sample)]
        for piece in spread(able, slices):
            scores = self.score(self.predict(piece.sample), piece.sample, piece.start, piece.stop)
            for name, value in scores.items():
                found.setdefault(name, []).append(value)
        return {name: float(np.nanmean(values)) for name, values in found.items() if np.isfinite(values).any()}

    def score(self, prediction: Prediction, sample: Sample, start: int, stop: int) -> Scores:
        """The task's scores of slices ``start`` to ``stop`` of a prediction, of every channel of the main output."""
        task: Task = self.task
        channels = next(iter(self.outputs.values())).channels
        output, known = (one.slices(start, stop, channels) for one in (prediction, sample))
        return task.scores(output, known, sample.spacing)

    def calibrate(self, pieces: Sequence[Range], rate: float, source: str) -> Mapping[str, Any] | None:
        """Numbers that belong to these weights, such as thresholds, from data that they were not trained on.

        Args:
            pieces: of validation cases.
            rate: share of healthy pixels and images that may be called abnormal, 0 to 1.
            source: where the pieces come from, in words.

        Returns:
            Plain values, or None where there is nothing to calibrate.
        """
        return None

    def made_role(self, name: str, sample: Sample) -> Role:
        """A role that is made, with the scale in which it is decoded; see `decoding_role`."""
        return decoding_role(self.task, self.outputs[name], sample)

    def tiled(self, ability: str | None = None) -> Tiler:
        """Runs an ability of the method over slabs of an encoded array."""
        name = ability or next(iter(self.task.predictors))
        return Tiler(able(self.method, name), self.method.dims, self.method.tiling, self.device)


class VoxelPredictor(Predictor):
    """A predictor that first computes arrays of real numbers and then makes its outputs of them.

    Arrays of several trained methods may be averaged in between: images in physical units, or probabilities, which an
    `ganatomy.inference.ensemble.Ensemble` does. A kind of task whose outputs can be made of such averages extends this
    class in place of `Predictor`.
    """

    @abstractmethod
    def arrays(self, sample: Sample, seed: int = 0) -> Mapping[str, Array]:
        """Arrays from which everything else is made, by name, computed when they are read.

        Args:
            sample: with the roles of ``inputs``.
            seed: of what is drawn, where anything is.

        Returns:
            (channels, slices, rows, columns) on the working grid, or one with whole multiples of its voxels.
        """

    @abstractmethod
    def finish(self, arrays: Mapping[str, Array], sample: Sample) -> Prediction:
        """The prediction that is made of arrays.

        Args:
            arrays: as `arrays` gives them, or averages of such.
            sample: that they were computed from.
        """

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Everything the method makes of a sample."""
        return self.finish(self.arrays(sample, seed), sample)


def decoding_role(task: Task, role: Role, sample: Sample | None = None) -> Role:
    """A role that is made, with the scale in which it is decoded.

    Where codecs are bound per case, an output of the contrast of an input is decoded with the scale of that input,
    and one of another contrast with the median scale of the training cases.

    Args:
        task: of the method.
        role: that is made.
        sample: with the inputs; None where there are none.

    Raises:
        UserError: the training cases' scales are not known.
    """
    if not role.adaptive:
        return role
    if sample is not None and (like := task.same_contrast(role.name)) is not None:
        return role.with_numbers(sample.role(like).numbers())
    scales = task.fitted.get(f"scale.{role.name}")
    if scales is None:
        raise UserError(f"{role.name}: its scale was not learned in training; train again")
    zero, one = (float(value) for value in np.median(scales, axis=0))
    # The ends of the range stay the ends of a window: what lies outside of the image gets the value of the lower one.
    first, last = getattr(role.codec, "to", (0.0, 1.0))
    low, high = (zero + end * (one - zero) for end in (first, last))
    unit = role.codec.unit if role.codec else None
    return role.with_numbers(Window(low=low, high=high, to=(first, last), unit=unit).model_dump(mode="json"))


def able(method: Method, name: str) -> Any:
    """An ability of a method, by its agreed name.

    Raises:
        UserError: this method cannot do that.
    """
    found = getattr(method, name, None)
    if not callable(found):
        raise UserError(f"{type(method).__name__} cannot {name}")
    return found


def encoded(sample: Sample, roles: Sequence[str]) -> Reader:
    """Reads slices of some roles in the range of the networks, their channels one after another."""

    def read(start: int, stop: int) -> NDArray[np.float32]:
        parts = [sample.role(name).encoded(slab(sample.arrays[name], start, stop)) for name in roles]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return read


def decoded(array: Array, role: Role) -> LazyArray:
    """An array in the range of the networks, decoded when it is read."""
    thickness = array.thickness if isinstance(array, LazyArray) else 1
    shape: Any = array.shape
    return ComputedArray(
        shape, np.float32, lambda start, stop: role.decoded(slab(array, start, stop)), thickness
    )  # fmt: skip


def predictor_class(task: Task, ability: str | None = None) -> type[Predictor]:
    """The class of the predictor of an ability of a task.

    Raises:
        UserError: the task has no such ability.
    """
    name = ability or next(iter(task.predictors))
    if name not in task.predictors:
        raise UserError(f"--ability {name}: this system has {', '.join(task.predictors)}")
    found = task.predictors[name]
    cls: type[Predictor] = attribute(found) if isinstance(found, str) else found
    return cls


def predictor_of(
    method: Method,
    device: torch.device | str = "cpu",
    ability: str | None = None,
    options: Options | None = None,
    calibration: Mapping[str, Any] | None = None,
) -> Predictor:
    """The predictor of a method, by ability; the first one unless told otherwise."""
    return predictor_class(method.task, ability)(method, device, options, calibration)
