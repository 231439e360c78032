"""A method that turns one image into another one, at work."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ganatomy.case import Array, Compared, Prediction, Role, Sample
from ganatomy.images.image import ComputedArray
from ganatomy.inference.predictor import VoxelPredictor, decoded, encoded


class RestorationPredictor(VoxelPredictor):
    """Restores the product from the source, slab by slab."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The source."""
        return (self.task.source,)

    @property
    def outputs(self) -> Mapping[str, Role]:
        """The product."""
        return {self.task.product: self.task.roles[self.task.product]}

    def arrays(self, sample: Sample, seed: int = 0) -> Mapping[str, Array]:
        """The product in physical units, computed when it is read."""
        product = self.task.product
        role = self.made_role(product, sample)
        tiler, read = self.tiled("restore"), encoded(sample, self.seen)
        slices, rows, columns = extents = self._extents(sample)
        deep, high, wide = tiler.scale
        shape = (role.channels, slices * deep, rows * high, columns * wide)
        restored = ComputedArray(
            shape, np.float32, lambda start, stop: tiler(read, extents, start, stop), tiler.thickness(slices)
        )
        return {product: decoded(restored, role)}

    def finish(self, arrays: Mapping[str, Array], sample: Sample) -> Prediction:
        """The product on the grid of the source, or as fine a one as the method makes."""
        source, product = self.task.source, self.task.product
        if source not in sample.frames:
            return Prediction(arrays)
        frame = sample.frames[source].finer(self.method.tiling.scale)
        value = self.made_role(product, sample).value(arrays[product], frame, sample.values[source])
        return Prediction(
            arrays,
            {product: value},
            compared={product: Compared(self.task.visible(sample), self.task.contrasts(sample))},
        )

    @property
    def seen(self) -> tuple[str, ...]:
        """Roles whose channels the network is shown, one after another."""
        return (self.task.source,)

    def _extents(self, sample: Sample) -> tuple[int, int, int]:
        shape: Any = sample.arrays[self.task.source].shape
        return shape[1], shape[2], shape[3]
