"""A method that turns one image into another one, at work."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ganatomy.case import Compared, Prediction, Role, Sample
from ganatomy.images.image import ComputedArray
from ganatomy.inference.predictor import Predictor, decoded, encoded


class RestorationPredictor(Predictor):
    """Restores the product from the source, slab by slab."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The source."""
        return (self.task.source,)

    @property
    def outputs(self) -> Mapping[str, Role]:
        """The product."""
        return {self.task.product: self.task.roles[self.task.product]}

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """The product in physical units, computed when it is read."""
        source, product = self.task.source, self.task.product
        role = self.made_role(product, sample)
        tiler, read = self.tiled("restore"), encoded(sample, self.seen)
        slices, rows, columns = extents = self._extents(sample)
        deep, high, wide = tiler.scale
        shape = (role.channels, slices * deep, rows * high, columns * wide)
        restored = ComputedArray(
            shape, np.float32, lambda start, stop: tiler(read, extents, start, stop), tiler.thickness(slices)
        )
        array = decoded(restored, role)
        if source not in sample.frames:
            return Prediction({product: array})
        value = role.value(array, sample.frames[source].finer(tiler.scale), sample.values[source])
        return Prediction(
            {product: array},
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
