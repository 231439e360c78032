"""The task of turning one image into another one, which several kinds of work share."""

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
"""Share of a slice that must lie above the window's lower end for the slice to be worth learning from."""


class Restoration(Task):
    """A task that turns an image into another one on the same grid, or on one as much finer as the method makes it."""

    predictors: ClassVar = {"restore": "ganatomy.tasks.restoration.predictor:RestorationPredictor"}

    input: str = "input"
    """Role that is shown to the method."""
    output: str = "target"
    """Role that it makes."""
    fitted: Mapping[str, NDArray[Any]] = MappingProxyType({})

    @property
    def in_channels(self) -> int:
        """Channels of the source."""
        return self.roles[self.input].channels

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.roles[self.output].channels

    def contrasts(self, sample: Sample) -> tuple[Window, Window] | None:
        """Ranges of the input and the output of a case where their contrasts differ; None where they look alike."""
        return None

    def same_contrast(self, output: str) -> str | None:
        """The input, with which the output shares its contrast unless a task says otherwise."""
        return self.input

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """The usual statistics; of roles whose images have scales of their own also ``above.ROLE``, the value that the
        body lies above in every training case.
        """
        cases = list(samples)
        found = dict(super().fit(cases))
        for name, role in self.roles.items():
            if role.adaptive and f"scale.{name}" in found:
                above = [body_above(case.arrays[name]) for case in cases if name in case.arrays]
                found[f"above.{name}"] = np.array(above, np.float32)
        return found

    def window(self, role: str) -> tuple[float, float]:
        """Values of a role, in physical units, that are shown and between which it is scored.

        Those of its window. Where every image has a scale of its own, those of the median training case: the ends of
        the range of the networks, or three standard deviations around the mean.

        Raises:
            UserError: the scale has not been learned.
        """
        codec = self.roles[role].codec
        if isinstance(codec, Window):
            return codec.low, codec.high
        zero, one = np.median(self._learned(f"scale.{role}"), axis=0)
        low, high = (float(zero + end * (one - zero)) for end in getattr(codec, "to", (-3.0, 3.0)))
        return low, high

    def above(self, role: str, part: float = 0.0, array: Array | None = None) -> float:
        """The value of a role above which there is something to see.

        Args:
            role: of an image.
            part: of its window that is dark, counted from the lower end. Where every image has a scale of its own, the
                value is instead the one that the body lies above in the median training case.
            array: of a case, which takes the place of the training cases before these have been learned from.
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
        """The input as an image on its own grid, with which the output is compared."""
        image: Image = sample.values[self.input]
        return image
