"""The predictor of image-to-image tasks."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from ganatomy.case import Array, Compared, Prediction, Role, Sample, Scores, slab
from ganatomy.images.image import ComputedArray, LazyArray
from ganatomy.inference.predictor import VoxelPredictor, decoded, encoded
from ganatomy.inference.sampling import stored
from ganatomy.inference.tiling import Tiler
from ganatomy.roles.labels import LabelRole


class RestorationPredictor(VoxelPredictor):
    """Computes the output images from the input images, slab by slab.

    Of an output that is a label map, networks make the probability of each region, and the map has the regions whose
    probability is at least one half.
    """

    @property
    def inputs(self) -> tuple[str, ...]:
        """Roles of the input images, the main one first."""
        return self.task.inputs or (self.task.input,)

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Roles of the output images, the main one first."""
        return {name: self.task.roles[name] for name in self.task.outputs or (self.task.output,)}

    def arrays(self, sample: Sample, seed: int = 0) -> Mapping[str, Array]:
        """Return the outputs, computed when they are read: images in physical units, probabilities of label maps."""
        tiler, read = self.network(seed), encoded(sample, self.seen)
        slices, rows, columns = extents = self._extents(sample)
        deep, high, wide = tiler.scale
        channels = [role.channels for role in self.outputs.values()]
        shape = (sum(channels), slices * deep, rows * high, columns * wide)
        # Outputs are read one after another, slab by slab, and the network makes all of them at once.
        made = lru_cache(maxsize=1)(lambda start, stop: tiler(read, extents, start, stop))
        restored = ComputedArray(shape, np.float32, made, tiler.thickness(slices))
        ends = np.cumsum(channels).tolist()
        parts = {
            name: _part(restored, end - count, end)
            for name, count, end in zip(self.outputs, channels, ends, strict=True)
        }
        return {
            name: part if self.outputs[name].is_label_map else decoded(part, self.made_role(name, sample))
            for name, part in parts.items()
        }

    def network(self, seed: int) -> Tiler:
        """Return the tiler of the network for a seed, which methods that draw noise need."""
        return self.tiled("restore")

    def finish(self, arrays: Mapping[str, Array], sample: Sample) -> Prediction:
        """Return the outputs on the grid of the input, or on a finer one in super-resolution."""
        given, made = self.task.input, self.task.output
        arrays = {
            name: _labels(array, role) if isinstance(role := self.outputs[name], LabelRole) else array
            for name, array in arrays.items()
        }
        if given not in sample.frames:
            return Prediction(arrays)
        frame = sample.frames[given].finer(self.method.tiling.scale)
        values = {
            name: self.made_role(name, sample).value(array, frame, sample.values[given])
            for name, array in arrays.items()
        }
        contrasts = self.task.contrasts(sample)
        if self.task.roles[given].is_label_map:
            # Pictures of 8 bits are written as such, although a label map has no intensities to round to.
            values = {name: stored(value, self.outputs[name]) for name, value in values.items()}
            return Prediction(arrays, values)
        return Prediction(arrays, values, compared={made: Compared(self.task.visible(sample), contrasts)})

    def score(self, prediction: Prediction, sample: Sample, start: int, stop: int) -> Scores:
        """Compute the task's scores of slices, on the scale of the true image (see `Restoration.comparable`)."""
        made, task = self.task.output, self.task
        array = prediction.arrays[made]
        placed = ComputedArray(
            array.shape, np.float32, lambda first, last: task.comparable(slab(array, first, last), sample)
        )  # fmt: skip
        return super().score(replace(prediction, arrays={**prediction.arrays, made: placed}), sample, start, stop)

    @property
    def seen(self) -> tuple[str, ...]:
        """Roles whose channels are concatenated as the input of the network."""
        return self.inputs

    def _extents(self, sample: Sample) -> tuple[int, int, int]:
        shape: Any = sample.arrays[self.task.input].shape
        return shape[1], shape[2], shape[3]


def _part(array: LazyArray, start: int, stop: int) -> LazyArray:
    """Return some channels of an array, which are cut out when they are read."""
    if (start, stop) == (0, array.shape[0]):
        return array
    shape = (stop - start, *array.shape[1:])
    return ComputedArray(shape, np.float32, lambda low, high: slab(array, low, high)[start:stop], array.thickness)


def _labels(probabilities: Array, role: LabelRole) -> LazyArray:
    """Return the label map of the regions whose probability is at least one half, made when it is read."""
    thickness = probabilities.thickness if isinstance(probabilities, LazyArray) else 1
    shape: Any = (1, *probabilities.shape[1:])
    return ComputedArray(
        shape, np.uint8, lambda start, stop: role.merged(slab(probabilities, start, stop) >= 0.5), thickness
    )
