from typing import ClassVar

import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.errors import UserError
from ganatomy.images.codecs import DeviationWindow, PercentileWindow, Window, ZScore
from ganatomy.images.image import axial_affine
from ganatomy.roles.image import ImageRole
from ganatomy.tasks.restoration.task import Restoration


class Toy(Restoration):
    name = "toy"
    given = "input"
    directions: ClassVar = {"score": "higher"}
    selection = "score"

    def __init__(self, codec, channels=(1, 1)):
        pairs = zip(("input", "target"), channels, strict=True)
        self.roles = {name: ImageRole(name, codec, width=width) for name, width in pairs}

    def phantom_grid(self, size):
        return {}

    def scores(self, output, sample, spacing):
        return {}


def samples(task, factors=(1.0, 9.0, 2.0)):
    """Make cases of different scales: a body of 100 to 300 in air of 0, multiplied by a factor."""
    found = []
    for factor in factors:
        values = np.zeros((1, 3, 8, 6), np.float32)
        values[:, :, 2:7, 1:5] = np.linspace(100, 300, 60).reshape(3, 5, 4)
        affines = dict.fromkeys(task.roles, axial_affine((3.0, 1.0, 1.5)))
        arrays = dict.fromkeys(task.roles, factor * values)
        found.append(Sample(Case("p", "p", "train", {}), arrays, affines, task.roles))
    return found


def test_the_product_has_the_scale_of_the_source_unless_a_task_says_otherwise():
    task = Toy(Window(low=-5, high=15), (3, 2))
    assert task.same_contrast("target") == "input" and task.contrasts(samples(task)[0]) is None
    assert (task.in_channels, task.out_channels) == (3, 2)


def test_a_window_says_what_is_shown_and_what_is_dark():
    task = Toy(Window(low=-5, high=15))
    assert task.window("target") == (-5, 15)
    assert task.above("input") == -5 and task.above("input", 0.25) == 0
    bound = task.bound_to(samples(task)[1])
    assert bound.window("target") == (-5, 15) and bound.above("input") == -5, "one window for all cases"


@pytest.mark.parametrize(
    ("codec", "window"),
    [
        (PercentileWindow(p_low=0, p_high=100, to=(0, 1)), (0, 600)),
        (PercentileWindow(p_low=0, p_high=100, to=(-1, 1), over="body"), (200, 600)),
        (DeviationWindow(deviations=2, to=(0, 1), over="body"), (400 - 2 * 117.4, 400 + 2 * 117.4)),
        (ZScore(over="body"), (400 - 3 * 117.4, 400 + 3 * 117.4)),
    ],
)
def test_where_every_image_has_a_scale_of_its_own_that_of_the_median_training_case_is_shown(codec, window):
    task = Toy(codec)
    with pytest.raises(UserError, match="target: its scale was not learned in training; train again"):
        task.window("target")
    task.fitted = task.fit(iter(samples(task)))
    assert task.window("target") == pytest.approx(window, rel=1e-3)


def test_a_case_with_a_scale_of_its_own_is_scored_and_shown_in_it():
    task = Toy(PercentileWindow(p_low=0, p_high=100, to=(-1, 1)))
    cases = samples(task)
    task.fitted = task.fit(iter(cases))
    bound = [task.bound_to(case) for case in cases]
    assert [one.window("target") for one in bound] == [(0, 300), (0, 2700), (0, 600)]
    assert [one.above("input") for one in bound] == [15, 135, 30], "noise of the air is no content"
    assert bound[0].above("input", 0.5) == 150
    assert task.window("target") == (0, 600), "the task itself is not changed"


def test_an_output_without_a_true_image_has_the_scale_of_its_input_or_of_the_median_training_case():
    task = Toy(PercentileWindow(p_low=0, p_high=100))
    cases = samples(task)
    alone = cases[1].without(["target"])
    assert task.bound_to(alone).window("target") == (0, 2700)

    class Other(Toy):
        def same_contrast(self, output):
            return None

    other = Other(PercentileWindow(p_low=0, p_high=100))
    assert other.bound_to(alone).roles["target"].adaptive, "before training there is no scale"
    other.fitted = other.fit(iter(cases))
    assert other.bound_to(alone).window("target") == (0, 600)
    assert other.bound_to(alone).window("input") == (0, 2700)


def test_slices_for_training_are_chosen_by_the_scale_of_their_case():
    class Choosing(Toy):
        def trainable(self, label, arrays):
            return (np.asarray(arrays["input"]) > self.above("input")).mean(axis=(0, 2, 3)) > 0

    task = Choosing(PercentileWindow(p_low=0, p_high=100))
    for case in samples(task, (1e-3, 1e3)):
        case.arrays["input"][:, 1] *= 0.01
        assert task.trainable_slices(case).tolist() == [True, False, True]
