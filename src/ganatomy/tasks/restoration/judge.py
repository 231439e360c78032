"""How methods that turn one image into another one are judged, case by case and block of slices by block."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Case, Sample, Volume
from ganatomy.evaluation.illustrations import examples
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judge, Judgement, Row, about, blocks
from ganatomy.inference.model import Model


class RestorationJudge(Judge):
    """Judges methods that turn an image into another one, block of slices by block of slices."""

    @abstractmethod
    def score(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Scores of a block of slices.

        Args:
            output: (channels · slices, rows, columns), channel after channel.
            sample: as `sample` gives it.
            spacing: mm between slices, rows and columns.
        """

    def sample(self, case: Sample, start: int, stop: int) -> dict[str, Volume]:
        """Arrays that slices of a case are scored with, by role, every channel of the output for itself."""
        return case.slices(start, stop, self.task.out_channels)

    def worth_judging(self, output: Volume, sample: Mapping[str, Volume]) -> tuple[Volume, dict[str, Volume]]:
        """The slices worth learning from, perhaps none: an empty one is reproduced perfectly by leaving it empty, and
        errors relative to nothing say nothing.

        Args:
            output: (channels · slices, rows, columns).
            sample: roles of the same slices; those with another number of slices are left out.
        """
        names = [name for name in (self.task.input, self.task.output) if name in sample]
        shown = self.task.trainable(None, {name: self.apart(sample[name]) for name in names})
        if shown is None:
            return output, dict(sample)
        kept = np.tile(shown, self.task.out_channels)
        return output[kept], {name: part[kept] for name, part in sample.items() if len(part) == len(kept)}

    def apart(self, volume: Volume) -> NDArray[Any]:
        """Slices whose channels follow one after another, as (channels, slices, rows, columns)."""
        return volume.reshape(self.task.out_channels, -1, *volume.shape[1:])

    def examples(self, judgement: Judgement, score: str | None = None) -> dict[str, Sample]:
        """Median, worst and best case of the output by the very first of the leading scores, or another."""
        return examples(judgement, judgement.scores.by_case(OUTPUT, score or self.leading[0]))

    def truth(self, case: Case) -> Any:
        """The phantom behind a case, or None."""
        return None

    def score_truth(self, output: Volume, case: Sample, truth: Any) -> dict[str, float]:
        """Scores of a whole phantom."""
        return {}

    def entry(self, model: Model, name: str) -> Entry:
        """A trained run, ready to be judged."""
        return trained(model, name)

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """The input as it is, and the target, for scores that are no distance from it."""
        task = self.task
        channels = task.out_channels
        return [role(INPUT, task.input, channels)], [role(TARGET, task.output, channels)]

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry, block by block; phantoms once more as a whole against their truth."""
        truth = self.truth(case.case)
        rows = []
        for entry in entries:
            kept = {score.name for score in self.scores if score.better is None or entry.name != TARGET}
            outputs = []
            for start, stop in blocks(case.shape[0]):
                output = entry.run(case, start, stop)
                scores = self.score(output, self.sample(case, start, stop), case.spacing)
                found = {name: value for name, value in scores.items() if name in kept}
                rows.append(Row(case.case.name, case.case.subject, (start, stop), entry.name, found))
                if truth is not None:
                    outputs.append(output)
            if truth is not None:
                known = self.score_truth(np.concatenate(outputs), case, truth)
                rows.append(Row(case.case.name, case.case.subject, (0, case.shape[0]), entry.name, known))
            advance()
        return rows


def role(name: str, played: str | None = None, channels: int = 1) -> Entry:
    """A role of the cases as a entry, such as the input left as it is.

    Args:
        name: of the entry.
        played: the role, called like the entry unless given.
        channels: of the output, which is compared with it.
    """
    return Entry(name, lambda case, start, stop: case.slices(start, stop, channels)[played or name])


def trained(model: Model, name: str) -> Entry:
    """A trained run that turns images into others, as a entry."""
    predictor, task = model.predictor(), model.method.task

    def run(case: Sample, start: int, stop: int) -> Volume:
        return predictor.predict(case).slices(start, stop, task.out_channels)[task.output]

    return Entry(name, run, about(model))
