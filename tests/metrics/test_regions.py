import math
from pathlib import Path

import numpy as np
import pytest

from ganatomy.metrics.regions import Box, compare_regions, cut, homogeneous_regions, region_statistics

CT = Path(__file__).parents[3] / "shared" / "data" / "denoise-ct-hu" / "slices" / "chaos34350"


def overlap(a: Box, b: Box) -> bool:
    return (
        a.plane == b.plane
        and abs(a.row - b.row) < min(a.rows, b.rows)
        and abs(a.column - b.column) < min(a.columns, b.columns)
    )


def test_mean_and_sd_in_masks_and_boxes() -> None:
    image = np.arange(24.0).reshape(2, 3, 4)
    mask = np.zeros(image.shape, dtype=bool)
    mask[1, 0, :2] = True
    by_mask, by_box, empty = region_statistics(
        image, {"mask": mask, "box": Box(0, 0, 1, 2, plane=1), "empty": np.zeros_like(mask)}
    )
    assert (by_mask.mean, by_mask.sd, by_mask.voxels) == (12.5, pytest.approx(math.sqrt(0.5)), 2)
    assert (by_box.mean, by_box.sd) == (by_mask.mean, by_mask.sd)
    assert math.isnan(empty.mean) and math.isnan(empty.sd)


def test_bias_and_sd_ratio() -> None:
    reference = np.random.default_rng(0).normal(50, 10, (32, 32))
    (region,) = compare_regions(5 + reference / 2, reference, {"all": Box(0, 0, 32, 32)})
    assert region.sd_ratio == pytest.approx(0.5)
    assert region.bias == pytest.approx(5 - reference.mean() / 2)


def test_boxes_stack_only_if_alike() -> None:
    image = np.arange(100.0).reshape(10, 10)
    stack = cut(image, [Box(0, 0, 2, 3), Box(4, 5, 2, 3)])
    assert stack.shape == (2, 2, 3) and stack[1, 0, 0] == 45
    for boxes in ([], [Box(0, 0, 2, 3), Box(0, 0, 3, 2)]):
        with pytest.raises(ValueError, match="one size"):
            cut(image, boxes)


def test_regions_are_found_in_the_flat_organ_only() -> None:
    rng = np.random.default_rng(0)
    image = np.full((2, 128, 160), -1000.0)
    image[:, 10:118, 10:150] = 40 + 150 * rng.random((2, 108, 140)).round()  # tissue with strong structure
    image[:, 30:80, 40:120] = 60
    image += rng.normal(0, 15, image.shape)
    boxes = homogeneous_regions(image, (0.8, 0.8), count=6, size_mm=16)
    assert boxes == homogeneous_regions(image.copy(), (0.8, 0.8), count=6, size_mm=16)
    assert len(boxes) == 6 and [box.plane for box in boxes].count(0) == 3
    assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
    for box in boxes:
        assert 30 <= box.row <= 80 - box.rows and 40 <= box.column <= 120 - box.columns
        assert (box.rows, box.columns) == (20, 20)


@pytest.mark.parametrize("size", [15, 16])
def test_a_region_may_fill_the_organ_exactly(size: int) -> None:
    image = np.full((64, 64), -1000.0)
    image[20:44, 12:36] = 50
    (box,) = homogeneous_regions(image, (1, 1), count=1, size_mm=size, hu_range=(0, 100))
    assert np.all(box.cut(image) == 50)


def test_boxes_follow_the_spacing_and_stop_where_there_is_no_tissue() -> None:
    image = np.full((40, 80), 40.0)
    (box, *rest) = homogeneous_regions(image, (2.0, 1.0), count=3, size_mm=20)
    assert (box.rows, box.columns) == (10, 20) and len(rest) == 2
    assert homogeneous_regions(np.full((40, 80), -1000.0), (2.0, 1.0)) == []
    assert homogeneous_regions(np.full((5, 5), 40.0), (1.0, 1.0)) == []


@pytest.mark.skipif(not CT.is_dir(), reason="the CT slices are not here")
def test_regions_of_an_abdomen_are_flat_soft_tissue() -> None:
    from skimage.io import imread

    image = imread(CT / "chaos34350_z037.png").astype(float) - 1024
    boxes = homogeneous_regions(image, (0.72, 0.72), count=6)
    assert len(boxes) == 6
    for statistics in region_statistics(image, {str(i): box for i, box in enumerate(boxes)}):
        assert -150 < statistics.mean < 200 and statistics.sd < 40
