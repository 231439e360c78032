"""Plausibility checks of an output against its input, accumulated slab by slab."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.images.codecs import Window
from ganatomy.metrics.dependence import JointHistogram

TISSUES: dict[str, tuple[float, float]] = {
    "air": (-1100.0, -900.0),
    "lung": (-900.0, -500.0),
    "soft tissue": (-200.0, 200.0),
    "bone": (300.0, 2000.0),
}
"""Tissue to its range of input values in HU, wide enough for the noise of a low-dose scan."""

SHIFT = 20.0
"""Mean change of a tissue in HU from which on a warning is given (our choice)."""
LIKENESS = 0.5
"""Correlation of output and input below which a warning is given (our choice)."""
DEPENDENCE = 0.1
"""Mutual information in bits of output and input of another contrast below which a warning is given (our choice)."""
SHARE = 1e-3
"""Share of the image that a tissue must fill to be checked, and that may be clipped without a warning (our choice)."""


class Comparison:
    """Correlation of output and input, mean change of each tissue, and number of clipped values.

    Args:
        unit: unit of both images; tissues are distinguished in HU only.
        contrasts: windows of the input and of the output where their contrasts differ. Their dependence is then
            measured by mutual information, which does not depend on the sign of the contrast.
    """

    def __init__(self, unit: str | None, contrasts: tuple[Window, Window] | None = None):
        self.ranges = TISSUES if unit == "HU" and not contrasts else {}
        self.joint = _joint(*contrasts) if contrasts else None
        self.count = self.clipped = 0
        self.origin = (0.0, 0.0)
        self.sums = np.zeros(2)
        self.products = np.zeros((2, 2))
        self.tissues = {name: [0, 0.0] for name in self.ranges}

    def add(self, before: NDArray[Any], after: NDArray[Any], clipped: int = 0) -> None:
        """Add a slab of the input and the same slab of the output, of which ``clipped`` values were clipped."""
        if len(before) != len(after):
            before, after = (values.mean(axis=0, dtype=np.float64) for values in (before, after))
        x, y = before.ravel().astype(np.float64), after.ravel().astype(np.float64)
        if self.joint:
            self.joint.add(x, y)
        if not self.count:
            # Sums of squares lose fewer digits about values near the mean.
            self.origin = float(x.mean()), float(y.mean())
        change = y - x
        for name, (low, high) in self.ranges.items():
            inside = (x >= low) & (x < high)
            self.tissues[name][0] += int(np.count_nonzero(inside))
            self.tissues[name][1] += float((change * inside).sum())
        x -= self.origin[0]
        y -= self.origin[1]
        self.count += len(x)
        self.clipped += clipped
        self.sums += x.sum(), y.sum()
        # A matrix product would start the threads of BLAS, for which those of the network would have to wait.
        self.products += np.array([[(x * x).sum(), (x * y).sum()], [0.0, (y * y).sum()]])

    @property
    def correlation(self) -> float:
        """Pearson's correlation of output and input; negative for an inverted contrast, NaN for a constant image."""
        covariance = self.products / max(self.count, 1) - np.outer(self.sums, self.sums) / max(self.count, 1) ** 2
        spread = math.sqrt(max(covariance[0, 0] * covariance[1, 1], 0.0))
        return float(covariance[0, 1]) / spread if spread > 0 else math.nan

    @property
    def shifts(self) -> dict[str, float]:
        """Tissue to mean change in HU, for every tissue that fills enough of the input."""
        return {name: total / count for name, (count, total) in self.tissues.items() if count > SHARE * self.count}

    @property
    def warnings(self) -> list[str]:
        """Warnings for readers of the output, in sentences."""
        found = []
        if self.joint:
            shared = self.joint.mutual_information
            if not shared >= DEPENDENCE:
                found.append(f"the output hardly depends on the input: mutual information {shared:.2f} bits")
        elif math.isnan(self.correlation):
            found.append("the output or the input has one value everywhere, so they cannot be compared")
        elif self.correlation < 0:
            found.append(f"the contrast may be inverted or lost: correlation with the input {self.correlation:.2f}")
        elif self.correlation < LIKENESS:
            found.append(f"the output hardly resembles the input: correlation {self.correlation:.2f}")
        found += [
            f"{name} moved by {shift:+.0f} HU in the mean" for name, shift in self.shifts.items() if abs(shift) > SHIFT
        ]
        if self.clipped > SHARE * self.count:
            found.append(f"{self.clipped / self.count:.2%} of the values were clipped to what the file can hold")
        return found

    def summary(self) -> dict[str, Any]:
        """Return the numbers of the checks, rounded, as values that JSON can hold."""
        correlation = self.correlation
        return {
            "correlation with input": None if math.isnan(correlation) else round(correlation, 4),
            **(
                {"mutual information with input in bits": round(self.joint.mutual_information, 4)} if self.joint else {}
            ),
            **({"mean shift in HU": {k: round(v, 2) for k, v in self.shifts.items()}} if self.ranges else {}),
            "values clipped": self.clipped,
        }


def _joint(before: Window, after: Window) -> JointHistogram:
    return JointHistogram((before.low, before.high), (after.low, after.high))
