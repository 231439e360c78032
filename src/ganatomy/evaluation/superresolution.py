"""How images made finer are judged: against the fine ones, and against interpolation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ganatomy.data.store import PreparedCase
from ganatomy.evaluation.judging import INPUT, TARGET, Contender, Judgement, role
from ganatomy.evaluation.translation import NEARNESS, SPECTRUM, TranslationJudge
from ganatomy.inference.prepared import sample_slices
from ganatomy.physics.resolution import enlarged
from ganatomy.tasks.base import Volume
from ganatomy.tasks.translation import MAE, PSNR, SSIM


class SuperResolutionJudge(TranslationJudge):
    """Judges images made finer; the input counts as what bicubic interpolation makes of it."""

    scores = NEARNESS
    leading = (PSNR, SSIM, MAE, SPECTRUM)
    plotted = (PSNR, SPECTRUM)
    warning = (
        "Detail finer than the input's pixels is likely, not seen: it may be wrong where it looks sharpest. Coarse "
        "images are simulated here; a scanner's own are coarse in another way."
    )

    def references(self) -> tuple[Sequence[Contender], Sequence[Contender]]:
        """The coarse image interpolated, and the fine one."""
        task = self.task

        def interpolated(case: PreparedCase, start: int, stop: int) -> Volume:
            low = torch.from_numpy(np.array(sample_slices(case, start, stop)[task.source], np.float32))
            return np.asarray(enlarged(low[:, None], task.factor)[:, 0].numpy())

        return [Contender(INPUT, interpolated, "enlarged by bicubic interpolation")], [role(TARGET, task.product)]

    def _tissue(self) -> dict[str, str]:
        return {
            "Coarse images": f"{self.task.factor} times fewer rows and columns, after a Gaussian of SD "
            f"{self.task.blur:g} pixels"
        }

    def _faults(self, judgement: Judgement) -> list[str]:
        return []
