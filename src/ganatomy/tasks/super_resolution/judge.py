"""The judge of super-resolution: distance from fine images, with interpolation as the input's entry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Sample, Volume, slab
from ganatomy.evaluation.judging import INPUT, TARGET, Classical, Entry
from ganatomy.tasks.restoration.judge import role
from ganatomy.tasks.restoration.nearness import NEARNESS, NearnessJudge
from ganatomy.tasks.restoration.semantics import SEMANTICS, SemanticJudge


class SuperResolutionJudge(SemanticJudge, NearnessJudge):
    """Judges super-resolved images; the entry of the input is its interpolation to the fine grid."""

    scores = (*NEARNESS, *SEMANTICS)
    warning = (
        "Detail finer than the input's resolution is likely, not seen: it may be wrong where it looks sharpest. Coarse "
        "images are simulated here; a scanner's own are coarse in another way."
    )

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the interpolated coarse image, and the fine one."""
        return (
            [Entry(INPUT, self._interpolated, self.task.degradation.interpolation)],
            [role(TARGET, self.task.output, self.task.out_channels)],
        )

    def score(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Compute scores of fidelity and detail, and the semantic scores."""
        return super().score(output, sample, spacing) | self.interpreted(output, sample)

    def classical(self) -> Sequence[Classical]:
        """Return Lanczos interpolation, where the coarse image has to be interpolated at all."""
        if self.task.degradation.same_grid:
            return ()

        def run(case: Sample, start: int, stop: int) -> Volume:
            return self._enlarged(self.task.degradation.windowed_sinc, case, start, stop)

        return (Classical("Lanczos", "classical, no training; interpolated by a windowed sinc", [("", run)]),)

    def called(self, name: str) -> str:
        return "the interpolated input" if name == INPUT else super().called(name)

    def _interpolated(self, case: Sample, start: int, stop: int) -> Volume:
        return self._enlarged(self.task.degradation.interpolated, case, start, stop)

    def _enlarged(
        self, method: Callable[[NDArray[np.float32]], NDArray[np.float32]], case: Sample, start: int, stop: int
    ) -> Volume:
        degradation, source = self.task.degradation, self.task.input
        times, around, slices = degradation.scale[0], degradation.interpolated_from, case.arrays[source].shape[1]
        first, last = max(start // times - around, 0), min(-(-stop // times) + around, slices)
        low = slab(case.arrays[source], first, last)
        fine = [method(np.asarray(channel, np.float32)) for channel in low]
        return np.concatenate([channel[start - first * times : stop - first * times] for channel in fine])

    def particulars(self) -> dict[str, str]:
        return {"Coarse images": self.task.degradation.words, **self.told}
