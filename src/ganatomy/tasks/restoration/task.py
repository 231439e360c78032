"""The base task of image-to-image tasks."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Array, Sample, Task
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window, body_above
from ganatomy.images.image import Image

CONTENT = 0.02
"""Share of a slice that must lie above the window's lower end for the slice to be learned from."""


class Restoration(Task):
    """Base class of image-to-image tasks; the output lies on the grid of the input, or on a finer one."""

    predictors: ClassVar = {"restore": "ganatomy.tasks.restoration.predictor:RestorationPredictor"}

    input: str = "input"
    """Role of the input image."""
    output: str = "target"
    """Role of the output image."""
    fitted: Mapping[str, NDArray[Any]] = MappingProxyType({})

    @property
    def in_channels(self) -> int:
        """Number of channels of the input."""
        return self.roles[self.input].channels

    @property
    def out_channels(self) -> int:
        """Number of channels of the output."""
        return self.roles[self.output].channels

    def contrasts(self, sample: Sample) -> tuple[Window, Window] | None:
        """Return the windows of the input and the output of a case; None where both have the same contrast."""
        return None

    def same_contrast(self, output: str) -> str | None:
        """Return the input of the same contrast as the output; None in tasks of different contrasts."""
        return self.input

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """Fit the statistics of the base class and, for roles with codecs bound per case, ``above.ROLE``.

        ``above.ROLE`` holds the value above which the body lies, for every training case.
        """
        cases = list(samples)
        found = dict(super().fit(cases))
        for name, role in self.roles.items():
            if role.adaptive and f"scale.{name}" in found:
                above = [body_above(case.arrays[name]) for case in cases if name in case.arrays]
                found[f"above.{name}"] = np.array(above, np.float32)
        return found

    def window(self, role: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a role that are displayed and scored, in physical units.

        These are the ends of its window. Where codecs are bound per case, they are those of the median training case:
        the ends of the range of the networks, or three standard deviations around the mean.

        Raises:
            UserError: the scales of training cases are not known.
        """
        codec = self.roles[role].codec
        if isinstance(codec, Window):
            return codec.low, codec.high
        zero, one = np.median(self._learned(f"scale.{role}"), axis=0)
        low, high = (float(zero + end * (one - zero)) for end in getattr(codec, "to", (-3.0, 3.0)))
        return low, high

    def above(self, role: str, part: float = 0.0, array: Array | None = None) -> float:
        """Return the value of a role above which an image has content.

        Args:
            role: role of an image.
            part: share of the window, from the lower end, that counts as dark. Where codecs are bound per case, the
                value is instead the one above which the body lies in the median training case.
            array: image of a case, from which the value is found before the statistics of training cases are known.
        """
        codec = self.roles[role].codec
        if isinstance(codec, Window):
            return codec.low + part * (codec.high - codec.low)
        if array is not None and f"above.{role}" not in self.fitted:
            return body_above(np.asarray(array))
        return float(np.median(self._learned(f"above.{role}")))

    def _learned(self, name: str) -> NDArray[Any]:
        if name not in self.fitted:
            raise UserError(f"{name.partition('.')[2]}: its scale was not learned in training; train again")
        return self.fitted[name]

    def visible(self, sample: Sample) -> Image:
        """Return the input as an image on its own grid, for comparison with the output."""
        image: Image = sample.values[self.input]
        return image
