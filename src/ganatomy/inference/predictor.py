"""Predictors: trained methods applied to samples, the interface by which the engine uses every method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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
from ganatomy.inference.familiarity import unfamiliar
from ganatomy.inference.tiling import Reader, Tiler


def central_slices(pieces: Sequence[Range], slices: int) -> Iterator[Range]:
    """Yield a few slices in the middle of evenly chosen pieces.

    Args:
        pieces: ranges of slices of validation cases.
        slices: approximate number of slices altogether.
    """
    chosen = np.unique(np.linspace(0, len(pieces) - 1, min(len(pieces), slices)).astype(int))
    for item in (pieces[index] for index in chosen):
        count = min(item.slices, max(1, slices // len(chosen)))
        start = item.start + (item.slices - count) // 2
        yield Range(item.sample, start, start + count)


class Options(BaseModel):
    """Options that a predictor or a judge adds to the commands that use it; the base class has none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return options with the given values.

        Args:
            values: option to value.

        Raises:
            UserError: an option does not exist or does not accept its value.
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
    """Base class of predictors, each of which applies one ability of a trained method to samples.

    Validation, judges, calibration, ``apply``, ``sample``, ``derive`` and the Python API use a method through this
    class alone. A kind of task has a subclass for each ability.

    Args:
        method: method in its inference mode, on ``device``.
        device: device of the networks.
        options: options of the class ``Options``; None means its defaults.
        calibration: values that `calibrate` returned for the weights; None where they are not calibrated.
    """

    Options: ClassVar[type[Options]] = Options
    calibrates: ClassVar[bool] = False
    """Whether `calibrate` returns values."""

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
        """Roles of the required inputs, the main one first; empty for methods that sample from noise."""

    @property
    def optional(self) -> tuple[str, ...]:
        """Roles of the optional inputs."""
        return ()

    @property
    @abstractmethod
    def outputs(self) -> Mapping[str, Role]:
        """Name to role of every output, the main one first."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables of a prediction that are written as CSV files, too, and not only to its note."""
        return ()

    @property
    def over_subjects(self) -> bool:
        """Whether `of_subject` has something to tell."""
        return False

    def of_subject(self, tables: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]) -> Sequence[Mapping[str, Any]]:
        """Return the rows of a table on one subject, computed from the tables of the predictions of its cases."""
        return ()

    @property
    def real(self) -> bool:
        """Whether the main output is a map of real numbers and no image of the input's kind."""
        return False

    @abstractmethod
    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Apply the method to a sample; arrays of large volumes are computed when they are read.

        Args:
            sample: sample with the roles of ``inputs``.
            seed: seed of random draws, for methods that have any.
        """

    def sample_of(self, values: Mapping[str, Any]) -> Sample:
        """Prepare the sample of values given by a user.

        Args:
            values: role to value.

        Raises:
            UserError: a role is missing or unknown, or a value does not fit the method.
        """
        known = (*self.inputs, *self.optional)
        if unknown := [name for name in values if name not in known]:
            raise UserError(f"{unknown[0]}: not an input of this system; it takes {', '.join(known) or 'nothing'}")
        if missing := [name for name in self.inputs if name not in values]:
            raise UserError(f"{', '.join(missing)}: missing; this system needs {', '.join(self.inputs)}")
        sample: Sample = self.task.frame(values)
        return replace(sample, notes=(*sample.notes, *unfamiliar(self.task, sample)))

    def takes(self, sample: Sample) -> bool:
        """Whether a case has all roles that `predict` needs."""
        return all(role in sample.arrays for role in self.inputs)

    def validate(self, pieces: Sequence[Range], slices: int) -> Scores:
        """Return means of the task's scores over some slices of validation cases, in physical units.

        Scores that are not finite for a piece are left out of their mean.

        Args:
            pieces: ranges of validation slices.
            slices: approximate number of slices to score altogether.
        """
        found: dict[str, list[float]] = {}
        usable = [piece for piece in pieces if self.takes(piece.sample)]
        for piece in central_slices(usable, slices):
            scores = self.score(self.predict(piece.sample), piece.sample, piece.start, piece.stop)
            for name, value in scores.items():
                found.setdefault(name, []).append(value)
        return {name: float(np.nanmean(values)) for name, values in found.items() if np.isfinite(values).any()}

    def score(self, prediction: Prediction, sample: Sample, start: int, stop: int) -> Scores:
        """Compute the task's scores of slices ``start`` to ``stop`` of a prediction, over all channels."""
        task: Task = self.task.bound_to(sample)
        channels = next(iter(self.outputs.values())).channels
        output, known = (one.slices(start, stop, channels) for one in (prediction, sample))
        return task.scores(output, known, sample.spacing)

    def calibrate(self, pieces: Sequence[Range], rate: float, source: str) -> Mapping[str, Any] | None:
        """Calibrate numbers of the weights, such as thresholds, on data that they were not trained on.

        Args:
            pieces: ranges of slices of validation cases.
            rate: share of healthy pixels and images that may be called abnormal, 0 to 1.
            source: where the pieces come from, in words.

        Returns:
            Plain values, or None where there is nothing to calibrate.
        """
        return None

    def made_role(self, name: str, sample: Sample) -> Role:
        """Return the role of an output with the scale in which it is decoded, see `decoding_role`."""
        return decoding_role(self.task, self.outputs[name], sample)

    def tiled(self, ability: str | None = None) -> Tiler:
        """Return a tiler that runs an ability of the method over slabs of an encoded array."""
        name = ability or next(iter(self.task.predictors))
        return Tiler(ability_of(self.method, name), self.method.dims, self.method.tiling, self.device)


class VoxelPredictor(Predictor):
    """Base class of predictors whose outputs are computed from arrays of real numbers, so that they can be averaged.

    An `ganatomy.inference.ensemble.Ensemble` averages the arrays of several trained methods, which are images in
    physical units or probabilities, before the outputs are computed from them.
    """

    @abstractmethod
    def arrays(self, sample: Sample, seed: int = 0) -> Mapping[str, Array]:
        """Return the arrays from which the outputs are computed; they are computed when they are read.

        Args:
            sample: sample with the roles of ``inputs``.
            seed: seed of random draws, for methods that have any.

        Returns:
            Name to array, (channels, slices, rows, columns) on the working grid, or on a grid with a whole multiple of
            its voxels along every axis.
        """

    def counted(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return the arrays as they count in the average of an ensemble, such as votes for probabilities."""
        return arrays

    @abstractmethod
    def finish(self, arrays: Mapping[str, Array], sample: Sample) -> Prediction:
        """Compute the prediction from arrays.

        Args:
            arrays: arrays from `arrays`, or averages of several methods' arrays.
            sample: sample from which they were computed.
        """

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Apply the method to a sample; arrays of large volumes are computed when they are read."""
        return self.finish(self.arrays(sample, seed), sample)


def decoding_role(task: Task, role: Role, sample: Sample | None = None) -> Role:
    """Return the role of an output with the scale in which it is decoded.

    Where codecs are bound per case, an output of the contrast of an input is decoded with the scale of that input,
    and one of another contrast with the median scale of the training cases.

    Args:
        task: task of the method.
        role: role of the output.
        sample: sample of the inputs; None where there are none.

    Raises:
        UserError: the scales of the training cases are not known.
    """
    if not role.adaptive:
        return role
    if sample is not None and (like := task.same_contrast(role.name)) is not None:
        # The range of the networks may differ between input and output; the physical ends are those of the input.
        to = getattr(role.codec, "to", None)
        return role.with_numbers({**sample.role(like).numbers(), **({"to": to} if to else {})})
    scales = task.fitted.get(f"scale.{role.name}")
    if scales is None:
        raise UserError(f"{role.name}: its scale was not learned in training; train again")
    zero, one = (float(value) for value in np.median(scales, axis=0))
    # The ends of the range become those of a window, since voxels outside of an image get the value of the lower one.
    first, last = getattr(role.codec, "to", (0.0, 1.0))
    low, high = (zero + end * (one - zero) for end in (first, last))
    unit = role.codec.unit if role.codec else None
    return role.with_numbers(Window(low=low, high=high, to=(first, last), unit=unit).model_dump(mode="json"))


def ability_of(method: Method, name: str) -> Any:
    """Return the function of a method for an ability, such as ``restore`` or ``segment``.

    Raises:
        UserError: the method does not have the ability.
    """
    found = getattr(method, name, None)
    if not callable(found):
        raise UserError(f"{type(method).__name__} cannot {name}")
    return found


def encoded(sample: Sample, roles: Sequence[str]) -> Reader:
    """Return a reader of slices of some roles in the range of the networks, with their channels concatenated."""

    def read(start: int, stop: int) -> NDArray[np.float32]:
        parts = [sample.role(name).encoded(slab(sample.arrays[name], start, stop)) for name in roles]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return read


def decoded(array: Array, role: Role) -> LazyArray:
    """Return an array that decodes another one from the range of the networks when it is read."""
    thickness = array.thickness if isinstance(array, LazyArray) else 1
    shape: Any = array.shape
    return ComputedArray(
        shape, np.float32, lambda start, stop: role.decoded(slab(array, start, stop)), thickness
    )  # fmt: skip


def predictor_class(task: Task, ability: str | None = None) -> type[Predictor]:
    """Return the class of the predictor for an ability of a task, by default the first ability.

    Raises:
        UserError: the task does not have the ability.
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
    """Return the predictor of a method for an ability, by default the first ability."""
    return predictor_class(method.task, ability)(method, device, options, calibration)
