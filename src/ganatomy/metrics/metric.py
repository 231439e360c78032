"""Image metrics with a name, a unit and a variant."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Window = tuple[float, float]


@dataclass(frozen=True)
class Metric:
    """Metric that compares an output with its target, and whose label includes its variant.

    Two values are comparable only if their labels are equal: ``psnr[-160,240]`` and ``psnr[range 4096]``
    of one image differ by many dB.

    Args:
        name: short name, such as ``psnr``.
        function: takes output, target and mask (or None), and returns one number.
        higher_is_better: the direction of improvement.
        unit: unit of the number, empty if it has none.
        variant: parameters that distinguish this form, short enough for a label.
        description: definition of the variant in words, for a footnote.
    """

    name: str
    function: Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike | None], float]
    higher_is_better: bool
    unit: str = ""
    variant: str = ""
    description: str = ""

    @property
    def label(self) -> str:
        """Name and variant, as in ``psnr[-160,240]``."""
        return f"{self.name}[{self.variant}]" if self.variant else self.name

    def __call__(self, output: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
        """Compare an output with its target, inside the mask if there is one."""
        return self.function(output, target, mask)
