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
    assert not any(name.startswith("above") for name in task.fit(samples(task)))


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


def test_the_body_is_told_from_the_air_by_the_case_until_training_cases_have_been_learned_from():
    task = Toy(ZScore())
    array = samples(task)[0].arrays["input"] - 7
    assert task.above("input", array=array) == -7
    with pytest.raises(UserError, match="input: its scale was not learned"):
        task.above("input")
    task.fitted = {"above.input": np.array([3.0, 5.0, 4.0])}
    assert task.above("input", array=array) == task.above("input") == 4
