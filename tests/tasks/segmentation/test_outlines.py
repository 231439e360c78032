"""Positions of outlines, and the order in which they are drawn."""

import numpy as np
import pytest

from ganatomy.tasks.segmentation.pictures import outline_strip, volume_plot


def block(rows, columns, shape=(40, 60)):
    found = np.zeros(shape, bool)
    found[rows[0] : rows[1], columns[0] : columns[1]] = True
    return found


@pytest.fixture(scope="module")
def figure():
    image = np.random.default_rng(0).random((40, 60)).astype(np.float32)
    truth = {"whole": block((10, 20), (20, 34)), "core": block((12, 15), (22, 26))}
    found = {"output": {"whole": block((0, 21), (20, 34)), "core": block((13, 15), (22, 26))}}
    return outline_strip({"flair": image}, truth, found, spacing_mm=(1.5, 1.0))


def test_outlines_lie_halfway_between_pixels(figure):
    whole, core = figure.axes[1].collections
    for lines, (rows, columns) in ((whole, ((10, 20), (20, 34))), (core, ((12, 15), (22, 26)))):
        corners = np.concatenate([path.vertices for path in lines.get_paths()])
        assert (corners.min(axis=0) == [columns[0] - 0.5, rows[0] - 0.5]).all()
        assert (corners.max(axis=0) == [columns[1] - 0.5, rows[1] - 0.5]).all()
    # Where a region reaches the edge of the image, it is closed there.
    edge = np.concatenate([path.vertices for path in figure.axes[2].collections[0].get_paths()])
    assert edge[:, 1].min() == -0.5
    for axes in figure.axes[1:3]:
        assert axes.get_xlim() == (-0.5, 59.5) and axes.get_ylim() == (39.5, -0.5)


def test_regions_within_others_are_drawn_thinner_and_later(figure):
    for axes in figure.axes[1:3]:
        widths = [float(lines.get_linewidth()[0]) for lines in axes.collections]
        assert widths[0] > widths[1] > 0


def test_sizes_of_what_nobody_has_are_drawn_up_to_one():
    (plot,) = volume_plot({"core": {"output": ([0.0, 0.0], [0.0, 0.0])}}).axes
    assert plot.lines[0].get_xdata().tolist() == plot.lines[0].get_ydata().tolist() == [0, 1]
