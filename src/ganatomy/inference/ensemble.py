"""Ensembles of trained methods, whose images or probabilities are averaged voxel by voxel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Array, Prediction, Role, Sample, slab
from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.images.image import ComputedArray, Image, LazyArray
from ganatomy.inference.predictor import Predictor, VoxelPredictor

SAME_SCALE = 0.25
"""Tolerance for the ends of scales that count as equal, as a share of their width.

Scales that are learned from the training cases of different folds are never exactly equal.
"""


class Ensemble(VoxelPredictor):
    """Averages the predictions of several trained methods of one system.

    Images in physical units or probabilities are averaged, the latter before they become labels. Methods may work on
    slices of different planes: every method gets the case as in its training, and predictions are averaged on the
    working grid of the first one.

    Args:
        members: name of each run to its predictor; all have one class, and the first computes the outputs.

    Raises:
        UserError: a predictor has other inputs or outputs than the first, or its predictions cannot be averaged.
    """

    def __init__(self, members: Mapping[str, Predictor]):
        self.members = {name: _averageable(name, member) for name, member in members.items()}
        first_name, self.first = next(iter(self.members.items()))
        for name, member in self.members.items():
            if (problem := _apart(self.first, member)) is not None:
                raise UserError(f"{name}: {problem} than {first_name}, so the two cannot be averaged")
        super().__init__(self.first.method, self.first.device, self.first.options)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Roles of the required inputs, which all members share."""
        return self.first.inputs

    @property
    def optional(self) -> tuple[str, ...]:
        """Roles of the optional inputs, which all members share."""
        return self.first.optional

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Roles of the outputs, which all members share."""
        return self.first.outputs

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that are written as CSV files, which all members share."""
        return self.first.tables

    @property
    def over_subjects(self) -> bool:
        """Whether there is a table on subjects, which all members share."""
        return self.first.over_subjects

    def of_subject(self, tables: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]) -> Sequence[Mapping[str, Any]]:
        """Return the rows of a table on one subject, as the first member computes them."""
        return self.first.of_subject(tables)

    @property
    def real(self) -> bool:
        """Whether the main output is a map of real numbers and no image of the input's kind."""
        return self.first.real

    def sample_of(self, values: Mapping[str, Any]) -> Sample:
        """Prepare the sample of values given by a user, as for the first member."""
        return self.first.sample_of(values)

    def arrays(self, sample: Sample, seed: int = 0) -> Mapping[str, Array]:
        """Average the arrays of all members on the working grid of the first.

        Raises:
            UserError: a member has another scale, spacing or size, or predicts labels without probabilities.
        """
        found: dict[str, list[Array]] = {}
        samples = {name: self._seen_by(member, sample) for name, member in self.members.items()}
        for name, member in self.members.items():
            self._check_scale(name, member, sample, samples[name])
            for array_name, array in member.counted(member.arrays(samples[name], seed)).items():
                if np.dtype(array.dtype).kind != "f":
                    raise UserError(f"{name}: predicts labels without probabilities, which cannot be averaged")
                found.setdefault(array_name, []).append(_on_grid(array, samples[name], sample, name))
        return {name: mean(arrays) for name, arrays in found.items()}

    def finish(self, arrays: Mapping[str, Array], sample: Sample) -> Prediction:
        """Compute the outputs from averaged arrays with the first member."""
        prediction = self.first.finish(arrays, sample)
        averaged = {"averaged": {"what": sorted(arrays), "predictions": len(self.members)}}
        return replace(prediction, facts={**prediction.facts, **averaged})

    def _seen_by(self, member: VoxelPredictor, sample: Sample) -> Sample:
        """Return the sample as a member prepares it, with its own roles and codecs."""
        if member is self.first:
            return sample
        if sample.values:
            return member.sample_of(sample.values)
        if member.task.preparation != self.first.task.preparation:
            raise UserError("runs that prepare cases differently are averaged on files only, not on prepared cases")
        return replace(sample, roles=member.task.roles, numbers={})

    def _check_scale(self, name: str, member: VoxelPredictor, first_sample: Sample, own_sample: Sample) -> None:
        for output in self.outputs:
            here, there = _ends(self.first, output, first_sample), _ends(member, output, own_sample)
            if here is None or there is None:
                continue
            if np.abs(here - there).max() > SAME_SCALE * abs(here[1] - here[0]):
                raise UserError(
                    f"{name}: its {output} lies between {there[0]:g} and {there[1]:g}, that of the first run between "
                    f"{here[0]:g} and {here[1]:g}; runs of one scale can be averaged"
                )


def _averageable(name: str, member: Predictor) -> VoxelPredictor:
    if not isinstance(member, VoxelPredictor):
        raise UserError(
            f"{name}: what {member.task.name} predicts cannot be averaged; images and probabilities can: leave "
            "--ensemble away"
        )
    return member


def _apart(first: VoxelPredictor, other: VoxelPredictor) -> str | None:
    """Describe how the inputs or outputs of two predictors differ; None where they agree."""
    if first.task.name != other.task.name:
        return f"does {other.task.name}, which is another kind of task"
    if type(first) is not type(other):
        return "predicts something else"
    if (first.inputs, first.optional) != (other.inputs, other.optional):
        return f"takes other inputs ({', '.join((*other.inputs, *other.optional))})"
    if _made(first) != _made(other):
        return f"makes other outputs or regions, or in another order ({', '.join(other.outputs)})"
    return None


def _made(predictor: VoxelPredictor) -> list[str]:
    """Describe the outputs of a predictor as text, without scales; regions are in the order of the channels."""
    return [
        json.dumps({"name": name, **{key: value for key, value in role.describe().items() if key != "codec"}})
        for name, role in predictor.outputs.items()
    ]


def _ends(predictor: VoxelPredictor, output: str, sample: Sample) -> NDArray[np.float64] | None:
    """Return the physical values of 0 and 1 in the range of the networks; None for outputs without a scale."""
    role = predictor.outputs[output]
    codec = predictor.made_role(output, sample).codec if role.has_intensities and role.codec is not None else None
    return None if codec is None else np.asarray(codec.decode(np.array([0.0, 1.0], np.float32)), np.float64)


def _on_grid(array: Array, own: Sample, first: Sample, name: str) -> Array:
    """Reorient an array of one run of the ensemble to the working grid of the first run.

    Grids may differ in the plane of their slices, which does not change the voxels.

    Raises:
        UserError: the grids differ in other ways.
    """
    place, other = own.affines[own.first], first.affines[first.first]
    if own.shape == first.shape and np.allclose(place, other):
        return array
    mine, theirs = own.frames.get(own.first), first.frames.get(first.first)
    if mine is None or theirs is None or not (_turns_only(mine) and _turns_only(theirs)):
        raise UserError(
            f"{name}: works at another spacing or size than the first run; runs of one grid can be averaged, and of "
            "different planes where no volume is resampled"
        )
    scale = tuple(fine // coarse for fine, coarse in zip(array.shape[1:], own.shape, strict=True))
    back = mine.finer((scale[0], scale[1], scale[2]))
    own_axes = [scale[mine.turn.axes.index(axis)] for axis in range(3)]
    slices, rows, columns = (own_axes[axis] for axis in theirs.turn.axes)
    return theirs.finer((slices, rows, columns)).into(Image(back.back(array), back.affine)).array


def _turns_only(frame: Frame) -> bool:
    """Whether a frame only turns axes, without resampling, padding or cropping."""
    return frame.turned == frame.scaled == frame.size


def mean(arrays: Sequence[Array]) -> LazyArray:
    """Return the mean of arrays of one shape, float32, computed slab by slab when it is read."""
    shape: Any = arrays[0].shape
    if any(tuple(array.shape) != tuple(shape) for array in arrays):
        raise UserError(f"predictions of {' and '.join(sorted({str(tuple(a.shape)) for a in arrays}))} voxels")
    thickness = max(array.thickness if isinstance(array, LazyArray) else 1 for array in arrays)

    def averaged(start: int, stop: int) -> NDArray[np.float32]:
        total = np.zeros((shape[0], stop - start, *shape[2:]), np.float64)
        for array in arrays:
            total += slab(array, start, stop)
        return (total / len(arrays)).astype(np.float32)

    return ComputedArray(shape, np.float32, averaged, thickness)
