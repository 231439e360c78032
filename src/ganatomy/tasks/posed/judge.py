"""The judge of frames from poses: landmarks in mm, fidelity and sharpness, against training frames of near poses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import center_of_mass, gaussian_filter

from ganatomy.case import Sample, Volume, slab
from ganatomy.evaluation.judging import OUTPUT, TARGET, Classical, Entry, Judgement, Row, Score, limits
from ganatomy.evaluation.remarks import sentences
from ganatomy.reports.report import Outcome
from ganatomy.tasks.posed.task import frame_coordinates
from ganatomy.tasks.restoration.judge import RestorationJudge, role, trained
from ganatomy.tasks.restoration.likeness import PSNR, SSIM
from ganatomy.tasks.restoration.nearness import NEARNESS, SPECTRUM, NearnessJudge

LANDMARK = "landmark error"
MEAN, NEAREST = "mean frame", "nearest frame"
"""Names of the baselines: the mean of all training frames, and the training frame of the nearest pose."""
TEMPLATE_MM, SEARCH_MM = 12.0, 24.0
"""Half edges of the part of the real frame that is sought, and of the region in which it is sought (our choice)."""
BLUR = 1.5
"""SD in pixels of the Gaussian that both frames are smoothed with before, which hides speckle (as in the paper's reader
study)."""
FEWEST = 9
"""Number of pixels from which a landmark counts as seen."""


class PosedJudge(NearnessJudge):
    """Judges simulated frames by the true frames of the same poses.

    Landmarks are the centres of labelled structures in the real frame. The part of the real frame around each is sought
    in the simulated one; how far from its place it fits best is the landmark error. Baselines are the mean of all
    training frames, and the training frame whose pose is nearest to that of the frame.

    Args:
        task: task of the run.
        options: not used; the judge has no options.
    """

    scores: tuple[Score, ...] = (
        Score(
            LANDMARK,
            "lower",
            "mm",
            f"Distance from a landmark to the place, within {SEARCH_MM:g} mm along either axis, at which the real "
            f"frame around it ({2 * TEMPLATE_MM:g} mm) correlates best with the simulated one; mean over landmarks.",
            "Landmarks",
        ),
        *NEARNESS,
    )
    leading = (PSNR, SSIM, LANDMARK, SPECTRUM)
    plotted = (PSNR, LANDMARK)
    reference: ClassVar[str] = MEAN
    image = "frame"
    compares_with_training = True
    warning = (
        "A simulated frame shows what is likely at a pose. Far from the poses of the training frames nothing holds it "
        "to the anatomy."
    )

    def __init__(self, task: Any, options: Any = None):
        super().__init__(task, options)
        self.frames: NDArray[np.float32] | None = None
        self.places: NDArray[np.float64] | None = None

    def entry(self, model: Any, name: str) -> Entry:
        return trained(model, name)

    def learn(self, training: Sequence[Sample]) -> None:
        """Keep the training frames with the positions of their corners."""
        frames = [np.asarray(case.arrays[self.task.output], np.float32) for case in training]
        if frames:
            self.frames = np.concatenate(frames, axis=1)
            self.places = np.concatenate([self.corners(case, 0, case.shape[0]) for case in training])

    def corners(self, case: Sample, start: int, stop: int) -> NDArray[np.float64]:
        """Return the positions in mm of the corners of frames, (frames, 12)."""
        rows, columns = self.task.config.size
        _, high, wide = case.spacing_of(self.task.output)
        known = frame_coordinates((2, 2), (high * (rows - 1), wide * (columns - 1))).numpy()
        matrices = slab(case.arrays[self.task.input], start, stop)[:, :, 0, 0].T.reshape(-1, 3, 4)
        return np.asarray(np.einsum("nij,hwj->nhwi", matrices, known).reshape(len(matrices), -1), np.float64)

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the mean of the training frames, and the true frames for scores that are no distance from them."""
        after = [role(TARGET, self.task.output, self.task.out_channels)]
        if self.frames is None:
            return [], after
        mean = self.frames.mean(axis=1, keepdims=True)

        def constant(case: Sample, start: int, stop: int) -> Volume:
            return np.repeat(mean, stop - start, axis=1).reshape(-1, *mean.shape[2:])

        return [Entry(MEAN, constant, f"the mean of {self.frames.shape[1]} training frames")], after

    def classical(self) -> Sequence[Classical]:
        """Return the baseline of the training frame with the nearest pose."""
        if self.frames is None or self.places is None:
            return ()
        frames, places = self.frames, self.places

        def nearest(case: Sample, start: int, stop: int) -> Volume:
            apart = self.corners(case, start, stop)[:, None] - places[None]
            found = frames[:, np.square(apart).sum(axis=2).argmin(axis=1)]
            return np.asarray(found.reshape(-1, *found.shape[2:]))

        return [Classical(NEAREST, "the training frame whose corners lie nearest in space", [("", nearest)])]

    def called(self, name: str) -> str:
        known = {MEAN: "the mean training frame", NEAREST: "the training frame of the nearest pose"}
        return known.get(name) or super().called(name)

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score fidelity in blocks of frames, and landmarks over all frames of a case that has a map of them."""
        labels, rows = self.task.config.labels, super().score_case(entries, case, advance)
        if labels is None or labels not in case.arrays or self.task.output not in case.arrays:
            return rows
        shown = (0, case.shape[0])
        maps = np.asarray(case.arrays[labels])[0]
        true = np.asarray(case.arrays[self.task.output], np.float32).mean(axis=0)
        for entry in entries:
            if entry.name == TARGET:
                continue
            made = self.apart(np.asarray(entry.run(case, *shown), np.float32)).mean(axis=0)
            errors = landmark_errors(made, true, maps, case.spacing_of(self.task.output)[1:])
            if errors:
                found = {LANDMARK: float(np.mean(errors))}
                rows.append(Row(case.case.name, case.case.subject, shown, entry.name, found))
        return rows

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether frames are nearer to the true ones than the strongest baseline, and the landmark errors."""
        words, outcome = super().verdict(judgement)
        ours, theirs = (judgement.scores.interval(one, LANDMARK) for one in (OUTPUT, judgement.reference))
        if ours is None or not math.isfinite(ours.mean):
            return words, outcome
        against = f", those of {self.called(judgement.reference)} {limits(theirs, 'mm')}" if theirs else ""
        return sentences(words, f"Its landmarks are {limits(ours, 'mm')} from the true ones{against}."), outcome

    def particulars(self) -> dict[str, str]:
        return {
            "Landmarks": f"centres of labelled structures of at least {FEWEST} pixels, sought by normalised "
            f"correlation in frames smoothed by a Gaussian with an SD of {BLUR:g} pixels; what is not there may be "
            "found anywhere in the region, so that the error of a random frame is about half of its edge"
        }

    def sample(self, case: Sample, start: int, stop: int) -> dict[str, Volume]:
        """Return the frames alone: maps of landmarks are scored for whole cases."""
        return {self.task.output: RestorationJudge.sample(self, case, start, stop)[self.task.output]}

    def worth_judging(self, output: Volume, sample: Mapping[str, Volume]) -> tuple[Volume, dict[str, Volume]]:
        return output, dict(sample)


def landmark_errors(made: Volume, true: Volume, labels: NDArray[Any], spacing: tuple[float, float]) -> list[float]:
    """Return the distances in mm by which landmarks lie elsewhere in simulated frames than in real ones.

    Args:
        made: simulated frames, (frames, rows, columns).
        true: real frames of the same poses.
        labels: labels of structures in the real frames, 0 elsewhere; their centres are the landmarks.
        spacing: mm between rows and between columns.
    """
    found = []
    half, reach = ([round(length / step) for step in spacing] for length in (TEMPLATE_MM, SEARCH_MM))
    for ours, theirs, own in zip(made, true, labels, strict=True):
        for label in np.unique(own[own > 0]):
            inside = own == label
            if inside.sum() < FEWEST:
                continue
            row, column = (round(place) for place in center_of_mass(inside))
            smooth = gaussian_filter(ours, BLUR), gaussian_filter(theirs, BLUR)
            shift = _best_shift(*smooth, (row, column), half, reach)
            found.append(float(np.hypot(shift[0] * spacing[0], shift[1] * spacing[1])))
    return found


def _best_shift(
    made: NDArray[Any], true: NDArray[Any], place: tuple[int, int], half: Sequence[int], reach: Sequence[int]
) -> tuple[int, int]:
    """Return the shift in rows and columns at which a part of the true frame correlates best with the made one.

    Of shifts that fit equally well, as in a constant frame, the farthest is taken.
    """
    low = [max(0, at - size) for at, size in zip(place, half, strict=True)]
    high = [min(n, at + size + 1) for n, at, size in zip(true.shape, place, half, strict=True)]
    template = true[low[0] : high[0], low[1] : high[1]].astype(np.float64)
    template = template - template.mean()
    extent = template.shape
    best, chosen = -math.inf, (0, 0)
    for down in range(-min(reach[0], low[0]), min(reach[0], true.shape[0] - high[0]) + 1):
        strip = made[low[0] + down : high[0] + down].astype(np.float64)
        first, last = low[1] - min(reach[1], low[1]), high[1] + min(reach[1], true.shape[1] - high[1])
        parts = np.lib.stride_tricks.sliding_window_view(strip[:, first:last], extent)[0]
        parts = parts - parts.mean(axis=(1, 2), keepdims=True)
        scale = np.sqrt(np.square(parts).sum(axis=(1, 2)) * np.square(template).sum())
        values = np.tensordot(parts, template, ([1, 2], [0, 1])) / np.maximum(scale, 1e-9)
        for number, value in enumerate(values):
            right = first + number - low[1]
            farther = math.hypot(down, right) > math.hypot(*chosen)
            if value > best + 1e-9 or (abs(value - best) <= 1e-9 and farther):
                best, chosen = float(value), (down, right)
    return chosen
