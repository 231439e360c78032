"""How denoised MR slices are judged: against the slices without noise, and against non-local means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganatomy.case import Sample, Volume
from ganatomy.evaluation.judging import (
    INPUT,
    OUTPUT,
    TARGET,
    Contender,
    Judgement,
    Score,
    blocks,
    limits,
    middle_slice,
    side_by_side,
)
from ganatomy.metrics.statistics import count
from ganatomy.reports.report import Outcome, Report
from ganatomy.reports.strip import comparison_strip, detail_boxes
from ganatomy.tasks.mr_denoising.task import PSNR, RMSE, SSIM
from ganatomy.tasks.restoration.judge import RestorationJudge
from ganatomy.tasks.restoration.non_local_means import PATCH, REACH, STRENGTH, non_local_means


class MRDenoisingJudge(RestorationJudge):
    """Judges slices freed from noise against the slices that the noise was added to."""

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
        """The task's scores."""
        found: dict[str, float] = self.task.scores({self.task.product: output}, sample, spacing)
        return found

    def classical(self) -> Contender:
        """Non-local means that is told how strong the noise is."""

        def run(case: Sample, start: int, stop: int) -> Volume:
            sample = case.slices(start, stop)
            noise, inside = sample[INPUT] - sample[TARGET], self.task.head(sample[TARGET])
            pairs = zip(noise, inside, strict=True)
            return non_local_means(
                sample[INPUT], [float(one[where].std()) if where.any() else 0 for one, where in pairs]
            )

        return Contender(
            "non-local means",
            run,
            f"classical, no training; patches of {PATCH} pixels, search of {REACH}, strength {STRENGTH} times the true "
            "noise, which it is told; not tuned to these data",
        )

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Nearer to the clean slices than the input and than the first rival, or not, and by how much."""
        fidelity = judgement.scores.compare(OUTPUT, INPUT, self.named(PSNR))
        assert fidelity is not None
        relation = {
            "better": "is closer to the clean slices than the input",
            "worse": "is farther from the clean slices than the input",
            "undecided": "cannot be told from the input by its distance to the clean slices",
        }[fidelity.outcome]
        sentences = [f"The output {relation}: PSNR {limits(fidelity.difference, 'dB', signed=True)}."]
        for rival in judgement.rivals[:1]:
            if found := judgement.scores.compare(OUTPUT, rival, self.named(PSNR)):
                sentences.append(
                    f"Against {rival} it is {found.outcome}: {limits(found.difference, 'dB', signed=True)}."
                )
        if fidelity.difference.unit_of_resampling != "subject" or fidelity.difference.n < 2:
            sentences.append("With a single subject this says nothing about other patients.")
        return " ".join(sentences), fidelity.outcome

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Strips of the median, worst and best case."""
        for label, case in self.examples(judgement).items():
            which = "The only case" if label == "Only" else f"{label} of {count(len(judgement.cases), 'case')} by PSNR"
            report.figure(
                self._strip(judgement, case),
                f"{which}: {case.case.name}, slice {middle_slice(case) + 1} of {case.shape[0]}. Differences on the "
                "right: red is too bright, blue too dark; folds of the brain there were smoothed away or made up. "
                "Frames are magnified below.",
            )

    def _strip(self, judgement: Judgement, case: Sample) -> Any:
        plane, window = middle_slice(case), self.task.window(TARGET)
        views = {name: image[0] for name, image in side_by_side(judgement.contenders, case, plane, plane + 1).items()}
        scores = {name: judgement.scores.by_case(name, PSNR).get(case.case.name) for name in views}
        return comparison_strip(
            views,
            window=window,
            spacing_mm=case.spacing[1:],
            unit=self.task.codecs[TARGET].unit or "",
            differences=(INPUT, OUTPUT),
            zooms=detail_boxes(views[TARGET], window, case.spacing[1:]),
            notes={name: f"PSNR {value:.1f} dB" for name, value in scores.items() if value is not None},
        )

    def measured(self) -> dict[str, str]:
        """Noise, head and blocks."""
        return {
            "Noise": f"Gaussian, within the head only; its SD is the head's mean in the slice over {self.task.snr:g}",
            "Head": f"what rises {self._above} in the clean slice, and all that it encloses",
            "Unit of scoring": f"blocks of at most {blocks(10**6)[0][1]} slices, averaged over each subject",
        }

    @property
    def _above(self) -> str:
        if self.task.roles[TARGET].adaptive:
            return "above the air of the median training case"
        return "5 % of the window above its lower end"

    def caveats(self, judgement: Judgement) -> list[str]:
        """Simulated noise, one level of it, and phantoms."""
        points = [
            "The noise is simulated, Gaussian and absent outside of the head; a scanner's magnitude images have Rician "
            "noise everywhere. A network knows the one level that it was trained on.",
            "No score here sees a lesion that was removed or invented; look at the differences, and at the cases.",
        ]
        if any(not case.case.sources[TARGET].paths for case in judgement.cases):
            points.insert(
                0,
                "The patients are procedural phantoms: this shows that a method works as its paper describes, not that "
                "it is fit for patients.",
            )
        return points
