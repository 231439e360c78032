"""A kind of task that the package does not know: counting discs in pictures, with predictor, judge and report."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from ganatomy.case import Held, Prediction, Role, Task
from ganatomy.evaluation.judging import OUTPUT, Entry, Judge, Row, Score, about
from ganatomy.game import Method, MethodConfig, Player, Stage, Stream, Turn, adam
from ganatomy.images.codecs import Window
from ganatomy.images.image import Image
from ganatomy.inference.predictor import Options, Predictor, encoded
from ganatomy.reports.figures import paired_plot
from ganatomy.roles.image import ImageRole

SIZE = 24


def picture(count, seed):
    """Draw a number of bright discs that do not touch on a dark picture, uint8 (SIZE, SIZE)."""
    rng, image = np.random.default_rng(seed), np.full((SIZE, SIZE), 20.0)
    places = rng.permutation(9)[:count]
    y, x = np.mgrid[:SIZE, :SIZE]
    for place in places:
        centre = 4 + 8 * np.array(divmod(int(place), 3)) + rng.uniform(-0.7, 0.7, 2)
        image[np.hypot(y - centre[0], x - centre[1]) < 2.5] = 220
    return (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class CountRole(Role):
    """Role of a number of things in a picture."""

    kind: ClassVar[str] = "count"
    on_grid: ClassVar[bool] = False
    suffix: ClassVar[str] = ".csv"

    def source(self, text, folder, read):
        """Read a number from a manifest."""
        return Held(float(text))

    def check(self, value):
        """Accept every number."""

    def array(self, value, frame):
        """Return an array that holds the number alone."""
        return np.full((1, 1, 1, 1), value, np.float32)

    def value(self, array, frame, like):
        """Return the number rounded."""
        return round(float(np.asarray(array).reshape(-1)[0]))

    def cut(self, array, start, size):
        """Return the number, which does not depend on the patch."""
        return np.asarray(array)

    def tensor(self, patch, dims):
        """Return the number as a tensor of shape (1,)."""
        return torch.from_numpy(np.array(patch, np.float32).reshape(1))

    def write(self, path, value, derivation=None):
        """Write the number to a CSV file."""
        stream = io.StringIO()
        csv.writer(stream).writerows([[self.name], [value]])
        path.write_text(stream.getvalue())


class Counting(Task):
    """Task of counting the discs in pictures."""

    name = "counting"
    given = "picture"
    phantom = "squares"
    predictors: ClassVar = {"count": "discs:CountPredictor"}
    judge = "discs:CountJudge"
    directions: ClassVar = {"count error": "lower"}
    selection = "count error"

    def __init__(self):
        self.roles = {
            "picture": ImageRole("picture", Window(low=0, high=255, unit=None)),
            "discs": CountRole("discs"),
        }

    def phantom_grid(self, size):
        return {}

    def scores(self, output, sample, spacing):
        raise NotImplementedError


class CountOptions(Options):
    """Options of the counter."""

    halves: bool = False  # count halves of discs, too


class CountPredictor(Predictor):
    """Counts the discs of a picture."""

    Options = CountOptions
    inputs = ("picture",)

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Number of discs."""
        return {"discs": self.task.roles["discs"]}

    @torch.no_grad()
    def predict(self, sample, seed=0):
        values = torch.from_numpy(encoded(sample, ["picture"])(0, 1)).transpose(0, 1)
        found = float(self.method.count(values.to(self.device)))
        number = round(2 * found) / 2 if self.options.halves else round(found)
        array = np.full((1, 1, 1, 1), found, np.float32)
        return Prediction({"discs": array}, {"discs": number}, {"discs": [{"discs": number}]}, {"discs": number})

    def score(self, prediction, sample, start, stop):
        made, true = (float(arrays["discs"].squeeze()) for arrays in (prediction.arrays, sample.arrays))
        return {"count error": abs(made - true)}


class CountJudge(Judge):
    """Judges counts by their distance from the true number, with the mean of the training data as the baseline."""

    scores = (Score("count error", "lower", "discs", "Distance from the true number."),)
    leading = ("count error",)
    plotted = ()
    reference = "mean"
    compares_with_training = True

    def learn(self, training):
        self.mean = float(np.mean([sample.arrays["discs"] for sample in training]))

    def entry(self, model, name):
        predictor = model.predictor()
        return Entry(name, lambda case: float(predictor.predict(case).arrays["discs"].squeeze()), about(model))

    def references(self):
        return [Entry("mean", lambda case: self.mean, "the mean number of the training pictures")], []

    def score_case(self, entries, case, advance=lambda: None):
        true = float(case.arrays["discs"].squeeze())
        rows = [
            Row(case.case.name, case.case.subject, (0, 1), one.name, {"count error": abs(one.run(case) - true)})
            for one in entries
        ]
        advance()
        return rows

    def verdict(self, judgement):
        found = judgement.scores.compare(OUTPUT, "mean", self.named("count error"))
        return f"Counting is {found.outcome} than saying the mean.", found.outcome

    def illustrate(self, report, judgement):
        found = {name: judgement.scores.by_subject(name, "count error") for name in judgement.scores.methods}
        report.figure(paired_plot(found, metric="count error", unit="discs", better="lower"), "Errors by subject.")

    def measured(self):
        return {"Count": "rounded for the user, not for the score"}

    def caveats(self, judgement):
        return ["Discs that touch were never seen."]


class CountDiscs(Method):
    """Counts bright discs with two convolutions.

    Nobody, 2026.
    """

    class Config(MethodConfig):
        """Options of the toy."""

        game_rounds: int = 60  # updates

    def __init__(self, config=None):
        super().__init__(config or self.Config())
        self.network = nn.Sequential(nn.Conv2d(1, 8, 5), nn.ReLU(), nn.Conv2d(8, 1, 5), nn.Softplus())

    def build_task(self):
        return Counting()

    def stages(self):
        player = Player("counter", (self.network,), adam(1e-2))
        stream = Stream("pictures", None, 8, (1, SIZE, SIZE), flips=(1, 2))
        return [Stage("count", self.turns, [player], self.config.game_rounds, stream)]

    def turns(self, batches):
        batch = next(batches)
        yield Turn("counter", error=(self.count(batch["picture"]) - batch["discs"][:, 0]).square().mean())

    def count(self, picture):
        """Count discs in pictures (N, 1, H, W); returns numbers (N,)."""
        return self.network(picture).mean(dim=(1, 2, 3)) * 9


def write_pictures(folder, subjects=8, each=4):
    """Write pictures of 1 to 8 discs and a manifest into a folder."""
    lines = ["subject,picture,discs"]
    for subject in range(subjects):
        for number in range(each):
            count, name = 1 + (subject * each + number) % 8, f"s{subject}_{number}.png"
            from ganatomy.images.files import write

            write(folder / name, Image.from_array(picture(count, 100 * subject + number)))
            lines.append(f"s{subject},{name},{count}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder
