"""The judge of MR denoising: distance from noise-free slices, with non-local means as the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ganatomy.case import Sample, Volume
from ganatomy.evaluation.illustrations import DIFFERENCES, caption, strip
from ganatomy.evaluation.judging import INPUT, TARGET, Classical, Judgement, Score
from ganatomy.evaluation.remarks import BLOCKS, UNSEEN, distance, phantoms
from ganatomy.reports.report import Outcome, Report
from ganatomy.tasks.mr_denoising.task import PSNR, RMSE, SSIM
from ganatomy.tasks.restoration.classical import denoisers
from ganatomy.tasks.restoration.judge import RestorationJudge


class MRDenoisingJudge(RestorationJudge):
    """Judges denoised slices against the slices to which noise was added."""

    scores = (
        Score(PSNR, "higher", "dB", "Within the head, nothing clipped, the width of the window as data range."),
        Score(SSIM, "higher", "", "Pixels within the head, same data range; 11x11 Gaussian window, mean over slices."),
        Score(RMSE, "lower", "", "Root-mean-square error within the head, in the unit of the slices."),
    )
    leading = (PSNR, SSIM, RMSE)
    plotted = (PSNR,)

    def score(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Compute the task's scores."""
        found: dict[str, float] = self.task.scores({self.task.output: output}, sample, spacing)
        return found

    def classical(self) -> Sequence[Classical]:
        """Return classical denoisers, which are told the true standard deviation of the noise."""

        def noisy(case: Sample, start: int, stop: int) -> tuple[Volume, list[float]]:
            sample = case.slices(start, stop)
            noise, inside = sample[INPUT] - sample[TARGET], self.task.bound_to(case).head(sample[TARGET])
            pairs = zip(noise, inside, strict=True)
            return sample[INPUT], [float(one[where].std()) if where.any() else 0.0 for one, where in pairs]

        return denoisers(noisy, "the true noise, which it is told")

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether the output is nearer to the clean slices than the strongest reference, and by how much."""
        words, found = distance(self, judgement, PSNR, "the clean slices")
        assert found is not None
        return words, found.outcome

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add strips of the median, worst and best case."""
        for label, case in self.examples(judgement).items():
            unit = self.task.codecs[TARGET].unit or ""
            report.figure(
                strip(judgement.entries, case, judgement, PSNR, self.task.bound_to(case).window(TARGET), unit),
                f"{caption(label, case, judgement, 'PSNR')} {DIFFERENCES} folds of the brain there were "
                "smoothed away or made up. The still picture magnifies the frames.",
            )

    def measured(self) -> dict[str, str]:
        """Describe the noise, the head and the blocks."""
        return {
            "Noise": f"Gaussian, within the head only; its SD is the head's mean in the slice over {self.task.snr:g}",
            "Head": f"what rises {self._above} in the clean slice, and all that it encloses",
            "Unit of scoring": BLOCKS,
        }

    @property
    def _above(self) -> str:
        if self.task.roles[TARGET].adaptive:
            return "5 % of the slice's own range above its lower end"
        return "5 % of the window above its lower end"

    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on the simulated noise and on phantoms."""
        return [
            *phantoms(judgement.cases),
            "The noise is simulated, Gaussian and absent outside of the head; a scanner's magnitude images have Rician "
            "noise everywhere. A network knows the one level that it was trained on.",
            UNSEEN,
        ]
