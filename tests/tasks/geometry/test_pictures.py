import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection

sys.path.insert(0, str(Path(__file__).parent))
from made import Rods

from ganatomy import phantoms
from ganatomy.evaluation.judging import OUTPUT
from ganatomy.inference.predictor import predictor_of
from ganatomy.tasks.geometry.pictures import (
    SHOWN,
    STEPS,
    distributions,
    lengths,
    neighbours,
    plane,
    profiles,
    projections,
    walks,
)
from ganatomy.tasks.geometry.roles import CentrelineRole


@pytest.fixture(scope="module")
def predictor():
    return predictor_of(Rods(Rods.Config(condition="length", step_mm=4.0)).eval())


@pytest.fixture(scope="module")
def sets(predictor):
    role = CentrelineRole("vessel", signals=predictor.task.signals)
    lines = [phantoms.part(phantoms.make("coronary-centrelines", seed), "vessel") for seed in range(SHOWN + 4)]
    real = np.stack([role.array(line, None)[:, 0, 0] for line in lines])
    return {OUTPUT: predictor.signals(range(SHOWN + 4)), "real": real}


def drawn(axes):
    return [one for one in axes.collections if isinstance(one, LineCollection)]


def test_projections_show_the_axes_of_space_to_scale(sets, predictor):
    figure = projections(sets, predictor.task)
    assert len(figure.axes) == 6 and [axes.get_title("left") for axes in figure.axes[:2]] == [
        "Generated, coronal", "Generated, sagittal",
    ]  # fmt: skip
    (limits,) = {(axes.get_xlim(), axes.get_ylim()) for axes in figure.axes}
    assert limits[0] == limits[1]
    coronal, sagittal, axial = figure.axes[3:]
    line = predictor.task.signals.decode(sets["real"][0])
    for axes, across, up in ((coronal, 0, 2), (sagittal, 1, 2), (axial, 0, 1)):
        assert len(drawn(axes)) == SHOWN
        ends = np.array(drawn(axes)[0].get_segments())[:, 1]
        assert np.allclose(ends, line.points[1:][:, [across, up]])
    widths = drawn(coronal)[0].get_linewidths()
    assert widths[0] > 1.5 * widths[-1], "the taper cannot be seen"


def test_profiles_follow_the_radius(sets, predictor):
    generated, real = profiles(sets, predictor.task).axes
    assert len(real.lines) == SHOWN and np.allclose(generated.lines[0].get_ydata(), 1)
    line = predictor.task.signals.decode(sets["real"][1])
    assert np.allclose(real.lines[1].get_ydata(), line.radii)
    assert real.lines[1].get_xdata()[-1] == pytest.approx(line.length_mm)


def test_distributions_rise_from_nothing_to_all(sets, predictor):
    figure = distributions(sets, predictor.task)
    assert len(figure.axes) == 6
    for axes in figure.axes:
        for line in axes.lines:
            shares = line.get_ydata()
            assert np.all(np.diff(shares) > 0) and shares[-1] == 1
    assert len(figure.axes[0].get_legend().get_texts()) == 2


def test_neighbours_are_the_nearest_training_vessels(sets, predictor):
    real = sets["real"]
    figure = neighbours(real[:8][::-1], real, predictor.task)
    for axes in figure.axes:
        twin, sample = drawn(axes)
        assert np.array_equal(twin.get_segments(), sample.get_segments())


def test_walks_go_from_one_sample_to_another(predictor):
    figure = walks(predictor, rows=2)
    assert len(figure.axes) == 2 * STEPS
    first, last = predictor.signals([0])[0], predictor.signals([1])[0]
    ends = [np.array(drawn(figure.axes[place])[0].get_segments())[-1, 1, 0] for place in (0, STEPS - 1)]
    assert np.sign(ends).tolist() == np.sign([first[0, 0], last[0, 0]]).tolist()


def test_a_plane_of_two_latent_numbers_is_shown_from_left_to_right():
    class Flat(Rods):
        latent_size = 2

    figure = plane(predictor_of(Flat(Flat.Config(step_mm=4.0)).eval()), side=4)
    assert len(figure.axes) == 16
    ends = [np.array(drawn(axes)[0].get_segments())[-1, 1, 0] for axes in figure.axes]
    assert np.sign(ends).reshape(4, 4).tolist() == [[-1, -1, 1, 1]] * 4


def test_lengths_are_told_above_the_vessels(predictor):
    figure = lengths(predictor, rows=1)
    told = [axes.get_title("left").split(" mm: ") for axes in figure.axes]
    assert [asked for asked, _ in told] == ["50", "100", "150", "200", "250"]
    assert all(abs(float(asked) - float(made)) <= 4 for asked, made in told), "a step at most"
