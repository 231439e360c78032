import numpy as np
import pytest

from ganatomy.metrics.regions import Box
from ganatomy.reports.style import to_png
from ganatomy.tasks.segmentation.pictures import box_around, outline_strip, volume_plot


def mask(rows, columns, shape=(40, 60)):
    found = np.zeros(shape, bool)
    found[rows[0] : rows[1], columns[0] : columns[1]] = True
    return found


def test_a_box_holds_its_mask_with_a_margin_and_lies_in_the_image():
    assert box_around(mask((10, 30), (20, 24))) == Box(8, 18, 24, 8)
    assert box_around(mask((10, 30), (20, 24)), 0.15) == Box(7, 18, 26, 8)
    assert box_around(mask((0, 40), (58, 60))) == Box(0, 54, 40, 6)
    small = box_around(mask((2, 4), (50, 53)), least=24)
    assert (small.rows, small.columns) == (24, 24) and small.row == 0 and small.column == 36
    assert box_around(mask((0, 0), (0, 0))) == Box(0, 0, 40, 60)


def test_outlines_of_truth_and_of_each_region_lie_over_the_image():
    image = np.random.default_rng(0).random((40, 60)).astype(np.float32) * mask((3, 38), (5, 55))
    truth = {"whole": mask((10, 20), (20, 34)), "core": mask((12, 15), (22, 26))}
    found = {"output": {"whole": mask((11, 21), (20, 34)), "core": mask((0, 0), (0, 0))}}
    figure = outline_strip(
        {"flair": image, "t1": image}, truth, found, spacing_mm=(1.5, 1.0), notes={"output": "Dice 0.9"}
    )
    assert len(figure.axes) == 8
    titles = [axes.get_title(loc="left") for axes in figure.axes[:4]]
    assert titles == ["Flair", "T1", "Truth", "Output\nDice 0.9"]
    drawn = [len(axes.collections) for axes in figure.axes]
    assert drawn == [0, 0, 2, 1, 0, 0, 2, 5], "truth in black and white under the regions, where it is magnified"
    assert figure.axes[0].get_images()[0].get_array().shape == (39, 54) and to_png(figure).startswith(b"\x89PNG")


def test_what_the_output_has_is_magnified_and_not_what_thresholds_scatter():
    image = np.random.default_rng(0).random((40, 60)).astype(np.float32)
    truth, output = {"core": mask((10, 14), (20, 24))}, {"core": mask((10, 14), (22, 27))}
    scattered = {"core": mask((0, 40), (0, 60)) & (image > 0.99)}
    figure = outline_strip({"t1": image}, truth, {"threshold": scattered, "output": output}, spacing_mm=(1, 1))
    assert figure.axes[4].get_images()[0].get_array().shape == (24, 24)
    assert figure.axes[0].get_images()[0].get_array().shape == (40, 60)


def test_an_image_without_any_region_is_shown_once():
    image = np.ones((40, 60), np.float32)
    nothing = {"whole": mask((0, 0), (0, 0))}
    assert len(outline_strip({"t1": image}, nothing, {"output": nothing}, spacing_mm=(1, 1)).axes) == 3


def test_sizes_are_drawn_region_by_region():
    figure = volume_plot({"whole": {"output": ([1.0, 2.0], [1.5, 2.5]), "threshold": ([4.0], [1.0])}, "core": {}})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Whole", "Core"]
    np.testing.assert_array_equal(figure.axes[0].collections[0].get_offsets(), [[1.5, 1.0], [2.5, 2.0]])
    assert figure.axes[0].lines[0].get_xdata()[1] == pytest.approx(4.0)
