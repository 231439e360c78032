"""The base task of image-to-image tasks."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Sample, Task, Volume
from ganatomy.images.codecs import Window, ZScore
from ganatomy.images.image import Image
from ganatomy.inference.predictor import decoding_role
from ganatomy.roles.scaled import ScaledRole

CONTENT = 0.02
"""Share of a slice that must lie above the window's lower end for the slice to be learned from."""
NOISE = 0.05
"""Share of a window found in an image, from its lower end, that counts as noise of the air (our choice)."""


class Restoration(Task):
    """Base class of image-to-image tasks; the output lies on the grid of the input, or on a finer one."""

    predictors: ClassVar = {"restore": "ganatomy.tasks.restoration.predictor:RestorationPredictor"}

    input: str = "input"
    """Role of the input image."""
    output: str = "target"
    """Role of the output image."""
    inputs: tuple[str, ...] = ()
    """Roles of all inputs, the main one first, where there are several; else empty."""
    outputs: tuple[str, ...] = ()
    """Roles of all outputs, the main one first, where there are several; else empty."""
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

    def bound_to(self, sample: Sample) -> Self:
        """Return this task with the scales of one case; an output without a true image is scored with its own scale.

        The scale of such an output is that of the input of the same contrast, or the median of the training cases.
        """
        bound, role = super().bound_to(sample), self.roles[self.output]
        like = self.same_contrast(self.output)
        known = like in sample.arrays if like else f"scale.{self.output}" in self.fitted
        if role.adaptive and self.output not in bound.own_scales and known:
            bound.roles = {**bound.roles, self.output: decoding_role(self, role, sample)}
        return bound

    def comparable(self, output: Volume, sample: Sample) -> Volume:
        """Return an output on the scale of the true image of its case, where that scale is arbitrary.

        An output of another contrast than its input has the median scale of the training cases, since nothing tells
        that of an image which does not exist yet. Between arbitrary units, the factor says nothing about the output.

        Args:
            output: values in physical units, any shape.
            sample: case of the output.
        """
        role = self.roles[self.output]
        if not role.adaptive or self.same_contrast(self.output) or self.output not in sample.arrays:
            return output
        made, true = decoding_role(self, role), sample.role(self.output)
        assert isinstance(made, ScaledRole) and isinstance(true, ScaledRole)
        return true.decoded(made.encoded(output))

    def trainable_slices(self, sample: Sample) -> NDArray[np.bool_] | None:
        """Return which slices of a sample may be used for training, by the scale of the case."""
        return super(Restoration, self.bound_to(sample)).trainable_slices(sample)

    def window(self, role: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a role that are displayed and scored, in physical units.

        These are the ends of its window, or three standard deviations around the mean of a z-score. Where every case
        has a scale of its own, they are those of the case that the task is bound to (`bound_to`), and else those of
        the median training case.

        Raises:
            UserError: the scales of training cases are not known.
        """
        codec = decoding_role(self, self.roles[role]).codec
        assert codec is not None
        if isinstance(codec, Window) and not isinstance(self.roles[role].codec, ZScore):
            return codec.low, codec.high
        low, high = codec.decode(np.array([-3.0, 3.0]))
        return float(low), float(high)

    def above(self, role: str, part: float = 0.0) -> float:
        """Return the value of a role above which an image has content.

        Args:
            role: role of an image.
            part: share of the window, from the lower end, that counts as dark; at least `NOISE` of it where every case
                has a window of its own, since it begins amid the noise of the air.
        """
        low, high = self.window(role)
        return low + max(part, NOISE if role in self.own_scales else 0.0) * (high - low)

    def visible(self, sample: Sample) -> Image:
        """Return the input as an image on its own grid, for comparison with the output."""
        image: Image = sample.values[self.input]
        return image
