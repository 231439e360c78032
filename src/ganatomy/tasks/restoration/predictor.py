"""The predictor of image-to-image tasks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ganatomy.case import Array, Compared, Prediction, Role, Sample, Scores, slab
from ganatomy.images.image import ComputedArray
from ganatomy.inference.predictor import VoxelPredictor, decoded, encoded


class RestorationPredictor(VoxelPredictor):
    """Computes the output image from the input image, slab by slab."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Role of the input image."""
        return (self.task.input,)

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Role of the output image."""
        return {self.task.output: self.task.roles[self.task.output]}

    def arrays(self, sample: Sample, seed: int = 0) -> Mapping[str, Array]:
        """Return the output in physical units, computed when it is read."""
        made = self.task.output
        role = self.made_role(made, sample)
        tiler, read = self.tiled("restore"), encoded(sample, self.seen)
        slices, rows, columns = extents = self._extents(sample)
        deep, high, wide = tiler.scale
        shape = (role.channels, slices * deep, rows * high, columns * wide)
        restored = ComputedArray(
            shape, np.float32, lambda start, stop: tiler(read, extents, start, stop), tiler.thickness(slices)
        )
        return {made: decoded(restored, role)}

    def finish(self, arrays: Mapping[str, Array], sample: Sample) -> Prediction:
        """Return the output on the grid of the input, or on a finer one in super-resolution."""
        given, made = self.task.input, self.task.output
        if given not in sample.frames:
            return Prediction(arrays)
        frame = sample.frames[given].finer(self.method.tiling.scale)
        value = self.made_role(made, sample).value(arrays[made], frame, sample.values[given])
        return Prediction(
            arrays,
            {made: value},
            compared={made: Compared(self.task.visible(sample), self.task.contrasts(sample))},
        )

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
        return (self.task.input,)

    def _extents(self, sample: Sample) -> tuple[int, int, int]:
        shape: Any = sample.arrays[self.task.input].shape
        return shape[1], shape[2], shape[3]
