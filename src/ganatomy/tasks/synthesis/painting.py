"""The predictor that paints images over given label maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ganatomy.case import Array, Prediction, Role, Sample
from ganatomy.images.image import ComputedArray
from ganatomy.inference.predictor import VoxelPredictor, decoded, encoded
from ganatomy.inference.sampling import stored
from ganatomy.tasks.synthesis.sets import widths


class PaintingPredictor(VoxelPredictor):
    """Paints the images of a task of `MapSynthesis` over a label map, slab by slab."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Role of the label map."""
        return (self.task.labels,)

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Roles of the images."""
        return {name: role for name, role in self.task.images.items() if name != self.task.labels}

    def arrays(self, sample: Sample, seed: int = 0) -> Mapping[str, Array]:
        """Return the images in physical units, computed when they are read."""
        tiler, read, extents = self.tiled("restore"), encoded(sample, self.inputs), sample.shape
        first, found = 0, {}
        for name, width in zip(self.outputs, widths(self.task)[1:], strict=True):
            part = slice(first, first := first + width)

            def painted(start: int, stop: int, part: slice = part) -> Any:
                return tiler(read, extents, start, stop)[part]

            image = ComputedArray((width, *extents), np.float32, painted, tiler.thickness(extents[0]))
            found[name] = decoded(image, self.made_role(name, sample))
        return found

    def finish(self, arrays: Mapping[str, Array], sample: Sample) -> Prediction:
        """Return the images on the grid of the label map."""
        given = self.task.labels
        if given not in sample.frames:
            return Prediction(arrays)
        frame, like = sample.frames[given], sample.values[given]
        roles = {name: self.made_role(name, sample) for name in arrays}
        # Pictures of 8 bits are written as such, although a label map has no intensities to round to.
        made = {name: stored(role.value(arrays[name], frame, like), role) for name, role in roles.items()}
        return Prediction(arrays, made)
