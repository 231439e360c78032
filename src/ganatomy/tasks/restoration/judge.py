"""The base judge of image-to-image tasks, which scores cases in blocks of slices."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Case, Sample, Volume
from ganatomy.evaluation.illustrations import examples
from ganatomy.evaluation.judging import BLOCK, INPUT, OUTPUT, TARGET, Entry, Judge, Judgement, Row, about, blocks
from ganatomy.evaluation.keeping import as_source
from ganatomy.images.image import ComputedArray, Image
from ganatomy.inference.model import Model


class RestorationJudge(Judge):
    """Base class of the judges of image-to-image tasks; they score cases in blocks of slices."""

    keeps_images = True

    @abstractmethod
    def score(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Score a block of slices.

        Args:
            output: output of an entry, (channels · slices, rows, columns), channel after channel.
            sample: roles of the same slices, as from `sample`.
            spacing: mm between slices, rows and columns.
        """

    def sample(self, case: Sample, start: int, stop: int) -> dict[str, Volume]:
        """Return the roles with which slices of a case are scored, with channels one after another as slices."""
        return case.slices(start, stop, self.task.out_channels)

    def worth_judging(self, output: Volume, sample: Mapping[str, Volume]) -> tuple[Volume, dict[str, Volume]]:
        """Leave out slices without content, which are trivial to predict and for which relative errors are undefined.

        Args:
            output: output of an entry, (channels · slices, rows, columns).
            sample: roles of the same slices; those with another number of slices are left out.

        Returns:
            Output and roles of the remaining slices, of which there may be none.
        """
        names = [name for name in (self.task.input, self.task.output) if name in sample]
        shown = self.task.trainable(None, {name: self.apart(sample[name]) for name in names})
        if shown is None:
            return output, dict(sample)
        kept = np.tile(shown, self.task.out_channels)
        return output[kept], {name: part[kept] for name, part in sample.items() if len(part) == len(kept)}

    def apart(self, volume: Volume) -> NDArray[Any]:
        """Reshape slices whose channels follow one after another to (channels, slices, rows, columns)."""
        return volume.reshape(self.task.out_channels, -1, *volume.shape[1:])

    def examples(self, judgement: Judgement, score: str | None = None) -> dict[str, Sample]:
        """Return the median, worst and best case of the output, by the first leading score or another one."""
        return examples(judgement, judgement.scores.by_case(OUTPUT, score or self.leading[0]))

    def truth(self, case: Case) -> Any:
        """Return the ground truth of a phantom; None for other cases."""
        return None

    def score_truth(self, output: Volume, case: Sample, truth: Any) -> dict[str, float]:
        """Score a whole phantom against its ground truth."""
        return {}

    def entry(self, model: Model, name: str) -> Entry:
        """Return a trained run as an entry of the judgement."""
        return trained(model, name)

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the unchanged input, and the target, for scores that are no distance from it."""
        task = self.task
        channels = task.out_channels
        return [role(INPUT, task.input, channels)], [role(TARGET, task.output, channels)]

    def images(self, entries: Sequence[Entry], case: Sample) -> Mapping[str, Image]:
        """Return what every entry makes of a case, in physical units."""
        role = self.task.roles[self.task.output]
        affine, unit = case.affines[case.first], role.codec.unit if role.codec else None

        def image(entry: Entry) -> Image:
            def run(start: int, stop: int) -> NDArray[Any]:
                return self.apart(np.asarray(entry.run(case, start, stop), np.float32))

            array = ComputedArray((self.task.out_channels, *case.shape), np.float32, run, BLOCK)
            return as_source(Image(array, affine, unit), case)

        there = (entry for entry in entries if entry.name != TARGET or self.task.output in case.arrays)
        return {entry.name: image(entry) for entry in there}

    def bound_to(self, case: Sample) -> Self:
        """Return this judge with the scales of one case, where every image has a scale of its own."""
        bound = copy.copy(self)
        bound.task = self.task.bound_to(case)
        return bound

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score every entry in blocks of slices, and phantoms also as a whole against their ground truth."""
        truth, own = self.truth(case.case), self.bound_to(case)
        rows = []
        for entry in entries:
            kept = {score.name for score in self.scores if score.better is None or entry.name != TARGET}
            outputs = []
            for start, stop in blocks(case.shape[0]):
                output = entry.run(case, start, stop)
                scores = own.score(output, self.sample(case, start, stop), case.spacing)
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
    """Return a role of the cases as an entry of the judgement, such as the unchanged input.

    Args:
        name: name of the entry.
        played: name of the role; None means that of the entry.
        channels: number of channels of the output, with which the role is compared.
    """
    return Entry(name, lambda case, start, stop: case.slices(start, stop, channels)[played or name])


def trained(model: Model, name: str) -> Entry:
    """Return a trained run of an image-to-image task as an entry of the judgement."""
    predictor, task = model.predictor(), model.method.task

    def run(case: Sample, start: int, stop: int) -> Volume:
        return predictor.predict(case).slices(start, stop, task.out_channels)[task.output]

    return Entry(name, run, about(model))
